"""Where the truth of the images is: what the options name, else what came with the images."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqaudit.data import decoders
from eqaudit.data.arrays import read_npy, read_targets
from eqaudit.data.base import ImageSource, Shape, Truth, Unreadable
from eqaudit.data.builtin import BuiltinSource
from eqaudit.data.folder import FolderSource
from eqaudit.data.labels import csv_truth, folder_truth
from eqaudit.data.listing import list_images, recognise, without_folder
from eqaudit.data.masks import MaskReader, check_mask_size
from eqaudit.data.pairing import pair
from eqaudit.data.targets import LABELS, MASKS, Targets, array_truth
from eqaudit.errors import DataError, UsageError
from eqaudit.plan import TruthOptions

FOLDERS = "folders"
LABELS_HINT = "--labels takes folders, a CSV file with the header file,label, a .npy file, or FILE.npz:ARRAY"
MASKS_HINT = "--masks takes a folder of label images, named as the images but for the suffix"


def open_truth(
    source: ImageSource, options: TruthOptions, needed: Mapping[int, Shape], came: Targets | None
) -> Truth | None:
    """Find the truth of the images; None when there is none, for nothing is guessed.

    Parameters
    ----------
    source
        All images.
    options
        Where labels or masks are; this comes before ``came``.
    needed
        Shapes ``(C, H, W)``, by index, of the images whose truth will be read. All of them are paired and
        their masks sized here; mask pixels are read later.
    came
        Targets that came with the images.

    Raises
    ------
    DataError
        The truth is missing, damaged or does not fit the images.
    UsageError
        The options contradict each other or the kind of data.
    """
    truth = _open(source, options, needed, came)
    changed = options.mask_values != "index" or options.ignore_index is not None
    if changed and (truth is None or truth.kind != "masks"):
        raise UsageError("--mask-values and --ignore-index need masks, and there are none", MASKS_HINT)
    if truth is not None and came is not None and (options.labels or options.masks):
        truth.notes.add(f"{came.where} not used")
    return truth


def targets_beside(path: Path, text: str, images: str) -> Targets | None:
    """Read ``masks``, else ``labels``, from the archive whose array ``images`` holds the images."""
    found = read_targets(path, tuple({"labels", "masks"} - {images}))
    if "masks" in found:
        note = f"{text}:labels not used, the masks are" if "labels" in found else ""
        return Targets(f"{text}:masks", found["masks"], MASKS, note)
    return Targets(f"{text}:labels", found["labels"], LABELS) if found else None


def _open(
    source: ImageSource, options: TruthOptions, needed: Mapping[int, Shape], came: Targets | None
) -> Truth | None:
    if options.labels and options.masks:
        raise UsageError("--labels and --masks contradict each other", "give one of them")
    if (options.masks or options.labels == FOLDERS) and not isinstance(source, FolderSource):
        option = "--masks" if options.masks else "--labels folders"
        raise UsageError(
            f"{option} needs image files in folders, and the data is {source.label}",
            "save the arrays labels or masks beside images in one .npz file, or give --labels FILE.npy",
        )
    if isinstance(source, FolderSource):
        if options.masks:
            return _mask_files(source, options, needed)
        if options.labels == FOLDERS:
            return folder_truth(source.names)
    reader = MaskReader(options)
    if options.labels:
        return _label_file(source, options.labels, needed, reader)
    return None if came is None else array_truth(came, source.names, needed, reader)


def _mask_files(source: FolderSource, options: TruthOptions, needed: Mapping[int, Shape]) -> Truth:
    root = Path(options.masks)
    masks = _open_masks(root, source)
    pairs = pair(source.names, needed, masks.names, str(root))
    reader = MaskReader(options)
    reader.notes.add(f"masks from {root}, moved with their images (nearest neighbour)")
    if any(masks.names[mask].lower().endswith((".jpg", ".jpeg")) for mask in pairs.values()):
        reader.notes.add("some masks are JPEG, which changes values")

    def place(index: int) -> str:
        return str(root / masks.names[pairs[index]])

    def read(index: int) -> NDArray[np.int64]:
        with _unreadable(place(index)):
            pixels = masks.read(pairs[index])
        reader.notes.update(f"masks: {note}" for note in masks.notes)
        return reader.read(source.names[index], place(index), pixels)

    for index, shape in needed.items():
        with _unreadable(place(index)):
            size = masks.shape(pairs[index])[1:]
        check_mask_size(source.names[index], shape, place(index), size)
    return Truth("masks", read, place, reader.notes)


def _open_masks(root: Path, source: FolderSource) -> FolderSource:
    if not root.is_dir():
        said = "is no folder" if root.exists() else "does not exist"
        raise DataError(f"--masks {root} {said}", MASKS_HINT)
    if os.path.realpath(root) == os.path.realpath(source.root):
        raise UsageError(f"--masks {root} is the folder of the images", "keep masks in a folder of their own")
    # An image must not become its own mask where the data lies inside the folder of the masks.
    listing = without_folder(list_images(root), root, source.root)
    kinds = {name: decoders.MASKS[kind] for name, kind in listing.images.items()}
    masks = FolderSource(str(root), root, kinds, listing.problems, {})
    if not masks.names:
        raise DataError(f"--masks {root} holds no image", MASKS_HINT)
    return masks


@contextmanager
def _unreadable(place: str) -> Iterator[None]:
    try:
        yield
    except Unreadable as exception:
        raise DataError(
            f"cannot read the mask {place}: {exception.reason}", "save it as PNG, or leave its image out"
        ) from exception


def _label_file(source: ImageSource, text: str, needed: Mapping[int, Shape], reader: MaskReader) -> Truth:
    before, _, after = text.rpartition(":")
    path, array = (Path(before), after) if before and not Path(text).exists() else (Path(text), "")
    try:
        kind = recognise(path)
    except (Unreadable, OSError) as exception:
        raise DataError(f"cannot read --labels {text}: {exception}", LABELS_HINT) from exception
    if array and kind != "zip":
        raise UsageError(f"--labels {path} has no named arrays", "leave out what follows the colon")
    if kind not in ("npy", "zip"):
        return csv_truth(path, source.names, needed)
    if isinstance(source, (FolderSource, BuiltinSource)):
        raise UsageError(
            f"--labels {text} has no names of images, and the data is {source.label}",
            "give a CSV file with the header file,label",
        )
    if kind == "npy":
        return array_truth(Targets(text, read_npy(path, images=False), LABELS), source.names, needed, reader)
    name = array or "labels"
    found = read_targets(path, (name,))
    if not found:
        raise DataError(f"{path} holds no array {name}", LABELS_HINT)
    return array_truth(Targets(f"{path}:{name}", found[name], LABELS), source.names, needed, reader)
