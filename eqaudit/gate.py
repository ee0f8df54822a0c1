"""The gate: limits and a report in, a verdict and an exit code out. A pure function."""

from __future__ import annotations

from collections import Counter

import msgspec

from eqaudit.errors import ExitCode
from eqaudit.groups import IDENTITY
from eqaudit.holding import elements_of, holding_groups, names_of
from eqaudit.plan import AUTO, AUTO_GROUPS
from eqaudit.report import DETERMINISM_LIMIT, HOLDING, Gate, GateCheck, Report
from eqaudit.verdict import conclude, format_error

CONTROL_LIMIT = 1e-6
"""Error of an unmoved image: 0, but for the order in which several threads add."""
SOUND = ("finite", "deterministic", "depends on input")
"""Names of the checks that any number needs to mean something."""


class Limits(msgspec.Struct, frozen=True):
    """What is allowed: relative errors, shares of chance, and the least share of equal predictions.

    Without ``max_error`` and ``max_normalised_error`` the group must hold on the gating output.
    """

    max_error: float | None = None
    max_normalised_error: float | None = None
    max_layer_error: float | None = None
    min_consistency: float | None = None


def judge(report: Report, limits: Limits) -> Report:
    """Return the report with its verdict and gate."""
    checks = [_finite(report), _deterministic(report), _depends_on_input(report)]
    checks += [_control(report)] if report.kind == "sweep" else _errors(report, limits)
    if limits.max_layer_error is not None:
        checks.append(_layer_errors(report, limits.max_layer_error))
    if limits.min_consistency is not None:
        checks.append(_consistency(report, limits.min_consistency))
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


def _errors(report: Report, limits: Limits) -> list[GateCheck]:
    output = report.gating_output
    checks = []
    if limits.max_error is not None:
        errors = {f"{output.name} at {error.element}": error.error for error in output.errors}
        checks.append(_largest("max error", "error", errors, limits.max_error))
    if limits.max_normalised_error is not None:
        shares = {f"{output.name} at {error.element}": error.normalised for error in output.errors}
        checks.append(
            _largest("max normalised error", "share of chance", shares, limits.max_normalised_error)
        )
    return checks or [_some_group_holds(report) if report.group.name == AUTO else _holds(report)]


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
    return GateCheck(
        "group holds", names_of(holding_groups(report)), f"one of {tried}", bool(largest), reason
    )


def _holds(report: Report) -> GateCheck:
    errors = report.gating_output.errors
    held = sum(error.class_ in HOLDING for error in errors)
    counts = ", ".join(f"{count} {name}" for name, count in Counter(error.class_ for error in errors).items())
    asked = f"{report.group.name} must hold on {report.gating_output.name}"
    reason = f"{asked}: {held} of {len(errors)} elements hold ({counts or 'none measured'})"
    return GateCheck(
        "group holds", float(held), float(len(errors)), bool(errors) and held == len(errors), reason
    )


def _layer_errors(report: Report, limit: float) -> GateCheck:
    errors = {
        f"{layer.name} at {error.element}": error.error for layer in report.layers for error in layer.errors
    }
    return _largest("max layer error", "error of a layer", errors, limit)


def _largest(name: str, what: str, values: dict[str, float | None], limit: float) -> GateCheck:
    """Compare the largest value; one that is missing (not finite, or one image) can pass no limit."""
    missing = next((where for where, value in values.items() if value is None), None)
    if not values or missing is not None:
        reason = f"the {what} is not known for {missing}" if missing else f"no {what} was measured"
        return GateCheck(name, None, limit, False, reason)
    where, worst = max(values.items(), key=lambda pair: pair[1] or 0.0)
    passed = worst is not None and worst <= limit
    reason = f"the largest {what} is {format_error(worst)} ({where}), the limit {format_error(limit)}"
    return GateCheck(name, worst, limit, passed, reason)


def _consistency(report: Report, limit: float) -> GateCheck:
    rows = report.predictions.by_element if report.predictions else []
    shares = {row.element: row.consistency for row in rows if row.consistency is not None}
    if not shares or len(shares) < len(rows):
        reason = f"{report.gating_output.name} gives no class scores to compare"
        return GateCheck("min consistency", None, limit, False, reason)
    element, least = min(shares.items(), key=lambda pair: pair[1])
    reason = f"the predicted class is kept for {100 * least:.4g} % of the images at {element}"
    return GateCheck(
        "min consistency", least, limit, least >= limit, f"{reason}, at least {100 * limit:.4g} % asked"
    )
