"""Where space is in a feature tensor: which dimensions a turn of the image acts on."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch

from eqaudit.parsing import letters_problem
from eqaudit.report import describe_shape

SPACELESS_RANK = 2
SEQUENCE_RANK = 3
HEADS_RANK = 4
LAST_TWO = (-2, -1)
EXTRA_TOKENS = (0, 1, 2)
LEAST_SIDE = 2

Grids = frozenset[tuple[int, int]]
"""The (H, W) of maps that other layers of the same model show without doubt."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A sequence of tokens that is a grid, row by row; ``extra`` ones come first and are left out of it."""

    axis: int
    grid: tuple[int, int]
    extra: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions of a feature, by letter.

    ``dims`` are height and width, None for a vector and for tokens. In ``name``, B is the batch, H and W are
    space, N counts tokens, every other letter is a channel dimension, and dots are more of those.
    """

    name: str
    dims: tuple[int, int] | None
    tokens: Tokens | None = None

    @property
    def spatial(self) -> bool:
        """Whether the feature moves with the image: a map, or tokens on a grid."""
        return self.dims is not None or self.tokens is not None

    def space_last(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a view (B, channel dimensions..., H, W); a vector as it is.

        Examples
        --------
        >>> tokens = torch.zeros(2, 17, 8)
        >>> find_layout((2, 17, 8), (16, 16), swaps_sides=True).space_last(tokens).shape
        torch.Size([2, 8, 4, 4])
        """
        if self.tokens is not None:
            axis, extra = self.tokens.axis, self.tokens.extra
            inside = tensor.narrow(axis, extra, tensor.shape[axis] - extra).movedim(axis, -1)
            return inside.view(*inside.shape[:-1], *self.tokens.grid)
        return tensor if self.dims is None else tensor.movedim(self.dims, LAST_TWO)

    def describe(self) -> str:
        """Write the layout for people: ``BCHW``, or ``BND: 14x14 tokens, 1 extra left out``."""
        if self.tokens is None:
            return self.name
        extra = f", {self.tokens.extra} extra left out" if self.tokens.extra else ""
        return f"{self.name}: {describe_shape(self.tokens.grid)} tokens{extra}"


class UnknownLayoutError(ValueError):
    """Which dimensions are space cannot be told; the message is the reason."""


def find_layout(
    shape: tuple[int, ...], image: tuple[int, int], swaps_sides: bool, grids: Grids = frozenset()
) -> Layout:
    """Tell where space most plausibly is in a feature of a batch: the first of ``find_layouts``."""
    return find_layouts(shape, image, swaps_sides=swaps_sides, grids=grids)[0]


def find_layouts(
    shape: tuple[int, ...], image: tuple[int, int], *, swaps_sides: bool, grids: Grids = frozenset()
) -> tuple[Layout, ...]:
    """Tell every way to read a feature of a batch, the most plausible one first.

    Parameters
    ----------
    shape
        Shape of the feature, batch first.
    image
        (H, W) of the image that the model received.
    swaps_sides
        Whether the group turns by 90 degrees, so that a map must be as square as the image is.
    grids
        The (H, W) of maps that other layers of the same model show without doubt: readings on such a grid
        come before others of their kind, and tokens of each head are known by nothing else.

    Returns
    -------
    tuple[Layout, ...]
        At least one. ``BC``: no space, the error is an invariance error. ``BHW``: a map of the image's own
        size without channels. ``BND`` and ``BDN``: tokens, whose number less 0 to 2 extra ones is a grid of
        the image's exact proportions. ``BCHW``, ``BHWC``, ``BCGHW``, ``BHWCG``, ``BCHWG`` and so on: two
        neighbouring dimensions with the image's proportions, the last two first. ``BCND`` and ``BNCD``:
        tokens of each head.

    Raises
    ------
    UnknownLayoutError
        A sequence of no known length, or a map that is not square though the image is.

    Examples
    --------
    >>> [layout.name for layout in find_layouts((2, 64, 16), (32, 32), swaps_sides=True)]
    ['BND', 'BDN']
    """
    if len(shape) <= SPACELESS_RANK:
        return (Layout("BC", None),)
    if len(shape) == SEQUENCE_RANK:
        found = _sequences(shape, image, grids)
        if not found:
            raise UnknownLayoutError(f"which of {describe_shape(shape[1:])} is space is not known")
        return found
    found = _maps_and_heads(shape, image, grids)
    if not found and swaps_sides:
        raise UnknownLayoutError(
            f"map of {describe_shape(shape[-2:])} is not square, so it cannot turn by 90 degrees"
        )
    return found or (_map(len(shape), len(shape) - 2),)


def layout_from_letters(letters: str, shape: tuple[int, ...], image: tuple[int, int]) -> Layout:
    """Read a feature as somebody said it is laid out.

    Parameters
    ----------
    letters
        One for each dimension: B first; H and W side by side, or N for tokens, or neither; channels else.
    shape
        Shape of the feature, batch first.
    image
        (H, W) of the image that the model received: it decides the grid of the tokens.

    Raises
    ------
    UnknownLayoutError
        The letters are no layout, their number is not the rank, or the tokens make no grid.

    Examples
    --------
    >>> layout_from_letters("BGCHW", (2, 4, 8, 5, 5), (20, 20)).dims
    (-2, -1)
    >>> layout_from_letters("BDN", (2, 8, 17), (16, 16)).describe()
    'BDN: 4x4 tokens, 1 extra left out'
    """
    problem = letters_problem(letters)
    if problem is not None:
        raise UnknownLayoutError(f"layout {letters!r}: {problem}")
    if len(letters) != len(shape):
        raise UnknownLayoutError(
            f"layout {letters}: expected {len(letters)} dimensions, got {len(shape)}: {describe_shape(shape)}"
        )
    if "N" in letters:
        layout = _tokens(letters, shape, image)
        if layout is None:
            raise UnknownLayoutError(
                f"layout {letters}: expected a grid with the proportions of the {describe_shape(image)} image"
                f" and at most {EXTRA_TOKENS[-1]} extra tokens, got {shape[letters.index('N')]} tokens"
            )
        return layout
    if "H" not in letters:
        return Layout(letters, None)
    return Layout(letters, _dims(len(letters), letters.index("H")))


def _sequences(shape: tuple[int, ...], image: tuple[int, int], grids: Grids) -> tuple[Layout, ...]:
    """Read (B, ?, ?): a map without channels, then tokens."""
    found = [_tokens(letters, shape, image) for letters in ("BND", "BDN")]
    tokens = [layout for layout in found if layout is not None]
    plain = (Layout("BHW", LAST_TWO),) if shape[1:] == image else ()
    return (*plain, *sorted(tokens, key=lambda layout: _grid(layout, shape) not in grids))


def _maps_and_heads(shape: tuple[int, ...], image: tuple[int, int], grids: Grids) -> tuple[Layout, ...]:
    """Read four dimensions or more: maps, then the tokens of each head."""
    rank = len(shape)
    starts = [start for start in (rank - 2, *range(1, rank - 2)) if _proportional(shape[start:][:2], image)]
    maps = sorted(
        (_map(rank, start) for start in starts), key=lambda layout: _grid(layout, shape) not in grids
    )
    found = [_tokens(letters, shape, image) for letters in ("BCND", "BNCD")] if rank == HEADS_RANK else []
    heads = [layout for layout in found if layout is not None and _grid(layout, shape) in grids]
    # Attention weights (B, heads, N, N) look like a map of N x N. So do the early layers of a network whose
    # late ones have maps of N cells (64 x 64, then 8 x 8); but there, other layers show maps of N x N.
    weights = starts == [rank - 2] and shape[-1] == shape[-2] and (shape[-2], shape[-1]) not in grids
    if weights and heads and heads[0].name == "BCND":
        return (heads[0], *maps, *heads[1:])
    return (*maps, *heads)


def _map(rank: int, start: int) -> Layout:
    """Return the layout of a map whose height is dimension ``start``; channels are C, G and dots."""
    channels = "CG".ljust(rank, ".")[: rank - 3]
    name = f"B{channels[: start - 1]}HW{channels[start - 1 :]}"
    return Layout(re.sub(r"\.+", "...", name), _dims(rank, start))


def _dims(rank: int, start: int) -> tuple[int, int]:
    return LAST_TWO if start == rank - 2 else (start, start + 1)


def _grid(layout: Layout, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return (H, W) of a layout; None without space."""
    if layout.tokens is not None:
        return layout.tokens.grid
    return None if layout.dims is None else (shape[layout.dims[0]], shape[layout.dims[1]])


def _tokens(letters: str, shape: tuple[int, ...], image: tuple[int, int]) -> Layout | None:
    """Return the layout of tokens along N if they make a grid of whole patches of the image."""
    axis = letters.index("N")
    common = math.gcd(*image)
    height, width = image[0] // common, image[1] // common
    # The sizes of two such grids differ by 5 or more, so that no more than one number of extra tokens fits.
    for extra in EXTRA_TOKENS:
        count = max(shape[axis] - extra, 0)
        times = math.isqrt(count // (height * width))
        grid = (times * height, times * width)
        if math.prod(grid) == count and min(grid) >= LEAST_SIDE and (height == width or common % times == 0):
            return Layout(letters, None, Tokens(axis, grid, extra))
    return None


def _proportional(sizes: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a map has the proportions of the image; subsampling may round each side by one cell."""
    if image[0] == image[1]:
        return sizes[0] == sizes[1]
    scale = min(sizes[0] / image[0], sizes[1] / image[1])
    return abs(sizes[0] - scale * image[0]) <= 1 and abs(sizes[1] - scale * image[1]) <= 1
