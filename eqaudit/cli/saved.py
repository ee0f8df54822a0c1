"""Saved reports: read within bounds, with the values of single images that lie beside them."""

from __future__ import annotations

from pathlib import Path

from eqaudit.errors import DataError
from eqaudit.report import Report, from_json

LARGEST_REPORT = 1 << 30


def read_report(path: str) -> Report:
    """Read a report that ``--json`` wrote; raises DataError where it cannot be read or is none."""
    return from_json(read_bytes(path, "no such report"), path)


def read_whole_report(path: str) -> Report:
    """Read a report together with the archive of its values for single images, if it has one."""
    report = read_report(path)
    name = report.per_image.file if report.per_image else None
    if name is None:
        return report
    from eqaudit.reporters.per_image import join_per_image  # noqa: PLC0415 - numpy, only where there is one

    # The name is foreign text: the archive lies beside its report, and nowhere else.
    return join_per_image(report, read_bytes(str(Path(path).with_name(Path(name).name)), "no such archive"))


def read_bytes(path: str, missing: str) -> bytes:
    """Read a regular file of at most 1 GiB; raises DataError, saying ``missing`` where there is none."""
    file = Path(path)
    try:
        if not file.is_file():
            raise DataError(f"{missing}: {path}", "write one with eqaudit check MODEL --json FILE")
        if file.stat().st_size > LARGEST_REPORT:
            raise DataError(f"{path} is too large for a report", "give the JSON file of eqaudit check --json")
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "check its permissions") from error
