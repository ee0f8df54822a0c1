"""Input sizes with which every stride fits: the nearest on either side, run to prove it."""

from __future__ import annotations

import torch
from torch.nn import functional

from eqaudit.diagnosis.network import Network
from eqaudit.diagnosis.rules.subsampling import misfit
from eqaudit.engine.base import run_on
from eqaudit.errors import ModelError
from eqaudit.groups import Element
from eqaudit.loader import Operation, with_operations
from eqaudit.report import SizeTried

FARTHEST = 32
"""Strides of real networks multiply to 32: within so many pixels a size fits, if any does."""
MOST_TRIED = 4


def fitting_sizes(network: Network, element: Element) -> list[SizeTried]:
    """Return the nearest smaller and larger size at which the output is exact, and the error there.

    Sizes at which a window misses a cell are passed over; where `MOST_TRIED` others are not exact either, the
    best of them is returned.
    """
    found = []
    for sign in (-1, 1):
        tried: list[SizeTried] = []
        for step in range(1, FARTHEST + 1):
            images = _resized(network.images, sign * step)
            if images is None:
                break
            error = _error(network, images, element)
            if error is not None:
                tried.append(SizeTried((images.shape[-2], images.shape[-1]), error))
            if len(tried) == MOST_TRIED or (error is not None and error <= network.limit):
                break
        found += sorted(tried, key=lambda size: size.error)[:1]
    return found


def _resized(images: torch.Tensor, change: int) -> torch.Tensor | None:
    """Crop images (B, C, H, W), or reflect them at the border, by ``change`` on a side; None if too far."""
    if min(images.shape[-2:]) + change < 2:  # noqa: PLR2004 - a map
        return None
    first, last = change // 2, change - change // 2
    if change > 0 and last >= min(images.shape[-2:]):
        return None
    return functional.pad(images, (first, last, first, last), mode="reflect" if change > 0 else "constant")


def _error(network: Network, images: torch.Tensor, element: Element) -> float | None:
    """Return the error of the output; None where a window misses a cell, or the model refuses the size."""
    operations: list[Operation] = []
    listening = with_operations(network.model, operations.append)
    try:
        run_on(listening, images[:1], network.setting, lambda _feature: None)
        if any(misfit(operation) is not None for operation in operations):
            return None
        still, moved = (network.walk(each) for each in (images, network.move(element, images)))
        return network.compare_outputs(still, moved, element)
    except (ModelError, RuntimeError):
        return None
