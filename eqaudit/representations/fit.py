"""Fits of the action of one generator on channels: a permutation by assignment, an orthogonal matrix.

Samples come in two halves; each is judged under the fit of the other, always by differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eqaudit.representations.base import Action, Floats, Orthogonal, Permutation

PROVEN_ERROR = 1e-3
PERMUTATION_SHARE = 0.5
"""The largest share of the trivial error with which a permutation is ever accepted."""
PROVEN_SHARE = 0.1
SPAN_TOLERANCE = 1e-10
TIE_BREAK = 1e-9
FIELD_TOLERANCE = 1e-6
UNSEEN = 0.1
"""Error outside the span of either half beyond which too much is seen by one half only."""

Kind = TypeVar("Kind", Permutation, Orthogonal)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Features of moved images, and the moved features of the unmoved ones, by sample.

    ``moved`` and ``still`` are (N, C), F(T_g x) and T_g F(x); ``second`` (N,) marks the second half. Errors
    are relative to the spread around the mean sample, so that no offset hides them; where they stand beside
    a floor (``centred`` False), to the samples themselves. ``chance`` is the error between unrelated images.
    """

    moved: Floats
    still: Floats
    second: NDArray[np.bool_]
    centred: bool = True
    chance: float = math.inf

    def half(self, which: int) -> tuple[Floats, Floats]:
        """Return moved and still samples of the first (0) or second (1) half."""
        rows = self.second if which else ~self.second
        return self.moved[rows], self.still[rows]

    @cached_property
    def size(self) -> float:
        """1/2 (|moved|^2 + |still|^2) over all samples: what differences are compared with."""
        return (self._power(self.moved) + self._power(self.still)) / 2

    def _power(self, samples: Floats) -> float:
        if not len(samples):
            return 0.0
        return float(np.square(samples - samples.mean(axis=0) if self.centred else samples).sum())

    @cached_property
    def trivial(self) -> float:
        """The error with channels read as plain maps."""
        return self.error(float(np.square(self.moved - self.still).sum()))

    @property
    def lengths(self) -> float:
        """The relative difference of the samples' lengths, around 0 or around their means.

        It is a lower bound of the error of every orthogonal action.
        """
        return max(
            self._lengths_apart(self.moved, self.still),
            self._lengths_apart(self.moved - self.moved.mean(axis=0), self.still - self.still.mean(axis=0)),
        )

    def _lengths_apart(self, moved: Floats, still: Floats) -> float:
        apart = np.linalg.norm(moved, axis=1) - np.linalg.norm(still, axis=1)
        return self.error(float(np.square(apart).sum()))

    def error(self, difference: float) -> float:
        """Return the relative error of a squared difference; 0 where there is no content."""
        return math.sqrt(difference / self.size) if self.size else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Fit(Generic[Kind]):
    """The fit of each half, and the error of each half under the fit of the other, pooled."""

    by_half: tuple[Kind, Kind]
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorFit:
    """What was found for one generator.

    ``lengths`` is the relative difference of the samples' lengths, which no orthogonal action can change: a
    lower bound of the error of every permutation and orthogonal matrix. What it rules out is not fitted.
    ``determined`` is False where an orthogonal action fits inside the span of either half, and fails outside:
    then the samples do not tell whether there is one. ``chance`` is the error between unrelated images.
    """

    trivial: float
    lengths: float
    chance: float = math.inf
    permutation: Fit[Permutation] | None = None
    orthogonal: Fit[Orthogonal] | None = None
    determined: bool = True


def proven_limit(trivial: float, chance: float) -> float:
    """Return the largest error of an action that is proven.

    A map that every image shares may look as if it turned; what counts is the part that is the image's own.
    """
    return min(PROVEN_ERROR, PROVEN_SHARE * trivial, PROVEN_SHARE * chance)


def likely_limit(trivial: float, chance: float, share: float) -> float:
    """Return the largest error of a permutation that is likely: a share of the trivial one, below chance."""
    return min(share * trivial, chance)


def fit_generator(pairs: Pairs, exact_trivial: float, *, thorough: bool = True) -> GeneratorFit:
    """Fit the action of one generator that moves pixels to pixels.

    Parameters
    ----------
    pairs
        Samples of one layer at the generator.
    exact_trivial
        Trivial errors up to this need no other action.
    thorough
        Also fit permutations that could be no more than likely.
    """
    trivial, lengths, chance = pairs.trivial, pairs.lengths, pairs.chance
    proven = proven_limit(trivial, chance)
    limit = likely_limit(trivial, chance, PERMUTATION_SHARE) if thorough else proven
    if trivial <= exact_trivial or lengths > limit:
        return GeneratorFit(trivial, lengths, chance)
    permutation = None
    if _least_error(pairs) <= limit:
        permutation = as_fields(pairs, fit_permutation(pairs))
    if lengths > proven or (permutation is not None and permutation.error <= proven):
        return GeneratorFit(trivial, lengths, chance, permutation)
    orthogonal, inside = fit_orthogonal(pairs)
    if inside <= proven < orthogonal.error:
        orthogonal = _fit_all(pairs, orthogonal)
    determined = orthogonal.error <= proven or inside > proven
    return GeneratorFit(trivial, lengths, chance, permutation, orthogonal, determined)


def _least_error(pairs: Pairs) -> float:
    """Return an error that no permutation can come below: each channel has the best partner that there is.

    Around the means of each half, because |B - P A|^2 is least where P takes one mean to the other.
    """
    least = 0.0
    for half in (0, 1):
        if not len(pairs.half(half)[0]):
            continue
        moved, still = (samples - samples.mean(axis=0) for samples in pairs.half(half))
        correlation = moved.T @ still
        most = min(float(correlation.max(axis=0).sum()), float(correlation.max(axis=1).sum()))
        least += max(0.0, float(np.square(moved).sum() + np.square(still).sum()) - 2 * most)
    return pairs.error(least)


def fit_permutation(pairs: Pairs, commuting: tuple[Action, ...] = ()) -> Fit[Permutation]:
    """Return the assignment of channels with the largest cross-correlation, by half.

    ``commuting`` are the powers of an action that the fit must commute with; the correlation is averaged
    over their conjugations.
    """
    first, second = (Permutation(_assign(_correlation(pairs, half, commuting))) for half in (0, 1))
    return Fit((first, second), crossed_error(pairs, (first, second)))


def as_fields(pairs: Pairs, found: Fit[Permutation]) -> Fit[Permutation]:
    """Return the fit as equal fields that all move alike, where the samples allow that as well.

    Channels that live in few places may be dead in the samples, and their partners are arbitrary then; fields
    beside them tell where they belong.
    """
    channels = len(found.by_half[0].source)
    for size in (size for size in range(2, channels // 2 + 1) if channels % size == 0):
        for places in (np.arange(channels).reshape(-1, size), np.arange(channels).reshape(size, -1).T):
            source = _common_move(found.by_half[0].source, places)
            if source is None:
                continue
            same = Permutation(source)
            error = crossed_error(pairs, (same, same))
            if error <= found.error * (1 + FIELD_TOLERANCE):
                return Fit((same, same), error)
    return found


def _common_move(source: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the permutation that moves every field as most of them move; None where there is none.

    ``places`` (fields, size) are the channels of each field.
    """
    fields, size = places.shape
    slot, field = np.empty(len(source), dtype=np.int64), np.empty(len(source), dtype=np.int64)
    slot[places], field[places] = np.arange(size), np.arange(fields)[:, None]
    inside = field[source] == field
    votes = np.zeros((size, size), dtype=np.int64)
    np.add.at(votes, (slot[inside], slot[source[inside]]), 1)
    move = votes.argmax(axis=1)
    if len(set(move.tolist())) < size or inside.sum() < len(source) / 2:
        return None
    common = np.empty(len(source), dtype=np.int64)
    common[places] = places[:, move]
    return common


def _assign(correlation: Floats) -> NDArray[np.int64]:
    _, source = linear_sum_assignment(correlation, maximize=True)
    return np.asarray(source, dtype=np.int64)


def _correlation(pairs: Pairs, half: int, commuting: tuple[Action, ...]) -> Floats:
    moved, still = pairs.half(half)
    other_moved, other_still = pairs.half(1 - half)
    # The other half decides where channels are alike, or dead, in this one.
    plain: Floats = moved.T @ still + TIE_BREAK * (other_moved.T @ other_still)
    if not commuting:
        return plain
    # rho K rho^T: rows and columns are acted on alike.
    turned = [action.on_samples(action.on_samples(plain).T).T for action in commuting]
    return np.asarray(sum(turned) / len(turned))


def crossed_error(pairs: Pairs, by_half: tuple[Action, Action]) -> float:
    """Return the error of each half of the samples under the action of the other, pooled."""
    difference = 0.0
    for half in (0, 1):
        moved, still = pairs.half(half)
        difference += float(np.square(moved - by_half[1 - half].on_samples(still)).sum())
    return pairs.error(difference)


def fit_orthogonal(pairs: Pairs) -> tuple[Fit[Orthogonal], float]:
    """Return the orthogonal matrices that bring the halves closest, and their error inside their span.

    Each is the polar factor of moved^T still (Schoenemann 1966); where samples are few, it is known only
    inside their span, and completed outside.
    """
    parts = [_polar(*pairs.half(half)) for half in (0, 1)]
    difference = 0.0
    for half in (0, 1):
        moved, still = pairs.half(half)
        left, right, rank = parts[1 - half]
        difference += float(np.square(moved @ left[:, :rank] - still @ right[:, :rank]).sum())
    first, second = (_complete(*part) for part in parts)
    return Fit((first, second), crossed_error(pairs, (first, second))), pairs.error(difference)


def _fit_all(pairs: Pairs, apart: Fit[Orthogonal]) -> Fit[Orthogonal]:
    """Return the fit of both halves at once, where what only one of them sees is little; else the given one.

    The rest was judged by the other half; of the little, only the group's relations are left to tell.
    """
    if apart.error > UNSEEN:
        return apart
    whole = _complete(*_polar(pairs.moved, pairs.still))
    error = crossed_error(pairs, (whole, whole))
    return Fit((whole, whole), error) if error < apart.error else apart


def _polar(moved: Floats, still: Floats) -> tuple[Floats, Floats, int]:
    """Return the left and right singular vectors, (C, C) each, of moved^T still, and its rank."""
    left, values, right = scipy.linalg.svd(moved.T @ still)
    rank = int((values > SPAN_TOLERANCE * values[0]).sum()) if values.size else 0
    return left, right.T, rank


def _complete(left: Floats, right: Floats, rank: int) -> Orthogonal:
    """Return the orthogonal matrix that takes ``right`` to ``left``, and moves the rest but little."""
    rest_left, rest_right = left[:, rank:], right[:, rank:]
    one, _, other = scipy.linalg.svd(rest_left.T @ rest_right)
    return Orthogonal(left[:, :rank] @ right[:, :rank].T + rest_left @ (one @ other) @ rest_right.T)
