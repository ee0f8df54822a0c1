"""Read the pickle of a checkpoint as data: tensors and plain values; nothing is imported, called or built.

Only what ``torch.save`` writes for weights is understood. A name outside of the list below is refused, so a
file that would run code where somebody else unpickles it does not pass here as weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from eqaudit.errors import ModelError
from eqaudit.loader.limits import LIMITS
from eqaudit.loader.machine import PickleMachine, RefusedError

WEIGHTS_WAY_OUT: Final = "save the weights with torch.save(model.state_dict(), FILE), or as safetensors"
_PROTOCOL: Final = 2
_MOST_DIMENSIONS: Final = 64

_STORAGES: Final = {
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ShortStorage": torch.int16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.storage.UntypedStorage": torch.uint8,
}
_DTYPES: Final = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
}
_REBUILD: Final = "torch._utils._rebuild_tensor_v2"
_REBUILD_TYPED: Final = "torch._utils._rebuild_tensor_v3"
_WRAPPERS: Final = frozenset(
    {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"},
)
_REBUILD_SUBCLASS: Final = "torch._tensor._rebuild_from_type_v2"
_DICTIONARIES: Final = frozenset({"collections.OrderedDict", "collections.defaultdict"})
_OPAQUE: Final = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": ("set", "frozenset", "dict", "list", "int", "float", "complex", "bytearray", "slice"),
        "__builtin__": ("set", "frozenset", "dict", "list", "int", "float", "complex", "bytearray", "slice"),
        "_codecs": ("encode",),
        "argparse": ("Namespace",),
        "collections": ("Counter",),
        "numpy": ("dtype", "ndarray"),
        "numpy.core.multiarray": ("scalar", "_reconstruct"),
        "numpy._core.multiarray": ("scalar", "_reconstruct"),
        "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath"),
        "torch": ("Size", "device", "Tensor"),
        "torch.nn.parameter": ("Parameter", "Buffer"),
    }.items()
    for name in names
)
"""What often stands beside weights. A call of one leaves an `Opaque`: it is known by name only."""
_NAMES: Final = frozenset(
    {*_STORAGES, *_DTYPES, _REBUILD, _REBUILD_TYPED, *_WRAPPERS, _REBUILD_SUBCLASS, *_DICTIONARIES, *_OPAQUE}
)
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
    """A value that was not made."""

    name: str


class Table(dict[Any, Any]):
    """A dictionary of the pickle; ``metadata`` holds the versions of a state dict's modules."""

    metadata: Table | None = None


@dataclass(frozen=True, slots=True)
class _Name:
    text: str


def read_pickle(data: bytes | bytearray, start: int, storages: dict[str, StorageSpec]) -> tuple[Any, int]:
    """Read one pickle of protocol 2.

    Parameters
    ----------
    data
        Holds the pickle.
    start
        Where it starts.
    storages
        Receives every storage that it declares, by key.

    Returns
    -------
    tuple
        The value (dictionaries as `Table`, tensors as `TensorSpec`), and where the pickle ends.

    Raises
    ------
    ModelError
        It is damaged, or names what no weights need.
    """
    reader = _Reader(data, start, storages)
    try:
        return reader.read(), reader.at
    except RefusedError as error:
        raise ModelError(str(error), WEIGHTS_WAY_OUT) from error
    except Exception as error:
        raise ModelError(f"damaged pickle ({type(error).__name__})") from error


class _Reader(PickleMachine[Any]):
    """Reads a pickle of weights into inert values."""

    def __init__(self, data: bytes | bytearray, start: int, storages: dict[str, StorageSpec]) -> None:
        super().__init__(data, start)
        self.storages = storages

    def read(self) -> Any:
        if bytes(self.data[self.at : self.at + 2]) != bytes([0x80, _PROTOCOL]):
            raise RefusedError("not a pickle of protocol 2, which torch.save writes")
        self.at += 2
        self.step_to_end(_STEPS, "which torch.save does not write; nothing was unpickled")
        (value,) = self.stack
        return value

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_many(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def line(self) -> str:
        end = self.data.index(b"\n", self.at, self.at + LIMITS.name_bytes)
        return self.bytes(end + 1 - self.at)[:-1].decode("ascii")

    def find(self) -> None:
        name = f"{self.line()}.{self.line()}"
        if name not in _NAMES:
            raise RefusedError(f"the pickle names {name[:80]}: refused, nothing is unpickled")
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
        name, arguments = self.pop_many(2)
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise RefusedError("it calls what is no function")
        self.push(_call(name.text, arguments))

    def build(self) -> None:
        target, state = self.pop_many(2)
        if isinstance(target, Table):
            metadata = state.get("_metadata") if isinstance(state, Table) else None
            target.metadata = metadata if isinstance(metadata, Table) else None
        elif not isinstance(target, Opaque):
            raise RefusedError("it gives a state to what has none")
        self.push(target)

    def storage(self) -> None:
        word, dtype, key, _location, count, *view = self.pop()
        found = _STORAGES.get(dtype.text) if isinstance(dtype, _Name) else None
        if word != "storage" or found is None or not isinstance(key, str) or view not in ([], [None]):
            raise RefusedError("a storage in it is of no known type")
        storage = StorageSpec(key, found, _index(count))
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedError(f"storage {key} is declared twice, differently")
        self.push(storage)


def _call(name: str, arguments: Sequence[Any]) -> Any:
    if name == _REBUILD:
        _check_plain(arguments[6:])
        return _tensor(arguments[0], None, *arguments[1:4])
    if name == _REBUILD_TYPED:
        _check_plain(arguments[7:])
        dtype = arguments[6]
        return _tensor(arguments[0], _DTYPES[dtype.text], *arguments[1:4])
    if name in _WRAPPERS:
        return arguments[0]
    if name == _REBUILD_SUBCLASS:
        function, _kind, inner, _state = arguments
        return _call(function.text, inner) if function.text != name else Opaque(name)
    if name in _DICTIONARIES:
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
    if not isinstance(storage, StorageSpec):
        raise RefusedError("a tensor in it has no storage")
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise RefusedError(f"a tensor in storage {storage.key} has an impossible shape")
    shape, steps = tuple(map(_index, size)), tuple(map(_index, stride))
    if math.prod(shape) > LIMITS.unpacked_bytes:
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


_STEPS: Final[dict[int, Callable[[_Reader], None]]] = {
    ord("c"): _Reader.find,
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
    ord("X"): lambda reader: reader.push(reader.bytes(reader.number("<I")).decode()),
    # Python 2 wrote its strings so.
    ord("U"): lambda reader: reader.push(reader.bytes(reader.number("<B")).decode("latin-1")),
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
    ord("a"): lambda reader: reader.append(reader.pop_many(1)),
    ord("e"): lambda reader: reader.append(reader.since_mark()),
    ord("s"): lambda reader: reader.set_items(reader.pop_many(2)),
    ord("u"): lambda reader: reader.set_items(reader.since_mark()),
    0x81: _Reader.call,
    ord("R"): _Reader.call,
    ord("b"): _Reader.build,
    ord("Q"): _Reader.storage,
}
