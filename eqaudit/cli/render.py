"""`eqaudit render`: a saved report as a table and pictures again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eqaudit.cli.flags import Plots, Quiet
from eqaudit.cli.output import (
    check_folder,
    require_stdout,
    stdout_style,
    write_pictures,
    write_stderr,
    write_stdout,
)
from eqaudit.errors import DataError, ExitCode
from eqaudit.report import Audited, from_json
from eqaudit.reporters.terminal import render_report, render_verdict

EXAMPLES = """Examples:

eqaudit render report.json

eqaudit render report.json --plots pictures/"""

LARGEST_REPORT = 1 << 30


def render(
    report: Annotated[
        str, typer.Argument(metavar="REPORT", help="A report written by eqaudit check --json.")
    ],
    plots: Plots = None,
    quiet: Quiet = False,
) -> int:
    """Show the table of a saved report, and draw its pictures with --plots; nothing is measured again."""
    require_stdout()
    if plots is not None:
        check_folder(plots)
    found = from_json(_read(report), report)
    if plots is not None:
        write_pictures(plots, Audited(found))
        if found.kind == "sweep":
            write_stderr("worst.png needs the model and its images: only sweep-angles --plots draws it")
    write_stdout((render_verdict if quiet else render_report)(found, stdout_style()))
    return ExitCode.PASSED


def _read(path: str) -> bytes:
    file = Path(path)
    try:
        if not file.is_file():
            raise DataError(f"no such report: {path}", "write one with eqaudit check MODEL --json FILE")
        if file.stat().st_size > LARGEST_REPORT:
            raise DataError(f"{path} is too large for a report", "give the JSON file of eqaudit check --json")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check its permissions") from error
