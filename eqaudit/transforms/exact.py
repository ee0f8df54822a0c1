"""Elements that move pixels to pixels: quarter turns and flips, bit-exact and never interpolated."""

import torch

SPACE = (-2, -1)
"""Height and width: the last two dimensions."""


def move_exactly(tensor: torch.Tensor, quarter_turns: int, *, mirrored: bool = False) -> torch.Tensor:
    """Mirror left and right or not, then turn counter-clockwise by quarter turns.

    The result is a view where torch can make one. Odd quarter turns swap the two sizes.

    Parameters
    ----------
    tensor
        (..., H, W), any dtype.
    quarter_turns
        Any integer.
    mirrored
        Whether the width is flipped first.

    Examples
    --------
    >>> move_exactly(torch.tensor([[1, 2], [3, 4]]), 1, mirrored=True).tolist()
    [[1, 3], [2, 4]]
    """
    if mirrored:
        tensor = tensor.flip(-1)
    return torch.rot90(tensor, quarter_turns, SPACE) if quarter_turns % 4 else tensor
