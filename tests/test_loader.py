"""Every kind of model gives the taps that hooks on its source module give: names, calls, types, values."""

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_zoo import IMAGE, ZOO, Hard, How, ResNet, UNet, compiled, noise
from torch import Tensor, nn

import eqaudit
from eqaudit.errors import ModelError
from eqaudit.loader import AuditModel, Conduct, Feature, load_model, torchscript, wrap_module
from eqaudit.parsing import parse_model
from eqaudit.plan import FileModel, PythonObject

CPU = torch.device("cpu")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
FIXTURE_NAMES = sorted(path.stem for path in FIXTURES.glob("[!_]*.py"))
FIXTURE_SHAPES = {"lenet5": (1, 28, 28), "unet_plain": (1, 64, 64), "unet_p4": (1, 64, 64)}
FLOAT64_TOLERANCE = 1e-12  # the same sums in another order of operations


@dataclass(frozen=True)
class Seen:
    """What is known of one feature; ``value`` is None for what is no floating tensor of images."""

    name: str
    call: int
    type: str
    parameters: int
    value: Tensor | None

    @property
    def label(self) -> tuple[str, int, str, int]:
        """All but the value."""
        return self.name, self.call, self.type, self.parameters


def parts(value: Any, place: str = "") -> list[tuple[str, Tensor]]:
    """Flatten what a module returned, with places like ``1.0``."""
    if isinstance(value, Tensor):
        return [(place[1:], value)]
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, (tuple, list)):
        pairs = list(enumerate(value))
    return [found for key, part in pairs for found in parts(part, f"{place}.{key}")]


def usable(tensor: Tensor) -> Tensor | None:
    """Return a copy of a floating tensor with dimensions, else None."""
    return tensor.clone() if tensor.is_floating_point() and tensor.ndim else None


def hooked(module: nn.Module, batch: Tensor) -> tuple[list[Seen], list[Tensor | None]]:
    """Run a module with hooks of this test's own; return its features and its outputs."""
    seen: list[Seen] = []
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def receive(owner: nn.Module, _inputs: Any, returned: Any) -> None:
            call = calls[name] = calls.get(name, -1) + 1
            size = sum(weight.numel() for weight in owner.parameters())
            found = parts(returned)
            for place, tensor in found:
                full = f"{name}[{place}]" if len(found) > 1 else name
                seen.append(Seen(full, call, type(owner).__name__, size, usable(tensor)))
            if not found:
                seen.append(Seen(name, call, type(owner).__name__, size, None))

        return receive

    handles = [owner.register_forward_hook(hook(name)) for name, owner in module.named_modules() if name]
    torch.manual_seed(1)
    with torch.no_grad():
        outputs = [usable(tensor) for _, tensor in parts(module(batch.clone()))]
    for handle in handles:
        handle.remove()
    return seen, outputs


def tapped(model: AuditModel, batch: Tensor) -> tuple[list[Seen], list[Tensor | None]]:
    """Run a loaded model; return its features and its outputs."""
    seen: list[Seen] = []

    def receive(feature: Feature) -> None:
        assert (feature.value is None) == (feature.reason is not None)
        value = None if feature.value is None else feature.value.clone()
        seen.append(Seen(feature.name, feature.call, feature.type, feature.parameters, value))

    torch.manual_seed(1)
    outputs = model.run(batch, receive)
    return seen, [None if output.value is None else output.value.clone() for output in outputs]


def assert_same(
    ours: tuple[list[Seen], list[Tensor | None]],
    theirs: tuple[list[Seen], list[Tensor | None]],
    tolerance: float = 0.0,
) -> None:
    """Compare names, calls, types and parameters, and every value bit by bit (or to a tolerance)."""
    assert [seen.label for seen in ours[0]] == [seen.label for seen in theirs[0]]
    left, right = ([seen.value for seen in side[0]] + side[1] for side in (ours, theirs))
    for one, other in zip(left, right, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def loaded(module: torch.jit.ScriptModule, folder: Path) -> AuditModel:
    """Save a compiled module and load the file."""
    path = folder / "model.pt"
    torch.jit.save(module, path)
    return load_model(FileModel(str(path)), CPU)


def made(factory: Callable[[], nn.Module]) -> nn.Module:
    """Return the module in eval mode, its weights drawn from a fixed seed."""
    torch.manual_seed(0)
    return factory().eval()


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


# The law -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXTURE_NAMES)
def test_hooks_on_the_source_and_taps_of_the_file_agree_on_every_fixture(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python spec and the file beside it give what hooks on the source module give, bit by bit."""
    monkeypatch.syspath_prepend(FIXTURES)
    source = getattr(importlib.import_module(name), name)().eval()
    python = load_model(PythonObject(str(FIXTURES / f"{name}.py"), name, is_file=True), CPU)
    script = load_model(FileModel(str(FIXTURES / f"{name}.pt")), CPU)
    for seed in (1, 2):
        batch = noise(2, *FIXTURE_SHAPES.get(name, (3, 32, 32)), seed=seed).abs()
        expected = hooked(source, batch)
        assert expected[0]
        assert_same(tapped(python, batch), expected)
        assert_same(tapped(script, batch), expected)
    assert python.parameters == script.parameters == sum(weight.numel() for weight in source.parameters())
    assert python.first_channels == script.first_channels
    assert (python.kind, script.kind) == ("python", "torchscript")
    assert (python.sha256 is None, script.sha256 is None) == (True, False)


@dataclass(frozen=True)
class Pair:
    """A module of the zoo, and its file loaded."""

    source: nn.Module
    model: AuditModel
    how: How


@pytest.fixture(
    scope="module",
    params=[(hard, how) for hard in ZOO for how in ("scripted", "traced") if how == "scripted" or hard.trace],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Compile a module of the zoo, save it and load the file."""
    hard: Hard
    hard, how = request.param
    with torch.random.fork_rng(devices=[]):
        source = made(hard.make)
        return Pair(source, loaded(compiled(source, how), tmp_path_factory.mktemp("zoo")), how)


def test_taps_agree_with_hooks_on_hard_modules(pair: Pair) -> None:
    """Control flow, repeated calls, in-place operations, structures: the same features, bit by bit.

    The graph is optimised after its first runs, so it runs several times, on images that take other
    branches.
    """
    batch = noise(3, *IMAGE)
    for images in (batch, -batch) if pair.how == "traced" else (batch, -batch, batch[:2]):
        expected = hooked(pair.source, images)
        assert_same(tapped(pair.model, images), expected)
        assert_same(tapped(wrap_module(pair.source, "source", CPU), images), expected)
    assert pair.model.parameters == sum(weight.numel() for weight in pair.source.parameters())
    assert pair.model.notes == ()


def test_the_twin_computes_every_feature_in_float64(pair: Pair) -> None:
    """As the source module made double does; changing the twin's weights leaves the model alone."""
    batch = noise(3, *IMAGE)
    before = tapped(pair.model, batch)
    twin = pair.model.twin()
    double = copy.deepcopy(pair.source).double()
    features = tapped(twin, batch.double())
    assert_same(features, hooked(double, batch.double()), FLOAT64_TOLERANCE)
    values = [seen.value for seen in features[0]] + features[1]
    assert {value.dtype for value in values if value is not None} == {torch.float64}
    with torch.no_grad():
        for weight in twin.runner.weights():
            weight.add_(0.1)
    changed = twin.run(batch.double())[0].value
    assert changed is not None
    assert features[1][0] is not None
    assert not torch.equal(changed, features[1][0])
    assert_same(tapped(pair.model, batch), before)


def test_the_model_gets_a_copy_and_no_gradients(pair: Pair) -> None:
    """The caller's images stay as they are, also under a model that works in place."""
    batch = noise(3, *IMAGE)
    kept = batch.clone()
    for model in (pair.model, wrap_module(pair.source, "source", CPU)):
        outputs = model.run(batch)
        assert torch.equal(batch, kept)
        assert not any(output.value.requires_grad for output in outputs if output.value is not None)
    assert torch.is_grad_enabled()


def _layer(draw: st.DrawFn, kind: str, channels: int, grown: int) -> nn.Module:
    match kind:
        case "conv":
            return nn.Conv2d(channels, grown, 3, padding=1)
        case "norm":
            return nn.BatchNorm2d(channels)
        case "relu":
            return nn.ReLU(inplace=draw(st.booleans()))
        case "dropout":
            return nn.Dropout(0.5, inplace=draw(st.booleans()))
        case "max":
            return nn.MaxPool2d(2, ceil_mode=True)
        case _:
            return nn.AvgPool2d(3, 1, 1)


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """Draw a Sequential of Sequentials of plain layers, in eval mode."""
    channels, blocks = IMAGE[0], []
    for length in draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)):
        block: list[nn.Module] = []
        for _ in range(length):
            kind = draw(st.sampled_from(["conv", "relu", "max", "norm", "dropout", "average"]))
            grown = draw(st.integers(1, 4)) if kind == "conv" else channels
            block.append(_layer(draw, kind, channels, grown))
            channels = grown
        blocks.append(nn.Sequential(*block))
    return nn.Sequential(*blocks).eval()


@settings(max_examples=15)
@given(network=networks(), how=st.sampled_from(["scripted", "traced"]))
def test_taps_agree_with_hooks_on_random_networks(
    tmp_path_factory: pytest.TempPathFactory, network: nn.Module, how: How
) -> None:
    """Whatever the layers and their order."""
    model = loaded(compiled(network, how), tmp_path_factory.mktemp("random"))
    for seed in (1, 2):
        assert_same(tapped(model, noise(2, *IMAGE, seed=seed)), hooked(network, noise(2, *IMAGE, seed=seed)))


# Reasons and names ---------------------------------------------------------------------------------


class _Reasons(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count, self.labels, self.number, self.nothing = _Count(), _Labels(), _Number(), _Nothing()

    def forward(self, image: Tensor) -> Tensor:
        self.nothing(image)
        out: Tensor = image * int(self.count(image)) + self.labels(image).unsqueeze(1)
        number: Tensor = self.number(image)
        return out + number


class _Count(nn.Module):
    def forward(self, image: Tensor) -> int:
        return int(image.shape[1])


class _Labels(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.argmax(dim=1)


class _Number(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.mean()


class _Halve(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image / 2


class _Nothing(nn.Module):
    def forward(self, image: Tensor) -> Tensor | None:
        return None if image.shape[0] > 0 else image


REASONS = {
    "nothing": "returns None, no tensor",
    "count": "returns int values, no tensor",
    "labels": "returns a int64 tensor, no floating tensor",
    "number": "returns a float32 number, no floating tensor",
}


@pytest.mark.parametrize("kind", ["python", "torchscript"])
def test_what_is_no_floating_tensor_is_skipped_with_a_reason(kind: str, tmp_path: Path) -> None:
    """The same reason from both kinds, and the audit goes on."""
    source = _Reasons().eval()
    model = (
        wrap_module(source, "source", CPU)
        if kind == "python"
        else loaded(compiled(source, "scripted"), tmp_path)
    )
    found: list[Feature] = []
    model.run(noise(2, *IMAGE), found.append)
    assert {feature.name: feature.reason for feature in found} == REASONS
    assert all(feature.value is None for feature in found)


@dataclass
class _Answer:
    logits: Tensor
    masks: list[Tensor]


class _GivesDataclass(nn.Module):
    def forward(self, image: Tensor) -> _Answer:
        return _Answer(image.mean(dim=(2, 3)), [image, image + 1])


class _GivesLone(nn.Module):
    def forward(self, image: Tensor) -> dict[str, tuple[Tensor, int]]:
        return {"only": (image, 2)}


def test_outputs_are_named_by_their_place() -> None:
    """``output.logits`` and ``output.masks.1`` of a dataclass; a lone tensor is ``output``."""
    several = wrap_module(_GivesDataclass(), "several", CPU).run(noise(2, *IMAGE))
    assert [output.name for output in several] == ["output.logits", "output.masks.0", "output.masks.1"]
    (lone,) = wrap_module(_GivesLone(), "lone", CPU).run(noise(2, *IMAGE))
    assert (lone.name, lone.type) == ("output", "dict")


def test_a_model_that_raises_says_the_batch_and_the_cause_in_one_line(tmp_path: Path) -> None:
    """Both kinds; no hook is left behind."""
    source = made(UNet)
    for model in (wrap_module(source, "source", CPU), loaded(compiled(source, "scripted"), tmp_path)):
        with pytest.raises(ModelError, match=r"raises on a batch of 2x5x16x16: .*channels") as caught:
            model.run(noise(2, 5, 16, 16), lambda _feature: None)
        assert "\n" not in caught.value.message
    assert not any(module._forward_hooks for module in source.modules())


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
def test_a_torchscript_module_in_memory_is_read_as_a_file_is(how: str) -> None:
    """It takes no hooks, so a factory that returns one gets taps as a file does."""
    script = compiled(made(UNet), "traced" if how == "traced" else "scripted")
    model = wrap_module(torch.jit.freeze(script) if how == "frozen" else script, "source", CPU)
    names = [seen.name for seen in tapped(model, noise(2, *IMAGE))[0]]
    assert bool(names) == (how != "frozen")


def test_hooks_are_removed_after_a_run() -> None:
    """The user's module is as it was."""
    source = made(ResNet)
    wrap_module(source, "source", CPU).run(noise(2, *IMAGE), lambda _feature: None)
    assert not any(module._forward_hooks for module in source.modules())


def test_a_loaded_model_is_in_eval_mode(tmp_path: Path) -> None:
    """Dropout and batch statistics are off, though the file was saved in training mode."""
    source = made(ResNet)
    file = loaded(compiled(copy.deepcopy(source).train(), "scripted"), tmp_path)
    batch = noise(3, *IMAGE)
    expected = hooked(source, batch)
    assert_same(tapped(file, batch), expected)
    assert_same(tapped(wrap_module(copy.deepcopy(source).train(), "source", CPU), batch), expected)


def test_an_audit_in_process_puts_training_mode_back() -> None:
    """Of each module for itself; weights are untouched, no hook stays."""
    source = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2)))
    source.train()
    source[2].eval()
    modes = {name: module.training for name, module in source.named_modules()}
    weights = copy.deepcopy(source.state_dict())
    eqaudit.audit(source, noise(4, 1, 8, 8), group="C4")
    assert {name: module.training for name, module in source.named_modules()} == modes
    assert all(torch.equal(weights[name], value) for name, value in source.state_dict().items())
    assert not any(module._forward_hooks for module in source.modules())


# Frozen files --------------------------------------------------------------------------------------

FREEZABLE = [hard for hard in ZOO if str(hard) in {"Nested", "CalledTwice", "Tied", "Methods", "UNet"}]


@pytest.mark.parametrize("hard", FREEZABLE, ids=str)
def test_a_frozen_file_is_audited_by_its_output(hard: Hard, tmp_path: Path) -> None:
    """No taps and a note; the output of the file, bit by bit; parameters found among the constants."""
    source = made(hard.make)
    frozen = torch.jit.freeze(compiled(source, "scripted"))
    model = loaded(frozen, tmp_path)
    assert model.notes == ("frozen: no modules in the file, only operations (--taps operations)",)
    again = torch.jit.load(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    for batch in (noise(3, *IMAGE), -noise(3, *IMAGE), noise(2, *IMAGE)):
        seen, (output,) = tapped(model, batch)
        assert seen == []
        assert output is not None
        with torch.no_grad():
            assert torch.equal(output, again(batch.clone()))
    assert model.parameters == sum(weight.numel() for weight in source.parameters())
    ranks = [weight.ndim for weight in source.parameters()]
    assert model.first_channels == (3 if 4 in ranks else None)


@pytest.mark.parametrize("hard", FREEZABLE, ids=str)
def test_the_twin_of_a_frozen_file_is_float64_and_its_weights_can_be_changed(
    hard: Hard, tmp_path: Path
) -> None:
    """As the source module made double; each constant counts, and the model itself stays as it is."""
    source = made(hard.make)
    model = loaded(torch.jit.freeze(compiled(source, "scripted")), tmp_path)
    batch = noise(3, *IMAGE)
    before, twin = tapped(model, batch), model.twin()
    expected = hooked(copy.deepcopy(source).double(), batch.double())[1]
    for _ in range(3):
        assert_same(tapped(twin, batch.double()), ([], expected), FLOAT64_TOLERANCE)
    last = expected[0]
    for weight in twin.runner.weights():
        with torch.no_grad():
            weight.add_(0.01)
        (changed,) = tapped(twin, batch.double())[1]
        assert changed is not None
        assert last is not None
        assert not torch.equal(changed, last)
        last = changed
    assert_same(tapped(model, batch), before)


def test_the_twin_of_a_frozen_float64_file_has_its_own_weights(tmp_path: Path) -> None:
    """Constants that are float64 already are copied too."""
    model = loaded(torch.jit.freeze(torch.jit.script(made(UNet).double())), tmp_path)
    batch = noise(2, *IMAGE).double()
    before = tapped(model, batch)
    for weight in model.twin().runner.weights():
        weight.zero_()
    assert_same(tapped(model, batch), before)


def test_a_frozen_file_that_keeps_some_parameters_counts_all_of_them(tmp_path: Path) -> None:
    """Freezing folds normalisation into convolutions: a little less than the source, never a part."""
    source = made(ResNet)
    model = loaded(torch.jit.freeze(compiled(source, "traced")), tmp_path)
    convolutions = sum(weight.numel() for weight in source.parameters() if weight.ndim > 1)
    assert convolutions < model.parameters <= sum(weight.numel() for weight in source.parameters())
    batch = noise(2, *IMAGE).double()
    (twin,), (double,) = tapped(model.twin(), batch)[1], hooked(source.double(), batch)[1]
    assert twin is not None
    assert twin.dtype == torch.float64
    torch.testing.assert_close(twin, double, rtol=1e-5, atol=1e-5)  # folded in float32


def test_attention_keeps_parameters_when_frozen_and_still_counts_as_frozen(tmp_path: Path) -> None:
    """`freeze` leaves the module of a call that it cannot inline."""
    hard = next(hard for hard in ZOO if str(hard) == "Attention")
    source = made(hard.make)
    with torch.no_grad():
        for weight in source.parameters():
            weight.normal_()  # equal constants would become one
    model = loaded(torch.jit.freeze(compiled(source, "scripted")), tmp_path)
    assert model.notes == ("frozen: no modules in the file, only operations (--taps operations)",)
    assert model.parameters == sum(weight.numel() for weight in source.parameters())


def test_a_file_optimised_for_inference_is_loaded_or_refused_in_one_line(tmp_path: Path) -> None:
    """The prepacked constants of a convolution are written by torch and cannot be read by it."""
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    plain = loaded(torch.jit.optimize_for_inference(compiled(mlp, "scripted")), tmp_path)
    assert plain.notes == ("frozen: no modules in the file, only operations (--taps operations)",)
    assert plain.run(noise(2, *IMAGE))[0].value is not None
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        loaded(torch.jit.optimize_for_inference(compiled(made(UNet), "scripted")), tmp_path)
    assert "\n" not in caught.value.message


# Graphs --------------------------------------------------------------------------------------------


class _Rows(nn.Module):
    """A recurrent network: tracing writes the type of its initial state into the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(48, 8, batch_first=True)

    def forward(self, image: Tensor) -> Tensor:
        states, _ = self.gru(image.permute(0, 2, 1, 3).flatten(2))
        place = torch.arange(8, dtype=torch.float32) + torch.full_like(states, 0.5)
        out: Tensor = states * place
        return out


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_the_twin_creates_float64_where_float32_was_written_down(how: How, tmp_path: Path) -> None:
    """Initial states, ranges and filled tensors follow the twin's precision."""
    source = made(_Rows)
    twin = loaded(compiled(source, how), tmp_path).twin()
    batch = noise(3, *IMAGE).double()
    with torch.no_grad():
        states, _ = copy.deepcopy(source).double().get_submodule("gru")(batch.permute(0, 2, 1, 3).flatten(2))
    (output,) = tapped(twin, batch)[1]
    assert output is not None
    assert output.dtype == torch.float64
    torch.testing.assert_close(output, states * (torch.arange(8) + 0.5), rtol=1e-12, atol=1e-12)


class _CastsBack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.conv(image)
        return out.to(torch.float32).relu()


@pytest.mark.parametrize("how", ["scripted", "traced", "python"])
def test_a_cast_of_the_models_own_stays_in_the_twin(how: str, tmp_path: Path) -> None:
    """So that the report can say that the tensor is not float64."""
    source = made(_CastsBack)
    model = (
        loaded(compiled(source, "scripted" if how == "scripted" else "traced"), tmp_path)
        if how != "python"
        else wrap_module(source, "source", CPU)
    )
    (seen,), (output,) = tapped(model.twin(), noise(2, *IMAGE).double())
    assert seen.value is not None
    assert output is not None
    assert (seen.value.dtype, output.dtype) == (torch.float64, torch.float32)


@torch.jit.interface
class _Stage(nn.Module):
    def forward(self, image: Tensor) -> Tensor:  # type: ignore[empty-body]
        pass


class _ChosenAtRunTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_Number(), _Halve()])
        self.first = nn.Sigmoid()

    def forward(self, image: Tensor) -> Tensor:
        stage: _Stage = self.stages[int(image.shape[0]) % 2]  # type: ignore[assignment]
        out: Tensor = self.first(stage.forward(image))
        return out


def test_layers_that_are_chosen_at_run_time_are_named_as_unseen(tmp_path: Path) -> None:
    """The file does not say which module such a call is for: a note, and the other layers."""
    model = loaded(compiled(_ChosenAtRunTime().eval(), "scripted"), tmp_path)
    assert model.notes == ("layers that are chosen at run time cannot be seen: 1 calls",)
    seen, (output,) = tapped(model, noise(3, *IMAGE))
    assert [feature.name for feature in seen] == ["first"]
    assert output is not None
    assert torch.equal(output, (noise(3, *IMAGE) / 2).sigmoid())


def test_a_model_without_modules_says_so(tmp_path: Path) -> None:
    """It is no frozen file."""
    model = loaded(compiled(_Labels().eval(), "scripted"), tmp_path)
    assert model.notes == ("the model calls no modules, only operations (--taps operations)",)
    assert (model.parameters, model.first_channels) == (0, None)


def test_too_many_calls_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is spliced together only up to a limit."""
    monkeypatch.setattr(torchscript, "MAX_CALLS", 3)
    with pytest.raises(ModelError, match="more than 3 module calls"):
        loaded(compiled(made(UNet), "scripted"), tmp_path)


def _write(image: Tensor) -> Tensor:
    torch.save(image, "written")
    return image


class _Saves(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        torch.save(image, "written")
        return image


class _SavesInFunction(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return _write(image)


class _SavesInFork(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        future = torch.jit.fork(_write, image)  # type: ignore[no-untyped-call]
        waited: Tensor = torch.jit.wait(future)  # type: ignore[no-untyped-call]
        return waited


class _SavesBehindInterface(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([_Saves(), _Halve()])

    def forward(self, image: Tensor) -> Tensor:
        stage: _Stage = self.stages[int(image.shape[0]) - 1]  # type: ignore[assignment]
        return stage.forward(image)


class _SavesWhenLoaded(nn.Module):
    @torch.jit.export
    def __getstate__(self) -> tuple[bool]:
        return (self.training,)

    @torch.jit.export
    def __setstate__(self, state: tuple[bool]) -> None:
        self.training = state[0]
        _write(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return image


class _Reads(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image + torch.from_file("model.pt", size=3).sum()


@pytest.mark.parametrize(
    ("module", "operator"),
    [
        (_Saves, "aten::save"),
        (_SavesInFunction, "aten::save"),
        (_SavesInFork, "aten::save"),
        (_SavesBehindInterface, "aten::save"),
        (_SavesWhenLoaded, "aten::save"),
        (_Reads, "aten::from_file"),
    ],
)
def test_a_file_whose_code_touches_files_is_refused_before_any_of_it_runs(
    module: type[nn.Module], operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the operator stands: forward, a helper, a fork, behind an interface, in __setstate__."""
    monkeypatch.chdir(tmp_path)
    script = compiled(module().eval(), "scripted")
    with pytest.raises(ModelError, match=rf"reads or writes files \({operator}\): refused"):
        loaded(script, tmp_path)
    assert not (tmp_path / "written").exists()


class _HasAttributesOfThatName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.save, self.child = [1, 2], nn.Conv2d(3, 2, 3)

    def from_file(self, image: Tensor) -> Tensor:
        return image * len(self.save)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.child(self.from_file(image))
        return out


class _Prints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        print("images", image.shape)
        out: Tensor = self.conv(image)
        return out


@pytest.mark.parametrize("module", [_HasAttributesOfThatName, _Prints])
def test_a_harmless_file_is_loaded(module: type[nn.Module], tmp_path: Path) -> None:
    """An attribute called save, and a model that prints."""
    source = made(module)
    model = loaded(compiled(source, "scripted"), tmp_path)
    assert_same(tapped(model, noise(2, *IMAGE)), hooked(source, noise(2, *IMAGE)))


# Python specs --------------------------------------------------------------------------------------

SOURCE = """
import sys
from torch import nn

def make(width=2, name="net", flag=False):
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())
    model.name, model.flag = name, flag
    return model

class Net(nn.Conv2d):
    def __init__(self, width=4):
        super().__init__(3, width, 3)

class Registry:
    class inner:
        make = staticmethod(make)
        ready = make(7)

instance = make(5)
number = 3

def raises():
    raise ValueError("no weights\\nsecond line")

def leaves():
    sys.exit(0)

def gives_text():
    return "model"
"""


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    """Write a file of models as a user would."""
    path = tmp_path / "user_models.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("attribute", "arguments", "width"),
    [
        ("make", [], 2),
        ("make", ["width=6", "name='a=b'", "flag=True"], 6),
        ("Net", [], 4),
        ("Net", ["width=3"], 3),
        ("instance", [], 5),
        ("Registry.inner.make", ["width=1"], 1),
        ("Registry.inner.ready", [], 7),
    ],
)
def test_a_python_spec_names_a_factory_a_class_or_an_instance(
    source_file: Path, attribute: str, arguments: list[str], width: int
) -> None:
    """Nested attributes too; values of --arg are read as Python literals."""
    model = load_model(parse_model(f"{source_file}:{attribute}", arguments), CPU)
    assert (model.kind, model.sha256, model.first_channels) == ("python", None, 3)
    assert model.spec == f"{source_file}:{attribute}"
    assert model.parameters == 28 * width
    (output,) = model.run(noise(2, *IMAGE))
    assert output.value is not None
    assert output.value.shape == (2, width, 14, 14)


@pytest.mark.parametrize(
    ("attribute", "arguments", "said", "hint"),
    [
        ("absent", [], "has no absent", "after the colon"),
        ("Registry.absent", [], "has no Registry.absent", "after the colon"),
        ("number", [], "is int, no factory and no module", "returns the model"),
        ("instance", ["width=2"], "is a module already: it takes no --arg", "leave --arg out"),
        ("raises", [], "ValueError: no weights", "run that code by itself"),
        ("leaves", [], "SystemExit: 0", "run that code by itself"),
        ("gives_text", [], "returns str, expected a torch.nn.Module", "return the model"),
        ("make", ["depth=2"], "unexpected keyword argument 'depth'", "run that code by itself"),
        ("make", ["width='wide'"], "TypeError", "run that code by itself"),
    ],
)
def test_a_bad_python_spec_has_its_own_message(
    source_file: Path, attribute: str, arguments: list[str], said: str, hint: str
) -> None:
    """What is wrong and what to do, in one line each, naming the spec."""
    with pytest.raises(ModelError) as caught:
        load_model(parse_model(f"{source_file}:{attribute}", arguments), CPU)
    assert said in caught.value.message
    assert str(source_file) in caught.value.message
    assert hint in str(caught.value.hint)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "SyntaxError"),
        (
            "import no_such_package_of_mine\n",
            "ModuleNotFoundError: No module named 'no_such_package_of_mine'",
        ),
        ("raise RuntimeError('at import')\n", "RuntimeError: at import"),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye"),
    ],
)
def test_a_source_file_that_cannot_be_imported_says_why(tmp_path: Path, text: str, said: str) -> None:
    """Without a traceback, and an exit is no exit of ours."""
    path = tmp_path / "broken.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        load_model(PythonObject(str(path), "make", is_file=True), CPU)


def test_a_dotted_spec_is_imported_from_the_installation() -> None:
    """And a module that is not installed is named."""
    model = load_model(
        parse_model("torch.nn:Conv2d", ["in_channels=3", "out_channels=2", "kernel_size=1"]), CPU
    )
    assert model.parameters == 8
    with pytest.raises(ModelError, match="No module named 'no_such_package_of_mine'"):
        load_model(parse_model("no_such_package_of_mine.models:make", []), CPU)


def test_the_insert_point_of_a_rewritten_graph_is_its_end(tmp_path: Path) -> None:
    """Left at a node that was destroyed, it ended the process in one audit of nine, in a later pass."""
    for model in (loaded(compiled(made(ResNet), how), tmp_path) for how in ("scripted", "traced")):
        for runner in (model.runner, model.twin().runner):
            assert isinstance(runner, torchscript.TorchScriptRunner)
            assert runner.graph.insertPoint().kind() == "prim::Return"


# What a call does beside returning a value ---------------------------------------------------------


class _OverwritesSometimes(nn.Module):
    """Overwrites its input only where a pixel is brighter than 1; past the counter of versions."""

    def forward(self, image: Tensor) -> Tensor:
        if image.max() > 1:
            image.numpy()[..., 0] = 0
        return image.mean((2, 3))


class _Draws(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        torch.rand(1)
        return image.mean((2, 3))


def test_a_rare_change_of_the_input_is_seen() -> None:
    """At the one call where it happens, also through another view of the memory; NaN is no change."""
    model = wrap_module(_OverwritesSometimes(), "source", CPU)
    image = torch.full((2, *IMAGE), float("nan"))
    model.run(torch.zeros(2, *IMAGE))
    model.run(image)
    assert model.conduct == Conduct()
    model.run(image.nan_to_num(2.0))
    model.run(image)
    assert model.conduct == Conduct(changes_input=True)


@pytest.mark.parametrize("of", ["model", "twin", "cast"])
def test_a_change_of_the_random_state_is_seen(of: str) -> None:
    """In copies of the model too."""
    model = wrap_module(_Draws(), "source", CPU)
    copies = {"model": model, "twin": model.twin(), "cast": model.cast(torch.bfloat16)}
    copies[of].run(noise(2, *IMAGE))
    assert model.conduct == Conduct(changes_random_state=True)
