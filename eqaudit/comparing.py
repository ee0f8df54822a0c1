"""Reports on the same images beside each other: differences with their intervals, and tests of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import msgspec
import numpy as np

from eqaudit.comparison import LETTERS, Comparison, Difference, PairedTest, Timing
from eqaudit.errors import DataError, EqauditError
from eqaudit.gate import Limits, judge, unsound
from eqaudit.hypotheses import holm, sign_test, signed_rank_test
from eqaudit.pairing import (
    SAME_IMAGES,
    SEED,
    Pairs,
    Row,
    Values,
    dice,
    differences,
    kept,
    moving_elements,
    paired_interval,
    paired_rows,
    right,
    values_of,
)
from eqaudit.report import Report
from eqaudit.roc import areas, problems
from eqaudit.statistics import Floats, bootstrap_counts, percentile_interval

AS_MANY = "of the images that only one of two models gets right (or keeps), each gets as many as the other"
SYMMETRIC = "the differences between two models, image by image, are symmetric around 0"


MOST_RESAMPLED = 200_000
"""Images times classes, up to which an AUC is resampled: more would take minutes."""


class Quantity(msgspec.Struct, frozen=True):
    """What is compared: values of each image, of unmoved images or as a mean over all that moves them.

    A ``share`` is made of answers that are right or wrong.
    """

    values: Callable[[Report], Values]
    unmoved: bool = False
    share: bool = False


QUANTITIES: Mapping[str, Quantity] = {
    "accuracy": Quantity(right, unmoved=True, share=True),
    "accuracy, moved": Quantity(right, share=True),
    "same class, moved": Quantity(kept, share=True),
    "error, moved": Quantity(lambda report: values_of(report).output),
    "truth Dice": Quantity(lambda report: values_of(report).truth_dice, unmoved=True),
    "truth Dice, moved": Quantity(lambda report: values_of(report).truth_dice),
    "Dice, moved": Quantity(dice),
}
"""What is compared and tested, by name; beside it stands the AUC, an area, which no image has for itself."""


Shape = tuple[int, int, int]
"""Channels, height and width of an image."""
Audit = Callable[[int, Shape | None], Report | None]
"""Audits a model, by its place, on images of a shape or, without one, of a shape that it takes.

Of several processes only the first has a report.
"""


def audit_each(names: Sequence[str], shape: Shape | None, audit: Audit) -> list[Report]:
    """Audit models one after the other: where no shape is asked for, all get the one that the first takes.

    Nothing is judged but whether the numbers mean something.

    Raises
    ------
    EqauditError
        An audit cannot be made, or not on the images of the first; the error names the model.
    """
    reports: list[Report] = []
    for letter, name in zip(LETTERS, names, strict=False):
        taken = reports[0].inputs.shape if reports else shape
        told = f", given images as model {LETTERS[0]} takes them" if reports and shape is None else ""
        try:
            report = audit(len(reports), taken)
        except EqauditError as error:
            error.message = f"model {letter} ({name}){told}: {error.message}"
            raise
        if report is None:
            return []
        if told:
            inputs = msgspec.structs.replace(report.inputs, shape_reason=f"as for model {LETTERS[0]}")
            report = msgspec.structs.replace(report, inputs=inputs)
        reports.append(judge(report, Limits()))
        _require_same_images(reports[0], report, letter)
    return reports


def _require_same_images(first: Report, other: Report, name: str) -> None:
    """Make sure that two models were shown the same; raises DataError, which names the second."""
    for what, was, now in differences(first, other, SAME_IMAGES):
        raise DataError(
            f"model {name} cannot be compared with model {LETTERS[0]}: {what} is {now}, and was {was}",
            "give all models the same images: --input-shape C,H,W, or one audit each with eqaudit check",
        )


def compare_reports(
    reports: Sequence[Report], threshold: float, timing: Sequence[Timing], warnings: Sequence[str]
) -> Comparison:
    """Compare every two of at least two reports on the same images; of their checks only failures are told.

    Raises
    ------
    DataError
        A report is on other images than the first.
    """
    for place, report in enumerate(reports[1:], start=1):
        _require_same_images(reports[0], report, LETTERS[place])
    found = [
        difference
        for pair in combinations(range(len(reports)), 2)
        for difference in _differences(reports, pair)
    ]
    failed = [
        f"model {letter}: {check.reason}"
        for letter, report in zip(LETTERS, reports, strict=False)
        for check in unsound(report.gate)
    ]
    return Comparison(
        reports=[msgspec.structs.replace(report, gate=None) for report in reports],
        differences=_corrected(found),
        threshold=threshold,
        timing=list(timing),
        warnings=[*failed, *warnings],
    )


def _differences(reports: Sequence[Report], places: tuple[int, int]) -> Iterator[Difference]:
    one, other = (reports[place] for place in places)
    for name, quantity in QUANTITIES.items():
        elements = ["e"] if quantity.unmoved else moving_elements(one)
        rows = [_sums(quantity.values(report), elements) for report in (one, other)]
        pairs = paired_rows(*rows)
        if pairs:
            yield _difference(name, places, pairs, len(elements), sign=quantity.share and len(elements) == 1)
        if name == "accuracy":
            yield from _area_difference(one, other, places)


def _sums(values: Values, elements: Sequence[str]) -> Row | None:
    """Return the sum of each image over some elements, None for an image that lacks one of them.

    Sums of right answers are integers, so that equal differences stay equal: ranks depend on it.
    """
    if not elements or not values.keys() >= set(elements):
        return None
    rows = zip(*(values[name] for name in elements), strict=True)
    return [None if None in row else sum(value for value in row if value is not None) for row in rows]


def _difference(name: str, places: tuple[int, int], sums: Pairs, elements: int, *, sign: bool) -> Difference:
    pairs = [(one / elements, other / elements) for one, other in sums]
    first, second = (float(mean) for mean in np.mean(pairs, axis=0))
    test = _test(np.diff(np.array(sums), axis=1)[:, 0], sign=sign)
    return Difference(
        name, *places, len(pairs), (first, second), second - first, paired_interval(pairs), test
    )


def _test(changes: Floats, *, sign: bool) -> PairedTest:
    p, greater, less = (sign_test if sign else signed_rank_test)(changes)
    return PairedTest(
        name="sign test" if sign else "signed-rank test",
        hypothesis=AS_MANY if sign else SYMMETRIC,
        pairs=int((changes != 0).sum()),
        greater=int((changes > 0).sum()),
        p=p,
        p_greater=greater,
        p_less=less,
        p_holm=p,
    )


def _area_difference(one: Report, other: Report, places: tuple[int, int]) -> Iterator[Difference]:
    """Give the difference of the AUC of unmoved images, where both have one, resampled in pairs."""
    values = values_of(one), values_of(other)
    both = zip(*(found.scores for found in values), strict=False)
    images = [place for place, rows in enumerate(both) if None not in rows]
    found = [problems(part, images) for part in values]
    if not all(found):
        return
    whole = np.ones((1, len(images)), dtype=np.int64)
    first, second = (float(areas(part, whole)[0]) for part in found)
    interval = None
    if len(images) * len(found[0]) <= MOST_RESAMPLED:
        resampled = bootstrap_counts(SEED, len(images))
        changes = [areas(found[1], counts) - areas(found[0], counts) for counts in resampled]
        interval = percentile_interval(np.concatenate(changes))
    yield Difference("AUC", *places, len(images), (first, second), second - first, interval, None)


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    """Return the differences with the p-values of their tests corrected for how many tests there are."""
    corrected = iter(holm([difference.test.p for difference in found if difference.test is not None]))
    return [
        difference
        if difference.test is None
        else msgspec.structs.replace(
            difference, test=msgspec.structs.replace(difference.test, p_holm=next(corrected))
        )
        for difference in found
    ]
