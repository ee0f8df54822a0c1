"""Exact tests on paired values, and Holm's correction for several of them. numpy and scipy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from eqaudit.statistics import Floats, mean_ranks

MOST_EXACT = 200
"""Pairs up to which the signed-rank test counts every assignment of signs; beyond it is asymptotic."""
TwoSided = tuple[float, float, float]


def sign_test(differences: Floats) -> TwoSided:
    """Return p, two-sided and of the alternatives "greater" and "less", of as many signs + as -.

    Zeros tell nothing and are left out (Dixon and Mood 1946); of differences between two models' right and
    wrong answers this is the exact test of McNemar (1947).
    """
    plus, minus = int((differences > 0).sum()), int((differences < 0).sum())
    if not plus + minus:
        return 1.0, 1.0, 1.0
    p, greater, less = (
        float(stats.binomtest(plus, plus + minus, alternative=side).pvalue)
        for side in ("two-sided", "greater", "less")
    )
    return p, greater, less


def signed_rank_test(differences: Floats) -> TwoSided:
    """Return p, likewise, of differences that are symmetric around 0 (Wilcoxon 1945).

    Zeros are left out, equal sizes share their mean rank, and p is exact under ties too: the share of all
    assignments of signs to the ranks. More than 200 pairs are judged by the normal distribution.
    """
    found = differences[differences != 0]
    if not found.size:
        return 1.0, 1.0, 1.0
    if found.size > MOST_EXACT:
        p, greater, less = (
            float(stats.wilcoxon(found, alternative=side, method="approx").pvalue)
            for side in ("two-sided", "greater", "less")
        )
        return p, greater, less
    # Mean ranks are halves: doubled they are integers, and a sum of them a place in a table.
    ranks = np.rint(2 * mean_ranks(np.abs(found))).astype(np.int64)
    chances = np.zeros(int(ranks.sum()) + 1)
    chances[0] = 1.0
    for rank in ranks:
        chances[rank:] += chances[:-rank].copy()
        chances /= 2
    place = int(ranks[found > 0].sum())
    greater, less = float(chances[place:].sum()), float(chances[: place + 1].sum())
    return min(1.0, 2 * min(greater, less)), min(1.0, greater), min(1.0, less)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are (Holm 1979), in their order."""
    count, largest = len(values), 0.0
    corrected = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (count - rank) * values[place]))
        corrected[place] = largest
    return corrected
