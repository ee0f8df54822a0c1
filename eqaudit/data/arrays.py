"""Arrays in .npy and .npz files; what a header declares is checked before anything is read."""

import io
import math
import mmap
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from eqaudit.bounds import BOUNDS
from eqaudit.data.base import Pixels, Shape, check_dtype, open_regular
from eqaudit.errors import DataError, EqauditError
from eqaudit.pythonspec import one_line

SHAPE_HINT = "expected (N,C,H,W) or (N,H,W), or integers of shape (N,H,W,C)"
COLOURS = (1, 3, 4)


class ArraySource:
    """Images along the first axis; float arrays are ``ready``, integers and bools are images.

    Raises
    ------
    DataError
        The array holds no numbers or no image, or has no shape of images; ``where`` names it.
    """

    sized = True

    def __init__(self, where: str, array: Pixels) -> None:
        check_dtype(where, array.dtype)
        _check_shape(where, array.shape)
        self.label = f"{where} ({len(array)} arrays)"
        self.names = tuple(f"{number:0{max(4, len(str(len(array) - 1)))}d}" for number in range(len(array)))
        self.ready = array.dtype.kind == "f"
        self.notes: set[str] = set()
        self._images = _channels_first(array, integers=not self.ready)
        self._file = _mapped(array)

    def shape(self, index: int) -> Shape:
        """Return ``(C, H, W)``, the same for every index."""
        channels, height, width = self._images[index].shape
        return channels, height, width

    def read(self, index: int) -> Pixels:
        """Return floats as ``(C, H, W)``, integers as ``(H, W, C)``, in the machine's byte order."""
        image = self._images[index]
        image = image.astype(image.dtype.newbyteorder("="), copy=self._file is not None)
        if self._file is not None:
            # What was read of a file would count as memory of this process.
            self._file.madvise(mmap.MADV_DONTNEED)
        return image if self.ready else np.moveaxis(image, 0, -1)


def read_npy(path: Path, *, images: bool = True) -> Pixels:
    """Map a .npy file into memory, after checking that it holds what its header declares.

    With ``images`` its shape must be one of images.
    """
    with _damage_in(str(path)):
        with open_regular(path) as handle:
            _check_declared(str(path), handle, os.fstat(handle.fileno()).st_size, images=images)
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def read_npz(path: Path, wanted: str) -> tuple[str, Pixels]:
    """Read one array of an archive; return its name and the array.

    It is ``wanted``, else ``images``, else the only one of 3 or 4 dimensions.
    """
    with _archive(path) as (archive, members):
        name = _choose(path, archive, members, wanted)
        return name, _read_member(path, archive, name, images=True)


def read_targets(path: Path, wanted: tuple[str, ...]) -> dict[str, Pixels]:
    """Read those of the ``wanted`` arrays that an archive holds, of whatever shape."""
    with _archive(path) as (archive, members):
        names = {member.filename for member in members}
        return {
            name: _read_member(path, archive, name, images=False) for name in wanted if f"{name}.npy" in names
        }


@contextmanager
def _archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    with _damage_in(str(path)), open_regular(path) as handle, zipfile.ZipFile(handle) as archive:
        members = archive.infolist()
        _check_members(path, members, os.fstat(handle.fileno()).st_size)
        yield archive, members


def _check_members(path: Path, members: list[zipfile.ZipInfo], packed: int) -> None:
    """Refuse what numpy.savez does not write, and what unpacks to too much."""
    names = Counter(member.filename for member in members)
    for name, count in names.items():
        if count > 1 or not name.endswith(".npy") or name.startswith("/") or ".." in name.split("/"):
            said = f"{name} {count} times" if count > 1 else f"{name}, which names no array"
            raise DataError(f"{path} holds {said}", "save the archive again with numpy.savez")
    total = sum(member.file_size for member in members)
    most = BOUNDS.exceeded(total, packed, BOUNDS.npz_bytes)
    if most:
        raise DataError(
            f"{path} is too large: it unpacks to {total:,} bytes, more than {most}", "save one array as .npy"
        )


def _read_member(path: Path, archive: zipfile.ZipFile, name: str, *, images: bool) -> Pixels:
    with archive.open(name + ".npy") as member:
        size = archive.getinfo(name + ".npy").file_size
        _check_declared(f"{path}:{name}", member, size, images=images)
    with archive.open(name + ".npy") as member:
        return npy.read_array(member, allow_pickle=False)


def _choose(path: Path, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], wanted: str) -> str:
    names = [member.filename.removesuffix(".npy") for member in members]
    listed = ", ".join(names[:10]) or "no array"
    if wanted in names:
        return wanted
    if wanted:
        raise DataError(
            f"{path} holds no array {wanted}; it holds {listed}", f"for example {path}:{listed.split(',')[0]}"
        )
    if "images" in names:
        return "images"
    found = []
    for member in members:
        with archive.open(member) as handle:
            shape, _, _ = _header(handle)
        if len(shape) in (3, 4):
            found.append(member.filename.removesuffix(".npy"))
    if len(found) != 1:
        raise DataError(
            f"{path} does not say which array holds the images: {listed}", f"add its name: {path}:NAME"
        )
    return found[0]


def _header(handle: BinaryIO | Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape, type and where the numbers begin."""
    # NumPy reads as much as the header says that it is long, up to 4 GiB, before it looks at it.
    head = io.BytesIO(handle.read(BOUNDS.array_header_bytes))
    version = npy.read_magic(head)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"npy version {version[0]}.{version[1]}, expected 1.0 or 2.0")
    shape, _, dtype = read(head)
    return shape, dtype, head.tell()


def _check_declared(where: str, handle: BinaryIO | Any, size: int, *, images: bool) -> None:
    shape, dtype, start = _header(handle)
    check_dtype(where, dtype)
    if images:
        _check_shape(where, shape)
    declared = math.prod(shape) * dtype.itemsize
    if declared > size - start:
        raise DataError(
            f"{where} declares {declared:,} bytes, the file has {size - start:,}",
            "the file is cut short",
        )


def _check_shape(where: str, shape: tuple[int, ...]) -> None:
    said = "x".join(map(str, shape)) or "()"
    if len(shape) not in (3, 4):
        raise DataError(f"{where} has {len(shape)} dimensions ({said[:60]})", SHAPE_HINT)
    if min(shape) < 1:
        raise DataError(f"{where} holds no image: its shape is {said}", SHAPE_HINT)
    if shape[0] > BOUNDS.array_images:
        raise DataError(
            f"{where} holds {shape[0]:,} images, the limit is {BOUNDS.array_images:,}", "save a part of them"
        )


def _channels_first(array: Pixels, *, integers: bool) -> Pixels:
    if array.ndim == 3:  # noqa: PLR2004 - (N, H, W)
        return array[:, np.newaxis]
    if integers and array.shape[1] not in COLOURS and array.shape[3] in COLOURS:
        return np.moveaxis(array, -1, 1)
    return array


def _mapped(array: object) -> mmap.mmap | None:
    """Return the file that an array shows, where the system can let go of its pages."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") else None


@contextmanager
def _damage_in(where: str) -> Iterator[None]:
    try:
        yield
    except EqauditError:
        raise
    except Exception as exception:
        # A damaged header makes numpy and zipfile raise nearly anything: TokenError, zlib.error, ...
        raise DataError(
            f"{where} is damaged: {one_line(exception)}", "save it again with numpy.save"
        ) from exception
