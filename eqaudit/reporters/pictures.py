"""The audit as pictures: the errors of layers and elements, or a sweep, and how channels turn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eqaudit.report import ActionPicture, ElementError, Features, Panel, Report
from eqaudit.reporters.base import (
    Rows,
    describe_asked,
    describe_measured,
    layer_name,
    layer_rows,
    shown_class,
    worst_error,
)
from eqaudit.reporters.channel_pictures import draw_channels, recorded_actions
from eqaudit.reporters.escape import brief
from eqaudit.reporters.feature_pictures import draw_features, draw_kernels
from eqaudit.reporters.figures import (
    MARKS,
    longest_name,
    name_rows,
    new_figure,
    set_title,
    to_png,
)
from eqaudit.reporters.heatmaps import draw_heatmap
from eqaudit.reporters.sweep_pictures import draw_sweep
from eqaudit.reporters.waterfall import draw_waterfall

LEAST_ERROR = 1e-17


def draw(
    report: Report, panel: Panel | None = None, actions: Sequence[ActionPicture] = ()
) -> dict[str, bytes]:
    """Return the pictures of any audit, as PNG by file name.

    ``panel`` is the worst case of a sweep. ``channels.png`` is there where channels turn: by ``actions``, or
    by the permutations that a saved report lists; ``waterfall.png`` where a diagnosis found breaking layers.
    """
    pictures = draw_sweep(report, panel) if report.kind == "sweep" else draw_check(report)
    if report.diagnose is not None and report.diagnose.first is not None:
        pictures["waterfall.png"] = to_png(draw_waterfall(report, report.diagnose))
    drawn = actions or recorded_actions(report)
    return pictures | ({"channels.png": to_png(draw_channels(report, drawn))} if drawn else {})


def draw_seen(report: Report, features: Features) -> dict[str, bytes]:
    """Return the features of an image and the kernels behind them, as PNG by file name; what there is."""
    pictures = {}
    if features.layers:
        pictures["features.png"] = to_png(draw_features(report, features))
    if features.kernels:
        pictures["kernels.png"] = to_png(draw_kernels(report, features.kernels))
    return pictures


def draw_check(report: Report) -> dict[str, bytes]:
    """Return the pictures of the errors of a group, as PNG by file name."""
    return {name: to_png(figure) for name, figure in check_figures(report).items()}


def check_figures(report: Report) -> dict[str, Figure]:
    """Return the figures of the errors of a group, by the name of the file that they are for."""
    return {"heatmap.png": draw_heatmap(report), "layers.png": _draw_layers(report)}


def _draw_layers(report: Report) -> Figure:
    rows = layer_rows(report)
    figure = new_figure(7.2 + 0.05 * longest_name(rows), 2.8 + 0.24 * len(rows))
    axes = figure.add_subplot()
    used: dict[str, None] = {}
    for row, (layer, later) in enumerate(rows):
        error = worst_error(layer)
        if error is None or error.error is None:
            axes.text(
                0.01,
                row,
                brief(layer.skipped or (error.class_ if error else "")),
                va="center",
                fontsize=7,
                transform=axes.get_yaxis_transform(),
                parse_math=False,
                in_layout=False,
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
    name_rows(axes, [layer_name(layer) for layer, _ in rows])
    handles = [
        Line2D([], [], linestyle="", color=MARKS[name][0], marker=MARKS[name][1], label=name) for name in used
    ]
    handles.append(Line2D([], [], linestyle="", color="0.6", marker=".", label="other elements"))
    handles.append(Line2D([], [], linestyle="", color="0.3", marker="|", markersize=10, label="chance"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    title = f"Equivariance error by layer under {describe_asked(report)}"
    set_title(figure, report, "\n".join([title, *describe_measured(report)]))
    return figure


def _draw_error(axes: Axes, row: int, error: ElementError, colour: str, marker: str) -> None:
    value = max(error.error or 0.0, LEAST_ERROR)
    if error.ci95 is not None:
        low, high = (max(end, LEAST_ERROR) for end in error.ci95)
        axes.plot([low, high], [row, row], color=colour, linewidth=1.5)
    axes.plot(value, row, marker=marker, color=colour, markersize=6, linestyle="")
    if error.chance:
        axes.plot(error.chance, row, marker="|", color="0.3", markersize=10, linestyle="")


def _lowest(rows: Rows) -> float:
    values = [error.error for layer, _ in rows for error in layer.errors if error.error]
    values += [error.ci95[0] for layer, _ in rows for error in layer.errors if error.ci95 and error.ci95[0]]
    return max(min(values, default=1e-3) / 3, LEAST_ERROR)
