"""Operations called as functions are taps too: the same ones, of the same values, for every kind of model."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from models_zoo import IMAGE, compiled, noise
from test_exported import export, read
from test_loader import CPU, FIXTURES, assert_same, loaded, made, tapped
from torch import Tensor, nn
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.nn import functional

import eqaudit
from eqaudit.errors import ModelError
from eqaudit.loader import AuditModel, load_model, with_taps, wrap_module
from eqaudit.plan import FileModel

Ended = subprocess.CompletedProcess[bytes]
Kind = Literal["scripted", "traced", "exported", "dynamic"]
KINDS: tuple[Kind, ...] = ("scripted", "traced", "exported", "dynamic")
# Two runs of float32 sums, relative to the error itself.
ERROR_TOLERANCE = 1e-5


class _Block(nn.Module):
    """Two convolutions beside a shortcut, and functions for what learns nothing."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = functional.relu(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(features)
        return torch.relu_(out)


class _Residual(nn.Module):
    """A small residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1 = nn.Sequential(_Block(4, 4))
        self.layer2 = nn.Sequential(_Block(4, 6, stride=2))
        self.fc = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = functional.max_pool2d(self.conv1(image).relu(), 3, 2, 1)
        out = self.layer2(self.layer1(out))
        out = torch.flatten(functional.adaptive_avg_pool2d(out, 1), 1)
        scores: Tensor = self.fc(functional.dropout(out, 0.5, self.training))
        return scores


def residual() -> nn.Module:
    """Return it in eval mode, with weights of a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        return made(_Residual)


BLOCK = ("conv1", "bn1", "relu", "conv2", "bn2", "shortcut.0", "shortcut.1", "shortcut", "add", "relu_1")
NAMES = [
    *("conv1", "relu", "max_pool2d"),
    *(f"layer1.0.{part}" for part in BLOCK),
    *("layer1.0", "layer1"),
    *(f"layer2.0.{part}" for part in BLOCK),
    *("layer2.0", "layer2", "adaptive_avg_pool2d", "flatten", "fc"),
]


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def converted(module: nn.Module, kind: Kind, folder: Path, images: Tensor) -> AuditModel:
    """Write a module as a file of that kind and load it, with taps at operations."""
    if kind in {"exported", "dynamic"}:
        model = read(export(module, images, dynamic=kind == "dynamic"), folder)
    else:
        model = loaded(compiled(module, "scripted" if kind == "scripted" else "traced"), folder)
    return with_taps(model, "operations")


def eager(module: nn.Module) -> AuditModel:
    """Return a module in memory, with taps at operations."""
    return with_taps(wrap_module(module, "source", CPU), "operations")


def names_of(model: AuditModel, images: Tensor) -> list[str]:
    """Return the names of a model's taps, calls after the first numbered."""
    return [f"{seen.name}#{seen.call}" if seen.call else seen.name for seen in tapped(model, images)[0]]


class _Gathered(nn.Module):
    """A block that is called twice, a dict as output, an operation named as a child, and views."""

    def __init__(self) -> None:
        super().__init__()
        self.block = _Twice()
        self.relu, self.add = nn.ReLU(), nn.Identity()
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.place = nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        out: Tensor = self.block(self.block(image[:, :1].repeat(1, 4, 1, 1)))
        centred = self.weight - self.weight.mean((2, 3), keepdim=True)  # weights alone are no feature
        out = functional.conv2d(self.relu(out), centred, padding=1)
        out = functional.relu(out + self.place.expand(image.shape[0], -1, -1, -1))
        out = functional.interpolate(out, scale_factor=2.0, mode="bilinear")[:, :, :, :]
        ramp = torch.linspace(-1.0, 1.0, out.shape[3])
        out = torch.cat([out, out * ramp], dim=1).to(torch.float32).contiguous()
        scores = functional.softmax(out.mean(dim=(2, 3)), dim=1)
        flat = out.flatten(2)
        return {"scores": scores, "mixed": torch.matmul(flat, flat.transpose(1, 2)).view(out.shape[0], -1)}


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), _Halves())

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.inner(features) + features
        return functional.relu(out + 1)


class _Halves(nn.Module):
    """Without parameters, in place."""

    def forward(self, features: Tensor) -> Tensor:
        features *= 0.5
        return torch.sigmoid(features)


TWICE = ["block.inner.0", "block.inner.1.mul", "block.inner.1.sigmoid", "block.inner.1", "block.inner"]
TWICE += ["block.add", "block.add_1", "block.relu", "block"]
GATHERED = [
    *("slice", "repeat", *TWICE, *(f"{name}#1" for name in TWICE)),
    *("relu", "conv2d", "add_1", "relu_1", "interpolate", "mul", "cat", "mean", "softmax", "flatten"),
    *("transpose", "matmul", "view"),
]


class _Branches(nn.Module):
    """Another operation for another image, and one as often as the data say."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.conv(image)
        out = functional.relu(out) if bool(image.sum() > 0) else torch.tanh(out)
        for _ in range(int(image.shape[0])):
            out = out * 0.5
        return out


# Every kind the same --------------------------------------------------------------------------------


def test_a_residual_network_shows_its_functional_relus_and_additions() -> None:
    """Each is named after the module that calls it, numbered when it occurs again."""
    assert names_of(eager(residual()), noise(2, *IMAGE)) == NAMES


def test_modules_alone_stay_the_default() -> None:
    """Without the option the taps are the modules, and nothing else."""
    model = with_taps(wrap_module(residual(), "source", CPU), "modules")
    modules = {name for name, _ in residual().named_modules()}
    assert set(names_of(model, noise(2, *IMAGE))) == modules - {""}


def test_the_value_of_an_operation_is_what_it_computed() -> None:
    """Also where the next operation overwrites it; computed here without taps."""
    images, network = noise(2, *IMAGE), residual()
    seen = {feature.name: feature.value for feature in tapped(eager(network), images)[0]}
    block = network.get_submodule("layer1.0")
    with torch.no_grad():
        pooled = functional.max_pool2d(functional.relu(network.get_submodule("conv1")(images)), 3, 2, 1)
        inner = functional.relu(block.get_submodule("bn1")(block.get_submodule("conv1")(pooled)))
        inner = block.get_submodule("bn2")(block.get_submodule("conv2")(inner))
        added = inner + block.get_submodule("shortcut")(pooled)
    for name, value in (("max_pool2d", pooled), ("layer1.0.add", added), ("layer1.0.relu_1", added.relu())):
        torch.testing.assert_close(seen[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factory", [residual, lambda: made(_Gathered)], ids=["residual", "gathered"])
def test_every_kind_gives_the_operations_of_its_source(
    factory: Callable[[], nn.Module], kind: Kind, tmp_path: Path
) -> None:
    """Names, calls, types, and values bit by bit."""
    images, source = noise(3, *IMAGE), factory()
    assert_same(tapped(converted(source, kind, tmp_path, images), images), tapped(eager(source), images))


def test_an_operation_never_takes_the_name_of_a_module() -> None:
    """``relu`` is a child, ``add`` one never called; what weights, sizes and types give is not listed."""
    assert names_of(eager(made(_Gathered)), noise(2, *IMAGE)) == GATHERED


@pytest.mark.parametrize(("sign", "wanted"), [(1, "relu"), (-1, "tanh")])
def test_control_flow_of_a_scripted_file_is_followed(sign: int, wanted: str, tmp_path: Path) -> None:
    """The operations are those that ran."""
    images, source = noise(3, *IMAGE).abs() * sign, made(_Branches)
    model = converted(source, "scripted", tmp_path, images)
    assert names_of(model, images) == ["conv", wanted, "mul", "mul_1", "mul_2"]
    assert_same(tapped(model, images), tapped(eager(source), images))


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_the_output_is_bit_for_bit_that_of_the_model(kind: Kind | None, tmp_path: Path) -> None:
    """With taps and without, on the first run and on the third, when TorchScript would begin to fuse."""
    images, source = noise(3, *IMAGE), residual()
    model = eager(source) if kind is None else converted(source, kind, tmp_path, images)
    with torch.no_grad():
        expected = source(images)
    for _ in range(3):
        seen, outputs = tapped(model, images)
        assert [feature.name for feature in seen] == NAMES
        for value in (outputs[0], model.run(images)[0].value):
            assert value is not None
            assert torch.equal(value, expected)


@pytest.mark.parametrize("name", ["batch_statistics", "dropout_left_on", "functional_relu", "unet_p4"])
def test_the_files_of_the_fixtures_agree_with_their_source(name: str) -> None:
    """Functions of the bundled models, scripted and in Python."""
    images = noise(2, *((1, 64, 64) if name == "unet_p4" else (3, 32, 32)))
    file = with_taps(load_model(FileModel(str(FIXTURES / f"{name}.pt")), CPU), "operations")
    source = eqaudit.plan.PythonObject(str(FIXTURES / f"{name}.py"), name, is_file=True)
    assert_same(tapped(file, images), tapped(with_taps(load_model(source, CPU), "operations"), images))


def test_a_frozen_file_shows_its_operations(tmp_path: Path) -> None:
    """It holds no modules: all operations are the model's own."""
    frozen = torch.jit.freeze(compiled(residual(), "scripted"))
    names = names_of(with_taps(loaded(frozen, tmp_path), "operations"), noise(2, *IMAGE))
    assert names[:3] == ["conv2d", "relu", "max_pool2d"]
    assert {"add", "adaptive_avg_pool2d", "flatten", "linear"} <= set(names)


def test_a_model_in_layouts_of_its_own_is_followed_past_them() -> None:
    """Memory that is hidden from Python hides no operation after it."""
    optimised = torch.jit.optimize_for_inference(compiled(residual(), "scripted"))
    assert "flatten" in names_of(eager(optimised), noise(2, *IMAGE))


# Hard cases -----------------------------------------------------------------------------------------


class _Cases(nn.Module):
    """A convolution, and what a test does with it."""

    def __init__(self, then: Callable[[Tensor], Tensor], inner: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.then, self.inner = nn.Conv2d(3, 4, 3, padding=1), then, inner

    def forward(self, image: Tensor) -> Tensor:
        return self.then(self.conv(image))


def _without_gradients(features: Tensor) -> Tensor:
    with torch.no_grad():
        features = functional.relu(features * 2)
    return features + 1


def _either(features: Tensor) -> Tensor:
    chosen = torch.cond(
        features.sum() > 0, lambda value: value.relu(), lambda value: value.tanh(), (features,)
    )
    out: Tensor = chosen * 2
    return out


@pytest.mark.parametrize(
    ("then", "wanted"),
    [(_without_gradients, ["conv", "mul", "relu", "add"]), (_either, ["conv", "mul"])],
)
def test_an_exported_program_with_graphs_inside_is_followed(
    then: Callable[[Tensor], Tensor], wanted: list[str], tmp_path: Path
) -> None:
    """What comes after an inner graph is seen, whatever is seen of the graph."""
    images, source = noise(3, *IMAGE), made(lambda: _Cases(then))
    assert names_of(converted(source, "exported", tmp_path, images), images) == wanted


@pytest.mark.parametrize(
    ("then", "wanted"),
    [
        (lambda value: 1 - value, ["sub"]),
        (lambda value: value.multiply(2).clip(0, 1), ["mul", "clamp"]),
        (lambda value: value.clone().detach().contiguous()[:], []),
        (lambda value: functional.dropout(value, 0.5, training=False), []),
        (lambda value: value * (value > 0), ["mul"]),
        (lambda value: value - value.mean(), ["sub"]),
        (lambda value: torch.zeros_like(value) + 1 + value, ["add"]),
        (lambda value: value.max(dim=1, keepdim=True)[0], ["max"]),
        (lambda value: torch.fft.fft2(value).real, ["real"]),
        (lambda value: torch.vmap(functional.relu)(value).mean((2, 3)), ["mean"]),
        (
            lambda value: functional.scaled_dot_product_attention(value, value, value),
            ["scaled_dot_product_attention"],
        ),
    ],
)
def test_operations_are_listed_that_compute_floating_features_from_the_data(
    then: Callable[[Tensor], Tensor], wanted: list[str]
) -> None:
    """No masks, no numbers, no complex values, no copies, nothing that does not depend on the images."""
    assert names_of(eager(made(lambda: _Cases(then))), noise(2, *IMAGE)) == ["conv", *wanted]


def test_the_three_ways_to_write_a_convolution_have_one_name(tmp_path: Path) -> None:
    """A trace holds one operator for all of them."""

    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3, 3, 3))

        def forward(self, image: Tensor) -> Tensor:
            out = functional.conv2d(image, self.weight, padding=1)
            out = functional.conv2d(out, self.weight, padding="same")
            return functional.conv_transpose2d(out, self.weight)

    images, source = noise(3, *IMAGE), made(Convolutions)
    for kind in KINDS:
        names = names_of(converted(source, kind, tmp_path, images), images)
        assert names == ["conv2d", "conv2d_1", "conv_transpose2d"]


class _Raises(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        raise ValueError(features.shape)


def test_a_module_that_raises_leaves_nothing_behind() -> None:
    """Neither a mode in torch when the model ends so, nor a module when its caller goes on."""
    inner = _Raises()

    def caught(features: Tensor) -> Tensor:
        with contextlib.suppress(ValueError):
            inner(features)
        return features

    network = nn.Sequential(made(lambda: _Cases(caught, inner)), _Halves())
    names = names_of(eager(network), noise(2, *IMAGE))
    assert names == ["0.conv", "0", "1.mul", "1.sigmoid", "1"]
    with pytest.raises(ModelError, match="ValueError"):
        tapped(eager(nn.Sequential(nn.Tanh(), _Raises())), noise(2, *IMAGE))
    assert _len_torch_dispatch_stack_pre_dispatch() == 0  # type: ignore[no-untyped-call]


def test_copies_in_another_type_keep_the_taps() -> None:
    """The float64 rerun judges operations too, also after a conversion."""
    model = eager(residual())
    for copy in (model.twin(), model.cast(torch.bfloat16), model.cast(torch.bfloat16).twin()):
        dtype = torch.float64 if copy.dtype is None else torch.bfloat16
        assert names_of(copy, noise(2, *IMAGE).to(dtype)) == NAMES


# The commands ---------------------------------------------------------------------------------------


def test_an_audit_measures_operations_and_every_kind_agrees(tmp_path: Path) -> None:
    """A pattern selects them as it selects layers, and the errors are those of the source."""
    images, source = noise(4, 3, 16, 16), residual()
    wanted = None
    for kind in (None, *KINDS):
        if kind is None:
            model: nn.Module | Path = source
        else:
            converted(source, kind, tmp_path, images)
            model = tmp_path / ("model.pt2" if kind in {"exported", "dynamic"} else "model.pt")
        report = eqaudit.audit(
            model, images, group="C4", layers=("layer1.0.*",), taps="operations", batch_size=4
        )
        errors = {layer.name: [error.error for error in layer.errors] for layer in report.layers}
        assert {"layer1.0.relu", "layer1.0.add", "layer1.0.relu_1"} <= errors.keys()
        assert all(len(found) == 3 for found in errors.values())
        wanted = wanted or errors
        assert errors.keys() == wanted.keys()
        for name, found in errors.items():
            assert found == pytest.approx(wanted[name], rel=ERROR_TOLERANCE)


def test_the_addition_that_breaks_a_network_is_named() -> None:
    """A fixed pattern added as a function is found by its name; all before it is exact."""

    class Ramp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blur = nn.AvgPool2d(3, stride=1, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            out: Tensor = functional.relu(self.blur(image) - 0.5)
            return out + torch.linspace(0, 1, image.shape[-1])

    report = eqaudit.audit(Ramp(), torch.rand(16, 1, 9, 9), group="C4", taps="operations")
    classes = {layer.name: {error.class_ for error in layer.errors} for layer in report.layers}
    assert {name: "exact" in found for name, found in classes.items()} == {
        "blur": True,
        "sub": True,
        "relu": True,
        "add": False,
    }


def test_the_commands_show_operations(eqaudit: Callable[..., Ended], tmp_path: Path) -> None:
    """`layers` lists them; `check` and `sweep-angles` measure them."""
    torch.jit.save(compiled(residual(), "scripted"), tmp_path / "model.pt")
    shape = ("--input-shape", "3,16,16", "--taps", "operations", "--json", "-")
    listed = json.loads(eqaudit("layers", "model.pt", *shape, cwd=tmp_path).stdout)
    assert [layer["name"] for layer in listed["layers"]] == NAMES
    assert {layer["type"] for layer in listed["layers"]} >= {"relu", "add", "max_pool2d", "flatten"}
    few = ("--layers", "*.add", "--samples", "4", "--no-gate")
    for command in (["check", "--group", "C4"], ["sweep-angles", "--angles", "0,90"]):
        ended = eqaudit(command[0], "model.pt", *command[1:], *shape, *few, cwd=tmp_path)
        assert [layer["name"] for layer in json.loads(ended.stdout)["layers"]] == [
            "layer1.0.add",
            "layer2.0.add",
        ]
    refused = eqaudit("layers", "model.pt", "--taps", "functions", cwd=tmp_path)
    assert refused.returncode == 2
    assert b"--taps" in refused.stderr
