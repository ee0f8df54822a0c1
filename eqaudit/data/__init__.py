"""Images: opened from what the user named, chosen by a seed, prepared for the model, read in batches."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from eqaudit.data.arrays import ArraySource, read_npy, read_npz
from eqaudit.data.base import FORMATS_HINT, ImageSource, Pixels, Shape, Skipped, Unreadable
from eqaudit.data.builtin import BuiltinSource
from eqaudit.data.dataset import Dataset, none_left
from eqaudit.data.folder import FolderSource
from eqaudit.data.listing import FOREIGN, IMAGES, Listing, list_images, recognise
from eqaudit.data.pictures import open_picture, picture_pixels
from eqaudit.data.preprocessing import Preprocessing
from eqaudit.data.python_source import ListSource, collect
from eqaudit.data.sizes import Sizing, check_resize, choose_size
from eqaudit.data.tiff import open_tiff
from eqaudit.errors import DataError, UsageError
from eqaudit.plan import BuiltinData, InputOptions, PathData, PythonObject

__all__ = ["Dataset", "Images", "Skipped", "array_images", "open_images"]


def open_images(options: InputOptions) -> "Images":
    """Find the images that ``options.data`` names and choose ``options.samples`` of them.

    Only headers are read, to know channels and sizes.

    Raises
    ------
    DataError
        There is no image, none can be read, or their sizes differ too much.
    UsageError
        The options contradict each other or the images.
    """
    if options.seed < 0 or options.samples < 0:
        raise UsageError("--seed and --samples cannot be negative", "give 0 or a positive number")
    return _choose(_open_source(options), options)


def array_images(array: Pixels, options: InputOptions) -> "Images":
    """Choose images from an array in memory, (N, C, H, W); errors as in `open_images`."""
    return _choose(ArraySource("array", array), options)


def _choose(source: ImageSource, options: InputOptions) -> "Images":
    chosen = _subset(len(source.names), options.samples, options.seed)
    shapes, skipped = _read_headers(source, chosen)
    if not shapes:
        raise none_left(skipped)
    if source.ready:
        own = shapes[0]
        _check_untouched(own, options.input_shape or own, options)
        return Images(source, options, chosen, skipped, own[0], Sizing(own[1:]))
    channels = {{2: 1, 4: 3}.get(shape[0], shape[0]) for shape in shapes}
    sizing = choose_size(options, shapes, sized=source.sized)
    return Images(source, options, chosen, skipped, channels.pop() if len(channels) == 1 else None, sizing)


@dataclass(frozen=True, slots=True)
class Images:
    """The chosen images. ``native_channels`` (without alpha) is None when they differ.

    ``skipped`` are those whose header is already known to be unreadable; they stay in ``names``.
    """

    _source: ImageSource
    _options: InputOptions
    _chosen: tuple[int, ...]
    skipped: list[Skipped]
    native_channels: int | None
    _sizing: Sizing

    @property
    def label(self) -> str:
        """What the report calls the data."""
        return self._source.label

    @property
    def names(self) -> tuple[str, ...]:
        """The chosen names, sorted."""
        return tuple(self._source.names[index] for index in self._chosen)

    @property
    def ready(self) -> bool:
        """Whether these are float arrays that must reach the model untouched."""
        return self._source.ready

    @property
    def native_size(self) -> tuple[int, int] | None:
        """(H, W) after resize and crop; None when the images can be made at any size."""
        return self._sizing.native

    def prepare(self, shape: Shape) -> Dataset:
        """Return the images as the model gets them, as float32 ``(C, H, W)`` = ``shape``.

        Raises
        ------
        UsageError
            ``shape`` is not that of arrays that must stay untouched, is larger than ``--resize``, or has
            another number of channels than ``--mean`` or ``--std``.
        """
        options = self._options
        for option, values in (("--mean", options.mean), ("--std", options.std)):
            if len(values) not in (0, 1, shape[0]):
                said = f"{option} has {len(values)} values, the input has {shape[0]} channels"
                raise UsageError(said, "give one value, or one per channel")
        if self.ready:
            _check_untouched((self.native_channels or 0, *(self.native_size or (0, 0))), shape, options)
        check_resize(options.resize, shape)
        natural = self._source.sized and options.input_shape is None and self.native_size == shape[1:]
        preprocessing = Preprocessing(
            shape,
            resize=options.resize,
            cover=options.resize is None and not natural,
            crop_note=self._sizing.crop_note if natural else "",
            mean=options.mean,
            std=options.std,
            ready=self.ready,
        )
        indices = dict(zip(self.names, self._chosen, strict=True))
        return Dataset(self.names, shape, self._source, preprocessing, indices, list(self.skipped))


def _open_source(options: InputOptions) -> ImageSource:
    match options.data:
        case BuiltinData(name):
            return BuiltinSource(name, options.seed)
        case PythonObject() as spec:
            made = collect(spec, picture_pixels)
            return ListSource(str(spec), made) if isinstance(made, list) else ArraySource(str(spec), made)
        case PathData(text, array):
            return _open_path(text, array)


def _open_path(text: str, array: str) -> ImageSource:
    path = Path(text)
    try:
        kind = "folder" if path.is_dir() else recognise(path)
    except (Unreadable, OSError) as exception:
        raise DataError(f"cannot read {text}: {exception}", FORMATS_HINT) from exception
    if array and kind != "zip":
        raise UsageError(f"{text} has no named arrays", "leave out what follows the colon")
    if kind == "npy":
        return ArraySource(text, read_npy(path))
    if kind == "zip":
        name, images = read_npz(path, array)
        return ArraySource(f"{text}:{name}" if array else text, images)
    if kind == "folder":
        return _open_folder(text, path, list_images(path))
    if kind not in IMAGES:
        raise _no_image(text, {kind} & set(FOREIGN))
    return FolderSource(f"image {text}", path.parent, {path.name: DECODERS[kind]}, {}, {})


def _open_folder(text: str, path: Path, listing: Listing) -> ImageSource:
    count = len(listing.images) + len(listing.problems)
    if not count:
        raise _no_image(text, set(listing.foreign.values()))
    decoders = {name: DECODERS[kind] for name, kind in listing.images.items()}
    label = f"folder {text} ({count} image{'s' if count > 1 else ''})"
    return FolderSource(label, path, decoders, listing.problems, listing.foreign)


def _no_image(text: str, foreign: set[str]) -> DataError:
    if foreign:
        return DataError(
            f"no image in {text}, only {' and '.join(sorted(foreign))} data, which eqaudit does not decode",
            "decode it in a function of your own: --data path/to/file.py:function",
        )
    return DataError(f"no image in {text}", FORMATS_HINT)


def _subset(count: int, samples: int, seed: int) -> tuple[int, ...]:
    if samples == 0 or samples >= count:
        return tuple(range(count))
    drawn = np.random.default_rng(seed).choice(count, samples, replace=False)
    return tuple(sorted(drawn.tolist()))


def _read_headers(source: ImageSource, chosen: tuple[int, ...]) -> tuple[list[Shape], list[Skipped]]:
    shapes, skipped = [], []
    for index in chosen:
        try:
            shapes.append(source.shape(index))
        except Unreadable as exception:
            skipped.append(Skipped(source.names[index], exception.reason))
    return shapes, skipped


def _check_untouched(own: Shape, asked: Shape, options: InputOptions) -> None:
    if options.resize is not None or own != asked:
        asked_for = f"{asked[0]}x{asked[1]}x{asked[2]}" if own != asked else "--resize"
        raise UsageError(
            f"float arrays reach the model as they are, {own[0]}x{own[1]}x{own[2]}: asked is {asked_for}",
            "save the arrays in the shape that the model takes, or save them as uint8 images",
        )


DECODERS = dict.fromkeys(IMAGES, open_picture) | {
    "TIFF": partial(open_tiff, by_pillow=partial(open_picture, formats=("TIFF",)))
}
