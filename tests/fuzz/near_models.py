"""Near misses of models and weights: one entry, number, name or step of a pickle is wrong."""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from test_archive import Raw, build, deflate, end_64, end_record, entries_of

from . import special
from .cases import OTHER_KINDS, Near


def models(files: Mapping[str, bytes]) -> Iterator[Near]:
    """Files that are no model, or a damaged archive of one."""
    entries = entries_of(files["m.pt"])
    first, others = entries[0], entries[1:]
    strangers = (
        *OTHER_KINDS,
        b"\x80\x02N.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.",
        b"\x80\x02cos\nsystem\nq\x00.ctorch._utils\n_rebuild_tensor_v2\n.",
        b"PK\x03\x04",
        b"PK\x03\x04" + end_record(1, 46, 0),
    )
    ends = (
        lambda count, size, start: end_record(count, size, start) + b"x",
        lambda count, size, start: end_record(count, size, start + 1),
        lambda count, size, start: end_record(count - 1, size, start),
        lambda count, size, start: end_record(count + 1, size, start),
        lambda _count, size, start: end_record(30_000, size, start),
        lambda count, size, start: end_64(count, size, start + 1, count),
        lambda count, size, start: end_record(count + 1, size, start, b"x" * 46),
    )
    locator = b"PK\x06\x07" + bytes(16)
    changes = (
        {"size": 2**31},
        {"size": 2**32 - 1},
        {"size": len(first.data) + 1, "method": 8, "payload": deflate(first.data)},
        {"method": 8, "payload": b"\xff" * 9},
        {"crc": 1},
        {"name": b"a/" + b"x" * 2000},
        {"name": b"a/../x"},
        {"name": b"other/x"},
        {"name": b"serialized_exported_program.json"},
        {"name": b"a/serialized_exported_program.json"},
        {"name": others[0].name},
        {"local_name": b"x" * len(first.name)},
        {"flags": 1},
        {"flags": 8},
        {"method": 99},
        {"attributes": 0o120777 << 16},
        {"prefix": b"PK\x03\x04"},
    )
    whole = build(entries)
    directory = whole.rindex(b"PK\x01\x02")
    damaged = (
        locator + end_record(0, 0, 0),
        *(build(entries, end) for end in ends),
        *(build([replace(first, **change), *others]) for change in changes),
        whole[: directory + 32] + b"\xff\xff" + whole[directory + 34 :],
        # The local header alone says another checksum.
        whole[:14] + b"1234" + whole[18:],
        *(_with(files["m.pt"], name, None) for name in ("data.pkl", "constants.pkl")),
        _with(files["m.pt"], "byteorder", b"big"),
        _with(files["m.pt"], "version", b"x"),
        _with(files["m.pt"], "mobile.pkl", b""),
    )
    for content in (*strangers, *damaged):
        yield "check x.pt", {"x.pt": content}
    code = next(entry.name for entry in entries if entry.name.endswith(b".py")).decode().partition("/")[2]
    text = next(entry.data for entry in entries if entry.name.endswith(code.encode()))
    for new in (b"ops.aten.from_file(", b"ops.mylib.op(", b"torch.nothing("):
        yield "check x.pt", {"x.pt": _with(files["m.pt"], code, text.replace(b"torch.relu(", new))}
    yield "check x.pt", {"x.pt": _with(files["m.pt"], code, text + b"\n__setstate__ = torch.save\n")}


def _with(archive: bytes, name: str, content: bytes | None) -> bytes:
    """Put content in the place of an entry, or beside the others; None takes it away."""
    entries = entries_of(archive)
    full = entries[0].name.partition(b"/")[0] + b"/" + name.encode()
    kept = [entry for entry in entries if entry.name != full]
    packed = content is not None and len(content) > 1 << 20
    added = [] if content is None else [Raw(full, content)]
    return build(
        [*kept, *(replace(one, method=8, payload=deflate(one.data)) for one in added if packed)]
        + [one for one in added if not packed]
    )


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<L", len(text)) + text.encode()


def _storage(
    kind: str = "Float", key: str = "0", device: str = "cpu", count: bytes = b"K\x02", word: str = "storage"
) -> bytes:
    name = f"ctorch\n{kind}Storage\n".encode()
    return b"(" + _text(word) + name + _text(key) + _text(device) + count + b"tQ"


def _tensor(storage: bytes, size: bytes = b"K\x01", more: bytes = b"", *, name: str = "tensor_v2") -> bytes:
    """Call a function that makes a tensor of one dimension."""
    view = b"K\x00" + size + b"\x85" + b"K\x01\x85"
    return f"ctorch._utils\n_rebuild_{name}\n".encode() + b"(" + storage + view + b"\x89N" + more + b"tR"


TYPED = b"ctorch.jit._pickle\nbuild_%slist\n"
EMPTY = b"ccollections\nOrderedDict\n"
BOTH = (
    b"\x80\x02.",
    b"\x80\x02R.",
    b"\x80\x02N",
    b"\x80\x02X\xff\xff\xff\x7f.",
    b"\x80\x02Z.",
    b"\x80\x02cos\nsystem\n.",
    b"\x80\x02N(e.",
    b"\x80\x02N(u.",
    b"\x80\x02NN\x85R.",
    b"\x80\x02NNb.",
    b"\x80\x02N.N",
    *(
        b"\x80\x02" + what + b"."
        for what in (
            _storage(word="x"),
            _storage("Odd"),
            _storage(key="99"),
            _storage(count=b"N"),
            _storage(count=b"K\x03"),
            _storage(device="meta"),
            _storage(device="!"),
            _storage() + b"0" + _storage(count=b"K\x01"),
            _tensor(b"N"),
            _tensor(_storage(), b"N"),
            _tensor(_storage(), b"K\x03"),
            _tensor(_storage(), b"\x8a\x08" + bytes(7) + b"\x40"),
            _tensor(_storage(), b"K\x01K\x01\x86K\x01"[:4]),
            _tensor(_storage(), more=b"}" + _text("conj") + b"\x88s"),
            _tensor(_storage("QInt8", count=b"K\x08")),
        )
    ),
)
"""Pickles that neither reader takes, or one of them does not."""
WALKED = (
    b"c!\n\n",
    b"}(Nu",
    b"Nr\xff\xff\xff\x00",
    b"\x8a\x01\x01",
    b"c__torch__\na.b\n",
    EMPTY + b")\x81",
    EMPTY + b"N\x85R",
    EMPTY + b"NR",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"N" + b"\x85" * 2001,
    TYPED % b"int" + b"N\x85R",
    TYPED % b"int" + b"](" + _text("x") + b"e\x85R",
    b"c__torch__.torch.classes.quantized\nLinearPackedParamsBase\nN\x85R",
    b"(" + _text("storage") + b"N" + _text("0") + _text("cpu") + b"K\x02tQ",
)


def walked(model: bytes) -> Iterator[Near]:
    """Pickles of a TorchScript archive, whose storage 0 has eight bytes."""
    whole = _with(model, "data/0", bytes(8))
    odd = _tensor(_storage(), b"K\x01K\x01\x86").replace(b"\x86\x85", b"\x86")
    scheme = b"(ctorch\nper_tensor_affine\nNNt"
    view = b"(" + _storage("QInt8", count=b"K\x08") + b"K\x00K\x01\x85K\x01\x85" + scheme + b"\x89Nt"
    scaled = b"ctorch._utils\n_rebuild_qtensor\n" + view + b"R"
    for body in (*WALKED, odd, scaled):
        yield "check x.pt", {"x.pt": _with(whole, "data.pkl", b"\x80\x02" + body + b".")}
    for pickle in (*BOTH, b"\x80\x03N.", bytes((64 << 20) + 1)):
        yield "check x.pt", {"x.pt": _with(whole, "data.pkl", pickle)}


def weights(files: Mapping[str, bytes]) -> Iterator[Near]:
    """Files of weights: archives, the old format, and safetensors."""

    def given(content: bytes, name: str = "x.pth") -> Near:
        return f"check net.py:make --weights {name}", {name: content}

    whole = _with(files["w.pth"], "data/0", bytes(8))
    odd = _tensor(_storage(), b"K\x01K\x01\x86").replace(b"\x86\x85", b"\x86")
    vast = b"\x8a\x09" + bytes(8) + b"\x01"
    pickles = (
        *BOTH,
        b"XX",
        *(b"\x80\x04" + body + b"." for body in (b"NN\x93", odd, _tensor(_storage(), vast), b"}")),
        b"\x80\x02}" + _text("0.weight") + b"ctorch._utils\n_rebuild_sparse_tensor\n)Rs.",
        b"\x80\x02}" + _text("odd") + _tensor(_storage()) + b"s.",
        bytes((64 << 20) + 1),
    )
    for pickle in pickles:
        yield given(_with(whole, "data.pkl", pickle))
    yield given(_with(files["w.pth"], "byteorder", b"big"))
    yield given(_with(files["w.pth"], "data/0", None))
    yield given(_with(files["w.pth"], "data/0", b"short"))
    old = files["old.pth"]
    magic, at = old[: old.index(b".") + 1], old.index(b".") + 1
    system = b"\x80\x02}" + _text("little_endian") + b"\x88s."
    protocol = b"\x80\x02M\xe9\x03."
    heads = magic + protocol + system
    lists = (b"\x80\x02}.\x80\x02N.", b"\x80\x02}.\x80\x02]" + _text("0") + b"a.")
    for content in (old[:-1], old + b"x", old[:at] + b"\x80\x02N." * 4, *(heads + one for one in lists)):
        yield given(content)
    yield given(
        special.giant((64 << 20) + 99, magic + b"\x80\x02X" + struct.pack("<L", (64 << 20) + 1), b"." * 90)
    )
    for content in _tables():
        yield given(content, "x.safetensors")
    yield given(special.giant((64 << 20) + 99, struct.pack("<Q", (64 << 20) + 1) + b'{"'), "x.safetensors")


def _tables() -> Iterator[bytes]:
    def table(header: object, body: bytes = bytes(4), length: int = 0) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", length or len(text)) + text + body

    one: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for change in ({"dtype": "X"}, {"shape": [-1]}, {"data_offsets": [0]}, {"shape": [2]}, {"x": 1}):
        yield table({"a": one | change})
    yield table({"a": one}, bytes(5))
    yield table({"a": one, "b": one})
    yield table({"a": one}, length=99)
    yield table(b"{x")
    yield table(b'{"a": 1, "a": 2}')
    yield table({"odd": one})


PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


def programs(whole: bytes) -> Iterator[Near]:
    """Break what the entries of an exported program are and say."""
    (program,) = (one.data for one in entries_of(whole) if one.name.endswith(PROGRAM.encode()))
    (config,) = (one.data for one in entries_of(whole) if one.name.endswith(WEIGHTS.encode()))
    samples = build([Raw(b"a/data.pkl", b"\x80\x02cos\nsystem\n.")])
    tree = json.loads(program)
    graph, signature = (tree["graph_module"][part] for part in ("graph", "signature"))
    node = next(one for one in graph["nodes"] if "conv" in one["target"])
    value = graph["tensor_values"]["image"]
    specs = signature["input_specs"]
    second = {"user_input": {"arg": {"as_tensor": {"name": specs[0]["parameter"]["arg"]["name"]}}}}
    operators = ("aten.from_file.default", "mylib.op.default", "aten.nope.default")
    keyed = _nest("builtins.dict", '["image"]', _nest(None, None))
    nests = (
        _nest("odd", "null"),
        _nest("builtins.dict", "[[1]]"),
        _nest("builtins.tuple", "null", _nest("builtins.tuple", "null"), keyed),
    )
    texts = (
        b"{",
        b"[]",
        bytes((64 << 20) + 1),
        b"[" * 3_750 + b"]" * 3_750,
        *edited(tree, node, "target", ["print", *(f"torch.ops.{name}" for name in operators)]),
        *edited(tree, node, "metadata", [{"custom_obj": "x", "y": 1}, {'"': 1}]),
        *edited(tree, value, "dtype", [8]),
        *edited(tree, value, "sizes", [[{"as_expr": {"expr_str": "os.x()"}}]]),
        *edited(tree, signature, "input_specs", [[second, *specs[1:]]]),
        *edited(
            tree,
            tree["graph_module"]["module_call_graph"][0]["signature"],
            "in_spec",
            ["x", *(json.dumps([1, nest]) for nest in nests)],
        ),
    )
    settings = json.loads(config)
    first, *_, other = settings["config"].values()
    meta, sides = first["tensor_meta"], len(first["tensor_meta"]["sizes"])
    vast = meta | {"strides": [{"as_int": 0}] * sides, "sizes": [{"as_int": 2**12}] * sides}
    configs = (
        b"[]",
        *edited(settings, first, "use_pickle", [True]),
        *edited(settings, first, "path_name", ["weight_99"]),
        *edited(settings, other, "path_name", [first["path_name"]]),
        *edited(settings, meta, "layout", [1]),
        *edited(settings, meta, "device", [{"type": "meta", "index": None}]),
        *edited(settings, meta, "sizes", [[{"as_int": -1}], [{"as_int": 2**20}] * sides]),
        *edited(settings, meta, "dtype", [8]),
        *edited(settings, first, "tensor_meta", [vast]),
    )
    new: dict[str, Sequence[bytes | None]] = {
        "data/aotinductor/x.so": [b""],
        "data/constants/custom_obj_0": [b""],
        "models/other.json": [b"{}"],
        "odd": [b""],
        "archive_version": [b"9"],
        "byteorder": [None],
        "data/sample_inputs/model.pt": [samples],
        PROGRAM: texts,
        WEIGHTS: configs,
    }
    for name, contents in new.items():
        for content in contents:
            yield "check x.pt2", {"x.pt2": _with(whole, name, content)}


def _nest(kind: str | None, context: str | None, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": children}


def edited(tree: Any, holder: dict[str, Any], key: str, contents: Iterable[Any]) -> list[bytes]:
    """Write a tree once for each content that a key of a part of it may have."""
    old, found = holder.get(key), []
    for content in contents:
        holder[key] = content
        found.append(json.dumps(tree).encode())
    holder[key] = old
    return found
