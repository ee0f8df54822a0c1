"""Read the pickle of a checkpoint as data: tensors and plain values; nothing is imported, called or built.

Only the opcodes that ``torch.save`` writes are understood. What is no tensor and no plain value is left out:
known by name, never made. Names of functions that run code are refused, so that a file which would do so
where somebody else unpickles it does not pass here as weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.machine import PickleMachine, RefusedError
from eqaudit.loader.names import (
    DICTIONARIES,
    DTYPES,
    KNOWN,
    QUANTIZED,
    REBUILD_SUBCLASS,
    REBUILD_TYPED,
    REBUILDS,
    RUNS_CODE,
    STORAGES,
    UNREAD_TENSOR,
    WRAPPERS,
)

WEIGHTS_WAY_OUT: Final = "save the weights with torch.save(model.state_dict(), FILE), or as safetensors"
PROTOCOLS: Final = range(2, 6)
_PROTOCOL_MARK: Final = 0x80
_MOST_DIMENSIONS: Final = 64

_PLAIN_KEYS: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """A record of the file: ``count`` elements of ``dtype``."""

    key: str
    dtype: torch.dtype
    count: int

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A view into a storage, known to lie inside it; offset and strides are in elements."""

    storage: StorageSpec
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that was not made: what would have been called for it."""

    name: str

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor of a kind that is not read."""
        return self.name.startswith(UNREAD_TENSOR)


class Table(dict[Any, Any]):
    """A dictionary of the pickle; ``metadata`` holds the versions of a state dict's modules."""

    metadata: Table | None = None


@dataclass(frozen=True, slots=True)
class _Name:
    text: str


@dataclass(frozen=True, slots=True)
class Declared:
    """What the pickles of a file declare: storages by key, and what else they name, in order."""

    storages: dict[str, StorageSpec] = field(default_factory=dict)
    foreign: dict[str, None] = field(default_factory=dict)


def read_pickle(data: bytes | bytearray, start: int, declared: Declared) -> tuple[Any, int]:
    """Read one pickle of protocols 2 to 5.

    Parameters
    ----------
    data
        Holds the pickle.
    start
        Where it starts.
    declared
        Receives every storage that it declares, and every name that says what was left out.

    Returns
    -------
    tuple
        The value (dictionaries as `Table`, tensors as `TensorSpec`, what was not made as `Opaque`), and where
        the pickle ends.

    Raises
    ------
    ModelError
        It is damaged, or names what runs code.
    """
    reader = _Reader(data, start, declared)
    try:
        return reader.read(), reader.at
    except RefusedError as error:
        raise ModelError(str(error), error.hint or WEIGHTS_WAY_OUT) from error
    except Exception as error:
        raise ModelError(f"damaged pickle ({type(error).__name__})") from error


class _Reader(PickleMachine[Any]):
    """Reads a pickle of weights into inert values."""

    def __init__(self, data: bytes | bytearray, start: int, declared: Declared) -> None:
        super().__init__(data, start)
        self.declared = declared

    def read(self) -> Any:
        mark, protocol = self.bytes(2)
        if mark != _PROTOCOL_MARK or protocol not in PROTOCOLS:
            raise RefusedError("not a pickle of protocols 2 to 5, which torch.save writes")
        self.step_to_end(_STEPS, "which torch.save does not write; nothing was unpickled")
        (value,) = self.stack
        return value

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_many(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def line(self) -> str:
        end = self.data.index(b"\n", self.at, self.at + BOUNDS.name_bytes)
        return self.bytes(end + 1 - self.at)[:-1].decode()

    def text(self, length: str) -> None:
        self.push(self.bytes(self.number(length)).decode(errors="replace"))

    def find(self, module: Any, attribute: Any) -> None:
        name = f"{module}.{attribute}"
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise RefusedError("a name in it is no text")
        if RUNS_CODE.fullmatch(name):
            raise RefusedError(
                f"the pickle names {name[:80]}, which runs code where it is unpickled: refused",
                "trust no other reader with this file; ask its author for the weights as safetensors",
            )
        if name not in KNOWN:
            self.declared.foreign[name] = None
        self.push(_Name(name))

    def append(self, items: list[Any]) -> None:
        target = self.pop()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise RefusedError("it appends to what is no list")
        self.push(target)

    def set_items(self, items: list[Any]) -> None:
        target = self.pop()
        if isinstance(target, Table):
            target.update(_pairs(items))
        elif not isinstance(target, Opaque):
            raise RefusedError("it sets items of what is no dictionary")
        self.push(target)

    def call(self) -> None:
        function, arguments = self.pop_many(2)
        if isinstance(function, Opaque):
            self.push(function)
        elif isinstance(function, _Name) and isinstance(arguments, tuple):
            self.push(_call(function.text, arguments))
        else:
            raise RefusedError("it calls what is no function")

    def call_with_keywords(self) -> None:
        self.pop()
        self.call()

    def build(self) -> None:
        target, state = self.pop_many(2)
        if isinstance(target, Table):
            metadata = state.get("_metadata") if isinstance(state, Table) else None
            target.metadata = metadata if isinstance(metadata, Table) else None
        elif not isinstance(target, Opaque):
            raise RefusedError("it gives a state to what has none")
        self.push(target)

    def persistent(self) -> None:
        word, *parts = self.pop()
        if word == "module":
            # The old format keeps the source text beside the class of a module.
            self.push(parts[0])
        else:
            self.storage(word, *parts)

    def storage(self, word: Any, dtype: Any, key: Any, _location: Any, count: Any, *view: Any) -> None:
        found = STORAGES.get(dtype.text) if isinstance(dtype, _Name) else None
        if word != "storage" or found is None or not isinstance(key, str) or any(view):
            raise RefusedError("a storage in it is of no known type")
        storage = StorageSpec(key, found, _index(count))
        if self.declared.storages.setdefault(key, storage) != storage:
            raise RefusedError(f"storage {key} is declared twice, differently")
        self.push(storage)


def _call(name: str, arguments: Sequence[Any]) -> Any:
    if name in REBUILDS:
        _check_plain(arguments[6:])
        return _tensor(arguments[0], None, *arguments[1:4])
    if name == REBUILD_TYPED:
        _check_plain(arguments[7:])
        dtype = arguments[6]
        return _tensor(arguments[0], DTYPES[dtype.text], *arguments[1:4])
    if name in WRAPPERS:
        return arguments[0]
    if name == REBUILD_SUBCLASS:
        function, _kind, inner, _state = arguments
        return _call(function.text, inner) if function.text != name else Opaque(name)
    if name in DICTIONARIES:
        return _dictionary(arguments[0]) if arguments and isinstance(arguments[0], list) else Table()
    return Opaque(name)


def _dictionary(pairs: list[Any]) -> Table:
    """Make a dictionary of a list of pairs, as Python 2 wrote them."""
    table = Table(_pairs([part for key, value in pairs for part in (key, value)]))
    # Used up: a long list that is fetched again and again would take time without end.
    pairs.clear()
    return table


def _check_plain(metadata: Sequence[Any]) -> None:
    if any(isinstance(part, Table) and any(part.values()) for part in metadata):
        raise RefusedError("conjugated or negated views are not supported")


def _pairs(items: Sequence[Any]) -> dict[Any, Any]:
    # A key that is no plain value names no weight; hashing nested tuples could recurse without end.
    pairs = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in pairs if type(key) in _PLAIN_KEYS}


def _index(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise RefusedError("a size, stride or offset is no count")
    return value


def _tensor(storage: Any, dtype: torch.dtype | None, offset: Any, size: Any, stride: Any) -> TensorSpec:
    if not isinstance(storage, StorageSpec) or storage.dtype in QUANTIZED:
        raise RefusedError("a tensor in it has no storage of plain numbers")
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise RefusedError(f"a tensor in storage {storage.key} has an impossible shape")
    shape, steps = tuple(map(_index, size)), tuple(map(_index, stride))
    if math.prod(shape) > BOUNDS.unpacked_bytes:
        raise RefusedError(f"a tensor in storage {storage.key} has an impossible shape")
    kind = dtype or storage.dtype
    room = storage.size // kind.itemsize
    reach = _index(offset)
    if 0 not in shape:
        reach += 1 + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
    if reach > room:
        raise RefusedError(f"a tensor needs {reach} elements of storage {storage.key}, which has {room}")
    return TensorSpec(storage, kind, offset, shape, steps)


def _put(reader: _Reader, index: int) -> None:
    reader.memo[index] = reader.stack[-1]


_STEPS: Final[dict[int, Callable[[_Reader], object]]] = {
    ord("c"): lambda reader: reader.find(reader.line(), reader.line()),
    0x93: lambda reader: reader.find(*reader.pop_many(2)),
    # Frames are for readers that read ahead.
    0x95: lambda reader: reader.number("<Q"),
    0x94: lambda reader: _put(reader, len(reader.memo)),
    ord("q"): lambda reader: _put(reader, reader.number("<B")),
    ord("r"): lambda reader: _put(reader, reader.number("<I")),
    ord("h"): lambda reader: reader.push(reader.memo[reader.number("<B")]),
    ord("j"): lambda reader: reader.push(reader.memo[reader.number("<I")]),
    ord("K"): lambda reader: reader.push(reader.number("<B")),
    ord("M"): lambda reader: reader.push(reader.number("<H")),
    ord("J"): lambda reader: reader.push(reader.number("<i")),
    ord("G"): lambda reader: reader.push(reader.number(">d")),
    0x8A: lambda reader: reader.push(
        int.from_bytes(reader.bytes(reader.number("<B")), "little", signed=True)
    ),
    # Longer integers count nothing in a checkpoint, and are slow to read and to print.
    0x8B: lambda reader: reader.push(Opaque(f"int of {len(reader.bytes(reader.number('<I')))} bytes")),
    0x8C: lambda reader: reader.text("<B"),
    ord("X"): lambda reader: reader.text("<I"),
    0x8D: lambda reader: reader.text("<Q"),
    ord("C"): lambda reader: reader.push(reader.bytes(reader.number("<B"))),
    ord("B"): lambda reader: reader.push(reader.bytes(reader.number("<I"))),
    0x8E: lambda reader: reader.push(reader.bytes(reader.number("<Q"))),
    0x96: lambda reader: reader.push(reader.bytes(reader.number("<Q"))),
    # Python 2 wrote its strings so.
    ord("U"): lambda reader: reader.push(reader.bytes(reader.number("<B")).decode("latin-1")),
    ord("T"): lambda reader: reader.push(reader.bytes(reader.number("<I")).decode("latin-1")),
    0x88: lambda reader: reader.push(True),
    0x89: lambda reader: reader.push(False),
    ord("N"): lambda reader: reader.push(None),
    ord("("): lambda reader: reader.marks.append(len(reader.stack)),
    ord(")"): lambda reader: reader.push(()),
    ord("]"): lambda reader: reader.push([]),
    ord("}"): lambda reader: reader.push(Table()),
    ord("t"): lambda reader: reader.push(tuple(reader.since_mark())),
    0x85: lambda reader: reader.push(tuple(reader.pop_many(1))),
    0x86: lambda reader: reader.push(tuple(reader.pop_many(2))),
    0x87: lambda reader: reader.push(tuple(reader.pop_many(3))),
    # What a tuple inside itself leaves behind.
    ord("0"): _Reader.pop,
    ord("1"): _Reader.since_mark,
    0x8F: lambda reader: reader.push(Opaque("builtins.set")),
    0x90: lambda reader: reader.append(reader.since_mark()),
    0x91: lambda reader: reader.push(Opaque(f"frozenset of {len(reader.since_mark())}")),
    ord("a"): lambda reader: reader.append(reader.pop_many(1)),
    ord("e"): lambda reader: reader.append(reader.since_mark()),
    ord("s"): lambda reader: reader.set_items(reader.pop_many(2)),
    ord("u"): lambda reader: reader.set_items(reader.since_mark()),
    0x81: _Reader.call,
    0x92: _Reader.call_with_keywords,
    ord("R"): _Reader.call,
    ord("b"): _Reader.build,
    ord("Q"): _Reader.persistent,
}
