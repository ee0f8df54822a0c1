"""The feature of unmoved images, in the form in which each move needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch

from eqaudit.engine.precision import HALVES
from eqaudit.groups import IDENTITY, Element
from eqaudit.metrics import VALUES_IN_CACHE, norms
from eqaudit.transforms import Action, Points, Resampler, RoundTrip, Shift, Table, act, split

TRANSPOSE = Element(mirrored=True, k=1, n=4)
CONTROL_CHANNELS = 32
MAP_RANK = 3
"""Dimensions of maps without channels."""


@dataclass(frozen=True, slots=True)
class Expected:
    """T_g F(x), where it is compared: whole maps, their points (..., P), or vectors; and its norms (B,).

    Points are those of the feature before the exact part of the move, ``after``. ``spare``: made for this
    move alone. Of channels, every ``step``-th.
    """

    value: torch.Tensor
    norms: torch.Tensor | None
    after: Element = IDENTITY
    spare: bool = False
    step: int = 1


class Still:
    """F(x) of one tensor for a batch: what is worked out of it for one move serves the next.

    Parameters
    ----------
    value
        The feature, (B, ..., H, W) of a map, (B, ...) otherwise.
    spatial
        Whether it is a map, which moves with the image.
    resampler
        How maps are turned between pixels.
    points
        Where they are compared then; None where only exact moves come.
    cell
        The side of one cell in pixels of the image.
    copy
        Makes the copies that are kept from move to move.
    """

    def __init__(
        self,
        value: torch.Tensor,
        *,
        spatial: bool,
        resampler: Resampler,
        points: Points | None = None,
        cell: float = 1.0,
        copy: Callable[[torch.Tensor], torch.Tensor] = torch.clone,
    ) -> None:
        self.spatial, self.points, self.shape = spatial, points, value.shape
        self._resampler, self._cell, self._copy = resampler, cell, copy
        self._maps: torch.Tensor | None = value
        self._transposed = False
        self._norms: torch.Tensor | None = None
        self._table: Table | None = None
        self._turned: tuple[Fraction, Expected] | None = None

    @property
    def value(self) -> torch.Tensor:
        """The feature itself."""
        return self._face(transposed=False)

    def sample(self, value: torch.Tensor, expected: Expected) -> torch.Tensor:
        """Return of a map of moved images what is to be compared with what a resampled move expects."""
        return _single(self._all_points.of(value[:, :: expected.step], expected.after))

    def sampled(self) -> torch.Tensor:
        """Return the feature itself at the points; a vector as it is."""
        return self.value if not self.spatial or self.points is None else _single(self.points.of(self.value))

    def size(self) -> float:
        """Return |F(x)|^2 of what round trips are compared on; values that are not finite are left out."""
        some = self.sampled()[:, :: self._step] if self.spatial else self.value
        return float(norms(torch.nan_to_num(some), careful=True).square().sum())

    def give_up_maps(self) -> None:
        """Keep only what resampled turns need, so that memory holds each map once."""
        if self.spatial and self.points is not None and self._maps is not None:
            self._table = self._table or self._make_table(spare=True)
            self._maps = None

    def expect(self, action: Action) -> Expected:
        """Return T_g F(x)."""
        if not self.spatial:
            return Expected(self.value, self.norms)
        match action:
            case Element() if action.exact:
                moved = self._exactly(action)
                return Expected(moved, self.norms, spare=moved is not self._maps)
            case Element():
                return self._turn(action)
            case Shift(down, right):
                return Expected(
                    self.table.shifted(down / self._cell, right / self._cell, self._all_points), None
                )
            case RoundTrip(turn):
                maps = _single(self.value[:, :: self._step])
                halfway = Table(action.halfway(maps, self._resampler), self._resampler)
                return Expected(halfway.turned(-turn / 2, self._all_points), None, step=self._step)

    @property
    def norms(self) -> torch.Tensor:
        """The norms of the feature, (B,), which exact moves keep."""
        if self._norms is None:
            self._norms = norms(self.value)
        return self._norms

    @property
    def table(self) -> Table:
        """The maps, prefiltered."""
        if self._table is None:
            self._table = self._make_table(spare=False)
        return self._table

    def _make_table(self, *, spare: bool) -> Table:
        maps = _single(self._face(transposed=self._transposed))
        return Table(maps, self._resampler, transposed=self._transposed, spare=spare)

    @property
    def _step(self) -> int:
        """Of many channels some are enough for a control, which costs two resamplings of whole maps."""
        channels = self.shape[1] if len(self.shape) > MAP_RANK else 1
        return max(1, channels // CONTROL_CHANNELS)

    @property
    def _all_points(self) -> Points:
        if self.points is None:
            raise ValueError("no points were chosen, and a move resamples")
        return self.points

    def _exactly(self, element: Element) -> torch.Tensor:
        """Flip, which is cheap, the maps or their transposes: those are made once for all that need them."""
        odd = element.quarter_turns % 2 == 1
        rest = element @ ~TRANSPOSE if odd else element
        return act(rest, self._face(transposed=odd), self._resampler)

    def _face(self, *, transposed: bool) -> torch.Tensor:
        """Return the feature, of a map perhaps its transpose, which is in its place from now on."""
        if self._maps is None:
            raise ValueError("the maps were given up for their table")
        if self.spatial and self._transposed != transposed:
            self._maps, self._transposed = transpose_maps(self._maps), transposed
        return self._maps

    def _turn(self, element: Element) -> Expected:
        """Turn by less than a quarter, which four elements and their mirrored ones share; then exactly."""
        points = self._all_points
        turn, after = split(element, square=points.height == points.width)
        if self._turned is None or self._turned[0] != turn:
            value = self.table.turned(turn, points)
            kept = self._copy(value) if self._turned is None else self._turned[1].value.copy_(value)
            self._turned = turn, Expected(kept, norms(kept))
        turned = self._turned[1]
        return Expected(turned.value, turned.norms, after)


class MovedImages:
    """Images (B, C, H, W) under one element after the other; what several share is resampled once."""

    def __init__(self, images: torch.Tensor, resampler: Resampler) -> None:
        self._images, self._resampler = images, resampler
        self._square = images.shape[-2] == images.shape[-1]
        self._turned: tuple[Fraction, torch.Tensor] | None = None

    def order(self, element: Element) -> tuple[bool, Fraction, bool]:
        """Return where to take an element in turn, so that those that share come one after the other."""
        if element.exact:
            return False, Fraction(0), element.quarter_turns % 2 == 1
        return True, split(element, square=self._square)[0], False

    def at(self, element: Element) -> torch.Tensor:
        """Return the moved images."""
        if element.exact:
            return act(element, self._images, self._resampler).contiguous()
        turn, after = split(element, square=self._square)
        if self._turned is None or self._turned[0] != turn:
            self._turned = turn, self._resampler.turn(self._images, turn)
        return act(after, self._turned[1], self._resampler).contiguous()


def transpose_maps(maps: torch.Tensor) -> torch.Tensor:
    """Return maps (..., H, W) as (..., W, H), in their own memory where that is contiguous."""
    if not maps.is_contiguous():
        return maps.transpose(-2, -1).contiguous()
    flat = maps.view(-1, *maps.shape[-2:])
    transposed = maps.view(*maps.shape[:-2], maps.shape[-1], maps.shape[-2])
    count = max(1, VALUES_IN_CACHE // (maps.shape[-2] * maps.shape[-1]))
    into = transposed.view(-1, *transposed.shape[-2:])
    for start in range(0, len(flat), count):
        into[start : start + count] = (
            flat[start : start + count].transpose(-2, -1).clone(memory_format=torch.contiguous_format)
        )
    return transposed


def _single(tensor: torch.Tensor) -> torch.Tensor:
    """Return half precision as float32: what is resampled must not be rounded again."""
    return tensor.float() if tensor.dtype in HALVES else tensor
