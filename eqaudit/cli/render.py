"""`eqaudit render`: a saved report as a table and pictures again."""

from __future__ import annotations

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
from eqaudit.cli.saved import read_report
from eqaudit.errors import ExitCode
from eqaudit.report import Audited
from eqaudit.reporters.terminal import render_report, render_verdict

EXAMPLES = """Examples:

eqaudit render report.json

eqaudit render report.json --plots pictures/"""


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
    found = read_report(report)
    if plots is not None:
        write_pictures(plots, Audited(found))
        if found.kind == "sweep":
            write_stderr("worst.png needs the model and its images: only sweep-angles --plots draws it")
    write_stdout((render_verdict if quiet else render_report)(found, stdout_style()))
    return ExitCode.PASSED
