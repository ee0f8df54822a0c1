"""Several models in one picture: curves and boxes by angle, ROC, confusion, confidence."""

from __future__ import annotations

from collections.abc import Sequence

from eqaudit.comparison import Comparison
from eqaudit.report import Features
from eqaudit.reporters.comparison_curves import draw_curves, draw_paired_boxes
from eqaudit.reporters.comparison_decisions import draw_confidence, draw_confusion, draw_roc
from eqaudit.reporters.comparison_features import draw_pooled
from eqaudit.reporters.figures import to_png


def draw_comparison(comparison: Comparison, features: Sequence[Features] = ()) -> dict[str, bytes]:
    """Return the pictures of a comparison, as PNG by file name: those for which it has values.

    ``features`` are those of one image in each model, pooled; a saved comparison has none.
    """
    figures = {
        "curves.png": draw_curves(comparison),
        "boxes.png": draw_paired_boxes(comparison),
        "roc.png": draw_roc(comparison),
        "confusion.png": draw_confusion(comparison),
        "confidence.png": draw_confidence(comparison),
        "features.png": draw_pooled(comparison, features),
    }
    return {name: to_png(figure) for name, figure in figures.items() if figure is not None}
