"""Values for each image that are too many for the JSON report: a NumPy archive beside it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import msgspec
import numpy as np

from eqaudit.errors import DataError
from eqaudit.report import PerImage, Report

LARGEST_INLINE = 10_000
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
        ``output/ELEMENT`` and ``dice/ELEMENT`` (NaN where not finite) and
        ``predicted/ELEMENT``. The report itself and None
        when the values are few.
    """
    values = report.per_image
    if values is None or _count(values) <= LARGEST_INLINE:
        return report, None
    arrays = {"ids": np.array(values.ids)}
    arrays |= {f"output/{element}": np.array(row, dtype=np.float64) for element, row in values.output.items()}
    arrays |= {
        f"predicted/{element}": np.array(row, dtype=np.int64) for element, row in values.predicted.items()
    }
    arrays |= {f"dice/{element}": np.array(row, dtype=np.float64) for element, row in values.dice.items()}
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
    parts: dict[str, dict[str, list[Any]]] = {"output": {}, "predicted": {}, "dice": {}}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            ids = [str(name) for name in archive["ids"]]
            for name in set(archive.files) - {"ids"}:
                part, _, element = name.partition("/")
                row = archive[name].tolist()
                parts[part][element] = [None if value != value else value for value in row]  # noqa: PLR0124 - NaN
    except Exception as error:
        # NumPy raises errors of many kinds on a damaged archive.
        raise DataError(f"{outside.file} cannot be read: {error}", "write the report again") from error
    return msgspec.structs.replace(
        report, per_image=PerImage(ids, parts["output"], parts["predicted"], parts["dice"])
    )


def _count(values: PerImage) -> int:
    return sum(len(row) for part in (values.output, values.predicted, values.dice) for row in part.values())


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
