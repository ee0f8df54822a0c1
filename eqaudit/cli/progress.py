"""Progress on a terminal's stderr, and what the model prints when it is asked for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from eqaudit.cli.streams import write_stderr
from eqaudit.reporters.escape import show
from eqaudit.worker import OnOutput, OnProgress
from eqaudit.worker import Progress as Event


class _Rate(ProgressColumn):
    """Images in one pose that are measured in a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, empty until it is known."""
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s", style="progress.data.speed")


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[OnProgress]:
    """Show progress while the block runs; nothing in a pipe, on a dumb terminal or when quiet."""
    if quiet or sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _ignore
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda event: bar.update(
            task, description=event.stage, completed=event.done, total=event.total or None
        )


@contextlib.contextmanager
def model_output(*, verbose: bool) -> Iterator[OnOutput]:
    """Take what the model prints while the block runs: escaped line by line on stderr, or nowhere."""
    if not verbose:
        yield _drop
        return
    rest = ""

    def echo(text: str) -> None:
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            _echo(line)

    try:
        yield echo
    finally:
        if rest:
            _echo(rest)


def _ignore(_event: Event) -> None:
    pass


def _drop(_text: str) -> None:
    pass


def _echo(line: str) -> None:
    write_stderr(f"model: {show(line)}")
