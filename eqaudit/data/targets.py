"""Truth that comes as arrays, in the order of the images: labels, multi-hot rows or masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eqaudit.data.base import Pixels, Shape, Truth, TruthKind
from eqaudit.data.masks import MaskReader, check_mask_size
from eqaudit.errors import DataError

LABELS, ROWS, MASKS = (1, 2), 2, (3, 4)  # numbers of dimensions
EXPECTED: dict[tuple[int, ...], str] = {
    LABELS: "integers (N,) or (N,1), or (N,K) of 0 and 1",
    MASKS: "integers (N,H,W) or (N,1,H,W)",
}
EXPECTED[LABELS + MASKS] = " or ".join(EXPECTED.values())
LARGEST = 2**31


@dataclass(frozen=True, slots=True)
class Targets:
    """One entry for each image, named ``where``: an array, or a list of masks of different sizes.

    ``dimensions`` are those that the array may have; ``note`` goes into the report.
    """

    where: str
    values: Pixels | list[Pixels]
    dimensions: tuple[int, ...] = LABELS + MASKS
    note: str = ""


def array_truth(
    targets: Targets, names: Sequence[str], needed: Mapping[int, Shape], reader: MaskReader
) -> Truth:
    """Read labels, multi-hot rows or masks of the images ``names``; dimensions say which of these they are.

    ``needed`` are the shapes ``(C, H, W)``, by index, of the images whose truth will be read.

    Raises
    ------
    DataError
        Number, shape or type of the targets is not as expected, or a mask has another size than its image.
    """
    where = targets.where
    values = _entries(targets, len(names))

    def place(index: int) -> str:
        return f"{where}[{index}]"

    reader.notes.update({targets.note} - {""})
    if isinstance(values, np.ndarray) and values.ndim in LABELS:
        known = _indices(where, values)
        kind: TruthKind = "labels" if known.ndim == 1 else "multi-hot"
        return Truth(kind, lambda index: known[index], place, reader.notes | {f"labels from {where}"})
    for index, shape in needed.items():
        check_mask_size(names[index], shape, place(index), values[index].shape)

    def read(index: int) -> NDArray[np.int64]:
        return reader.read(names[index], place(index), values[index])

    reader.notes.add(f"masks from {where}")
    return Truth("masks", read, place, reader.notes)


def _entries(targets: Targets, count: int) -> Pixels | list[Pixels]:
    """Return ``(N,)``, ``(N, K)`` or ``(N, H, W)``, or a list of ``(H, W)``."""
    where, values = targets.where, targets.values
    hint = f"expected {EXPECTED[targets.dimensions]}"
    if not isinstance(values, np.ndarray):
        return values
    shape = values.shape
    if values.ndim in (2, 4) and values.shape[1] == 1:
        values = values[:, 0]
    # Rows (N, K) of 0. and 1. are common, other floats are a mistake.
    fits = values.ndim in targets.dimensions and values.ndim < 4 and 0 not in values.shape[1:]  # noqa: PLR2004
    if not fits or values.dtype.kind not in ("biuf" if values.ndim == ROWS else "biu"):
        raise DataError(f"{where} holds {values.dtype} of shape {shape}", hint)
    if len(values) != count:
        raise DataError(f"{where} has {len(values)} entries, the data has {count} images", hint)
    return values


def _indices(where: str, values: Pixels) -> NDArray[np.int64]:
    """Check labels ``(N,)`` or multi-hot rows ``(N, K)``, and return them as int64."""
    rows = values.ndim > 1
    integers = values.dtype.kind != "f"
    good = (values == 0) | (values == 1) if rows else (values >= 0) & (values < LARGEST) & integers
    if not good.all():
        place = tuple(np.argwhere(~good)[0].tolist())
        said = ", ".join(map(str, place))
        raise DataError(f"{where}[{said}] is {values[place]}", f"expected {EXPECTED[LABELS]}")
    return values.astype(np.int64)
