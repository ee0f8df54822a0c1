"""Walk the pickles of a TorchScript archive as torch's reader does, building nothing: check every storage.

The walk follows ``torch/csrc/jit/serialization/unpickler.cpp``, not Python's ``pickle``: the two read some
byte sequences differently (there ``BUILD`` is a call, a memo index allocates), so a check made with one says
little about the other. Only what ``torch.jit.save`` writes is understood; all else is refused.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.kinds import WAY_OUT
from eqaudit.loader.machine import PickleMachine, RefusedError

_ITEM_BYTES: Final = {
    "torch.BoolStorage": 1,
    "torch.ByteStorage": 1,
    "torch.CharStorage": 1,
    "torch.ShortStorage": 2,
    "torch.IntStorage": 4,
    "torch.LongStorage": 8,
    "torch.UInt16Storage": 2,
    "torch.UInt32Storage": 4,
    "torch.UInt64Storage": 8,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.FloatStorage": 4,
    "torch.DoubleStorage": 8,
    "torch.ComplexHalfStorage": 4,
    "torch.ComplexFloatStorage": 8,
    "torch.ComplexDoubleStorage": 16,
    "torch.Float8_e4m3fnStorage": 1,
    "torch.Float8_e4m3fnuzStorage": 1,
    "torch.Float8_e5m2Storage": 1,
    "torch.Float8_e5m2fnuzStorage": 1,
    "torch.Float8_e8m0fnuStorage": 1,
}
_QUANTIZED_BYTES: Final = {"torch.QInt8Storage": 1, "torch.QUInt8Storage": 1, "torch.QInt32Storage": 4}
_REBUILD: Final = "torch._utils._rebuild_tensor_v2"
_REBUILD_QUANTIZED: Final = "torch._utils._rebuild_qtensor"
_PER_TENSOR, _PER_CHANNEL = "torch.per_tensor_affine", "torch.per_channel_affine"
_PACKED: Final = re.compile(r"__torch__\.torch\.classes\.quantized\.(Linear|Conv[123]d)PackedParamsBase")
_PACKING_VERSION: Final = "2"
_TYPE_TAG: Final = "torch.jit._pickle.restore_type_tag"
_LIST_ITEMS: Final = {
    "torch.jit._pickle.build_intlist": int,
    "torch.jit._pickle.build_doublelist": float,
    "torch.jit._pickle.build_boollist": bool,
    "torch.jit._pickle.build_tensorlist": None,
}
_PLAIN_CALLS: Final = {
    "builtins.complex": (float, float),
    "torch.device": (str,),
    "collections.OrderedDict": (),
}
_FUNCTIONS: Final = {_REBUILD, _REBUILD_QUANTIZED, _TYPE_TAG, *_LIST_ITEMS, *_PLAIN_CALLS}
_NAMES: Final = {*_FUNCTIONS, *_ITEM_BYTES, *_QUANTIZED_BYTES, _PER_TENSOR, _PER_CHANNEL}
_REFUSED: Final = (
    (
        r"torch\.Q.*Storage|torch\.per_.*|__torch__\.torch\.classes\.(quantized|xnnpack)\..*",
        "quantized weights of this kind are not supported",
    ),
    (r"torch\._utils\._rebuild_sparse.*", "sparse weights are not supported"),
    (r".*_rebuild_nested.*", "nested tensors are not supported"),
    (r"__torch__\.torch\.classes\..*", "it holds a custom C++ object, which is not supported"),
)
_DEVICE: Final = re.compile(r"[a-z]+(:[0-9]{1,3})?")
_IDENTIFIER: Final = re.compile(rb"[A-Za-z0-9_.]+")

_Kind: TypeAlias = Literal["global", "tuple", "list", "dict", "object", "storage", "tensor"]
_Value: TypeAlias = "int | float | str | _Node | None"


@dataclass(slots=True, eq=False)
class _Node:
    """An inert stand-in: remembers what it stands for and how deep it nests."""

    kind: _Kind
    items: Sequence[_Value] = ()
    name: str = ""
    depth: int = 1
    fetched: bool = False


def check_pickle(member: str, data: bytes, sizes: Mapping[str, int]) -> None:
    """Refuse a TorchScript pickle unless every tensor in it lies inside a storage of the declared size.

    Nothing is imported, called or built.

    Parameters
    ----------
    member
        Name inside the archive's top folder, such as ``data.pkl``; its storages are ``data/0``, ...
    data
        The pickle.
    sizes
        Bytes of every record, by its name inside the top folder.

    Raises
    ------
    ModelError
        Naming the member and what is wrong in it.
    """
    if len(data) > BOUNDS.pickle_bytes:
        raise ModelError(f"{member} is too large: {len(data)} bytes, limit {BOUNDS.pickle_bytes}")
    try:
        _Walker(data, member.removesuffix(".pkl"), sizes).walk()
    except RefusedError as error:
        raise ModelError(f"{member}: {error}", error.hint) from error
    except Exception as error:
        # Whatever stopped the walk, what follows was not checked.
        raise ModelError(f"{member}: damaged pickle ({type(error).__name__})") from error


class _Walker(PickleMachine[_Value]):
    """Steps through a pickle of TorchScript and checks every storage that it names."""

    def __init__(self, data: bytes, folder: str, sizes: Mapping[str, int]) -> None:
        super().__init__(data)
        self.folder = folder
        self.sizes = sizes

    def walk(self) -> None:
        self.step_to_end(_STEPS, "which TorchScript does not write")
        if self.at != len(self.data) or len(self.stack) != 1 or self.marks:
            raise RefusedError("it does not end where it says")

    def line(self) -> str:
        end = self.data.index(b"\n", self.at, self.at + BOUNDS.name_bytes)
        text = self.bytes(end + 1 - self.at)[:-1]
        if not _IDENTIFIER.fullmatch(text):
            raise RefusedError("a name in it is no identifier")
        return text.decode("ascii")

    def push_tuple(self, items: list[_Value]) -> None:
        self.stack.append(_Node("tuple", items, depth=_depth(items)))

    def fill(self, kind: Literal["list", "dict"]) -> None:
        items = self.since_mark()
        target = self.peek()
        # A container that was fetched from the memo might be filled with itself: a cycle.
        if not isinstance(target, _Node) or target.kind != kind or target.fetched or target.items:
            raise RefusedError(f"it fills something that is no new {kind}")
        if kind == "dict" and len(items) % 2:
            raise RefusedError("it holds a key without a value")
        target.items = items
        target.depth = _depth(items)

    def put(self, index: float) -> None:
        # torch's memo is an array as long as the largest index: an index needs bytes that earned it.
        if index > len(self.data):
            raise RefusedError("memo index out of range")
        self.memo[int(index)] = self.peek()

    def get(self, index: float) -> None:
        value = self.memo[int(index)]
        if isinstance(value, _Node):
            value.fetched = True
        self.stack.append(value)

    def protocol(self) -> None:
        if self.at != 1 or self.number("<B") != 2:  # noqa: PLR2004 - the one protocol of torch's reader
            raise RefusedError("not a pickle of protocol 2")

    def long(self) -> None:
        if self.number("<B") != 8:  # noqa: PLR2004 - torch reads 64-bit integers only
            raise RefusedError("an integer in it has not 64 bits")
        self.stack.append(self.number("<q"))

    def text(self) -> None:
        size = int(self.number("<I"))
        self.stack.append(self.bytes(size).decode("utf-8", "surrogateescape"))

    def find(self) -> None:
        module, name = self.line(), self.line()
        full = f"{module}.{name}"
        if full not in _NAMES:
            _check_class(full)
        if "." in name:
            raise RefusedError(f"it names {full} in a way that TorchScript does not")
        self.stack.append(_Node("global", name=full))

    def new(self) -> None:
        arguments, target = self.pop(), self.peek()
        if _tuple(arguments) or not _global(target).startswith("__torch__."):
            raise RefusedError("it makes an object of what is no TorchScript class")

    def call(self) -> None:
        argument, name = self.pop(), _global(self.pop())
        if name.startswith("__torch__."):
            _check_packed(name, argument)
            self.stack.append(_Node("object", (argument,), name, _depth([argument])))
            return
        arguments = _tuple(argument)
        if name == _REBUILD:
            self.stack.append(_tensor(arguments))
        elif name == _REBUILD_QUANTIZED:
            self.stack.append(_quantized_tensor(arguments))
        elif name == _TYPE_TAG:
            value, _tag = arguments
            self.stack.append(value)
        elif name in _LIST_ITEMS:
            self.stack.append(_typed_list(name, arguments))
        elif name in _PLAIN_CALLS and tuple(map(type, arguments)) == _PLAIN_CALLS[name]:
            self.stack.append(None)
        else:
            raise RefusedError(f"wrong call of {name}")

    def storage(self) -> None:
        word, dtype, key, device, count = _tuple(self.pop())
        kind = _global(dtype)
        item_bytes = _ITEM_BYTES.get(kind) or _QUANTIZED_BYTES.get(kind)
        if word != "storage" or item_bytes is None or not isinstance(key, str):
            raise RefusedError("a storage in it is of no known type")
        if device == "meta":
            raise RefusedError("its weights are on the meta device: the file holds no values")
        if not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise RefusedError("a storage in it is on no known device")
        record = f"{self.folder}/{key}"
        declared = _index(count) * item_bytes
        # torch never reads the record of an empty storage.
        found = self.sizes.get(record, None if declared else 0)
        if found is None:
            raise RefusedError(f"storage {record} is missing")
        if found != declared:
            raise RefusedError(f"storage {record} has {found} bytes, {declared} declared")
        self.stack.append(_Node("storage", (count, kind), record))


def _check_class(name: str) -> None:
    if _PACKED.fullmatch(name):
        return
    for pattern, reason in _REFUSED:
        if re.fullmatch(pattern, name):
            raise RefusedError(f"{reason} ({name})", WAY_OUT)
    if not name.startswith("__torch__."):
        raise RefusedError(
            f"the pickle names {name}, which is no part of TorchScript; nothing was unpickled", WAY_OUT
        )


def _depth(items: Sequence[_Value]) -> int:
    depth = 1 + max((item.depth for item in items if isinstance(item, _Node)), default=0)
    if depth > BOUNDS.pickle_depth:
        raise RefusedError(f"it nests deeper than {BOUNDS.pickle_depth} levels")
    return depth


def _tuple(value: _Value) -> Sequence[_Value]:
    if not isinstance(value, _Node) or value.kind != "tuple":
        raise RefusedError("a value stands where a tuple belongs")
    return value.items


def _global(value: _Value) -> str:
    if not isinstance(value, _Node) or value.kind != "global":
        raise RefusedError("a value stands where a name belongs")
    return value.name


def _index(value: _Value) -> int:
    if type(value) is not int or value < 0:
        raise RefusedError("a size, stride or offset is no count")
    return value


def _typed_list(name: str, arguments: Sequence[_Value]) -> _Node:
    (values,) = arguments
    if not isinstance(values, _Node) or values.kind != "list":
        raise RefusedError(f"wrong call of {name}")
    wanted = _LIST_ITEMS[name]
    for item in values.items:
        tensor = isinstance(item, _Node) and item.kind in {"tensor", "storage"}
        if type(item) is not wanted if wanted else not tensor:
            raise RefusedError(f"a list in it holds what {name} does not")
    return values


def _check_packed(name: str, state: _Value) -> None:
    """Check the state of packed weights, which a library in C++ unpacks."""
    found = _PACKED.fullmatch(name)
    if not found:
        return
    wanted: tuple[object, ...] = ("tensor", "tensor?")
    if found[1] != "Linear":
        wanted = (_PACKING_VERSION, ["tensor", "tensor"], ["tensor?"])
    if not _is_like(_tuple(state), wanted):
        raise RefusedError(f"its {name.rpartition('.')[2]} is not packed as PyTorch packs it")


def _is_like(items: Sequence[_Value], wanted: Sequence[object]) -> bool:
    """Tell whether values are the tensors, lists and texts that are wanted; ``tensor?`` may be None."""
    if len(items) != len(wanted):
        return False
    for item, form in zip(items, wanted, strict=True):
        kind = item.kind if isinstance(item, _Node) else item
        if isinstance(form, list):
            same = isinstance(item, _Node) and kind == "list" and _is_like(item.items, form)
        else:
            same = kind == form or (form == "tensor?" and kind in {None, "tensor"})
        if not same:
            return False
    return True


def _quantized_tensor(arguments: Sequence[_Value]) -> _Node:
    storage, offset, size, stride, parameters, grad, hooks = arguments
    scheme, *values = _tuple(parameters)
    shape = _tuple(size)
    name = _global(scheme)
    if name == _PER_TENSOR:
        known = tuple(map(type, values)) == (float, int)
    else:
        scales, zero_points, axis = values
        place = _index(axis)
        # One number for each channel: torch does not compare them.
        known = name == _PER_CHANNEL and place < len(shape)
        known = known and all(
            isinstance(part, _Node) and part.kind == "tensor" and list(part.items) == [shape[place]]
            for part in (scales, zero_points)
        )
    if not known:
        raise RefusedError("a quantized tensor in it has no scale and zero point for each channel")
    return _tensor((storage, offset, size, stride, grad, hooks), _QUANTIZED_BYTES)


def _tensor(arguments: Sequence[_Value], kinds: Mapping[str, int] = _ITEM_BYTES) -> _Node:
    if len(arguments) == 7:  # noqa: PLR2004 - torch's seventh argument: the conjugate and negative bits
        raise RefusedError(
            "conjugated or negated views are not supported", "save x.resolve_conj().resolve_neg()"
        )
    storage, offset, size, stride, grad, _hooks = arguments
    if not isinstance(storage, _Node) or storage.kind != "storage" or not isinstance(grad, bool):
        raise RefusedError("a tensor in it has no storage")
    if storage.items[1] not in kinds:
        raise RefusedError(f"a tensor is not of the type of {storage.name}, {storage.items[1]}")
    shape = [_index(length) for length in _tuple(size)]
    steps = [_index(step) for step in _tuple(stride)]
    room = _index(storage.items[0])
    if len(shape) != len(steps) or len(shape) > 64 or math.prod(shape) >= 2**63:  # noqa: PLR2004 - torch's own
        raise RefusedError(f"a tensor in {storage.name} has an impossible shape")
    reach = _index(offset)
    if 0 not in shape:
        reach += 1 + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
    if reach > room:
        raise RefusedError(f"a tensor needs {reach} elements of storage {storage.name}, which has {room}")
    return _Node("tensor", shape)


_STEPS: Final[dict[int, Callable[[_Walker], None]]] = {
    0x80: _Walker.protocol,
    ord("c"): _Walker.find,
    ord("q"): lambda walker: walker.put(walker.number("<B")),
    ord("r"): lambda walker: walker.put(walker.number("<I")),
    ord("h"): lambda walker: walker.get(walker.number("<B")),
    ord("j"): lambda walker: walker.get(walker.number("<I")),
    ord("K"): lambda walker: walker.stack.append(walker.number("<B")),
    ord("M"): lambda walker: walker.stack.append(walker.number("<H")),
    ord("J"): lambda walker: walker.stack.append(walker.number("<i")),
    ord("G"): lambda walker: walker.stack.append(walker.number(">d")),
    0x8A: _Walker.long,
    ord("X"): _Walker.text,
    0x88: lambda walker: walker.stack.append(True),
    0x89: lambda walker: walker.stack.append(False),
    ord("N"): lambda walker: walker.stack.append(None),
    ord("("): lambda walker: walker.marks.append(len(walker.stack)),
    ord(")"): lambda walker: walker.push_tuple([]),
    ord("]"): lambda walker: walker.stack.append(_Node("list")),
    ord("}"): lambda walker: walker.stack.append(_Node("dict")),
    ord("t"): lambda walker: walker.push_tuple(walker.since_mark()),
    0x85: lambda walker: walker.push_tuple([walker.pop()]),
    0x86: lambda walker: walker.push_tuple([walker.pop(), walker.pop()][::-1]),
    0x87: lambda walker: walker.push_tuple([walker.pop(), walker.pop(), walker.pop()][::-1]),
    ord("e"): lambda walker: walker.fill("list"),
    ord("u"): lambda walker: walker.fill("dict"),
    0x81: _Walker.new,
    ord("R"): _Walker.call,
    ord("b"): _Walker.call,
    ord("Q"): _Walker.storage,
}
