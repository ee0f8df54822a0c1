"""One batch of images through the model and its moved copies: the unit of work."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.engine.base import Key, Setting, finite_or_none, stream
from eqaudit.groups import Element
from eqaudit.loader import AuditModel, Feature
from eqaudit.metrics import ChanceSums, ErrorSums, Measured, PairNorms, compare, squared_norms
from eqaudit.report import describe_shape
from eqaudit.statistics import Floats, poisson_weights
from eqaudit.transforms import Layout, UnknownLayoutError, find_layout, move

NO_CLASS = -1  # the scores are not finite
NOT_ALWAYS = "not called the same number of times for every image"


@dataclass(frozen=True, slots=True)
class TapSums:
    """What is known of one tensor: what it is, and its sums; ``skipped`` says why there are none."""

    feature: Feature
    shape: tuple[int, ...] | None
    layout: Layout | None
    same_as: Key | None
    errors: ErrorSums | None
    chance: ChanceSums | None
    skipped: str | None

    def merge(self, other: TapSums) -> TapSums:
        """Add the sums of other images."""
        if self.errors is None or self.chance is None:
            return self
        if other.errors is None or other.chance is None:
            return other
        if self.shape != other.shape:
            return self.skip(f"shape changes with the image: {self.shape} and {other.shape}")
        return TapSums(
            self.feature,
            self.shape,
            self.layout,
            self.same_as if self.same_as == other.same_as else None,
            self.errors.merge(other.errors),
            self.chance.merge(other.chance),
            None,
        )

    def measured(self, place: int) -> Measured:
        """Return the error at one element with its yardstick; nothing where the tensor was skipped."""
        if self.errors is None or self.chance is None:
            return Measured(None, None)
        error = finite_or_none(self.errors.errors[place])
        return Measured(error, self.chance.chance, int(self.errors.nonfinite[place]))

    def skip(self, reason: str) -> TapSums:
        """Return the same tensor without sums."""
        return TapSums(self.feature, self.shape, self.layout, None, None, None, reason)


@dataclass(frozen=True, slots=True)
class OutputValues:
    """Per-image values of one output tensor: kept, because there are few of them.

    ``norms`` by element; ``predicted`` (1 + elements, B), the class at the identity first, or None
    where the output is no row of class scores.
    """

    norms: list[PairNorms]
    predicted: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class Unit:
    """The result of one batch, or of several that were merged in order."""

    names: tuple[str, ...]
    taps: dict[Key, TapSums]
    values: dict[Key, list[OutputValues]]

    def merge(self, other: Unit) -> Unit:
        """Append the images of another unit."""
        return Unit(
            self.names + other.names,
            _merge_taps(self.taps, other.taps),
            {key: self.values.get(key, []) + values for key, values in other.values.items()},
        )


def _merge_taps(ours: dict[Key, TapSums], theirs: dict[Key, TapSums]) -> dict[Key, TapSums]:
    return {
        key: ours[key].merge(theirs[key])
        if key in ours and key in theirs
        else (ours.get(key) or theirs[key]).skip(NOT_ALWAYS)
        for key in {**ours, **theirs}
    }


@dataclass(slots=True)
class _Reference:
    """F(x) of one tensor for the batch, kept until all moved images were compared with it."""

    feature: Feature
    layout: Layout | None = None
    norms: Floats | None = None
    same_as: Key | None = None
    skipped: str | None = None
    compared: list[PairNorms] = field(default_factory=list)
    predicted: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def value(self) -> torch.Tensor:
        if self.feature.value is None:
            raise ValueError(f"{self.feature.name} has no tensor")
        return self.feature.value


class _Unchanged:
    """Tells whether a tensor is the one that was handed over just before, untouched."""

    def __init__(self) -> None:
        self.key: Key | None = None
        self._tensor: torch.Tensor | None = None  # held, so that its memory is not given to another
        self._seen_version = -1

    def since(self, key: Key, tensor: torch.Tensor) -> Key | None:
        """Return the key of the earlier tensor when this is the same one, else None."""
        before, same = self.key, tensor is self._tensor or _same_memory(tensor, self._tensor)
        same = same and tensor._version == self._seen_version
        self.key, self._tensor, self._seen_version = (before if same else key), tensor, tensor._version
        return before if same else None


def _same_memory(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return (
        other is not None
        and one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
    )


def measure_batch(
    model: AuditModel, images: torch.Tensor, names: tuple[str, ...], first: int, setting: Setting
) -> Unit:
    """Measure one batch: every kept tap and every output tensor, at every element of the group.

    Parameters
    ----------
    model
        The model, on its device.
    images
        (B, C, H, W), float32 or float64, as the model receives them.
    names
        The images' names, B of them.
    first
        The number of the first image in the whole audit: bootstrap weights depend on it.
    setting
        Group, batch size, and which layers are kept.
    """
    references = _reference_pass(model, images, setting)
    for number, element in enumerate(setting.elements, start=1):
        _moved_pass(model, move(element, images).contiguous(), element, references, setting)
        for reference in references.values():
            if reference.skipped is None and len(reference.compared) < number:
                reference.skipped = NOT_ALWAYS
    weights = poisson_weights(setting.seed, first, len(names))
    taps = {key: _sum(reference, weights, first) for key, reference in references.items()}
    values = {
        key: [
            OutputValues(reference.compared, np.stack(reference.predicted) if reference.predicted else None)
        ]
        for key, reference in references.items()
        if key[0] == "output" and reference.skipped is None
    }
    return Unit(names, taps, values)


def _reference_pass(model: AuditModel, images: torch.Tensor, setting: Setting) -> dict[Key, _Reference]:
    references: dict[Key, _Reference] = {}
    unchanged = _Unchanged()
    sides = (images.shape[-2], images.shape[-1])

    def receive(key: Key, feature: Feature) -> None:
        if not setting.keep(key):
            return
        reference = references[key] = _Reference(feature, skipped=feature.reason)
        if feature.value is None:
            return
        try:
            reference.layout = _layout_of(feature.value, len(images), sides, setting)
        except UnknownLayoutError as error:
            reference.skipped = str(error)
            return
        reference.same_as = unchanged.since(key, feature.value)
        if reference.same_as is not None:
            twin = references[reference.same_as]
            reference.feature, reference.norms = feature.replace(twin.value), twin.norms
        else:
            reference.feature = feature.replace(feature.value.clone())
            reference.norms = squared_norms(reference.value)
        _predict(reference, key, reference.value)

    stream(model, images, setting, receive)
    return references


def _moved_pass(
    model: AuditModel,
    moved: torch.Tensor,
    element: Element,
    references: dict[Key, _Reference],
    setting: Setting,
) -> None:
    unchanged = _Unchanged()

    def receive(key: Key, feature: Feature) -> None:
        reference = references.get(key)
        if reference is None or reference.skipped is not None:
            return
        if feature.value is None or reference.norms is None:
            reference.skipped = feature.reason or NOT_ALWAYS
            return
        twin = unchanged.since(key, feature.value)
        if twin is not None and twin == reference.same_as and references[twin].skipped is None:
            reference.compared.append(references[twin].compared[-1])
        else:
            expected = reference.value
            if reference.layout is not None and reference.layout.dims is not None:
                expected = move(element, expected, reference.layout.dims)
            if expected.shape != feature.value.shape:
                shapes = describe_shape(expected.shape), describe_shape(feature.value.shape)
                reference.skipped = f"shape changes with the image: {shapes[0]} and {shapes[1]}"
                return
            reference.compared.append(compare(feature.value, expected, reference.norms))
        _predict(reference, key, feature.value)

    stream(model, moved, setting, receive)


def _layout_of(value: torch.Tensor, images: int, sides: tuple[int, int], setting: Setting) -> Layout:
    if value.shape[0] != images:
        raise UnknownLayoutError(f"its first dimension is {value.shape[0]}, not the batch of {images}")
    if not value.numel():
        raise UnknownLayoutError(f"is empty: {describe_shape(value.shape)}")
    return find_layout(tuple(value.shape), sides, setting.swaps_sides)


def _predict(reference: _Reference, key: Key, value: torch.Tensor) -> None:
    if key[0] == "output" and value.ndim == 2 and value.shape[1] > 1:  # noqa: PLR2004 - (B, classes)
        finite = torch.isfinite(value).all(dim=1)
        reference.predicted.append(torch.where(finite, value.argmax(dim=1), NO_CLASS).cpu().numpy())


def _sum(reference: _Reference, weights: Floats, first: int) -> TapSums:
    value = reference.feature.value
    shape = None if value is None else tuple(value.shape[1:])
    plain = reference.feature.replace(None)
    if reference.skipped is not None or value is None:
        return TapSums(plain, shape, reference.layout, None, None, None, reference.skipped)
    errors = ErrorSums.of_batch(reference.compared, weights, first)
    return TapSums(
        plain, shape, reference.layout, reference.same_as, errors, ChanceSums.of_batch(value), None
    )
