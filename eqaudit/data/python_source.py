"""Images, and perhaps their targets, that the user's own Python code makes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from eqaudit.bounds import BOUNDS
from eqaudit.data.base import Pixels, Shape, check_dtype
from eqaudit.errors import DataError
from eqaudit.plan import PythonObject
from eqaudit.pythonspec import import_object, user_code

EXPECTED = "return one array (N,C,H,W), or images: (H,W) or (H,W,C) arrays, or Pillow images"
TARGETS = "in each pair (image, target): an integer, a 1-D array of 0 and 1, or a mask (H,W) of integers"


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


def collect(
    spec: PythonObject,
    from_pillow: Callable[[Image.Image], Pixels],
    mask_from_pillow: Callable[[Image.Image], Pixels],
) -> tuple[Pixels | list[Pixels], Pixels | list[Pixels] | None]:
    """Import ``spec``, call it if it can be called, and return its images and their targets.

    It makes one array, or one pair ``(images (N, C, H, W), targets (N, ...))``, or images or pairs
    ``(image, target)`` one by one; a target is a label, a 1-D array of 0 and 1, or a mask ``(H, W)``.
    Targets are None when there are none, and a list when they are masks made one by one.

    Raises
    ------
    DataError
        The user's code fails or exits, what it makes are no images, or targets of several kinds.
    """
    made = import_object(spec, DataError)
    with user_code(spec, DataError):
        if callable(made) and not hasattr(made, "__array__"):
            made = made(**spec.arguments)
        if hasattr(made, "__array__"):
            return np.asarray(made), None
        if isinstance(made, tuple) and len(made) == 2 and getattr(made[0], "ndim", 0) == 4:  # noqa: PLR2004
            return np.asarray(made[0]), np.asarray(made[1])
    if not isinstance(made, Iterable) or isinstance(made, (str, bytes, dict)):
        raise DataError(f"{spec} made a {type(made).__name__}, which holds no images", EXPECTED)
    pairs = [
        (
            _pixels(spec, f"image {number} of {spec}", image, from_pillow),
            None if target is None else _target(spec, number, target, mask_from_pillow),
        )
        for number, (image, target) in enumerate(_items(spec, made))
    ]
    if not pairs:
        raise DataError(f"{spec} made no image", EXPECTED)
    return [image for image, _ in pairs], _join_targets(spec, [target for _, target in pairs])


def _items(spec: PythonObject, made: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each image with its target, or with None."""
    end = object()
    with user_code(spec, DataError):
        items = iter(made)
    for _ in range(BOUNDS.callable_images + 1):
        with user_code(spec, DataError):
            item = next(items, end)
        if item is end:
            return
        yield item if isinstance(item, tuple) and len(item) == 2 else (item, None)  # noqa: PLR2004
    raise DataError(f"{spec} makes more than {BOUNDS.callable_images:,} images", "yield fewer")


def _target(
    spec: PythonObject, number: int, target: Any, from_pillow: Callable[[Image.Image], Pixels]
) -> Pixels:
    with user_code(spec, DataError):
        made = np.array(from_pillow(target) if isinstance(target, Image.Image) else target)
    if made.ndim == 3 and len(made) == 1:  # noqa: PLR2004 - (1, H, W)
        made = made[0]
    if made.ndim > 2 or not made.size or made.dtype.kind not in ("biuf" if made.ndim == 1 else "biu"):  # noqa: PLR2004
        raise DataError(f"target {number} of {spec} is {made.dtype} of shape {made.shape}", TARGETS)
    return made


def _join_targets(spec: PythonObject, targets: list[Pixels | None]) -> Pixels | list[Pixels] | None:
    """Stack labels or rows of one kind; masks, which may differ in size, stay a list."""
    if all(target is None for target in targets):
        return None
    kinds = [_kind(target) for target in targets]
    for number, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise DataError(f"target {number} of {spec} is {kind}, target 0 is {kinds[0]}", TARGETS)
    found = [target for target in targets if target is not None]
    return found if kinds[0] == "a mask" else np.stack(found)


def _kind(target: Pixels | None) -> str:
    if target is None:
        return "missing"
    return ("a label", f"a row of {target.size}", "a mask")[target.ndim]


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
