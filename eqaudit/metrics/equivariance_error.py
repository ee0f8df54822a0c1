"""The equivariance error of one tensor, as sums over images that add up.

error(l, g) = sqrt( sum_x |F(T_g x) - T_g F(x)|^2 / (1/2 sum_x (|F(T_g x)|^2 + |T_g F(x)|^2)) )
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from eqaudit.statistics import (
    Floats,
    Integers,
    log_histograms,
    percentile_interval,
    root_ratio,
)

LONGEST_ROW = 16_384
"""Values whose squares are summed at once in float32; of more, row by row."""
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


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of tensors, measured on its device: norms of each image, (B,).

    ``nonfinite`` is None where nobody counted: then the norms tell whether there was anything to count.
    """

    moved: torch.Tensor
    expected: torch.Tensor
    difference: torch.Tensor
    nonfinite: torch.Tensor | None = None


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


def pair(
    moved: torch.Tensor,
    expected: torch.Tensor,
    expected_norms: torch.Tensor | None = None,
    *,
    careful: bool = False,
    spare: bool = False,
) -> Pair:
    """Compare F(T_g x) with T_g F(x), both (B, ...); the norms of the latter may be known already.

    ``spare``: nobody needs the latter any more, so that its memory may be written over.

    The subtraction runs in the features' own precision (float32 for halves): a difference of close
    floating numbers is exact, and what rounding it has otherwise is of relative size 1e-7.
    """
    if moved.dtype in {torch.float16, torch.bfloat16}:
        moved, expected = moved.float(), expected.float()
    if expected_norms is None:
        expected_norms = norms(expected, careful=careful)
    nonfinite = None
    if careful:
        bad = ~torch.isfinite(moved) | ~torch.isfinite(expected)
        nonfinite = bad.reshape(len(moved), -1).sum(dim=1)
    own = norms(moved, careful=careful)
    apart = torch.sub(expected, moved, out=expected if spare else None)
    return Pair(own, expected_norms, norms(apart, careful=careful), nonfinite)


def collect(pairs: Sequence[Sequence[Pair]]) -> list[PairNorms]:
    """Copy what was measured from the device, all at once: a `PairNorms` (pairs, B) for each row of pairs."""
    flat = [part for row in pairs for each in row for part in (each.moved, each.expected, each.difference)]
    counts = [each.nonfinite for row in pairs for each in row]
    if not flat:
        nothing = np.empty((0, 0))
        return [PairNorms(nothing, nothing, nothing.astype(np.int64)) for _ in pairs]
    squares = torch.cat(flat).double().square().cpu().numpy().reshape(len(counts), 3, -1)
    nonfinite = (~np.isfinite(squares).all(axis=1)).astype(np.int64)
    for place, count in enumerate(counts):
        if count is not None:
            nonfinite[place] = count.cpu().numpy()
    ends = np.cumsum([len(row) for row in pairs])[:-1]
    power = (squares[:, 0] + squares[:, 1]) / 2
    return [
        PairNorms(*parts)
        for parts in zip(
            np.split(squares[:, 2], ends), np.split(power, ends), np.split(nonfinite, ends), strict=True
        )
    ]


def compare(moved: torch.Tensor, expected: torch.Tensor) -> PairNorms:
    """Compare one pair of tensors, (B, ...), with every value looked at; (B,) each."""
    return collect([[pair(moved, expected, careful=True)]])[0].at(0)


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Sums over images for one tensor; the first dimension of each array is the element.

    Images with a value that is not finite are counted in ``nonfinite`` and enter nothing else.
    Memory does not grow with the number of images.
    """

    images: Integers
    difference: Floats
    power: Floats
    replicate_difference: Floats
    replicate_power: Floats
    histogram: Integers
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
            replicate_difference=difference @ weights,
            replicate_power=power @ weights,
            histogram=log_histograms(errors, finite),
            worst_error=worst_error,
            worst_image=np.where(worst_error >= 0, numbers[worst], -1),
            nonfinite=norms.nonfinite.sum(axis=1),
            first_nonfinite=np.where(finite.all(axis=1), -1, numbers[(~finite).argmax(axis=1)]),
        )

    def merge(self, other: ErrorSums) -> ErrorSums:
        """Add the sums of other images."""
        worse = other.worst_error > self.worst_error
        added = {
            name: getattr(self, name) + getattr(other, name)
            for name in (
                "images",
                "difference",
                "power",
                "replicate_difference",
                "replicate_power",
                "histogram",
                "nonfinite",
            )
        }
        return ErrorSums(
            **added,
            worst_error=np.where(worse, other.worst_error, self.worst_error),
            worst_image=np.where(worse, other.worst_image, self.worst_image),
            first_nonfinite=np.where(self.first_nonfinite >= 0, self.first_nonfinite, other.first_nonfinite),
        )

    @property
    def errors(self) -> Floats:
        """The error at each element; NaN where no image was finite."""
        return np.where(self.images > 0, root_ratio(self.difference, self.power), np.nan)

    def interval(self, element: int) -> tuple[float, float] | None:
        """Return the 95 % interval of the error at one element, by the Poisson bootstrap."""
        drawn = self.replicate_power[element] > 0
        return percentile_interval(
            root_ratio(self.replicate_difference[element][drawn], self.replicate_power[element][drawn])
        )


def image_errors(norms: PairNorms) -> Floats:
    """Return the error of each image alone, (..., B); NaN where a value is not finite."""
    difference, power = _finite_parts(norms)
    return np.where(norms.nonfinite == 0, root_ratio(difference, power), np.nan)


def _finite_parts(norms: PairNorms) -> tuple[Floats, Floats]:
    finite = norms.nonfinite == 0
    return np.where(finite, norms.difference, 0.0), np.where(finite, norms.power, 0.0)
