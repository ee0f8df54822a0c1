"""What every auditing command does: check where to write, measure in the worker, write, end with a code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from eqaudit.cli.flags import RunFlags, input_files
from eqaudit.cli.output import (
    check_folder,
    check_output,
    per_image_path,
    require_stdout,
    stdout_style,
    write_file,
    write_pictures,
    write_report,
    write_stderr,
    write_stdout,
)
from eqaudit.cli.progress import model_output, progress_bar
from eqaudit.errors import ExitCode, UsageError
from eqaudit.gate import Limits, exit_code, incomplete, judge
from eqaudit.plan import AuditPlan
from eqaudit.report import Audited, to_json
from eqaudit.reporters.csv_table import per_image_csv, sweep_csv
from eqaudit.reporters.escape import show
from eqaudit.reporters.terminal import render_report, render_verdict
from eqaudit.worker import run_audit


@dataclass(frozen=True, slots=True)
class Writers:
    """Where a report goes beside the terminal; None for nowhere."""

    json: str | None = None
    plots: str | None = None
    csv: str | None = None
    per_image: bool = False

    def check(self, inputs: tuple[str, ...]) -> None:
        """Make sure, before anything is measured, that each can be written, and over none of the inputs."""
        if self.json not in {None, "-"}:
            check_output(str(self.json), inputs)
            check_output(per_image_path(str(self.json)), inputs)
        if self.csv is not None:
            check_output(self.csv, inputs, option="--csv")
            if self.json not in {None, "-"} and Path(self.csv).resolve() == Path(str(self.json)).resolve():
                raise UsageError(f"--json and --csv both write {self.csv}", "give each a file of its own")
        if self.plots is not None:
            check_folder(self.plots)

    def write(self, audited: Audited) -> None:
        """Write what was asked for, pictures first: they are the easiest to lose."""
        if self.plots is not None:
            write_pictures(self.plots, audited)
        if self.csv is not None:
            write_file(self.csv, (per_image_csv if self.per_image else sweep_csv)(audited.report))
        if self.json not in {None, "-"}:
            write_report(str(self.json), audited.report)


def measure(plan: AuditPlan, limits: Limits, writers: Writers, run: RunFlags, *, quiet: bool) -> Audited:
    """Audit in a process of its own and judge the report."""
    require_stdout()
    writers.check(input_files(plan.model, plan.inputs))
    with progress_bar(quiet=quiet) as on_progress, model_output(verbose=run.verbose) as on_output:
        audited = run_audit(plan, run.timeout, on_progress, on_output)
    return msgspec.structs.replace(audited, report=judge(audited.report, limits))


def finish(audited: Audited, writers: Writers, *, quiet: bool, strict: bool, gate: bool) -> ExitCode:
    """Write everything and return the code that the audit earned."""
    report = audited.report
    writers.write(audited)
    if writers.json == "-":
        write_stdout(to_json(report))
    else:
        write_stdout((render_verdict if quiet else render_report)(report, stdout_style()))
    code = exit_code(report, strict=strict, gate=gate)
    if code == ExitCode.INCOMPLETE:
        write_stderr("incomplete (--strict): " + show("; ".join(incomplete(report))))
    return code
