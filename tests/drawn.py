"""What tests of pictures ask of a PNG."""

import io

import numpy as np
from PIL import Image

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def read_pixels(content: bytes) -> Pixels:
    """Return the pixels of a PNG, (H, W, 3)."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB"))


def is_framed_in_white(pixels: Pixels) -> bool:
    """Return whether nothing touches the edge of a picture."""
    return all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
