"""ROC curves of the scores that a report keeps, and the area under them, also of resampled images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eqaudit.report import PerImage
from eqaudit.statistics import Floats, Integers

Truths = NDArray[np.bool_]
Problem = tuple[Floats, Truths]
"""Scores of some images, (N,), and which of them are of the class, (N,)."""


def problems(values: PerImage, images: Sequence[int]) -> list[Problem]:
    """Return what there is to decide for some images: of two classes one, else each against the rest.

    A class without images, or without others, is left out; the list is empty without labels or scores.
    """
    if not values.truth or not values.scores or not images:
        return []
    scores = np.array([values.scores[place] for place in images], dtype=np.float64)
    truth = np.array([values.truth[place] for place in images])
    classes = range(scores.shape[1]) if scores.shape[1] > 2 else [1]  # noqa: PLR2004 - two have one curve
    found = [(scores[:, min(number, scores.shape[1] - 1)], truth == number) for number in classes]
    return [(values, wanted) for values, wanted in found if wanted.any() and not wanted.all()]


def roc_curves(problem: Problem, counts: Integers) -> tuple[Floats, Floats]:
    """Return the shares of false and true positives at every threshold, (R, T), from (0, 0) to (1, 1).

    ``counts`` (R, N) says how often each image counts; a resample without one of the sides gives NaN.
    """
    scores, truth = problem
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    sides = []
    for side in (~truth, truth):
        hits = np.add.reduceat((counts * side)[:, order], starts, axis=1).cumsum(axis=1)
        with np.errstate(invalid="ignore"):
            sides.append(np.pad(hits / hits[:, -1:], ((0, 0), (1, 0))))
    return sides[0], sides[1]


def areas(found: Sequence[Problem], counts: Integers) -> Floats:
    """Return the area under the curve of each resample, the mean over problems that it has, (R,)."""
    parts = np.stack([_area(*roc_curves(problem, counts)) for problem in found])
    known = np.isfinite(parts)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, parts, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean


def _area(false: Floats, true: Floats) -> Floats:
    parts: Floats = np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1]) / 2
    area: Floats = parts.sum(axis=1)
    return area
