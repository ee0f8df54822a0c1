"""Quantised TorchScript files: read by the strict reader, measured as the numbers that integers stand for."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_archive import change, entry
from torch import Tensor, nn
from torch.ao import quantization

import eqaudit
from eqaudit.errors import ModelError
from eqaudit.loader import Feature, load_model
from eqaudit.loader.archive import read_model_file
from eqaudit.plan import FileModel

CPU = torch.device("cpu")
ENGINE = "fbgemm"
TOOLS: Any = quantization  # without types
pytestmark = pytest.mark.skipif(
    ENGINE not in torch.backends.quantized.supported_engines, reason="this build of torch has no engine"
)


class LeNet(nn.Module):
    """Two convolutions and two linear layers on images of 1x16x16."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = TOOLS.QuantStub(), TOOLS.DeQuantStub()
        self.conv1, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.pool, self.flat = nn.MaxPool2d(2), nn.Flatten()
        self.fc1, self.fc2 = nn.Linear(256, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return ten scores."""
        features: Tensor = self.flat(self.pool(self.relu(self.conv1(self.quant(x)))))
        scores: Tensor = self.dequant(self.fc2(self.fc1(features)))
        return scores


def images() -> Tensor:
    """Return images of 1x16x16."""
    return torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def static() -> nn.Module:
    """Quantise weights and features."""
    model: Any = LeNet().eval()
    model.qconfig = TOOLS.get_default_qconfig(ENGINE)
    prepared = TOOLS.prepare(TOOLS.fuse_modules(model, [["conv1", "relu"]]))
    prepared(images())
    converted: nn.Module = TOOLS.convert(prepared)
    return converted


def dynamic(dtype: torch.dtype) -> nn.Module:
    """Quantise the weights of linear layers."""
    made: nn.Module = TOOLS.quantize_dynamic(LeNet().eval(), {nn.Linear}, dtype)
    return made


MODELS: dict[str, Callable[[], Any]] = {
    "static, scripted": lambda: torch.jit.script(static()),
    "static, traced": lambda: torch.jit.trace(static(), images()),  # type: ignore[no-untyped-call]
    "static, frozen": lambda: torch.jit.freeze(torch.jit.script(static())),
    "dynamic": lambda: torch.jit.script(dynamic(torch.qint8)),
    "dynamic, half": lambda: torch.jit.script(dynamic(torch.float16)),
}


def save(name: str) -> bytes:
    """Return the file of a quantised model."""
    buffer = io.BytesIO()
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = ENGINE
        try:
            torch.manual_seed(0)
            torch.jit.save(MODELS[name](), buffer)
        finally:
            torch.backends.quantized.engine = before
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _random_state() -> Any:
    """Give the random state back as it was."""
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("name", MODELS)
def test_a_quantised_file_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    """Bit by bit; and every layer is measured, in numbers."""
    path = tmp_path / "model.pt"
    path.write_bytes(save(name))
    direct = torch.jit.load(str(path))(images())  # type: ignore[no-untyped-call]
    seen: list[Feature] = []
    (output,) = load_model(FileModel(str(path)), CPU).run(images(), seen.append)
    assert output.value is not None
    assert torch.equal(output.value, direct)
    assert bool(seen) != name.endswith("frozen")
    # The trace of an identity returns nothing.
    values = [feature.value for feature in seen if feature.reason != "returns None, no tensor"]
    assert all(value is not None and value.dtype == torch.float32 for value in values)


def test_a_quantised_file_is_audited_and_not_confirmed_in_float64(tmp_path: Path) -> None:
    """Its operators take float32 only, and the report says so."""
    path = tmp_path / "model.pt"
    path.write_bytes(save("static, scripted"))
    report = eqaudit.audit(path, images(), group="C4")
    assert [layer.skipped for layer in report.layers] == [None] * len(report.layers)
    assert any("not confirmed in float64" in text for text in report.warnings)


SCHEME = b"ctorch\nper_channel_affine\n"
AFTER_SCALES = 300  # bytes from the scheme: past scales and zero points, before the axis of the channels


def swap(old: bytes, new: bytes, start: bytes = b"", skip: int = 0) -> Callable[[bytes], bytes]:
    """Return an edit of the first place of a text in a pickle, after another one."""

    def edit(pickle: bytes) -> bytes:
        place = pickle.index(old, pickle.index(start) + skip)
        return pickle[:place] + new + pickle[place + len(old) :]

    return edit


def damage(name: str, edit: Callable[[bytes], bytes], folder: Path) -> str:
    """Write a quantised file with another pickle and return its path."""
    path = folder / "model.pt"
    whole = save(name)
    path.write_bytes(change(whole, "data.pkl", data=edit(entry(whole, "data.pkl"))))
    return str(path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (swap(b"K\x00t", b"K\x07t", SCHEME, AFTER_SCALES), "scale and zero point for each channel"),
        (swap(b"K\x00t", b"K\x01t", SCHEME, AFTER_SCALES), "scale and zero point for each channel"),
        (swap(SCHEME, b"ctorch\nper_tensor_affine\n"), "scale and zero point"),
        (swap(SCHEME, b"ctorch\nper_channel_symmetric\n"), "quantized weights of this kind"),
        (
            swap(b"_rebuild_qtensor\n", b"_rebuild_tensor_v2\n"),
            "conjugated or negated|impossible shape|damaged",
        ),
        (swap(b"QInt8Storage", b"CharStorage"), "is not of the type"),
        (swap(b"QInt8Storage", b"QUInt4x2Storage"), "quantized weights of this kind"),
        (swap(b"QInt8Storage", b"QInt32Storage"), "declared"),
    ],
)
def test_damaged_scales_are_refused(edit: Callable[[bytes], bytes], said: str, tmp_path: Path) -> None:
    """Torch would read one scale for each channel, however many there are."""
    with pytest.raises(ModelError, match=said):
        read_model_file(damage("static, traced", edit, tmp_path))


@pytest.mark.parametrize("name", ["dynamic", "static, traced"])
def test_packed_weights_of_another_form_are_refused(name: str, tmp_path: Path) -> None:
    """A class that PyTorch unpacks in C++ gets only what PyTorch packs."""
    edit = swap(b"LinearPackedParamsBase", b"Conv2dPackedParamsBase")
    with pytest.raises(ModelError, match="Conv2dPackedParamsBase is not packed as PyTorch packs it"):
        read_model_file(damage(name, edit, tmp_path))
