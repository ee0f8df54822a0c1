"""Where space is in a feature tensor: which dimensions a turn of the image acts on."""

from dataclasses import dataclass

import torch

from eqaudit.report import describe_shape

SPACELESS_RANK = 2
TOKENS_RANK = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions of a feature, by letter; ``dims`` are height and width, None without space."""

    name: str
    dims: tuple[int, int] | None

    def space_last(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a view whose last two dimensions are height and width; as it is without space."""
        return tensor if self.dims is None else tensor.movedim(self.dims, (-2, -1))


class UnknownLayoutError(ValueError):
    """Which dimensions are space cannot be told; the message is the reason."""


def find_layout(shape: tuple[int, ...], image: tuple[int, int], swaps_sides: bool) -> Layout:
    """Tell where space is in a feature of a batch.

    Parameters
    ----------
    shape
        Shape of the feature, batch first.
    image
        (H, W) of the image that the model received.
    swaps_sides
        Whether the group turns by 90 degrees, so that a map must be as square as the image is.

    Returns
    -------
    Layout
        ``BC`` (no space: the error is an invariance error), ``BCHW``, ``B...HW`` for more channel
        dimensions (a group axis, say), ``BHWC`` where only that reading has the image's proportions,
        and ``BHW`` for a map of the image's own size without channels.

    Raises
    ------
    UnknownLayoutError
        A sequence of tokens, or a map that is not square though the image is.
    """
    if len(shape) <= SPACELESS_RANK:
        return Layout("BC", None)
    if len(shape) == TOKENS_RANK:
        if shape[1:] == image:
            return Layout("BHW", (-2, -1))
        raise UnknownLayoutError(f"which of {describe_shape(shape[1:])} is space is not known")
    if _proportional(shape[-2:], image):
        return Layout("BCHW" if len(shape) == TOKENS_RANK + 1 else "B...HW", (-2, -1))
    if len(shape) == TOKENS_RANK + 1 and _proportional(shape[1:3], image):
        return Layout("BHWC", (1, 2))
    if swaps_sides:
        raise UnknownLayoutError(
            f"map of {describe_shape(shape[-2:])} is not square, so it cannot turn by 90 degrees"
        )
    return Layout("BCHW" if len(shape) == TOKENS_RANK + 1 else "B...HW", (-2, -1))


def _proportional(sizes: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Whether a map has the proportions of the image; subsampling may round each side by one cell."""
    if image[0] == image[1]:
        return sizes[0] == sizes[1]
    scale = min(sizes[0] / image[0], sizes[1] / image[1])
    return abs(sizes[0] - scale * image[0]) <= 1 and abs(sizes[1] - scale * image[1]) <= 1
