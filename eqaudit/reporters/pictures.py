"""The audit as pictures: a heatmap of layers and elements, and the error of each layer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eqaudit.report import ElementError, Layer, Report
from eqaudit.reporters.base import NOT_PLAIN, later_exact, layer_name, show, shown_class, worst_error
from eqaudit.verdict import format_error

DOTS_PER_INCH = 150
LEAST_SHARE, LARGEST_SHARE = 1e-8, 1.0
LEAST_ERROR = 1e-17
FEW_ROWS = 30
LINE_LENGTH = 76

# Okabe and Ito's colours, told apart also by shape: for the colour-blind, and in grey print.
MARKS = {
    "exact": ("#009E73", "o"),
    "at the floor": ("#56B4E9", "D"),
    "approximate": ("#E69F00", "^"),
    "broken": ("#D55E00", "X"),
    NOT_PLAIN: ("#0072B2", "s"),
    "degenerate": ("#CC79A7", "v"),
    "unresolved": ("#7F7F7F", "P"),
}


def draw_check(report: Report) -> dict[str, bytes]:
    """Return the pictures of an audit, as PNG by file name."""
    return {"heatmap.png": _draw_heatmap(report), "layers.png": _draw_layers(report)}


def _draw_heatmap(report: Report) -> bytes:
    rows = _rows(report)
    elements = [error.element for error in report.gating_output.errors]
    shares = np.full((len(rows), len(elements)), np.nan)
    for row, (layer, _) in enumerate(rows):
        shares[row, : len(layer.errors)] = [_share(error) for error in layer.errors]
    figure = _figure(max(6.4, 2.6 + 0.62 * len(elements) + 0.07 * _longest(rows)), 2.4 + 0.24 * len(rows))
    axes = figure.add_subplot()
    norm = LogNorm(LEAST_SHARE, LARGEST_SHARE, clip=True)
    values = np.ma.masked_invalid(np.maximum(shares, LEAST_SHARE))
    image = axes.imshow(values, "cividis", norm, aspect="auto")
    axes.set_facecolor("white")
    axes.set_xticks(range(len(elements)), elements, rotation=90 if len(elements) > 12 else 0)  # noqa: PLR2004
    axes.xaxis.tick_top()
    _name_rows(axes, [layer for layer, _ in rows])
    _write_shares(axes, rows, shares)
    bar = figure.colorbar(image, ax=axes, extend="both", shrink=min(1.0, 4 / figure.get_figheight()))
    bar.set_label("share of chance\n(1: as far as unrelated images)", fontsize=8)
    _title(figure, report, f"Equivariance error under {report.group.name}, by layer and element")
    return _png(figure)


def _write_shares(axes: Axes, rows: Rows, shares: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    for row, (layer, _) in enumerate(rows):
        if layer.skipped:
            axes.text(-0.4, row, f"skipped: {show(layer.skipped)}", va="center", fontsize=6, parse_math=False)
        for column, error in enumerate(layer.errors):
            share = shares[row, column]
            text = format_error(error.error) if np.isfinite(share) else error.class_
            dark = np.isfinite(share) and share < 1e-3  # noqa: PLR2004 - the lower half of the colours is dark
            axes.text(
                column, row, text, ha="center", va="center", fontsize=6, color="white" if dark else "black"
            )


def _draw_layers(report: Report) -> bytes:
    rows = _rows(report)
    figure = _figure(7.2 + 0.05 * _longest(rows), 2.8 + 0.24 * len(rows))
    axes = figure.add_subplot()
    used: dict[str, None] = {}
    for row, (layer, later) in enumerate(rows):
        error = worst_error(layer)
        if error is None or error.error is None:
            axes.text(
                0.01,
                row,
                show(layer.skipped or (error.class_ if error else "")),
                va="center",
                fontsize=7,
                transform=axes.get_yaxis_transform(),
                parse_math=False,
            )
            continue
        others = [max(other.error, LEAST_ERROR) for other in layer.errors if other.error is not None]
        axes.plot(others, [row] * len(others), marker=".", color="0.6", markersize=5, linestyle="")
        used[shown_class(error, later)] = None
        _draw_error(axes, row, error, *MARKS[shown_class(error, later)])
    axes.set_xscale("log")
    axes.set_xlim(_lowest(rows), 4)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("equivariance error at the worst element (0 perfect, 2 the worst), 95 % interval")
    axes.grid(visible=True, axis="x", color="0.85")
    axes.set_axisbelow(True)
    _name_rows(axes, [layer for layer, _ in rows])
    handles = [
        Line2D([], [], linestyle="", color=MARKS[name][0], marker=MARKS[name][1], label=name) for name in used
    ]
    handles.append(Line2D([], [], linestyle="", color="0.6", marker=".", label="other elements"))
    handles.append(Line2D([], [], linestyle="", color="0.3", marker="|", markersize=10, label="chance"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    _title(figure, report, f"Equivariance error by layer under {report.group.name}")
    return _png(figure)


def _draw_error(axes: Axes, row: int, error: ElementError, colour: str, marker: str) -> None:
    value = max(error.error or 0.0, LEAST_ERROR)
    if error.ci95 is not None:
        low, high = (max(end, LEAST_ERROR) for end in error.ci95)
        axes.plot([low, high], [row, row], color=colour, linewidth=1.5)
    axes.plot(value, row, marker=marker, color=colour, markersize=6, linestyle="")
    if error.chance:
        axes.plot(error.chance, row, marker="|", color="0.3", markersize=10, linestyle="")


Rows = Sequence[tuple[Layer, frozenset[str]]]


def _rows(report: Report) -> Rows:
    later = [*later_exact(report), *(frozenset[str]() for _ in report.outputs)]
    return list(zip([*report.layers, *report.outputs], later, strict=True))


def _share(error: ElementError) -> float:
    return float("nan") if error.normalised is None else error.normalised


def _longest(rows: Rows) -> int:
    return max((len(layer_name(layer)) for layer, _ in rows), default=0)


def _lowest(rows: Rows) -> float:
    values = [error.error for layer, _ in rows for error in layer.errors if error.error]
    values += [error.ci95[0] for layer, _ in rows for error in layer.errors if error.ci95 and error.ci95[0]]
    return max(min(values, default=1e-3) / 3, LEAST_ERROR)


def _name_rows(axes: Axes, layers: list[Layer]) -> None:
    # Names may hold dollar signs, which would be read as mathematics.
    size = 8 if len(layers) <= FEW_ROWS else 7
    axes.set_yticks(
        range(len(layers)), [layer_name(layer) for layer in layers], fontsize=size, parse_math=False
    )


def _title(figure: Figure, report: Report, text: str) -> None:
    name = show(PurePath(report.model.spec).name)
    inputs = f"{report.inputs.samples} images of {show(report.inputs.source)}"
    lines = [text, *_wrap(f"{name}, {inputs}")]
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)


def _wrap(text: str) -> list[str]:
    return [text[start : start + LINE_LENGTH] for start in range(0, len(text), LINE_LENGTH)]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # Without the software's version, so that the same report gives the same bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
