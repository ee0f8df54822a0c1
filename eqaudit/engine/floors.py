"""The floor: what the measurement itself costs a network that is perfectly equivariant in the continuum.

floor(l, g) = sqrt(shift^2 + round^2 / 3), with shift the error of F_l against translations spread over one
period, and round = |F_l(RT x) - RT F_l(x)| / |F_l(x)| for the round trip RT = T_-g/2 T_-g/2 T_g, which
resamples three times. The period is one cell of the coarsest grid that the feature came through: its own, but
for decoders, whose maps are finer than what they saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import torch

from eqaudit.engine.base import Key, Setting
from eqaudit.engine.references import Batch, Reference, moved_pass, reference_pass
from eqaudit.groups import Element, Pose
from eqaudit.loader import AuditModel
from eqaudit.metrics import Controls, PairNorms, Values, collect, join, negligible
from eqaudit.transforms import Action, RoundTrip, Shift, act

OFFSETS = ((-0.375, 0.125), (-0.125, -0.375), (0.125, 0.375), (0.375, -0.125))
"""(down, right) in periods: no two share a row or a column, their mean square is nearly that of a cell."""
QUARTER = Fraction(1, 4)
RESAMPLINGS = 3
"""Of a round trip."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The controls of one tensor. ``whole_period`` is its error against a shift that no grid can see."""

    shift: float
    whole_period: float
    round_trips: Mapping[Fraction, float]

    def raw(self, turn: Fraction) -> float:
        """Return the floor as it would be if the tensor followed translations."""
        return math.sqrt(self.shift**2 + self.round_trips[turn] ** 2 / RESAMPLINGS)

    def at(self, turn: Fraction, chance: float) -> float | None:
        """Return the floor at a resampled turn; None where the tensor does not even follow translations."""
        floor = self.raw(turn)
        return floor if self.whole_period <= floor or negligible(self.whole_period, chance) else None


@dataclass(frozen=True, slots=True)
class Floors:
    """The floors of all tensors, and the same controls as the task sees them.

    ``shifted`` ends with the shift by a whole period; ``returned`` is by resampled turn.
    """

    images: int
    square: bool
    by_key: Mapping[Key, Floor] = field(default_factory=dict)
    shifted: Sequence[Values] = ()
    returned: Mapping[Fraction, Values] = field(default_factory=dict)

    def at(self, key: Key, pose: Pose, chance: float | None) -> float | None:
        """Return the floor of a tensor at a pose, given its chance; None where it has none, or is exact."""
        floor = self.by_key.get(key)
        if floor is None or pose.exact or chance is None:
            return None
        return floor.at(resampled_turn(pose.element, square=self.square), chance)

    def raw(self, key: Key, element: Element) -> float | None:
        """Return the floor of a tensor at a resampled element, whether it follows translations or not."""
        floor = self.by_key.get(key)
        turn = resampled_turn(element, square=self.square)
        return None if floor is None or turn not in floor.round_trips else floor.raw(turn)

    def controls(self, pose: Pose) -> Controls | None:
        """Return what the task needs for its own floor at a pose; None where there is none."""
        turn = resampled_turn(pose.element, square=self.square)
        if pose.exact or not self.shifted or turn not in self.returned:
            return None
        *within, whole = self.shifted
        return Controls(within, whole, self.returned[turn])

    def missing(self, key: Key, chance: float | None) -> str | None:
        """Say why a tensor that was measured has no floor at some turn; None where it has one at each."""
        floor = self.by_key.get(key)
        if floor is None or chance is None:
            return "no floor was measured" if self.images else "no floor was measured (--floor-samples 0)"
        if all(floor.at(turn, chance) is not None for turn in floor.round_trips):
            return None
        size = f"{floor.whole_period:.2g}"
        shift = "a shift by one cell of its coarsest grid"
        why = f"it does not follow translations either ({shift} errs by {size}"
        return f"no floor: {why}; if padding is to blame, a larger --margin tells)"


def resampled_turn(element: Element, *, square: bool) -> Fraction:
    """Return what is left of a turn when the exact part is taken out: quarter turns, of squares."""
    return element.turn % QUARTER if square else element.turn


@dataclass(frozen=True, slots=True)
class _Part:
    """The controls of a few images: pairs by tensor and move, sizes |F|^2, and what the task made of each."""

    shifts: Mapping[Key, PairNorms]
    round_trips: Mapping[Key, PairNorms]
    sizes: Mapping[Key, float]
    shifted: list[Values | None]
    returned: list[Values | None]


def measure_floors(
    model: AuditModel, images: torch.Tensor, setting: Setting, also: tuple[Element, ...] = ()
) -> Floors:
    """Measure the controls on a few images: five shifts a period, a round trip for each turn.

    ``also`` are turns beside those of the poses.

    The images (B, C, H, W) come without window. Those that are shifted get a smaller one, so that no content
    is lost. A model of one batch size gets them in parts.
    """
    square = images.shape[-2] == images.shape[-1]
    elements = {pose.element for pose in setting.poses} | set(also)
    turns = sorted({resampled_turn(element, square=square) for element in elements if not element.exact})
    parts = [
        _measure(model, part, turns, setting)
        for part in torch.split(images, setting.fixed_batch or len(images))
    ]
    keys = [key for key in parts[0].shifts if all(key in part.shifts and key in part.sizes for part in parts)]
    returned = _joined([part.returned for part in parts])
    return Floors(
        len(images),
        square,
        {key: _floor(key, parts, turns) for key in keys},
        _joined([part.shifted for part in parts]),
        dict(zip(turns, returned, strict=True)) if returned else {},
    )


def _measure(model: AuditModel, images: torch.Tensor, turns: list[Fraction], setting: Setting) -> _Part:
    batch = Batch(setting.space.window(images))
    references = reference_pass(model, batch.images, setting)
    trips, returned = _moves(model, batch, [RoundTrip(turn) for turn in turns], references, setting)
    shifts: dict[Key, PairNorms] = {}
    shifted: list[Values | None] = []
    for period in sorted({setting.space.periods.get(key, 1.0) for key in references}):
        pairs, values = _shift(model, images, period, setting)
        shifts |= pairs
        shifted += values if setting.space.periods.get(setting.gating, 1.0) == period else []
    sizes = {key: reference.held.size() for key, reference in references.items() if key in trips}
    return _Part(shifts, trips, sizes, shifted, returned)


def _moves(
    model: AuditModel,
    batch: Batch,
    moves: Sequence[Action],
    references: dict[Key, Reference],
    setting: Setting,
) -> tuple[dict[Key, PairNorms], list[Values | None]]:
    """Return what each move made of each tensor, (moves, B), and what the task made of it."""
    values = []
    for move in moves:
        moved = act(move, batch.images, setting.space.images).contiguous()
        values.append(moved_pass(model, moved, batch, move, references, setting))
    kept = {key: reference.compared for key, reference in references.items() if reference.skipped is None}
    return dict(zip(kept, collect(list(kept.values())), strict=True)), values


def _shift(
    model: AuditModel, images: torch.Tensor, period: float, setting: Setting
) -> tuple[dict[Key, PairNorms], list[Values | None]]:
    """Return, for each tensor of this period, its pairs under shifts within it and, last, by a whole one."""
    batch = Batch(setting.space.window(images, margin=period))
    everything = reference_pass(model, batch.images, setting)
    members = {key: part for key, part in everything.items() if setting.space.periods.get(key, 1.0) == period}
    shifts = [Shift(down * period, right * period) for down, right in (*OFFSETS, (0.0, 1.0))]
    return _moves(model, batch, shifts, members, setting)


def _floor(key: Key, parts: list[_Part], turns: list[Fraction]) -> Floor:
    shifts = [part.shifts[key] for part in parts]
    size = sum(part.sizes[key] for part in parts)
    back = {
        turn: sum(_difference(part.round_trips[key].at(place)) for part in parts)
        for place, turn in enumerate(turns)
    }
    return Floor(
        _pooled([norms.at(place) for norms in shifts for place in range(len(OFFSETS))]),
        _pooled([norms.at(len(OFFSETS)) for norms in shifts]),
        {turn: math.sqrt(difference / size) if size else 0.0 for turn, difference in back.items()},
    )


def _joined(parts: list[list[Values | None]]) -> list[Values]:
    """Append the images of the parts, move by move; nothing where the task made nothing of a move."""
    moves = [[value for value in column if value is not None] for column in zip(*parts, strict=True)]
    return [join(column) for column in moves] if all(len(column) == len(parts) for column in moves) else []


def _pooled(pairs: list[PairNorms]) -> float:
    """Return the error over several moves; images that are not finite are left out."""
    power = sum(float(pair.power[pair.nonfinite == 0].sum()) for pair in pairs)
    return math.sqrt(sum(_difference(pair) for pair in pairs) / power) if power else 0.0


def _difference(pair: PairNorms) -> float:
    return float(pair.difference[pair.nonfinite == 0].sum())
