"""What is done to an image, and in the same way to its features: an element, a shift, a round trip."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import torch

from eqaudit.groups import Element
from eqaudit.transforms.exact import move_exactly
from eqaudit.transforms.resampling import Resampler


@dataclass(frozen=True, slots=True)
class Shift:
    """A translation, in pixels of the image."""

    down: float
    right: float


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A turn, and the way back in two halves: what changes is what three resamplings cost.

    In one step a turn can undo itself: nearest neighbours find back home, and little seems to be lost.
    """

    turn: Fraction


Action = Element | Shift | RoundTrip


def is_exact(action: Action) -> bool:
    """Whether pixels move to pixels, so that no mask is needed."""
    return isinstance(action, Element) and action.exact


def act(action: Action, tensor: torch.Tensor, resampler: Resampler, cell: float = 1.0) -> torch.Tensor:
    """Return ``T`` of a tensor, acting on its height and width.

    Parameters
    ----------
    action
        Exact elements move pixels, as views where torch can make one; the rest is resampled.
    tensor
        (..., H, W); float32 or float64 where it is resampled.
    resampler
        The method, and what lies beyond the border.
    cell
        Side of one cell of the tensor in pixels of the image: what subsampling made of a shift.

    Examples
    --------
    >>> act(Element(True, 1, 4), torch.tensor([[1, 2], [3, 4]]), Resampler("spline", "zeros")).tolist()
    [[1, 3], [2, 4]]
    """
    match action:
        case Element() if action.exact:
            return move_exactly(tensor, action.quarter_turns, mirrored=action.mirrored)
        case Element():
            return resampler.turn(move_exactly(tensor, 0, mirrored=action.mirrored), action.turn)
        case Shift(down, right):
            return resampler.shift(tensor, down / cell, right / cell)
        case RoundTrip(turn):
            there = resampler.turn(tensor, turn)
            return resampler.turn(resampler.turn(there, -turn / 2), -turn / 2)
        case unreachable:
            assert_never(unreachable)
