"""Saved reports: read within bounds, with the values of single images that lie beside them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from eqaudit.bounds import BOUNDS, format_bytes
from eqaudit.comparison import SCHEMA, Comparison, comparison_from_json
from eqaudit.errors import DataError
from eqaudit.pairing import SAME_IMAGES, check_rows, differences
from eqaudit.report import Report, from_json, schema_of

WRITE_AGAIN = "write it again with eqaudit compare --json"


def read_report(path: str) -> Report:
    """Read a report that ``--json`` wrote; raises DataError where it cannot be read or is none."""
    return from_json(read_bytes(path, "no such report"), path)


def read_saved(path: str) -> Report | Comparison:
    """Read a report or a whole comparison, likewise."""
    content = read_bytes(path, "no such report")
    if schema_of(content) != SCHEMA:
        return from_json(content, path)
    found = comparison_from_json(content, path)
    reports = [_with_values(path, report) for report in found.reports]
    for report in reports:
        check_rows(report, path, WRITE_AGAIN)
        for what, _, _ in differences(reports[0], report, SAME_IMAGES):
            raise DataError(f"{path} compares what cannot be compared: {what} is not the same", WRITE_AGAIN)
    return msgspec.structs.replace(found, reports=reports)


def read_whole_report(path: str) -> Report:
    """Read a report together with the archive of its values for single images, if it has one."""
    return _with_values(path, read_report(path))


def _with_values(path: str, report: Report) -> Report:
    name = report.per_image.file if report.per_image else None
    if name is None:
        return report
    from eqaudit.reporters.per_image import join_per_image  # noqa: PLC0415 - numpy, only where there is one

    # The name is foreign text: the archive lies beside its report, and nowhere else.
    return join_per_image(report, read_bytes(str(Path(path).with_name(Path(name).name)), "no such archive"))


def read_bytes(path: str, missing: str) -> bytes:
    """Read a regular file within bounds; raises DataError, saying ``missing`` where there is none."""
    file = Path(path)
    try:
        if not file.is_file():
            said = f"{path} is no regular file" if os.path.lexists(file) else f"{missing}: {path}"
            raise DataError(said, "write one with eqaudit check MODEL --json FILE")
        if file.stat().st_size > BOUNDS.report_bytes:
            raise DataError(
                f"{path} is too large for a report: more than {format_bytes(BOUNDS.report_bytes)}",
                "give the JSON file of eqaudit check --json",
            )
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check its permissions") from error
