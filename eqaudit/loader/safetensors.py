"""Read a safetensors file: a JSON header that says where each tensor lies, then their bytes."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any, Final

import torch

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.kinds import AGAIN
from eqaudit.loader.pickles import StorageSpec, Table, TensorSpec

_LENGTH_BYTES: Final = 8
_MOST_DIMENSIONS: Final = 64
_METADATA: Final = "__metadata__"
_DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}


def read_safetensors(data: bytearray) -> tuple[Table, dict[str, bytearray]]:
    """Check a whole file and return its tensors and their bytes, by name.

    Raises
    ------
    ModelError
        The header is damaged or too large, or its tensors do not fill the rest of the file exactly.
    """
    header = _read_header(data)
    body = memoryview(data)[_LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little") :]
    table, places = Table(), []
    for name, fields in header.items():
        if name != _METADATA:
            table[name], start, end = _read_tensor(name, fields)
            places.append((start, end, name))
    expected = 0
    for start, end, name in sorted(places):
        if start != expected:
            raise _damaged(f"{name} overlaps another tensor, or bytes lie between them")
        expected = end
    if expected != len(body):
        raise _damaged(f"{len(body)} bytes of tensors, {expected} declared")
    return table, {name: bytearray(body[start:end]) for start, end, name in places}


def _damaged(what: str) -> ModelError:
    return ModelError(f"truncated or damaged safetensors file: {what}", AGAIN)


def _read_header(data: bytearray) -> dict[str, Any]:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > len(data) - _LENGTH_BYTES:
        raise _damaged(f"its header has {length} bytes, the file {len(data)}")
    if length > BOUNDS.pickle_bytes:
        raise ModelError(f"too large: a header of {length} bytes, limit {BOUNDS.pickle_bytes}")
    try:
        text = data[_LENGTH_BYTES : _LENGTH_BYTES + length].decode("utf-8")
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"its header is no JSON ({type(error).__name__})") from error
    if not isinstance(header, dict):
        raise _damaged("its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _damaged("its header holds the same name twice")
    for name in found:
        # JSON can spell half of a surrogate pair, which no report can hold.
        name.encode()
    return found


def _read_tensor(name: str, fields: Any) -> tuple[TensorSpec, int, int]:
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(f"{name} has not a dtype, a shape and offsets")
    dtype = _DTYPES.get(fields["dtype"]) if isinstance(fields["dtype"], str) else None
    if dtype is None:
        raise ModelError(f"{name} has dtype {fields['dtype']!r}, which is not read")
    shape, offsets = fields["shape"], fields["data_offsets"]
    if not _is_counts(shape) or not _is_counts(offsets) or len(shape) > _MOST_DIMENSIONS:
        raise _damaged(f"shape or offsets of {name} are no counts")
    if len(offsets) != 2:  # noqa: PLR2004 - start and end
        raise _damaged(f"{name} has not two offsets")
    start, end = offsets
    count = math.prod(shape)
    if end - start != count * dtype.itemsize:
        raise _damaged(f"{name} has {end - start} bytes, {count * dtype.itemsize} declared by its shape")
    steps = itertools.accumulate(reversed(shape[1:]), lambda step, length: step * length, initial=1)
    stride = tuple(steps)[::-1] if shape else ()
    return TensorSpec(StorageSpec(name, dtype, count), dtype, 0, tuple(shape), stride), start, end


def _is_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
