"""A job of GitHub Actions: annotations of what failed, and the summary of the job."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from eqaudit.cli.streams import write_command, write_stderr
from eqaudit.gate import incomplete
from eqaudit.report import Outcome
from eqaudit.reporters.base import check_result, gate_checks, is_judged
from eqaudit.reporters.escape import show, workflow_command
from eqaudit.reporters.markdown import render_markdown

MOST_SHOWN = 10
"""Annotations of one kind that GitHub shows of a step."""
LARGEST_SUMMARY = 1 << 20


def tell_github(outcomes: Sequence[Outcome]) -> None:
    """Annotate what failed and add to the job's summary, where a job of GitHub Actions runs.

    Annotations go to standard error, which the runner reads as it reads standard output: a report on
    standard output stays whole. Nothing here ever fails an audit.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    for line in annotate(outcomes):
        write_command(line)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            _append(Path(summary), render_markdown(outcomes))
        except (OSError, ValueError) as error:
            write_stderr(f"the summary of the job could not be written: {show(str(error))}")


def annotate(outcomes: Sequence[Outcome]) -> list[str]:
    """Return workflow commands: errors for what fails the job, warnings for the rest, ten of each kind."""
    found = list(_problems(outcomes))
    lines = []
    for kind in ("error", "warning"):
        rows = [(title, message) for other, title, message in found if other == kind]
        if len(rows) > MOST_SHOWN:
            more = len(rows) - MOST_SHOWN + 1
            rows[MOST_SHOWN - 1 :] = [("eqaudit", f"and {more} more: see the summary of the job")]
        lines += [workflow_command(kind, title, message) for title, message in rows]
    return lines


def _problems(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str, str]]:
    for outcome in outcomes:
        title = f"eqaudit: {outcome.name}"
        if outcome.report is None:
            yield "error", title, f"the audit could not run: {outcome.error}"
            continue
        kind = "error" if is_judged(outcome.report) else "warning"
        for check in gate_checks(outcome.report):
            if not check.passed:
                yield kind, f"{title}: {check.name} {check_result(check)}", check.reason
        missing = incomplete(outcome.report)
        if missing:
            yield "warning", f"{title}: incomplete", "; ".join(missing)


def _append(file: Path, content: bytes) -> None:
    """Append to a regular file; not to a pipe, which would wait for a reader."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags, 0o644), "ab") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{file} is no regular file")
        if status.st_size + len(content) > LARGEST_SUMMARY:
            raise ValueError("with it, the summary would exceed the 1 MiB that GitHub takes")
        stream.write(content)
