"""The gate: limits and a report in, a verdict and an exit code out. A pure function."""

from __future__ import annotations

import msgspec

from eqaudit.errors import ExitCode
from eqaudit.report import HOLDING, ElementError, Gate, GateCheck, Report
from eqaudit.verdict import conclude, format_error

DETERMINISM_LIMIT = 1e-5


class Limits(msgspec.Struct, frozen=True):
    """What is allowed. Without ``max_error`` the group must hold on the gating output."""

    max_error: float | None = None


def judge(report: Report, limits: Limits) -> Report:
    """Return the report with its verdict and gate."""
    checks = [_finite(report), _deterministic(report), _depends_on_input(report), _errors(report, limits)]
    gate = Gate(all(check.passed for check in checks), checks)
    return msgspec.structs.replace(report, verdict=conclude(report), gate=gate)


def exit_code(report: Report, *, strict: bool, gate: bool) -> ExitCode:
    """Return the code of a judged report; ``gate`` False turns a failed gate, and nothing else, into 0."""
    if strict and incomplete(report):
        return ExitCode.INCOMPLETE
    failed = gate and report.gate is not None and not report.gate.passed
    return ExitCode.GATE_FAILED if failed else ExitCode.PASSED


def incomplete(report: Report) -> list[str]:
    """Return what was not measured: skipped layers, layer values that are not finite, unreadable images."""
    reasons = [
        f"{layer.name} was skipped: {layer.skipped}"
        for layer in [*report.layers, *report.outputs]
        if layer.skipped
    ]
    reasons += [
        f"{layer.name} has values that are not finite"
        for layer in report.layers
        if any(error.nonfinite for error in layer.errors)
    ]
    return reasons + [f"{image.name} could not be read: {image.reason}" for image in report.inputs.skipped]


def _finite(report: Report) -> GateCheck:
    errors = report.gating_output.errors
    count = sum(error.nonfinite for error in errors)
    worst = max(errors, key=lambda error: error.nonfinite, default=None)
    where = (
        f"the output is not finite at {worst.element}, first in {worst.worst_image}"
        if worst and count
        else "every output value is finite"
    )
    return GateCheck("finite", count, 0, not count, where)


def _deterministic(report: Report) -> GateCheck:
    cause = report.determinism.cause
    value = max(
        (value for value in (report.determinism.repeat, report.determinism.rebatch) if value is not None),
        default=None,
    )
    said = {"random": "is random", None: "is the same when run again"}.get(cause, cause)
    return GateCheck("deterministic", value, DETERMINISM_LIMIT, cause is None, f"the output {said}")


def _depends_on_input(report: Report) -> GateCheck:
    degenerate = report.gating_output.degenerate or any(
        error.class_ == "degenerate" for error in report.gating_output.errors
    )
    reason = "the output does not depend on the image" if degenerate else "the output depends on the image"
    return GateCheck("depends on input", "degenerate" if degenerate else "yes", "yes", not degenerate, reason)


def _errors(report: Report, limits: Limits) -> GateCheck:
    errors = report.gating_output.errors
    if limits.max_error is None:
        held = sum(error.class_ in HOLDING for error in errors)
        passed = bool(errors) and held == len(errors)
        counts = ", ".join(f"{count} {name}" for name, count in _count(errors).items())
        asked = f"{report.group.name} must hold on {report.gating_output.name}"
        reason = f"{asked}: {held} of {len(errors)} elements hold ({counts or 'none measured'})"
        return GateCheck("group holds", held, len(errors), passed, reason)
    worst = max((error.error for error in errors if error.error is not None), default=None)
    whole = worst is not None and all(error.error is not None for error in errors)
    passed = whole and worst is not None and worst <= limits.max_error
    found = f"the largest error of {report.gating_output.name} is {format_error(worst)}"
    reason = f"{found}, the limit {format_error(limits.max_error)}"
    return GateCheck("max error", worst, limits.max_error, passed, reason)


def _count(errors: list[ElementError]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for error in errors:
        counts[error.class_] = counts.get(error.class_, 0) + 1
    return counts
