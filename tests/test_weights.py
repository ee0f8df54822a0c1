"""`--weights`: a file of weights finds its place in Python code, or is refused before torch sees it."""

import argparse
import io
import itertools
import json
import os
import pickle
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eqaudit.bounds import Bounds
from eqaudit.cli.flags import input_files
from eqaudit.errors import EqauditError, ExitCode, ModelError, UsageError
from eqaudit.loader import AuditModel, load_model, safetensors
from eqaudit.parsing import parse_model, parse_weights
from eqaudit.plan import FileModel, PythonObject

CPU = torch.device("cpu")
SOURCE = """
import torch
from torch import nn


def make(seed=1, width=4):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2, 1)]
    return nn.Sequential(*layers)


def normed():
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 2, 3)))


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def tied():
    net = make()
    net.again = net[3]
    return net
"""
Load = Callable[..., AuditModel]
Save = Callable[[Any], bytes]


def trained() -> nn.Sequential:
    """Make the network of the source with weights of its own."""
    torch.manual_seed(7)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    net(torch.randn(5, 3, 8, 8))
    return net.eval()


def zipped(content: object) -> bytes:
    """Save as torch does."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    """Save as torch did before 1.6."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


NAMES = {torch.float32: "F32", torch.int64: "I64", torch.float16: "F16", torch.bfloat16: "BF16"}


def tensors_file(state: dict[str, torch.Tensor], **header: object) -> bytes:
    """Write a safetensors file by its specification."""
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in state.items():
        data = bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist())
        fields[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(fields | header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


FORMATS: dict[str, Save] = {"zip": zipped, "legacy": legacy, "safetensors": tensors_file}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the source."""
    (tmp_path / "models.py").write_text(SOURCE)
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """Return a function that writes bytes to a file and loads them onto the code."""

    def run(data: bytes, *, factory: str = "make", strict: bool = True) -> AuditModel:
        path = folder / "best.weights"
        path.write_bytes(data)
        model = parse_model(f"{folder / 'models.py'}:{factory}", [])
        return load_model(parse_weights(model, str(path), strict=strict), CPU)

    return run


@pytest.fixture
def refusal(load: Load) -> Callable[..., str]:
    """Return a function that expects a refusal and returns its text and hint."""

    def run(data: bytes, **options: Any) -> str:
        with pytest.raises(ModelError) as raised:
            load(data, **options)
        assert raised.value.hint
        return f"{raised.value.message}\n{raised.value.hint}"

    return run


def assert_same(model: AuditModel, expected: nn.Module) -> None:
    """Check that a model has the numbers and the output of another."""
    found, wanted = model.runner.tensors(), expected.state_dict()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name
    batch = torch.rand(2, 3, 9, 9)
    (output,) = model.run(batch)
    assert output.value is not None
    assert torch.equal(output.value, expected(batch))


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_arrive_bit_for_bit(kind: str, load: Load) -> None:
    """Every format gives the code the saved numbers; the file is identified and its tensors counted."""
    data = FORMATS[kind](trained().state_dict())
    model = load(data)
    assert_same(model, trained())
    assert (model.sha256, model.weights_sha256) == (None, sha256(data).hexdigest())
    assert model.notes == ("weights: 9 tensors of best.weights",)


def prefixed(*prefixes: str) -> dict[str, torch.Tensor]:
    """Return the weights with something before every name."""
    return {"".join(prefixes) + name: tensor for name, tensor in trained().state_dict().items()}


NESTED = {
    "state_dict": ({"state_dict": trained().state_dict(), "epoch": 3}, "key 'state_dict'"),
    "parallel": (nn.DataParallel(trained()).state_dict(), "prefix 'module.' removed"),
    "compiled inside a trainer": ({"state_dict": prefixed("model.", "_orig_mod.")}, "'model._orig_mod.'"),
    "model in a checkpoint": (
        {"model": prefixed("net."), "args": None},
        "key 'model', prefix 'net.' removed",
    ),
    "two levels": ({"ema": {"state_dict": prefixed()}}, "key 'ema.state_dict'"),
    "one unknown key": ({"resnet": prefixed(), "lr": 0.1}, "key 'resnet'"),
    "averaged beside it": ({"ema": prefixed("x."), "model": prefixed()}, "ignored beside them: ema"),
    "a lone tensor beside": ({"best": torch.ones(1), "model_state_dict": prefixed()}, "'model_state_dict'"),
}


@pytest.mark.parametrize("save", [zipped, legacy])
@pytest.mark.parametrize("case", NESTED)
def test_keys_and_prefixes_are_found_and_said(case: str, save: Save, load: Load) -> None:
    """Wherever training scripts put the weights, they are found, and the notes say where."""
    content, said = NESTED[case]
    model = load(save(content))
    assert_same(model, trained())
    assert said in model.notes[0]


def test_a_real_training_checkpoint_is_read(load: Load) -> None:
    """Optimizer, arguments, numbers, sets and bytes beside the weights are ignored, and said."""
    net = trained().train()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 2**80,
        "optimizer": optimizer.state_dict(),
        "model": net.state_dict(),
        "args": argparse.Namespace(lr=0.1, path=Path("x")),
        "extra": (
            {1, 2},
            b"bytes",
            [1.5, None, True],
            -3,
            torch.Size([1]),
            torch.float16,
            torch.device("cpu"),
        ),
    }
    model = load(zipped(content))
    assert_same(model, net.eval())
    assert "ignored beside them: epoch, optimizer, args and 1 more" in model.notes[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_said(dtype: torch.dtype, load: Load) -> None:
    """Weights in half or double precision become those of the code."""
    model = load(zipped(trained().to(dtype).state_dict()))
    assert_same(model, trained().to(dtype).float())
    assert f"stored as {str(dtype).removeprefix('torch.')}" in model.notes[0]


def test_views_share_a_storage(load: Load) -> None:
    """Transposed, sliced and expanded tensors, and parameters, arrive as what they are."""
    base = torch.randn(3, 3, 3, 4)
    state = trained().state_dict()
    state["0.weight"] = base.permute(3, 0, 1, 2)
    state["3.bias"] = torch.arange(6.0)[2:6:2]
    state["1.bias"] = torch.ones(1).expand(4)
    state["1.weight"] = nn.Parameter(torch.rand(4))
    expected = trained()
    expected.load_state_dict(state)
    for save in (zipped, legacy):
        assert_same(load(save(state)), expected.eval())


def test_float8_and_empty_tensors_are_read(load: Load) -> None:
    """Types without a storage of their own, and tensors without elements, are no obstacle."""
    state = trained().state_dict()
    state["3.bias"] = torch.tensor([1.0, 0.5]).to(torch.float8_e4m3fn)
    model = load(zipped({"state_dict": state, "none": torch.empty(0, 3)}))
    assert model.runner.tensors()["3.bias"].tolist() == [1.0, 0.5]


def test_versions_of_modules_survive(load: Load) -> None:
    """What modules wrote of their version reaches them: spectral norm would ask for other names without."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 2, 3))).eval()
    model = load(zipped(nn.DataParallel(net).state_dict()), factory="normed")
    assert "'module.' removed" in model.notes[0]
    assert torch.equal(model.runner.tensors()["0.weight_u"], net.state_dict()["0.weight_u"])


@pytest.mark.parametrize("factory", ["lazy", "tied"])
def test_unusual_code_takes_weights(factory: str, load: Load) -> None:
    """Lazy layers get their shapes from the file; a layer under two names is loaded under both."""
    net = trained()
    if factory == "tied":
        net.again = net[3]
        net.append(nn.Identity())
    state = net.state_dict()
    model = load(zipped(state), factory=factory)
    assert all(torch.equal(model.runner.tensors()[name], tensor) for name, tensor in state.items())


def changed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Return the weights with some added, changed or (None) taken away; ``_`` stands for a dot."""
    state: dict[str, Any] = dict(trained().state_dict())
    state |= {name.replace("_", ".").lstrip("."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


MISFITS = {
    "missing": (changed(_3_weight=None, _3_bias=None), "2 missing (3.weight, 3.bias)"),
    "unexpected": (changed(_9_a=torch.ones(1)), "1 unexpected (9.a)"),
    "shape": (
        changed(_3_bias=torch.ones(5)),
        "(3.bias: 5 in the file, 2 in the model)",
    ),
    "integers": (changed(_3_bias=torch.ones(2).byte()), "3.bias: uint8 in the file, float32 in the model"),
    "without prefix": (prefixed("module.") | {"averaged": torch.ones(1)}, "1 unexpected (averaged)"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_misfits_are_listed_and_refused(case: str, load: Load, refusal: Callable[..., str]) -> None:
    """Weights that do not fit are an error with the names; --no-strict-weights makes it a note."""
    state, said = MISFITS[case]
    text = refusal(zipped(state))
    assert said in text
    assert "--no-strict-weights" in text
    model = load(zipped(state), strict=False)
    assert said in model.notes[-1]
    assert torch.equal(model.runner.tensors()["0.weight"], trained().state_dict()["0.weight"])


def test_weights_of_another_network_are_refused_in_any_case(refusal: Callable[..., str]) -> None:
    """When nothing fits, the audit would be one of random weights."""
    state = {f"layer{place}.weight": torch.ones(2) for place in range(5)}
    for strict in (True, False):
        text = refusal(zipped(state), strict=strict)
        assert "none of its 5 tensors" in text
        assert "layer0.weight, layer1.weight, layer2.weight and 2 more" in text


NO_WEIGHTS = {
    "keys": ({"epoch": 3, "lr": 0.1}, "its keys are epoch, lr"),
    "empty": ({}, "it is empty"),
    "tensor": (torch.ones(3), "a lone tensor"),
    "list": ([torch.ones(3)], "it is list"),
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_a_file_without_weights_says_what_it_holds(case: str, refusal: Callable[..., str]) -> None:
    """A checkpoint without a state dict is named by what it holds."""
    content, said = NO_WEIGHTS[case]
    text = refusal(zipped(content))
    assert said in text
    assert "torch.save(model.state_dict(), FILE)" in text


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        """Return a call of `os.mkdir`."""
        return os.mkdir, (str(self.mark),)


def with_pickle(data: bytes, pickled: bytes) -> bytes:
    """Put another pickle into a checkpoint."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


def text(value: str) -> bytes:
    """Pickle a string."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def hostile(mark: Path) -> dict[str, bytes]:
    """Return pickles that leave a mark when they are unpickled by Python."""
    path = text(str(mark))
    call = path + b"\x85R."
    gadgets = ("pkgutil resolve_name", "runpy run_path", "timeit timeit", "builtins getattr", "os mkdir")
    found = {f"protocol {n}": pickle.dumps(Payload(mark), protocol=n) for n in range(6)}
    found |= {name: b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + call for name in gadgets}
    found["INST"] = b"\x80\x02(" + path + b"ios\nmkdir\n."
    found["OBJ"] = b"\x80\x02(cos\nmkdir\n" + path + b"o."
    found["STACK_GLOBAL"] = b"\x80\x04\x8c\x02os\x94\x8c\x05mkdir\x94\x93" + call
    found["STACK_GLOBAL in protocol 2"] = b"\x80\x02" + text("os") + text("mkdir") + b"\x93" + call
    found["EXT1"] = b"\x80\x02\x82\x01" + call
    found["BUILD on a function"] = b"\x80\x02ccollections\nOrderedDict\n}" + text("x") + b"K\x01sb."
    found["bytes operands"] = b"\x80\x02C\x02osC\x05mkdir\x93" + call
    found["inside a table"] = b"\x80\x02}" + text("a") + b"cos\nmkdir\n" + path + b"\x85Rs."
    found["behind a known name"] = b"\x80\x02cbuiltins\nlist.__class__.mro\n)R."
    return found


HOSTILE = sorted(hostile(Path("mark")))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_pickle_runs_code(name: str, refusal: Callable[..., str], tmp_path: Path) -> None:
    """Alone, in a zip, and in either place of an old file, it is refused and leaves no mark."""
    mark = tmp_path / "PWNED"
    bad = hostile(mark)[name]
    old = legacy(trained().state_dict())
    parts = legacy_parts(old)
    for data in (
        bad,
        with_pickle(zipped(trained().state_dict()), bad),
        b"".join([*parts[:3], bad, *parts[4:]]),
        b"".join([*parts[:4], bad, *parts[5:]]),
        b"".join([*parts[:2], bad, *parts[3:]]),
    ):
        assert "best.weights" in refusal(data)
        assert not mark.exists()


def legacy_parts(data: bytes) -> list[bytes]:
    """Cut an old file into its five pickles and the storages."""
    stream = io.BytesIO(data)
    ends = [0]
    for _ in range(5):
        for _opcode in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    return [data[start:end] for start, end in itertools.pairwise([*ends, len(data)])]


def test_the_payload_would_leave_its_mark(tmp_path: Path) -> None:
    """The check above can fail: Python's own reader runs these pickles."""
    for place, name in enumerate(["protocol 2", "INST", "STACK_GLOBAL", "inside a table"]):
        mark = tmp_path / str(place)
        pickle.loads(hostile(mark)[name])
        assert mark.exists()


def test_a_whole_module_is_refused(refusal: Callable[..., str]) -> None:
    """A pickled network is named by its class, with the way to save its weights."""
    for save in (zipped, legacy):
        text = refusal(save(trained()))
        assert "torch.nn.modules.container.Sequential" in text
        assert "torch.save(model.state_dict(), FILE)" in text


def scripted() -> bytes:
    """Return a TorchScript file."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(trained()), buffer)
    return buffer.getvalue()


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (bytes, "is empty"),
    "random": (lambda: random.Random(1).randbytes(999), "is not a model"),  # noqa: S311
    "text": (lambda: b"some words\n", "text file"),
    "html": (lambda: b"<!doctype html><title>404</title>", "HTML page"),
    "json": (lambda: b'{"a": {"b": 1}, "c": 2}', "JSON"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "torchscript": (scripted, "without --weights"),
    "plain pickle": (lambda: pickle.dumps({"a": 1}), "nothing is unpickled"),
    "zip": (lambda: with_pickle(zipped({}), b"")[:-30], "damaged"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named(kind: str, refusal: Callable[..., str]) -> None:
    """What holds no weights is called what it is."""
    make, said = OTHERS[kind]
    assert said in refusal(make())


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_files_are_refused(kind: str, refusal: Callable[..., str]) -> None:
    """At whatever byte a file is cut, it is refused; one byte too many as well."""
    data = FORMATS[kind](trained().state_dict())
    places = random.Random(2).sample(range(len(data)), 60)  # noqa: S311
    for end in (*places, len(data) - 1):
        refusal(data[:end])
    assert "damaged" in refusal(data + b"x")


@pytest.mark.parametrize("kind", FORMATS)
def test_corrupted_files_never_give_what_was_not_saved(kind: str, load: Load) -> None:
    """A flipped bit is refused, or changes only numbers (the old format and safetensors have no checksum)."""
    data = FORMATS[kind](trained().state_dict())
    wanted = trained().state_dict()
    for place in random.Random(3).sample(range(len(data)), 150):  # noqa: S311
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        try:
            found = load(bytes(flipped)).runner.tensors()
        except ModelError:
            continue
        differing = sum(not torch.equal(found[name], tensor) for name, tensor in wanted.items())
        assert differing == 0 if kind == "zip" else differing <= len(wanted)
        assert all(found[name].shape == tensor.shape for name, tensor in wanted.items())


@pytest.mark.parametrize("length", [0, 4, 12, 20])
def test_a_storage_of_another_size_is_refused(length: int, refusal: Callable[..., str]) -> None:
    """A storage has the declared size; past a shorter one torch would read on."""
    old = zipped({"bias": torch.ones(4)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(old)) as archive, zipfile.ZipFile(buffer, "w") as new:
        for name in archive.namelist():
            new.writestr(name, bytes(length) if name.endswith("data/0") else archive.read(name))
    assert f"has {length} bytes, 16 declared" in refusal(buffer.getvalue())


def pickled_tensor(offset: int, size: int, stride: int, count: int = 4) -> bytes:
    """Write the pickle of a table with one tensor."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    numbers = b"J" + struct.pack("<i", offset) + b"J" + struct.pack("<i", size) + b"\x85"
    rest = b"J" + struct.pack("<i", stride) + b"\x85\x89ccollections\nOrderedDict\n)Rt"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + struct.pack("<i", count) + b"tQ"
    return b"\x80\x02}" + text("bias") + call + numbers + rest + b"Rs."


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(1, 4, 1), (0, 5, 1), (0, 2, 4), (-1, 2, 1), (0, -2, 1), (0, 4, -1)]
)
def test_a_view_outside_of_its_storage_is_refused(
    offset: int, size: int, stride: int, refusal: Callable[..., str]
) -> None:
    """A tensor reaches no byte that is not its own, forwards or backwards."""
    data = zipped({"bias": torch.ones(4)})
    assert "none of its 1 tensors" in refusal(with_pickle(data, pickled_tensor(0, 4, 1)))
    text = refusal(with_pickle(data, pickled_tensor(offset, size, stride)))
    assert "elements of storage 0, which has 4" in text or "no count" in text


def test_twisted_pickles_end_soon(refusal: Callable[..., str]) -> None:
    """A table inside itself, deep nesting and a stack that runs dry are no trap."""
    data = zipped({"bias": torch.ones(4)})
    itself = b"\x80\x02}q\x00" + text("model") + b"h\x00s."
    for pickled in (itself, b"\x80\x02" + b"]" * 9 + b"\x85" * 100_000 + b".", b"\x80\x02s.", b"\x80\x02"):
        refusal(with_pickle(data, pickled))


def header(**fields: object) -> dict[str, object]:
    """Return the header of one tensor of four float32 numbers, with some of it replaced."""
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | fields


def raw(entries: object, body: bytes = bytes(16)) -> bytes:
    """Write a safetensors file whatever its header says."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


WRONG_TENSORS = {
    "past the end": raw({"a": header(data_offsets=[16, 32])}),
    "too short": raw({"a": header(shape=[3])}),
    "hole": raw({"a": header(shape=[1], data_offsets=[0, 4]), "b": header(shape=[2], data_offsets=[8, 16])}),
    "overlap": raw({"a": header(), "b": header()}),
    "rest": raw({"a": header()}, bytes(17)),
    "backwards": raw({"a": header(data_offsets=[16, 0])}),
    "negative": raw({"a": header(shape=[-2, -2])}),
    "float": raw({"a": header(shape=[4.0])}),
    "bool": raw({"a": header(shape=[True, 4])}),
    "unknown type": raw({"a": header(dtype="F4")}),
    "type no text": raw({"a": header(dtype=[1])}),
    "more fields": raw({"a": header(more=1)}),
    "three offsets": raw({"a": header(data_offsets=[0, 8, 16])}),
    "no object": raw({"a": 1}),
    "twice": raw(b'{"a": 1, "a": 2}'),
    "deep": raw(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "half a character": raw(b'{"\\ud800": {}}'),
    "no JSON": raw(b'{"a": }'),
    "no unicode": raw(b'{"\xff": 1}'),
    "long number": raw(b'{"a": ' + b"9" * 10_000 + b"}"),
    "header past the end": struct.pack("<Q", 2**30) + b'{"a": 1}',
    "no tensors": raw({}, b""),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_a_wrong_safetensors_header_is_refused(case: str, refusal: Callable[..., str]) -> None:
    """Sizes, places and names must be those of whole tensors that fill the file; nothing crashes."""
    assert "best.weights" in refusal(WRONG_TENSORS[case])


def test_a_header_beyond_the_limit_is_not_parsed(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header is bounded before it is read."""
    monkeypatch.setattr(safetensors, "BOUNDS", Bounds(pickle_bytes=20))
    assert "limit 20" in refusal(tensors_file(trained().state_dict()))


def test_options_are_checked_before_anything_is_loaded(folder: Path) -> None:
    """--weights needs code and a file that exists; --no-strict-weights needs --weights."""
    code = PythonObject(str(folder / "models.py"), "make", is_file=True)
    (folder / "w.pt").touch()
    cases: Iterable[tuple[Any, str | None, bool, type[EqauditError], str]] = (
        (FileModel("m.pt"), str(folder / "w.pt"), True, UsageError, "MODEL is a file"),
        (code, None, False, UsageError, "goes with --weights"),
        (code, "", True, UsageError, "empty"),
        (code, str(folder / "none.pt"), True, ModelError, "no such file of weights"),
    )
    for model, path, strict, error, said in cases:
        with pytest.raises(error, match=said):
            parse_weights(model, path, strict=strict)
    assert parse_weights(code, None, strict=True) == code
    assert str(folder / "w.pt") in input_files(parse_weights(code, str(folder / "w.pt"), strict=True))


SMALL = ("--input-shape", "3,16,16", "--samples", "16", "--json", "-", "--no-gate", "--group", "C4")


def test_the_command_audits_the_weights_of_the_file(folder: Path, eqaudit: Callable[..., Any]) -> None:
    """Weights that make the network exact make the verdict; the report identifies and describes them."""
    net = trained()
    with torch.no_grad():
        weight = net.state_dict()["0.weight"]
        weight.copy_(sum(torch.rot90(weight, k, (2, 3)) for k in range(4)) / 4)
    data = zipped({"model_state_dict": net.state_dict(), "epoch": 1})
    (folder / "best.pth").write_bytes(data)
    ended = eqaudit("check", "models.py:make", "--weights", "best.pth", *SMALL, cwd=folder)
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["verdict"]["holds"]) == (ExitCode.PASSED, "C4")
    assert report["model"]["weights_sha256"] == sha256(data).hexdigest()
    said = "weights: 9 tensors of best.pth, key 'model_state_dict', ignored beside them: epoch"
    assert said in report["warnings"]
    without = json.loads(eqaudit("check", "models.py:make", *SMALL, cwd=folder).stdout)
    assert (without["verdict"]["holds"], without["model"]["weights_sha256"]) == ("C1", None)


def test_layers_and_sweeps_take_weights_and_say_what_is_wrong(
    folder: Path, eqaudit: Callable[..., Any], told: Callable[..., str]
) -> None:
    """`layers` names the weights; a misfit ends `sweep-angles` in code 3 and one message."""
    (folder / "half.safetensors").write_bytes(tensors_file(changed(_3_weight=None)))
    options = ("models.py:make", "--weights", "half.safetensors")
    listed = eqaudit("layers", *options, "--no-strict-weights", "--input-shape", "3,16,16", cwd=folder)
    assert listed.returncode == ExitCode.PASSED
    # Notes are folded to the width of the page.
    assert "8 tensors of half.safetensors" in " ".join(listed.stdout.decode().split())
    swept = eqaudit("sweep-angles", *options, cwd=folder)
    assert swept.returncode == ExitCode.CANNOT_RUN
    assert "1 missing (3.weight)" in told(swept)
