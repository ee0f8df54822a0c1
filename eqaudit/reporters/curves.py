"""Curves against the angle: what a classifier decides, and the PSNR of a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqaudit.report import Dense, ElementConsistency, Estimate, Predictions, Report
from eqaudit.reporters.angles import Angles, angle_rows
from eqaudit.reporters.escape import brief
from eqaudit.reporters.figures import (
    BLUE,
    GREEN,
    PAGE_WIDTH,
    VERMILION,
    add_legend,
    describe_row,
    new_figure,
    set_title,
    tidy,
)

Estimates = Mapping[str, Estimate | None]
LARGEST_MARK = 4.0


def draw_consistency(report: Report, predictions: Predictions) -> Figure:
    """Draw consistency and, with labels, accuracy; below them the total variation of the probabilities."""
    angles = angle_rows(report)
    figure = new_figure(PAGE_WIDTH, 1.5 + 3.0 * len(angles))
    grid = figure.subplots(
        2 * len(angles), 1, squeeze=False, sharex=True, height_ratios=[2.2, 1] * len(angles)
    )
    rows = predictions.by_element
    for place, row in enumerate(angles):
        upper, lower = grid[2 * place, 0], grid[2 * place + 1, 0]
        _draw_decisions(upper, row, predictions)
        variation = {part.element: part.total_variation for part in rows}
        draw_curve(lower, row, variation, "0.35", "s", "total variation")
        _finish_share(lower, row, "total variation", 0.0)
        describe_row(upper, row.title)
    grid[-1, 0].set_xlabel("angle", fontsize=9)
    _explain(figure, [grid[0, 0], grid[1, 0]])
    what = "Consistency and accuracy" if _has_accuracy(rows) else "Consistency of predictions"
    set_title(figure, report, f"{what} by angle", predictions.images)
    return figure


def _draw_decisions(axes: Axes, angles: Angles, predictions: Predictions) -> None:
    rows = predictions.by_element
    consistency: Estimates = {
        row.element: None if row.consistency is None else Estimate(row.consistency, row.ci95) for row in rows
    }
    draw_curve(axes, angles, consistency, BLUE, "o", "consistency")
    shown = [consistency]
    if _has_accuracy(rows):
        accuracy: Estimates = {row.element: row.accuracy for row in rows}
        draw_curve(axes, angles, accuracy, VERMILION, "^", "accuracy")
        shown.append(accuracy)
        if predictions.unmoved is not None and predictions.unmoved.accuracy is not None:
            _draw_level(
                axes, predictions.unmoved.accuracy.value, VERMILION, "--", "accuracy of unmoved images"
            )
    if predictions.orbit_consistency is not None:
        _draw_level(axes, predictions.orbit_consistency, BLUE, ":", "same class at every pose")
    _mark_worst(axes, angles, shown[-1], "accuracy" if len(shown) > 1 else "consistency")
    _finish_share(axes, angles, "share of images", -0.02)


def _has_accuracy(rows: Sequence[ElementConsistency]) -> bool:
    return any(row.accuracy is not None for row in rows)


def draw_curve(
    axes: Axes, angles: Angles, estimates: Estimates, colour: str, marker: str, label: str, style: str = "-"
) -> None:
    """Draw what is known at each angle, with a band for its interval."""
    known = {name: part for name, part in estimates.items() if part is not None}
    low, high = angles.take_ends({name: part.ci95 for name, part in known.items()})
    values = angles.take({name: part.value for name, part in known.items()})
    axes.fill_between(angles.degrees, low, high, color=colour, alpha=0.18, linewidth=0)
    if angles.sparse:
        axes.vlines(angles.degrees, low, high, color=colour, alpha=0.5, linewidth=1.0)
    size = float(np.clip(0.7 * angles.points, 0.8, LARGEST_MARK))
    look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": style}
    axes.plot(angles.degrees, values, markersize=size, linewidth=1.1, label=label, **look)


def _draw_level(axes: Axes, value: float, colour: str, style: str, label: str) -> None:
    axes.axhline(value, color=colour, linestyle=style, linewidth=0.9, label=label)


def _mark_worst(axes: Axes, angles: Angles, estimates: Estimates, what: str) -> None:
    values = angles.take({name: None if part is None else part.value for name, part in estimates.items()})
    if not np.isfinite(values).any() or np.nanmin(values) == np.nanmax(values):
        return
    place = int(np.nanargmin(values))
    text = f"least {what}: {values[place]:.2f} at {brief(angles.names[place])}"
    axes.plot(angles.degrees[place], values[place], "o", markersize=9, markerfacecolor="none", color="black")
    axes.text(
        0.995, 1.02, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, parse_math=False
    )


def _finish_share(axes: Axes, angles: Angles, label: str, bottom: float) -> None:
    tidy(axes)
    axes.set_ylim(bottom, 1.03)
    axes.set_ylabel(label, fontsize=9)
    angles.set_axis(axes)


def draw_psnr(report: Report, dense: Dense) -> Figure:
    """Draw the PSNR of all images; equal maps, whose PSNR is infinite, stand at the top."""
    angles = angle_rows(report)
    figure = new_figure(PAGE_WIDTH, 1.4 + 2.5 * len(angles))
    grid = figure.subplots(len(angles), 1, squeeze=False, sharex=True, sharey=True)
    for axes, row in zip(grid[:, 0], angles, strict=True):
        _draw_fidelity(axes, row, dense)
    grid[-1, 0].set_xlabel("angle", fontsize=9)
    _explain(figure, grid[:, 0].tolist())
    set_title(figure, report, "PSNR between f(T x) and T f(x) by angle", dense.images)
    return figure


def _draw_fidelity(axes: Axes, angles: Angles, dense: Dense) -> None:
    decibels: Estimates = {
        row.element: None if row.psnr is None else Estimate(row.psnr, row.ci95) for row in dense.by_element
    }
    draw_curve(axes, angles, decibels, BLUE, "o", "PSNR, 95 % interval")
    equal = [
        float(angle)
        for angle, name in zip(angles.degrees, angles.names, strict=True)
        if name in decibels and decibels[name] is None
    ]
    if equal:
        # In shares of the height: no number of decibels is infinite.
        axes.plot(
            equal,
            [0.96] * len(equal),
            "^",
            color=GREEN,
            markersize=6,
            transform=axes.get_xaxis_transform(),
            label="equal maps (infinite)",
        )
    tidy(axes)
    axes.margins(y=0.15)
    axes.set_ylabel("PSNR (dB)", fontsize=9)
    describe_row(axes, f"{angles.title}; peak {dense.peak:.3g}")
    angles.set_axis(axes)


def _explain(figure: Figure, parts: Sequence[Axes]) -> None:
    handles: dict[str, Artist] = {}
    for axes in parts:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    add_legend(figure, list(handles.values()))
