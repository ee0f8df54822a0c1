"""One network in every form that a model is given in: the same layers and errors, in every precision."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models_zoo import compiled, noise
from test_exported import export

import eqaudit
from eqaudit.loader.eager import make_module
from eqaudit.plan import Precision, PythonObject
from eqaudit.report import Report

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
FORMS = ("code and weights", "scripted", "traced", "any batch", "batch of 4")
NETWORKS = ("exact_c4", "standard_cnn")
COUNT, SHAPE = 6, (3, 32, 32)
# Each form runs the same sums, in an order of its own.
TOLERANCE = 1e-5
LARGEST: dict[Precision, float] = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2}
"""The error of an exact network in each precision: its own rounding."""
IMAGES = noise(COUNT, *SHAPE).abs()


@pytest.fixture(scope="module", params=NETWORKS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return one network, of other weights than its code makes, as every form: arguments of `audit`."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    module = make_module(PythonObject(str(FIXTURES / f"{name}.py"), name, is_file=True))
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(1 + 0.5 * noise(*weight.shape))
    torch.save({"model": module.state_dict(), "epoch": 7}, folder / "best.pth")
    for how in ("scripted", "traced"):
        torch.jit.save(compiled(module, how, SHAPE), folder / f"{how}.pt")
    (folder / "any batch.pt2").write_bytes(export(module, IMAGES, dynamic=True))
    (folder / "batch of 4.pt2").write_bytes(export(module, IMAGES[:4]))
    found: dict[str, Any] = {path.stem: {"model": path} for path in folder.iterdir()}
    code = f"{FIXTURES / name}.py:{name}"
    found["code and weights"] = {"model": code, "weights": found.pop("best")["model"]}
    return {"module": {"model": module}, "code": {"model": code}, **found}


def audit(form: dict[str, Any], dtype: Precision = "float32") -> Report:
    """Audit one form."""
    return eqaudit.audit(data=IMAGES, group="C4", batch_size=COUNT, dtype=dtype, **form)


def errors(report: Report) -> dict[tuple[str, int, str], float]:
    """Return the error of each call of each layer and of the output at each element."""
    places = (*report.layers, *report.outputs)
    return {
        (place.name, place.call, error.element): error.error
        for place in places
        for error in place.errors
        if error.error is not None
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_layers_and_errors(form: str, files: dict[str, Any]) -> None:
    """Names, calls and errors are those of the module in memory."""
    wanted, found = errors(audit(files["module"])), errors(audit(files[form]))
    assert len(wanted) > len(("r90", "r180", "r270"))
    assert list(found) == list(wanted)
    assert found == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.parametrize("files", ["standard_cnn"], indirect=True)
def test_other_weights_have_other_errors(files: dict[str, Any]) -> None:
    """The comparison above can fail: the code without the weights differs."""
    bare, wanted = errors(audit(files["code"])), errors(audit(files["module"]))
    assert list(bare) == list(wanted)
    assert max(abs(bare[place] - wanted[place]) for place in wanted) > 1000 * TOLERANCE


@pytest.mark.parametrize("files", ["exact_c4"], indirect=True)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_runs_in_every_precision(form: str, files: dict[str, Any]) -> None:
    """The report names it; an exact network errs by its rounding and stays exact."""
    for dtype, most in LARGEST.items():
        report = audit(files[form], dtype)
        assert report.tool.dtype == dtype
        assert {error.class_ for place in report.layers for error in place.errors} == {"exact"}
        assert max(errors(report).values()) < most
