"""The equivariance error of the judged output against the angle, with what it is measured against."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from eqaudit.report import ElementError, Report
from eqaudit.reporters.angles import Angles, angle_rows
from eqaudit.reporters.escape import brief, show
from eqaudit.reporters.figures import (
    MARKS,
    PAGE_WIDTH,
    add_legend,
    describe_row,
    new_figure,
    set_title,
    tidy,
)

FLOOR_COLOUR = "#F0E4B0"
LOGARITHMIC = 100.0
"""Errors spread further than this, largest by least, are read on a logarithmic axis."""
LARGEST_MARK = 6.0
LEAST_EXACT_MARK = 4.0
"""The few exact turns are seen among hundreds of others."""

Errors = Mapping[str, ElementError]


def draw_error(report: Report) -> Figure:
    """Draw the error of the gating output at each angle, its floor and chance."""
    output = report.gating_output
    errors = {error.element: error for error in output.errors}
    angles = angle_rows(report)
    factor = None if report.resampling is None else report.resampling.floor_factor
    figure = new_figure(PAGE_WIDTH, 1.6 + 2.6 * len(angles))
    grid = figure.subplots(len(angles), 1, squeeze=False, sharex=True, sharey=True)
    for axes, row in zip(grid[:, 0], angles, strict=True):
        tidy(axes)
        axes.set_ylabel("equivariance error", fontsize=9)
        _set_scale(axes, errors)
        _draw_levels(axes, row, errors, factor)
        _draw_errors(axes, row, errors)
        row.set_axis(axes)
        missing = show(output.no_floor or "") if row is angles[0] else ""
        describe_row(axes, f"{row.title}; {missing}" if missing else row.title)
    grid[-1, 0].set_xlabel("angle", fontsize=9)
    add_legend(figure, _handles(errors, factor))
    set_title(figure, report, f"Equivariance error of {brief(output.name)} by angle")
    return figure


def _set_scale(axes: Axes, errors: Errors) -> None:
    """Choose the axis: linear from 0, or logarithmic and near the bottom linear, so that 0 has its place."""
    values = [value for error in errors.values() for value in (error.error, error.floor) if value]
    tops = [error.chance or 0.0 for error in errors.values()]
    tops += [error.ci95[1] for error in errors.values() if error.ci95 is not None]
    top = max([*values, *tops], default=0.0) or 1.0
    if not values or max(values) < LOGARITHMIC * min(values):
        axes.set_ylim(-0.03 * top, 1.06 * top)
        return
    lowest = 10.0 ** math.floor(math.log10(min(values)))
    axes.set_yscale("symlog", linthresh=lowest, linscale=0.4)
    axes.set_ylim(-0.25 * lowest, 2 * top)


def _draw_levels(axes: Axes, angles: Angles, errors: Errors, factor: float | None) -> None:
    bottom = axes.get_ylim()[0]
    floors = angles.take({name: error.floor for name, error in errors.items()})
    if np.isfinite(floors).any():
        values, edges = angles.cells(floors)
        axes.stairs(values, edges, baseline=bottom, fill=True, color=FLOOR_COLOUR, zorder=0.5)
        if factor is not None:
            axes.stairs(factor * values, edges, baseline=None, color="#8A7A2F", linestyle="--", linewidth=0.9)
    chance = angles.take({name: error.chance for name, error in errors.items()})
    if np.isfinite(chance).any():
        axes.stairs(*angles.cells(chance), baseline=None, color="0.3", linestyle=":", linewidth=1.0)


def _draw_errors(axes: Axes, angles: Angles, errors: Errors) -> None:
    values = angles.take({name: error.error for name, error in errors.items()})
    low, high = angles.take_ends({name: error.ci95 for name, error in errors.items()})
    axes.plot(angles.degrees, values, color="0.6", linewidth=0.7, zorder=2)
    # Exact turns are measured otherwise than resampled ones: no band joins the two.
    inside = ~angles.exact
    axes.fill_between(angles.degrees, low, high, where=inside, color="0.5", alpha=0.25, linewidth=0, zorder=1)
    alone = np.full(len(inside), angles.sparse) | ~inside
    axes.vlines(angles.degrees[alone], low[alone], high[alone], color="0.5", linewidth=1.0)
    size = float(np.clip(0.9 * angles.points, 1.5, LARGEST_MARK))
    for name, (colour, marker) in MARKS.items():
        chosen = np.array([_class(errors, element) == name for element in angles.names])
        for exact in (False, True):
            here = chosen & (angles.exact == exact)
            axes.plot(
                angles.degrees[here],
                values[here],
                linestyle="",
                color=colour,
                marker=marker,
                markersize=max(size, LEAST_EXACT_MARK) if exact else size,
                zorder=3 + exact,
            )


def _class(errors: Errors, element: str) -> str | None:
    return errors[element].class_ if element in errors else None


def _handles(errors: Errors, factor: float | None) -> list[Line2D | Patch]:
    classes = {error.class_ for error in errors.values()}
    handles: list[Line2D | Patch] = [
        Line2D([], [], linestyle="", color=colour, marker=marker, label=name)
        for name, (colour, marker) in MARKS.items()
        if name in classes
    ]
    if any(error.ci95 is not None for error in errors.values()):
        handles.append(Patch(color="0.5", alpha=0.4, label="95 % interval"))
    if any(error.floor is not None for error in errors.values()):
        handles.append(Patch(color=FLOOR_COLOUR, label="below the floor"))
        if factor is not None:
            handles.append(
                Line2D([], [], color="#8A7A2F", linestyle="--", linewidth=0.9, label=f"{factor:g} x floor")
            )
    if any(error.chance is not None for error in errors.values()):
        handles.append(Line2D([], [], color="0.3", linestyle=":", linewidth=1.0, label="chance"))
    return handles
