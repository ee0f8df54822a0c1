"""What holds: the largest groups, and one sentence that a person can quote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import get_args

from eqaudit.groups import Group
from eqaudit.holding import (
    NOTHING,
    broken_from,
    describe_ranges,
    holding_groups,
    is_part,
    layer_ranges,
    names_of,
    tried_groups,
    turns_channels,
)
from eqaudit.plan import AUTO, AUTO_GROUPS
from eqaudit.report import (
    HOLDING,
    Class,
    Determinism,
    ElementClass,
    ElementError,
    LayerRange,
    Output,
    Report,
    Representation,
    Verdict,
)

USUAL_PRECISION = "float32"


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
    ranges = layer_ranges(report)
    if report.kind == "sweep":
        sentence = _sweep_sentence(report)
    else:
        sentence = (_auto_sentence if report.group.name == AUTO else _sentence)(report, ranges)
    return Verdict(names_of(holding_groups(report)), sentence, classes, ranges, broken_from(report))


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


def _sentence(report: Report, ranges: list[LayerRange]) -> str:
    group = Group.named(report.group.name)
    errors = report.gating_output.errors
    moved = [error for error in errors if error.class_ in HOLDING]
    failing = [error for error in errors if error.class_ not in HOLDING]
    if not group.moving:
        return "C1 holds trivially: no turn and no mirror was tested."
    if not moved:
        none = f"none of the {len(failing)} {_kinds(group)} holds"
        return f"Not equivariant: {none}{_before(ranges)}{_worst(failing)}."
    largest = [candidate for candidate in holding_groups(report) if candidate.moving]
    if not largest:
        return f"No group holds, though {_listing(moved)} does{_before(ranges)}{_worst(failing)}."
    exact, resampled = _holding(report, largest)
    said = "; ".join(part for part in (exact, resampled) if part) + _turning(report.gating_output)
    if not failing:
        return f"{said}."
    where = describe_elements(failing, group)
    missed = f"{_range(failing)} on {where}{_floors(failing)}{_share(failing)}"
    return f"{said}; {_how(failing)} {group.name} ({missed})."


def _auto_sentence(report: Report, ranges: list[LayerRange]) -> str:
    """Say which of the groups that were tried is the largest that holds, and how the next one fails."""
    errors = report.gating_output.errors
    tried = ", ".join(AUTO_GROUPS)
    largest = [candidate for candidate in holding_groups(report) if candidate.moving]
    if not largest:
        failing = [error for error in errors if error.class_ not in HOLDING]
        return f"Not equivariant: none of {tried} holds{_before(ranges)}{_worst(failing)}."
    exact, resampled = _holding(report, largest)
    said = f"{resampled}, {exact} among it" if exact and resampled else exact or resampled
    verb = "holds is" if len(largest) == 1 else "hold are"
    ending = f"{_turning(report.gating_output)}{_next(errors, largest)}"
    return f"Of {tried} the largest that {verb} {said}{ending}."


def _next(errors: list[ElementError], largest: list[Group]) -> str:
    """Say how the next group fails that was tried, or one before it where it was the last."""
    missed = [group for group in tried_groups() if not any(is_part(group, held) for held in largest)]
    if not missed:
        return ""
    place = {group: AUTO_GROUPS.index(group.name) for group in (*missed, *largest)}
    last = max(place[group] for group in largest)
    group = min(missed, key=lambda group: (place[group] - last) % len(AUTO_GROUPS))
    further = place[group] > last
    names = {str(element) for element in group.moving}
    failing = [error for error in errors if error.element in names and error.class_ not in HOLDING]
    how = "is undecided" if all(error.class_ == "unresolved" for error in failing) else "fails"
    worst = max(failing, key=lambda error: (error.class_ != "unresolved", error.error or 0.0))
    share = "" if worst.normalised is None else f", {format_share(worst.normalised)} of chance"
    number = f"{format_error(worst.error)} at {worst.element}{_floors([worst])}{share}"
    return f"; {'next, ' if further else ''}{group.name} {how} ({number})"


def _holding(report: Report, largest: list[Group]) -> tuple[str, str]:
    """Say which groups hold exactly, and which as far as resampling can tell; empty for none."""
    errors, precision = report.gating_output.errors, report.tool.dtype
    where = "" if precision == USUAL_PRECISION else f" in {precision}"
    kept = {str(element) for candidate in largest for element in candidate.moving}
    exact = [error for error in errors if error.element in kept and error.class_ == "exact"]
    resampled = [error for error in errors if error.element in kept and error.class_ == "at the floor"]
    if not resampled:
        return f"{names_of(largest)} exactly ({_range(exact)}{where})", ""
    said = f"{names_of(largest)} at the floor ({_range(resampled)}{_floors(resampled)})"
    inner = [candidate for group in largest for candidate in group.subgroups() if _is_exact(candidate)]
    if not exact or not inner[0].moving:
        return "", said
    return f"{inner[0].name} exactly ({_range(exact)}{where})", said


def _turning(output: Output) -> str:
    """Say how the channels of the output turn, where they do."""
    if not turns_channels(output) or output.representation is None:
        return ""
    return f", its channels turning ({describe_fields(output.representation)})"


def describe_fields(found: Representation) -> str:
    """Write what an action consists of, ``8 x regular C4``, without where in the layer it lies."""
    if found.kind != "permutation" or not found.fields:
        return found.words
    return " + ".join(f"{field.count} x {field.name}" for field in found.fields if field.name != "dead")


def _before(ranges: list[LayerRange]) -> str:
    """Say at which layers a group holds, though it does not on the output."""
    said = describe_ranges(ranges)
    return f"; {said}" if said and ranges[-1].group == NOTHING else ""


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


def describe_elements(failing: Iterable[ElementError], group: Group) -> str:
    """Write elements as ``turns`` or ``mirrors`` where the group has no others of the kind, else by name."""
    failing = list(failing)
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
    if determinism.cause == "changes its input":
        return "Changes its input: the model overwrites the images that it is given."
    change = format_error(determinism.rebatch)
    said = f"Rebatched, the same images differ by {change} (batch statistics?)."
    return f"Not deterministic: depends on the batch. {said}"


def _not_finite(errors: list[ElementError]) -> str:
    worst = max(errors, key=lambda error: error.nonfinite)
    where = f"at {worst.element}, first in {worst.worst_image}"
    return f"Not finite: the output holds {worst.nonfinite} values that are NaN or infinite {where}."
