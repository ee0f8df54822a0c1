"""What all pictures share: a figure without global state, its title, the marks of the classes, PNG bytes."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from rich.cells import cell_len

from eqaudit.report import Report
from eqaudit.reporters.base import NOT_PLAIN, Rows, layer_name
from eqaudit.reporters.escape import brief

Array = NDArray[np.float32]

DOTS_PER_INCH = 150
PAGE_WIDTH = 7.0
MARGIN = 0.06
"""Inches around the figure and between its parts."""
FEW_ROWS = 30
LINE_LENGTH = 76
GRID_COLOUR = "0.88"

# Okabe and Ito's colours, told apart also by shape: for the colour-blind, and in grey print.
BLUE, SKY, GREEN, ORANGE, VERMILION = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00"
MARKS = {
    "exact": (GREEN, "o"),
    "at the floor": (SKY, "D"),
    "approximate": (ORANGE, "^"),
    "broken": (VERMILION, "X"),
    NOT_PLAIN: (BLUE, "s"),
    "degenerate": ("#CC79A7", "v"),
    "unresolved": ("#7F7F7F", "P"),
}


def longest_name(rows: Rows) -> int:
    """Return how many letters wide the longest name of a layer is."""
    return max((cell_len(layer_name(layer)) for layer, _ in rows), default=0)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write names, made safe already, beside the rows 0, 1, ... of some axes."""
    # Names may hold dollar signs, which would be read as mathematics.
    size = 8 if len(names) <= FEW_ROWS else 7
    axes.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches."""
    layout = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    """Give axes a light grid, two spines and letters that can be read in print."""
    axes.grid(visible=True, color=GRID_COLOUR, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def hide_ticks(axes: Axes) -> None:
    """Leave a picture without numbers at its sides."""
    axes.set_xticks([])
    axes.set_yticks([])


def finite_range(arrays: Sequence[Array]) -> tuple[float, float]:
    """Return the least and the greatest finite value of all arrays, never equal."""
    values = np.concatenate([array[np.isfinite(array)] for array in arrays])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1.0)


def as_colours(array: Array, low: float, high: float) -> Array:
    """Return three maps (3, H, W) as red, green and blue in 0..1, (H, W, 3)."""
    return np.moveaxis(np.clip((np.nan_to_num(array) - low) / (high - low), 0, 1), 0, -1)


def describe_row(axes: Axes, text: str) -> None:
    """Say above some axes what they show."""
    axes.set_title("\n".join(wrap(text, 105)), fontsize=8, loc="left", parse_math=False)


def add_legend(figure: Figure, handles: Sequence[Artist], most: int = 4) -> None:
    """Explain lines and marks below the axes, at most so many beside each other, in rows of like length."""
    rows = -(-len(handles) // most)
    columns = -(-len(handles) // max(rows, 1))
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=max(columns, 1), frameon=False, fontsize=8
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def set_title(figure: Figure, report: Report, text: str, images: int | None = None) -> None:
    """Say what a figure shows, and of which model and images; ``images`` where not all of them counted."""
    name = brief(PurePath(report.model.spec).name)
    samples = report.inputs.samples
    count = f"{samples}" if images in {None, samples} else f"{images} of {samples}"
    plural = "" if count == "1" else "s"
    lines = [text, *wrap(f"{name}, {count} image{plural} of {brief(report.inputs.source)}")]
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)


def wrap(text: str, length: int = LINE_LENGTH) -> list[str]:
    """Cut text into lines, at spaces where there are any: a name may be one long word."""
    return textwrap.wrap(text, length, break_on_hyphens=False)


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Names may be in a script that the font lacks: they are drawn as boxes, which is seen without a word.
        warnings.filterwarnings("ignore", r"(?s).*Glyph .* missing from", UserWarning)
        # Nor is there room for every name that somebody makes up: the picture is made without a layout.
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        # Without the software's version, so that the same report gives the same bytes.
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
