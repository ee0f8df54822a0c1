"""The waterfall of local errors: what each layer adds, one after the other, as shares of all."""

from __future__ import annotations

from matplotlib.figure import Figure

from eqaudit.report import Diagnosis, Report
from eqaudit.reporters.escape import brief
from eqaudit.reporters.figures import BLUE, VERMILION, name_rows, new_figure, set_title, tidy

MOST_ROWS = 40


def draw_waterfall(report: Report, found: Diagnosis) -> Figure:
    """Draw the breaking layers, the largest if there are many, in order of execution, then the rest."""
    breaking = [layer for layer in found.layers if layer.elements]
    largest = sorted((layer.share for layer in breaking), reverse=True)[:MOST_ROWS]
    shown = [layer for layer in breaking if largest and layer.share >= largest[-1]][:MOST_ROWS]
    rest = max(0.0, 1.0 - sum(layer.share for layer in shown)) if shown else 0.0
    names = [brief(layer.name) for layer in shown] + [f"{len(found.layers) - len(shown)} others"]
    shares = [*(layer.share for layer in shown), rest]
    figure = new_figure(7.2, 2.2 + 0.26 * len(names))
    axes = figure.add_subplot()
    start = 0.0
    for row, share in enumerate(shares):
        axes.barh(
            row, 100 * share, left=100 * start, color=VERMILION if row < len(shown) else BLUE, height=0.7
        )
        start += share
    for row, layer in enumerate(shown):
        axes.text(101, row, f"{layer.local_error:.2g}", va="center", fontsize=7)
    tidy(axes)
    axes.set_xlim(0, 110)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("share of the squared local errors, added up (%); on the right the local error")
    name_rows(axes, names)
    set_title(figure, report, f"What each layer adds itself under {found.group}", found.images)
    return figure
