"""Checkpoints as training scripts write them: the weights are found; what lies beside them is never made."""

import argparse
import collections
import enum
import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eqaudit.errors import ModelError
from eqaudit.loader import AuditModel, load_model
from eqaudit.loader.checkpoint import Checkpoint, read_checkpoint
from eqaudit.loader.pickles import TensorSpec
from eqaudit.parsing import parse_model, parse_weights
from eqaudit.plan import FileModel

CPU = torch.device("cpu")
PROTOCOLS = (2, 3, 4, 5)
SOURCE = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
"""
made: list[str] = []


class Colour(enum.Enum):
    """A choice of a training script."""

    RED = 1


class Options(dict[str, int]):
    """Options of a training script."""


class Watched:
    """Says when it is made again."""

    def __init__(self) -> None:
        self.itself = (self, [self])

    def __setstate__(self, state: object) -> None:
        """Note that it was unpickled."""
        made.append("Watched")


def network() -> nn.Sequential:
    """Make the network of the source with weights of its own, trained for one step."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.rand(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    return net.eval()


def trainer() -> dict[str, Any]:
    """Return what a trainer with many options writes."""
    net = network()
    optimizer = torch.optim.AdamW(net.parameters())
    options = {
        "optimizer": torch.optim.AdamW,
        "act": nn.ReLU(),
        "colour": Colour.RED,
        "options": Options(a=1),
        "arguments": argparse.Namespace(path=Path("x"), sizes=(1, 2, 3, 4)),
        "watched": Watched(),
        "numbers": (np.float64(0.1), np.arange(3), np.random.default_rng(0), 1j, 2**3000, -5, 2.0**0.5),
        "bytes": (b"x", b"x" * 300, bytearray(b"x")),
        "text": ("é" * 400, ""),
        "sets": ({1, 2}, frozenset([3])),
        "more": (collections.deque([1]), collections.Counter("aab"), collections.defaultdict(list, {1: [2]})),
        "kinds": (range(3), slice(1, 2), torch.Size([1]), np.dtype("float32"), torch.bfloat16, torch.strided),
    }
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.1",
        "state_dict": {f"model.{name}": tensor for name, tensor in net.state_dict().items()},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": options,
    }


def saved(content: object, *, protocol: int = 2, new: bool = True) -> bytes:
    """Save as torch does, in its new format or the old one."""
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., AuditModel]:
    """Return a function that loads the bytes of a checkpoint onto the code."""

    def run(data: bytes, *, strict: bool = True) -> AuditModel:
        (tmp_path / "models.py").write_text(SOURCE)
        (tmp_path / "last.ckpt").write_bytes(data)
        spec = parse_model(f"{tmp_path / 'models.py'}:make", [])
        return load_model(parse_weights(spec, str(tmp_path / "last.ckpt"), strict=strict), CPU)

    return run


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Checkpoint]:
    """Return a function that reads the bytes of a checkpoint."""

    def run(data: bytes) -> Checkpoint:
        (tmp_path / "last.ckpt").write_bytes(data)
        return read_checkpoint(str(tmp_path / "last.ckpt"))

    return run


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_trainers_checkpoint_is_read_in_every_protocol(
    protocol: int, new: bool, load: Callable[..., AuditModel]
) -> None:
    """The weights arrive bit for bit; objects beside them are said, and none of them is made."""
    made.clear()
    model = load(saved(trainer(), protocol=protocol, new=new))
    tensors = model.runner.tensors()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in network().state_dict().items())
    assert "key 'state_dict', prefix 'model.' removed" in model.notes[0]
    assert "left out, not made" in model.notes[1]
    assert "torch.optim.adamw.AdamW" in model.notes[1]
    assert made == []


def test_an_object_in_the_checkpoint_would_say_that_it_is_made() -> None:
    """The check above can fail: Python's reader makes the object."""
    made.clear()
    pickle.loads(pickle.dumps(trainer()["hyper_parameters"]["watched"]))
    assert made == ["Watched"]


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_kind_of_plain_tensor_is_read(
    protocol: int, new: bool, read: Callable[[bytes], Checkpoint]
) -> None:
    """Types, views, empty tensors, parameters and shared storages come out as they went in."""
    base = torch.arange(24.0).reshape(2, 3, 4)
    names = ("uint16", "uint32", "int8", "bool", "float16", "bfloat16", "float8_e5m2", "complex64")
    tensors = {name: torch.tensor([0, 1, 1]).to(getattr(torch, name)) for name in names}
    tensors |= {
        "view": base.permute(2, 0, 1)[1:, :, ::2],
        "tied": base,
        "again": base,
        "none": torch.empty(0, 3),
    }
    tensors |= {
        "wide": torch.ones(1).expand(3),
        "parameter": nn.Parameter(torch.rand(2)),
        "one": torch.tensor(3),
    }
    checkpoint = read(saved(collections.OrderedDict(tensors), protocol=protocol, new=new))
    for name, wanted in tensors.items():
        found = checkpoint.tensor(checkpoint.content[name])
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
        assert torch.equal(found.to(torch.complex128), wanted.detach().to(torch.complex128)), name
    assert checkpoint.content["tied"].storage == checkpoint.content["view"].storage
    assert checkpoint.foreign == ()


UNREAD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a quantized tensor": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "a sparse tensor": torch.Tensor.to_sparse,
    "a tensor without values": lambda tensor: tensor.to("meta"),
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("kind", UNREAD)
def test_a_tensor_of_another_kind_is_refused_where_it_is_a_weight(
    kind: str, new: bool, load: Callable[..., AuditModel]
) -> None:
    """By its name and kind, in strict mode or not; beside the weights it does not matter."""
    tensor = UNREAD[kind](torch.ones(4))
    state = network().state_dict() | {"0.bias": tensor}
    for strict in (True, False):
        with pytest.raises(ModelError, match=rf"0\.bias is {kind} \(torch\._utils\.") as raised:
            load(saved({"model": state}, new=new), strict=strict)
        assert "dense" in raised.value.hint
    with pytest.raises(ModelError, match=kind):
        load(saved({"0.weight": tensor}, new=new))
    beside = {"model": network().state_dict(), "last": tensor, "storage": torch.ones(2).untyped_storage()}
    assert "ignored beside them: last, storage" in load(saved(beside, new=new)).notes[0]


def test_an_object_in_the_place_of_a_weight_is_refused(load: Callable[..., AuditModel]) -> None:
    """What is no tensor under the name of one cannot be left out."""
    state = network().state_dict() | {"0.bias": np.ones(4)}
    with pytest.raises(ModelError, match=r"0\.bias is an object \(numpy\."):
        load(saved(state), strict=False)
    model = load(saved(network().state_dict() | {"extra": np.ones(4), 3: torch.ones(1)}))
    assert "ignored beside them: extra, 3" in model.notes[0]


@pytest.mark.parametrize("new", [True, False])
def test_a_pickled_module_is_named(new: bool, load: Callable[..., AuditModel]) -> None:
    """Alone or in a checkpoint: weights inside an object that is not made are no state dict."""
    for content, said in (
        (network(), r"it is a Python object \(torch.nn.modules.container.Sequential\)"),
        ({"epoch": 1, "model": network()}, r"its keys are epoch, model \(torch.nn.modules.container.Seq"),
    ):
        with pytest.raises(ModelError, match=said) as raised:
            load(saved(content, new=new))
        assert "model.state_dict()" in raised.value.hint


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """Change the pickle of a checkpoint."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(buffer, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("data.pkl"):
                assert old in content
                content = content.replace(old, new)
            changed.writestr(name, content)
    return buffer.getvalue()


def text(value: str) -> bytes:
    """Pickle a string as protocol 2 does."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


CALLS = (
    "os\nsystem",
    "posix\nsystem",
    "subprocess\nPopen",
    "builtins\neval",
    "__builtin__\nexecfile",
    "runpy\nrun_path",
)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_runs_code_is_refused_beside_good_weights(
    name: str, load: Callable[..., AuditModel], tmp_path: Path
) -> None:
    """Nothing would run here, but a file that runs code elsewhere is no checkpoint to audit."""
    content = {"model": network().state_dict(), "extra": "PLACE"}
    bad = b"c" + name.encode() + b"\n" + text(f"mkdir {tmp_path / 'PWNED'}") + b"\x85R"
    data = replaced(saved(content), text("PLACE"), bad)
    with pytest.raises(ModelError, match="runs code where it is unpickled") as raised:
        load(data)
    assert "safetensors" in raised.value.hint
    data = replaced(saved(content), text("PLACE"), bad.replace(name.encode(), b"my.code\nmake"))
    assert "my.code.make" in load(data).notes[1]
    assert not (tmp_path / "PWNED").exists()


def test_old_forms_are_read(read: Callable[[bytes], Checkpoint]) -> None:
    """The first function that rebuilt tensors, and the strings of Python 2."""
    data = replaced(
        saved({"w": torch.arange(4.0), "note": "PLACE"}), b"_rebuild_tensor_v2\n", b"_rebuild_tensor\n"
    )
    data = replaced(data, text("PLACE"), b"T" + struct.pack("<I", 300) + b"x" * 300)
    checkpoint = read(data)
    assert checkpoint.tensor(checkpoint.content["w"]).tolist() == [0, 1, 2, 3]
    assert checkpoint.content["note"] == "x" * 300


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("new", [True, False])
def test_damage_in_a_late_protocol_is_refused(
    protocol: int, new: bool, read: Callable[[bytes], Checkpoint]
) -> None:
    """Cut anywhere it is an error of ours; a flipped bit changes no shape without one."""
    data = saved(trainer(), protocol=protocol, new=new)
    chance = random.Random(protocol)  # noqa: S311 - no secret
    for end in chance.sample(range(1, len(data)), 40):
        with pytest.raises(ModelError):
            read(data[:end])
    for place in chance.sample(range(len(data)), 150):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        try:
            state = read(bytes(flipped)).content.get("state_dict", {})
        except ModelError:
            continue
        weight = state.get("model.0.weight")
        assert not isinstance(weight, TensorSpec) or weight.shape == (4, 3, 3, 3)


WAYS_OUT: dict[str, tuple[Callable[[], object], str]] = {
    "a state dict": (lambda: network().state_dict(), "weights only (a state dict)"),
    "a checkpoint": (trainer, "a pickle of Python objects"),
    "a module": (network, "a pickle of Python objects (torch.nn.modules."),
}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", WAYS_OUT)
def test_a_checkpoint_as_model_is_told_of_weights(
    kind: str, protocol: int, new: bool, tmp_path: Path
) -> None:
    """Whoever gives a checkpoint where a model belongs is told of --weights."""
    make, said = WAYS_OUT[kind]
    path = tmp_path / "last.ckpt"
    path.write_bytes(saved(make(), protocol=protocol, new=new))
    with pytest.raises(ModelError) as raised:
        load_model(FileModel(str(path)), CPU)
    assert said in raised.value.message
    assert "--weights FILE" in raised.value.hint
