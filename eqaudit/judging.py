"""One limit and a report in, one check out: what the numbers and their intervals make certain."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import msgspec

from eqaudit.errors import UsageError
from eqaudit.groups import IDENTITY, Element, Group
from eqaudit.holding import elements_of, full_name, holding_groups, is_part, names_of
from eqaudit.limits import Limit, Places, matches
from eqaudit.report import ElementError, Estimate, GateCheck, Layer, Report
from eqaudit.verdict import format_error

By = Literal["bound", "point"]
Judgement = Literal["passed", "undecided", "failed"]
SEVERITY: tuple[Judgement, ...] = ("passed", "undecided", "failed")
QUANTILE = NormalDist().inv_cdf(0.975)
"""Of the 95 % intervals, as everywhere in a report."""
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
KINDS = {"error": "error", "normalised": "share of chance"}
MOST_NAMED = 12
MOST_IMAGES = 10_000_000


class Reading(msgspec.Struct, frozen=True):
    """One number of a report beside what it is allowed to be.

    ``value`` None: there is none, ``why`` says the reason. ``judged`` is set where no number decides.
    ``share`` is a share of the images, and the share that is asked: from these follows how many images tell.
    """

    where: str
    value: float | None
    interval: tuple[float, float] | None = None
    bound: float = 0.0
    images: int = 0
    why: str = ""
    judged: Judgement | None = None
    share: tuple[float, float] | None = None


def judge_limit(report: Report, limit: Limit, by: By) -> GateCheck:
    """Judge a limit at all of its places: the worst of them decides.

    By ``bound`` a limit holds when the whole 95 % interval does, and fails when none of it does; between the
    two it is undecided, which is no pass. By ``point`` the number alone decides.

    Raises
    ------
    UsageError
        The limit is on a layer, an element or a group that was not measured.
    """
    require_measured([limit], elements_of(report))
    if limit.quantity == "verdict":
        return _judge_verdict(report, limit)
    judged = [(_judge(limit, reading, by), reading) for reading in _readings(report, limit)]
    outcome, worst = max(judged, key=lambda pair: (SEVERITY.index(pair[0]), _excess(limit, pair[1], by)))
    reason = f"{limit.text}: {_describe(limit, worst, outcome, by)}"
    failing = sum(found != "passed" for found, _ in judged)
    if failing and len(judged) > 1:
        reason += f"; {len(judged) - failing} of {len(judged)} pass"
    asked = f"{limit.bound:g} * floor" if limit.floor else limit.bound
    return GateCheck(
        limit.text, worst.value, asked, outcome == "passed", reason, outcome == "undecided", limit.source
    )


def require_measured(limits: Sequence[Limit], elements: Mapping[str, Element]) -> None:
    """Make sure that what limits are on is among the elements, by name, that are or were measured.

    Raises
    ------
    UsageError
        A group or an element is not, or no turn is by the degrees that are named.
    """
    for limit in limits:
        lacking = []
        if limit.quantity == "verdict":
            asked = set(Group.named(limit.group).moving) - set(elements.values())
            lacking = [f"{element} is not" for element in sorted(asked, key=lambda element: element.turn)]
        elif limit.places is not None:
            lacking = [f"{name} is not" for name in limit.places.names if name not in elements]
            if not limit.places.names and not _inside(limit.places, elements):
                lacking = ["no turn by such degrees is"]
        if lacking:
            raise UsageError(
                f"{limit.source}: {limit.text!r} cannot be judged: {lacking[0]} measured",
                f"measured are {', '.join(list(elements)[:MOST_NAMED])}"
                f"{' ...' if len(elements) > MOST_NAMED else ''}: see --group and --angles",
            )


def _inside(places: Places, elements: Mapping[str, Element]) -> set[str]:
    return {
        name
        for name, element in elements.items()
        for low, high in places.ranges
        if any(low <= element.degrees + turn <= high for turn in (-360, 0, 360))
    }


def _judge_verdict(report: Report, limit: Limit) -> GateCheck:
    holding = holding_groups(report)
    passed = any(is_part(Group.named(limit.group), group) for group in holding)
    reason = f"{limit.text}: {names_of(holding)} holds on {report.gating_output.name}"
    return GateCheck(limit.text, names_of(holding), limit.group, passed, reason, source=limit.source)


def _judge(limit: Limit, reading: Reading, by: By) -> Judgement:
    holds = COMPARISONS[limit.comparison]
    if reading.judged is not None:
        return reading.judged
    if reading.value is None:
        return "failed"
    if by == "point":
        return "passed" if holds(reading.value, reading.bound) else "failed"
    if reading.interval is None:
        return "undecided"
    good = [holds(end, reading.bound) for end in (*reading.interval, reading.value)]
    return "passed" if all(good) else "undecided" if any(good) else "failed"


def _excess(limit: Limit, reading: Reading, by: By) -> tuple[float, float]:
    """Return by how much what is judged lies beyond the bound, and its value; infinite without a number."""
    if reading.value is None:
        return math.inf, math.inf
    sign = 1 if limit.comparison.startswith("<") else -1
    value = sign * (reading.value - reading.bound)
    ends = () if by == "point" or reading.interval is None else reading.interval
    return max((sign * (end - reading.bound) for end in ends), default=value), value


def _describe(limit: Limit, reading: Reading, outcome: Judgement, by: By) -> str:
    if reading.value is None:
        return f"{reading.why} ({reading.where})"
    said = f"{format_error(reading.value)} ({reading.where})"
    if reading.interval is not None:
        low, high = reading.interval
        said += f", 95 % interval {format_error(low)} to {format_error(high)}"
    if reading.why:
        return f"{said}, {reading.why}"
    if limit.floor:
        said += f", floor {format_error(reading.bound / limit.bound if limit.bound else 0.0)}"
    if outcome != "undecided" or by == "point":
        return said
    images = f"{reading.images} image{'' if reading.images == 1 else 's'}"
    return f"{said}: undecided with {images}, {_images_needed(reading)}"


def _images_needed(reading: Reading) -> str:
    """Say how many images would decide: an interval is as wide as one over the root of their number."""
    if reading.interval is None or reading.value is None:
        return "an interval needs at least 2"
    if reading.share is not None:
        # The score interval (Wilson 1927) of a share touches the share that is asked where this is equal.
        share, asked = reading.share
        spread, gap = asked * (1 - asked), share - asked
        needed = QUANTILE**2 * spread / gap**2 if gap else math.inf
    else:
        low, high = reading.interval
        gap = reading.bound - reading.value
        needed = (
            reading.images * ((high if gap > 0 else low) - reading.value) ** 2 / gap**2 if gap else math.inf
        )
    if needed > MOST_IMAGES:
        return "no number of images tells it from the limit"
    step = 10 ** max(0, math.floor(math.log10(max(needed, 1))) - 1)
    return f"about {max(math.ceil(needed / step) * step, reading.images + 1):,} would tell"


def _readings(report: Report, limit: Limit) -> list[Reading]:
    elements = elements_of(report)
    moved = {name for name, element in elements.items() if element != IDENTITY}
    # An unmoved image is compared with itself: only what has a truth can be wrong there.
    chosen = moved if moved and limit.quantity != "accuracy" else set(elements)
    if limit.places is not None:
        chosen = set(limit.places.names) | (chosen & _inside(limit.places, elements))
    found = [reading for name, reading in _all_readings(report, limit) if not name or name in chosen]
    return found or [Reading("no layer or element", None, why="nothing was measured")]


def _all_readings(report: Report, limit: Limit) -> Iterator[tuple[str, Reading]]:
    """Give every element and what was read there; an empty name where nothing was measured at all."""
    match limit.quantity:
        case "output":
            yield from _error_readings(report, limit, report.gating_output)
        case "layers":
            layers = [layer for layer in report.layers if matches(layer.name, limit.pattern)]
            if not layers:
                raise UsageError(
                    f"{limit.source}: {limit.text!r} matches no layer that was measured",
                    "eqaudit layers MODEL lists all",
                )
            for layer in layers:
                yield from _error_readings(report, limit, layer)
        case "dice":
            yield from _dice_readings(report, limit)
        case _:
            yield from _decision_readings(report, limit)


def _error_readings(report: Report, limit: Limit, layer: Layer) -> Iterator[tuple[str, Reading]]:
    exact = {pose.name for pose in report.group.elements if pose.exact}
    for error in layer.errors:
        where = f"{full_name(layer)} at {error.element}"
        yield error.element, _error_reading(report, limit, error, where, exact=error.element in exact)


def _error_reading(report: Report, limit: Limit, error: ElementError, where: str, *, exact: bool) -> Reading:
    value = error.normalised if limit.kind == "normalised" else error.error
    if error.class_ == "degenerate":
        return Reading(where, None, why="it does not depend on the image, so nothing could fail")
    if value is None:
        why = (
            "values are not finite" if error.nonfinite else f"undecided: the {KINDS[limit.kind]} is not known"
        )
        return Reading(where, None, why=why, judged=None if error.nonfinite else "undecided")
    interval, images = error.ci95, report.inputs.samples
    if limit.kind == "normalised" and interval is not None and error.error:
        interval = (interval[0] * value / error.error, interval[1] * value / error.error)
    if not limit.floor:
        return Reading(where, value, interval, limit.bound, images)
    if exact:
        judged: Judgement = "passed" if error.class_ == "exact" else "failed"
        why = f"{error.class_}: nothing is resampled there, so the floor is 0"
        return Reading(where, value, None, 0.0, images, why, judged)
    if error.floor is None:
        return Reading(where, value, interval, 0.0, images, "undecided: there is no floor", "undecided")
    return Reading(where, value, interval, limit.bound * error.floor, images)


def _decision_readings(report: Report, limit: Limit) -> Iterator[tuple[str, Reading]]:
    found, output = report.predictions, report.gating_output.name
    if found is None:
        yield "", Reading(output, None, why="it gives no class scores to compare")
        return
    for row in found.by_element:
        known: Estimate | None = None
        if limit.quantity == "accuracy":
            known = row.accuracy
        elif row.consistency is not None:
            known = Estimate(row.consistency, row.ci95)
        where = f"{output} at {row.element}"
        if known is None:
            missing = "true labels" if limit.quantity == "accuracy" else "class scores to compare"
            yield row.element, Reading(where, None, why=f"there are no {missing}")
        else:
            share = (known.value, limit.bound)
            yield (
                row.element,
                Reading(where, known.value, known.ci95, limit.bound, found.images, share=share),
            )


def _dice_readings(report: Report, limit: Limit) -> Iterator[tuple[str, Reading]]:
    found, output = report.segmentation, report.gating_output.name
    if found is None:
        yield "", Reading(output, None, why="it gives no masks to compare")
        return
    for row in found.by_element:
        where = f"{output} at {row.element}"
        if limit.kind == "mean":
            yield row.element, Reading(where, row.dice.mean, row.dice.ci95, limit.bound, found.images)
            continue
        asked = float(limit.kind[1:]) / 100
        value = {"p5": row.dice.p5, "p25": row.dice.p25, "p50": row.dice.p50}[limit.kind]
        listed = report.per_image.dice.get(row.element, []) if report.per_image else []
        values = sorted(one for one in listed if one is not None)
        holds = COMPARISONS[limit.comparison]
        below = sum(not holds(one, limit.bound) for one in values) / max(len(values), 1)
        yield (
            row.element,
            Reading(
                where,
                value,
                _quantile_interval(values, asked),
                limit.bound,
                len(values),
                share=(below, asked),
            ),
        )


def _quantile_interval(values: Sequence[float], share: float) -> tuple[float, float] | None:
    """Return the 95 % interval of a quantile of Dice: the values whose rank it may have.

    It is the score test of how many images lie below, turned around; where too few images could, it is open
    to 0 or 1.
    """
    images = len(values)
    if images < 2:  # noqa: PLR2004 - one image has no spread
        return None
    half = QUANTILE * math.sqrt(share * (1 - share) / images)
    low, high = math.floor((share - half) * images), math.ceil((share + half) * images)
    return values[low] if low >= 0 else 0.0, values[high] if high < images else 1.0
