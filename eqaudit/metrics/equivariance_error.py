"""The equivariance error of one tensor, as sums over images that add up.

error(l, g) = sqrt( sum_x |F(T_g x) - T_g F(x)|^2 / (1/2 sum_x (|F(T_g x)|^2 + |T_g F(x)|^2)) )
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.statistics import (
    Floats,
    Integers,
    LogHistograms,
    lasting,
    own_memory,
    percentile_interval,
    root_ratio,
)

LONGEST_ROW = 16_384
"""Values whose squares are summed at once in float32; of more, row by row."""
ROWS = 16
"""Pairs in one table, where it is not known how many will come."""
SMALLEST, LARGEST = 1e-10, 1e12
"""Root mean squares between which squares of float32 neither vanish nor overflow."""


@dataclass(frozen=True, slots=True)
class PairNorms:
    """What pairs of tensors give for each image, (..., B) each.

    ``difference`` is |F(T_g x) - T_g F(x)|^2, ``power`` the mean of the two squared norms, both in
    float64; ``nonfinite`` counts values of either tensor that are NaN or infinite: it is 1 for any number of
    them where they were not looked at one by one.
    """

    difference: Floats
    power: Floats
    nonfinite: Integers

    def at(self, place: int) -> PairNorms:
        """Return one of several rows of pairs."""
        return PairNorms(self.difference[place], self.power[place], self.nonfinite[place])


def norms(tensor: torch.Tensor, *, careful: bool = False) -> torch.Tensor:
    """Return the norm of each image's feature (B, ..., N), (B,).

    Squares are summed in the precision of the tensor, in several sums that are then put together: squares
    have no sign to cancel, so that in float32 1e-6 of the norm is lost at most. ``careful`` sums in float64,
    also what would vanish in float32.
    """
    flat = tensor.reshape(len(tensor), -1)
    if careful:
        flat = flat.double()
    elif flat.shape[1] > LONGEST_ROW:
        flat = torch.linalg.vector_norm(flat.view(len(tensor), -1, _row(tensor)), dim=-1)
    norm: torch.Tensor = torch.linalg.vector_norm(flat, dim=1)
    return norm


def _row(tensor: torch.Tensor) -> int:
    """Return how many values of one image are summed together: whole dimensions, the last ones first."""
    row = 1
    for size in reversed(tensor.shape[1:]):
        if row * size > LONGEST_ROW:
            break
        row *= size
    return row


def ordinary(sizes: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether the norms (B,) of a tensor say that float32 can hold the squares of its values.

    What seems to be zero is looked at in float64, for it may only be small.
    """
    if not bool(sizes.all()):
        sizes = norms(tensor, careful=True)
    means = sizes[sizes != 0] / math.sqrt(max(tensor[0].numel(), 1))
    return bool(((means > SMALLEST) & (means < LARGEST)).all())


class Pairs:
    """Norms of F(T_g x), of T_g F(x) and of their difference, for one g after the other, on their device.

    They are kept in tables: many small pieces between large features would leave no room for the next ones.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self._size = rows
        self._tables: list[torch.Tensor] = []
        self._nonfinite: dict[int, torch.Tensor] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        moved: torch.Tensor,
        expected: torch.Tensor,
        expected_norms: torch.Tensor | None = None,
        *,
        careful: bool = False,
        spare: bool = False,
    ) -> None:
        """Compare F(T_g x) with T_g F(x), both (B, ...); the norms of the latter may be known already.

        The subtraction runs in the features' own precision (float32 for halves): a difference of close
        floating numbers is exact, and what rounding it has otherwise is of relative size 1e-7.

        Parameters
        ----------
        careful
            Look at values one by one, in float64.
        spare
            Nobody needs ``expected`` any more, so that its memory may be written over.
        """
        if moved.dtype in {torch.float16, torch.bfloat16}:
            moved, expected = moved.float(), expected.float()
        if careful:
            bad = ~torch.isfinite(moved) | ~torch.isfinite(expected)
            self._nonfinite[self._count] = bad.reshape(len(moved), -1).sum(dim=1)
        row = self._next_row(len(moved), torch.float64 if careful else moved.dtype, moved.device)
        row[0] = norms(moved, careful=careful)
        row[1] = norms(expected, careful=careful) if expected_norms is None else expected_norms
        row[2] = norms(torch.sub(expected, moved, out=expected if spare else None), careful=careful)

    def repeat(self, other: Pairs) -> None:
        """Add the pair that another has last."""
        last = other._count - 1
        if last in other._nonfinite:
            self._nonfinite[self._count] = other._nonfinite[last]
        table = other._tables[-1]
        self._next_row(table.shape[2], table.dtype, table.device)[:] = table[last % other._size]

    def rows(self) -> torch.Tensor:
        """Return the norms, (pairs, 3, B), in the precision in which they were summed."""
        table = self._tables[0] if len(self._tables) == 1 else torch.cat(self._tables)
        return table[: self._count]

    def counts(self, images: int) -> Integers:
        """Return how many values were not finite, (pairs, B), where they were looked at; else 0."""
        found = np.zeros((self._count, images), dtype=np.int64)
        for place, count in self._nonfinite.items():
            found[place] = count.cpu().numpy()
        return found

    def _next_row(self, images: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        if self._count % self._size == 0:
            self._tables.append(torch.empty((self._size, 3, images), dtype=dtype, device=device))
        self._count += 1
        return self._tables[-1][(self._count - 1) % self._size]


def collect(pairs: Sequence[Pairs], order: Sequence[int] | None = None) -> list[PairNorms]:
    """Copy what was measured from the device, all at once; a `PairNorms` (pairs, B) for each.

    ``order`` are the places at which the pairs of each belong, where they were made in another order.
    """
    filled = [each.rows() for each in pairs if len(each)]
    if not filled:
        nothing = np.empty((0, 0))
        return [PairNorms(nothing, nothing, nothing.astype(np.int64)) for _ in pairs]
    lengths, first = [len(each) for each in pairs], filled[0]
    shape = sum(lengths), *first.shape[1:]
    if first.is_cpu:
        whole = torch.from_numpy(own_memory(shape, np.dtype(np.float64)))
    else:
        whole = first.new_empty(shape, dtype=torch.float64)
    places = None if order is None else np.argsort(order)
    for rows, into in zip(filled, torch.split(whole, [length for length in lengths if length]), strict=True):
        into[:] = rows if places is None else rows[places]
    squares = whole.square_().cpu().numpy()
    found = []
    for each, part in zip(pairs, np.split(squares, np.cumsum(lengths)[:-1]), strict=True):
        looked = each.counts(part.shape[2])
        if places is not None:
            looked = looked[places]
        nonfinite = np.where(np.isfinite(part).all(axis=1), looked, looked.clip(1))
        power = part[:, 0]
        power += part[:, 1]
        power /= 2
        found.append(PairNorms(part[:, 2], power, nonfinite))
    return found


def compare(moved: torch.Tensor, expected: torch.Tensor) -> PairNorms:
    """Compare one pair of tensors, (B, ...), with every value looked at; (B,) each."""
    pairs = Pairs()
    pairs.add(moved, expected, careful=True)
    return collect([pairs])[0].at(0)


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Sums over images for one tensor; the first dimension of each array is the element.

    Images with a value that is not finite are counted in ``nonfinite`` and enter nothing else.
    Memory does not grow with the number of images.
    """

    images: Integers
    difference: Floats
    power: Floats
    replicate_difference: NDArray[np.float32]
    replicate_power: NDArray[np.float32]
    histogram: LogHistograms
    worst_error: Floats
    worst_image: Integers
    nonfinite: Integers
    first_nonfinite: Integers

    @classmethod
    def of_batch(cls, norms: PairNorms, weights: Floats, places: Sequence[int]) -> ErrorSums:
        """Sum one batch: ``norms`` (elements, B); ``weights`` (B, replicates) and ``places`` of images."""
        finite, numbers = norms.nonfinite == 0, np.array(places)
        difference, power = _finite_parts(norms)
        errors = image_errors(norms)
        ranked = np.where(finite, errors, -1.0)
        worst = ranked.argmax(axis=1)
        worst_error = np.take_along_axis(ranked, worst[:, None], axis=1)[:, 0]
        return cls(
            images=finite.sum(axis=1),
            difference=difference.sum(axis=1),
            power=power.sum(axis=1),
            replicate_difference=_resampled(difference, weights),
            replicate_power=_resampled(power, weights),
            histogram=LogHistograms.of(errors, finite),
            worst_error=worst_error,
            worst_image=np.where(worst_error >= 0, numbers[worst], -1),
            nonfinite=norms.nonfinite.sum(axis=1),
            first_nonfinite=np.where(finite.all(axis=1), -1, numbers[(~finite).argmax(axis=1)]),
        )

    def lasting(self) -> ErrorSums:
        """Return the same, with what is large in memory of its own."""
        return replace(
            self,
            replicate_difference=lasting([self.replicate_difference]),
            replicate_power=lasting([self.replicate_power]),
            histogram=self.histogram.lasting(),
        )

    def add(self, other: ErrorSums) -> None:
        """Add the sums of other images, in place: there is no second copy of what is large."""
        worse = other.worst_error > self.worst_error
        unseen = self.first_nonfinite < 0
        self.worst_error[worse], self.worst_image[worse] = other.worst_error[worse], other.worst_image[worse]
        self.first_nonfinite[unseen] = other.first_nonfinite[unseen]
        for name in (
            "images",
            "difference",
            "power",
            "replicate_difference",
            "replicate_power",
            "nonfinite",
        ):
            total = getattr(self, name)
            total += getattr(other, name)
        self.histogram.add(other.histogram)

    @property
    def errors(self) -> Floats:
        """The error at each element; NaN where no image was finite."""
        return np.where(self.images > 0, root_ratio(self.difference, self.power), np.nan)

    def interval(self, element: int) -> tuple[float, float] | None:
        """Return the 95 % interval of the error at one element, by the Poisson bootstrap."""
        drawn = self.replicate_power[element] > 0
        return percentile_interval(
            root_ratio(
                self.replicate_difference[element][drawn].astype(np.float64),
                self.replicate_power[element][drawn].astype(np.float64),
            )
        )


def _resampled(values: Floats, weights: Floats) -> NDArray[np.float32]:
    """Return sums over images of (elements, B) under each replicate's weights, (elements, replicates)."""
    # By torch, whose memory for products is taken already: numpy's own would come on top.
    sums: NDArray[np.float32] = (torch.from_numpy(values) @ torch.from_numpy(weights)).float().numpy()
    return sums


def image_errors(norms: PairNorms) -> Floats:
    """Return the error of each image alone, (..., B); NaN where a value is not finite."""
    difference, power = _finite_parts(norms)
    return np.where(norms.nonfinite == 0, root_ratio(difference, power), np.nan)


def _finite_parts(norms: PairNorms) -> tuple[Floats, Floats]:
    finite = norms.nonfinite == 0
    return np.where(finite, norms.difference, 0.0), np.where(finite, norms.power, 0.0)
