"""The size that images have when the user's options alone decide it."""

from collections.abc import Sequence
from dataclasses import dataclass

from eqaudit.bounds import BOUNDS
from eqaudit.data.base import Shape
from eqaudit.errors import DataError, UsageError
from eqaudit.plan import InputOptions

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sizing:
    """``native``: (H, W) of what the model gets, None when any size will do; ``crop_note`` says why."""

    native: Size | None
    crop_note: str = ""


def choose_size(options: InputOptions, shapes: Sequence[Shape], *, sized: bool) -> Sizing:
    """Decide the size from ``--input-shape``, ``--resize`` or, without either, the images themselves.

    Raises
    ------
    UsageError
        ``--resize`` is smaller than ``--input-shape``, or larger than any image may be.
    DataError
        The sizes of the images differ too much to crop them to one square.
    """
    if options.resize is not None and options.resize[0] * options.resize[1] > BOUNDS.pixels:
        raise UsageError(f"--resize asks for more than {BOUNDS.pixels:,} pixels", "give a smaller size")
    if options.input_shape is not None:
        check_resize(options.resize, options.input_shape)
        return Sizing(options.input_shape[1:])
    if options.resize is not None:
        return Sizing((min(options.resize),) * 2)
    if not sized:
        return Sizing(None)
    return _common_square([shape[1:] for shape in shapes])


def check_resize(resize: Size | None, shape: Shape) -> None:
    """Refuse a resize that leaves less than the crop needs."""
    if resize is not None and (resize[0] < shape[1] or resize[1] < shape[2]):
        raise UsageError(
            f"--resize {resize[0]},{resize[1]} is smaller than the input of {shape[1]}x{shape[2]}",
            f"give --resize {max(resize[0], shape[1])},{max(resize[1], shape[2])} or larger, or leave it out",
        )


def _common_square(sizes: list[Size]) -> Sizing:
    sides = sorted(min(size) for size in sizes)
    side = sides[0]
    if len(set(sizes)) == 1:
        return Sizing((side, side))
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    span = " to ".join(f"{height}x{width}" for height, width in (ordered[0], ordered[-1]))
    if 2 * side < sides[-1]:
        raise DataError(
            f"the images differ too much in size to be cropped to one square: from {span}",
            f"add --resize {sides[-1]},{sides[-1]} (or another size) to make them equal",
        )
    return Sizing((side, side), f", the smallest centre square among sizes from {span}")
