"""What holds: the largest groups, and one sentence that a person can quote."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import get_args

from eqaudit.groups import LARGEST_ORDER, Element, Group, maximal_holding, spanned_group
from eqaudit.report import (
    HOLDING,
    Class,
    Determinism,
    ElementClass,
    ElementError,
    GroupElement,
    Report,
    Verdict,
)

TURN_TOLERANCE = 1e-9


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
    sentence = _sweep_sentence(report) if report.kind == "sweep" else _sentence(report)
    return Verdict(_names(holding_groups(report)), sentence, classes)


def elements_of(report: Report) -> dict[str, Element]:
    """Return the elements of a report by name, the identity of a group too."""
    return {pose.name: _element(pose) for pose in report.group.elements}


def _element(pose: GroupElement) -> Element:
    # Degrees are written as a float; no group has more elements than this, and no angle more decimals.
    turn = Fraction(pose.degrees / 360).limit_denominator(LARGEST_ORDER)
    if abs(float(turn * 360) - pose.degrees) > TURN_TOLERANCE:
        turn = Fraction(pose.degrees).limit_denominator(10**6) / 360
    return Element(pose.mirrored, turn.numerator, turn.denominator)


def holding_groups(report: Report) -> tuple[Group, ...]:
    """Return the maximal groups that hold on the gating output, the largest first."""
    classes = {error.element: error.class_ for error in report.gating_output.errors}
    held = frozenset(element for name, element in elements_of(report).items() if classes.get(name) in HOLDING)
    group = spanned_group(elements_of(report).values())
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


def _sentence(report: Report) -> str:
    group = Group.named(report.group.name)
    errors = report.gating_output.errors
    moved = [error for error in errors if error.class_ in HOLDING]
    failing = [error for error in errors if error.class_ not in HOLDING]
    if not group.moving:
        return "C1 holds trivially: no turn and no mirror was tested."
    if not moved:
        return f"Not equivariant: none of the {len(failing)} {_kinds(group)} holds{_worst(failing)}."
    largest = [candidate for candidate in holding_groups(report) if candidate.moving]
    if not largest:
        return f"No group holds, though {_listing(moved)} does{_worst(failing)}."
    said = _holding(errors, largest)
    if not failing:
        return f"{said}."
    how = _how(failing)
    where = _describe_elements(failing, group)
    return f"{said}; {how} {group.name} ({_range(failing)} on {where}{_floors(failing)}{_share(failing)})."


def _holding(errors: list[ElementError], largest: list[Group]) -> str:
    """Say which groups hold, and how: exactly, or as far as resampling can tell."""
    kept = {str(element) for candidate in largest for element in candidate.moving}
    exact = [error for error in errors if error.element in kept and error.class_ == "exact"]
    resampled = [error for error in errors if error.element in kept and error.class_ == "at the floor"]
    if not resampled:
        return f"{_names(tuple(largest))} exactly ({_range(exact)})"
    said = f"{_names(tuple(largest))} at the floor ({_range(resampled)}{_floors(resampled)})"
    if not exact:
        return said
    inner = [candidate for group in largest for candidate in group.subgroups() if _is_exact(candidate)]
    return f"{inner[0].name} exactly ({_range(exact)}); {said}" if inner[0].moving else said


def _is_exact(group: Group) -> bool:
    return all(element.exact for element in group.elements)


def _how(failing: list[ElementError]) -> str:
    """Return how the rest fails: an approximate element may do for some, an unresolved one is not known."""
    classes = {error.class_ for error in failing}
    if classes == {"unresolved"}:
        return "undecided for"
    return "approximately" if classes == {"approximate"} and any(error.floor for error in failing) else "not"


def _sweep_sentence(report: Report) -> str:
    """Say at how many angles the output is exact, at the floor or off it, and where it is worst."""
    counts = Counter(error.class_ for error in report.gating_output.errors)
    parts = [f"{name} at {counts[name]}" for name in get_args(Class) if counts[name]]
    angles = "pose" if any(pose.mirrored for pose in report.group.elements) else "angle"
    failing = [error for error in report.gating_output.errors if error.class_ not in HOLDING]
    said = f"Of {sum(counts.values())} {angles}s the output is {', '.join(parts)}"
    return f"{said}{_worst(failing)}{_floors(failing[:1]) if len(failing) == 1 else ''}."


def _floors(errors: list[ElementError]) -> str:
    floors = [error.floor for error in errors if error.floor is not None]
    if not floors:
        return ""
    low, high = format_error(min(floors)), format_error(max(floors))
    return f", floor {low if low == high else f'{low} to {high}'}"


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
