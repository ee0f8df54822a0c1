"""The strict reader: whole TorchScript files pass bit for bit, all else is refused before torch sees it."""

import io
import os
import pickle
import random
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.package.package_exporter import PackageExporter

from eqaudit.bounds import Bounds
from eqaudit.errors import ModelError
from eqaudit.loader import archive, machine, storages, zipped
from eqaudit.loader.archive import ModelFile, read_model_file

REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


class Colour(Enum):
    """An enumeration attribute: its pickle calls a class without building it."""

    RED = 1


class Attributes(nn.Module):
    """Every kind of attribute and dtype that TorchScript saves."""

    base_view: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        base = torch.arange(10.0)
        self.weight = nn.Parameter(torch.randn(3, 3))
        self.names = ["a", "b"]
        self.sizes = [1, 2]
        self.floats = [1.5, float("inf")]
        self.flags = [True, False]
        self.tensors = [torch.ones(2), torch.zeros(1)]
        self.table = {"k": torch.ones(2)}
        self.counts = {"a": 1}
        self.pair = (1, 2.0, "x")
        self.big = 2**50
        self.negative = -5
        self.complex = complex(1, 2)
        self.colour = Colour.RED
        self.target = torch.device("cpu")
        self.register_buffer("base_view", base[2:6])
        self.register_buffer("overlapping", base[4:])
        self.register_buffer("transposed", torch.randn(3, 4).t())
        self.register_buffer("expanded", torch.ones(1).expand(5))
        self.register_buffer("scalar", torch.tensor(3))
        self.register_buffer("empty", torch.empty(0, 3))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        for dtype in ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "float16", "bfloat16"):
            self.register_buffer(f"of_{dtype}", torch.tensor([1, 0, 3]).to(getattr(torch, dtype)))
        for dtype in ("float64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"):
            self.register_buffer(f"of_{dtype}", torch.tensor([1.0, 0.5]).to(getattr(torch, dtype)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Use a parameter, a buffer, a table and a constant."""
        shifted: torch.Tensor = x @ self.weight + self.base_view.sum()
        return shifted + self.table["k"].sum() + torch.ones(3)


class Whole(nn.Module):
    """One child under two names, then a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Attributes()])
        self.again = self.layers[0]
        self.conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layers on (B, 1, 3, 3)."""
        shift: torch.Tensor = self.again(x)
        features: torch.Tensor = self.conv(x)
        return shift.mean() + features


class Holder(nn.Module):
    """Holds one tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("tensor", tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        return x


def script(module: nn.Module, path: Path, **extra: bytes) -> Path:
    """Save a scripted module."""
    torch.jit.save(torch.jit.script(module), path, _extra_files=extra)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one file of every kind that must pass."""
    folder = tmp_path_factory.mktemp("models")
    example = torch.ones(1, 1, 3, 3)
    module = Whole().eval()
    traced, frozen = folder / "traced.bin", folder / "frozen.pt"
    torch.jit.save(torch.jit.trace(module, example), traced)  # type: ignore[no-untyped-call]
    torch.jit.save(torch.jit.freeze(torch.jit.script(module)), frozen)
    small = script(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), folder / "small.pt")
    scripted = script(module, folder / "scripted.pt", **{"note.txt": b"hi", "deep/note": b""})
    return {"scripted": scripted, "traced": traced, "frozen": frozen, "small": small}


@pytest.fixture
def small(models: dict[str, Path]) -> bytes:
    """Return the bytes of a small scripted file."""
    return models["small"].read_bytes()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], ModelFile]:
    """Return a function that writes bytes to a file and reads it as a model."""

    def read(data: bytes) -> ModelFile:
        path = tmp_path / "model.pt"
        path.write_bytes(data)
        return read_model_file(str(path))

    return read


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[bytes], str]:
    """Return a function that gives the message and hint with which bytes are refused."""

    def refusal(data: bytes) -> str:
        path = tmp_path / "model.pt"
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            read_model_file(str(path))
        assert caught.value.message.startswith(f"{path}: ")
        assert caught.value.hint
        assert not list(tmp_path.glob("PWNED*"))
        return f"{caught.value.message} | {caught.value.hint}"

    return refusal


@dataclass(frozen=True)
class Raw:
    """An entry to write; `local` replaces fields in its local header only."""

    name: bytes
    data: bytes
    method: int = 0
    flags: int = 0
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    attributes: int = 0
    local_name: bytes | None = None
    payload: bytes | None = None
    prefix: bytes = b""
    start: int | None = None


def entries_of(data: bytes) -> list[Raw]:
    """Take a file apart."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [Raw(info.filename.encode(), archive.read(info)) for info in archive.infolist()]


def build(entries: Iterable[Raw], end: Callable[[int, int, int], bytes] | None = None) -> bytes:
    """Write entries as a zip archive, each field as asked."""
    body, central, count = b"", b"", 0
    for entry in entries:
        payload = entry.data if entry.payload is None else entry.payload
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        size = len(entry.data) if entry.size is None else entry.size
        packed = len(payload) if entry.packed is None else entry.packed
        local_name = entry.local_name or entry.name
        body += entry.prefix
        start = len(body) if entry.start is None else entry.start
        fields = struct.pack("<4H3L", entry.flags, entry.method, 0, 0, crc, packed, size)
        body += b"PK\x03\x04" + struct.pack("<H", 20) + fields + struct.pack("<2H", len(local_name), 0)
        body += local_name + payload
        central += b"PK\x01\x02" + struct.pack("<2H", 20, 20) + fields + struct.pack("<H", len(entry.name))
        central += struct.pack("<4H2L", 0, 0, 0, 0, entry.attributes, start) + entry.name
        count += 1
    finish = end or end_record
    return body + central + finish(count, len(central), len(body))


def end_record(count: int, size: int, start: int, comment: bytes = b"") -> bytes:
    """Return the end of an archive."""
    return b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, count, count, size, start, len(comment)) + comment


def end_64(count: int, size: int, start: int, absurd: int) -> bytes:
    """Return a zip64 end that declares `absurd` entries."""
    record = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, absurd, absurd, size, start)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, start + size, 1)
    return record + locator + end_record(65535, 2**32 - 1, 2**32 - 1 if count else 0)


def change(whole: bytes, member: str, /, **fields: Any) -> bytes:
    """Rebuild a file with one entry changed; `member` is inside the top folder."""
    entries = entries_of(whole)
    (index,) = [i for i, entry in enumerate(entries) if entry.name.decode().partition("/")[2] == member]
    entries[index] = replace(entries[index], **fields)
    return build(entries)


def entry(data: bytes, name: str) -> bytes:
    """Return the content of one entry."""
    return next(raw.data for raw in entries_of(data) if raw.name.endswith(b"/" + name.encode()))


def same(left: object, right: object) -> bool:
    """Tell whether two attributes are equal, tensors bit for bit."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        layout = left.dtype == right.dtype and left.stride() == right.stride() and left.shape == right.shape
        return layout and left.contiguous().reshape(-1).view(torch.uint8).equal(
            right.contiguous().reshape(-1).view(torch.uint8)
        )
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right


def load(source: Path | bytes) -> torch.jit.ScriptModule:
    """Load with torch."""
    where = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    return torch.jit.load(where)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize("name", ["scripted", "traced", "frozen", "small"])
def test_whole_files_load_bit_identically(models: dict[str, Path], name: str) -> None:
    """What torch loads from the checked bytes is what it loads from the file."""
    file = read_model_file(str(models[name]))
    direct, checked = load(models[name]), load(file.content)
    assert file.kind == "torchscript"
    assert len(file.sha256) == 64
    left, right = dict(direct.named_buffers()), dict(checked.named_buffers())
    left.update(direct.named_parameters())
    right.update(checked.named_parameters())
    assert left.keys() == right.keys()
    assert all(same(left[key], right[key]) for key in left)
    x = torch.randn(1, 4) if name == "small" else torch.randn(1, 1, 3, 3)
    assert same(direct(x), checked(x))


def test_every_attribute_survives(models: dict[str, Path]) -> None:
    """Lists, tables, numbers, devices and shared views come back as they were."""
    direct = load(models["scripted"]).again
    checked = load(read_model_file(str(models["scripted"])).content).again
    names = "names sizes floats flags tensors table counts pair big negative complex colour target"
    for name in names.split():
        assert same(getattr(direct, name), getattr(checked, name)), name
    assert checked.base_view.untyped_storage().data_ptr() == checked.overlapping.untyped_storage().data_ptr()


def test_content_is_canonical(models: dict[str, Path], read: Callable[[bytes], ModelFile]) -> None:
    """Stored, in order, dated alike; extra files kept; reading the content again changes nothing."""
    content = read_model_file(str(models["scripted"])).content
    with zipfile.ZipFile(io.BytesIO(content)) as new, zipfile.ZipFile(models["scripted"]) as old:
        assert new.namelist() == old.namelist()
        assert all(info.compress_type == zipfile.ZIP_STORED for info in new.infolist())
        assert new.read("scripted/extra/note.txt") == b"hi"
    assert read(content).content == content


def test_example_inputs_of_traced_files_are_left_out(models: dict[str, Path]) -> None:
    """Their storages are saved empty: torch would read past them if asked."""
    content = read_model_file(str(models["traced"])).content
    with zipfile.ZipFile(io.BytesIO(content)) as new, zipfile.ZipFile(models["traced"]) as old:
        dropped = set(old.namelist()) - set(new.namelist())
    assert dropped == {"traced/traced_inputs/0", "traced/traced_inputs.pkl"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_repacked_files_give_the_same_content(
    small: bytes, read: Callable[[bytes], ModelFile], method: int
) -> None:
    """A file unpacked and zipped again by another program, folders included, is the same model."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed:
        packed.mkdir("small")
        for raw in entries_of(small):
            packed.writestr(raw.name.decode(), raw.data)
    assert read(buffer.getvalue()).content == read(small).content


def test_a_comment_is_dropped(small: bytes, read: Callable[[bytes], ModelFile]) -> None:
    """A comment of 64 KiB changes nothing."""
    commented = build(entries_of(small), lambda n, s, a: end_record(n, s, a, b"x" * 65535))
    assert read(commented).content == read(small).content


BARE_PACKAGE = """
import sys, types, eqaudit
package = sys.modules["eqaudit.loader"] = types.ModuleType("eqaudit.loader")
package.__path__ = [eqaudit.__path__[0] + "/loader"]
import {module}
print("torch" in sys.modules)
"""


@pytest.mark.parametrize(("module", "expected"), [("eqaudit.loader.archive", "False"), ("torch", "True")])
def test_reader_itself_imports_no_torch(module: str, expected: str) -> None:
    """The reader's modules, without those of the package around them, stay light; and the check can fail."""
    command = [sys.executable, "-c", BARE_PACKAGE.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def protobuf() -> bytes:
    """Return the first bytes of an ONNX model."""
    return b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + os.urandom(64)


def legacy(content: object) -> bytes:
    """Save without a zip archive."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def saved(content: object) -> bytes:
    """Save a checkpoint."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped_files(*names: str) -> bytes:
    """Return a zip archive of small files."""
    return build(Raw(name.encode(), b"{}") for name in names)


def tar() -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("x"))
    return buffer.getvalue()


def package() -> bytes:
    """Return a torch.package archive."""
    buffer = io.BytesIO()
    with PackageExporter(buffer) as exporter:
        exporter.save_pickle("m", "m.pkl", [1, 2])
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
OTHER_KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (bytes, "is empty"),
    "random": (lambda: b"\xee" + random.Random(0).randbytes(9_999), "is not a model"),  # noqa: S311
    "text": (lambda: b"just some words\n" * 9, "text file"),
    "html": (lambda: b"\n<!DOCTYPE html><title>404</title>", "HTML page"),
    "json": (lambda: b'{"a": [1, 2]}', "JSON"),
    "lfs": (lambda: LFS, "run git lfs pull"),
    "python": (lambda: b"import torch\n\ndef model():\n    return torch.nn.Identity()\n", "file.py:factory"),
    "safetensors": (lambda: struct.pack("<Q", 2) + b"{}", "safetensors"),
    "onnx": (protobuf, "ONNX"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "tar": (tar, "tar archive"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(20), "gzip"),
    "state dict": (lambda: saved(nn.Linear(2, 2).state_dict()), "weights only"),
    "legacy state dict": (lambda: legacy(nn.Linear(2, 2).state_dict()), "weights only"),
    "module": (lambda: saved(nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
    "legacy module": (lambda: legacy(nn.Linear(2, 2)), "nothing is unpickled"),
    "plain pickle": (lambda: pickle.dumps([1, 2]), "nothing is unpickled"),
    "old exported": (lambda: zipped_files("serialized_exported_program.json", "version"), "2.7 or older"),
    "compiled": (lambda: zipped_files("m/data/aotinductor/model/a.so", "m/archive_format"), "native code"),
    "package": (package, "torch.package"),
    "other zip": (lambda: zipped_files("top/a.txt"), "zip archive that is no model"),
    "flat zip": (lambda: zipped_files("a.npy", "b.npy"), "zip archive that is no model"),
    "empty zip": (lambda: build([]), "zip archive that is no model"),
    "old torchscript": (lambda: zipped_files("m/model.json", "m/code/a.py", "m/version"), "1.1 or older"),
    "folded old": (lambda: zipped_files("m/MODEL.json", "m/data.pkl", "m/constants.pkl"), "1.1 or older"),
    "half torchscript": (lambda: zipped_files("m/data.pkl", "m/code/a.py"), "constants.pkl is missing"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_are_named(kind: str, refusal: Callable[[bytes], str]) -> None:
    """Whatever is no model file is called what it is, with a next step."""
    make, expected = OTHER_KINDS[kind]
    assert expected in refusal(make())


class Payload:
    """A pickle that would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """Ask the unpickler for a system call."""
        return os.system, (f"touch {self.path}",)


def payloads(path: Path) -> dict[str, bytes]:
    """Return pickles that would touch `path`, each by another road."""
    command = f"touch {path}".encode()
    text = b"X" + struct.pack("<I", len(command)) + command
    short = [b"\x8c" + bytes([len(word)]) + word for word in (b"posix", b"system")]
    return {
        **{f"protocol {n}": pickle.dumps(Payload(path), n) for n in range(6)},
        "inst": b"\x80\x02(" + text + b"iposix\nsystem\n.",
        "stack global": b"\x80\x04" + short[0] + b"\x94" + short[1] + b"\x94\x93" + text + b"\x85R.",
        "resolve_name": b"\x80\x02cpkgutil\nresolve_name\nX\x0b\x00\x00\x00posix:system\x85R"
        + text
        + b"\x85R.",
        "build": b"\x80\x02cposix\nsystem\n" + text + b"b.",
        "extension": b"\x80\x02\x82\x01" + text + b"\x85R.",
        "escaped": b"\x80\x02cpos\\x69x\nsystem\n" + text + b"\x85R.",
    }


@pytest.mark.parametrize("road", payloads(Path("x")))
def test_pickles_never_run(road: str, small: bytes, refusal: Callable[[bytes], str], tmp_path: Path) -> None:
    """Bare, in a checkpoint, and as each pickle of a TorchScript file; and the payload would run."""
    payload = payloads(tmp_path / "PWNED")[road]
    assert "pickle" in refusal(payload)
    assert "pickle" in refusal(build([Raw(b"archive/data.pkl", payload), Raw(b"archive/version", b"3\n")]))
    for name in ("data.pkl", "constants.pkl"):
        assert name in refusal(change(small, name, data=payload))
    if road.startswith("protocol"):
        pickle.loads(payload)
        assert (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("cut", range(0, 2000, 13))
def test_truncated_files_are_refused(small: bytes, refusal: Callable[[bytes], str], cut: int) -> None:
    """A file cut anywhere is refused."""
    said = refusal(small[: len(small) * cut // 2000])
    assert "truncated or damaged" in said or "empty" in said or "not a model" in said


STORAGES = ("data/0", "data/1")


@pytest.mark.parametrize("name", ["data/0", "data.pkl", "constants.pkl", ".py", ".py.debug_pkl"])
def test_wrong_crc_is_a_damaged_entry(small: bytes, refusal: Callable[[bytes], str], name: str) -> None:
    """One flipped bit in weights, pickle or code is refused by the entry's name."""
    entries = entries_of(small)
    index = next(i for i, raw in enumerate(entries) if raw.name.decode().endswith(name))
    content = entries[index].data
    flipped = bytes([content[0] ^ 1]) + content[1:]
    entries[index] = replace(entries[index], data=flipped, crc=zlib.crc32(content))
    said = refusal(build(entries))
    assert "damaged entry" in said
    assert f"{name}: wrong CRC" in said


@pytest.mark.parametrize("size", [0, 1, 4, 31, 33, 64])
def test_storage_of_another_length_is_refused(
    small: bytes, refusal: Callable[[bytes], str], size: int
) -> None:
    """A storage shorter or longer than declared is refused with both lengths."""
    (name,) = [n for n in STORAGES if len(entry(small, n)) == 32]
    said = refusal(change(small, name, data=bytes(size)))
    assert f"storage {name} has {size} bytes, 32 declared" in said


def test_missing_storage_is_refused(small: bytes, refusal: Callable[[bytes], str]) -> None:
    """A storage that is not there is named."""
    assert "storage data/0 is missing" in refusal(change(small, "data/0", name=b"small/data/9"))


def tensor(
    *,
    offset: bytes = b"K\x00",
    size: bytes = b"K\x02K\x04\x86",
    stride: bytes = b"K\x04K\x01\x86",
    dtype: bytes = b"ctorch\nFloatStorage\n",
    count: bytes = b"K\x08",
    device: bytes = b"cpu",
    rest: bytes = b"\x89N",
) -> bytes:
    """Return the pickle of a tensor over storage data/0, which has 32 bytes."""
    words = b"X\x07\x00\x00\x00storage" + dtype + b"X\x01\x00\x00\x000"
    words += b"X" + struct.pack("<I", len(device)) + device
    return REBUILD + b"((" + words + count + b"tQ" + offset + size + stride + rest + b"tR"


def long(value: int) -> bytes:
    """Return the pickle of a 64-bit integer."""
    return b"\x8a\x08" + struct.pack("<q", value)


HOSTILE_PICKLES = {
    "negative offset": (tensor(offset=long(-1)), "no count"),
    "offset beyond": (tensor(offset=b"K\x01"), "needs 9 elements of storage data/0, which has 8"),
    "negative stride": (tensor(stride=b"J\xff\xff\xff\xffK\x01\x86"), "no count"),
    "stride beyond": (tensor(stride=b"K\x09K\x01\x86"), "needs 13 elements"),
    "huge stride": (tensor(stride=long(2**63 - 1) + b"K\x01\x86"), "elements of storage"),
    "negative size": (tensor(size=long(-2) + b"K\x04\x86"), "no count"),
    "boolean size": (tensor(size=b"\x88K\x04\x86"), "no count"),
    "huge size": (tensor(size=long(2**62) * 2 + b"\x86", stride=b"K\x00K\x00\x86"), "impossible shape"),
    "ranks differ": (tensor(stride=b"K\x01\x85"), "impossible shape"),
    "empty tensor far away": (tensor(offset=b"K\x09", size=b"K\x00K\x04\x86"), "needs 9 elements"),
    "size is a list": (tensor(size=b"](K\x02K\x04e"), "where a tuple belongs"),
    "negative count": (tensor(count=long(-8)), "no count"),
    "wider dtype": (tensor(dtype=b"ctorch\nDoubleStorage\n"), "has 32 bytes, 64 declared"),
    "unknown dtype": (tensor(dtype=b"ctorch\nOddStorage\n"), "torch.OddStorage"),
    "quantized dtype": (
        tensor(dtype=b"ctorch\nQInt8Storage\n", count=b"K\x20"),
        "a tensor is not of the type of data/0, torch.QInt8Storage",
    ),
    "dtype is a number": (tensor(dtype=b"K\x06"), "where a name belongs"),
    "meta": (tensor(device=b"meta"), "meta device"),
    "odd device": (tensor(device=b"\x1b[2J"), "no known device"),
    "called by BUILD": (tensor(offset=b"K\x01")[:-1] + b"b", "needs 9 elements"),
    "another word": (tensor().replace(b"storage", b"garbage"), "no known type"),
    "called by number": (b"K\x00)R", "where a name belongs"),
    "subclass": (b"ctorch._tensor\n_rebuild_from_type_v2\n)R", "_rebuild_from_type_v2"),
    "custom class": (b"c__torch__.torch.classes.my\nThing\n)R", "custom C++ object"),
    "nested tensor": (b"ctorch._utils\n_rebuild_nested_tensor\n)R", "nested tensors are not supported"),
    "deep": (b"N" + b"\x85" * 100_000, "nests deeper"),
    "cycle": (b"]q\x00(h\x00e", "damaged"),
    "cycle through a tuple": (b"]q\x00(h\x00\x85e", "fills something"),
    "list of the wrong type": (b"ctorch.jit._pickle\nbuild_tensorlist\n](K\x01e\x85R", "does not"),
    "filled number": (b"K\x01(K\x02e", "fills something"),
    "filled dict with a list's opcode": (b"}(K\x02e", "fills something"),
    "half item": (b"}(K\x02u", "key without a value"),
    "below the mark": (b"K\x01(\x85", "not there"),
    "empty stack": (b"\x87", "not there"),
    "open mark": (b"(N", "does not end"),
    "two values": (b"NN", "does not end"),
    "memo index": (b"Nr\xff\xff\xff\xff", "memo index"),
    "memo unset": (b"h\x05", "damaged pickle"),
    "giant string": (b"X\xff\xff\xff\x3fabc", "cut short"),
    "endless name": (b"c" + b"a" * 5000, "damaged pickle"),
    "short integer": (b"\x8a\x01\x01", "64 bits"),
    "no protocol": (b"N\x80\x02", "protocol"),
}


@pytest.mark.parametrize("case", HOSTILE_PICKLES)
def test_hostile_pickles_are_refused(case: str, small: bytes, refusal: Callable[[bytes], str]) -> None:
    """Shapes, strides, types and opcodes that torch would take at their word."""
    body, expected = HOSTILE_PICKLES[case]
    (name,) = [n for n in STORAGES if len(entry(small, n)) == 32]
    data = b"\x80\x02" + body.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x00" + name[-1:].encode()) + b"."
    said = refusal(change(small, "data.pkl", data=data)).replace(name, "data/0")
    assert expected in said if case != "cycle" else "fills something" in said
    assert "data.pkl" in said


def test_a_cut_pickle_is_refused(small: bytes, refusal: Callable[[bytes], str]) -> None:
    """Every proper prefix of the real pickle, and the pickle with a byte more, is refused."""
    whole = entry(small, "data.pkl")
    for cut in range(0, len(whole), 7):
        assert "data.pkl" in refusal(change(small, "data.pkl", data=whole[:cut]))
    assert "does not end" in refusal(change(small, "data.pkl", data=whole + b"."))


def test_healthy_tensor_pickle_passes() -> None:
    """The pickle that the hostile ones vary is itself accepted."""
    storages.check_pickle("data.pkl", b"\x80\x02" + tensor() + b".", {"data/0": 32})
    with pytest.raises(ModelError, match=r"constants\.pkl: storage constants/0 is missing"):
        storages.check_pickle("constants.pkl", b"\x80\x02" + tensor() + b".", {"data/0": 32})


UNSUPPORTED: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse weights are not supported"),
    "csr": (lambda: torch.eye(3).to_sparse_csr(), "sparse weights are not supported"),
    "meta": (lambda: torch.ones(3, device="meta"), "meta device"),
    "conjugated": (lambda: torch.ones(2, dtype=torch.complex64).conj(), "conjugated"),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
@pytest.mark.filterwarnings("ignore")
def test_unsupported_weights_are_named(kind: str, tmp_path: Path, refusal: Callable[[bytes], str]) -> None:
    """Real files of tensors that are not read yet."""
    make, expected = UNSUPPORTED[kind]
    assert expected in refusal(script(Holder(make()), tmp_path / "holder.pt").read_bytes())


def overlapping(entries: list[Raw]) -> bytes:
    """Make the second entry's data hold the third entry whole."""
    inner = build([entries[1]]).partition(b"PK\x01\x02")[0]
    outer = Raw(b"small/cover", inner)
    whole = [entries[0], outer, *entries[2:]]
    at = build(whole).index(inner)
    return build([*whole, replace(entries[1], start=at)])


ZIP_TRICKS: dict[str, tuple[Callable[[list[Raw]], bytes], str]] = {
    "same name twice": (lambda e: build([*e, e[0]]), "same name twice"),
    "same but for case": (lambda e: build([*e, Raw(b"small/DATA.PKL", b"")]), "same name twice"),
    "composed twin": (
        lambda e: build([*e, Raw("small/\xe9".encode(), b""), Raw("small/e\u0301".encode(), b"")]),
        "same name twice",
    ),
    "two top folders": (lambda e: build([*e, Raw(b"other/x", b"")]), "one top folder"),
    "top folder in capitals": (lambda e: build([*e, Raw(b"SMALL/x", b"")]), "one top folder"),
    "no top folder": (lambda e: build([*e, Raw(b"x", b"")]), "one top folder"),
    "parent": (lambda e: build([*e, Raw(b"small/../x", b"")]), "unsafe name"),
    "absolute": (lambda e: build([*e, Raw(b"/etc/x", b"")]), "unsafe name"),
    "backslash": (lambda e: build([*e, Raw(b"small\\x", b"")]), "unsafe name"),
    "drive": (lambda e: build([*e, Raw(b"C:/x", b"")]), "unsafe name"),
    "nul": (lambda e: build([*e, Raw(b"small/a\0b", b"")]), "unsafe name"),
    "escape": (lambda e: build([*e, Raw(b"small/\x1b[2J", b"")]), "unsafe name"),
    "not UTF-8": (lambda e: build([*e, Raw(b"small/\xff", b"")]), "unsafe name"),
    "folder with content": (lambda e: build([*e, Raw(b"small/x/", b"1")]), "unsafe name"),
    "long name": (lambda e: build([*e, Raw(b"small/" + b"a" * 60_000, b"")]), "name of 60006 bytes"),
    "link": (lambda e: build([*e, Raw(b"small/x", b"y", attributes=0o120777 << 16)]), "link"),
    "encrypted": (lambda e: build([*e, Raw(b"small/x", b"", flags=1)]), "encrypted"),
    "method 99": (lambda e: build([*e, Raw(b"small/x", b"", method=99)]), "compression method 99"),
    "deflate64": (lambda e: build([*e, Raw(b"small/x", b"", method=9)]), "compression method 9"),
    "two names": (
        lambda e: build([*e, Raw(b"small/x", b"", local_name=b"small/y")]),
        "two different headers",
    ),
    "longer local name": (
        lambda e: build([*e, Raw(b"small/x", b"", local_name=b"small/xy")]),
        "different headers",
    ),
    "overlap": (overlapping, "overlaps"),
    "twice the same data": (lambda e: build([*e, replace(e[0], name=b"small/x", start=0)]), "overlaps"),
    "gap": (lambda e: build([e[0], replace(e[1], prefix=b"junk"), *e[2:]]), "truncated or damaged"),
    "junk before": (lambda e: b"junk" + build(e), "not a model"),
    "junk after": (lambda e: build(e) + b"junk", "truncated or damaged"),
    "two archives": (lambda e: build(e) + build(e), "truncated or damaged"),
    "no directory": (lambda e: build(e).partition(b"PK\x01\x02")[0], "no central directory"),
    "no end": (lambda e: build(e, lambda *_: b""), "no central directory"),
    "two ends": (lambda e: build(e, lambda n, s, a: end_record(n, s, a) * 2), "truncated or damaged"),
    "offset beyond end": (
        lambda e: build(e, lambda n, s, a: end_record(n, s, a + 10_000)),
        "truncated or damaged",
    ),
    "fewer entries": (lambda e: build(e, lambda n, s, a: end_record(n - 1, s, a)), "truncated or damaged"),
    "more entries": (lambda e: build(e, lambda n, s, a: end_record(n + 1, s, a)), "truncated or damaged"),
    "absurd zip64 count": (lambda e: build(e, lambda n, s, a: end_64(n, s, a, 2**63)), "too large"),
    "start beyond end": (lambda e: build([*e, Raw(b"small/x", b"", start=2**31)]), "truncated or damaged"),
    "start without its 64 bits": (lambda e: build([*e, Raw(b"small/x", b"", start=2**32 - 1)]), "64-bit"),
    "broken deflate": (lambda e: build([*e, Raw(b"small/x", b"hi", method=8)]), "damaged entry small/x"),
    "deflate with a tail": (
        lambda e: build([*e, Raw(b"small/x", b"hi", method=8, payload=deflate(b"hi") + b"tail")]),
        "another size",
    ),
    "deflate cut short": (
        lambda e: build([*e, Raw(b"small/x", b"hi" * 99, method=8, payload=deflate(b"hi" * 99)[:-3])]),
        "another size",
    ),
}


def deflate(data: bytes) -> bytes:
    """Compress as zip does."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("trick", ZIP_TRICKS)
def test_zip_tricks_are_refused(trick: str, small: bytes, refusal: Callable[[bytes], str]) -> None:
    """What two readers of the archive could read differently is refused."""
    make, expected = ZIP_TRICKS[trick]
    assert expected in refusal(make(entries_of(small)))


@pytest.mark.parametrize("size", [-1, 1, "zero", 2**32 - 1])
@pytest.mark.parametrize("field", ["size", "packed"])
def test_wrong_sizes_are_refused(
    small: bytes, refusal: Callable[[bytes], str], field: str, size: int | str
) -> None:
    """Sizes off by one, zero, or full in the directory."""
    true = len(entry(small, "version"))
    wrong = 0 if size == "zero" else true + size if isinstance(size, int) and abs(size) == 1 else size
    said = refusal(change(small, "version", **{field: wrong}))
    assert "damaged" in said or "too large" in said


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("byteorder", b"big", "byteorder is not little"),
        ("version", b"x", "version is no number"),
        ("version", b"", "version is no number"),
        ("version", b"1" * 99, "version is no number"),
    ],
)
def test_records_are_checked(
    small: bytes, refusal: Callable[[bytes], str], name: str, content: bytes, expected: str
) -> None:
    """Byte order and version say what torch expects."""
    assert expected in refusal(change(small, name, data=content))


def test_missing_id_is_harmless(small: bytes, read: Callable[[bytes], ModelFile]) -> None:
    """Older files have no serialization id."""
    kept = [raw for raw in entries_of(small) if not raw.name.endswith(b"serialization_id")]
    assert load(read(build(kept)).content)(torch.ones(1, 4)).shape == (1, 2)


def test_bombs_are_refused_fast(small: bytes, refusal: Callable[[bytes], str]) -> None:
    """Two gigabytes of zeros in two megabytes, and 100,000 entries: refused before anything is unpacked."""
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = block * 2048 + b"\x03\x00"
    assert zlib.decompressobj(-15).decompress(zeros, 2**22) == bytes(2**22)
    bomb = build([*entries_of(small), Raw(b"small/x", b"", method=8, payload=zeros, size=2**31, crc=0)])
    many = small[:4] + bytes(4_600_000) + end_record(65535, 0, 0)
    crowd = small[:4] + bytes(4_600_000) + end_64(1, 4_600_000, 4, 100_000)
    start = time.perf_counter()
    assert "too large" in refusal(bomb)
    assert "too large: 65535 entries" in refusal(many)
    assert "too large: 100000 entries" in refusal(crowd)
    assert time.perf_counter() - start < 1


def test_weights_of_zeros_may_be_packed(read: Callable[[bytes], ModelFile], tmp_path: Path) -> None:
    """A layer that starts at zero, zipped again by another program: a thousandth of its size, and no bomb."""
    whole = script(Holder(torch.zeros(25_000_000)), tmp_path / "zeros.pt").read_bytes()
    packed = build(replace(raw, method=8, payload=deflate(raw.data)) for raw in entries_of(whole))
    assert len(packed) * 16 + 2**26 < len(whole)
    assert read(packed).content == read(whole).content


def test_limits_apply(small: bytes, refusal: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit of the table is looked at."""
    deflated = build(replace(raw, method=8, payload=deflate(raw.data)) for raw in entries_of(small))
    for bounds, module, data in (
        (Bounds(model_bytes=100), archive, small),
        (Bounds(entries=3), zipped, small),
        (Bounds(unpacked_bytes=100), zipped, small),
        (Bounds(unpack_ratio=0, ratio_from_bytes=0), zipped, deflated),
        (Bounds(pickle_bytes=10), storages, small),
        (Bounds(pickle_steps=10), machine, small),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, "BOUNDS", bounds)
            assert "too large" in refusal(data)


def test_special_files_are_refused_without_hanging(tmp_path: Path) -> None:
    """Folders, FIFOs, sockets, devices, loops and what is missing are named."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, expected in (
            (tmp_path, "directory"),
            (tmp_path / "fifo", "FIFO"),
            (tmp_path / "socket", "socket"),
            (Path("/dev/zero"), "device"),
            (Path("/dev/null"), "device"),
            (tmp_path / "loop", "cannot be read"),
            (tmp_path / "none", "no such file"),
            (tmp_path / "none" / "deeper", "no such file"),
            (tmp_path / "a\0b", "cannot be read"),
            (tmp_path / ("a" * 300), "cannot be read"),
        ):
            with pytest.raises(ModelError) as caught:
                read_model_file(str(path))
            assert expected in caught.value.message
            assert caught.value.hint


def test_a_fifo_put_in_place_after_the_look_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opened file is looked at again."""
    os.mkfifo(tmp_path / "fifo")
    regular = (tmp_path / "file").resolve()
    regular.touch()
    monkeypatch.setattr(Path, "stat", lambda _path: os.stat(regular))  # noqa: PTH116 - Path.stat is replaced
    with pytest.raises(ModelError, match="is a FIFO"):
        read_model_file(str(tmp_path / "fifo"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file without read permission is said to be so."""
    path = tmp_path / "secret.pt"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(ModelError, match="Permission denied"):
        read_model_file(str(path))


def test_sparse_giant_is_refused_unread(tmp_path: Path) -> None:
    """A file of 10 GB of nothing costs nothing."""
    path = tmp_path / "giant.pt"
    with path.open("wb") as file:
        file.truncate(10 * 10**9)
    with pytest.raises(ModelError, match="too large"):
        read_model_file(str(path))


def test_a_file_that_changes_is_refused(tmp_path: Path, small: bytes) -> None:
    """A file longer or shorter than it was at opening is refused."""
    path = tmp_path / "model.pt"
    path.write_bytes(small)
    for size in (len(small) - 1, len(small) + 1):
        with path.open("rb", buffering=0) as file, pytest.raises(ModelError, match="changed while"):
            archive._read_open(file, size)


def mutate(data: bytes, seed: int) -> bytes:
    """Flip one to three bytes, or cut, or repeat a piece."""
    generator = random.Random(seed)  # noqa: S311 - seeded on purpose
    changed = bytearray(data)
    if seed % 5 == 0:
        del changed[generator.randrange(len(changed)) :]
    elif seed % 5 == 1:
        at = generator.randrange(len(changed))
        changed[at:at] = changed[at : at + generator.randrange(1, 40)]
    else:
        for _ in range(generator.randrange(1, 4)):
            changed[generator.randrange(len(changed))] ^= generator.randrange(1, 256)
    return bytes(changed)


def test_mutated_files_are_refused_or_unharmed(small: bytes, read: Callable[[bytes], ModelFile]) -> None:
    """No mutation of a file raises anything else, or gives torch other bytes than the clean file does."""
    clean = read(small).content
    unharmed = 0
    for seed in range(400):
        try:
            content = read(mutate(small, seed)).content
        except ModelError:
            continue
        assert content == clean, seed
        unharmed += 1
    assert 0 < unharmed < 200


def test_mutated_pickles_are_refused_or_load(small: bytes, read: Callable[[bytes], ModelFile]) -> None:
    """With checksums made good again, no mutation raises anything but a refusal."""
    whole = entry(small, "data.pkl")
    refused = 0
    for seed in range(400):
        try:
            read(change(small, "data.pkl", data=mutate(whole, seed)))
        except ModelError:
            refused += 1
    assert refused > 200
