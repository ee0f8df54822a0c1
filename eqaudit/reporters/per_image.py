"""Values for each image that are too many for the JSON report: a NumPy archive beside it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import msgspec
import numpy as np

from eqaudit.bounds import BOUNDS
from eqaudit.errors import DataError
from eqaudit.report import PerImage, Report

LARGEST_INLINE = 10_000
TABLES = {"output": np.float64, "predicted": np.int64, "dice": np.float64, "truth_dice": np.float64}
"""The fields that hold a value for each element and image."""
EPOCH = (1980, 1, 1, 0, 0, 0)


def split_per_image(report: Report, file: str) -> tuple[Report, bytes | None]:
    """Move values of each image into an archive when there are more than 10,000 of them.

    Parameters
    ----------
    report
        A whole report.
    file
        Name of the archive, as the report will give it.

    Returns
    -------
    Report, bytes
        The report, naming the archive and its sha256, and the archive: arrays ``ids``,
        ``output/ELEMENT``, ``dice/ELEMENT``, ``truth_dice/ELEMENT`` and ``scores`` (NaN where not
        finite), ``predicted/ELEMENT`` and ``truth``. The report itself and None when the values are few.
    """
    values = report.per_image
    if values is None or _count(values) <= LARGEST_INLINE:
        return report, None
    arrays = {"ids": np.array(values.ids)}
    for part, kind in TABLES.items():
        rows: dict[str, list[float | None]] = getattr(values, part)
        arrays |= {f"{part}/{element}": np.array(row, dtype=kind) for element, row in rows.items()}
    if values.truth:
        arrays["truth"] = np.array(values.truth, dtype=np.int64)
    if values.scores:
        classes = max(len(row or ()) for row in values.scores)
        scores = [[np.nan] * classes if row is None else row for row in values.scores]
        arrays["scores"] = np.array(scores, dtype=np.float64)
    content = _archive(arrays)
    outside = PerImage([], {}, {}, {}, file, hashlib.sha256(content).hexdigest())
    return msgspec.structs.replace(report, per_image=outside), content


def join_per_image(report: Report, content: bytes) -> Report:
    """Put the values of an archive back into the report that names it: `split_per_image` turned around.

    Raises
    ------
    DataError
        The archive is not the one that the report names, or holds something else.
    """
    outside = report.per_image
    if outside is None or outside.file is None:
        return report
    if hashlib.sha256(content).hexdigest() != outside.sha256:
        raise DataError(f"{outside.file} is not the archive that its report names", "keep the two together")
    parts: dict[str, dict[str, list[Any]]] = {part: {} for part in TABLES}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            total = sum(member.file_size for member in archive.zip.infolist())
            most = BOUNDS.exceeded(total, len(content), BOUNDS.npz_bytes)
            if most:
                raise ValueError(f"it unpacks to {total:,} bytes, more than {most}")  # noqa: TRY301 - caught with the rest
            ids = [str(name) for name in archive["ids"]]
            for name in set(archive.files) - {"ids", "truth", "scores"}:
                part, _, element = name.partition("/")
                row = archive[name].tolist()
                parts[part][element] = [None if value != value else value for value in row]  # noqa: PLR0124 - NaN
            truth = archive["truth"].tolist() if "truth" in archive else []
            scores = archive["scores"] if "scores" in archive else np.empty((0, 0))
            rows = [row.tolist() if np.isfinite(row).all() else None for row in scores]
            # By type: an array may hold dates or text.
            found = msgspec.convert({"ids": ids, **parts, "truth": truth, "scores": rows}, PerImage)
    except Exception as error:
        # NumPy raises errors of many kinds on a damaged archive.
        raise DataError(f"{outside.file} cannot be read: {error}", "write the report again") from error
    return msgspec.structs.replace(report, per_image=found)


def _count(values: PerImage) -> int:
    tables = sum(len(row) for part in TABLES for row in getattr(values, part).values())
    return tables + len(values.truth) + sum(len(row or ()) for row in values.scores)


def _archive(arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            # A fixed date: the same values give the same bytes.
            info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()
