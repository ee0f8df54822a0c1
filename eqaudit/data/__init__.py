"""Images: opened from what the user named, chosen by a seed, prepared for the model, read in batches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqaudit.data import decoders
from eqaudit.data.arrays import ArraySource, read_npy, read_npz
from eqaudit.data.base import (
    FORMATS_HINT,
    IGNORED,
    ImageSource,
    Pixels,
    Shape,
    Skipped,
    Truth,
    TruthKind,
    Unreadable,
)
from eqaudit.data.builtin import BuiltinSource
from eqaudit.data.dataset import Batch, Dataset, none_left
from eqaudit.data.folder import FolderSource
from eqaudit.data.listing import FOREIGN, IMAGES, Listing, list_images, recognise, without_folder
from eqaudit.data.pictures import mask_pixels, picture_pixels
from eqaudit.data.preprocessing import Preprocessing
from eqaudit.data.python_source import ListSource, collect
from eqaudit.data.sizes import Sizing, check_resize, choose_size
from eqaudit.data.targets import Targets
from eqaudit.data.truth import open_truth, targets_beside
from eqaudit.errors import DataError, UsageError
from eqaudit.plan import BuiltinData, InputOptions, PathData, PythonObject

__all__ = [
    "IGNORED",
    "Batch",
    "Dataset",
    "Images",
    "Skipped",
    "TruthKind",
    "array_images",
    "none_left",
    "open_images",
]


def open_images(options: InputOptions) -> "Images":
    """Find the images that ``options.data`` names and choose ``options.samples`` of them.

    Only headers are read, to know channels and sizes; each image is paired with its label or mask.

    Raises
    ------
    DataError
        There is no image, none can be read, their sizes differ too much, or their truth does not fit them.
    UsageError
        The options contradict each other or the images.
    """
    if options.seed < 0 or options.samples < 0:
        raise UsageError("--seed and --samples cannot be negative", "give 0 or a positive number")
    source, targets = _open_source(options)
    return _choose(source, options, targets)


def array_images(array: Pixels, options: InputOptions, targets: Pixels | None = None) -> "Images":
    """Choose images from an array in memory, (N, C, H, W); errors as in `open_images`.

    ``targets`` are integer labels (N,) or (N, 1), rows (N, K) of 0 and 1, or masks (N, H, W) or (N, 1, H, W).
    """
    came = None if targets is None else Targets("targets", targets)
    return _choose(ArraySource("array", array), options, came)


def _choose(source: ImageSource, options: InputOptions, targets: Targets | None) -> "Images":
    chosen = _subset(len(source.names), options.samples, options.seed)
    sizes, skipped = _read_headers(source, chosen)
    if not sizes:
        raise none_left(skipped)
    shapes = list(sizes.values())
    truth = open_truth(source, options.truth, sizes, targets)
    if source.ready:
        own = shapes[0]
        _check_untouched(own, options.input_shape or own, options)
        return Images(source, options, chosen, skipped, own[0], Sizing(own[1:]), truth)
    channels = {{2: 1, 4: 3}.get(shape[0], shape[0]) for shape in shapes}
    sizing = choose_size(options, shapes, sized=source.sized)
    native = channels.pop() if len(channels) == 1 else None
    return Images(source, options, chosen, skipped, native, sizing, truth)


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
    _truth: Truth | None

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
        return Dataset(
            self.names, shape, self._source, preprocessing, indices, list(self.skipped), self._truth
        )


def _open_source(options: InputOptions) -> tuple[ImageSource, Targets | None]:
    match options.data:
        case BuiltinData(name):
            return BuiltinSource(name, options.seed), None
        case PythonObject() as spec:
            made, values = collect(spec, picture_pixels, mask_pixels)
            targets = None if values is None else Targets(str(spec), values)
            if isinstance(made, list):
                return ListSource(str(spec), made), targets
            return ArraySource(str(spec), made), targets
        case PathData(text, array):
            return _open_path(text, array, options.truth.masks)


def _open_path(text: str, array: str, masks: str) -> tuple[ImageSource, Targets | None]:
    path = Path(text)
    try:
        kind = "folder" if path.is_dir() else recognise(path)
    except (Unreadable, OSError) as exception:
        raise DataError(f"cannot read {text}: {exception}", FORMATS_HINT) from exception
    if array and kind != "zip":
        raise UsageError(f"{text} has no named arrays", "leave out what follows the colon")
    if kind == "npy":
        return ArraySource(text, read_npy(path)), None
    if kind == "zip":
        name, images = read_npz(path, array)
        source = ArraySource(f"{text}:{name}" if array else text, images)
        return source, targets_beside(path, text, name)
    if kind == "folder":
        listing = list_images(path)
        return _open_folder(text, path, without_folder(listing, path, masks) if masks else listing), None
    if kind not in IMAGES:
        raise _no_image(text, {kind} & set(FOREIGN))
    return FolderSource(f"image {text}", path.parent, {path.name: decoders.PICTURES[kind]}, {}, {}), None


def _open_folder(text: str, path: Path, listing: Listing) -> ImageSource:
    count = len(listing.images) + len(listing.problems)
    if not count:
        raise _no_image(text, set(listing.foreign.values()))
    kinds = {name: decoders.PICTURES[kind] for name, kind in listing.images.items()}
    label = f"folder {text} ({count} image{'s' if count > 1 else ''})"
    return FolderSource(label, path, kinds, listing.problems, listing.foreign)


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


def _read_headers(source: ImageSource, chosen: tuple[int, ...]) -> tuple[dict[int, Shape], list[Skipped]]:
    shapes, skipped = {}, []
    for index in chosen:
        try:
            shapes[index] = source.shape(index)
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
