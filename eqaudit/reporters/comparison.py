"""Several models beside each other as a person reads it in a terminal: numbers, layers, tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from eqaudit.comparison import LETTERS, Comparison, Difference
from eqaudit.holding import NOTHING
from eqaudit.pairing import moving_elements
from eqaudit.report import ElementConsistency, ElementOverlap, Estimate, Report
from eqaudit.reporters.base import layer_name, worst_error
from eqaudit.reporters.console import Style, render
from eqaudit.reporters.escape import show
from eqaudit.reporters.poses import percent
from eqaudit.reporters.terminal import describe_group, describe_images, describe_model
from eqaudit.verdict import format_error, format_share

Reader = Callable[[Report], str]
SHORT = {"sign test": "sign", "signed-rank test": "rank"}
"""What a table has room for."""
LEAST_DECIMAL = 0.0005


def render_comparison(comparison: Comparison, style: Style, *, quiet: bool = False) -> str:
    """Return the whole comparison as text; when quiet, only what was tested."""
    parts: list[RenderableType] = []
    if not quiet:
        parts += [_header(comparison), "", _side_by_side(comparison), ""]
        layers = _layers(comparison.reports)
        parts += [layers, ""] if layers is not None else []
    return render([*parts, _differences(comparison)], style)


def _header(comparison: Comparison) -> RenderableType:
    first = comparison.reports[0]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim")
    grid.add_column()
    for letter, report in zip(LETTERS, comparison.reports, strict=False):
        grid.add_row(f"model {letter}", Text(describe_model(report.model, None)))
    grid.add_row("input", Text(f"{describe_images(first.inputs)}, the same for all"))
    grid.add_row("moved", Text(describe_group(first)))
    if comparison.timing:
        batches = " or ".join(dict.fromkeys(str(timing.batch) for timing in comparison.timing))
        rounds = f"median of {comparison.timing[0].rounds} rounds on a batch of {batches}, models in turn"
        grid.add_row("time", Text(f"{rounds}; {first.tool.device}, {first.tool.threads} threads"))
    told: dict[str, str] = dict.fromkeys(comparison.warnings, "")
    for letter, report in zip(LETTERS, comparison.reports, strict=False):
        told |= {warning: f"{told.get(warning, '')}{letter}" for warning in report.warnings}
    for warning, letters in told.items():
        grid.add_row(f"note {letters}", Text(show(warning), style="yellow"))
    return grid


def _side_by_side(comparison: Comparison) -> Table:
    table = _table(["", *_letters(comparison.reports)])
    rows: list[tuple[str, list[str]]] = []
    if comparison.timing:
        rows.append(
            ("ms for an image", [f"{1000 * part.median / part.batch:.3g}" for part in comparison.timing])
        )
    rows += [(label, [read(report) for report in comparison.reports]) for label, read in ROWS.items()]
    for label, cells in rows:
        if set(cells) != {"-"}:
            table.add_row(label, *cells)
    return table


def _table(titles: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    return table


def _letters(reports: Sequence[Report]) -> list[str]:
    return list(LETTERS[: len(reports)])


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _errors(report: Report) -> list[float | None]:
    moving = moving_elements(report)
    return [error.error for error in report.gating_output.errors if error.element in moving]


def _worst_share(report: Report) -> str:
    shares = [error.normalised for error in report.gating_output.errors if error.normalised is not None]
    return format_share(max(shares, default=None))


def _worst_error(report: Report) -> str:
    return format_error(max((error for error in _errors(report) if error is not None), default=None))


def _decisions(report: Report) -> list[ElementConsistency]:
    moving = moving_elements(report)
    return (
        [row for row in report.predictions.by_element if row.element in moving] if report.predictions else []
    )


def _overlaps(report: Report) -> list[ElementOverlap]:
    moving = moving_elements(report)
    return (
        [row for row in report.segmentation.by_element if row.element in moving]
        if report.segmentation
        else []
    )


def _unmoved(read: Callable[[ElementConsistency], Estimate | None]) -> Callable[[Report], float | None]:
    def value(report: Report) -> float | None:
        row = report.predictions.unmoved if report.predictions else None
        found = read(row) if row is not None else None
        return None if found is None else found.value

    return value


def _moved(read: Callable[[ElementConsistency], Estimate | None]) -> Callable[[Report], float | None]:
    def value(report: Report) -> float | None:
        found = [read(row) for row in _decisions(report)]
        return _mean([None if part is None else part.value for part in found])

    return value


def _truth_dice(row: ElementOverlap | None) -> float | None:
    return None if row is None or row.truth_dice is None else row.truth_dice.mean


def _holds(report: Report) -> str:
    holds = report.verdict.holds if report.verdict else NOTHING
    return "nothing" if holds == NOTHING else holds


ROWS: dict[str, Reader] = {
    "parameters": lambda report: f"{report.model.parameters:,}",
    "holds": _holds,
    "error, mean": lambda report: format_error(_mean(_errors(report))),
    "error, worst": _worst_error,
    "of chance, worst": _worst_share,
    "same class, mean": lambda report: percent(_mean([row.consistency for row in _decisions(report)])),
    "same class at all": lambda report: percent(
        report.predictions.orbit_consistency if report.predictions else None
    ),
    "accuracy": lambda report: percent(_unmoved(lambda row: row.accuracy)(report)),
    "accuracy, moved": lambda report: percent(_moved(lambda row: row.accuracy)(report)),
    "accuracy, worst": lambda report: percent(
        report.predictions.worst_accuracy.accuracy
        if report.predictions and report.predictions.worst_accuracy
        else None
    ),
    "AUC": lambda report: _decimal(_unmoved(lambda row: row.auc)(report)),
    "AUC, moved": lambda report: _decimal(_moved(lambda row: row.auc)(report)),
    "truth Dice": lambda report: _decimal(
        _truth_dice(report.segmentation.unmoved if report.segmentation else None)
    ),
    "truth Dice, moved": lambda report: _decimal(_mean([_truth_dice(row) for row in _overlaps(report)])),
    "Dice, moved": lambda report: _decimal(_mean([row.dice.mean for row in _overlaps(report)])),
}
"""What stands beside each other, row by row; what no model has is left out."""


def _layers(reports: Sequence[Report]) -> Table | None:
    """Return the worst error of each layer that at least two models have; None where there is none."""
    found = [{layer_name(layer): layer for layer in report.layers} for report in reports]
    names = dict.fromkeys(name for layers in found for name in layers)
    shared = [name for name in names if sum(name in layers for layers in found) > 1]
    if not shared:
        return None
    table = _table(["layer, worst error", *_letters(reports)])
    for name in shared:
        errors = [worst_error(layers[name]) if name in layers else None for layers in found]
        table.add_row(name, *("-" if error is None else format_error(error.error) for error in errors))
    return table


def _differences(comparison: Comparison) -> RenderableType:
    if not comparison.differences:
        return Text("No image has a value under two models: nothing can be tested.")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("difference", "of", "", "95 % interval", "test", "+:-", "p", "Holm"):
        left = title in {"difference", "of", "test"}
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for found in comparison.differences:
        table.add_row(*_row(found))
    tests = [found.test for found in comparison.differences if found.test is not None]
    lines = list(dict.fromkeys(f"{test.name}: {test.hypothesis}." for test in tests))
    lines.append(f"+:- are images with more and with less; p is two-sided, Holm's is for {len(tests)} tests.")
    grid = Table.grid()
    grid.add_row(table)
    grid.add_row("")
    grid.add_row(Text("\n".join(lines)))
    return grid


def _row(found: Difference) -> Iterator[str]:
    yield found.quantity
    yield f"{LETTERS[found.second]} - {LETTERS[found.first]}"
    yield _signed(found.difference)
    yield "-" if found.ci95 is None else " to ".join(map(_signed, found.ci95))
    if found.test is None:
        yield from ("-", "", "", "")
        return
    yield SHORT[found.test.name]
    yield f"{found.test.greater}:{found.test.pairs - found.test.greater}"
    yield _probability(found.test.p)
    yield _probability(found.test.p_holm)


def _probability(value: float) -> str:
    """Write a p-value; one that a float cannot hold is small, and never 0."""
    return f"{value:.2g}" if value else "<1e-300"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) >= LEAST_DECIMAL or not value else f"{value:+.0e}"
