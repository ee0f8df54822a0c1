"""Actions of turns that resample: fitted under what is exact, or between the elements of an orbit.

A generator r(360/n) is held to the exact turn that some power of it is, rho(r)^k = rho(r^k); limits are
relative to the floor, because no action is exact there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from eqaudit.groups import Element, Group
from eqaudit.representations.base import Action, Floats, Orthogonal, Permutation, power
from eqaudit.representations.fit import (
    Fit,
    Pairs,
    as_fields,
    crossed_error,
    fit_orthogonal,
    fit_permutation,
)
from eqaudit.representations.rule import LIKELY_RELATION, Decision, relation_error

FLOOR_FACTOR = 2.0
NEGLIGIBLE_ERROR = 0.01
SHARE = 0.5
INTERPOLATED_SHARE = 0.9
FLIP_TOLERANCE = 1e-6
CYCLES = 4
"""Exact turns are multiples of a quarter."""

How = Literal["permutation", "orthogonal", "interpolated"]


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """The powers of one action, fractional ones too: rho^t = V exp(i t phases) V*.

    Of a cyclic shift the powers between are the band-limited interpolation along the orbit; of the irreps of
    SO(2) they are rotations by frequency times angle. What flips (phase pi: the highest frequency of an even
    orbit) keeps the real part, as Fourier interpolation of real samples does.
    """

    vectors: NDArray[np.complex128]
    phases: Floats

    @classmethod
    def of(cls, action: Action) -> Flow:
        """Decompose an action; an orthogonal matrix is normal, so that its Schur form is diagonal."""
        triangle, vectors = scipy.linalg.schur(action.matrix, output="complex")
        return cls(vectors, np.angle(np.diag(triangle)))

    def at(self, exponent: float) -> Orthogonal:
        """Return a power of the action."""
        turned = np.exp(1j * exponent * self.phases)
        flips = np.abs(np.abs(self.phases) - math.pi) < FLIP_TOLERANCE
        turned = np.where(flips, np.cos(exponent * math.pi), turned)
        matrix = (self.vectors * turned) @ self.vectors.conj().T
        return Orthogonal(np.ascontiguousarray(matrix.real))


@dataclass(frozen=True, eq=False)
class Extension:
    """The action of a resampled generator ``base``, by half, and how it was found."""

    base: Element
    by_half: tuple[Action, Action]
    how: How
    error: float

    @cached_property
    def flows(self) -> tuple[Flow, Flow]:
        """The powers of the action of either half, between its whole ones."""
        first, second = self.by_half
        return Flow.of(first), Flow.of(second)

    def at(self, element: Element, mirrors: tuple[Action | None, Action | None], half: int) -> Action:
        """Return the action of any element, whether its turn is a power of the base or between two."""
        steps = element.turn / self.base.turn
        action: Action
        if steps.denominator == 1:
            action = power(self.by_half[half], int(steps))
        else:
            action = self.flows[half].at(float(steps))
        mirror = mirrors[half]
        return action if mirror is None or not element.mirrored else action @ mirror


def anchor_of(base: Element) -> tuple[int, Element]:
    """Return the least power of a turn that moves pixels to pixels, and that element."""
    times = base.n // math.gcd(base.n, CYCLES)
    return times, Element(mirrored=False, k=times * base.k, n=base.n)


def extend(
    base: Element, decision: Decision, pairs: Pairs, floor: float | None, chance: float = math.inf
) -> Extension | None:
    """Return the action of a resampled turn, or None where channels are to be read as plain maps.

    Parameters
    ----------
    base
        The turn.
    decision
        What was found at the exact elements; the fit is held to it.
    pairs
        Samples at the turn, inside the valid mask.
    floor
        Of the layer at the turn; None where it has none.
    chance
        Error between unrelated images, relative to the spread of the samples.
    """
    found = _extend(base, decision, pairs, floor)
    if found is None:
        return None
    # A constant that all images share may look as if it turned.
    own = Pairs(pairs.moved, pairs.still, pairs.second)
    return found if crossed_error(own, found.by_half) <= SHARE * chance else None


def _extend(base: Element, decision: Decision, pairs: Pairs, floor: float | None) -> Extension | None:
    times, anchor = anchor_of(base)
    anchors = _anchors(decision, anchor, pairs.still.shape[1])
    trivial = pairs.trivial
    limit = max(FLOOR_FACTOR * floor, NEGLIGIBLE_ERROR) if floor is not None else 0.0
    if anchors is None or trivial <= limit:
        return None
    permuted = _permuted(pairs, anchors, times, trivial)
    if permuted is not None and permuted.error <= limit:
        return Extension(base, permuted.by_half, "permutation", permuted.error)
    # A matrix fits anything to half of its error: beside a floor that large it would say nothing.
    mixed = _mixed(pairs, anchors, times, SHARE * trivial) if limit <= SHARE * trivial else None
    best = SHARE * permuted.error if permuted is not None else math.inf
    if mixed is not None and mixed.error <= min(limit, best):
        return Extension(base, mixed.by_half, "orthogonal", mixed.error)
    if permuted is not None:
        return Extension(base, permuted.by_half, "permutation", permuted.error)
    return _interpolated(base, decision, pairs, anchors, times, trivial)


def best_extension(found: Iterable[Extension | None]) -> Extension | None:
    """Return the first permutation of the least turn, else the matrix with the least error."""
    made = [extension for extension in found if extension is not None]
    permutations = [extension for extension in made if extension.how == "permutation"]
    if permutations:
        return max(permutations, key=lambda extension: extension.base.n)
    return min(made, key=lambda extension: (extension.how == "interpolated", extension.error), default=None)


def _anchors(decision: Decision, anchor: Element, channels: int) -> tuple[Action, Action] | None:
    """Return the exact action that a power of the turn must be; None where none is proven."""
    if not _anchored(anchor, decision):
        return None
    same = Permutation.identity(channels)
    first, second = (decision.at(anchor, half) for half in (0, 1))
    return first or same, second or same


def _anchored(anchor: Element, decision: Decision) -> bool:
    """Whether the exact turn that a fit is held to is the identity, or proven."""
    if anchor.turn == 0:
        return True
    return decision.proven and decision.group is not None and anchor in decision.group.elements


def can_extend(base: Element, decision: Decision) -> bool:
    """Whether a resampled turn can have an action at all, so that samples are worth taking."""
    return _anchored(anchor_of(base)[1], decision)


def _permuted(
    pairs: Pairs, anchors: tuple[Action, Action], times: int, trivial: float
) -> Fit[Permutation] | None:
    commuting = tuple(power(anchors[0], step) for step in range(CYCLES))
    found = as_fields(pairs, fit_permutation(pairs, commuting))
    relation = max(_misses(found.by_half[half], anchors[half], times, pairs.still) for half in (0, 1))
    return found if relation <= LIKELY_RELATION and found.error <= SHARE * trivial else None


def _misses(action: Action, anchor: Action, times: int, features: Floats) -> float:
    """Return |(rho^k - anchor) X| / |X|."""
    size = float(np.linalg.norm(features))
    difference = power(action, times).on_samples(features) - anchor.on_samples(features)
    return float(np.linalg.norm(difference)) / size if size else 0.0


def _mixed(pairs: Pairs, anchors: tuple[Action, Action], times: int, limit: float) -> Fit[Orthogonal] | None:
    found, _ = fit_orthogonal(pairs)
    if found.error > limit:
        return None
    held = tuple(_hold(found.by_half[half], anchors[half], times) for half in (0, 1))
    by_half = (held[0], held[1])
    return Fit(by_half, crossed_error(pairs, by_half))


def _hold(action: Orthogonal, anchor: Action, times: int) -> Orthogonal:
    """Return the action near the given one whose power is the anchor.

    Averaged over the anchor's conjugations both commute, so that dividing by the root of what the power
    misses is exact.
    """
    target = anchor.matrix
    turned = [np.linalg.matrix_power(target, step) for step in range(CYCLES)]
    mean = sum(turn @ action.matrix @ turn.T for turn in turned) / CYCLES
    left, _, right = scipy.linalg.svd(mean)
    near = left @ right
    missed = Orthogonal(np.linalg.matrix_power(near, times) @ target.T)
    return Orthogonal(near @ Flow.of(missed).at(-1 / times).matrix)


def _interpolated(
    base: Element,
    decision: Decision,
    pairs: Pairs,
    anchors: tuple[Action, Action],
    times: int,
    trivial: float,
) -> Extension | None:
    if decision.kind == "trivial":
        return None
    roots = [Flow.of(anchor).at(1 / times) for anchor in anchors]
    by_half = (roots[0], roots[1])
    error = crossed_error(pairs, by_half)
    if error > INTERPOLATED_SHARE * trivial:
        return None
    return Extension(base, by_half, "interpolated", error)


def extended_group(extension: Extension, decision: Decision, features: Floats) -> Group:
    """Return the group that an extension makes of a decision: mirrors stay where the relations allow them."""
    mirror = None if decision.group is None else decision.group.mirror
    group = Group(extension.base.n, mirror)
    if mirror is None:
        return group
    for half in (0, 1):
        reflected = decision.at(mirror, half) or Permutation.identity(features.shape[1])
        generators = {extension.base: extension.by_half[half], mirror: reflected}
        if relation_error(group, generators, features) > LIKELY_RELATION:
            return Group(extension.base.n)
    return group
