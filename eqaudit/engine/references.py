"""One pass over unmoved images, kept, and passes over moved ones, compared with it tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.engine.arena import Arena
from eqaudit.engine.base import Key, Setting, stream
from eqaudit.engine.still import Still
from eqaudit.groups import Element
from eqaudit.loader import AuditModel, Feature, same_memory
from eqaudit.metrics import Pairs, Scene, Values, ordinary
from eqaudit.report import describe_shape
from eqaudit.representations import Action as ChannelAction
from eqaudit.representations import move_channels
from eqaudit.transforms import Action, Layout, UnknownLayoutError, find_layout, is_exact

NOT_ALWAYS = "not called the same number of times for every image"
NOTHING_INSIDE = "its receptive field reaches the border from everywhere: with this boundary no cell is valid"


@dataclass(slots=True)
class Reference:
    """F(x) of one tensor for the batch, and what moved images gave beside it, move by move.

    ``feature`` is without its value, ``shape`` that of one image's feature as the model gave it. ``compared``
    is under the action of its channels, ``plain`` with channels read as plain maps: one thing where they are.
    ``careful``: values are looked at one by one, in float64.
    """

    feature: Feature
    plain: Pairs
    compared: Pairs
    layout: Layout | None = None
    shape: tuple[int, ...] | None = None
    still: Still | None = None
    careful: bool = False
    same_as: Key | None = None
    skipped: str | None = None

    @property
    def value(self) -> torch.Tensor:
        """The feature of the unmoved images, (B, ..., H, W) or (B, C)."""
        return self.held.value

    @property
    def held(self) -> Still:
        """The feature of the unmoved images, for all moves."""
        if self.still is None:
            raise ValueError(f"{self.feature.name} has no tensor")
        return self.still

    @property
    def spatial(self) -> bool:
        """Whether the tensor is a map, which moves with the image."""
        return self.layout is not None and self.layout.spatial


@dataclass(frozen=True, slots=True)
class Batch:
    """Unmoved images (B, C, H, W) on the model's device.

    With their names, their places among all images, their truth, and under which fit each is judged.
    """

    images: torch.Tensor
    names: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
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
        before, earlier = self.key, self._tensor
        same = earlier is not None and (tensor is earlier or same_memory(tensor, earlier))
        # What was made in inference mode does not count its changes.
        version = None if tensor.is_inference() else tensor._version
        same = same and version is not None and version == self._seen_version
        self.key, self._tensor, self._seen_version = (before if same else key), tensor, version
        return before if same else None


def reference_pass(
    model: AuditModel,
    images: torch.Tensor,
    setting: Setting,
    *,
    careful: bool = False,
    arena: Arena | None = None,
) -> dict[Key, Reference]:
    """Run the model on unmoved images and keep a copy of each tensor that is measured, if in an ``arena``."""
    copy = torch.clone if arena is None else arena.copy
    references: dict[Key, Reference] = {}
    unchanged = _Unchanged()
    sides = (images.shape[-2], images.shape[-1])

    def receive(key: Key, feature: Feature) -> None:
        if not setting.keep(key):
            return
        poses = len(setting.poses)
        plain = Pairs(poses)
        compared = Pairs(poses) if setting.channels.moving(key) else plain
        reference = references[key] = Reference(feature.replace(None), plain, compared)
        reference.skipped = feature.reason
        if feature.value is None:
            return
        try:
            reference.layout = layout_of(key, feature.value, len(images), sides, setting)
        except UnknownLayoutError as error:
            reference.skipped = str(error)
            return
        reference.shape = tuple(feature.value.shape[1:])
        reference.same_as = unchanged.since(key, feature.value)
        value = reference.layout.space_last(feature.value)
        points = None
        if setting.resamples and reference.spatial:
            points = setting.space.points(key, value.shape[-2], value.shape[-1], value.device)
            reference.skipped = None if points else NOTHING_INSIDE
        twin = None if reference.same_as is None else references[reference.same_as]
        if twin is not None and twin.held.points is points:
            reference.still, reference.careful = twin.still, twin.careful
            return
        reference.still = Still(
            copy(value),
            spatial=reference.spatial,
            resampler=setting.space.features,
            points=points,
            cell=setting.space.cells.get(key, 1.0),
            copy=copy,
        )
        reference.careful = careful or not ordinary(reference.held.norms, reference.value)

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
    moved: torch.Tensor,
    batch: Batch,
    action: Action,
    references: dict[Key, Reference],
    setting: Setting,
) -> Values | None:
    """Run the model on moved images, and append one comparison to each reference.

    ``moved`` are the images of the batch after the action. Returns what the task makes of the output that is
    judged; None without a task. References that the pass did not meet are skipped from then on.
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
        if twin is not None and twin in references and reference.still is references[twin].still:
            reference.plain.repeat(references[twin].plain)
            if reference.compared is not reference.plain:
                reference.compared.repeat(references[twin].compared)
        else:
            _compare(key, reference, feature.value, action, batch.halves, setting)
        if key == setting.gating and setting.task is not None and reference.skipped is None:
            value = reference.layout.space_last(feature.value) if reference.layout else feature.value
            found.append(judge(reference, value, action, batch.targets, setting))

    stream(model, moved, setting, receive)
    for key, reference in references.items():
        if reference.skipped is None and len(reference.compared) == done[key]:
            reference.skipped = NOT_ALWAYS
    return found[0] if found else None


def _compare(
    key: Key,
    reference: Reference,
    value: torch.Tensor,
    action: Action,
    batch_halves: torch.Tensor | None,
    setting: Setting,
) -> None:
    if reference.layout is not None and reference.spatial:
        value = reference.layout.space_last(value)
    sampled = reference.spatial and not is_exact(action)
    expected = reference.held.expect(action)
    wanted = reference.held.shape if sampled else expected.value.shape
    if value.shape != wanted:
        shapes = describe_shape(wanted), describe_shape(value.shape)
        reference.skipped = f"shape changes with the image: {shapes[0]} and {shapes[1]}"
        return
    if sampled:
        value = reference.held.sample(value, expected)
    actions = _channel_actions(key, action, setting)
    spare = expected.spare and actions is None
    known = None if reference.careful else expected.norms
    reference.plain.add(value, expected.value, known, careful=reference.careful, spare=spare)
    halves = torch.zeros(len(value), dtype=torch.long) if batch_halves is None else batch_halves
    if actions is None:
        if reference.compared is not reference.plain:
            reference.compared.repeat(reference.plain)
        return
    # Points are a map of one column.
    maps = expected.value.unsqueeze(-1) if sampled else expected.value
    turned = move_channels(maps, actions, halves, spatial=reference.spatial).reshape(value.shape)
    reference.compared.add(value, turned, careful=reference.careful)


def _channel_actions(
    key: Key, action: Action, setting: Setting
) -> tuple[ChannelAction, ChannelAction] | None:
    """Return rho(g) from either half of the images; None where channels are plain maps."""
    layer = setting.channels.moving(key)
    if layer is None or not isinstance(action, Element):
        return None
    first, second = layer.at(action, 0), layer.at(action, 1)
    return None if first is None or second is None else (first, second)


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
    inside = None
    # At exact angles of a sweep too: what a turn loses, or the window hides, is compared at none.
    if reference.spatial and setting.resamples:
        inside = setting.space.mask(setting.gating, *value.shape[-2:]).to(value.device)
    scene = Scene(
        action, setting.space.features, inside, setting.space.cells.get(setting.gating, 1.0), targets
    )
    still, moved = (with_channels(part, spatial=reference.spatial) for part in (reference.value, value))
    return setting.task.compare(still, moved, scene)


def with_channels(tensor: torch.Tensor, *, spatial: bool) -> torch.Tensor:
    """Return a map as (B, C, H, W), scores as (B, K), also where one channel or score has no dimension."""
    return tensor.unsqueeze(1) if tensor.ndim == (3 if spatial else 1) else tensor
