"""What one sees of equivariance: features of an image and of its turned copies, turned back, compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from eqaudit.engine.base import Key, Setting, full_name
from eqaudit.engine.panel import as_picture
from eqaudit.engine.samples import Held, visit
from eqaudit.groups import IDENTITY, Element, Pose
from eqaudit.loader import AuditModel
from eqaudit.metrics import compare, image_errors
from eqaudit.report import FeaturePicture, FeatureRow, Features, PanelImage, PooledFeature, Skipped
from eqaudit.representations import Permutation, with_one_channel_dimension
from eqaudit.transforms import act

MOST_LAYERS = 4
MOST_PLANES = 16
MOST_SIDE = 128
"""Cells on a side of a drawn map; a larger one is averaged down."""
MOST_KERNELS = 16
MOST_POOLED = 6
KERNEL_DIMENSIONS = 4


def draw_features(model: AuditModel, image: torch.Tensor, name: str, setting: Setting) -> Features:
    """Run one image (1, C, H, W), not windowed yet, and its turned copies.

    Of each layer there are F(x), strongest fields first; and for each turn F(T x), that map turned back in
    space, where the channels of a group field have changed places, and the difference F(T x) - rho T F(x),
    turned back in space and channels.
    """
    shown = setting.space.window(image) if setting.resamples else image
    still = _features(model, shown, setting)
    layers = {
        key: _Layer(key, held, shown, setting.channels.halves.get(name, 0), setting)
        for key, held in still.items()
        if held.spatial
    }
    drawn = dict(list(layers.items())[:MOST_LAYERS])
    for pose in setting.poses:
        if pose.element == IDENTITY:
            continue
        moved = act(pose.element, shown, setting.space.images).contiguous()
        for key, held in _features(model, moved, setting).items():
            if key in drawn and held.value.shape == still[key].value.shape:
                drawn[key].turn(pose, moved, held)
    few = f"only the first {MOST_LAYERS} maps are drawn"
    undrawn = [
        Skipped(full_name(key), few if held.spatial else "no map: nothing to turn")
        for key, held in still.items()
        if key not in drawn
    ]
    kernels = list(_kernels(model, {key[1] for key in still}))
    return Features(name, [layer.picture() for layer in drawn.values()], kernels, undrawn)


def pool_features(model: AuditModel, image: torch.Tensor, name: str, setting: Setting) -> Features:
    """Run one image (1, C, H, W), not windowed yet, and pool a few layers, evenly spread over the depth.

    Of a layer that runs several times it is the first call.
    """
    shown = setting.space.window(image) if setting.resamples else image
    found = [(key, held) for key, held in _features(model, shown, setting).items() if not key[2]]
    places = torch.linspace(0, len(found) - 1, min(MOST_POOLED, len(found))).round().int().tolist()
    source = PooledFeature("input", as_picture("x", shown[0]), as_picture("", shown[0].mean((1, 2))))
    return Features(name, [], [], [], [source, *(_pool(*found[place]) for place in places)])


def _pool(key: Key, held: Held) -> PooledFeature:
    value = with_one_channel_dimension(held.value, spatial=held.spatial)[0].float()
    if not held.spatial:
        return PooledFeature(full_name(key), None, as_picture("", value))
    return PooledFeature(
        full_name(key), as_picture("", value.abs().mean(0)), as_picture("", value.mean((1, 2)))
    )


def _features(model: AuditModel, images: torch.Tensor, setting: Setting) -> dict[Key, Held]:
    found: dict[Key, Held] = {}

    def keep(key: Key, held: Held, _first: int) -> None:
        if key[0] == "layer":
            found[key] = held.copy()

    visit(model, images, setting, keep)
    return found


class _Layer:
    """The rows of one layer, turn by turn; ``half`` says under whose fit the image is judged."""

    def __init__(self, key: Key, still: Held, image: torch.Tensor, half: int, setting: Setting) -> None:
        self.key, self.still, self.half, self.setting = key, still, half, setting
        self.action = setting.channels.by_key.get(key)
        self.maps = _maps(still)
        self.fields = _choose_fields(self.maps, self._permutations())
        self.rows = [FeatureRow("F(x)", "maps", self._planes(self.maps), as_picture("x", image[0]))]

    def picture(self) -> FeaturePicture:
        """Return what is drawn of the layer."""
        words = self.setting.channels.record(self.key).words
        return FeaturePicture(full_name(self.key), words, self.still.channels, self.fields, self.rows)

    def turn(self, pose: Pose, image: torch.Tensor, found: Held) -> None:
        """Add the rows of a turned image (1, C, H, W), whose feature is ``found``."""
        element, maps = pose.element, _maps(found)
        action = None if self.action is None else self.action.at(element, self.half)
        expected = self._move(element, self.maps)
        if action is not None:
            expected = action.on_tensor(expected)
        inside = torch.ones(maps.shape[-2:], dtype=torch.bool)
        if not element.exact:
            inside = self.setting.space.mask(self.key, *maps.shape[-2:])
        error = image_errors(compare(maps[..., inside], expected[..., inside]))[0]
        difference = self._move(~element, (maps - expected) * inside.to(maps))
        if action is not None:
            difference = (~action).on_tensor(difference)
        self.rows += [
            FeatureRow(f"F(T x), {pose.name}", "maps", self._planes(maps), as_picture("T x", image[0])),
            FeatureRow("turned back", "maps", self._planes(self._move(~element, maps))),
            FeatureRow(f"difference, error {error:.2g}", "difference", self._planes(difference)),
        ]

    def _permutations(self) -> list[Permutation]:
        """Return what the generators do to the channels, the turn first; nothing where they mix them."""
        moves = {} if self.action is None or not self.action.moves else self.action.generators
        return [action for action in moves.values() if isinstance(action, Permutation)]

    def _move(self, element: Element, maps: torch.Tensor) -> torch.Tensor:
        space = self.setting.space
        return act(element, maps, space.features, space.cells.get(self.key, 1.0))

    def _planes(self, maps: torch.Tensor) -> PanelImage:
        chosen = maps[0, [channel for field in self.fields for channel in field]]
        height, width = (min(side, MOST_SIDE) for side in maps.shape[-2:])
        return as_picture("", nn.functional.adaptive_avg_pool2d(chosen, (height, width)))


def _maps(held: Held) -> torch.Tensor:
    """Return a map as (1, C, H, W), in a precision that can be resampled."""
    maps = with_one_channel_dimension(held.value, spatial=True)
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _choose_fields(maps: torch.Tensor, moves: Sequence[Permutation]) -> list[list[int]]:
    """Return the channels of a few fields, those that vary most first; each field in the order of its turns.

    Channels that no move joins are fields of one. A field that is wider than a picture is cut.
    """
    strength = torch.nan_to_num(maps[0].flatten(1).double().std(dim=1, correction=0))
    fields: list[list[int]] = []
    for channel in strength.argsort(descending=True, stable=True).tolist():
        if not any(channel in field for field in fields):
            field = _orbit(channel, moves)
            if fields and len(field) + sum(map(len, fields)) > MOST_PLANES:
                break
            fields.append(field)
    return [field[:MOST_PLANES] for field in fields]


def _orbit(channel: int, moves: Sequence[Permutation]) -> list[int]:
    """Return all channels that the moves make of one: cycle after cycle of the first, from the least on."""
    reached, waiting = {channel}, [channel]
    while waiting:
        place = waiting.pop()
        new = {int(move.source[place]) for move in moves} - reached
        reached |= new
        waiting += new
    ordered: list[int] = []
    turned = (~moves[0]).source if moves else {channel: channel}
    for place in sorted(reached):
        while place not in ordered:
            ordered.append(place)
            place = int(turned[place])  # noqa: PLW2901 - the cycle that starts here
    return ordered


def _kernels(model: AuditModel, layers: set[str]) -> Iterator[PanelImage]:
    """Yield the weights of each layer that are kernels, (out, in, height, width), up to what can be drawn."""
    for name, tensor in model.runner.tensors().items():
        own = name.rpartition(".")[0] in layers
        if own and tensor.ndim >= KERNEL_DIMENSIONS and tensor.is_floating_point() and tensor.numel():
            flat = tensor.detach().float().reshape(len(tensor), -1, *tensor.shape[-2:])
            shape = " x ".join(str(size) for size in tensor.shape)
            yield as_picture(f"{name} ({shape})", flat[:MOST_KERNELS, :MOST_KERNELS])
