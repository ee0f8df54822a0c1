"""`--dtype` and `--tf32`: the model runs in another precision; its stored weights tell what is exact."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eqaudit.cli.flags import RunFlags
from eqaudit.data import array_images
from eqaudit.engine import audit
from eqaudit.engine.precision import convert, is_coarse, set_tf32
from eqaudit.errors import ExitCode, ModelError, UsageError
from eqaudit.loader import AuditModel, load_model, wrap_module
from eqaudit.metrics import Measured, Rerun, classify, doubtful
from eqaudit.parsing import parse_model
from eqaudit.plan import AuditPlan, FileModel, InputOptions, Precision, RunOptions
from eqaudit.report import Report
from eqaudit.verdict import conclude

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
CPU = torch.device("cpu")
SHAPE = (3, 33, 33)
DTYPES: tuple[Precision, ...] = ("float64", "float32", "bfloat16", "float16")


class WithoutKernel(nn.Module):
    """A convolution, then an operation that has no half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Add the singular values of each channel."""
        features: torch.Tensor = self.conv(image)
        values: torch.Tensor = torch.linalg.svdvals(features)
        return features.mean((2, 3)) + values.sum(2)


class Rounds(nn.Module):
    """Turns its image by a weight too small for half precision to see, and is exact without it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1e-3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image with its upper half brighter."""
        height = torch.linspace(1, 0, image.shape[2], dtype=image.dtype)[:, None]
        brighter: torch.Tensor = image * (1 + self.weight * height)
        return brighter


def measured(model: AuditModel, dtype: Precision | None) -> Report:
    """Audit a model on noise under C4, layers too."""
    noise = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(5)).numpy()
    inputs = InputOptions(batch_size=4)
    plan = AuditPlan(FileModel("m"), inputs, RunOptions(dtype=dtype), "C4")
    return audit(model, array_images(noise, inputs), plan, lambda *_: None).report


@pytest.fixture(scope="module", params=["exact_c4.pt", "exact_c4.py:exact_c4"])
def exact(request: pytest.FixtureRequest) -> AuditModel:
    """Return an exact network, as a file and as code."""
    return load_model(parse_model(str(FIXTURES / request.param), []), CPU)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_exact_network_is_exact_in_every_precision(dtype: Precision, exact: AuditModel) -> None:
    """Its error grows with the rounding, its class does not: the stored weights are rerun in float64."""
    report = measured(exact, dtype)
    errors = [error for layer in (*report.layers, *report.outputs) for error in layer.errors]
    worst = max(error.error or 0.0 for error in errors)
    assert {error.class_ for error in errors} == {"exact"}
    assert report.tool.dtype == dtype
    low, high = {"float64": (0, 1e-12), "float32": (1e-9, 1e-5)}.get(dtype, (1e-7, 1e-2))
    assert low <= worst <= high
    if dtype in {"bfloat16", "float16"}:
        assert max(error.float64_error or 0.0 for error in errors) < 1e-12
        assert report.float64_images


def test_a_plain_network_fails_by_the_same_amount_in_every_precision() -> None:
    """What is broken stays broken, with an error that half precision changes little."""
    model = load_model(FileModel(str(FIXTURES / "standard_cnn.pt")), CPU)
    errors = [measured(model, dtype).outputs[0].errors for dtype in DTYPES]
    for same in zip(*errors, strict=True):
        assert len({error.class_ for error in same}) == 1
        assert same[0].class_ != "exact"
        assert [error.error for error in same] == pytest.approx([same[0].error] * 4, rel=0.1)


class Added(nn.Module):
    """A convolution with the four turns of its kernels, added up one after the other: exactly C4."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(3)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Add in an order that a turned image changes."""
        turned = [torch.rot90(self.weight, k, [2, 3]) for k in range(4)]
        total = torch.relu(torch.conv2d(image, turned[0], padding=1))
        for weight in turned[1:]:
            total = total + torch.relu(torch.conv2d(image, weight, padding=1))
        return total


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_in_another_order_err_by_the_rounding_of_the_precision(dtype: Precision) -> None:
    """Where the roundings do not turn with the image it errs by 1e-3 to 1e-2 in bfloat16, and is exact."""
    report = measured(wrap_module(Added(), "added", CPU), dtype)
    errors = [error.error or 0.0 for error in report.outputs[0].errors]
    low, high = {"bfloat16": (1e-3, 1e-2), "float16": (1e-4, 1e-3)}[dtype]
    assert low < min(errors) <= max(errors) < high
    assert {error.class_ for error in report.outputs[0].errors} == {"exact"}
    assert max(error.float64_error or 0.0 for error in report.outputs[0].errors) < 1e-12
    sentence = conclude(report).sentence
    assert sentence.startswith("C4 exactly (")
    assert sentence.endswith(f" in {dtype}).")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_a_model_that_is_stored_in_a_precision_runs_in_it(dtype: Precision) -> None:
    """It gets images in its own precision, which the report names; mixed weights decide nothing."""
    module = Added().to(getattr(torch, dtype))
    report = measured(wrap_module(module, "added", CPU), None)
    assert report.tool.dtype == dtype
    assert {error.class_ for error in report.outputs[0].errors} == {"exact"}
    assert measured(wrap_module(module, "added", CPU), "float32").tool.dtype == "float32"
    mixed = nn.Conv2d(3, 2, 3)
    mixed.unused = nn.Parameter(torch.ones(1, dtype=getattr(torch, dtype)))
    inputs = InputOptions(input_shape=SHAPE)
    assert convert(wrap_module(mixed, "m", CPU), None, inputs, RunOptions())[0].dtype is None


def test_half_precision_does_not_hide_an_error() -> None:
    """An error that bfloat16 rounds to none is no exactness: the rerun of the stored weights sees it."""
    report = measured(wrap_module(Rounds(), "rounds", CPU), "bfloat16")
    (output,) = report.outputs
    assert max(error.float64_error or 0.0 for error in output.errors) > 1e-5
    assert "exact" not in {error.class_ for error in output.errors}


def test_the_rerun_judges_below_float32() -> None:
    """In coarse precision an error of 0 is doubtful, and exact only if the rerun says so or there is none."""
    none, small = Measured(0.0, 1.0), Measured(1e-4, 1.0)
    assert doubtful(none, coarse=True)
    assert not doubtful(none)
    assert classify(none, Rerun(small, 0.0), coarse=True) == "approximate"
    assert classify(none, Rerun(none, 0.0), coarse=True) == "exact"
    assert classify(none, None, coarse=True) == "exact"
    assert classify(none, Rerun(small, 0.0)) == "exact"


@pytest.mark.parametrize("name", ["exact_c4", "lenet5", "two_outputs", "unet_p4"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_files_and_code_run_alike_in_another_precision(name: str, dtype: str) -> None:
    """The graph of a file is converted whole: its output is that of the converted module, bit for bit."""
    model = load_model(FileModel(str(FIXTURES / f"{name}.pt")), CPU)
    channels = model.first_channels or 3
    side = {"lenet5": 28, "exact_c4": 33}.get(name, 32)
    batch = torch.rand(2, channels, side, side)
    module = torch.jit.load(FIXTURES / f"{name}.pt")  # type: ignore[no-untyped-call]
    kind = getattr(torch, dtype)
    wanted = module.eval().to(kind)(batch.to(kind))
    first = next(iter(wanted.values())) if isinstance(wanted, dict) else wanted
    found = model.cast(kind).run(batch)[0].value
    assert found is not None
    assert found.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert torch.equal(found, first.to(found.dtype))


def test_the_stored_weights_survive(exact: AuditModel) -> None:
    """A model in bfloat16 has a twin of its stored weights, and becomes float32 again without loss."""
    half = exact.cast(torch.bfloat16)
    assert (half.parameters, half.sha256) == (exact.parameters, exact.sha256)
    wanted = exact.runner.tensors()
    for model in (half.twin(), half.cast(torch.float32)):
        found = model.runner.tensors()
        assert all(torch.equal(found[name].to(tensor.dtype), tensor) for name, tensor in wanted.items())


def test_an_operation_without_a_kernel_is_named() -> None:
    """It is no refused shape: the message names the precision, the layer before, and the way out."""
    model = wrap_module(WithoutKernel(), "net", CPU)
    with pytest.raises(ModelError) as raised:
        convert(model, None, InputOptions(), RunOptions(dtype="bfloat16"))
    assert "does not run in bfloat16 on cpu, after layer conv" in raised.value.message
    assert "--dtype float32" in raised.value.hint
    found, choice = convert(model, None, InputOptions(), RunOptions(dtype="float64"))
    assert (found.dtype, choice.shape) == (torch.float64, (3, 224, 224))


def test_tf32_is_set_and_asked_for_on_a_device_only() -> None:
    """Without --tf32 a GPU computes in float32, also in convolutions; a CPU has none."""
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    model = dataclasses.replace(wrap_module(nn.Identity(), "m", CPU), device=torch.device("cuda"))
    try:
        for tf32 in (True, False):
            set_tf32(RunOptions("cuda", tf32=tf32))
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
            assert is_coarse(model) == tf32
            assert not is_coarse(dataclasses.replace(model, dtype=torch.float64))
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed
    with pytest.raises(UsageError, match="--tf32 goes with a CUDA device"):
        RunFlags(tf32=True).parse()
    assert RunFlags(device="cuda:0", tf32=True).parse().tf32


def test_the_command_says_the_precision(eqaudit: Callable[..., Any], tmp_path: Path) -> None:
    """The report and the table name what the model ran in; a typing error is refused."""
    options = ("--dtype", "bfloat16", "--input-shape", "3,33,33", "--samples", "8", "--group", "C4")
    ended = eqaudit("check", str(FIXTURES / "exact_c4.pt"), *options, "--json", "r.json", cwd=tmp_path)
    assert ended.returncode == ExitCode.PASSED
    assert "bfloat16, cpu" in ended.stdout.decode()
    assert "PASSED  C4" in ended.stdout.decode()
    assert "the errors are the model's" not in ended.stdout.decode()
    assert json.loads((tmp_path / "r.json").read_text())["tool"]["dtype"] == "bfloat16"
    assert eqaudit("check", "m.pt", "--dtype", "int8", cwd=tmp_path).returncode == ExitCode.USAGE
