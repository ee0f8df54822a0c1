"""Tables for a spreadsheet or a data frame: one row for each pose, or for each image and pose."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from eqaudit.comparison import LETTERS, Comparison
from eqaudit.report import (
    Dense,
    ElementError,
    Embedding,
    Estimate,
    GroupElement,
    Predictions,
    Report,
    Segmentation,
    Spread,
)
from eqaudit.reporters.escape import csv_cell

Cell = str | float | None
Column = tuple[str, Sequence[Cell]]
RecordT = TypeVar("RecordT")

ESTIMATES = ("total_variation", "accuracy", "cross_entropy", "auc", "consistency_when_right")


class _Nothing(float):
    """A number that is written as an empty cell: without quotes, which would make a text of it."""

    __slots__ = ()

    def __str__(self) -> str:
        return ""


NOTHING = _Nothing("nan")


def sweep_csv(report: Report) -> bytes:
    """Return one row for each pose: its error, and what the task makes of it.

    UTF-8 with a header row; text is quoted and an empty cell means that there is no value. Columns of
    the task are there only when the task has them, those of labels or masks only with labels or masks.
    """
    columns = _columns(report)
    return _write([name for name, _ in columns], zip(*(cells for _, cells in columns), strict=True))


def comparison_csv(comparison: Comparison) -> bytes:
    """Return the same rows for each model, which the first two columns name; columns are those of any."""
    tables = [dict(_columns(report)) for report in comparison.reports]
    header = list(dict.fromkeys(name for table in tables for name in table))
    rows = (
        [letter, report.model.spec, *(table[name][place] if name in table else None for name in header)]
        for letter, report, table in zip(LETTERS, comparison.reports, tables, strict=False)
        for place in range(len(table["element"]))
    )
    return _write(["model", "spec", *header], rows)


def _columns(report: Report) -> list[Column]:
    errors = {error.element: error for output in report.outputs if output.gating for error in output.errors}
    names = list(errors) or [pose.name for pose in report.group.elements]
    poses = {pose.name: pose for pose in report.group.elements}
    return [
        ("element", names),
        *_pose_columns(names, poses),
        *_error_columns(names, errors),
        *_task_columns(report, names),
    ]


def per_image_csv(report: Report) -> bytes:
    """Return one row for each image and pose, the unmoved image among them where something is known of it.

    A predicted class of -1 stands for scores that are not finite.
    """
    header = ["image", "element", "degrees", "error", "predicted", "dice"]
    values = report.per_image
    if values is None:
        return _write(header, [])
    tables = (values.output, values.predicted, values.dice)
    names = dict.fromkeys(name for table in (values.predicted, values.dice, values.output) for name in table)
    degrees = {pose.name: pose.degrees for pose in report.group.elements} | {"e": 0.0}
    return _write(
        header,
        (
            [image, name, degrees.get(name), *(_at(table.get(name), place) for table in tables)]
            for place, image in enumerate(values.ids)
            for name in names
        ),
    )


def _at(row: Sequence[float | None] | None, place: int) -> float | None:
    return row[place] if row is not None and place < len(row) else None


def _pose_columns(names: Sequence[str], poses: Mapping[str, GroupElement]) -> Iterator[Column]:
    yield "degrees", _cells(names, poses, lambda pose: pose.degrees)
    yield "mirrored", _cells(names, poses, lambda pose: int(pose.mirrored))


def _error_columns(names: Sequence[str], errors: Mapping[str, ElementError]) -> Iterator[Column]:
    yield "class", _cells(names, errors, lambda error: error.class_)
    yield "error", _cells(names, errors, lambda error: error.error)
    yield "error_low", _cells(names, errors, lambda error: _low(error.ci95))
    yield "error_high", _cells(names, errors, lambda error: _high(error.ci95))
    yield "floor", _cells(names, errors, lambda error: error.floor)
    yield "chance", _cells(names, errors, lambda error: error.chance)
    yield "share_of_chance", _cells(names, errors, lambda error: error.normalised)


def _task_columns(report: Report, names: Sequence[str]) -> Iterator[Column]:
    if report.predictions is not None:
        yield from _classification(names, report.predictions)
    if report.segmentation is not None:
        yield from _segmentation(names, report.segmentation)
    if report.dense is not None:
        yield from _dense(names, report.dense)
    if report.embedding is not None:
        yield from _embedding(names, report.embedding)


def _classification(names: Sequence[str], predictions: Predictions) -> Iterator[Column]:
    rows = {row.element: row for row in predictions.by_element}
    yield "consistency", _cells(names, rows, lambda row: row.consistency)
    yield "consistency_low", _cells(names, rows, lambda row: _low(row.ci95))
    yield "consistency_high", _cells(names, rows, lambda row: _high(row.ci95))
    for field in ESTIMATES:
        estimates: dict[str, Estimate] = {
            name: part for name, row in rows.items() if (part := getattr(row, field)) is not None
        }
        if estimates:
            yield field, _cells(names, estimates, lambda part: part.value)
            yield f"{field}_low", _cells(names, estimates, lambda part: _low(part.ci95))
            yield f"{field}_high", _cells(names, estimates, lambda part: _high(part.ci95))


def _segmentation(names: Sequence[str], segmentation: Segmentation) -> Iterator[Column]:
    rows = {row.element: row for row in segmentation.by_element}
    dice = {name: row.dice for name, row in rows.items()}
    yield from _spread("dice", names, dice)
    yield "dice_floor", _cells(names, dice, lambda spread: spread.floor)
    yield from _spread("iou", names, {name: row.iou for name, row in rows.items()})
    for title, spreads in (
        ("truth_dice", {name: row.truth_dice for name, row in rows.items()}),
        ("truth_iou", {name: row.truth_iou for name, row in rows.items()}),
    ):
        known = {name: spread for name, spread in spreads.items() if spread is not None}
        if known:
            yield from _spread(title, names, known)
    yield "both_empty", _cells(names, rows, lambda row: row.both_empty)
    yield "one_empty", _cells(names, rows, lambda row: row.one_empty)


def _dense(names: Sequence[str], dense: Dense) -> Iterator[Column]:
    rows = {row.element: row for row in dense.by_element}
    yield "psnr", _cells(names, rows, lambda row: row.psnr)
    yield "psnr_low", _cells(names, rows, lambda row: _low(row.ci95))
    yield "psnr_high", _cells(names, rows, lambda row: _high(row.ci95))
    yield "psnr_worst_image", _cells(names, rows, lambda row: row.worst_image)


def _embedding(names: Sequence[str], embedding: Embedding) -> Iterator[Column]:
    yield from _spread("cosine", names, {row.element: row.cosine for row in embedding.by_element})


def _spread(title: str, names: Sequence[str], spreads: Mapping[str, Spread]) -> Iterator[Column]:
    yield title, _cells(names, spreads, lambda spread: spread.mean)
    yield f"{title}_low", _cells(names, spreads, lambda spread: _low(spread.ci95))
    yield f"{title}_high", _cells(names, spreads, lambda spread: _high(spread.ci95))
    yield f"{title}_p5", _cells(names, spreads, lambda spread: spread.p5)
    yield f"{title}_p25", _cells(names, spreads, lambda spread: spread.p25)
    yield f"{title}_median", _cells(names, spreads, lambda spread: spread.p50)
    yield f"{title}_p75", _cells(names, spreads, lambda spread: spread.p75)
    yield f"{title}_p95", _cells(names, spreads, lambda spread: spread.p95)
    yield f"{title}_worst_image", _cells(names, spreads, lambda spread: spread.worst_image)


def _cells(
    names: Sequence[str], records: Mapping[str, RecordT], read: Callable[[RecordT], Cell]
) -> list[Cell]:
    return [read(records[name]) if name in records else None for name in names]


def _low(interval: tuple[float, float] | None) -> float | None:
    return None if interval is None else interval[0]


def _high(interval: tuple[float, float] | None) -> float | None:
    return None if interval is None else interval[1]


def _write(header: Sequence[str], rows: Iterable[Iterable[Cell]]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_safe(cell) for cell in row] for row in rows)
    return stream.getvalue().encode()


def _safe(cell: Cell) -> Cell:
    if cell is None:
        return NOTHING
    return csv_cell(cell) if isinstance(cell, str) else cell
