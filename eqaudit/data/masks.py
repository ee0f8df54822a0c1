"""What the pixels of a mask mean: one class index each, or IGNORED."""

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from eqaudit.data.base import IGNORED, Pixels, Shape
from eqaudit.errors import DataError
from eqaudit.plan import TruthOptions

WHITE = 255
LARGEST = 2.0**53  # up to here a float can hold every integer


class MaskReader:
    """Turns masks as decoded into class indices, after ``mask_values`` and ``ignore_index``.

    For ``index``, a mask of only 0 and 255 is black and white: 255 is class 1. All masks of a data set must
    agree on it, so a later mask with other values (or an earlier one) is an error.
    """

    def __init__(self, options: TruthOptions) -> None:
        self._options = options
        self._white = self._other = ""
        self.notes: set[str] = set()

    def read(self, image: str, place: str, pixels: Pixels) -> NDArray[np.int64]:
        """Return ``(H, W)`` int64 class indices and IGNORED.

        Raises
        ------
        DataError
            The mask has several channels that differ, values that are no class, or not those asked for;
            it is named by its ``place`` and its ``image``.
        """
        where = f"{place} (mask of {image})"
        mask = _integers(where, _one_channel(where, pixels))
        ignore = self._options.ignore_index
        ignored = np.zeros(mask.shape, np.bool_) if ignore is None else mask == ignore
        counted = mask[~ignored]
        if counted.size:
            if counted.min() < 0:
                raise DataError(
                    f"{where} holds {counted.min()}, expected class indices, 0 or larger",
                    f"add --ignore-index {counted.min()} if that marks pixels that do not count",
                )
            if self._is_binary(where, counted):
                mask = (mask > 0).astype(np.int64)
        mask[ignored] = IGNORED
        return mask

    def _is_binary(self, where: str, counted: NDArray[np.int64]) -> bool:
        high = counted.max()
        two = bool(((counted == 0) | (counted == high)).all())
        match self._options.mask_values:
            case "instances":
                return True
            case "binary":
                if not two:
                    found = np.unique(counted)
                    said = ", ".join(map(str, found[:6])) + (", ..." if len(found) > 6 else "")  # noqa: PLR2004
                    raise DataError(
                        f"{where} holds the values {said}, expected 0 and one other",
                        "use --mask-values index for several classes, instances for numbered objects",
                    )
                return True
            case "index":
                white = two and high == WHITE
                self._agree(where, white=white, other=high > 0 and not white)
                return white
            case _ as never:
                assert_never(never)

    def _agree(self, where: str, *, white: bool, other: bool) -> None:
        self._white = self._white or (where if white else "")
        self._other = self._other or (where if other else "")
        if self._white and self._other:
            raise DataError(
                f"{self._white} holds only 0 and 255, {self._other} other classes: 255 is unclear",
                "add --ignore-index 255 if it marks pixels that do not count, else --mask-values binary",
            )
        if white:
            self.notes.add("masks of 0 and 255 read as classes 0 and 1")


def check_mask_size(image: str, shape: Shape, place: str, size: tuple[int, ...]) -> None:
    """Refuse a mask ``(H, W)`` whose size is not that of its image ``(C, H, W)``."""
    if shape[1:] != size:
        raise DataError(
            f"{image} has {shape[1]}x{shape[2]} pixels, its mask {place} has {'x'.join(map(str, size))}",
            "give masks of the size of their images (height x width, after EXIF orientation)",
        )


def _one_channel(where: str, pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:  # noqa: PLR2004 - (H, W)
        return pixels
    if not (pixels == pixels[..., :1]).all():
        raise DataError(
            f"{where} has {pixels.shape[2]} channels that differ, expected one of class indices",
            "save it as a grey or palette image: eqaudit does not guess which colour is which class",
        )
    return pixels[..., 0]


def _integers(where: str, pixels: Pixels) -> NDArray[np.int64]:
    # NaN is unequal to itself, and so fails as well.
    if pixels.dtype.kind == "f" and not ((np.abs(pixels) < LARGEST) & (pixels == np.rint(pixels))).all():
        raise DataError(
            f"{where} holds fractions ({pixels.dtype}), expected class indices", "save it as uint8"
        )
    return pixels.astype(np.int64)
