"""The worst case of a sweep as one picture: an image, its turned copy, and what the model makes of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from eqaudit.report import Panel, PanelImage, Report
from eqaudit.reporters.escape import brief
from eqaudit.reporters.figures import (
    BLUE,
    PAGE_WIDTH,
    VERMILION,
    Array,
    as_colours,
    finite_range,
    hide_ticks,
    new_figure,
    set_title,
    tidy,
    wrap,
)

INPUTS, DIFFERENCE = 2, 5
PLACES = ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2))
"""Row and column of x, T x, f(x), f(T x), T f(x) and the difference: what is compared stands together."""
COLOURS = 3
MAP_DIMENSIONS = 3


@dataclass(frozen=True, slots=True)
class _Part:
    title: str
    array: Array

    @property
    def is_map(self) -> bool:
        return self.array.ndim > 1


def draw_worst(report: Report, panel: Panel) -> Figure:
    """Draw the six pictures of a panel; those that are compared share one scale."""
    parts = [_Part(picture.title, _array(picture)) for picture in panel.pictures]
    figure = new_figure(PAGE_WIDTH, 5.0)
    grid = figure.subplots(2, 3)
    axes = [grid[place] for place in PLACES]
    for part, where in zip(parts, axes, strict=True):
        where.set_title(part.title, fontsize=9, parse_math=False)
    _draw_inputs(axes[:INPUTS], parts[:INPUTS])
    if parts[INPUTS].is_map:
        _draw_maps(figure, axes[INPUTS:], parts[INPUTS:])
    else:
        _draw_vectors(axes[INPUTS:], parts[INPUTS:])
    where = f"{panel.image} at {panel.element} ({panel.degrees:g} degrees)"
    set_title(figure, report, "\n".join(wrap(f"{_capital(brief(panel.sentence))}: {brief(where)}")))
    return figure


def _array(picture: PanelImage) -> Array:
    """Return a vector (K,), a map (H, W), or maps (C, H, W) of which C is not 1."""
    array = np.frombuffer(picture.values, dtype=np.float32).reshape(picture.shape)
    if array.ndim > MAP_DIMENSIONS:
        array = array.reshape(-1, *array.shape[-2:])
    return array[0] if array.ndim == MAP_DIMENSIONS and len(array) == 1 else np.atleast_1d(array)


def _draw_inputs(axes: Sequence[Axes], parts: Sequence[_Part]) -> None:
    low, high = finite_range([part.array for part in parts])
    for where, part in zip(axes, parts, strict=True):
        if part.is_map:
            _draw_picture(where, part, low, high, "gray", 0)
        else:
            where.plot(part.array, color="0.3", linewidth=0.8)


def _draw_maps(figure: Figure, axes: Sequence[Axes], parts: Sequence[_Part]) -> None:
    difference = parts[-1].array
    channel = _largest_channel(difference)
    low, high = finite_range([part.array for part in parts[:-1]])
    for where, part in zip(axes[:-1], parts[:-1], strict=True):
        drawn = _draw_picture(where, part, low, high, "cividis", channel)
    if parts[0].array.ndim < MAP_DIMENSIONS or len(parts[0].array) != COLOURS:
        _add_bar(figure, axes[-2], drawn)
    if difference.ndim == MAP_DIMENSIONS:
        axes[-1].set_xlabel(f"channel {channel + 1} of {len(difference)}", fontsize=8)
        difference = difference[channel]
    reach = float(np.nanmax(np.abs(np.where(np.isfinite(difference), difference, 0)), initial=0.0)) or 1.0
    drawn = axes[-1].imshow(difference, "RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    hide_ticks(axes[-1])
    _add_bar(figure, axes[-1], drawn)


def _draw_picture(axes: Axes, part: _Part, low: float, high: float, colours: str, channel: int) -> AxesImage:
    """Draw a map in grey or false colours, three maps as red, green and blue, else one of the maps."""
    hide_ticks(axes)
    array = part.array
    if array.ndim == MAP_DIMENSIONS and len(array) == COLOURS:
        return axes.imshow(as_colours(array, low, high), interpolation="nearest")
    if array.ndim == MAP_DIMENSIONS:
        axes.set_xlabel(f"channel {channel + 1} of {len(array)}", fontsize=8)
        array = array[channel]
    return axes.imshow(array, colours, vmin=low, vmax=high, interpolation="nearest")


def _draw_vectors(axes: Sequence[Axes], parts: Sequence[_Part]) -> None:
    low, high = finite_range([part.array for part in parts])
    low, high = min(low, 0.0), max(high, 0.0)
    edge = 0.05 * (high - low)
    for where, part in zip(axes, parts, strict=True):
        tidy(where)
        last = part is parts[-1]
        where.bar(range(len(part.array)), np.nan_to_num(part.array), color=VERMILION if last else BLUE)
        where.axhline(0, color="0.3", linewidth=0.6)
        where.set_ylim(low - edge, high + edge)
        where.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _largest_channel(difference: Array) -> int:
    """Return the map that differs most."""
    if difference.ndim < MAP_DIMENSIONS:
        return 0
    return int(np.argmax(np.square(np.nan_to_num(difference)).sum(axis=(1, 2))))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _add_bar(figure: Figure, axes: Axes, drawn: AxesImage) -> None:
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.03)
    bar.ax.tick_params(labelsize=7)
