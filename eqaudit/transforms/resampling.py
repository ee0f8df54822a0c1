"""Turns and shifts that fall between pixels: separable interpolation kernels as one cached gather.

Every method is linear: a prefilter along each side (the spline only), then for each pixel of the result a
weighted sum of `taps` x `taps` neighbours of the point that it comes from.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch.nn import functional

from eqaudit.plan import Extension, Method
from eqaudit.transforms.exact import move_exactly
from eqaudit.transforms.points import Points

CACHE_BYTES = 2 * 2**20
SPREAD = 12
"""Cells beyond the border at which spline coefficients of zeros are kept: 0.43^12 is 4e-5."""


def _nearest(distance: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(distance)


def _linear(distance: torch.Tensor) -> torch.Tensor:
    return 1 - distance.abs()


def _keys(distance: torch.Tensor) -> torch.Tensor:
    """Keys (1981), equation 15: the cubic convolution kernel with a = -1/2."""
    t = distance.abs()
    inner = (1.5 * t - 2.5) * t * t + 1
    return torch.where(t <= 1, inner, ((-0.5 * t + 2.5) * t - 4) * t + 2)


def _quintic(distance: torch.Tensor) -> torch.Tensor:
    """Sample the B-spline of degree 5 (Unser 1999, box 1): sum of (-1)^k C(6, k) (t + 3 - k)_+^5 / 5!."""
    t = distance.abs()
    pieces = (math.comb(6, k) * (-1) ** k * (t + 3 - k).clamp_min(0) ** 5 for k in range(6))
    return sum(pieces, torch.zeros_like(t)) / 120


@dataclass(frozen=True, slots=True)
class _Kernel:
    taps: int
    weight: Callable[[torch.Tensor], torch.Tensor]
    prefilter: bool = False


KERNELS: dict[Method, _Kernel] = {
    "nearest": _Kernel(1, _nearest),
    "bilinear": _Kernel(2, _linear),
    "bicubic": _Kernel(4, _keys),
    "spline": _Kernel(6, _quintic, prefilter=True),
}


@dataclass(frozen=True, slots=True)
class _Motion:
    """A turn about the centre, then a shift by (down, right) pixels, of maps of one size."""

    height: int
    width: int
    turn: Fraction = Fraction(0)
    down: float = 0.0
    right: float = 0.0

    def sources(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the row and the column that each pixel comes from, (H * W,) each, float64."""
        rows = torch.arange(self.height, dtype=torch.float64) - (self.height - 1) / 2
        columns = torch.arange(self.width, dtype=torch.float64) - (self.width - 1) / 2
        down, right = torch.meshgrid(rows - self.down, columns - self.right, indexing="ij")
        angle = 2 * math.pi * float(self.turn)
        cosine, sine = math.cos(angle), math.sin(angle)
        # Rows run downwards: a counter-clockwise turn of the picture looks this way from its result.
        source_rows = cosine * down + sine * right + (self.height - 1) / 2
        source_columns = cosine * right - sine * down + (self.width - 1) / 2
        return source_rows.flatten(), source_columns.flatten()


@dataclass(frozen=True, slots=True)
class Resampler:
    """Turns and shifts tensors by one method; ``extension`` says what lies beyond the border.

    ``reflect`` mirrors at the outer edge of the border pixels (d c b a | a b c d | d c b a), ``zeros``
    continues with zeros. ``blank`` reads like ``reflect`` where a point of the picture needs neighbours
    beyond the border, and gives zero for points that come from beyond it.

    Examples
    --------
    >>> Resampler("bilinear", "zeros").shift(torch.tensor([[0.0, 4.0]]), 0, 0.25).tolist()
    [[0.0, 3.0]]
    """

    method: Method
    extension: Extension

    @property
    def spread(self) -> int:
        """Cells by which the prefilter grows a map on each side: coefficients of zeros are not zero."""
        return SPREAD if KERNELS[self.method].prefilter and self.extension == "zeros" else 0

    def turn(self, tensor: torch.Tensor, turn: Fraction) -> torch.Tensor:
        """Turn counter-clockwise by a share of a full circle about ((H-1)/2, (W-1)/2).

        Quarter turns of squares are taken out first and done exactly: T_(a+90) = rot90 T_a to the bit.

        Parameters
        ----------
        tensor
            (..., H, W), float32 or float64; pixels stay square, also where H and W differ.
        turn
            1/4 is 90 degrees.
        """
        height, width = tensor.shape[-2:]
        quarters = math.floor(turn * 4) if height == width else 0
        rest = turn - Fraction(quarters, 4)
        turned = self._apply(tensor, _Motion(height, width, rest)) if rest else tensor
        return move_exactly(turned, quarters)

    def shift(self, tensor: torch.Tensor, down: float, right: float) -> torch.Tensor:
        """Shift (..., H, W) by any number of pixels."""
        return self._apply(tensor, _Motion(tensor.shape[-2], tensor.shape[-1], Fraction(0), down, right))

    def _apply(self, maps: torch.Tensor, motion: _Motion) -> torch.Tensor:
        return Table(maps, self).read(motion).reshape(maps.shape)


class Table:
    """Maps that are read between their cells, again and again: prefiltered once, one column for each map.

    Parameters
    ----------
    maps
        (..., H, W), float32 or float64; (..., W, H) where they are ``transposed``.
    resampler
        The method, and what lies beyond the border.
    spare
        Nobody needs the maps any more, so that their memory may be written over.
    """

    def __init__(
        self, maps: torch.Tensor, resampler: Resampler, *, transposed: bool = False, spare: bool = False
    ) -> None:
        self._resampler = resampler
        *self._lead, first, last = maps.shape
        self._height, self._width = (last, first) if transposed else (first, last)
        if not KERNELS[resampler.method].prefilter:
            flat = maps.reshape(-1, first, last)
            self._columns = flat.permute(1, 2, 0).reshape(first * last, len(flat))
            self._strides = (1, last) if transposed else (last, 1)
            return
        along_first, along_last = (_prefilter(size, resampler).to(maps) for size in (first, last))
        # Products that read their right side transposed: the maps never have to be laid out anew for columns,
        # and the last dimension becomes the first.
        across = (along_last @ maps.reshape(-1, last).T).view(len(along_last), -1, first)
        free = spare and not resampler.spread and maps.is_contiguous()
        products = maps.view(last, first, -1) if free else None
        self._columns = torch.bmm(
            along_first.expand(len(across), -1, -1), across.transpose(1, 2), out=products
        ).flatten(0, 1)
        self._strides = (len(along_first), 1) if transposed else (1, len(along_first))

    def turned(self, turn: Fraction, points: Points) -> torch.Tensor:
        """Return the values of the turned maps at some points, (..., P)."""
        return self.read(_Motion(self._height, self._width, turn), points)

    def shifted(self, down: float, right: float, points: Points) -> torch.Tensor:
        """Return the values of the shifted maps at some points, (..., P)."""
        return self.read(_Motion(self._height, self._width, Fraction(0), down, right), points)

    def read(self, motion: _Motion, points: Points | None = None) -> torch.Tensor:
        """Return the values of the moved maps at some points, or at every cell in reading order, (..., P)."""
        operator = _OPERATORS.get(self._resampler, motion, points, self._columns)
        places, weights = operator.pairs(*self._strides)
        read = functional.embedding_bag(places, self._columns, per_sample_weights=weights, mode="sum")
        # What is read once is compared several times: in strides, each time would cost another copy.
        return read.T.contiguous().view(*self._lead, len(places))


def _prefilter(size: int, resampler: Resampler) -> torch.Tensor:
    """Return the matrix from ``size`` samples to quintic B-spline coefficients: Unser (1999), section 3.

    It inverts the matrix that samples the spline, (size + 2 spread, size) in float64.
    """
    key = (size, resampler)
    if key not in _PREFILTERS:
        grown = size + 2 * resampler.spread
        offsets = torch.arange(-2, 3)
        places, kept = _extend(torch.arange(grown).reshape(-1, 1) + offsets, grown, resampler.extension)
        weights = _quintic(offsets.double()) * kept
        sampled = torch.zeros(grown, grown, dtype=torch.float64).scatter_add_(1, places, weights)
        _PREFILTERS[key] = torch.linalg.inv(sampled)[:, resampler.spread : resampler.spread + size]
    return _PREFILTERS[key]


def slope_matrix(size: int) -> torch.Tensor:
    """Return the matrix from samples of a side to the slopes of their quintic spline, (size, size) float64.

    It is the derivative of a shift by the spline that reflects at the border: at samples a compact scheme of
    order 6, off by 4e-6 at a wave of 12 pixels and by 0.5 % at one of 4.

    Examples
    --------
    >>> slopes = slope_matrix(32) @ torch.arange(32, dtype=torch.float64)
    >>> bool((slopes[12:20] - 1).abs().max() < 1e-4)
    True
    """
    resampler = Resampler("spline", "reflect")
    places, _ = _extend(torch.arange(size).reshape(-1, 1) + torch.arange(-2, 3), size, resampler.extension)
    # The slope of the B-spline of degree 5 at whole numbers.
    weights = torch.tensor([-1, -10, 0, 10, 1], dtype=torch.float64) / 24
    slopes = torch.zeros(size, size, dtype=torch.float64)
    return slopes.scatter_add_(1, places, weights.expand(size, -1)) @ _prefilter(size, resampler)


def _extend(places: torch.Tensor, size: int, extension: Extension) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where places beyond the border are read, and whether they count (1 or 0), in float64."""
    if extension == "zeros":
        return places.clamp(0, size - 1), ((places >= 0) & (places < size)).double()
    folded = places.remainder(2 * size)
    return torch.minimum(folded, 2 * size - 1 - folded), torch.ones_like(places, dtype=torch.float64)


def _taps(sources: torch.Tensor, size: int, resampler: Resampler) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the neighbours of each source along one side and their weights, (pixels, taps) each."""
    kernel = KERNELS[resampler.method]
    first = torch.floor(sources + 0.5) if kernel.taps == 1 else torch.floor(sources) - (kernel.taps // 2 - 1)
    places = first.unsqueeze(1) + torch.arange(kernel.taps, dtype=torch.float64)
    spread = resampler.spread
    inside, kept = _extend(places.long() + spread, size + 2 * spread, resampler.extension)
    return inside, kernel.weight(sources.unsqueeze(1) - places) * kept


@dataclass(frozen=True, slots=True)
class _Operator:
    """Rows and columns that each point is read from, (P, taps) small integers, and the weights of both."""

    rows: torch.Tensor
    columns: torch.Tensor
    row_weights: torch.Tensor
    column_weights: torch.Tensor

    @property
    def bytes(self) -> int:
        """What it takes to keep it: a fourth of what the pairs of rows and columns would."""
        parts = (self.rows, self.columns, self.row_weights, self.column_weights)
        return sum(part.numel() * part.element_size() for part in parts)

    def pairs(self, row_stride: int, column_stride: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return places in a table of such strides, and weights, (P, taps * taps) each."""
        rows, columns = self.rows.int() * row_stride, self.columns.int() * column_stride
        places = rows.unsqueeze(2) + columns.unsqueeze(1)
        weights = self.row_weights.unsqueeze(2) * self.column_weights.unsqueeze(1)
        return places.flatten(1), weights.flatten(1)


class _Operators:
    """Operators by motion, within a bound on their memory; building one costs little.

    Any of them makes room: motions come round in turn, so that what was used longest ago is needed next.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], _Operator] = {}
        self._bytes = 0
        self._choice = random.Random(0)  # noqa: S311 - no secret

    def get(
        self, resampler: Resampler, motion: _Motion, points: Points | None, like: torch.Tensor
    ) -> _Operator:
        """Return the operator in the precision of ``like``."""
        key = (resampler, motion, points, like.dtype, like.device)
        if key in self._kept:
            return self._kept[key]
        made = _build(resampler, motion, points, like)
        while self._kept and self._bytes + made.bytes > CACHE_BYTES:
            self._bytes -= self._kept.pop(self._choice.choice(list(self._kept))).bytes
        self._kept[key] = made
        self._bytes += made.bytes
        return made

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._bytes = 0


def _build(resampler: Resampler, motion: _Motion, points: Points | None, like: torch.Tensor) -> _Operator:
    sources = motion.sources()
    if points is not None:
        chosen = points.places.cpu()
        sources = (sources[0][chosen], sources[1][chosen])
    rows, row_weights = _taps(sources[0], motion.height, resampler)
    columns, column_weights = _taps(sources[1], motion.width, resampler)
    if resampler.extension == "blank":
        row_weights *= _inside(motion, sources).reshape(-1, 1)
    longest = max(motion.height, motion.width) + 2 * resampler.spread
    small = torch.int16 if longest <= torch.iinfo(torch.int16).max else torch.int32
    return _Operator(
        rows.to(like.device, small),
        columns.to(like.device, small),
        row_weights.to(like),
        column_weights.to(like),
    )


def _inside(motion: _Motion, sources: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return 1 for each source on the picture, 0 beyond its outer edge."""
    sides = zip(sources, (motion.height, motion.width), strict=True)
    down, right = ((place + 0.5 >= 0) & (place <= side - 0.5) for place, side in sides)
    return (down & right).double()


def forget_operators() -> None:
    """Free what was kept for the next turns, when many have been made."""
    _OPERATORS.clear()


_OPERATORS = _Operators()
_PREFILTERS: dict[tuple[int, Resampler], torch.Tensor] = {}
