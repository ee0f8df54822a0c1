"""Several checks as one table, and the details of those that did not pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from rich.table import Table
from rich.text import Text

from eqaudit.holding import NOTHING
from eqaudit.report import Gate, Outcome, Report
from eqaudit.reporters.console import Style, render
from eqaudit.reporters.escape import show
from eqaudit.reporters.terminal import render_report, render_verdict
from eqaudit.verdict import format_error

STYLES = {"PASSED": "bold green", "FAILED": "bold red", "UNDECIDED": "bold yellow", "NOT RUN": "bold red"}


def render_outcomes(outcomes: Sequence[Outcome], heading: str, style: Style, *, quiet: bool) -> str:
    """Return the table of all checks, then the report (when quiet, the verdict) of each that did not pass."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("check", "model", "holds"):
        table.add_column(name, overflow="fold")
    table.add_column("largest error", justify="right")
    table.add_column("result", no_wrap=True)
    details = []
    for outcome in outcomes:
        result = _result(outcome)
        table.add_row(show(outcome.name), *_row(outcome.report), Text(result, style=STYLES[result]))
        if result != "PASSED":
            title = render([Text(f"{show(outcome.name)}  {show(outcome.error)}", style="bold")], style)
            details.append(title + _details(outcome.report, style, quiet=quiet))
    return "\n".join([render([Text(show(heading)), "", table], style), *details])


def _row(report: Report | None) -> tuple[str, str, str]:
    if report is None:
        return "-", "-", "-"
    holds = report.verdict.holds if report.verdict else NOTHING
    errors = [error.error for error in report.gating_output.errors if error.error is not None]
    name = show(PurePath(report.model.spec).name)
    return name, "nothing" if holds == NOTHING else holds, format_error(max(errors, default=None))


def _result(outcome: Outcome) -> str:
    gate = outcome.report.gate if outcome.report else None
    if gate is None:
        return "NOT RUN"
    return "PASSED" if gate.passed else "UNDECIDED" if _undecided(gate) else "FAILED"


def _undecided(gate: Gate) -> bool:
    return all(check.undecided for check in gate.checks if not check.passed)


def _details(report: Report | None, style: Style, *, quiet: bool) -> str:
    if report is None:
        return ""
    return (render_verdict if quiet else render_report)(report, style)
