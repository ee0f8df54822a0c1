"""Chance: the error between unrelated images, the yardstick of the normalised error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from eqaudit.metrics.equivariance_error import norms, ordinary
from eqaudit.statistics import lasting

VALUES_IN_CACHE = 1 << 18
"""Values that are worked on at once where memory is what costs: they stay in the cache until it is done."""


@dataclass(frozen=True, slots=True)
class ChanceSums:
    """Moments of one tensor's features F_i over images, in float64.

    ``mean`` is the mean map, ``spread`` the sum of |F_i - mean|^2, ``power`` the sum of |F_i|^2.
    """

    count: int
    mean: torch.Tensor
    spread: float
    power: float

    @classmethod
    def of_batch(cls, features: torch.Tensor, sizes: torch.Tensor | None = None) -> ChanceSums:
        """Sum one batch of features, (B, ...); images with values that are not finite are left out.

        ``sizes`` are the norms (B,) of the features, where they are known. Distances to the first image are
        summed and then referred to the mean, so that what all images share cancels before it is squared.
        """
        if sizes is None:
            sizes = norms(features)
        if not ordinary(sizes, features):
            features = features.double()
            sizes = norms(features)
        finite = torch.isfinite(sizes)
        if not bool(finite.all()):
            features, sizes = features[finite], sizes[finite]
        if not len(features):
            return cls(0, features.sum(dim=0).flatten().double(), 0.0, 0.0)
        first, count = features[0], len(features)
        sums, lengths = torch.zeros_like(first), []
        for part in torch.split(features, max(1, VALUES_IN_CACHE // max(first.numel(), 1))):
            apart = part - first
            sums += apart.sum(dim=0)
            lengths.append(norms(apart))
        total = sums.flatten().double()
        spread = float(torch.cat(lengths).double().square().sum() - total.square().sum() / count)
        mean = total.div_(count).add_(first.flatten())
        if mean.device.type == "cpu":
            mean = torch.from_numpy(lasting([mean.numpy()]))
        return cls(count, mean, max(spread, 0.0), float(sizes.double().square().sum()))

    def merge(self, other: ChanceSums) -> ChanceSums:
        """Add the moments of other images (Chan, Golub and LeVeque 1979, pairwise variance); uses this up."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        shift = other.mean - self.mean
        between = float(shift.square().sum()) * self.count * other.count / count
        return ChanceSums(
            count,
            self.mean.add_(shift.mul_(other.count / count)),
            self.spread + other.spread + between,
            self.power + other.power,
        )

    @property
    def chance(self) -> float | None:
        """The error over all pairs i != j of images; None with fewer than two, 0 without content.

        sum_{i != j} |F_i - F_j|^2 = 2 n spread and sum_{i != j} (|F_i|^2 + |F_j|^2) / 2 = (n - 1) power.
        """
        if self.count < 2:  # noqa: PLR2004 - a pair
            return None
        if not self.power:
            return 0.0
        return math.sqrt(2 * self.count * self.spread / ((self.count - 1) * self.power))
