"""Writing: reports to stdout, chatter to stderr, files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from eqaudit.errors import EqauditError, UsageError
from eqaudit.reporters.base import show
from eqaudit.reporters.console import Style

TEMPORARY_PREFIX = ".eqaudit-"
DEFAULT_WIDTH = 80


class OutputError(EqauditError):
    """The result cannot be written, though it was measured."""


def require_stdout() -> None:
    """Raise UsageError when standard output is closed: a report would be lost without a word."""
    if sys.stdout is None or sys.stdout.closed:
        raise UsageError(
            "standard output is closed: there is nowhere to write",
            "write the report with --json FILE > /dev/null",
        )


def stdout_style() -> Style:
    """Return how to write to standard output: a pipe gets 80 columns (or COLUMNS) and no colour."""
    colour = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    colour = (colour or bool(os.environ.get("FORCE_COLOR"))) and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    return Style(width, colour, sys.stdout.encoding or "ascii")


def write_stdout(text: str) -> None:
    """Write to standard output and flush.

    A closed pipe ends quietly: whoever reads has seen enough, and the code stays the one that the
    audit earned.

    Raises
    ------
    OutputError
        The disk is full or the stream is broken.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout.fileno())
    except OSError as error:
        _silence(sys.stdout.fileno())
        raise OutputError(
            f"standard output cannot be written: {error.strerror}", "free some space, or write elsewhere"
        ) from error


def write_stderr(text: str) -> None:
    """Write a line of chatter; that nobody can read it is no error."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
        sys.stderr.flush()


def write_error(error: EqauditError) -> None:
    """Write an error and what to do next."""
    write_stderr(f"error: {show(error.message)}" + (f"\n  {show(error.hint)}" if error.hint else ""))


def _silence(descriptor: int) -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def check_output(path: str, inputs: tuple[str, ...]) -> None:
    """Make sure, before anything is measured, that a file can be written.

    Raises
    ------
    UsageError
        The folder is missing or cannot be written, the path is a folder or special file, or it is one
        of the inputs.
    """
    target = Path(path)
    try:
        folder = target.resolve().parent
        if target.is_dir():
            raise UsageError(f"{path} is a folder", "name a file in it")
        if not folder.is_dir():
            raise UsageError(f"{path} cannot be written: no folder {folder}", "make the folder first")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise UsageError(f"{path} is no regular file", "name another file")
        if any(Path(name).exists() and target.exists() and target.samefile(name) for name in inputs):
            raise UsageError(
                f"{path} is an input of this audit and would be overwritten", "name another file"
            )
        with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY_PREFIX):
            pass
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"{path} cannot be written: {reason}", "name a file in a folder that you may write to"
        ) from error


def write_file(path: str, content: bytes) -> None:
    """Write a file whole or not at all; an old one stays until the new one is complete.

    Raises
    ------
    OutputError
        The disk is full, or the folder went away.
    """
    target = Path(path).resolve()
    try:
        with _temporary(target.parent) as (descriptor, name):
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fchmod(stream.fileno(), 0o666 & ~_umask())
                os.fsync(stream.fileno())
            Path(name).replace(target)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}", "free some space, or write elsewhere"
        ) from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[int, str]]:
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
    try:
        yield descriptor, name
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
