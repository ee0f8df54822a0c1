"""Maps of numbers (depth, denoising): PSNR between the moved map and the map of the moved image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eqaudit.metrics.base import Observed, Scene, as_floats, finite_images
from eqaudit.report import Dense, ElementFidelity
from eqaudit.statistics import Floats, mean_intervals


@dataclass(frozen=True, slots=True)
class DenseValues:
    """Mean squared error of each image, and the least and greatest value of its unmoved map, (B,) each."""

    finite: NDArray[np.bool_]
    squared_error: Floats
    lowest: Floats
    highest: Floats


@dataclass(frozen=True, slots=True)
class DenseTask:
    """A map (B, C, H, W) compared number by number."""

    output: str
    reason: str

    def compare(self, still: torch.Tensor, moved: torch.Tensor, scene: Scene) -> DenseValues:
        """Compare inside the valid mask."""
        difference = (moved - scene.move_map(still)).double().square()
        if scene.inside is not None:
            difference = difference[..., scene.inside]
        rows = still.flatten(1)
        return DenseValues(
            finite_images(still, moved).cpu().numpy(),
            as_floats(difference.flatten(1).mean(dim=1)),
            as_floats(rows.amin(dim=1)),
            as_floats(rows.amax(dim=1)),
        )

    def misfit(self, targets: NDArray[np.int64]) -> tuple[int, str] | None:
        """Truth plays no part in it."""
        del targets
        return None

    def summarise(self, observed: Observed[DenseValues]) -> Dense | None:
        """Return the record of the images that are finite at every pose; None when there is none."""
        observed = observed.finite()
        names, still = observed.names, observed.still
        if not names:
            return None
        peak = float(still.highest.max() - still.lowest.min())
        errors = np.stack([values.squared_error for _, values in observed.poses], axis=1)
        rows = zip(observed.poses, errors.T, mean_intervals(errors, observed.seed), strict=True)
        return Dense(
            output=self.output,
            images=len(names),
            reason=self.reason,
            peak=peak,
            by_element=[
                ElementFidelity(
                    name,
                    psnr(float(column.mean()), peak),
                    _decibels(interval, peak),
                    names[int(column.argmax())],
                )
                for (name, _), column, interval in rows
            ],
        )


def psnr(squared_error: float, peak: float) -> float | None:
    """Return 10 log10(peak^2 / squared_error) in dB; None for equal maps."""
    if squared_error <= 0 or peak <= 0:
        return None
    return 10 * math.log10(peak**2 / squared_error)


def _decibels(interval: tuple[float, float] | None, peak: float) -> tuple[float, float] | None:
    if interval is None:
        return None
    ends = psnr(interval[1], peak), psnr(interval[0], peak)
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
