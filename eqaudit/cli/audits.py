"""What every auditing command does: check where to write, measure in the worker, write, end with a code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from eqaudit.cli.flags import RunFlags, input_files
from eqaudit.cli.gating import GateFlags
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
from eqaudit.judging import require_measured
from eqaudit.plan import AuditPlan
from eqaudit.report import Audited, Report, to_json
from eqaudit.reporters.base import show
from eqaudit.reporters.csv_table import per_image_csv, sweep_csv
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


@dataclass(frozen=True, slots=True)
class Asked:
    """One audit as it was asked for: what is measured, what is required, and where the report goes."""

    plan: AuditPlan
    gate: GateFlags
    limits: Limits
    writers: Writers
    process: RunFlags
    quiet: bool

    def __post_init__(self) -> None:
        """Make sure, before anything is measured, that the limits are on what will be."""
        require_measured(self.limits.asked, {pose.name: pose.element for pose in self.plan.poses})

    @property
    def written(self) -> list[str]:
        """Every path that is written, as it was given."""
        baseline = self.gate.baseline if self.gate.update_baseline else None
        paths = [self.writers.json, self.writers.csv, self.writers.plots, baseline]
        return [path for path in paths if path not in {None, "-"}]

    def run(self) -> ExitCode:
        """Measure, write everything, and return the code that the audit earned."""
        audited = self.measure()
        if audited is None:
            return ExitCode.PASSED
        self.write(audited)
        report = audited.report
        if self.writers.json == "-":
            write_stdout(to_json(report))
        else:
            write_stdout((render_verdict if self.quiet else render_report)(report, stdout_style()))
        return self.code(report)

    def measure(self) -> Audited | None:
        """Audit in a process of its own and judge the report.

        Of a torchrun job only the first rank has the report, and writes; the others get None.
        """
        require_stdout()
        inputs = input_files(self.plan.model, self.plan.inputs)
        self.gate.check(inputs)
        self.writers.check(inputs if self.gate.baseline is None else (*inputs, self.gate.baseline))
        with (
            progress_bar(quiet=self.quiet) as on_progress,
            model_output(verbose=self.process.verbose) as on_output,
        ):
            audited = run_audit(self.plan, self.process.timeout, on_progress, on_output)
        if audited is None:
            return None
        return msgspec.structs.replace(audited, report=judge(audited.report, self.limits))

    def write(self, audited: Audited) -> None:
        """Write what was asked for; a report that passes becomes the next baseline, if that was asked for."""
        self.writers.write(audited)
        gate = audited.report.gate
        if self.gate.update_baseline and self.gate.baseline and gate is not None and gate.passed:
            write_report(self.gate.baseline, audited.report)
            write_stderr(f"baseline written: {show(self.gate.baseline)}")

    def code(self, report: Report) -> ExitCode:
        """Return the code that a judged report earns; says what is incomplete."""
        code = exit_code(report, strict=self.gate.strict, gate=not self.gate.no_gate)
        if code == ExitCode.INCOMPLETE:
            write_stderr("incomplete (--strict): " + show("; ".join(incomplete(report))))
        return code
