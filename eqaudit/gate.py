"""The gate: limits and a report in, a verdict and an exit code out. A pure function."""

from __future__ import annotations

from collections import Counter

import msgspec

from eqaudit.baseline import Baseline, compare, judge_changes
from eqaudit.errors import ExitCode
from eqaudit.groups import IDENTITY
from eqaudit.holding import elements_of, holding_groups, names_of
from eqaudit.judging import By, judge_limit
from eqaudit.limits import Limit
from eqaudit.plan import AUTO, AUTO_GROUPS
from eqaudit.report import DETERMINISM_LIMIT, HOLDING, Gate, GateCheck, Report
from eqaudit.verdict import conclude, format_error

CONTROL_LIMIT = 1e-6
"""Error of an unmoved image: 0, but for the order in which several threads add."""
SOUND = ("finite", "deterministic", "depends on input")
"""Names of the checks that any number needs to mean something."""

GROUP_HOLDS = "group holds"
"""Name of the check that stands where no limit does."""


class Limits(msgspec.Struct, frozen=True):
    """What is asked of a report.

    Without a limit on the output or its verdict, and without a baseline, the group must hold on the gating
    output. With ``judged`` False a failure is shown, and fails nothing.
    """

    asked: tuple[Limit, ...] = ()
    by: By = "bound"
    baseline: Baseline | None = None
    judged: bool = True


def unsound(gate: Gate | None) -> list[GateCheck]:
    """Return what failed of the checks without which numbers mean nothing."""
    return [check for check in gate.checks if check.name in SOUND and not check.passed] if gate else []


def judge(report: Report, limits: Limits) -> Report:
    """Return the report with its verdict and gate.

    Raises
    ------
    UsageError
        A limit is on a layer, an element or a group that was not measured.
    DataError
        The baseline is a report of something else.
    """
    checks = [_finite(report), _deterministic(report), _depends_on_input(report)]
    if report.kind == "sweep":
        checks.append(_control(report))
    elif limits.baseline is None and not any(limit.on_output for limit in limits.asked):
        checks.append(_some_group_holds(report) if report.group.name == AUTO else _holds(report))
    checks += [judge_limit(report, limit, limits.by) for limit in limits.asked]
    record = None
    if limits.baseline is not None and limits.baseline.report is not None:
        record = compare(limits.baseline, report)
        checks.append(judge_changes(record))
    gate = Gate(all(check.passed for check in checks), checks, record, limits.judged)
    return msgspec.structs.replace(report, verdict=conclude(report), gate=gate)


def exit_code(report: Report, *, strict: bool) -> ExitCode:
    """Return the code of a report with its gate."""
    if strict and incomplete(report):
        return ExitCode.INCOMPLETE
    failed = report.gate is not None and report.gate.judged and not report.gate.passed
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
    return GateCheck("finite", float(count), 0.0, not count, where)


def _deterministic(report: Report) -> GateCheck:
    cause = report.determinism.cause
    value = max(
        (value for value in (report.determinism.repeat, report.determinism.rebatch) if value is not None),
        default=None,
    )
    said = {
        "random": "the output is random",
        "depends on the batch": "the output depends on the batch",
        "changes its input": "the model changes its input: it overwrites the images that it is given",
        None: "the output is the same when run again",
    }[cause]
    return GateCheck("deterministic", value, DETERMINISM_LIMIT, cause is None, said)


def _depends_on_input(report: Report) -> GateCheck:
    degenerate = report.gating_output.degenerate or any(
        error.class_ == "degenerate" for error in report.gating_output.errors
    )
    reason = "the output does not depend on the image" if degenerate else "the output depends on the image"
    return GateCheck("depends on input", "degenerate" if degenerate else "yes", "yes", not degenerate, reason)


def _control(report: Report) -> GateCheck:
    """Check that a sweep's unmoved images (0 and 360 degrees) give what they gave before."""
    identity = {name for name, element in elements_of(report).items() if element == IDENTITY}
    errors = [error for error in report.gating_output.errors if error.element in identity]
    known = [error.error for error in errors if error.error is not None]
    worst = max(known, default=None)
    # Not the class: a rerun of few images may find a random model the same by chance.
    passed = len(known) == len(errors) and (worst or 0.0) <= CONTROL_LIMIT
    rows = (
        f"the control rows ({', '.join(sorted(identity))})"
        if identity
        else "no control row (0 or 360 degrees)"
    )
    return GateCheck("control", worst, CONTROL_LIMIT, passed, f"the error of {rows} is {format_error(worst)}")


def _some_group_holds(report: Report) -> GateCheck:
    """Check that any of the groups that ``auto`` tries holds."""
    largest = [group for group in holding_groups(report) if group.moving]
    many = len(largest) > 1
    tried = ", ".join(AUTO_GROUPS)
    reason = (
        f"{names_of(largest)} {'hold' if many else 'holds'} on {report.gating_output.name}, "
        f"the largest of those tried"
        if largest
        else f"one of {tried} must hold on {report.gating_output.name}: none does"
    )
    return GateCheck(GROUP_HOLDS, names_of(holding_groups(report)), f"one of {tried}", bool(largest), reason)


def _holds(report: Report) -> GateCheck:
    errors = report.gating_output.errors
    held = sum(error.class_ in HOLDING for error in errors)
    counts = ", ".join(f"{count} {name}" for name, count in Counter(error.class_ for error in errors).items())
    asked = f"{report.group.name} must hold on {report.gating_output.name}"
    reason = f"{asked}: {held} of {len(errors)} elements hold ({counts or 'none measured'})"
    return GateCheck(
        GROUP_HOLDS, float(held), float(len(errors)), bool(errors) and held == len(errors), reason
    )
