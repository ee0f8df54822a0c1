"""Which files of a folder are images, found by their first bytes; nothing is decoded here."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eqaudit.bounds import BOUNDS
from eqaudit.data.base import Unreadable, open_regular
from eqaudit.errors import DataError

HEAD = 352  # reaches the mark of DICOM (128) and of NIfTI (344)
EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".dib", ".webp"),
    *(".gif", ".jp2", ".heic", ".heif", ".avif", ".ppm", ".pgm", ".mpo", ".fits", ".fit", ".eps", ".svg"),
)
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".vsi", ".czi", ".isyntax")
MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)
IMAGES = ("PNG", "JPEG", "TIFF", "BMP", "WebP")
FOREIGN = ("DICOM", "NIfTI", "whole-slide")


@dataclass(frozen=True, slots=True)
class Listing:
    """Files by name (relative, with ``/``): images by kind, unusable ones by reason, foreign ones by kind."""

    images: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)


def list_images(root: Path) -> Listing:
    """List a folder, without hidden files and without following links to folders or out of it.

    Raises
    ------
    DataError
        A folder cannot be listed, or there are too many files or levels.
    """
    listing = Listing()
    inside = os.path.realpath(root) + os.sep
    for name, path in _walk(root):
        suffix = path.suffix.lower()
        try:
            if path.is_symlink() and not os.path.realpath(path).startswith(inside):
                raise Unreadable("is a link that leads out of the folder")  # noqa: TRY301 - caught with the rest
            kind = recognise(path)
        except (Unreadable, OSError) as exception:
            if suffix in EXTENSIONS:
                listing.problems[name] = getattr(exception, "reason", None) or _reason(exception)
            continue
        if kind in IMAGES:
            listing.images[name] = kind
        elif kind in FOREIGN:
            listing.foreign[name] = kind
        elif suffix in EXTENSIONS:
            listing.problems[name] = "its format is none of PNG, JPEG, TIFF, BMP and WebP"
    return listing


def without_folder(listing: Listing, root: Path, folder: str | Path) -> Listing:
    """Leave out what lies in ``folder``, which may be anywhere, from the listing of ``root``."""
    inside = os.path.relpath(os.path.realpath(folder), os.path.realpath(root)).replace(os.sep, "/") + "/"

    def outside(files: dict[str, str]) -> dict[str, str]:
        return {name: said for name, said in files.items() if not name.startswith(inside)}

    return Listing(outside(listing.images), outside(listing.problems), outside(listing.foreign))


def recognise(path: Path) -> str:
    """Return the kind of a file by its content, "" when unknown; whole-slide files by their extension."""
    with open_regular(path) as handle:
        head = handle.read(HEAD)
    if path.suffix.lower() in SLIDES:
        return "whole-slide"
    if head[128:132] == b"DICM":
        return "DICOM"
    gzipped = head.startswith(b"\x1f\x8b") and path.name.lower().endswith(".nii.gz")
    if gzipped or head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"):
        return "NIfTI"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    return next((kind for magic, kind in MAGIC if head.startswith(magic)), "")


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    waiting, seen = [(root, "", 0)], 0
    while waiting:
        folder, prefix, depth = waiting.pop()
        if depth > BOUNDS.folder_depth:
            raise DataError(
                f"{root} is more than {BOUNDS.folder_depth} folders deep", "give a folder further down"
            )
        try:
            entries = os.scandir(folder)
        except OSError as exception:
            raise DataError(
                f"cannot list {folder}: {_reason(exception)}", "check its permissions"
            ) from exception
        with entries:
            for entry in entries:
                seen += 1
                if seen > BOUNDS.folder_entries:
                    raise DataError(
                        f"{root} holds more than {BOUNDS.folder_entries:,} files and folders",
                        "give a folder further down",
                    )
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), f"{prefix}{entry.name}/", depth + 1))
                # Of a link that leads to itself `DirEntry.is_dir` raises an error.
                elif not Path(entry.path).is_dir():
                    yield prefix + entry.name, Path(entry.path)


def _reason(exception: Exception) -> str:
    return str(getattr(exception, "strerror", None) or exception)
