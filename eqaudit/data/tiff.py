"""TIFF through tifffile, which keeps 16-bit, float and unusual layouts; the first page only."""

import logging
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import tifffile

from eqaudit.bounds import BOUNDS, format_bytes
from eqaudit.data.base import Picture, Pixels, Unreadable, check_size, orient, upright

DEFLATE = (8, 32946)
PLAIN = (1, 32773, *DEFLATE)  # none, PackBits: what tifffile decodes without imagecodecs
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
MOST_DEFLATED = 1032  # bytes that one byte of a deflate stream can become

# Damaged tags are logged as errors, and without a handler Python writes them to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def open_tiff(handle: BinaryIO, by_pillow: Callable[[BinaryIO], Picture]) -> Picture:
    """Read the header of the first page; other compressions and palettes are left to ``by_pillow``.

    Raises Unreadable, or whatever tifffile raises. ``handle`` stays open for ``pixels()``.
    """
    tif = tifffile.TiffFile(handle)
    page: Any = tif.pages[0]
    if page.axes not in ("YX", "YXS", "SYX"):
        raise Unreadable(f"a TIFF page with axes {page.axes}")
    check_size(page.imagelength, page.imagewidth)
    if page.nbytes > BOUNDS.picture_bytes:
        raise Unreadable(f"a TIFF page of more than {format_bytes(BOUNDS.picture_bytes)}")
    orientation = int(page.tags.valueof(274, default=1))
    size = page.imagelength, page.imagewidth
    if int(page.compression) not in PLAIN or page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        _check_depth(page)
        handle.seek(0)
        picture = by_pillow(handle)
        # Some versions of Pillow state the size before turning, others after.
        return replace(picture, shape=upright((picture.shape[0], *size), orientation))
    # tifffile fills what is not in the file with zeros.
    held = sum(map(all, zip(page.dataoffsets, page.databytecounts, strict=False)))
    if held < math.prod(page.chunked):
        raise Unreadable("a TIFF without all of its strips or tiles")
    shape = (_channels(page), *size)
    notes = ("first page of a multi-page TIFF",) if _has_second_page(tif) else ()
    return Picture(
        upright(shape, orientation), orientation, notes, lambda: orient(_decode(page, handle), orientation)
    )


def _decode(page: Any, handle: BinaryIO) -> Pixels:
    if int(page.compression) in DEFLATE:
        _check_inflated(page, handle)
    pixels: Pixels = page.asarray(maxworkers=1)
    if page.photometric == WHITE_IS_ZERO:
        pixels = np.invert(pixels) if pixels.dtype.kind in "bu" else -pixels
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels[..., : _channels(page)] if pixels.ndim == 3 else pixels  # noqa: PLR2004 - (H, W, C)


def _channels(page: Any) -> int:
    samples = int(page.samplesperpixel)
    if page.photometric == RGB:
        return min(samples, 3)
    return 1 if samples == 2 else samples  # noqa: PLR2004 - grey with alpha


def _check_depth(page: Any) -> None:
    # Pillow would cut 16-bit colour to 8 bits and widen other integers without saying so.
    grey = page.samplesperpixel == 1
    if page.bitspersample > 8 and not (grey and page.dtype in (np.uint16, np.float32)):  # noqa: PLR2004
        kind = f"{page.compression.name}-compressed {page.dtype} TIFF of {page.samplesperpixel} samples"
        raise Unreadable(f"{kind}: save it uncompressed or deflated")


def _check_inflated(page: Any, handle: BinaryIO) -> None:
    limit = 2 * page.nbytes + 2**24
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count * MOST_DEFLATED > limit:
            handle.seek(offset)
            if len(zlib.decompressobj().decompress(handle.read(count), limit + 1)) > limit:
                raise Unreadable("a TIFF strip that inflates to more than the image")


def _has_second_page(tif: tifffile.TiffFile) -> bool:
    try:
        return tif.pages[1] is not None
    except IndexError:
        return False
