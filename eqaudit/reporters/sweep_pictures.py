"""The pictures of a sweep: what the task makes of each angle, the error, the layers, and the worst case."""

from __future__ import annotations

from matplotlib.figure import Figure

from eqaudit.report import Panel, Report
from eqaudit.reporters.boxes import draw_cosine, draw_dice
from eqaudit.reporters.curves import draw_consistency, draw_psnr
from eqaudit.reporters.error_curve import draw_error
from eqaudit.reporters.figures import to_png
from eqaudit.reporters.heatmaps import draw_heatmap, draw_per_class
from eqaudit.reporters.worst_case import draw_worst


def draw_sweep(report: Report, panel: Panel | None = None) -> dict[str, bytes]:
    """Return the pictures of a sweep, as PNG by file name; ``worst.png`` only with a panel."""
    return {name: to_png(figure) for name, figure in sweep_figures(report, panel).items()}


def sweep_figures(report: Report, panel: Panel | None = None) -> dict[str, Figure]:
    """Return the figures of a sweep, by the name of the file that they are for."""
    figures = {"error.png": draw_error(report), "heatmap.png": draw_heatmap(report)}
    if report.predictions is not None:
        figures["consistency.png"] = draw_consistency(report, report.predictions)
        if any(row.class_accuracy for row in report.predictions.by_element):
            figures["per_class.png"] = draw_per_class(report, report.predictions)
    if report.segmentation is not None:
        figures["dice.png"] = draw_dice(report, report.segmentation)
    if report.dense is not None:
        figures["psnr.png"] = draw_psnr(report, report.dense)
    if report.embedding is not None:
        figures["cosine.png"] = draw_cosine(report, report.embedding)
    if panel is not None:
        figures["worst.png"] = draw_worst(report, panel)
    return figures
