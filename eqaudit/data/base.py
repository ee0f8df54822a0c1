"""What a source of images promises, and the words that all sources share."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from eqaudit.bounds import BOUNDS
from eqaudit.errors import DataError

Pixels = NDArray[Any]
Shape = tuple[int, int, int]
TruthKind = Literal["none", "labels", "multi-hot", "masks"]

IGNORED = -1  # in a mask: a pixel that never counts
FORMATS_HINT = (
    "--data takes a folder of PNG, JPEG, TIFF, BMP or WebP images, a .npy or .npz file, or file.py:function"
)


class Unreadable(Exception):  # noqa: N818 - it skips one image; it is no error of the audit
    """One image cannot be used; ``reason`` says why, in one short line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that was left out, and why."""

    name: str
    reason: str


class ImageSource(Protocol):
    """Images that can be listed, sized without decoding, and read one by one.

    ``label`` is for the report (paths as the user gave them); ``names`` are sorted; ``ready`` images
    are ``(C, H, W)`` float arrays that must reach the model untouched; images of a source that is not
    ``sized`` can be drawn at any size; ``notes`` says what reading did beyond decoding, and grows.
    """

    label: str
    names: tuple[str, ...]
    ready: bool
    sized: bool
    notes: set[str]

    def shape(self, index: int) -> Shape:
        """Return ``(C, H, W)``, from the header where possible; raises Unreadable."""
        ...

    def read(self, index: int) -> Pixels:
        """Return ``(H, W)`` or ``(H, W, C)`` pixels, ``(C, H, W)`` when ready; raises Unreadable."""
        ...


@dataclass(frozen=True, slots=True)
class Truth:
    """What is right for each image, by its place in the source.

    ``read(index)`` returns an int64 label ``()``, a multi-hot row ``(K,)`` of 0 and 1, or a mask ``(H, W)``
    of class indices and IGNORED, upright and of the image's own size; it raises DataError.
    ``place(index)`` says where that stands; ``notes`` says where all of it comes from, and grows.
    """

    kind: TruthKind
    read: Callable[[int], NDArray[np.int64]]
    place: Callable[[int], str]
    notes: set[str] = field(default_factory=set)
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file whose header was read; ``shape`` and ``pixels()`` are upright already."""

    shape: Shape
    orientation: int
    notes: tuple[str, ...]
    pixels: Callable[[], Pixels]


def check_size(height: int, width: int) -> None:
    """Refuse an image by the size that its header declares, before anything is decoded."""
    if height < 1 or width < 1:
        raise Unreadable(f"its size is {width}x{height} pixels")
    if height * width > BOUNDS.pixels:
        raise Unreadable(f"{width}x{height} is more than {BOUNDS.pixels:,} pixels")


def upright(shape: Shape, orientation: int) -> Shape:
    """Return the shape after ``orient``: EXIF orientations 5 to 8 swap the sides."""
    channels, height, width = shape
    return (channels, width, height) if orientation in range(5, 9) else shape


def orient(pixels: Pixels, orientation: int) -> Pixels:
    """Turn ``(H, W, ...)`` pixels upright by their EXIF (or TIFF) orientation, 1 to 8."""
    if orientation in range(5, 9):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file; a FIFO or a device is refused without waiting for it.

    Raises
    ------
    Unreadable
        The path is no regular file.
    OSError
        It cannot be opened.
    """
    handle = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - pathlib takes no opener
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        handle.close()
        raise Unreadable("is no regular file")
    return handle


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for a writer that may never come.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_dtype(where: str, dtype: np.dtype[Any]) -> None:
    """Refuse arrays that hold no real numbers; object arrays would have to be unpickled."""
    if dtype.kind not in "biuf":
        kinds = {
            "O": "Python objects",
            "c": "complex numbers",
            "M": "dates",
            "m": "durations",
            "V": "records",
        }
        raise DataError(
            f"{where} holds {kinds.get(dtype.kind, 'text')} ({str(dtype)[:60]}); expected real numbers",
            "save an array of float32 or uint8",
        )
