"""The chosen images in batches: what could not be used is recorded, and what was done is said."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eqaudit.data.base import FORMATS_HINT, ImageSource, Pixels, Shape, Skipped, Unreadable
from eqaudit.errors import DataError


class Recipe(Protocol):
    """How one image becomes what the model gets."""

    def apply(self, raw: Pixels) -> NDArray[np.float32]:
        """Return ``(C, H, W)``; raises Unreadable."""
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
    _said: set[tuple[int, str]] = field(default_factory=set)

    @property
    def label(self) -> str:
        """What the report calls the data."""
        return self._source.label

    @property
    def description(self) -> tuple[str, ...]:
        """The steps that were really done to the images read so far, in order."""
        return tuple(said for _, said in sorted(self._said | {(1, note) for note in self._source.notes}))

    def batches(self, size: int) -> Iterator[tuple[tuple[str, ...], NDArray[np.float32]]]:
        """Yield names and ``(B, C, H, W)`` of the usable images, in order; the last batch may be short.

        Raises
        ------
        DataError
            At the end, when not one image was usable.
        """
        names: list[str] = []
        images: list[NDArray[np.float32]] = []
        known, usable = {skip.name for skip in self.skipped}, 0
        for name in (name for name in self.names if name not in known):
            try:
                images.append(self._image(name))
            except Unreadable as exception:
                self.skipped.append(Skipped(name, exception.reason))
                continue
            names.append(name)
            usable += 1
            if len(names) == size:
                yield tuple(names), np.stack(images)
                names, images = [], []
        if names:
            yield tuple(names), np.stack(images)
        if not usable:
            raise none_left(self.skipped)

    def load(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return these images again, as ``(B, C, H, W)``; raises DataError if one is gone."""
        try:
            return np.stack([self._image(name) for name in names])
        except Unreadable as exception:
            raise DataError(
                f"an image changed while it was used: {exception.reason}", "run again"
            ) from exception

    def _image(self, name: str) -> NDArray[np.float32]:
        raw = self._source.read(self._indices[name])
        image = self._preprocessing.apply(raw)
        self._said.update(self._preprocessing.describe(raw))
        return image


def none_left(skipped: list[Skipped]) -> DataError:
    """Say that no image can be used, with the first reason."""
    first = skipped[0]
    return DataError(
        f"no image left: all {len(skipped)} are unreadable; first: {first.name}: {first.reason}", FORMATS_HINT
    )
