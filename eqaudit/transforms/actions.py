"""What is done to an image, and in the same way to its features: an element, a shift, a round trip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import assert_never

import torch

from eqaudit.groups import MIRROR, Element
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

    def halfway(self, tensor: torch.Tensor, resampler: Resampler) -> torch.Tensor:
        """Return a tensor (..., H, W) there, and half of the way back."""
        return resampler.turn(resampler.turn(tensor, self.turn), -self.turn / 2)


Action = Element | Shift | RoundTrip


def is_exact(action: Action) -> bool:
    """Whether pixels move to pixels, so that no mask is needed."""
    return isinstance(action, Element) and action.exact


@cache
def split(element: Element, *, square: bool) -> tuple[Fraction, Element]:
    """Return a turn, and the exact element that is left to do after it.

    The turn is below a quarter where maps are ``square``, so that four elements, and four mirrored ones,
    share what is resampled. A mirror comes after the turn: T_a m = m T_-a.

    Examples
    --------
    >>> turn, rest = split(Element(True, 1, 8), square=True)
    >>> str(turn), str(rest)
    ('1/8', 'm-r90')
    """
    turn = -element.turn if element.mirrored else element.turn
    quarters = math.floor(4 * turn) if square else 0
    exact = Element(mirrored=False, k=quarters, n=4)
    return (turn - Fraction(quarters, 4)) % 1, MIRROR @ exact if element.mirrored else exact


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
            return resampler.turn(action.halfway(tensor, resampler), -turn / 2)
        case unreachable:
            assert_never(unreachable)
