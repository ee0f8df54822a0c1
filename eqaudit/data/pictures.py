"""PNG, JPEG, BMP and WebP through Pillow: a header first, pixels when they are asked for."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image

from eqaudit.data.base import Picture, Pixels, Unreadable, check_size, orient, upright

GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
ORIENTATION_TAG = 0x0112
SCAN_LIMIT = 500  # a progressive JPEG has about ten; each costs a pass over the whole picture


def picture_pixels(image: Image.Image) -> Pixels:
    """Decode to ``(H, W)`` or ``(H, W, 3)``: alpha dropped, palettes and CMYK to RGB, depth kept."""
    if image.mode == "I" and image.format == "PNG":  # Pillow before 11 widens 16-bit PNG to 32 bits
        return np.asarray(image).astype(np.uint16)
    if image.mode in GREY_MODES or image.mode == "RGB":
        return np.asarray(image)
    return np.asarray(image.convert("L" if _is_grey(image) else "RGB"))


def mask_pixels(image: Image.Image) -> Pixels:
    """Decode as `picture_pixels` does, but a palette to its indices ``(H, W)``, whatever their colours."""
    return np.asarray(image) if image.mode == "P" else picture_pixels(image)


def open_picture(
    handle: BinaryIO,
    formats: tuple[str, ...] = FORMATS,
    decode: Callable[[Image.Image], Pixels] = picture_pixels,
) -> Picture:
    """Read the header of an image file; raises Unreadable, or whatever Pillow raises."""
    image = Image.open(handle, formats=formats)
    check_size(image.height, image.width)
    if image.format == "JPEG":
        _check_scans(handle)
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    shape = (1 if _is_grey(image) else 3, image.height, image.width)
    notes = ("first frame of an animated or multi-page image",) if getattr(image, "n_frames", 1) > 1 else ()
    return Picture(upright(shape, orientation), orientation, notes, partial(_upright_pixels, image, decode))


def open_mask(handle: BinaryIO, formats: tuple[str, ...] = FORMATS) -> Picture:
    """Read the header of an image file whose pixels are class indices; raises as `open_picture` does."""
    head = handle.read(26)
    handle.seek(0)
    picture = open_picture(handle, formats, mask_pixels)
    depth, colour = head[24:26] if head.startswith(b"\x89PNG") else (8, 0)
    if colour == 0 and depth in (2, 4):
        # Pillow stretches these grey levels to 0..255, which is right for pictures only.
        step = 255 // (2**depth - 1)
        return replace(picture, pixels=lambda: picture.pixels() // step)
    return picture


def _upright_pixels(image: Image.Image, decode: Callable[[Image.Image], Pixels]) -> Pixels:
    image.load()
    # Read again: Pillow turns TIFF by itself while loading, and then drops the tag.
    return orient(decode(image), image.getexif().get(ORIENTATION_TAG, 1))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in (*GREY_MODES, "LA", "La")


def _check_scans(handle: BinaryIO) -> None:
    position = handle.tell()
    handle.seek(0)
    scans = handle.read().count(b"\xff\xda")
    handle.seek(position)
    if scans > SCAN_LIMIT:
        raise Unreadable(f"a JPEG of {scans} scans")
