"""A report beside an older one of the same images: what got worse, by more than noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from eqaudit.errors import DataError
from eqaudit.holding import full_name
from eqaudit.pairing import (
    SAME_IMAGES,
    Context,
    Interval,
    Values,
    check_rows,
    dice,
    differences,
    kept,
    paired_interval,
    paired_rows,
    right,
    squared_errors,
)
from eqaudit.report import (
    DETERMINISM_LIMIT,
    HOLDING,
    BaselineRecord,
    Change,
    Class,
    GateCheck,
    Layer,
    Report,
)
from eqaudit.verdict import format_error

MOST_NAMED = 3
Judged = Literal["worse", "better", "same"]


class Baseline(msgspec.Struct, frozen=True):
    """An older report, and by how much (relative) a new one may be worse; None before there is one."""

    path: str
    tolerance: float
    report: Report | None


class Number(msgspec.Struct, frozen=True):
    """One number of a report, with its interval and, of an error, its class."""

    value: float | None
    interval: Interval | None
    class_: Class | None = None


def compare(baseline: Baseline, after: Report) -> BaselineRecord:
    """Compare two reports: every number of the output, and of the layers what changed.

    A number is worse when it is so by more than the tolerance *and* the 95 % interval of the difference on
    the same images (where they are in both reports; else the two intervals) leaves no doubt. Where one of the
    two is exact only classes are compared: rounding is no change.

    Raises
    ------
    DataError
        The baseline is of other images, elements, precision, or whatever else makes numbers incomparable.
    """
    before = baseline.report
    if before is None:
        return BaselineRecord(baseline.path, baseline.tolerance, [])
    for what, was, now in differences(before, after, CONTEXT):
        raise DataError(
            f"{baseline.path} is not comparable: {what} was {was}, is {now}",
            "measure both alike, or write a new baseline: remove the file, then --update-baseline",
        )
    check_rows(before, baseline.path, "write it again with --update-baseline, or with --json")
    for name, quantity in QUANTITIES.items():
        if quantity.numbers(before) and not quantity.numbers(after):
            raise DataError(
                f"{baseline.path} is not comparable: it has {name}, which is not measured now",
                "give the same --labels or --masks, or write a new baseline",
            )
    changes = [*_output_changes(before, after, baseline.tolerance)]
    changes += _layer_changes(before, after, baseline.tolerance)
    return BaselineRecord(baseline.path, baseline.tolerance, changes)


def judge_changes(record: BaselineRecord) -> GateCheck:
    """Return the check: nothing of the output got worse.

    Layers are told, not judged: any training moves them.
    """
    output = [change for change in record.changes if not _of_layer(change)]
    worse = [change for change in output if change.judged == "worse"]
    better = [change for change in output if change.judged == "better"]
    limit = f"{100 * record.tolerance:g} %"
    said = f"worse than {record.path}: {_listing(worse)}" if worse else f"no worse than {record.path}"
    parts = [f"{said} (tolerance {limit})"]
    if better:
        parts.append(f"better: {_listing(better)}")
    for words in ("gone", "new"):
        names = [change.name for change in record.changes if change.reason == words]
        if names:
            parts.append(f"layers {words}: {_some(names)}")
    layers = [change for change in record.changes if _of_layer(change) and change.judged == "worse"]
    if layers:
        parts.append(f"of layers, not judged: {_listing(layers)}")
    return GateCheck(
        "baseline", float(len(worse)), 0.0, not worse, "; ".join(parts), source=f"baseline {record.path}"
    )


def _of_layer(change: Change) -> bool:
    return change.name.startswith("layers[")


def _listing(changes: Sequence[Change]) -> str:
    return _some([f"{change.name} at {change.element} {change.reason}" for change in changes])


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join([*names[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _task(report: Report) -> str:
    if report.predictions is not None:
        return f"classification by {report.predictions.scores}"
    if report.segmentation is not None:
        return f"segmentation by {report.segmentation.scores}, threshold {report.segmentation.threshold}"
    return "dense" if report.dense else "embedding" if report.embedding else "none"


CONTEXT: Context = {
    **SAME_IMAGES,
    "the dtype": lambda report: report.tool.dtype,
    "TF32": lambda report: report.tool.tf32,
    "the device": lambda report: report.tool.device.partition(":")[0],
    "the list of what was compared": lambda report: ", ".join(
        error.element for error in report.gating_output.errors
    ),
    "the judged output": lambda report: report.gating_output.name,
    "the task": _task,
}
"""What two reports must have in common, and in which words to say it."""


class Quantity(msgspec.Struct, frozen=True):
    """A number by element, and, where the report has it, what it is the mean of: a value for each image."""

    numbers: Callable[[Report], Mapping[str, Number]]
    values: Callable[[Report], Values]
    rising: bool
    """Whether a larger number is a better one."""


def _output_changes(before: Report, after: Report, tolerance: float) -> Iterator[Change]:
    for name, quantity in QUANTITIES.items():
        was, now = quantity.numbers(before), quantity.numbers(after)
        values = quantity.values(before), quantity.values(after)
        for element in [element for element in now if element in was]:
            paired = paired_interval(paired_rows(values[0].get(element), values[1].get(element)))
            pair = was[element], now[element]
            yield _change(name, element, pair, paired, tolerance, rising=quantity.rising)


def _layer_changes(before: Report, after: Report, tolerance: float) -> Iterator[Change]:
    """Give what changed in layers, by their intervals: no report has their values for single images."""
    old, new = ({full_name(layer): layer for layer in report.layers} for report in (before, after))
    for name in dict.fromkeys([*old, *new]):
        label = f'layers["{name}"].error'
        if name not in new or name not in old:
            reason = "gone" if name in old else "new"
            yield Change(label, "", None, None, None, None, "same", reason)
            continue
        was, now = _errors(old[name]), _errors(new[name])
        for element in [element for element in now if element in was]:
            pair = was[element], now[element]
            change = _change(label, element, pair, None, tolerance, rising=False)
            if change.judged != "same":
                yield change


def _change(
    name: str,
    element: str,
    pair: tuple[Number, Number],
    paired: Interval | None,
    tolerance: float,
    *,
    rising: bool,
) -> Change:
    was, now = pair
    judged, reason = _by_class(was.class_, now.class_)
    if judged is None:
        judged, reason = _by_number(was, now, paired, tolerance, rising=rising)
    return Change(name, element, was.value, now.value, was.class_, now.class_, judged, reason)


def _by_class(was: Class | None, now: Class | None) -> tuple[Judged | None, str]:
    """Judge by class where a number would be rounding or mean nothing; None where numbers decide."""
    reason = f"{was} -> {now}"
    if was in HOLDING and now in HOLDING:
        return "same", reason
    if was == "degenerate":
        return "same", reason
    if now == "degenerate" or was == "exact":
        return "worse", reason
    return ("better" if now == "exact" else None), reason


def _by_number(
    was: Number, now: Number, paired: Interval | None, tolerance: float, *, rising: bool
) -> tuple[Judged, str]:
    reason = f"{format_error(was.value)} -> {format_error(now.value)}"
    if was.value is None or now.value is None:
        return ("same" if was.value is None else "worse"), reason
    if was.value:
        reason += f" ({100 * (now.value / was.value - 1):+.1f} %)"
    worse = (was.value - now.value) if rising else (now.value - was.value)
    if abs(worse) <= (tolerance + DETERMINISM_LIMIT) * was.value:
        return "same", reason
    if not _certain(was.value, now.value, (was.interval, now.interval), paired):
        return "same", f"{reason}, within noise"
    return ("worse" if worse > 0 else "better"), reason


def _certain(was: float, now: float, intervals: tuple[Interval | None, ...], paired: Interval | None) -> bool:
    """Return whether two numbers differ by more than chance; without intervals they are taken as they are."""
    if paired is not None:
        return paired[0] > 0 if now > was else paired[1] < 0
    before, after = intervals
    if before is None or after is None:
        return True
    return before[1] < after[0] if now > was else after[1] < before[0]


def _errors(layer: Layer) -> dict[str, Number]:
    return {error.element: Number(error.error, error.ci95, error.class_) for error in layer.errors}


def _dice(report: Report) -> dict[str, Number]:
    rows = report.segmentation.by_element if report.segmentation else []
    return {row.element: Number(row.dice.mean, row.dice.ci95) for row in rows}


def _consistency(report: Report) -> dict[str, Number]:
    rows = report.predictions.by_element if report.predictions else []
    return {row.element: Number(row.consistency, row.ci95) for row in rows}


def _accuracy(report: Report) -> dict[str, Number]:
    rows = report.predictions.by_element if report.predictions else []
    return {row.element: Number(row.accuracy.value, row.accuracy.ci95) for row in rows if row.accuracy}


QUANTITIES = {
    "output.error": Quantity(lambda report: _errors(report.gating_output), squared_errors, rising=False),
    "dice.mean": Quantity(_dice, dice, rising=True),
    "consistency": Quantity(_consistency, kept, rising=True),
    "accuracy": Quantity(_accuracy, right, rising=True),
}
"""What of the output is compared."""
