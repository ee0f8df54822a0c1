"""Two reports on the same images: whether they are, and the values that each image has in both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from eqaudit.errors import DataError
from eqaudit.report import PerImage, Report, describe_shape

SEED = 0
"""Of the paired bootstrap: the same two reports are always judged alike."""
NOTHING = PerImage([], {}, {})

Row = Sequence[float | None]
Values = Mapping[str, Row]
Pairs = list[tuple[float, float]]
Interval = tuple[float, float]
Context = Mapping[str, Callable[[Report], object]]


def differences(one: Report, other: Report, context: Context) -> Iterator[tuple[str, object, object]]:
    """Give what is not the same in two reports, in words, and what it is in the one and in the other."""
    for what, read in context.items():
        pair = read(one), read(other)
        if pair[0] != pair[1]:
            yield what, *pair


def _resampling(report: Report) -> str:
    found = report.resampling
    if found is None:
        return "none"
    floor = f"floor of {found.floor_images} images times {found.floor_factor:g}"
    return f"{found.interpolation} and {found.feature_interpolation}, margin {found.margin}, {floor}"


def _names(report: Report) -> str:
    names = values_of(report).ids
    return f"{len(names)} ({hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]})"


SAME_IMAGES: Context = {
    "the kind": lambda report: report.kind,
    "the group": lambda report: report.group.name,
    "the elements": lambda report: ", ".join(pose.name for pose in report.group.elements),
    "the input shape": lambda report: describe_shape(report.inputs.shape),
    "the number of images": lambda report: report.inputs.samples,
    "the fingerprint of the images": lambda report: report.inputs.fingerprint[:16],
    "the names of the images": _names,
    "the boundary": lambda report: report.inputs.boundary,
    "the resampling": _resampling,
}
"""What two reports must have in common to be on the same images, and in which words to say it."""


def moving_elements(report: Report) -> list[str]:
    """Return the names of the elements that move the image: control rows tell nothing of a model."""
    return [pose.name for pose in report.group.elements if pose.mirrored or pose.degrees % 360]


def values_of(report: Report) -> PerImage:
    """Return the values of single images; nothing where the report has none."""
    return report.per_image or NOTHING


def check_rows(report: Report, path: str, hint: str) -> None:
    """Make sure that a report has a value for each image wherever it has values; raises DataError."""
    found = values_of(report)
    tables = (found.output, found.predicted, found.dice, found.truth_dice)
    rows: list[Sequence[object]] = [row for part in tables for row in part.values()]
    rows += [row for row in (found.truth, found.scores) if row]
    uneven = len({len(row) for row in found.scores if row is not None}) > 1
    unmoved = "e" in found.predicted or not found.predicted
    if uneven or not unmoved or any(len(row) != len(found.ids) for row in rows):
        raise DataError(
            f"{path} is damaged: it has not one value for each of its {len(found.ids)} images", hint
        )


def squared_errors(report: Report) -> Values:
    """Return squared errors, of which the output's error is (but for the size of each output) the mean."""
    rows = values_of(report).output
    return {name: [None if one is None else one**2 for one in row] for name, row in rows.items()}


def dice(report: Report) -> Values:
    """Return Dice of each image between the moved mask and the mask of the moved image."""
    return values_of(report).dice


def kept(report: Report) -> Values:
    """Return for each image whether its class is kept: 1 or 0, None where a class is not known."""
    rows = values_of(report).predicted
    return _equal(rows, rows.get("e", []))


def right(report: Report) -> Values:
    """Return for each image whether its class is the true one, likewise; nothing without labels."""
    found = values_of(report)
    return _equal(found.predicted, found.truth) if found.truth else {}


def _equal(rows: Mapping[str, Sequence[int]], wanted: Sequence[int]) -> Values:
    return {
        name: [None if min(one, own) < 0 else float(one == own) for one, own in zip(row, wanted, strict=True)]
        for name, row in rows.items()
    }


def paired_rows(before: Row | None, after: Row | None) -> Pairs:
    """Return the values of the images that have one in both rows."""
    both = zip(before or (), after or (), strict=before is not None and after is not None)
    return [(was, now) for was, now in both if was is not None and now is not None]


def paired_interval(pairs: Pairs) -> Interval | None:
    """Return the 95 % interval of the mean difference over images; None below two."""
    if len(pairs) < 2:  # noqa: PLR2004 - one image has no spread
        return None
    import numpy as np  # noqa: PLC0415 - the gate must start without it

    from eqaudit.statistics import mean_intervals  # noqa: PLC0415 - it imports numpy

    return mean_intervals(np.diff(np.array(pairs, dtype=np.float64), axis=1), SEED)[0]
