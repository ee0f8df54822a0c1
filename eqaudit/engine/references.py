"""One pass over unmoved images, kept, and passes over moved ones, compared with it tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.engine.base import Key, Setting, stream
from eqaudit.groups import Element
from eqaudit.loader import AuditModel, Feature
from eqaudit.metrics import PairNorms, Scene, Values, compare, squared_norms
from eqaudit.report import describe_shape
from eqaudit.representations import move_channels
from eqaudit.statistics import Floats
from eqaudit.transforms import Action, Layout, UnknownLayoutError, act, find_layout, is_exact

NOT_ALWAYS = "not called the same number of times for every image"
NOTHING_INSIDE = "its receptive field reaches the border from everywhere: with this boundary no cell is valid"
HALVES = (torch.float16, torch.bfloat16)


@dataclass(slots=True)
class Reference:
    """F(x) of one tensor for the batch, space last, and what moved images gave beside it, move by move.

    ``shape`` is that of one image's feature as the model gave it. ``compared`` is under the action of its
    channels, ``plain`` with channels read as plain maps.
    """

    feature: Feature
    layout: Layout | None = None
    shape: tuple[int, ...] | None = None
    mask: torch.Tensor | None = None
    norms: Floats | None = None
    same_as: Key | None = None
    skipped: str | None = None
    compared: list[PairNorms] = field(default_factory=list)
    plain: list[PairNorms] = field(default_factory=list)

    @property
    def value(self) -> torch.Tensor:
        """The feature of the unmoved images, (B, ..., H, W) or (B, C)."""
        if self.feature.value is None:
            raise ValueError(f"{self.feature.name} has no tensor")
        return self.feature.value

    @property
    def spatial(self) -> bool:
        """Whether the tensor is a map, which moves with the image."""
        return self.layout is not None and self.layout.spatial

    def masked(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor inside the valid mask, zero outside."""
        return tensor if self.mask is None else tensor * self.mask.to(tensor)


@dataclass(frozen=True, slots=True)
class Batch:
    """Unmoved images (B, C, H, W) on the model's device, their truth, and under which fit each is judged."""

    images: torch.Tensor
    targets: NDArray[np.int64] | None = None
    halves: torch.Tensor | None = None


class _Unchanged:
    """Tells whether a tensor is the one that was handed over just before, untouched."""

    def __init__(self) -> None:
        self.key: Key | None = None
        self._tensor: torch.Tensor | None = None  # held, so that its memory is not given to another
        self._seen_version: int | None = None

    def since(self, key: Key, tensor: torch.Tensor) -> Key | None:
        """Return the key of the earlier tensor when this is the same one, else None."""
        before, same = self.key, tensor is self._tensor or _same_memory(tensor, self._tensor)
        # What was made in inference mode does not count its changes.
        version = None if tensor.is_inference() else tensor._version
        same = same and version is not None and version == self._seen_version
        self.key, self._tensor, self._seen_version = (before if same else key), tensor, version
        return before if same else None


def _same_memory(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return (
        other is not None
        and one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
    )


def reference_pass(model: AuditModel, images: torch.Tensor, setting: Setting) -> dict[Key, Reference]:
    """Run the model on unmoved images and keep a copy of each tensor that is measured."""
    references: dict[Key, Reference] = {}
    unchanged = _Unchanged()
    sides = (images.shape[-2], images.shape[-1])

    def receive(key: Key, feature: Feature) -> None:
        if not setting.keep(key):
            return
        reference = references[key] = Reference(feature, skipped=feature.reason)
        if feature.value is None:
            return
        try:
            reference.layout = layout_of(key, feature.value, len(images), sides, setting)
        except UnknownLayoutError as error:
            reference.skipped = str(error)
            return
        reference.shape = tuple(feature.value.shape[1:])
        reference.same_as = unchanged.since(key, feature.value)
        if reference.same_as is not None:
            twin = references[reference.same_as]
            reference.feature = feature.replace(twin.feature.value)
            reference.norms, reference.mask, reference.skipped = twin.norms, twin.mask, twin.skipped
            return
        reference.feature = feature.replace(reference.layout.space_last(feature.value).clone())
        reference.norms = squared_norms(reference.value)
        if setting.resamples and reference.spatial:
            mask = setting.space.mask(key, *reference.value.shape[-2:])
            reference.mask = mask.to(images.device)
            reference.skipped = None if mask.any() else NOTHING_INSIDE

    stream(model, images, setting, receive)
    return references


def layout_of(key: Key, value: torch.Tensor, images: int, sides: tuple[int, int], setting: Setting) -> Layout:
    """Tell where space is in a feature of a batch; raises UnknownLayoutError with the reason if it cannot."""
    if value.shape[0] != images:
        raise UnknownLayoutError(f"its first dimension is {value.shape[0]}, not the batch of {images}")
    if not value.numel():
        raise UnknownLayoutError(f"is empty: {describe_shape(value.shape)}")
    known = setting.layouts.get(key)
    return known[0] if known else find_layout(tuple(value.shape), sides, setting.swaps_sides)


def moved_pass(
    model: AuditModel,
    batch: Batch,
    action: Action,
    references: dict[Key, Reference],
    setting: Setting,
) -> Values | None:
    """Move the images, run the model, and append one comparison to each reference.

    Returns what the task makes of the output that is judged; None without a task. References that the pass
    did not meet are skipped from then on.
    """
    unchanged = _Unchanged()
    done = {key: len(reference.compared) for key, reference in references.items()}
    found: list[Values] = []

    def receive(key: Key, feature: Feature) -> None:
        reference = references.get(key)
        if reference is None or reference.skipped is not None:
            return
        if feature.value is None:
            reference.skipped = feature.reason or NOT_ALWAYS
            return
        twin = unchanged.since(key, feature.value)
        if twin is not None and twin == reference.same_as and twin in references:
            plain = references[twin].plain[-1:]
            turns = key in setting.channels.by_key
            reference.plain.extend(plain)
            reference.compared.extend(references[twin].compared[-1:] if turns else plain)
        else:
            _compare(key, reference, feature.value, action, batch.halves, setting)
        if key == setting.gating and setting.task is not None and reference.skipped is None:
            value = reference.layout.space_last(feature.value) if reference.layout else feature.value
            found.append(judge(reference, value, action, batch.targets, setting))

    stream(model, act(action, batch.images, setting.space.images).contiguous(), setting, receive)
    for key, reference in references.items():
        if reference.skipped is None and len(reference.compared) == done[key]:
            reference.skipped = NOT_ALWAYS
    return found[0] if found else None


def _compare(
    key: Key,
    reference: Reference,
    value: torch.Tensor,
    action: Action,
    halves: torch.Tensor | None,
    setting: Setting,
) -> None:
    expected, norms = reference.value, reference.norms
    if reference.layout is not None and reference.spatial:
        value = reference.layout.space_last(value)
        if not is_exact(action) and value.dtype in HALVES:
            value, expected = value.float(), expected.float()
        expected = act(action, expected, setting.space.features, setting.space.cells.get(key, 1.0))
    if expected.shape != value.shape:
        shapes = describe_shape(expected.shape), describe_shape(value.shape)
        reference.skipped = f"shape changes with the image: {shapes[0]} and {shapes[1]}"
        return
    if reference.spatial and not is_exact(action):
        value, expected, norms = reference.masked(value), reference.masked(expected), None
    plain = compare(value, expected, norms)
    reference.plain.append(plain)
    turned = _turn_channels(key, expected, action, halves, setting, spatial=reference.spatial)
    reference.compared.append(plain if turned is None else compare(value, turned))


def _turn_channels(
    key: Key,
    expected: torch.Tensor,
    action: Action,
    halves: torch.Tensor | None,
    setting: Setting,
    *,
    spatial: bool,
) -> torch.Tensor | None:
    """Return rho(g) of the moved feature; None where its channels are plain maps."""
    layer = setting.channels.by_key.get(key)
    if layer is None or not isinstance(action, Element):
        return None
    first, second = layer.at(action, 0), layer.at(action, 1)
    if first is None or second is None:
        return None
    if halves is None:
        halves = torch.zeros(len(expected), dtype=torch.long)
    return move_channels(expected, (first, second), halves, spatial=spatial)


def judge(
    reference: Reference,
    value: torch.Tensor,
    action: Action,
    targets: NDArray[np.int64] | None,
    setting: Setting,
) -> Values:
    """Return what the task makes of the judged output of moved images, ``value``, space last."""
    if setting.task is None:
        raise ValueError("there is no task")
    inside = None if is_exact(action) else reference.mask
    scene = Scene(
        action, setting.space.features, inside, setting.space.cells.get(setting.gating, 1.0), targets
    )
    still, moved = (with_channels(part, spatial=reference.spatial) for part in (reference.value, value))
    return setting.task.compare(still, moved, scene)


def with_channels(tensor: torch.Tensor, *, spatial: bool) -> torch.Tensor:
    """Return a map as (B, C, H, W), scores as (B, K), also where one channel or score has no dimension."""
    return tensor.unsqueeze(1) if tensor.ndim == (3 if spatial else 1) else tensor
