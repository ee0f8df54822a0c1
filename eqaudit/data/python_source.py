"""Images that the user's own Python code makes."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image

from eqaudit.data.base import Pixels, Shape, check_dtype
from eqaudit.errors import DataError
from eqaudit.plan import PythonObject
from eqaudit.pythonspec import import_object, user_code

IMAGE_LIMIT = 100_000
EXPECTED = "return one array (N,C,H,W), or images: (H,W) or (H,W,C) arrays, or Pillow images"


class ListSource:
    """Images held in memory, in the order in which they were made."""

    ready = False
    sized = True

    def __init__(self, label: str, images: list[Pixels]) -> None:
        self.label = f"{label} ({len(images)} images)"
        self.names = tuple(f"{number:0{max(4, len(str(len(images) - 1)))}d}" for number in range(len(images)))
        self.notes: set[str] = set()
        self._images = images

    def shape(self, index: int) -> Shape:
        """Return ``(C, H, W)``."""
        height, width, *channels = self._images[index].shape
        return channels[0] if channels else 1, height, width

    def read(self, index: int) -> Pixels:
        """Return the ``(H, W)`` or ``(H, W, C)`` array as it was given."""
        return self._images[index]


def collect(spec: PythonObject, from_pillow: Callable[[Image.Image], Pixels]) -> Pixels | list[Pixels]:
    """Import ``spec``, call it if it can be called, and return its one array or its list of images.

    Raises
    ------
    DataError
        The user's code fails or exits, or what it makes are no images.
    """
    made = import_object(spec, DataError)
    with user_code(spec, DataError):
        if callable(made) and not hasattr(made, "__array__"):
            made = made(**spec.arguments)
        if hasattr(made, "__array__"):
            return np.asarray(made)
    if not isinstance(made, Iterable) or isinstance(made, (str, bytes, dict)):
        raise DataError(f"{spec} made a {type(made).__name__}, which holds no images", EXPECTED)
    images: list[Pixels] = []
    with user_code(spec, DataError):
        items = iter(made)
    while True:
        with user_code(spec, DataError):
            item = next(items, images)
        if item is images:
            break
        if len(images) == IMAGE_LIMIT:
            raise DataError(f"{spec} makes more than {IMAGE_LIMIT:,} images", "yield fewer")
        images.append(_pixels(spec, f"image {len(images)} of {spec}", item, from_pillow))
    if not images:
        raise DataError(f"{spec} made no image", EXPECTED)
    return images


def _pixels(
    spec: PythonObject, where: str, item: Any, from_pillow: Callable[[Image.Image], Pixels]
) -> Pixels:
    if not isinstance(item, Image.Image) and not hasattr(item, "__array__"):
        raise DataError(f"{where} is a {type(item).__name__}", EXPECTED)
    with user_code(spec, DataError):
        # A copy: a generator may fill the same buffer again.
        pixels = np.array(from_pillow(item) if isinstance(item, Image.Image) else item)
    check_dtype(where, pixels.dtype)
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise DataError(f"{where} has shape {pixels.shape}", EXPECTED)
    return pixels
