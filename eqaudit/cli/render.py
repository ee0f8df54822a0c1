"""`eqaudit render`: a saved report as a table and pictures again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eqaudit.cli.audits import Writers, outcome_name, parse_reports
from eqaudit.cli.flags import Csv, Plots, Quiet, Reports
from eqaudit.cli.output import require_stdout, stdout_style, write_stderr, write_stdout
from eqaudit.errors import DataError, ExitCode
from eqaudit.report import Audited, Outcome, from_json
from eqaudit.reporters.terminal import render_report, render_verdict

EXAMPLES = """Examples:

eqaudit render report.json

eqaudit render report.json --plots pictures/ --report markdown=comment.md"""

LARGEST_REPORT = 1 << 30


def render(
    report: Annotated[
        str, typer.Argument(metavar="REPORT", help="A report written by eqaudit check --json.")
    ],
    plots: Plots = None,
    csv: Csv = None,
    reports: Reports = None,
    quiet: Quiet = False,
) -> int:
    """Show a saved report, and write its pictures or other reports; nothing is measured again."""
    require_stdout()
    writers = Writers(plots=plots, csv=csv, reports=parse_reports(reports or []))
    writers.check((report,))
    found = from_json(_read(report), report)
    writers.write(Audited(found))
    writers.write_reports([Outcome(outcome_name(found.model.spec), found)])
    if plots is not None and found.kind == "sweep":
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
