"""What every auditing command does: check where to write, measure in the worker, write, end with a code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

import msgspec

from eqaudit.cli.files import (
    check_folder,
    check_output,
    per_image_path,
    write_file,
    write_pictures,
    write_report,
)
from eqaudit.cli.flags import RunFlags, input_files
from eqaudit.cli.gating import GateFlags
from eqaudit.cli.github import tell_github
from eqaudit.cli.progress import model_output, progress_bar
from eqaudit.cli.streams import OutputError, require_stdout, stdout_style, write_stderr, write_stdout
from eqaudit.errors import EqauditError, ExitCode, UsageError
from eqaudit.gate import Limits, exit_code, incomplete, judge
from eqaudit.judging import require_measured
from eqaudit.parsing import require_exact_elements
from eqaudit.plan import AuditPlan
from eqaudit.report import Audited, Outcome, Report, replace_text, to_json
from eqaudit.reporters.csv_table import per_image_csv, sweep_csv
from eqaudit.reporters.escape import hide_home, show
from eqaudit.reporters.junit import render_junit
from eqaudit.reporters.markdown import render_markdown
from eqaudit.reporters.terminal import render_report, render_verdict, render_why
from eqaudit.worker import run_audit

KINDS: dict[str, Callable[[Sequence[Outcome]], bytes]] = {"junit": render_junit, "markdown": render_markdown}
"""Reports on the outcome of one or several checks, by the name that ``--report`` knows them by."""


def parse_reports(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read ``KIND=FILE`` as a kind of report and where it goes.

    Raises
    ------
    UsageError
        The kind is unknown, or no file is named.
    """
    found = []
    for text in texts:
        kind, _, path = text.partition("=")
        if kind not in KINDS or path in {"", "-"}:
            raise UsageError(
                f"--report {text!r} is no KIND=FILE",
                f"as in --report junit=equivariance.xml; of {', '.join(KINDS)}",
            )
        found.append((kind, path))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Writers:
    """Where a report goes beside the terminal; None for nowhere. ``reports`` are kinds and files."""

    json: str | None = None
    plots: str | None = None
    csv: str | None = None
    per_image: bool = False
    reports: tuple[tuple[str, str], ...] = ()

    def check(self, inputs: tuple[str, ...]) -> None:
        """Make sure, before anything is measured, that each can be written, and over none of the others."""
        files: list[tuple[str, str]] = []
        if self.json not in {None, "-"}:
            files += [("--json", str(self.json)), ("--json", per_image_path(str(self.json)))]
        if self.csv is not None:
            files.append(("--csv", self.csv))
        taken: dict[Path, str] = {}
        for option, path in [*files, *((f"--report {kind}", path) for kind, path in self.reports)]:
            check_output(path, inputs, option)
            place = Path(path).resolve()
            if place in taken:
                raise UsageError(
                    f"{taken[place]} and {option} both write {path}", "give each a file of its own"
                )
            taken[place] = option
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

    def write_reports(self, outcomes: Sequence[Outcome]) -> None:
        """Write the reports on all checks."""
        for kind, path in self.reports:
            write_file(path, KINDS[kind](outcomes))

    def write_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Write the reports on all checks, and tell the CI job that this is, if it is one."""
        shown = [msgspec.structs.replace(outcome, error=hide_home(outcome.error)) for outcome in outcomes]
        tell_github(shown)
        self.write_reports(shown)


def outcome_name(spec: str) -> str:
    """Return what a check of one model is called: the name of its file."""
    return PurePath(spec).name or spec


@dataclass(frozen=True, slots=True)
class Asked:
    """One audit as it was asked for: what is measured, what is required, and where the report goes.

    ``explain``: when the gate fails, it is measured again with a diagnosis.
    """

    plan: AuditPlan
    gate: GateFlags
    limits: Limits
    writers: Writers
    process: RunFlags
    quiet: bool
    explain: bool = False

    def __post_init__(self) -> None:
        """Make sure, before anything is measured, that the limits are on what will be."""
        if self.explain or self.plan.diagnose:
            require_exact_elements(self.plan.group)
        require_measured(self.limits.asked, {pose.name: pose.element for pose in self.plan.poses})

    @property
    def written(self) -> list[str]:
        """Every path that is written, as it was given."""
        baseline = self.gate.baseline if self.gate.update_baseline else None
        paths = [self.writers.json, self.writers.csv, self.writers.plots, baseline]
        return [path for path in paths if path not in {None, "-"}]

    def run(self) -> ExitCode:
        """Measure, write everything, and return the code that the audit earned."""
        try:
            audited = self.measure()
        except EqauditError as error:
            # That a report cannot be written either is the smaller trouble.
            with suppress(OutputError):
                name = outcome_name(str(self.plan.model))
                self.writers.write_outcomes([Outcome(name, None, error.message)])
            raise
        if audited is None:
            return ExitCode.PASSED
        self.write(audited)
        report = audited.report
        self.writers.write_outcomes([Outcome(outcome_name(report.model.spec), report)])
        if self.writers.json == "-":
            write_stdout(to_json(report))
        else:
            render = render_verdict if self.quiet else render_why if self.plan.diagnose else render_report
            write_stdout(render(report, stdout_style()))
        return self.code(report)

    def measure(self) -> Audited | None:
        """Audit in a process of its own and judge the report.

        Of a torchrun job only the first rank has the report, and writes; the others get None.
        """
        require_stdout()
        inputs = input_files(self.plan.model, self.plan.inputs)
        self.gate.check(inputs)
        self.writers.check(inputs if self.gate.baseline is None else (*inputs, self.gate.baseline))
        audited = self._measure(self.plan)
        gate = None if audited is None else audited.report.gate
        if self.explain and gate is not None and not gate.passed:
            return self._measure(msgspec.structs.replace(self.plan, diagnose=True))
        return audited

    def _measure(self, plan: AuditPlan) -> Audited | None:
        with (
            progress_bar(quiet=self.quiet) as on_progress,
            model_output(verbose=self.process.verbose) as on_output,
        ):
            audited = run_audit(plan, self.process.timeout, on_progress, on_output)
        if audited is None:
            return None
        report = replace_text(audited.report, hide_home)
        return msgspec.structs.replace(audited, report=judge(report, self.limits))

    def write(self, audited: Audited) -> None:
        """Write what was asked for; a report that passes becomes the next baseline, if that was asked for."""
        self.writers.write(audited)
        gate = audited.report.gate
        if self.gate.update_baseline and self.gate.baseline and gate is not None and gate.passed:
            write_report(self.gate.baseline, audited.report)
            write_stderr(f"baseline written: {show(self.gate.baseline)}")

    def code(self, report: Report) -> ExitCode:
        """Return the code that a judged report earns; says what is incomplete."""
        code = exit_code(report, strict=self.gate.strict)
        if code == ExitCode.INCOMPLETE:
            write_stderr("incomplete (--strict): " + show("; ".join(incomplete(report))))
        return code
