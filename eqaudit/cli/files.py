"""Files: checked before anything is measured, written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from eqaudit.cli.drawing import load_matplotlib
from eqaudit.cli.streams import OutputError
from eqaudit.comparison import LETTERS, Comparison
from eqaudit.errors import UsageError
from eqaudit.report import Audited, Report, to_json

TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".eqaudit-", ".tmp"


def check_output(path: str, inputs: tuple[str, ...], option: str = "--json") -> None:
    """Make sure, before anything is measured, that a file can be written.

    Raises
    ------
    UsageError
        The folder is missing or cannot be written, the path is a folder or special file, or it is one
        of the inputs.
    """
    if not path:
        raise UsageError(f"{option} is empty", "name a file")
    target = Path(path)
    with _told(path, "name a file in a folder that you may write to"):
        folder = target.resolve().parent
        if target.is_dir():
            raise UsageError(f"{path} is a folder", "name a file in it")
        if not folder.is_dir():
            raise UsageError(f"{path} cannot be written: no folder {folder}", "make the folder first")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise UsageError(f"{path} is no regular file", "name another file")
        if any(_is_same(target, Path(name)) for name in inputs):
            raise UsageError(
                f"{path} is an input of this audit and would be overwritten", "name another file"
            )
        if target.exists() and not _may_replace(target.resolve()):
            raise UsageError(f"{path} belongs to somebody else, in a sticky folder", "name another file")
        _require_writable(folder)


def resolve_output(path: str) -> Path:
    """Return which file a path is, links followed; raises UsageError for text that can be no path."""
    with _told(path, "name another file"):
        return Path(path).resolve()


@contextlib.contextmanager
def _told(path: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path} cannot be written: {reason}", hint) from error


def _is_same(path: Path, other: Path) -> bool:
    """Return whether two paths are, or will be, one file."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def _may_replace(target: Path) -> bool:
    """Return whether the sticky bit of a folder, as that of /tmp, lets us replace a file in it."""
    folder = target.parent.stat()
    owners = {target.stat().st_uid, folder.st_uid}
    return not folder.st_mode & stat.S_ISVTX or os.geteuid() in {0, *owners}


def check_folder(path: str) -> None:
    """Make sure, before anything is measured, that pictures can be drawn and written into a folder.

    Raises
    ------
    UsageError
        The path is no folder and none can be made there, or it cannot be written.
    ImportError
        Matplotlib is missing.
    """
    if not path:
        raise UsageError("--plots is empty", "name a folder, . for this one")
    folder = Path(path)
    with _told(path, "name a folder that you may write to"):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{path} is a file, not a folder", "name a folder")
        place = folder if folder.exists() else folder.resolve().parent
        if not place.is_dir():
            raise UsageError(f"{path} cannot be made: no folder {place}", "make that folder first")
        _require_writable(place)
    load_matplotlib()


def write_pictures(folder: str, audited: Audited) -> None:
    """Draw the pictures of a report into a folder, which is made when it is missing."""
    # Drawing costs a second to import, and few commands draw.
    from eqaudit.reporters.pictures import draw, draw_seen  # noqa: PLC0415

    if audited.features is not None:
        pictures = draw_seen(audited.report, audited.features)
    else:
        pictures = draw(audited.report, audited.panel, audited.actions)
    write_drawn(folder, pictures)


def write_drawn(folder: str, pictures: Mapping[str, bytes]) -> None:
    """Write pictures by file name into a folder, which is made when it is missing."""
    try:
        Path(folder).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}", "name another folder") from error
    for name, picture in pictures.items():
        write_file(str(Path(folder) / name), picture)


def per_image_path(path: str, letter: str = "") -> str:
    """Return where the values of single images go when a report, of one of several models, has many."""
    return f"{path}.{letter}.per-image.npz" if letter else f"{path}.per-image.npz"


def write_report(path: str, report: Report) -> None:
    """Write a report as JSON; many values of single images go into FILE.per-image.npz."""
    write_file(path, to_json(_without_values(path, report)))


def write_comparison(path: str, comparison: Comparison) -> None:
    """Write a comparison as JSON, likewise; each model has an archive of its own, FILE.A.per-image.npz."""
    reports = [
        _without_values(path, report, letter)
        for letter, report in zip(LETTERS, comparison.reports, strict=False)
    ]
    write_file(path, to_json(msgspec.structs.replace(comparison, reports=reports)))


def _without_values(path: str, report: Report, letter: str = "") -> Report:
    """Write the values of single images beside a report where they are many; return the report without."""
    from eqaudit.reporters.per_image import split_per_image  # noqa: PLC0415 - numpy, only when a file is written

    beside = per_image_path(path, letter)
    report, values = split_per_image(report, Path(beside).name)
    if values is not None:
        write_file(beside, values)
    return report


def write_file(path: str, content: bytes) -> None:
    """Write a file whole or not at all; an old one stays until the new one is complete.

    A symbolic link is followed: its target is renewed, and the link stays. Of a hard link only this name
    gets the new content. The mode is that of any new file, whatever the old one had.

    Raises
    ------
    OutputError
        The disk is full, or the folder went away.
    """
    target = Path(path).resolve()
    try:
        with _temporary(target.parent) as (descriptor, name):
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(content)
            os.fchmod(descriptor, 0o666 & ~_umask())
            os.fsync(descriptor)
            Path(name).replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}", "free some space, or write elsewhere"
        ) from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[int, str]]:
    """Make a file that is locked while it is in use, so that `_sweep` of another run leaves it alone."""
    name = ""
    while not name:
        descriptor, name = tempfile.mkstemp(TEMPORARY_SUFFIX, TEMPORARY_PREFIX, folder)
        # Where there are no locks nothing is ever swept.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.fstat(descriptor).st_nlink:
            # Swept before it was locked.
            os.close(descriptor)
            name = ""
    try:
        yield descriptor, name
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(descriptor)


def _require_writable(folder: Path) -> None:
    """Make a file as a report is made, and remove what a killed run has left; raises OSError."""
    with _temporary(folder):
        _sweep(folder)


def _sweep(folder: Path) -> None:
    """Remove temporary files whose run is dead: nobody holds their lock."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}????????{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    # The file is whole already; this is for the name, and some file systems cannot.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
