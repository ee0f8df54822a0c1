"""The equivariance error of one tensor, as sums over images that add up.

error(l, g) = sqrt( sum_x |F(T_g x) - T_g F(x)|^2 / (1/2 sum_x (|F(T_g x)|^2 + |T_g F(x)|^2)) )
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from eqaudit.statistics import (
    Floats,
    Integers,
    log_histogram,
    percentile_interval,
    root_ratio,
)


@dataclass(frozen=True, slots=True)
class PairNorms:
    """What one pair of tensors gives for each image of a batch, (B,) each.

    ``difference`` is |F(T_g x) - T_g F(x)|^2, ``power`` the mean of the two squared norms, both in
    float64; ``nonfinite`` counts values of either tensor that are NaN or infinite.
    """

    difference: Floats
    power: Floats
    nonfinite: Integers


def squared_norms(tensor: torch.Tensor) -> Floats:
    """Return the squared norm of each image's feature, (B,), summed in float64."""
    rows = tensor.reshape(tensor.shape[0], -1)
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()
    squared: Floats = norms.cpu().numpy()
    return squared


def compare(moved: torch.Tensor, reference: torch.Tensor, reference_norms: Floats | None = None) -> PairNorms:
    """Compare F(T_g x) with T_g F(x), both (B, ...); the squared norms of the latter may be known already.

    The subtraction runs in the features' own precision (float32 for halves): a difference of close
    floating numbers is exact, and what rounding it has otherwise is of relative size 1e-7.
    """
    if moved.dtype in {torch.float16, torch.bfloat16}:
        moved, reference = moved.float(), reference.float()
    if reference_norms is None:
        reference_norms = squared_norms(reference)
    power = (squared_norms(moved) + reference_norms) / 2
    difference = squared_norms(moved - reference)
    nonfinite = np.zeros(len(power), dtype=np.int64)
    if not np.isfinite(power).all():
        bad = ~torch.isfinite(moved) | ~torch.isfinite(reference)
        nonfinite = bad.reshape(len(power), -1).sum(dim=1).cpu().numpy()
    return PairNorms(difference, power, nonfinite)


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
    def of_batch(cls, norms: list[PairNorms], weights: Floats, first_image: int) -> ErrorSums:
        """Sum one batch: ``norms`` by element, ``weights`` (B, replicates) of its images."""
        return _stack([_sum_element(norm, weights, first_image) for norm in norms])

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
    """Return the error of each image alone, (B,); NaN where a value is not finite."""
    difference, power = _finite_parts(norms)
    return np.where(norms.nonfinite == 0, root_ratio(difference, power), np.nan)


def _finite_parts(norms: PairNorms) -> tuple[Floats, Floats]:
    finite = norms.nonfinite == 0
    return np.where(finite, norms.difference, 0.0), np.where(finite, norms.power, 0.0)


def _sum_element(norms: PairNorms, weights: Floats, first_image: int) -> ErrorSums:
    finite = norms.nonfinite == 0
    difference, power = _finite_parts(norms)
    errors = image_errors(norms)
    worst = int(np.nanargmax(errors)) if finite.any() else -1
    bad = np.flatnonzero(~finite)
    return ErrorSums(
        images=np.array(finite.sum()),
        difference=np.array(difference.sum()),
        power=np.array(power.sum()),
        replicate_difference=difference @ weights,
        replicate_power=power @ weights,
        histogram=log_histogram(errors[finite]),
        worst_error=np.array(errors[worst] if worst >= 0 else -1.0),
        worst_image=np.array(first_image + worst if worst >= 0 else -1),
        nonfinite=np.array(norms.nonfinite.sum()),
        first_nonfinite=np.array(first_image + bad[0] if bad.size else -1),
    )


def _stack(rows: list[ErrorSums]) -> ErrorSums:
    return ErrorSums(
        **{field.name: np.stack([getattr(row, field.name) for row in rows]) for field in fields(ErrorSums)}
    )
