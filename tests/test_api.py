"""`eqaudit.audit`: the same options as the command, in the caller's process, on the caller's modules."""

import copy
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eqaudit
from eqaudit.errors import EqauditError, ModelError, UsageError
from eqaudit.plan import SpaceOptions
from eqaudit.report import Report

SOURCE = """
import torch
from torch import nn

torch.manual_seed(1)
net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
"""
NOISE = np.random.default_rng(4).random((8, 3, 12, 12), dtype=np.float32)


def network(seed: int) -> nn.Sequential:
    """Make the network of the source, of which seed 1 gives the weights there."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def isotropic() -> nn.Sequential:
    """Make a network of that kind that is exact: its filters look the same turned."""
    net = network(2)
    with torch.no_grad():
        weight = net.state_dict()["0.weight"]
        turned = [torch.rot90(weight, k, (2, 3)) for k in range(4)]
        # In this order the sum is the same to the last bit when the filter turns.
        weight.copy_(((turned[0] + turned[2]) + (turned[1] + turned[3])) / 4)
    return net


def audit(model: nn.Module | str, **options: Any) -> Report:
    """Audit under C4, on noise."""
    return eqaudit.audit(model, NOISE, group="C4", **options)


def holds(report: Report) -> str:
    """Return the largest group that holds."""
    assert report.verdict is not None
    return report.verdict.holds


def worst(report: Report) -> float:
    """Return the largest error of the output."""
    return max(error.error or 0.0 for error in report.outputs[0].errors)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file of the weights of the exact network."""
    path = tmp_path / "best.pth"
    torch.save({"model": isotropic().state_dict()}, path)
    return path


@pytest.fixture
def unchanged() -> Callable[[nn.Module], Callable[[], bool]]:
    """Return a function that remembers a module and gives one that tells whether it is still the same."""

    def remember(module: nn.Module) -> Callable[[], bool]:
        state = copy.deepcopy(module.state_dict())
        modes = [part.training for part in module.modules()]

        def same() -> bool:
            now = module.state_dict()
            return modes == [part.training for part in module.modules()] and all(
                now[name].dtype == tensor.dtype and torch.equal(now[name], tensor)
                for name, tensor in state.items()
            )

        return same

    return remember


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_weights_go_onto_a_copy_of_the_module(
    script: bool, training: bool, weights: Path, unchanged: Callable[[nn.Module], Callable[[], bool]]
) -> None:
    """A module is audited with the weights of the file, and keeps its own."""
    module: nn.Module = torch.jit.script(network(1)) if script else network(1)
    same = unchanged(module.train(training))
    loaded = audit(module, weights=weights)
    assert (holds(loaded), loaded.model.spec) == ("C4", type(module).__name__)
    assert loaded.model.weights_sha256
    assert "weights: 9 tensors of best.pth, key 'model'" in loaded.warnings
    assert same()
    assert holds(audit(module)) == "C1"


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", torch.float16, torch.float32])
def test_another_precision_leaves_the_module_as_it_is(
    dtype: str | torch.dtype, unchanged: Callable[[nn.Module], Callable[[], bool]]
) -> None:
    """The report names the precision that a copy of the module ran in."""
    module = isotropic()
    same = unchanged(module)
    report = audit(module, dtype=dtype)
    assert (report.tool.dtype, holds(report)) == (str(dtype).removeprefix("torch."), "C4")
    assert worst(report) < {"float64": 1e-12, torch.float32: 1e-6}.get(dtype, 1e-2)
    assert same()


def test_an_instance_in_a_file_keeps_its_weights_and_its_mode(tmp_path: Path, weights: Path) -> None:
    """Audits in one process do not see the weights of each other."""
    (tmp_path / "held.py").write_text(SOURCE)
    spec = f"{tmp_path / 'held.py'}:net"
    first = audit(spec)
    assert holds(audit(spec, weights=weights, dtype="float64")) == "C4"
    assert audit(spec).outputs == first.outputs
    half = {"0.bias": torch.zeros(4)}
    torch.save(half, weights)
    with pytest.raises(ModelError, match="7 missing"):
        audit(spec, weights=weights)
    part = audit(spec, weights=weights, strict_weights=False)
    assert any("--no-strict-weights" in warning for warning in part.warnings)
    assert audit(spec).outputs == first.outputs


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_a_module_that_keeps_computed_weights_is_copied(weights: Path) -> None:
    """`weight_norm` keeps a tensor that torch refuses to copy; the float64 rerun and weights need a copy."""
    module = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 2, 3)))
    assert not any("float64" in warning for warning in audit(module).warnings)
    torch.save({name: torch.ones_like(tensor) for name, tensor in module.state_dict().items()}, weights)
    assert holds(audit(module, weights=weights)) == "C4"
    assert holds(audit(module)) == "C1"


def test_what_cannot_be_done_is_said(weights: Path) -> None:
    """A module that cannot be copied, a file as MODEL and a precision that is none are refused."""
    module = network(1)
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ModelError, match="Sequential cannot be copied: TypeError") as raised:
        audit(module, weights=weights)
    assert "function that makes the model" in raised.value.hint
    with pytest.raises(UsageError, match="goes with a Python factory"):
        audit(str(weights), weights=weights)
    with pytest.raises(UsageError, match="no precision 'int8'") as usage:
        audit(module, dtype=torch.int8)
    assert "bfloat16" in usage.value.hint


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "taps": ({"taps": "all"}, "taps: .*'all'"),
    "boundary": ({"space": SpaceOptions(boundary="wrap")}, "space.boundary: .*'wrap'"),  # type: ignore[arg-type]
    "task": ({"task": "segmentation"}, "task: .*`str`"),
    "device": ({"device": "gpu"}, "device 'gpu' is no device"),
    "batch size": ({"batch_size": "16"}, "inputs.batch_size: .*`str`"),
    "layers": ({"layers": ("conv", 1)}, "layers.*`int`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_values_of_another_type_are_refused(name: str) -> None:
    """What the command line cannot say is one clear error in Python too, never a default in silence."""
    options, said = WRONG[name]
    with pytest.raises(UsageError, match=said):
        eqaudit.audit(nn.Conv2d(3, 2, 3), torch.rand(2, 3, 8, 8), **options)


def test_numbers_of_numpy_are_numbers() -> None:
    """Counts that come out of an array are taken."""
    report = eqaudit.audit(nn.Conv2d(3, 2, 3), torch.rand(4, 3, 8, 8), samples=np.int64(2))
    assert report.inputs.samples == 2


def test_infinite_features_are_no_warning() -> None:
    """Values that are not finite are left out of how channels turn, before anything is made of them."""

    class Infinite(nn.Module):
        """Divides some values by zero."""

        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Conv2d(3, 2, 3)
            self.divided = nn.Identity()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            """Return `(B, 2, H - 2, W - 2)`."""
            maps: torch.Tensor = self.maps(image)
            divided: torch.Tensor = self.divided(maps / (maps > 0))
            return divided

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = eqaudit.audit(Infinite(), torch.rand(4, 3, 8, 8))
    assert report.outputs[0].errors[0].nonfinite


def test_modules_are_compared_by_names_and_stay_as_they_are(
    unchanged: Callable[[nn.Module], Callable[[], bool]], weights: Path
) -> None:
    """One audit of each on the same images, with its weights, and the differences between every two."""
    models = {"free": network(1).train(), "exact": isotropic().train(), "loaded": network(3)}
    same = [unchanged(model) for model in models.values()]
    found = eqaudit.compare(models, NOISE, group="C4", weights=[None, None, weights])
    assert [(report.model.spec, holds(report)) for report in found.reports] == [
        ("free", "C1"),
        ("exact", "C4"),
        ("loaded", "C4"),
    ]
    alone = audit(isotropic())
    assert found.reports[1].outputs == alone.outputs
    errors = [part for part in found.differences if part.quantity == "error, moved"]
    assert [(part.first, part.second) for part in errors] == [(0, 1), (0, 2), (1, 2)]
    assert [time.batch for time in found.timing] == [8, 8, 8]
    assert all(check() for check in same)


def test_files_are_compared_with_modules() -> None:
    """The first says which images all get."""
    folder = Path(__file__).parents[1] / "fixtures" / "models"
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = eqaudit.compare([folder / "standard_cnn.pt", pooled], samples=4, layers=("none",))
    assert [report.model.spec for report in found.reports] == [str(folder / "standard_cnn.pt"), "Sequential"]
    assert found.reports[1].inputs.shape_reason == "as for model A"
    assert [holds(report) for report in found.reports] == ["C1", "D4"]


def test_what_cannot_be_compared_is_said(weights: Path) -> None:
    """One model, weights of too few, limits, and a model that does not take what the first does."""
    one = network(1)
    for models, options, said in (
        ([one], {}, "2 to 8 models, not 1"),
        ([one, one], {"weights": [weights]}, "1 weights and 2 models"),
        ([one, one], {"limits": ("output.error < 1",), "max_error": 0.1}, "takes no limits, max_error"),
    ):
        with pytest.raises(UsageError, match=said):
            eqaudit.compare(models, NOISE, **options)
    with pytest.raises(EqauditError, match=r"model B \(grey\), given images as model A takes them: "):
        eqaudit.compare({"colour": one, "grey": nn.Conv2d(1, 2, 3)}, NOISE)
