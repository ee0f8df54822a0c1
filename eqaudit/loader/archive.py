"""The one strict reader: a model file is read once, checked whole, and handed on as a fresh archive.

``torch.jit.load`` checks neither checksums nor storage lengths and looks entries up without regard to case;
``torch.export.load`` unpickles and evaluates what it finds. So torch never sees the file, only the bytes that
`read_model_file` wrote after every check.
"""

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.kinds import (
    AGAIN,
    EXPORT_AGAIN,
    WAY_OUT,
    Finding,
    describe,
    describe_pickle,
    describe_samples,
    describe_zip,
    is_exported,
    is_zip,
)
from eqaudit.loader.payloads import SAMPLES, check_contents, check_names
from eqaudit.loader.storages import check_pickle
from eqaudit.loader.zipped import Entry, read_directory, unpack_entry

_HEAD_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that passed every check.

    Parameters
    ----------
    kind
        Found from the content, never from the name.
    sha256
        Of the file as it lay on disk, in hexadecimal.
    content
        A fresh archive of the checked entries, stored, in their order: the only bytes for torch.
    """

    kind: Literal["torchscript", "exported"]
    sha256: str
    content: bytes


def read_model_file(path: str) -> ModelFile:
    """Read a model file once, check all of it, and return what torch may see.

    Parameters
    ----------
    path
        A regular file (links are followed).

    Raises
    ------
    ModelError
        The file is missing, no regular file, too large, of another kind, or damaged; it says which and what
        to do next.
    """
    try:
        data = read_bytes(path, _refuse)
        entries = read_directory(data)
        kind, content = _check_archive(data, entries)
    except ModelError as error:
        raise ModelError(f"{path}: {error.message}", error.hint or AGAIN) from error
    except MemoryError as error:
        raise ModelError(f"{path}: too large for the memory of this machine", WAY_OUT) from error
    return ModelFile(kind, hashlib.sha256(data).hexdigest(), content)


def _refuse(head: bytes, size: int) -> Finding | None:
    return None if is_zip(head) else describe(head, size)


def read_bytes(path: str, refuse: Callable[[bytes, int], Finding | None] = _refuse) -> bytearray:
    """Read a regular file of a bounded size once, into memory.

    Parameters
    ----------
    path
        Links are followed; a device or a FIFO is not opened.
    refuse
        Looks at the first bytes and the size before the rest is read; says what the file is when it is not
        wanted.

    Raises
    ------
    ModelError
        The file is missing, no regular file, empty, too large, or not wanted.
    """
    try:
        # Looking before opening: to open a device can already do something.
        _check_regular(Path(path).stat().st_mode)
        # Without O_NONBLOCK a FIFO put there meanwhile would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            _check_regular(status.st_mode)
            return _read_open(file, status.st_size, refuse)
    except FileNotFoundError:
        raise ModelError(
            "no such file", "check the path; a Python model is given as file.py:factory"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ModelError(
            f"cannot be read: {reason or error}", "check the path and its permissions"
        ) from error


def _check_regular(mode: int) -> None:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    if not stat.S_ISREG(mode):
        kind = kinds.get(stat.S_IFMT(mode), "something else")
        raise ModelError(f"is {kind}, not a regular file", "give the path of a model file")


def _read_open(
    file: io.FileIO, size: int, refuse: Callable[[bytes, int], Finding | None] = _refuse
) -> bytearray:
    if size == 0:
        raise ModelError("the file is empty", AGAIN)
    if size > BOUNDS.model_bytes:
        raise ModelError(f"too large: {size} bytes, limit {BOUNDS.model_bytes}", WAY_OUT)
    data = bytearray(size)
    view = memoryview(data)
    done = _fill(file, view[:_HEAD_BYTES])
    finding = refuse(bytes(view[:done]), size)
    if finding:
        raise ModelError(*finding)
    done += _fill(file, view[done:])
    if done != size or file.read(1):
        raise ModelError("the file changed while it was read", "try again when nothing writes to it")
    return data


def _fill(file: io.FileIO, view: memoryview) -> int:
    done = 0
    while done < len(view) and (count := file.readinto(view[done:])):
        done += count
    return done


def _check_archive(data: bytearray, entries: list[Entry]) -> tuple[Literal["torchscript", "exported"], bytes]:
    files = {entry.name.partition("/")[2]: entry for entry in entries if not entry.is_folder}
    folded = {name.lower(): name for name in files}
    if is_exported(folded):
        check_names(folded)
        return "exported", _write(files, _check_exported(data, files))
    finding = describe_zip(folded)
    if finding:
        raise ModelError(*finding)
    return "torchscript", _write(files, _check_torchscript(data, files))


def _write(files: dict[str, Entry], contents: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a fresh archive of checked contents, stored."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents:
            # A fixed date: the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(files[name].name, (1980, 1, 1, 0, 0, 0)), content)
    return output.getvalue()


def _check_exported(data: bytearray, files: dict[str, Entry]) -> Iterator[tuple[str, bytes]]:
    """Check every entry of an exported program and yield those that torch may see."""
    contents = {name: unpack_entry(data, entry) for name, entry in files.items()}
    _check_samples(bytearray(contents[SAMPLES]))
    yield from check_contents(contents).items()


def _check_samples(data: bytearray) -> None:
    """Refuse sample inputs that name what is no tensor: never read, but no export writes that."""
    for entry in read_directory(data) if data else ():
        readable = entry.name.endswith(".pkl") and entry.size <= BOUNDS.pickle_bytes
        found = describe_samples(unpack_entry(data, entry)) if readable else None
        if found:
            message = f"{SAMPLES} holds pickled objects ({found[:80]}): refused, nothing is unpickled"
            raise ModelError(message, EXPORT_AGAIN)


def _check_torchscript(data: bytearray, files: dict[str, Entry]) -> Iterator[tuple[str, bytes]]:
    """Check every entry of a TorchScript archive and yield those that torch may see."""
    if "constants.pkl" not in files and not any(name.startswith("code/") for name in files):
        raise ModelError(*_describe_checkpoint(data, files))
    for name in ("data.pkl", "constants.pkl"):
        if name not in files:
            raise ModelError(f"damaged TorchScript archive: {name} is missing", WAY_OUT)
    sizes = {name: entry.size for name, entry in files.items()}
    for name, entry in files.items():
        content = unpack_entry(data, entry)
        if name.lower().startswith("traced_inputs"):
            # Example inputs, saved without their values: read, they would be memory past a storage.
            continue
        _check_record(name, content, sizes)
        yield name, content


def _describe_checkpoint(data: bytearray, files: dict[str, Entry]) -> tuple[str, str]:
    entry = files.get("data.pkl")
    if entry is None or entry.size > BOUNDS.pickle_bytes:
        return "is a checkpoint of torch.save: refused, nothing is unpickled", WAY_OUT
    return describe_pickle(unpack_entry(data, entry)[:_HEAD_BYTES])


def _check_record(name: str, content: bytes, sizes: dict[str, int]) -> None:
    if name in {"data.pkl", "constants.pkl"} or name.endswith(".debug_pkl"):
        check_pickle(name, content, sizes)
    record = name.lower().removeprefix(".data/")
    if record == "byteorder" and content != b"little":
        raise ModelError("byteorder is not little: weights of another byte order are not read")
    if record == "version" and not (content.strip().isdigit() and len(content) < 8):  # noqa: PLR2004
        raise ModelError("version is no number")
