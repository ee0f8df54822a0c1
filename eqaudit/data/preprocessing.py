"""From pixels as decoded to the float32 array that the model gets: a list of steps that can be said."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2gray
from skimage.transform import resize

from eqaudit.data.base import Pixels, Shape, Unreadable, check_size

Size = tuple[int, int]


class Step(NamedTuple):
    """One change of an ``(H, W, C)`` image; ``rank`` is its place among the steps of other images."""

    rank: int
    sentence: str
    change: Callable[[Pixels], Pixels]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes ``shape`` = ``(C, H, W)``, in the order that ``steps`` lists.

    ``resize`` is an exact size; with ``cover`` the image is scaled until it just covers H x W; what is
    then larger than H x W is centre-cropped (``crop_note`` says why). ``mean`` and ``std`` hold no value,
    one, or one per channel. ``ready`` images are ``(C, H, W)`` floats: only mean and std are applied.
    """

    shape: Shape
    resize: Size | None = None
    cover: bool = False
    crop_note: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    ready: bool = False

    def apply(self, raw: Pixels) -> NDArray[np.float32]:
        """Return the float32 ``(C, H, W)`` array that the model gets.

        Raises
        ------
        Unreadable
            The image is constant or not finite (at any step), too small to crop, or its channels cannot
            be converted.
        """
        image = raw
        with np.errstate(over="ignore", invalid="ignore"):
            for step in self.steps(raw):
                image = step.change(image)
                _check_content(image)
        image = np.moveaxis(image, -1, 0)
        if image.shape != self.shape:
            raise Unreadable(f"its shape is {image.shape}, expected {self.shape}")
        return np.ascontiguousarray(image, dtype=np.float32)

    def move_mask(self, mask: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the mask ``(H, W)`` after the geometry of its image, resized by nearest neighbour."""
        for step in () if self.ready else self._fit(mask.shape, _nearest):
            mask = step.change(mask)
        return mask

    def describe(self, raw: Pixels) -> tuple[tuple[int, str], ...]:
        """Return what ``apply`` does to this image: each step's rank and sentence, in order."""
        return tuple((step.rank, step.sentence) for step in self.steps(raw))

    def steps(self, raw: Pixels) -> list[Step]:
        """Return the steps that this image needs; raises Unreadable when there is no way to ``shape``."""
        if self.ready:
            said = (
                "float arrays, unchanged"
                if raw.dtype == np.float32
                else f"{raw.dtype.name} arrays as float32"
            )
            return [Step(0, said, _channels_last), *self._normalise()]
        channels = raw.shape[2] if raw.ndim == 3 else 1  # noqa: PLR2004 - (H, W, C)
        return [
            Step(0, "decoded", _as_image),
            _scale(raw.dtype),
            *_convert(channels, self.shape[0]),
            *self._fit(raw.shape[:2], _resize),
            *self._normalise(),
        ]

    def _fit(self, size: tuple[int, ...], scale: Callable[[Pixels, Size], Pixels]) -> Iterator[Step]:
        height, width = size
        target = self.shape[1:]
        if self.resize is not None:
            new, said = self.resize, f"resized to {_by(self.resize)} (antialiased)"
        elif self.cover:
            factor = max(target[0] / height, target[1] / width)
            new = max(target[0], round(height * factor)), max(target[1], round(width * factor))
            said = f"resized to {'' if new == target else 'cover '}{_by(target)} (antialiased)"
        else:
            new, said = (height, width), ""
        if new != (height, width):
            check_size(*new)
            yield Step(4, said, lambda image: scale(image, new))
        if new[0] < target[0] or new[1] < target[1]:
            raise Unreadable(f"is {_by(new)}, smaller than the crop of {_by(target)}")
        if new != target:
            yield Step(5, f"centre-cropped to {_by(target)}{self.crop_note}", partial(_crop, size=target))

    def _normalise(self) -> Iterator[Step]:
        said = [word for word, values in (("minus mean", self.mean), ("divided by std", self.std)) if values]
        if said:
            mean = np.array(self.mean or (0,), np.float32)
            std = np.array(self.std or (1,), np.float32)
            yield Step(6, ", ".join(said), lambda image: (image - mean) / std)


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _check_content(image: Pixels) -> None:
    # Resizing hides both: a hole spreads, and a flat image gets rounding noise. So every step is followed.
    # Of all channels, then of one after the other: along the axes it takes twenty times as long.
    if not (np.isfinite(image.min()) and np.isfinite(image.max())):
        raise Unreadable("holds NaN or infinite pixels")
    if all(channel.min() == channel.max() for channel in np.moveaxis(image, -1, 0)):
        raise Unreadable("constant: no content, nothing could fail on it")


def _channels_last(raw: Pixels) -> Pixels:
    return np.moveaxis(raw, 0, -1).astype(np.float32, copy=False)


def _as_image(raw: Pixels) -> Pixels:
    return raw if raw.ndim == 3 else raw[..., np.newaxis]  # noqa: PLR2004 - (H, W, C)


def _scale(dtype: np.dtype[Any]) -> Step:
    if dtype.kind == "f":
        return Step(1, "float pixels, not scaled", lambda image: image.astype(np.float32))
    if dtype.kind == "b":
        return Step(1, "bool read as 0 and 1", lambda image: image.astype(np.float32))
    top = np.float32(np.iinfo(dtype).max)
    said = f"scaled to 0..1 by the maximum of {dtype.name}"
    return Step(1, said, lambda image: image.astype(np.float32) / top)


def _convert(have: int, want: int) -> Iterator[Step]:
    start, no_alpha = have, {2: 1, 4: 3}.get(have, have)
    if have not in (want, no_alpha):
        yield Step(2, "alpha dropped", lambda image: image[..., :no_alpha])
        have = no_alpha
    match have, want:
        case 1, 3:
            yield Step(3, "grey repeated to RGB", lambda image: np.repeat(image, 3, axis=-1))
        case 3, 1:
            yield Step(3, "RGB to grey (luminance)", lambda image: rgb2gray(image)[..., np.newaxis])
        case _ if have != want:
            raise Unreadable(f"has {start} channels, the model is given {want}")


def _resize(image: Pixels, size: Size) -> Pixels:
    scaler: Any = resize  # scikit-image leaves it without types
    resized: Pixels = scaler(image, size, order=1, anti_aliasing=True, preserve_range=True)
    return resized


def _nearest(mask: Pixels, size: Size) -> Pixels:
    # Pixel centres, in integers: (i + 1/2) * old / new.
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(mask.shape, size, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def _crop(image: Pixels, size: Size) -> Pixels:
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]
