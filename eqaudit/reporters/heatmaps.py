"""Heatmaps: the share of chance by layer and element, and the accuracy by class and angle."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eqaudit.report import ElementError, Predictions, Report
from eqaudit.reporters.angles import Angles, angle_rows
from eqaudit.reporters.base import Rows, describe_asked, describe_measured, layer_name, layer_rows
from eqaudit.reporters.escape import brief
from eqaudit.reporters.figures import (
    PAGE_WIDTH,
    describe_row,
    longest_name,
    name_rows,
    new_figure,
    set_title,
)
from eqaudit.verdict import format_error

LEAST_SHARE, LARGEST_SHARE = 1e-8, 1.0
MOST_NUMBERS = 16
"""Columns, up to which each cell has room for its number."""
MOST_LABELS = 24
UPRIGHT_LABELS = 12
LABEL_ROOM = 40
"""Labels beside each other stand at least this part of the columns apart."""
DARK = 0.6
"""The share of the colours, from below, on which white letters are read."""
WIDEST = 10.0
LOWEST = 3.4
MOST_CLASSES = 60
LONGEST_CLASS = 24


def draw_heatmap(report: Report) -> Figure:
    """Draw the share of chance of every layer at every element."""
    rows = layer_rows(report)
    # The gating output may be one that was not measured.
    elements = [error.element for error in max((layer.errors for layer, _ in rows), key=len)]
    numbers = len(elements) <= MOST_NUMBERS
    shares = np.full((len(rows), max(len(elements), 1)), np.nan)
    for row, (layer, _) in enumerate(rows):
        shares[row, : len(layer.errors)] = [_share(error) for error in layer.errors]
    columns = 0.62 * len(elements) if numbers else min(0.3 * len(elements), WIDEST)
    width = max(6.4, 2.6 + columns + 0.07 * longest_name(rows))
    figure = new_figure(width, max(LOWEST, 2.4 + 0.24 * len(rows)))
    axes = figure.add_subplot()
    norm = LogNorm(_least(report, shares), LARGEST_SHARE, clip=True)
    values = np.ma.masked_invalid(np.maximum(shares, LEAST_SHARE))
    image = axes.imshow(values, "cividis", norm, aspect="auto", interpolation="nearest")
    axes.set_facecolor("white")
    _name_columns(axes, report, elements)
    name_rows(axes, [layer_name(layer) for layer, _ in rows])
    if numbers:
        _write_shares(axes, rows, shares, norm)
    _write_reasons(axes, rows, shares, numbers=numbers)
    bar = figure.colorbar(image, ax=axes, extend="both", shrink=min(1.0, 4 / figure.get_figheight()))
    bar.set_label("share of chance\n(1: as far as unrelated images)", fontsize=8)
    over = "element" if report.kind == "check" else "angle"
    under = f" under {describe_asked(report)}" if report.kind == "check" else ""
    title = f"Equivariance error{under}, by layer and {over}"
    set_title(figure, report, "\n".join([title, *describe_measured(report)]))
    return figure


def _least(report: Report, shares: NDArray[np.float64]) -> float:
    """Return where the colours begin: the same in every check; of a sweep where its own shares begin.

    A check is about what holds exactly, a sweep about how far what does not hold is off.
    """
    seen = shares[np.isfinite(shares) & (shares > 0)]
    if report.kind == "check" or not seen.size:
        return LEAST_SHARE
    return float(np.clip(10.0 ** np.floor(np.log10(seen.min())), LEAST_SHARE, LARGEST_SHARE / 100))


def _share(error: ElementError) -> float:
    return float("nan") if error.normalised is None else error.normalised


def _write_shares(axes: Axes, rows: Rows, shares: NDArray[np.float64], norm: LogNorm) -> None:
    for row, (layer, _) in enumerate(rows):
        for column, error in enumerate(layer.errors):
            share = shares[row, column]
            text = format_error(error.error) if np.isfinite(share) else error.class_
            dark = np.isfinite(share) and float(norm(max(share, LEAST_SHARE))) < DARK
            axes.text(
                column, row, text, ha="center", va="center", fontsize=6, color="white" if dark else "black"
            )


def _write_reasons(axes: Axes, rows: Rows, shares: NDArray[np.float64], *, numbers: bool) -> None:
    for row, (layer, _) in enumerate(rows):
        text = f"skipped: {brief(layer.skipped)}" if layer.skipped else ""
        if not numbers and layer.errors and not np.isfinite(shares[row]).any():
            text = layer.errors[0].class_
        # A long reason may end at the edge: it must leave room for the picture.
        axes.text(-0.4, row, text, va="center", fontsize=6, parse_math=False, in_layout=False)


def _name_columns(axes: Axes, report: Report, elements: Sequence[str]) -> None:
    """Name the elements above the columns: all, or those at multiples of 45 degrees, or every so many."""
    places = list(range(len(elements)))
    if len(places) > MOST_LABELS:
        degrees = {pose.name: pose.degrees for pose in report.group.elements}
        round_ones = [place for place in places if degrees.get(elements[place], 0.0) % 45 == 0]
        step = -(-len(places) // MOST_LABELS)
        places = round_ones if 2 < len(round_ones) <= MOST_LABELS else places[::step]  # noqa: PLR2004 - both ends and more
        far = [right - left >= len(elements) / LABEL_ROOM for left, right in pairwise(places)]
        places = [places[0], *(place for place, apart in zip(places[1:], far, strict=True) if apart)]
    names = [brief(elements[place]) for place in places]
    axes.set_xticks(places, names, rotation=90 if len(names) > UPRIGHT_LABELS else 0, parse_math=False)
    axes.xaxis.tick_top()


def draw_per_class(report: Report, predictions: Predictions) -> Figure:
    """Draw the accuracy of every class at every angle; a class without images stays white."""
    shares = {row.element: row.class_accuracy or [] for row in predictions.by_element}
    classes = max(len(row) for row in shares.values())
    angles = angle_rows(report)
    height = 0.2 * min(classes, MOST_CLASSES) + 0.4
    figure = new_figure(PAGE_WIDTH, 1.3 + height * len(angles))
    grid = figure.subplots(len(angles), 1, squeeze=False, sharex=True)
    for axes, row in zip(grid[:, 0], angles, strict=True):
        _draw_classes(axes, row, shares, _counted_names(predictions, classes))
        axes.set_ylabel("class (images)" if predictions.class_images else "class", fontsize=9)
    _add_bar(figure, grid[:, 0].tolist())
    grid[-1, 0].set_xlabel("angle", fontsize=9)
    set_title(figure, report, "Accuracy by class and angle", predictions.images)
    return figure


def _draw_classes(
    axes: Axes, angles: Angles, shares: dict[str, list[float | None]], names: list[str]
) -> None:
    table = np.full((len(names), len(angles.names)), np.nan)
    for column, element in enumerate(angles.names):
        found = shares.get(element, [])
        table[: len(found), column] = [np.nan if share is None else share for share in found]
    axes.imshow(
        np.ma.masked_invalid(table), "cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    places = [place for place, angle in enumerate(angles.degrees) if _is_tick(angles, float(angle))]
    axes.set_xticks(places, [f"{angles.degrees[place]:g}°" for place in places], fontsize=8)
    name_rows(axes, names)
    if len(names) > MOST_CLASSES:
        step = -(-len(names) // MOST_CLASSES)
        axes.set_yticks(range(0, len(names), step), names[::step], fontsize=7, parse_math=False)
    describe_row(axes, angles.title)


def _is_tick(angles: Angles, angle: float) -> bool:
    return bool(np.isclose(angles.ticks(), angle).any())


def class_names(predictions: Predictions, classes: int) -> list[str]:
    """Return the names of the classes, or their numbers, short enough for the side of a picture."""
    names = [
        predictions.class_names[place] if place < len(predictions.class_names) else str(place)
        for place in range(classes)
    ]
    shown = [brief(name) for name in names]
    return [name if len(name) <= LONGEST_CLASS else f"{name[: LONGEST_CLASS - 1]}…" for name in shown]


def _counted_names(predictions: Predictions, classes: int) -> list[str]:
    counts = predictions.class_images or []
    names = enumerate(class_names(predictions, classes))
    return [f"{name} ({counts[place]})" if place < len(counts) else name for place, name in names]


def _add_bar(figure: Figure, rows: list[Axes]) -> None:
    bar = figure.colorbar(rows[0].images[0], ax=rows, shrink=min(1.0, 4 / figure.get_figheight()))
    bar.set_label("accuracy", fontsize=8)
    bar.ax.tick_params(labelsize=8)
