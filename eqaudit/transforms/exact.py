"""Elements that move pixels to pixels: quarter turns and flips, bit-exact and never interpolated."""

import torch

from eqaudit.groups import Element


def move(element: Element, tensor: torch.Tensor, dims: tuple[int, int] = (-2, -1)) -> torch.Tensor:
    """Return ``T_g`` of a tensor, acting on two of its dimensions (height, width).

    The result is a view where torch can make one. Turns by 90 and 270 degrees swap the two sizes.

    Parameters
    ----------
    element
        An exact element: mirrored or not, then turned counter-clockwise by a multiple of 90 degrees.
    tensor
        Any shape, any dtype.
    dims
        The height and the width dimension.

    Examples
    --------
    >>> move(Element(True, 1, 4), torch.tensor([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]
    """
    if element.mirrored:
        tensor = tensor.flip(dims[1])
    return torch.rot90(tensor, element.quarter_turns, dims) if element.quarter_turns else tensor
