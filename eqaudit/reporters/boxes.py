"""Box plots against the angle: Dice of a segmentation, cosine similarity of an embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from eqaudit.report import Embedding, Report, Segmentation, Spread
from eqaudit.reporters.angles import Angles, angle_rows
from eqaudit.reporters.figures import (
    BLUE,
    GREEN,
    PAGE_WIDTH,
    SKY,
    VERMILION,
    add_legend,
    describe_row,
    new_figure,
    set_title,
    tidy,
)

FLOOR_COLOUR = "#F0E4B0"
SNAPPED = 0.5
"""Points of a line that is thick enough to be moved to whole pixels."""
ZOOM = 0.5
"""A value below which the axis starts at 0 (a cosine: at -1), so that heights compare between figures."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is drawn in boxes: a spread by element, and the mean of the unmoved images to compare with."""

    label: str
    title: str
    spreads: Mapping[str, Spread]
    least: float = 0.0
    unmoved: float | None = None


def draw_dice(report: Report, segmentation: Segmentation) -> Figure:
    """Draw Dice between the turned mask and the mask of the turned image, and below it against the truth."""
    rows = segmentation.by_element
    quantities = [
        Quantity("Dice", "mask of T x against T mask of x", {row.element: row.dice for row in rows})
    ]
    truth = {row.element: row.truth_dice for row in rows if row.truth_dice is not None}
    if truth:
        still = segmentation.unmoved.truth_dice
        title = "mask of T x against T true mask"
        quantities.append(Quantity("Dice", title, truth, unmoved=None if still is None else still.mean))
    return _draw(report, quantities, "Dice overlap by angle", segmentation.images)


def draw_cosine(report: Report, embedding: Embedding) -> Figure:
    """Draw the cosine similarity between the vectors of the turned and the unturned image."""
    spreads = {row.element: row.cosine for row in embedding.by_element}
    quantity = Quantity("cosine similarity", "f(T x) against f(x)", spreads, least=-1.0)
    return _draw(report, [quantity], "Cosine similarity by angle", embedding.images)


def _draw(report: Report, quantities: Sequence[Quantity], title: str, images: int) -> Figure:
    rows = [(quantity, angles) for quantity in quantities for angles in angle_rows(report)]
    figure = new_figure(PAGE_WIDTH, 1.5 + 2.1 * len(rows))
    grid = figure.subplots(len(rows), 1, squeeze=False, sharex=True)
    for axes, (quantity, angles) in zip(grid[:, 0], rows, strict=True):
        _draw_row(axes, quantity, angles)
    grid[-1, 0].set_xlabel("angle", fontsize=9)
    _explain(figure, quantities)
    set_title(figure, report, title, images)
    return figure


def _draw_row(axes: Axes, quantity: Quantity, angles: Angles) -> None:
    tidy(axes)
    axes.set_ylabel(quantity.label, fontsize=9)
    describe_row(axes, f"{quantity.title}; {angles.title}")
    bottom = _bottom(quantity)
    # Room for a line at 1, but for no number above it.
    axes.set_ylim(bottom, 1 + 0.05 * (1 - bottom))
    floors = angles.take({name: spread.floor for name, spread in quantity.spreads.items()})
    if np.isfinite(floors).any():
        values, edges = angles.cells(floors)
        axes.stairs(values, edges, baseline=1, fill=True, color=FLOOR_COLOUR, zorder=0.5)
    if quantity.unmoved is not None:
        axes.axhline(quantity.unmoved, color=BLUE, linestyle="--", linewidth=0.9, zorder=1)
    _draw_spreads(axes, quantity, angles)
    angles.set_axis(axes)


def _draw_spreads(axes: Axes, quantity: Quantity, angles: Angles) -> None:
    there = [place for place, name in enumerate(angles.names) if name in quantity.spreads]
    boxes = [_box(quantity.spreads[angles.names[place]]) for place in there]
    colours = [GREEN if angles.exact[place] else SKY for place in there]
    positions = [float(angles.degrees[place]) for place in there]
    draw_boxes(axes, boxes, positions, colours, angles.width, angles.points)


def draw_boxes(
    axes: Axes,
    boxes: Sequence[dict[str, Any]],
    positions: Sequence[float],
    colours: Sequence[str],
    width: float,
    points: float,
    mean: str = VERMILION,
) -> None:
    """Draw boxes, as `Axes.bxp` takes them, of a width in degrees, that is so many points on the page."""
    line = float(np.clip(0.2 * points, 0.15, 0.8))
    # Hundreds of thin lines that are moved to whole pixels would show a pattern of their own.
    thin: dict[str, Any] = {"linewidth": line, "color": "0.15", "snap": False if line < SNAPPED else None}
    drawn = axes.bxp(
        boxes,
        positions=positions,
        widths=width,
        manage_ticks=False,
        patch_artist=True,
        showmeans=True,
        boxprops={"linewidth": line, "edgecolor": "0.15", "snap": thin["snap"]},
        whiskerprops=thin,
        capprops=thin,
        medianprops={"linewidth": 1.8 * line, "color": "black"},
        meanprops=_mark("D", mean, 0.5 * points, 3.2),
        flierprops=_mark("o", "0.45", 0.45 * points, 2.2),
    )
    for box, colour in zip(drawn["boxes"], colours, strict=True):
        box.set_facecolor(to_rgba(colour, 0.75))


def _box(spread: Spread) -> dict[str, Any]:
    return {
        "mean": spread.mean,
        "med": spread.p50,
        "q1": spread.p25,
        "q3": spread.p75,
        "whislo": spread.whiskers[0],
        "whishi": spread.whiskers[1],
        "fliers": spread.outliers,
    }


def _mark(shape: str, colour: str, size: float, largest: float) -> dict[str, Any]:
    return {
        "marker": shape,
        "markersize": float(np.clip(size, 0.5, largest)),
        "markerfacecolor": colour,
        "markeredgecolor": "none",
    }


def _bottom(quantity: Quantity) -> float:
    spreads = quantity.spreads.values()
    values = [
        value for spread in spreads for value in (spread.whiskers[0], spread.mean, *spread.outliers[:1])
    ]
    values += [spread.floor for spread in spreads if spread.floor is not None]
    least = min(values, default=0.0)
    if least < 0:
        return quantity.least - 0.02
    return zoomed(least)


def zoomed(least: float) -> float:
    """Return where an axis of shares starts, whose least value is this."""
    return -0.02 if least < ZOOM else min(1 - 1.08 * (1 - least), 0.9)


def _explain(figure: Figure, quantities: Sequence[Quantity]) -> None:
    handles: list[Line2D | Patch] = [
        Patch(facecolor=to_rgba(SKY, 0.75), edgecolor="0.15", label="quartiles, resampled"),
        Patch(facecolor=to_rgba(GREEN, 0.75), edgecolor="0.15", label="quartiles, exact turn"),
        Line2D([], [], color="black", linewidth=1.5, label="median"),
        Line2D([], [], linestyle="", label="mean", **_mark("D", VERMILION, 4, 4)),
        Line2D([], [], linestyle="", label="outlier", **_mark("o", "0.45", 3, 3)),
    ]
    if any(spread.floor is not None for part in quantities for spread in part.spreads.values()):
        handles.append(Patch(color=FLOOR_COLOUR, label="what the measurement alone leaves (floor to 1)"))
    if any(part.unmoved is not None for part in quantities):
        handles.append(
            Line2D([], [], color=BLUE, linestyle="--", linewidth=0.9, label="mean of unmoved images")
        )
    # Three beside each other: a fourth would leave the page.
    add_legend(figure, handles, 3)
