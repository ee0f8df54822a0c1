"""Which dimensions of each tensor are space: from its shape, from the other tensors, and by trying."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from eqaudit.engine.base import Key, Setting, stream
from eqaudit.engine.samples import Held
from eqaudit.errors import UsageError
from eqaudit.groups import Element
from eqaudit.limits import matches
from eqaudit.loader import AuditModel, Feature
from eqaudit.plan import LayoutRule
from eqaudit.report import describe_shape
from eqaudit.representations import Pairs
from eqaudit.transforms import Layout, UnknownLayoutError, act, find_layouts, layout_from_letters

Layouts = dict[Key, tuple[Layout, ...]]

BETTER_LENGTHS, BETTER_ERROR = 0.65, 0.9
"""How much smaller than under the other reading a misfit must be to say something."""


def find_all_layouts(
    shapes: Mapping[Key, tuple[int, ...]],
    image: tuple[int, int],
    rules: tuple[LayoutRule, ...],
    *,
    swaps_sides: bool,
) -> Layouts:
    """Return the possible readings of each tensor, the most plausible first; those without any are left out.

    Parameters
    ----------
    shapes
        Of one image's features.
    image
        (H, W).
    rules
        What the user fixed: the last one that matches counts.
    swaps_sides
        Whether some element turns by 90 degrees.

    Raises
    ------
    UsageError
        A rule matches no tensor, or cannot be what the tensor is.
    """
    fixed = _fixed(shapes, image, rules)
    free = {key: (1, *shape) for key, shape in shapes.items() if key not in fixed}
    first = {key: _readings(shape, image, swaps_sides) for key, shape in free.items()}
    sure = {key: found[0] for key, found in {**first, **fixed}.items() if len(found) == 1}
    # Attention weights between N tokens are no map of NxN cells.
    counts = {
        shapes[key][layout.tokens.axis - 1] for key, layout in sure.items() if layout.tokens is not None
    }
    sides = {map_sides(shapes[key], layout) for key, layout in sure.items()}
    grids = frozenset(grid for grid in sides if grid is not None and grid not in {(n, n) for n in counts})
    found = {key: _readings(shape, image, swaps_sides, grids) for key, shape in free.items()}
    if not counts:  # tokens of each head are known by the tokens of other layers only
        found = {
            key: tuple(part for part in found[key] if part.tokens is None) or first[key] for key in found
        }
    return {key: readings for key, readings in {**found, **fixed}.items() if readings}


def _fixed(
    shapes: Mapping[Key, tuple[int, ...]], image: tuple[int, int], rules: tuple[LayoutRule, ...]
) -> Layouts:
    fixed: Layouts = {}
    for rule in rules:
        keys = [key for key in shapes if matches(key[1], rule.pattern)]
        option = f"--layout {rule.pattern}={rule.letters}"
        if not keys:
            raise UsageError(f"{option} matches no layer and no output", "eqaudit layers lists all")
        for key in keys:
            try:
                fixed[key] = (layout_from_letters(rule.letters, (1, *shapes[key]), image),)
            except UnknownLayoutError as error:
                shape = describe_shape(shapes[key])
                raise UsageError(
                    f"{option} does not fit {key[1]} of shape {shape}: {error}",
                    "one letter for each dimension: B, then H and W or N for space, any others for channels",
                ) from error
    return fixed


def _readings(
    shape: tuple[int, ...],
    image: tuple[int, int],
    swaps_sides: bool,
    grids: frozenset[tuple[int, int]] = frozenset(),
) -> tuple[Layout, ...]:
    try:
        return find_layouts(shape, image, swaps_sides=swaps_sides, grids=grids)
    except UnknownLayoutError:
        return ()


def why_unknown(shape: tuple[int, ...], image: tuple[int, int]) -> str:
    """Return the reason why one image's feature has no known layout under quarter turns."""
    try:
        find_layouts((1, *shape), image, swaps_sides=True)
    except UnknownLayoutError as error:
        return str(error)
    return "its layout is not known"


def map_sides(shape: tuple[int, ...], layout: Layout) -> tuple[int, int] | None:
    """Return (H, W) of a map, or of a grid of tokens; None for what is neither."""
    if layout.tokens is not None:
        return layout.tokens.grid
    if layout.dims is None:
        return None
    whole = (1, *shape)
    return whole[layout.dims[0]], whole[layout.dims[1]]


def map_side(shape: tuple[int, ...], layout: Layout) -> int | None:
    """Return the height of a map of more than one cell, None for what is none."""
    sides = map_sides(shape, layout)
    return sides[0] if sides is not None and sides[0] > 1 else None


def settle_layouts(model: AuditModel, images: torch.Tensor, setting: Setting, element: Element) -> Layouts:
    """Return all layouts; where several readings are possible, what explains an exact element best is first.

    Best is what clearly keeps the lengths of features most, as any action on channels does; else what clearly
    has the smallest error as plain maps; else the most plausible.
    """
    open_ = {key for key, readings in setting.layouts.items() if len(readings) > 1 and setting.keep(key)}
    if not open_:
        return dict(setting.layouts)
    still = _tensors(model, images, setting, open_)
    moved = _tensors(model, act(element, images, setting.space.images).contiguous(), setting, open_)
    settled = dict(setting.layouts)
    for key in open_ & set(still) & set(moved):
        readings = settled[key]
        misfits = [_misfit(reading, still[key], moved[key], element, setting) for reading in readings]
        best = readings[_best(misfits)]
        settled[key] = (best, *(other for other in readings if other is not best))
    return settled


def _tensors(
    model: AuditModel, images: torch.Tensor, setting: Setting, kept: set[Key]
) -> dict[Key, torch.Tensor]:
    found: dict[Key, torch.Tensor] = {}

    def receive(key: Key, feature: Feature) -> None:
        if key in kept and feature.value is not None:
            found[key] = feature.value.clone()

    stream(model, images, setting, receive)
    return found


def _misfit(
    layout: Layout, still: torch.Tensor, moved: torch.Tensor, element: Element, setting: Setting
) -> tuple[float, float]:
    """Return how far lengths are from being kept under a reading, and its error as plain maps."""
    after, expected = Held.of(moved, layout), Held.of(still, layout).moved(element, setting, 1.0)
    if expected.value.shape != after.value.shape:
        return math.inf, math.inf
    pairs = Pairs(after.rows(), expected.rows(), np.zeros(0, dtype=bool))
    return pairs.lengths, pairs.trivial


def _best(misfits: list[tuple[float, float]]) -> int:
    by_lengths = sorted(range(len(misfits)), key=lambda place: misfits[place][0])
    first, second = (misfits[place][0] for place in by_lengths[:2])
    if first <= BETTER_LENGTHS * second:
        return by_lengths[0]
    least = min(range(len(misfits)), key=lambda place: misfits[place][1])
    return least if misfits[least][1] <= BETTER_ERROR * misfits[0][1] else 0
