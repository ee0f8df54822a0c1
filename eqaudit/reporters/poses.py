"""One row for each pose: error, floor, and what the task makes of the output there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.table import Table
from rich.text import Text

from eqaudit.report import Dense, Embedding, Estimate, GroupElement, Predictions, Report, Segmentation
from eqaudit.reporters.escape import show
from eqaudit.verdict import format_error, format_share

COLOURS = {
    "exact": "green",
    "at the floor": "green",
    "approximate": "yellow",
    "broken": "red",
    "degenerate": "magenta",
    "unresolved": "magenta",
}
MOST_CLASS_COLUMNS = 9

Column = tuple[str, list[str]]


def pose_table(report: Report) -> Table:
    """Return the table by pose; the worst row, by the task or else by the error, is marked."""
    errors = report.gating_output.errors
    columns: list[Column] = [
        ("error", [format_error(error.error) for error in errors]),
        ("floor", [format_error(error.floor) for error in errors]),
        ("chance", [format_share(error.normalised) for error in errors]),
    ]
    if report.resampling is None:
        del columns[1]
    columns += list(_task_columns(report))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("angle" if report.kind == "sweep" else "element", justify="right", no_wrap=True)
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("class", no_wrap=True)
    worst = worst_pose(report)
    for place, error in enumerate(errors):
        name = Text(error.class_, style=COLOURS[error.class_])
        row = [_label(report, place), *(cells[place] for _, cells in columns)]
        mark = Text.assemble(name, " < worst") if place == worst else name
        table.add_row(*map(Text, row), mark, style="bold" if place == worst else "")
    return table


def worst_pose(report: Report) -> int | None:
    """Return the row with the least accuracy, consistency, Dice, PSNR or cosine, else the largest error."""
    errors = report.gating_output.errors
    values = _badness(report) or [error.normalised or error.error or 0.0 for error in errors]
    worst = max(range(len(values)), key=values.__getitem__, default=None)
    return worst if worst is not None and values[worst] > min(values) else None


def _badness(report: Report) -> list[float]:
    if report.predictions is not None:
        rows = report.predictions.by_element
        if all(row.accuracy is not None for row in rows):
            return [-row.accuracy.value for row in rows if row.accuracy is not None]
        return [-row.consistency for row in rows if row.consistency is not None]
    if report.segmentation is not None:
        return [-row.dice.mean for row in report.segmentation.by_element]
    if report.embedding is not None:
        return [-row.cosine.mean for row in report.embedding.by_element]
    return []


def _label(report: Report, place: int) -> str:
    name = report.gating_output.errors[place].element
    if report.kind == "check":
        return name
    return angle_label(report.group.elements[place])


def angle_label(pose: GroupElement) -> str:
    """Return the angle of a pose, in degrees, with an m before it where the image is mirrored first."""
    return f"{'m ' if pose.mirrored else ''}{pose.degrees:g}"


def _task_columns(report: Report) -> Iterator[Column]:
    if report.predictions is not None:
        yield from _classification(report.predictions)
    if report.segmentation is not None:
        yield from _segmentation(report.segmentation)
    if report.dense is not None:
        yield from _dense(report.dense)
    if report.embedding is not None:
        yield from _embedding(report.embedding)


def _classification(found: Predictions) -> Iterator[Column]:
    rows = found.by_element
    yield "same class", [percent(row.consistency) for row in rows]
    if any(row.accuracy is not None for row in rows):
        yield "accuracy", [_estimate(row.accuracy, percent) for row in rows]
        yield "loss", [_estimate(row.cross_entropy, "{:.3g}".format) for row in rows]
        yield "AUC", [_estimate(row.auc, "{:.3f}".format) for row in rows]
    else:
        yield "tot. var.", [_estimate(row.total_variation, format_error) for row in rows]


def _segmentation(found: Segmentation) -> Iterator[Column]:
    rows = found.by_element
    yield "Dice", [f"{row.dice.mean:.4f}" for row in rows]
    yield "p5", [f"{row.dice.p5:.3f}" for row in rows]
    if any(row.dice.floor is not None for row in rows):
        yield "floor", ["-" if row.dice.floor is None else f"{row.dice.floor:.3f}" for row in rows]
    if all(row.truth_dice is not None for row in rows):
        yield "of truth", [f"{row.truth_dice.mean:.3f}" for row in rows if row.truth_dice]
    else:
        yield "IoU", [f"{row.iou.mean:.4f}" for row in rows]


def _dense(found: Dense) -> Iterator[Column]:
    yield "PSNR", ["equal" if row.psnr is None else f"{row.psnr:.1f} dB" for row in found.by_element]


def _embedding(found: Embedding) -> Iterator[Column]:
    yield "cosine", [f"{row.cosine.mean:.4f}" for row in found.by_element]
    yield "p5", [f"{row.cosine.p5:.4f}" for row in found.by_element]


def _estimate(estimate: Estimate | None, write: Callable[[float], str]) -> str:
    return "-" if estimate is None else write(estimate.value)


def percent(share: float | None) -> str:
    """Write a share in percent: 97 %; with one more digit where few images miss: 99.8 %."""
    if share is None:
        return "-"
    return f"{100 * share:.3g} %" if 0.99 < share < 1 else f"{100 * share:.0f} %"  # noqa: PLR2004 - not yet all


def class_table(report: Report) -> Table | None:
    """Return accuracy by class at up to nine poses, among them the quarter turns; None without labels."""
    found = report.predictions
    if found is None or found.class_images is None or not found.by_element[0].class_accuracy:
        return None
    chosen = _chosen_poses(report)
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("class")
    table.add_column("images", justify="right")
    for place in chosen:
        table.add_column(_label(report, place), justify="right", no_wrap=True)
    for number, images in enumerate(found.class_images):
        if not images:
            continue
        name = found.class_names[number] if number < len(found.class_names) else str(number)
        shares = [(found.by_element[place].class_accuracy or [])[number] for place in chosen]
        table.add_row(Text(show(name)), str(images), *map(percent, shares))
    return table


def _chosen_poses(report: Report) -> list[int]:
    places = range(len(report.gating_output.errors))
    if len(places) <= MOST_CLASS_COLUMNS:
        return list(places)
    poses = {pose.name: pose for pose in report.group.elements}
    names = [error.element for error in report.gating_output.errors]
    exact = [place for place in places if poses[names[place]].exact]
    worst = worst_pose(report)
    kept = exact[:MOST_CLASS_COLUMNS] + ([worst] if worst is not None else [])
    return sorted(set(kept))[:MOST_CLASS_COLUMNS] or [*places][:MOST_CLASS_COLUMNS]
