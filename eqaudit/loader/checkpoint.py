"""Read a file of weights, checked whole: what ``torch.save`` writes, old and new, or safetensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import torch

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.archive import read_bytes
from eqaudit.loader.kinds import AGAIN, WAY_OUT, Finding, describe, describe_zip, is_safetensors, is_zip
from eqaudit.loader.pickles import PROTOCOLS, WEIGHTS_WAY_OUT, Declared, StorageSpec, TensorSpec, read_pickle
from eqaudit.loader.safetensors import read_safetensors
from eqaudit.loader.zipped import read_directory, unpack_entry

_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_NUMBER: Final = b"\x8a\n" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_LEGACY_HEADS: Final = (
    *(bytes([0x80, protocol]) + _LEGACY_NUMBER for protocol in PROTOCOLS),
    # From protocol 4 on in a frame.
    *(
        bytes([0x80, protocol, 0x95, len(_LEGACY_NUMBER)]) + bytes(7) + _LEGACY_NUMBER
        for protocol in PROTOCOLS
    ),
)
_LEGACY_PROTOCOL: Final = 1001
_COUNT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file of weights that passed every check: what it holds, and the bytes of its storages.

    ``foreign`` are the names of Python objects that lie beside the weights and were not made.
    """

    sha256: str
    content: Any
    records: dict[str, bytearray]
    foreign: tuple[str, ...] = ()

    def tensor(self, spec: TensorSpec) -> torch.Tensor:
        """Return a tensor that views the bytes of the file."""
        record = self.records[spec.storage.key] if 0 not in spec.shape else b""
        if not record:
            return torch.empty(spec.shape, dtype=spec.dtype)
        count = len(record) // spec.dtype.itemsize
        flat = torch.frombuffer(record, dtype=spec.dtype, count=count)
        return flat.as_strided(spec.shape, spec.stride, spec.offset)


def read_checkpoint(path: str) -> Checkpoint:
    """Read a file of weights once and check all of it; its kind is found from its content.

    Nothing is unpickled: the pickle inside is read as data by a reader of our own, and torch sees only
    the numbers.

    Raises
    ------
    ModelError
        The file is missing, too large, of another kind, damaged, or names code.
    """
    try:
        data = read_bytes(path, _refuse)
        declared = Declared()
        content, records = _read(data, declared)
    except ModelError as error:
        hint = WEIGHTS_WAY_OUT if error.hint == WAY_OUT else error.hint
        raise ModelError(f"{path}: {error.message}", hint or AGAIN) from error
    except MemoryError as error:
        raise ModelError(f"{path}: too large for the memory of this machine") from error
    return Checkpoint(hashlib.sha256(data).hexdigest(), content, records, tuple(declared.foreign))


def _refuse(head: bytes, size: int) -> Finding | None:
    known = is_zip(head) or head.startswith(_LEGACY_HEADS) or is_safetensors(head, size)
    return None if known or _is_cut_safetensors(head) else describe(head, size)


def _is_cut_safetensors(head: bytes) -> bool:
    # Its length has eight bytes; no text holds their zeros.
    return head[5:10] == b'\0\0\0{"'


def _read(data: bytearray, declared: Declared) -> tuple[Any, dict[str, bytearray]]:
    if is_zip(data):
        return _read_zip(data, declared)
    if data.startswith(_LEGACY_HEADS):
        return _read_legacy(data, declared)
    return read_safetensors(data)


def _read_zip(data: bytearray, declared: Declared) -> tuple[Any, dict[str, bytearray]]:
    entries = {entry.name.partition("/")[2]: entry for entry in read_directory(data) if not entry.is_folder}
    finding = describe_zip({name.lower() for name in entries})
    if finding:
        raise ModelError(*finding)
    if "constants.pkl" in entries or any(name.startswith("code/") for name in entries):
        raise ModelError("is a TorchScript model, not weights", "give it as MODEL, without --weights")
    if "data.pkl" not in entries or entries["data.pkl"].size > BOUNDS.pickle_bytes:
        raise ModelError(f"data.pkl is missing, or larger than {BOUNDS.pickle_bytes} bytes", WEIGHTS_WAY_OUT)
    unpacked = {name: unpack_entry(data, entry) for name, entry in entries.items()}
    if unpacked.get("byteorder", b"little") != b"little":
        raise ModelError("byteorder is not little: weights of another byte order are not read")
    content, end = read_pickle(unpacked["data.pkl"], 0, declared)
    if end != len(unpacked["data.pkl"]):
        raise ModelError("damaged: bytes follow the pickle in data.pkl")
    return content, {key: _record(unpacked, storage) for key, storage in declared.storages.items()}


def _record(unpacked: dict[str, bytes], storage: StorageSpec) -> bytearray:
    name = f"data/{storage.key}"
    # torch.save writes no record for an empty storage.
    found = unpacked.get(name, b"" if not storage.count else None)
    if found is None:
        raise ModelError(f"damaged: storage {name} is missing")
    if len(found) != storage.size:
        raise ModelError(f"damaged: storage {name} has {len(found)} bytes, {storage.size} declared")
    return bytearray(found)


def _read_legacy(data: bytearray, declared: Declared) -> tuple[Any, dict[str, bytearray]]:
    """Read five pickles (magic number, protocol, system, content, storage keys), then the storages."""
    at, values, storages = 0, [], declared.storages
    for _ in range(5):
        start = at
        value, at = read_pickle(data, start, declared)
        if at - start > BOUNDS.pickle_bytes:
            raise ModelError(f"too large: a pickle of {at - start} bytes, limit {BOUNDS.pickle_bytes}")
        values.append(value)
    _magic, protocol, system, content, keys = values
    if (
        protocol != _LEGACY_PROTOCOL
        or not isinstance(system, dict)
        or system.get("little_endian") is not True
    ):
        raise ModelError("is of another protocol or byte order than torch.save writes", WEIGHTS_WAY_OUT)
    if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
        raise ModelError("damaged: its list of storages is none")
    if set(keys) != set(storages) or len(keys) != len(storages):
        raise ModelError("damaged: its list of storages is not that of its tensors")
    records = {}
    for key in keys:
        count, start = int.from_bytes(data[at : at + _COUNT_BYTES], "little"), at + _COUNT_BYTES
        at = start + storages[key].size
        if count != storages[key].count or at > len(data):
            raise ModelError(f"truncated or damaged: storage {key} has not the declared size")
        records[key] = data[start:at]
    if at != len(data):
        raise ModelError("damaged: bytes follow the last storage")
    return content, records
