"""PNG, JPEG, BMP and WebP through Pillow: a header first, pixels when they are asked for."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from eqaudit.bounds import BOUNDS
from eqaudit.data.base import Picture, Pixels, Unreadable, check_size, orient, upright

GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
ORIENTATION_TAG = 0x0112
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


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
    image = _open(handle, formats)
    check_size(image.height, image.width)
    notes = []
    if image.format == "JPEG":
        _check_scans(handle)
    if image.format == "PNG":
        _check_chunks(handle)
        depth, colour = _png_depth(handle)
        if depth == 16 and colour != 0:  # noqa: PLR2004 - two bytes; colour 0 is grey alone
            notes.append("16-bit PNG with colour or alpha read with 8 bits")
    if getattr(image, "n_frames", 1) > 1:
        notes.append("first frame of an animated or multi-page image")
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    shape = (1 if _is_grey(image) else 3, image.height, image.width)
    pixels = partial(_upright_pixels, image, decode)
    return Picture(upright(shape, orientation), orientation, tuple(notes), pixels)


def open_mask(handle: BinaryIO, formats: tuple[str, ...] = FORMATS) -> Picture:
    """Read the header of an image file whose pixels are class indices; raises as `open_picture` does."""
    picture = open_picture(handle, formats, mask_pixels)
    depth, colour = _png_depth(handle)
    if colour == 0 and depth in (2, 4):
        # Pillow stretches these grey levels to 0..255, which is right for pictures only.
        step = 255 // (2**depth - 1)
        return replace(picture, pixels=lambda: picture.pixels() // step)
    return picture


def _open(handle: BinaryIO, formats: tuple[str, ...]) -> Image.Image:
    try:
        image = Image.open(handle, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exception:
        raise Unreadable(f"more than {BOUNDS.pixels:,} pixels") from exception
    except UnidentifiedImageError as exception:
        raise Unreadable("its header is damaged, or states a size of 0") from exception
    if image.format not in formats:  # of a JPEG, Pillow may make another format that holds several
        raise Unreadable(f"its format is {image.format}, which is not read: save it as PNG")
    return image


def _upright_pixels(image: Image.Image, decode: Callable[[Image.Image], Pixels]) -> Pixels:
    image.load()
    # Read again: Pillow turns TIFF by itself while loading, and then drops the tag.
    return orient(decode(image), image.getexif().get(ORIENTATION_TAG, 1))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in (*GREY_MODES, "LA", "La")


def _png_depth(handle: BinaryIO) -> tuple[int, int]:
    """Return the bits of a sample and the type of colour of a PNG, ``(8, 0)`` of another file."""
    position = handle.tell()
    handle.seek(0)
    head = handle.read(26)
    handle.seek(position)
    return (head[24], head[25]) if head.startswith(PNG_SIGNATURE) else (8, 0)


def _check_chunks(handle: BinaryIO) -> None:
    """Refuse a PNG with damage that Pillow reads over: a changed chunk, a second header, no end."""
    position, size = handle.tell(), handle.seek(0, 2)
    handle.seek(len(PNG_SIGNATURE))
    name, headers = b"", 0
    while name != b"IEND":
        length, name = struct.unpack(">I4s", handle.read(8).ljust(8))
        if length > size - handle.tell():
            raise Unreadable("a PNG that is cut short")
        checksum = zlib.crc32(handle.read(length), zlib.crc32(name))
        if handle.read(4) != checksum.to_bytes(4, "big"):
            raise Unreadable(f"a PNG whose chunk {name.decode('ascii', 'replace')} is damaged")
        headers += name == b"IHDR"
    if headers > 1:
        raise Unreadable(f"a PNG with {headers} headers")
    handle.seek(position)


def _check_scans(handle: BinaryIO) -> None:
    position = handle.tell()
    handle.seek(0)
    scans = handle.read().count(b"\xff\xda")
    handle.seek(position)
    if scans > BOUNDS.jpeg_scans:
        raise Unreadable(f"a JPEG of {scans} scans, more than {BOUNDS.jpeg_scans}")
