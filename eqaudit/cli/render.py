"""`eqaudit render`: a saved report as a table and pictures again."""

from __future__ import annotations

from typing import Annotated

import typer

from eqaudit.cli.audits import Writers, outcome_name, parse_reports
from eqaudit.cli.compare import write
from eqaudit.cli.flags import Csv, Plots, Quiet, Reports
from eqaudit.cli.saved import read_saved
from eqaudit.cli.streams import require_stdout, stdout_style, write_stderr, write_stdout
from eqaudit.comparison import Comparison
from eqaudit.errors import ExitCode, UsageError
from eqaudit.report import Audited, Outcome
from eqaudit.reporters.terminal import render_report, render_verdict

EXAMPLES = """Examples:

eqaudit render report.json

eqaudit render report.json --plots pictures/ --report markdown=comment.md"""


def render(
    report: Annotated[
        str,
        typer.Argument(
            metavar="REPORT", help="A report written by --json of check, sweep-angles or compare."
        ),
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
    found = read_saved(report)
    if isinstance(found, Comparison):
        if reports:
            raise UsageError("--report is on one audit, and this is a comparison", "leave --report out")
        write(found, writers, quiet=quiet)
        if plots is not None and any(part.layers for part in found.reports):
            write_stderr("features.png needs the models and an image: only compare --plots draws it")
        return ExitCode.PASSED
    writers.write(Audited(found))
    writers.write_reports([Outcome(outcome_name(found.model.spec), found)])
    if plots is not None and found.kind == "sweep":
        write_stderr("worst.png needs the model and its images: only sweep-angles --plots draws it")
    write_stdout((render_verdict if quiet else render_report)(found, stdout_style()))
    return ExitCode.PASSED
