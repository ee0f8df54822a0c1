"""The baseline: what is worse, what is noise, and what cannot be compared at all."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from reports import make_error, make_layer, make_report, make_spread, make_sweep
from torch import nn

import eqaudit
from eqaudit import cli
from eqaudit.baseline import Baseline, compare, judge_changes
from eqaudit.cli.files import write_report
from eqaudit.cli.saved import read_whole_report
from eqaudit.errors import DataError, ExitCode
from eqaudit.gate import Limits, judge
from eqaudit.report import Change, Class, GateCheck, PerImage, Report, from_json, to_json

FIXTURES = Path(__file__).parents[1] / "fixtures" / "models"
IMAGES = 64
RUNS = 6
"""Of 100 each, 100 passed."""


class Blend(nn.Module):
    """A mean over all pixels, which is invariant, and a share of one over the upper rows, which is not."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return 8 numbers for each image."""
        features = self.mix(x).relu()
        mixed: torch.Tensor = features.mean((2, 3)) + self.share * features[:, :, :4].mean((2, 3))
        return mixed


def _audit(share: float, **options: Any) -> Report:
    images = np.random.default_rng(1).random((IMAGES, 3, 8, 8), dtype=np.float32)
    return eqaudit.audit(Blend(share), images, layers=("none",), samples=0, **options)


def _report(
    error: float = 0.4, class_: Class = "broken", spread: float = 0.1, images: int = IMAGES
) -> Report:
    """Return a report with one element, whose single images scatter around its error."""
    scatter = np.random.default_rng(3).normal(1, spread, images)
    values = [abs(error * float(one)) for one in scatter]
    return msgspec.structs.replace(
        make_report(outputs=[make_layer("output", errors=[make_error("r90", class_, error)], gating=True)]),
        per_image=PerImage([f"{place}.png" for place in range(images)], {"r90": [*values]}, {}),
        predictions=None,
    )


def _check(before: Report, after: Report, tolerance: float = 0.05) -> GateCheck:
    return judge_changes(compare(Baseline("b.json", tolerance, before), after))


def _changes(before: Report, after: Report) -> dict[tuple[str, str], Change]:
    record = compare(Baseline("b.json", 0.05, before), after)
    return {(change.name, change.element): change for change in record.changes}


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_same_model_passes_against_itself_whatever_the_run(share: float) -> None:
    """Also when it is exact: batch size, threads and seed change only rounding."""
    before = _audit(share)
    threads = torch.get_num_threads()
    failed = []
    try:
        for run in range(RUNS):
            torch.set_num_threads(1 + run % 2)
            after = _audit(share, batch_size=1 + 9 * run, seed=run)
            check = _check(before, after, 0.0)
            failed += [] if check.passed else [check.reason]
    finally:
        torch.set_num_threads(threads)
    assert not failed


def test_five_percent_more_on_the_same_images_is_seen_within_two() -> None:
    """Though the intervals of the two runs overlap almost whole: it is the same images."""
    before, after = _audit(0.3), _audit(0.3 * 1.06)
    errors = [report.gating_output.errors[1].error or 0.0 for report in (before, after)]
    assert 1.04 < errors[1] / errors[0] < 1.06
    check = _check(before, after, 0.02)
    assert not check.passed
    assert "r180" in check.reason
    assert _check(before, after, 0.2).passed
    assert _check(after, before, 0.02).passed
    assert "better" in _check(after, before, 0.02).reason


def test_a_difference_that_one_image_makes_is_noise() -> None:
    """The mean is a fifth larger, and without that image it is not."""
    before = _report(spread=0.0)
    assert before.per_image is not None
    values = list(before.per_image.output["r90"])
    values[0] = 3.0
    after = msgspec.structs.replace(
        _report(0.48, spread=0.0), per_image=msgspec.structs.replace(before.per_image, output={"r90": values})
    )
    change = _changes(before, after)["output.error", "r90"]
    assert change.judged == "same"
    assert "within noise" in change.reason


@pytest.mark.parametrize(
    ("was", "now", "judged"),
    [
        ("exact", "exact", "same"),
        ("exact", "approximate", "worse"),
        ("broken", "exact", "better"),
        ("at the floor", "at the floor", "same"),
        ("exact", "degenerate", "worse"),
        ("degenerate", "broken", "same"),
    ],
)
def test_what_is_exact_is_compared_by_class(was: Class, now: Class, judged: str) -> None:
    """3e-8 before and 6e-8 now is nothing; a constant output is no improvement."""
    assert _changes(_report(3e-8, was), _report(6e-8, now))["output.error", "r90"].judged == judged


@pytest.mark.parametrize(
    ("was", "now", "judged"),
    [(0.3, 0.4, "worse"), (0.4, 0.3, "better"), (0.3, None, "worse"), (None, 0.3, "same")],
)
def test_without_a_floor_numbers_still_compare(was: float | None, now: float | None, judged: str) -> None:
    """Unresolved says that nothing can be told of the floor; of two runs on the same images it can."""
    before, after = (
        msgspec.structs.replace(
            _report(value or 0.0),
            outputs=[make_layer("output", errors=[make_error("r90", "unresolved", value)], gating=True)],
        )
        for value in (was, now)
    )
    assert _changes(before, after)["output.error", "r90"].judged == judged


def test_limits_may_be_given_in_python() -> None:
    """As on the command line."""
    gate = _audit(0.3, limits=("output.error < 1e-6", "verdict >= D1")).gate
    assert gate is not None
    assert [check.passed for check in gate.checks[-2:]] == [False, True]


def test_dice_and_consistency_are_worse_when_they_are_smaller() -> None:
    """Image by image, where the report has them."""
    before = make_sweep("segmentation", (0, 30, 360))
    assert before.segmentation is not None
    rows = [
        msgspec.structs.replace(row, dice=make_spread(row.dice.mean * 0.8))
        for row in before.segmentation.by_element
    ]
    after = msgspec.structs.replace(
        before, segmentation=msgspec.structs.replace(before.segmentation, by_element=rows)
    )
    images = [f"{place}.png" for place in range(8)]
    high, low = (PerImage(images, {}, {}, {"r30": [value] * 8}) for value in (0.9, 0.7))
    before, after = (
        msgspec.structs.replace(report, per_image=values) for report, values in ((before, high), (after, low))
    )
    assert _changes(before, after)["dice.mean", "r30"].judged == "worse"
    assert _changes(after, before)["dice.mean", "r30"].judged == "better"
    kept, lost = ({"e": [1] * 8, "r90": [number] * 8} for number in (1, 2))
    first, second = (
        msgspec.structs.replace(make_report(consistency=share), per_image=PerImage(images, {}, rows))
        for share, rows in ((1.0, kept), (0.5, lost))
    )
    assert _changes(first, second)["consistency", "r90"].judged == "worse"


def test_accuracy_is_compared_by_its_intervals() -> None:
    """A report has no truth of single images."""
    before = make_sweep("classification", (0, 30, 360))
    assert before.predictions is not None
    rows = [
        msgspec.structs.replace(
            row, accuracy=msgspec.structs.replace(row.accuracy, value=0.5, ci95=(0.4, 0.6))
        )
        for row in before.predictions.by_element
        if row.accuracy is not None
    ]
    after = msgspec.structs.replace(
        before, predictions=msgspec.structs.replace(before.predictions, by_element=rows)
    )
    assert _changes(before, after)["accuracy", "e"].judged == "worse"


def test_c19_layers_that_are_gone_or_new_are_named() -> None:
    """Layers never fail the check: any training moves them. What became worse is said."""

    def with_layers(*names: str, error: float) -> Report:
        layers = [make_layer(name, errors=[make_error("r90", "broken", error)]) for name in names]
        return msgspec.structs.replace(make_report(layers=layers), predictions=None)

    check = _check(with_layers("a", "b", error=0.1), with_layers("b", "c", error=0.5))
    assert check.passed
    assert 'layers gone: layers["a"].error' in check.reason
    assert 'layers new: layers["c"].error' in check.reason
    assert 'not judged: layers["b"].error at r90' in check.reason


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("fingerprint", lambda report: _inside(report, "inputs", fingerprint="2" * 64)),
        ("number of images", lambda report: _inside(report, "inputs", samples=3)),
        ("input shape", lambda report: _inside(report, "inputs", shape=(3, 8, 8))),
        ("boundary", lambda report: _inside(report, "inputs", boundary="zeros")),
        ("dtype", lambda report: _inside(report, "tool", dtype="float64")),
        ("device", lambda report: _inside(report, "tool", device="cuda:0")),
        ("TF32", lambda report: _inside(report, "tool", tf32=True)),
        ("group", lambda report: _inside(report, "group", name="C8")),
        ("resampling", lambda report: _inside(report, "resampling", interpolation="bilinear")),
        ("task", lambda report: _inside(report, "segmentation", threshold=0.7)),
        ("kind", lambda report: msgspec.structs.replace(report, kind="check")),
    ],
)
def test_c18_what_was_measured_otherwise_is_not_comparable(
    what: str, change: Callable[[Report], Report]
) -> None:
    """And never a pass; the difference is named."""
    report = make_sweep("segmentation", (0, 30, 360))
    with pytest.raises(DataError, match=f"not comparable: the {what}|not comparable: {what}"):
        _check(report, change(report))


def _inside(report: Report, part: str, **values: Any) -> Report:
    return msgspec.structs.replace(report, **{part: msgspec.structs.replace(getattr(report, part), **values)})


def test_c18_what_is_no_longer_measured_is_no_pass() -> None:
    """A baseline with accuracy is not met by a run without labels; the other way round there is more."""
    before = make_sweep("classification", (0, 30, 360))
    assert before.predictions is not None
    rows = [msgspec.structs.replace(row, accuracy=None) for row in before.predictions.by_element]
    after = _inside(before, "predictions", by_element=rows)
    with pytest.raises(DataError, match="it has accuracy, which is not measured now"):
        _check(before, after)
    assert _check(after, before).passed


def test_c18_another_model_is_what_a_baseline_is_for() -> None:
    """Other weights have another sha256; on the same images their numbers compare."""
    assert _check(_report(), _inside(_report(), "model", sha256="f" * 64)).passed


def test_c20_numbers_that_were_edited_are_shown() -> None:
    """A baseline that allows everything is seen in the words of the check, with its file."""
    check = _check(_report(1.9), _report(0.4))
    assert "1.90 -> 0.400" in check.reason
    assert check.source == "baseline b.json"
    cut = _report()
    assert cut.per_image is not None
    damaged = msgspec.structs.replace(cut, per_image=msgspec.structs.replace(cut.per_image, ids=["0.png"]))
    with pytest.raises(DataError):
        _check(damaged, cut)


def test_a_baseline_without_the_unmoved_classes_is_damaged() -> None:
    """Whether a class is kept is told from them."""
    cut = msgspec.structs.replace(_report(), per_image=PerImage(["0.png"], {}, {"r90": [1]}))
    with pytest.raises(DataError, match="damaged"):
        _check(cut, cut)


def test_dates_beside_a_report_are_no_values(tmp_path: Path) -> None:
    """The archive is the one that is named, and an array in it is of another kind."""
    path, archive = tmp_path / "b.json", tmp_path / "b.json.per-image.npz"
    arrays: dict[str, Any] = {"ids": np.array(["a"]), "predicted/e": np.array([1], "M8[s]")}
    np.savez(archive, **arrays)
    named = PerImage([], {}, {}, file=archive.name, sha256=sha256(archive.read_bytes()).hexdigest())
    path.write_bytes(to_json(msgspec.structs.replace(_report(), per_image=named)))
    with pytest.raises(DataError, match="cannot be read"):
        read_whole_report(str(path))


def test_values_beside_a_report_are_read_with_it(tmp_path: Path) -> None:
    """Whole, and only if they are those that the report names."""
    report = _report(images=10_001)
    path = tmp_path / "b.json"
    write_report(str(path), report)
    assert read_whole_report(str(path)) == report
    archive = tmp_path / "b.json.per-image.npz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="not the archive"):
        read_whole_report(str(path))
    archive.unlink()
    with pytest.raises(DataError, match="no such archive"):
        read_whole_report(str(path))


def test_a_baseline_takes_the_place_of_the_demand_that_the_group_holds() -> None:
    """A model that never was equivariant can still get worse; limits come beside it."""
    before = _report()
    judged = judge(_report(), Limits(baseline=Baseline("b.json", 0.05, before)))
    assert judged.gate is not None
    assert judged.gate.passed
    assert judged.gate.baseline is not None
    assert judged.gate.baseline.path == "b.json"
    assert from_json(to_json(judged)) == judged


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--baseline", "none.json"], ExitCode.CANNOT_RUN, "no such report"),
        (["--update-baseline"], ExitCode.USAGE, "goes with --baseline"),
        (["--baseline", ""], ExitCode.USAGE, "--baseline is empty"),
        (["--baseline", "b.json", "--tolerance", "nan"], ExitCode.USAGE, "--tolerance"),
        (["--baseline", "b.json", "--json", "b.json"], ExitCode.USAGE, "is an input"),
        (["--baseline", "model.pt", "--update-baseline"], ExitCode.CANNOT_RUN, "no eqaudit report"),
        (
            ["--baseline", "new.json", "--update-baseline", "--json", "new.json"],
            ExitCode.USAGE,
            "is an input",
        ),
    ],
)
def test_c21_a_baseline_that_cannot_be_is_found_before_the_audit(
    arguments: list[str],
    code: ExitCode,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And neither the model nor a report is written over."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"model")
    (tmp_path / "b.json").write_bytes(to_json(_report()))
    assert cli.main(["check", "model.pt", *arguments]) == code
    assert says in capsys.readouterr().err
    assert (tmp_path / "model.pt").read_bytes() == b"model"
    assert (tmp_path / "b.json").read_bytes() == to_json(_report())


@pytest.mark.usefixtures("measured_here")
def test_a_baseline_is_kept_while_nothing_got_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first report that passes becomes it; one of other images is refused and leaves it as it was."""
    monkeypatch.chdir(tmp_path)
    model, baseline = tmp_path / "model.pt", tmp_path / "b.json"
    shutil.copy(FIXTURES / "lenet5.pt", model)
    arguments = ["check", "model.pt", "--baseline", "b.json", "--input-shape", "1,28,28", "--samples", "8"]
    assert (
        cli.main([*arguments, "--update-baseline", "--limit", "output.error < 1e-3"]) == ExitCode.GATE_FAILED
    )
    assert not baseline.exists()
    assert cli.main([*arguments, "--update-baseline"]) == ExitCode.PASSED
    kept = baseline.read_bytes()
    assert cli.main([*arguments, "--batch-size", "3"]) == ExitCode.PASSED
    assert cli.main([*arguments, "--samples", "4"]) == ExitCode.CANNOT_RUN
    assert "not comparable: the number of images" in capsys.readouterr().err
    assert baseline.read_bytes() == kept
