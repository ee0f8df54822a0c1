"""Errors at some points of each map beside those at every cell, over the fixture models.

Prints, for each model and share of cells, how far the errors of layers at resampled turns are apart, and how
many lie outside of the other's 95 % interval: the numbers of points in `eqaudit.engine.base` come from this.

    python tests/calibration/points.py fixtures/models/lenet5.pt fixtures/models/unet_plain.pt ...
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import numpy as np

import eqaudit
from eqaudit.engine import base
from eqaudit.plan import SpaceOptions

ANGLES = "15,30,45,75"
SHARES = (32, 16, 8, 4)
Row = tuple[float, float, float]


def errors(
    model: str, options: argparse.Namespace, points: Literal["some", "all"]
) -> dict[tuple[str, int, str], Row]:
    """Return error and interval of all large maps by layer, call and element."""
    report = eqaudit.audit(
        model,
        options.data,
        angles=ANGLES,
        space=SpaceOptions(points=points, floor_samples=0),
        samples=options.samples,
    )
    large = [layer for layer in report.layers if layer.shape and np.prod(layer.shape[1:]) > base.FEW_CELLS]
    return {
        (layer.name, layer.call, error.element): (error.error, *error.ci95)
        for layer in large
        for error in layer.errors
        if error.error and error.ci95
    }


def main() -> None:
    """Print one row for each model and share."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", default="builtin:photos")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--shares", type=int, nargs="+", default=SHARES)
    options = parser.parse_args()
    print("model                     cells/point  rows  apart: median  largest  half interval  outside")
    for model in options.models:
        every = errors(model, options, "all")
        for share in options.shares if every else ():
            base.CELLS_PER_POINT = share
            some = errors(model, options, "some")
            apart = [abs(some[row][0] / error - 1) for row, (error, _, _) in every.items()]
            widths = [(high - low) / 2 / error for error, low, high in every.values()]
            outside = sum(not low <= some[row][0] <= high for row, (_, low, high) in every.items())
            print(
                f"{Path(model).name:25} {share:11} {len(every):5} {100 * np.median(apart):12.2f} %"
                f" {100 * max(apart):6.2f} % {100 * np.median(widths):12.2f} % {outside:8}"
            )


if __name__ == "__main__":
    main()
