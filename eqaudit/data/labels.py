"""Labels by the name of the image: from the folders of a data set, or from a CSV file."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from eqaudit.bounds import BOUNDS, format_bytes
from eqaudit.data.base import Truth, Unreadable, open_regular
from eqaudit.errors import DataError

HEADER = ("file", "label")
CSV_HINT = "expected UTF-8 text with the header file,label and one line for each image"
INTEGER = r"[+-]?[0-9]{1,18}"
DECIMAL = r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)"


class Row(NamedTuple):
    """A label as written, and its line in the file."""

    line: int
    label: str


def folder_truth(names: Sequence[str]) -> Truth:
    """Label each image by its first folder; classes are the sorted first folders of all ``names``.

    Raises
    ------
    DataError
        An image lies in no folder.
    """
    folders = []
    for name in names:
        folder, slash, _ = name.partition("/")
        if not slash:
            raise DataError(
                f"--labels folders: the image {name} lies in no folder of the data",
                "move it into the folder of its class, or give --labels FILE.csv",
            )
        folders.append(folder)
    classes, indices = np.unique(folders, return_inverse=True)
    return Truth(
        "labels",
        lambda index: indices[index].astype(np.int64),
        lambda index: f"folder {folders[index]}",
        {"labels from folders"},
        tuple(classes.tolist()),
    )


def csv_truth(path: Path, names: Sequence[str], needed: Collection[int]) -> Truth:
    """Label images from a CSV file with the columns ``file`` and ``label``; others are passed over.

    Labels are class indices, or, when not one of them is an integer, names whose sorted order is the index.

    Raises
    ------
    DataError
        The file is damaged or contradicts itself (named with its line), or a needed image has no row.
    """
    rows = _read_rows(path)
    classes, indices = _class_indices(path, rows)
    missing = [names[index] for index in needed if names[index] not in rows]
    if missing:
        others = f", nor for {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path} has no row for {missing[0]}{others}",
            "write the file as the data lists it, relative to its folder and with /",
        )
    notes = {f"labels from {path}"}
    unused = len(rows.keys() - set(names))
    if unused:
        notes.add(f"rows of {path} that name no image of the data: {unused}")
    return Truth(
        "labels",
        lambda index: np.array(indices[names[index]], np.int64),
        lambda index: f"{path} line {rows[names[index]].line}",
        notes,
        classes,
    )


def _class_indices(path: Path, rows: dict[str, Row]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of the classes, empty for integer labels, and each file's index."""
    named = not any(re.fullmatch(INTEGER, row.label) for row in rows.values())
    for line, label in rows.values():
        # As names, 10.0 would come before 2.0.
        if re.fullmatch(DECIMAL, label) if named else not re.fullmatch(r"\+?[0-9]{1,18}", label):
            raise DataError(
                f"{path} line {line}: the label is {label[:60]!r}, expected a class index, 0 or larger",
                "write integers only, or names only",
            )
    if not named:
        return (), {file: int(row.label) for file, row in rows.items()}
    classes = sorted({row.label for row in rows.values()})
    index = {name: number for number, name in enumerate(classes)}
    return tuple(classes), {file: index[row.label] for file, row in rows.items()}


def _read_rows(path: Path) -> dict[str, Row]:
    records = _records(path)
    line, header = next(records, (1, []))
    header = [cell.strip() for cell in header]
    if len(set(header)) < len(header) or not set(HEADER) <= set(header):
        said = ",".join(header)[:60]
        raise DataError(
            f"{path} line {line}: the header is {said!r}, expected file,label once each", CSV_HINT
        )
    columns = [header.index(name) for name in HEADER]
    rows: dict[str, Row] = {}
    for line, cells in records:
        if len(cells) != len(header):
            raise DataError(
                f"{path} line {line} has {len(cells)} cells, the header has {len(header)}",
                "put quotes around a cell that holds a comma",
            )
        file, label = (cells[column] for column in columns)
        row = Row(line, label.strip())
        name = _relative(file, f"{path} line {line}")
        first = rows.setdefault(name, row)
        if not row.label:
            raise DataError(f"{path} line {line}: {name} has no label", "write a label, or leave the row out")
        if first.label != row.label:
            raise DataError(
                f"{path} lines {first.line} and {line}: {name} is {first.label[:60]} and {row.label[:60]}",
                "leave one of the two out",
            )
    return rows


def _relative(file: str, where: str) -> str:
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts:
        said = f"{file[:200]!r} leads outside the data" if file else "the file is empty"
        raise DataError(f"{where}: {said}", "write each file relative to the folder of the data, with /")
    return str(path)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each record that is not blank, with the line on which it begins."""
    reader = csv.reader(_lines(path, _read_text(path)), strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as exception:
        raise DataError(f"{path} line {start}: {exception}", "close each quote on its line") from exception


def _lines(path: Path, text: str) -> Iterable[str]:
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if len(line) > BOUNDS.csv_line:
            raise DataError(f"{path} line {number} has more than {BOUNDS.csv_line:,} characters", CSV_HINT)
        yield line


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as handle:
            data = handle.read(BOUNDS.csv_bytes + 1)
    except (Unreadable, OSError) as exception:
        raise DataError(f"cannot read {path}: {exception}", CSV_HINT) from exception
    if len(data) > BOUNDS.csv_bytes:
        raise DataError(f"{path} has more than {format_bytes(BOUNDS.csv_bytes)}", CSV_HINT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exception:
        line = data.count(b"\n", 0, exception.start) + 1
        raise DataError(f"{path} line {line} is not UTF-8", CSV_HINT) from exception
    if "\0" in text:
        raise DataError(
            f"{path} line {text.count(chr(10), 0, text.index(chr(0))) + 1} holds a NUL byte", CSV_HINT
        )
    return text
