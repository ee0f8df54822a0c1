"""What holds: the largest groups, and one sentence that a person can quote."""

from __future__ import annotations

from eqaudit.groups import Element, Group, maximal_holding
from eqaudit.report import HOLDING, Determinism, ElementClass, ElementError, Report, Verdict


def conclude(report: Report) -> Verdict:
    """Return the verdict on the gating output: holding elements are exact or at the floor."""
    output = report.gating_output
    classes = [ElementClass(error.element, error.class_) for error in output.errors]
    if report.determinism.cause is not None:
        return Verdict("C1", _not_deterministic(report.determinism), classes)
    if not output.errors:
        return Verdict("C1", f"Undecided: {output.name} was not measured ({output.skipped}).", classes)
    if all(error.class_ == "degenerate" for error in output.errors):
        return Verdict(
            "C1", "Degenerate: the output does not depend on the image, so nothing could fail.", classes
        )
    if any(error.nonfinite for error in output.errors):
        return Verdict("C1", _not_finite(output.errors), classes)
    group = Group.named(report.group.name)
    elements = {str(element): element for element in group.elements}
    held = frozenset(elements[error.element] for error in output.errors if error.class_ in HOLDING)
    return Verdict(_names(holding_groups(report)), _sentence(report, group, held), classes)


def holding_groups(report: Report) -> tuple[Group, ...]:
    """Return the maximal groups that hold on the gating output, the largest first."""
    group = Group.named(report.group.name)
    classes = {error.element: error.class_ for error in report.gating_output.errors}
    held = frozenset(element for element in group.elements if classes.get(str(element)) in HOLDING)
    return maximal_holding(group, held)


def format_error(value: float | None) -> str:
    """Write an error with three digits: 0.412, 0.0080, 1.1e-7; a dash when there is none."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if value < 0.001:  # noqa: PLR2004 - from here on zeros would hide the digits
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.4f}" if value < 0.01 else f"{value:#.3g}"  # noqa: PLR2004 - two digits that matter


def _names(groups: tuple[Group, ...]) -> str:
    return " and ".join(group.name for group in groups)


def _sentence(report: Report, group: Group, held: frozenset[Element]) -> str:
    errors = {error.element: error for error in report.gating_output.errors}
    groups = holding_groups(report)
    names = {str(element) for element in held}
    moved = [error for error in report.gating_output.errors if error.element in names]
    failing = [error for error in report.gating_output.errors if error.element not in names]
    if not group.moving:
        return "C1 holds trivially: no turn and no mirror was tested."
    if not moved:
        return f"Not equivariant: none of the {len(failing)} {_kinds(group)} holds{_worst(failing)}."
    largest = [candidate for candidate in groups if candidate.moving]
    if not largest:
        return f"No group holds, though {_listing(moved)} does{_worst(failing)}."
    kept = {str(element) for candidate in largest for element in candidate.moving}
    sizes = _range([error for name, error in errors.items() if name in kept])
    said = f"{_names(tuple(largest))} exactly ({sizes})"
    if not failing:
        return f"{said}."
    where = _describe_elements(failing, group)
    return f"{said}; not {group.name} ({_range(failing)} on {where}{_share(failing)})."


def _kinds(group: Group) -> str:
    mirrors = any(element.mirrored for element in group.moving)
    turns = any(not element.mirrored for element in group.moving)
    return " and ".join(word for word, has in (("turns", turns), ("mirrors", mirrors)) if has)


def _describe_elements(failing: list[ElementError], group: Group) -> str:
    names = {error.element for error in failing}
    mirrors = {str(element) for element in group.moving if element.mirrored}
    turns = {str(element) for element in group.moving if not element.mirrored}
    words = [
        word for word, members in (("turns", turns), ("mirrors", mirrors)) if members and members <= names
    ]
    rest = names - (turns if "turns" in words else set()) - (mirrors if "mirrors" in words else set())
    return ", ".join([*words, *(error.element for error in failing if error.element in rest)])


def _listing(errors: list[ElementError]) -> str:
    return ", ".join(error.element for error in errors)


def _range(errors: list[ElementError]) -> str:
    values = [error.error for error in errors if error.error is not None]
    if not values:
        return "no number"
    low, high = format_error(min(values)), format_error(max(values))
    return high if low == high else f"{low} to {high}"


def _share(errors: list[ElementError]) -> str:
    shares = [error.normalised for error in errors if error.normalised is not None]
    return f", {format_share(max(shares))} of chance" if shares else ""


def format_share(value: float | None) -> str:
    """Write a share of chance in percent: 99 %, 1.5 %, 0.02 %, 0 % below 0.001 %."""
    if value is None:
        return "-"
    percent = 100 * value
    if percent < 0.001:  # noqa: PLR2004 - a reader takes less for nothing
        return "0 %"
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"  # noqa: PLR2004 - two digits that matter


def _worst(failing: list[ElementError]) -> str:
    measured = [error for error in failing if error.normalised is not None]
    if not measured:
        return ""
    worst = max(measured, key=lambda error: error.normalised or 0.0)
    share = format_share(worst.normalised)
    return f"; at {worst.element} the output differs by {share} of what an unrelated image would give"


def _not_deterministic(determinism: Determinism) -> str:
    if determinism.cause == "random":
        change = format_error(determinism.repeat)
        return (
            f"Not deterministic: random. The same batch run twice differs by {change} (is dropout left on?)."
        )
    change = format_error(determinism.rebatch)
    said = f"Rebatched, the same images differ by {change} (batch statistics?)."
    return f"Not deterministic: depends on the batch. {said}"


def _not_finite(errors: list[ElementError]) -> str:
    worst = max(errors, key=lambda error: error.nonfinite)
    where = f"at {worst.element}, first in {worst.worst_image}"
    return f"Not finite: the output holds {worst.nonfinite} values that are NaN or infinite {where}."
