"""Models against the angle: curves with their intervals on top of each other, boxes beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from eqaudit.comparison import Comparison
from eqaudit.pairing import Values, dice, values_of
from eqaudit.report import ElementConsistency, ElementOverlap, Estimate, Report, Spread
from eqaudit.reporters.angles import Angles, angle_rows
from eqaudit.reporters.boxes import draw_boxes, zoomed
from eqaudit.reporters.comparison_figures import (
    compared_models,
    line_of,
    name_models,
    set_comparison_title,
)
from eqaudit.reporters.curves import Estimates, draw_curve
from eqaudit.reporters.figures import PAGE_WIDTH, describe_row, new_figure, tidy

TWO_COLUMNS = 1.5
"""Pages that turns and mirrored turns beside each other are wide."""


def _errors(report: Report) -> Estimates:
    errors = report.gating_output.errors
    return {
        error.element: None if error.error is None else Estimate(error.error, error.ci95) for error in errors
    }


def _decisions(read: Callable[[ElementConsistency], Estimate | None]) -> Callable[[Report], Estimates]:
    def estimates(report: Report) -> Estimates:
        found = report.predictions
        still = [found.unmoved] if found is not None and found.unmoved is not None else []
        return {row.element: read(row) for row in [*still, *(found.by_element if found else [])]}

    return estimates


def _overlaps(read: Callable[[ElementOverlap], Spread | None]) -> Callable[[Report], Estimates]:
    def estimates(report: Report) -> Estimates:
        found = report.segmentation
        rows = [found.unmoved, *found.by_element] if found else []
        spreads = {row.element: read(row) for row in rows}
        return {
            name: None if part is None else Estimate(part.mean, part.ci95) for name, part in spreads.items()
        }

    return estimates


CURVES: Mapping[str, Callable[[Report], Estimates]] = {
    "equivariance error": _errors,
    "same class": _decisions(
        lambda row: None if row.consistency is None else Estimate(row.consistency, row.ci95)
    ),
    "accuracy": _decisions(lambda row: row.accuracy),
    "AUC": _decisions(lambda row: row.auc),
    "Dice": _overlaps(lambda row: row.dice),
    "Dice with truth": _overlaps(lambda row: row.truth_dice),
}
BOXES: Mapping[str, Callable[[Report], Values]] = {
    "error of an image": lambda report: values_of(report).output,
    "Dice": dice,
    "Dice with truth": lambda report: values_of(report).truth_dice,
}


def draw_curves(comparison: Comparison) -> Figure:
    """Draw what is known of each model at each angle, with 95 % intervals."""
    models = compared_models(comparison)
    shown = {
        label: read
        for label, read in CURVES.items()
        if any(part is not None for model in models for part in read(model.report).values())
    }

    def draw(axes: Axes, angles: Angles, label: str) -> None:
        for model in models:
            look = (model.colour, model.marker, model.label, model.style)
            draw_curve(axes, angles, shown[label](model.report), *look)
        if label != "equivariance error":
            bottom = zoomed(float(axes.dataLim.y0))
            axes.set_ylim(bottom, 1 + 0.05 * (1 - bottom))

    figure = _draw_grid(comparison, list(shown), draw, 1.9)
    name_models(figure, [line_of(model) for model in models])
    set_comparison_title(figure, comparison, "Models by angle, with 95 % intervals")
    return figure


def draw_paired_boxes(comparison: Comparison) -> Figure | None:
    """Draw how the values of single images are spread, the models beside each other; None without values."""
    models = compared_models(comparison)
    shown = {label: read for label, read in BOXES.items() if any(read(model.report) for model in models)}
    if not shown:
        return None

    def draw(axes: Axes, angles: Angles, label: str) -> None:
        width = angles.width / len(models)
        for place, model in enumerate(models):
            boxes = _boxes(shown[label](model.report), angles.names)
            shift = (place - (len(models) - 1) / 2) * width
            positions = [float(angles.degrees[angles.names.index(name)]) + shift for name in boxes]
            colours = [model.colour] * len(boxes)
            points = angles.points / len(models)
            draw_boxes(axes, list(boxes.values()), positions, colours, 0.9 * width, points, "black")

    figure = _draw_grid(comparison, list(shown), draw, 2.4)
    look: dict[str, Any] = {"alpha": 0.75, "edgecolor": "0.15"}
    name_models(figure, [Patch(facecolor=model.colour, label=model.label, **look) for model in models])
    title = "Values of single images by angle: quartiles, median, mean (diamond)"
    set_comparison_title(figure, comparison, title)
    return figure


def _boxes(values: Values, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    known = {name: [value for value in values[name] if value is not None] for name in names if name in values}
    return {name: boxplot_stats(row)[0] for name, row in known.items() if row}


def _draw_grid(
    comparison: Comparison, labels: Sequence[str], draw: Callable[[Axes, Angles, str], None], height: float
) -> Figure:
    """Draw a row for each quantity: turns, and beside them mirrored ones."""
    columns = angle_rows(comparison.reports[0])
    width = PAGE_WIDTH * (TWO_COLUMNS if len(columns) > 1 else 1)
    figure = new_figure(width, 1.5 + height * len(labels))
    grid = figure.subplots(len(labels), len(columns), squeeze=False, sharex="col", sharey="row")
    for row, label in enumerate(labels):
        for column, angles in enumerate(columns):
            axes = grid[row, column]
            tidy(axes)
            draw(axes, angles, label)
            angles.set_axis(axes)
            if row == 0:
                describe_row(axes, angles.title)
        grid[row, 0].set_ylabel(label, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("angle", fontsize=9)
    return figure
