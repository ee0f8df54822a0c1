"""The chosen images in batches: what could not be used is recorded, and what was done is said."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eqaudit.data.base import FORMATS_HINT, ImageSource, Pixels, Shape, Skipped, Truth, TruthKind, Unreadable
from eqaudit.errors import DataError

NOTES, TRUTH = 1, 7  # places of these sentences among the steps of the preprocessing


@dataclass(frozen=True, slots=True)
class Batch:
    """Usable images, float32 ``(B, C, H, W)``, their places in the list, and what is right for each of them.

    ``targets``: labels ``(B,)``, multi-hot rows ``(B, K)``, or masks ``(B, H, W)`` with IGNORED pixels; None
    without truth.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    images: NDArray[np.float32]
    targets: NDArray[np.int64] | None


class Recipe(Protocol):
    """How one image, or its mask, becomes what the model gets."""

    def apply(self, raw: Pixels) -> NDArray[np.float32]:
        """Return ``(C, H, W)``; raises Unreadable."""
        ...

    def move_mask(self, mask: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return ``(H, W)``: the mask after the geometry of its image."""
        ...

    def describe(self, raw: Pixels) -> tuple[tuple[int, str], ...]:
        """Return what ``apply`` does to this image: each step's rank among all steps, and a sentence."""
        ...


@dataclass(slots=True)
class Dataset:
    """Images as the model gets them: float32 (also for float64 arrays), ``shape`` = ``(C, H, W)``.

    ``skipped`` and ``description`` grow while images are read, and are complete after one pass.
    """

    names: tuple[str, ...]
    shape: Shape
    _source: ImageSource
    _preprocessing: Recipe
    _indices: dict[str, int]
    skipped: list[Skipped]
    _truth: Truth | None = None
    said: set[tuple[int, str]] = field(default_factory=set)

    @property
    def label(self) -> str:
        """What the report calls the data."""
        return self._source.label

    @property
    def description(self) -> tuple[str, ...]:
        """The steps that were really done to the images read so far, in order."""
        said = self.said | {(NOTES, note) for note in self._source.notes}
        if self._truth is not None:
            said |= {(TRUTH, note) for note in self._truth.notes}
        return tuple(sentence for _, sentence in sorted(said))

    @property
    def truth(self) -> TruthKind:
        """What the targets of the batches are."""
        return "none" if self._truth is None else self._truth.kind

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by index, where folders or a CSV file name them, else empty."""
        return () if self._truth is None else self._truth.class_names

    def truth_place(self, name: str) -> str:
        """Say where the truth of an image stands, as in ``labels.csv line 7``; "" without truth."""
        return "" if self._truth is None else self._truth.place(self._indices[name])

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the usable images in order, with their targets, unit by unit.

        Raises
        ------
        DataError
            A mask cannot be used; at the end, when not one image was usable.
        """
        usable = 0
        for number in range(self.units(size)):
            batch = self.unit(number, size)
            if batch is not None:
                usable += 1
                yield batch
        if not usable:
            raise none_left(self.skipped)

    def units(self, size: int) -> int:
        """Return how many units of ``size`` images there are."""
        return -(-len(self.names) // size)

    def unit(self, number: int, size: int) -> Batch | None:
        """Return one unit: ``size`` images from their place in the list on, less those that cannot be used.

        Which images belong together does not depend on which others can be read, so that several processes
        can share them. None where no image of the unit is usable.

        Raises
        ------
        DataError
            A mask cannot be used.
        """
        known = {skip.name for skip in self.skipped}
        start = number * size
        pending: dict[int, NDArray[np.float32]] = {}
        for place, name in enumerate(self.names[start : start + size], start):
            if name in known:
                continue
            try:
                pending[place] = self._image(name)
            except Unreadable as exception:
                self.skipped.append(Skipped(name, exception.reason))
        return self._batch(pending) if pending else None

    def sample(self, count: int) -> Batch:
        """Return up to ``count`` usable images spread over the set, without targets.

        Images that cannot be read are passed over; `batches` records them when it comes to them.
        """
        known = {skip.name for skip in self.skipped}
        names = [name for name in self.names if name not in known]
        spread = names[:: max(1, len(names) // count)]
        images: dict[str, NDArray[np.float32]] = {}
        for name in dict.fromkeys([*spread, *names]):
            if len(images) == count:
                break
            with contextlib.suppress(Unreadable):
                images[name] = self._image(name)
        if not images:
            raise DataError("no image can be read any more: they changed while they were used", "run again")
        places = tuple(self.names.index(name) for name in images)
        return Batch(tuple(images), places, np.stack(list(images.values())), None)

    def load(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return these images again, as ``(B, C, H, W)``; raises DataError if one is gone."""
        try:
            return np.stack([self._image(name) for name in names])
        except Unreadable as exception:
            raise DataError(
                f"an image changed while it was used: {exception.reason}", "run again"
            ) from exception

    def _batch(self, pending: dict[int, NDArray[np.float32]]) -> Batch:
        names = tuple(self.names[place] for place in pending)
        targets = (
            None if self._truth is None else np.stack([self._target(self._truth, name) for name in names])
        )
        return Batch(names, tuple(pending), np.stack(list(pending.values())), targets)

    def _target(self, truth: Truth, name: str) -> NDArray[np.int64]:
        target = truth.read(self._indices[name])
        return self._preprocessing.move_mask(target) if truth.kind == "masks" else target

    def _image(self, name: str) -> NDArray[np.float32]:
        raw = self._source.read(self._indices[name])
        image = self._preprocessing.apply(raw)
        self.said.update(self._preprocessing.describe(raw))
        return image


def none_left(skipped: list[Skipped]) -> DataError:
    """Say that no image can be used, with the first reason."""
    first = skipped[0]
    return DataError(
        f"no image left: all {len(skipped)} are unreadable; first: {first.name}: {first.reason}", FORMATS_HINT
    )
