"""What models decide on the unmoved images: ROC curves, confusion matrices, confidence against confidence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from eqaudit.comparison import Comparison
from eqaudit.pairing import right, values_of
from eqaudit.report import Report
from eqaudit.reporters.comparison_figures import (
    Compared,
    compared_models,
    line_of,
    name_models,
    set_comparison_title,
)
from eqaudit.reporters.figures import (
    BLUE,
    GREEN,
    PAGE_WIDTH,
    VERMILION,
    describe_row,
    new_figure,
    tidy,
)
from eqaudit.reporters.heatmaps import class_names
from eqaudit.roc import problems, roc_curves
from eqaudit.statistics import Floats, Integers

GRID = np.linspace(0, 1, 1001)
MOST_BESIDE = 3
MOST_NUMBERS = 12
"""Classes, up to which each cell of a matrix has room for its number."""
MOST_LABELS = 30
DARK = 0.6
GROUPS = {
    "both right": (GREEN, "o"),
    "only the model of the x axis right": (BLUE, "^"),
    "only the model of the y axis right": (VERMILION, "v"),
    "neither right": ("0.4", "X"),
    "same class": (GREEN, "o"),
    "another class": (VERMILION, "X"),
}
"""How two models decide on an image: with labels the first four, without the last two."""
UPRIGHT = 8
"""Letters of the longest name, up to which names of classes stand beside each other."""


def probabilities(report: Report) -> Floats | None:
    """Return the probabilities of each unmoved image, (N, K) with K at least 2, NaN where not finite."""
    found, values = report.predictions, values_of(report)
    known = [row for row in values.scores if row is not None]
    if found is None or not known:
        return None
    scores = np.array([[np.nan] * len(known[0]) if row is None else row for row in values.scores])
    if scores.shape[1] > 1:
        return scores
    # The sigmoid, in a form that never overflows.
    one = (1 + np.tanh(scores / 2)) / 2 if found.scores == "logits" else scores
    return np.hstack([1 - one, one])


def draw_roc(comparison: Comparison) -> Figure | None:
    """Draw the ROC curves of the unmoved images on top of each other; None without labels or scores."""
    models = [model for model in compared_models(comparison) if _problems(model.report)]
    if not models:
        return None
    figure = new_figure(0.8 * PAGE_WIDTH, 0.85 * PAGE_WIDTH)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    for model in models:
        false, true = _mean_curve(model.report)
        axes.plot(false, true, color=model.colour, linestyle=model.style, linewidth=1.4)
    tidy(axes)
    axes.set_aspect("equal")
    axes.set_xlabel("share of false positives", fontsize=9)
    axes.set_ylabel("share of true positives", fontsize=9)
    handles = [line_of(model, marked=False) for model in models]
    for handle, model in zip(handles, models, strict=True):
        handle.set_label(f"{model.label}, AUC {_auc(model.report)}")
    name_models(figure, handles)
    several = len(_problems(models[0].report)) > 1
    what = "mean over classes against the rest" if several else "of class 1 against class 0"
    set_comparison_title(figure, comparison, f"ROC curves at 0 degrees, {what}")
    return figure


def _problems(report: Report) -> list[tuple[Floats, NDArray[np.bool_]]]:
    values = values_of(report)
    return problems(values, [place for place, row in enumerate(values.scores) if row is not None])


def _mean_curve(report: Report) -> tuple[Floats, Floats]:
    found = _problems(report)
    counts = np.ones((1, len(found[0][0])), dtype=np.int64)
    curves = [roc_curves(problem, counts) for problem in found]
    if len(curves) == 1:
        return curves[0][0][0], curves[0][1][0]
    means: Floats = np.mean([np.interp(GRID, false[0], true[0]) for false, true in curves], axis=0)
    return np.append(0, GRID), np.append(0, means)


def _auc(report: Report) -> str:
    unmoved = report.predictions.unmoved if report.predictions else None
    if unmoved is None or unmoved.auc is None:
        return "-"
    ends = unmoved.auc.ci95
    return f"{unmoved.auc.value:.3f}" + ("" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})")


def draw_confusion(comparison: Comparison) -> Figure | None:
    """Draw what each model takes the unmoved images for; None without labels."""
    models = compared_models(comparison)
    matrices = [(model, confusion(model.report, comparison.threshold)) for model in models]
    known = [(model, matrix) for model, matrix in matrices if matrix is not None]
    if not known:
        return None
    two = all(len(matrix) == 2 for _, matrix in known)  # noqa: PLR2004 - yes or no
    figure, grid = _panels(len(known), 2.6)
    for axes, (model, matrix) in zip(grid, known, strict=False):
        _draw_matrix(axes, model, matrix)
    name_models(figure, [Line2D([], [], linestyle="", label=model.label) for model, _ in known])
    how = f"class 1 from a probability of {comparison.threshold:g}" if two else "the largest score decides"
    set_comparison_title(figure, comparison, f"Confusion at 0 degrees: images by true class; {how}")
    return figure


def confusion(report: Report, threshold: float) -> Integers | None:
    """Return how many images of each true class (rows) are taken for each class; None without labels.

    With two classes, class 1 is decided for from the threshold on. Images without finite scores are left out.
    """
    values = values_of(report)
    found = probabilities(report)
    decided = np.array(values.predicted.get("e", []))
    if not values.truth or not decided.size:
        return None
    known = decided >= 0
    if found is not None and found.shape[1] == 2:  # noqa: PLR2004 - yes or no
        decided = (found[:, 1] >= threshold).astype(np.int64)
    truth = np.array(values.truth)
    classes = max(report.predictions.classes if report.predictions else 0, 2)
    known &= (np.minimum(truth, decided) >= 0) & (np.maximum(truth, decided) < classes)
    cells = truth[known] * classes + decided[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _draw_matrix(axes: Axes, model: Compared, matrix: Integers) -> None:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, "cividis", vmin=0, vmax=1, interpolation="nearest")
    classes = len(matrix)
    if classes <= MOST_NUMBERS:
        for row, column in np.ndindex(classes, classes):
            colour = "white" if shares[row, column] < DARK else "black"
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    found = model.report.predictions
    names = class_names(found, classes) if found else [str(number) for number in range(classes)]
    places = range(0, classes, -(-classes // MOST_LABELS))
    labels = [names[place] for place in places]
    upright = classes <= MOST_NUMBERS and max(map(len, labels)) <= UPRIGHT
    axes.set_xticks(places, labels, fontsize=7, rotation=0 if upright else 90, parse_math=False)
    axes.set_yticks(places, labels, fontsize=7, parse_math=False)
    axes.set_xlabel("taken for", fontsize=8)
    describe_row(axes, model.letter)


def draw_confidence(comparison: Comparison) -> Figure | None:
    """Draw the probability of what is decided, one model's against the other's; None without scores."""
    scores = [(model, probabilities(model.report)) for model in compared_models(comparison)]
    pairs = list(combinations([(model, part.max(axis=1)) for model, part in scores if part is not None], 2))
    if not pairs:
        return None
    figure, grid = _panels(len(pairs), 2.9)
    used: dict[str, Line2D] = {}
    for axes, pair in zip(grid, pairs, strict=False):
        models, confidences = zip(*pair, strict=True)
        used |= _draw_pair(axes, models, confidences)
    name_models(figure, [used[name] for name in GROUPS if name in used])
    title = "Probability of the decided class at 0 degrees, a mark for each image"
    set_comparison_title(figure, comparison, title)
    return figure


def _panels(count: int, size: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with room for so many square axes; those that are left over are hidden."""
    columns = min(count, MOST_BESIDE)
    rows = -(-count // columns)
    figure = new_figure(max(size * columns + 0.6, 5.0), size * rows + 0.9)
    grid: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid


def _draw_pair(axes: Axes, models: Sequence[Compared], confidences: Sequence[Floats]) -> dict[str, Line2D]:
    one, other = models
    groups = np.array(_groups(one.report, other.report))
    drawn = {}
    for name, (colour, marker) in GROUPS.items():
        rows = groups == name
        if rows.any():
            places = (part[rows] for part in confidences)
            look: dict[str, Any] = {
                "color": colour,
                "marker": marker,
                "linestyle": "",
                "markersize": 4,
                "alpha": 0.7,
            }
            drawn[name] = axes.plot(*places, **look, markeredgewidth=0, label=name)[0]
    tidy(axes)
    least = min(float(np.nanmin(part)) for part in confidences) - 0.03
    axes.plot([least, 1], [least, 1], color="0.7", linewidth=0.8, zorder=0.5)
    axes.set_xlim(least, 1.03)
    axes.set_ylim(least, 1.03)
    axes.set_aspect("equal")
    axes.set_xlabel(one.label, fontsize=8, parse_math=False)
    axes.set_ylabel(other.label, fontsize=8, parse_math=False)
    return drawn


def _groups(one: Report, other: Report) -> list[str]:
    """Return in which of `GROUPS` each image is; an empty name where a score is not finite."""
    if values_of(one).truth:
        names = {(1.0, 1.0): "both right", (1.0, 0.0): "only the model of the x axis right"}
        names |= {(0.0, 1.0): "only the model of the y axis right", (0.0, 0.0): "neither right"}
        pairs = zip(right(one)["e"], right(other)["e"], strict=True)
        return [names[a, b] if a is not None and b is not None else "" for a, b in pairs]
    classes = zip(*(values_of(report).predicted["e"] for report in (one, other)), strict=True)
    return ["" if min(a, b) < 0 else "same class" if a == b else "another class" for a, b in classes]
