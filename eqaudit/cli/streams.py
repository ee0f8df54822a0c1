"""Standard streams: reports to stdout, chatter to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TextIO

from eqaudit.errors import EqauditError, ExpressionError, UsageError
from eqaudit.job import current_job
from eqaudit.reporters.console import Style
from eqaudit.reporters.escape import LONGEST_TEXT, log_text, shorten, show

DEFAULT_WIDTH = 80


class OutputError(EqauditError):
    """The result cannot be written, though it was measured."""


def require_stdout() -> None:
    """Raise UsageError when standard output is closed, or it is not known which rank speaks for the job.

    A report would be lost without a word.
    """
    current_job()
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


class _Page(io.TextIOWrapper):
    """Collects text that is on its way to standard output, and looks like it."""

    def __init__(self, stdout: TextIO) -> None:
        self.content = io.BytesIO()
        super().__init__(self.content, stdout.encoding, "backslashreplace", write_through=True)
        self._stdout = stdout

    def isatty(self) -> bool:
        """Return whether the text will reach a terminal."""
        return self._stdout.isatty()


@contextlib.contextmanager
def collected_stdout() -> Iterator[None]:
    """Collect what a library prints on standard output, and write it as `write_stdout` does."""
    require_stdout()
    page = _Page(sys.stdout)
    try:
        with contextlib.redirect_stdout(page):
            yield
    finally:
        if page.content.getvalue():
            write_stdout(page.content.getvalue())


def write_stdout(content: str | bytes) -> None:
    """Write to standard output and flush: text in what its encoding has, bytes as they are.

    No line of a text is a command to a CI job that reads it.

    A closed pipe ends quietly: whoever reads has seen enough, and the code stays the one that the
    audit earned.

    Raises
    ------
    UsageError
        Standard output is closed.
    OutputError
        The disk is full or the stream is broken.
    """
    require_stdout()
    if current_job().rank:
        # Of a torchrun job the first rank speaks for all.
        return
    try:
        if isinstance(content, str):
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.write(log_text(content).encode(encoding, "backslashreplace").decode(encoding))
        else:
            sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout.fileno())
    except OSError as error:
        _silence(sys.stdout.fileno())
        raise OutputError(
            f"standard output cannot be written: {error.strerror}", "free some space, or write elsewhere"
        ) from error


def write_stderr(text: str) -> None:
    """Write lines of chatter, none of them a command to a CI job; that nobody can read them is no error."""
    write_command(log_text(text))


def write_command(text: str) -> None:
    """Write a line to standard error as it is: it may be a command to a CI job."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
        sys.stderr.flush()


def write_error(error: EqauditError) -> None:
    """Write an error, the place in a text that it is about, and what to do next."""
    message, hint = (show(shorten(text, LONGEST_TEXT)) for text in (error.message, error.hint))
    lines = [f"error: {message}"]
    if isinstance(error, ExpressionError):
        lines += [f"    {show(error.text)}", f"    {' ' * len(show(error.text[: error.column - 1]))}^"]
    write_stderr("\n".join([*lines, *([f"  {hint}"] if hint else [])]))


def _silence(descriptor: int) -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
