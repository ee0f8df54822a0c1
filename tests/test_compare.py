"""Comparing models: the numbers agree with other code, the pictures are drawn, and bad input is named."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from drawn import is_framed_in_white, read_pixels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reports import make_report, make_sweep
from scipy import stats

import eqaudit
from eqaudit import cli
from eqaudit.cli.compare import ComparedFlags
from eqaudit.cli.files import write_comparison
from eqaudit.cli.saved import read_saved
from eqaudit.comparing import compare_reports
from eqaudit.comparison import Comparison, Timing, comparison_from_json, json_schema
from eqaudit.engine import time_models
from eqaudit.errors import DataError, ExitCode, ModelError
from eqaudit.hypotheses import MOST_EXACT, holm, sign_test, signed_rank_test
from eqaudit.plan import FileModel, InputOptions, PythonObject, RunOptions, TimingPlan, WeightsFile
from eqaudit.report import (
    Features,
    PanelImage,
    PerImage,
    PooledFeature,
    Predictions,
    Report,
    from_json,
    to_json,
)
from eqaudit.reporters import per_image
from eqaudit.reporters.comparison import render_comparison
from eqaudit.reporters.comparison_decisions import confusion, draw_confidence, draw_confusion, draw_roc
from eqaudit.reporters.comparison_pictures import draw_comparison
from eqaudit.reporters.console import Style
from eqaudit.reporters.csv_table import comparison_csv

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
THREE = tuple(str(MODELS / name) for name in ("standard_cnn.pt", "orbit_cnn_published.pt", "orbit_cnn.pt"))
SCHEMA = Path(eqaudit.__file__).parent / "comparison.schema.json"
PATCHES = 40
ROUNDING = 1e-12
HOSTILE = "$a_b$ \x1b[31m <i>::error::" + "x" * 300
Run = Callable[..., Any]
Told = Callable[[Any], str]


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of labelled colour patches: noise with a red or a blue spot."""
    folder = tmp_path_factory.mktemp("patches")
    (folder / "images").mkdir()
    random, lines = np.random.default_rng(0), ["file,label"]
    y, x = np.mgrid[:32, :32]
    for number in range(PATCHES):
        label = number % 2
        centre = random.uniform(8, 24, 2)
        spot = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 30)[..., None]
        noise = random.uniform(0, 1, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
        picture = (noise + spot * ([1, 0.2, 0.2] if label else [0.2, 0.2, 1])) / 2
        Image.fromarray((picture * 255).astype(np.uint8)).save(folder / "images" / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{label}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def data(patches: Path) -> list[str]:
    """Return the options that name the patches and their labels."""
    return ["--data", str(patches / "images"), "--labels", str(patches / "labels.csv")]


@pytest.fixture(scope="module")
def folder(data: list[str], eqaudit: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where one comparison of three models left its table, report, rows and pictures."""
    place = tmp_path_factory.mktemp("comparison")
    ended = eqaudit(
        "compare", *THREE, *data, "--json", "c.json", "--csv", "c.csv", "--plots", "plots", cwd=place
    )
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    (place / "table.txt").write_bytes(ended.stdout)
    return place


@pytest.fixture(scope="module")
def compared(folder: Path) -> Comparison:
    """Return that comparison."""
    return comparison_from_json((folder / "c.json").read_bytes(), "c.json")


def values_of(report: Report) -> PerImage:
    """Return the values of single images."""
    assert report.per_image is not None
    return report.per_image


def right(report: Report, element: str) -> list[int]:
    """Return which images a model gets right."""
    found = values_of(report)
    return [int(one == own) for one, own in zip(found.predicted[element], found.truth, strict=True)]


def test_the_sign_test_of_accuracy_is_that_of_counting_outcomes(compared: Comparison) -> None:
    """McNemar's exact p, one-sided and two-sided, from binomial coefficients."""
    found = [part for part in compared.differences if part.quantity == "accuracy"]
    assert [(part.first, part.second) for part in found] == [(0, 1), (0, 2), (1, 2)]
    for part in found:
        one, other = (right(compared.reports[place], "e") for place in (part.first, part.second))
        gained = sum(b > a for a, b in zip(one, other, strict=True))
        lost = sum(b < a for a, b in zip(one, other, strict=True))
        total = gained + lost
        greater = sum(math.comb(total, k) for k in range(gained, total + 1)) / 2**total
        less = sum(math.comb(total, k) for k in range(gained + 1)) / 2**total
        assert part.test is not None
        assert (part.test.name, part.test.pairs, part.test.greater) == ("sign test", total, gained)
        assert part.test.p_greater == pytest.approx(greater, abs=ROUNDING)
        assert part.test.p_less == pytest.approx(less, abs=ROUNDING)
        assert part.test.p == pytest.approx(min(1, 2 * min(greater, less)), abs=ROUNDING)
        assert "only one of two models gets right" in part.test.hypothesis
        assert part.difference == pytest.approx((gained - lost) / PATCHES, abs=ROUNDING)


def test_the_signed_rank_test_of_errors_is_that_of_scipy(compared: Comparison) -> None:
    """Mean errors of images have no ties, where scipy counts exactly too."""
    moves = ["r90", "r180", "r270", "m", "m-r90", "m-r180", "m-r270"]
    for part in compared.differences:
        if part.quantity != "error, moved":
            continue
        tables = [values_of(compared.reports[place]).output for place in (part.first, part.second)]
        means = [np.array([table[name] for name in moves], dtype=np.float64).mean(axis=0) for table in tables]
        assert part.values == pytest.approx([mean.mean() for mean in means], abs=ROUNDING)
        assert part.test is not None
        for side, p in (
            ("two-sided", part.test.p),
            ("greater", part.test.p_greater),
            ("less", part.test.p_less),
        ):
            wanted = stats.wilcoxon(means[1] - means[0], alternative=side, method="exact").pvalue
            assert p == pytest.approx(wanted, abs=ROUNDING)


def test_intervals_resample_images_in_pairs(compared: Comparison) -> None:
    """A thousand resamples, drawn and averaged one by one."""
    random = np.random.default_rng(0)
    resamples = random.integers(0, PATCHES, (1_000, PATCHES))
    one, other = (np.array(right(compared.reports[place], "e")) for place in (0, 1))
    means = [np.mean([other[place] - one[place] for place in row]) for row in resamples]
    found = next(part for part in compared.differences if part.quantity == "accuracy")
    assert found.ci95 == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=ROUNDING)


def area(scores: Sequence[float], truth: Sequence[int]) -> float:
    """Return the share of pairs of a positive and a negative that are in order; ties count half."""
    pairs = [
        (a > b) + (a == b) / 2
        for a, wanted in zip(scores, truth, strict=True)
        for b, other in zip(scores, truth, strict=True)
        if wanted and not other
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def test_differences_of_auc_are_those_of_counted_pairs(compared: Comparison) -> None:
    """The area, its difference and a resampled interval, all from pairs of images."""
    part = next(part for part in compared.differences if part.quantity == "AUC")
    rows = [
        [row[1] if row else math.nan for row in values_of(report).scores] for report in compared.reports[:2]
    ]
    truth = values_of(compared.reports[0]).truth
    areas = [area(row, truth) for row in rows]
    assert part.values == pytest.approx(areas, abs=ROUNDING)
    for report, wanted in zip(compared.reports, areas, strict=False):
        assert report.predictions is not None
        assert report.predictions.unmoved is not None
        assert report.predictions.unmoved.auc is not None
        assert report.predictions.unmoved.auc.value == pytest.approx(wanted, abs=ROUNDING)
    changes = []
    for row in np.random.default_rng(0).integers(0, PATCHES, (1_000, PATCHES)):
        own = [truth[place] for place in row]
        drawn = [area([scores[place] for place in row], own) for scores in rows]
        changes.append(drawn[1] - drawn[0])
    assert part.test is None
    assert part.ci95 == pytest.approx(np.quantile(changes, [0.025, 0.975]), abs=ROUNDING)


def test_p_values_are_corrected_for_all_tests_of_the_comparison(compared: Comparison) -> None:
    """Holm's p: the largest of the products up to its own rank."""
    tests = [part.test for part in compared.differences if part.test is not None]
    ordered = sorted(test.p for test in tests)
    for test in tests:
        rank = ordered.index(test.p)
        products = [(len(ordered) - place) * ordered[place] for place in range(rank + 1)]
        assert test.p_holm == pytest.approx(min(1.0, max(products)), abs=ROUNDING)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holms_correction_keeps_order_and_never_lowers(values: list[float]) -> None:
    """A corrected p is at least as large, at most 1, and in the order of the uncorrected ones."""
    corrected = holm(values)
    assert all(own <= p <= 1 for own, p in zip(values, corrected, strict=True))
    pairs = sorted(zip(values, corrected, strict=True))
    assert [p for _, p in pairs] == sorted(corrected)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_signed_rank_test_counts_every_assignment_of_signs(numbers: list[int]) -> None:
    """Under ties and zeros too, where tables and scipy are no longer exact."""
    changes = np.array(numbers, dtype=np.float64)
    sizes = np.abs(changes[changes != 0])
    ranks = [sum(sizes < size) + (sum(sizes == size) + 1) / 2 for size in sizes]
    seen = sum(rank for rank, change in zip(ranks, changes[changes != 0], strict=True) if change > 0)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product([0, 1], repeat=len(ranks))]
    greater = sum(value >= seen for value in sums) / len(sums)
    less = sum(value <= seen for value in sums) / len(sums)
    wanted = (min(1, 2 * min(greater, less)), greater, less)
    assert signed_rank_test(changes) == pytest.approx(wanted, abs=ROUNDING)


def test_many_pairs_are_judged_by_the_normal_distribution() -> None:
    """Beyond the exact limit p is that of scipy, ties corrected for, and close to the exact one."""
    random = np.random.default_rng(0)
    changes = random.normal(0.1, 1, MOST_EXACT + 1)
    wanted = stats.wilcoxon(changes, method="asymptotic").pvalue
    assert signed_rank_test(changes)[0] == pytest.approx(wanted, abs=ROUNDING)
    assert signed_rank_test(changes[1:])[0] == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("test", [sign_test, signed_rank_test])
def test_no_difference_is_no_evidence(test: Callable[[Any], tuple[float, float, float]]) -> None:
    """Only zeros: every p is 1, and nothing warns."""
    assert test(np.zeros(5)) == (1.0, 1.0, 1.0)


def test_a_model_compared_with_itself_differs_in_nothing(
    data: list[str], eqaudit: Run, tmp_path: Path
) -> None:
    """Every difference is exactly 0, every p exactly 1, and no library warns."""
    options = ["--angles", "0,45,90,360", "--json", "c.json", "--plots", "plots"]
    calm = {"PYTHONWARNINGS": "error"}
    ended = eqaudit("compare", THREE[0], THREE[0], *data, *options, cwd=tmp_path, env=calm)
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    found = comparison_from_json((tmp_path / "c.json").read_bytes(), "c.json")
    assert {part.quantity for part in found.differences} == {
        "accuracy",
        "AUC",
        "accuracy, moved",
        "same class, moved",
        "error, moved",
    }
    for part in found.differences:
        assert (part.difference, part.ci95) == (0.0, (0.0, 0.0))
        if part.test is not None:
            tested = part.test
            assert (tested.p, tested.p_greater, tested.p_less, tested.p_holm, tested.pairs) == (1, 1, 1, 1, 0)
    assert (tmp_path / "plots" / "curves.png").is_file()


def test_the_table_shows_models_beside_each_other(folder: Path) -> None:
    """Names, numbers, layers that several models have, and tests, within 80 columns."""
    table = (folder / "table.txt").read_text()
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in table
    for row in (
        "parameters         170,514  170,514  170,514",
        "holds              nothing  nothing       D4",
    ):
        assert row in lines
    assert any(line.startswith("accuracy          C - B ") for line in lines)
    assert any(line.split()[0] == "flatten" for line in lines if line)


def test_a_saved_comparison_is_shown_again(folder: Path, eqaudit: Run, tmp_path: Path) -> None:
    """`render` gives the same table, rows and pictures, byte for byte."""
    ended = eqaudit("render", str(folder / "c.json"), "--csv", "c.csv", "--plots", "plots", cwd=tmp_path)
    assert ended.returncode == ExitCode.PASSED
    assert ended.stderr == b"features.png needs the models and an image: only compare --plots draws it\n"
    assert ended.stdout == (folder / "table.txt").read_bytes()
    assert (tmp_path / "c.csv").read_bytes() == (folder / "c.csv").read_bytes()
    names = {path.name for path in (folder / "plots").iterdir()}
    saved = {"curves.png", "boxes.png", "roc.png", "confusion.png", "confidence.png"}
    assert names == saved | {"features.png"}
    for name in saved:
        assert (tmp_path / "plots" / name).read_bytes() == (folder / "plots" / name).read_bytes()


@pytest.mark.long
def test_only_times_differ_when_it_is_made_again(
    folder: Path, data: list[str], eqaudit: Run, tmp_path: Path
) -> None:
    """Apart from the forward times, and the command itself, the same numbers are written."""
    again = eqaudit("compare", *THREE, *data, "--json", "-", cwd=tmp_path).stdout
    written = [json.loads(content) for content in ((folder / "c.json").read_bytes(), again)]
    for found in written:
        assert len(found.pop("timing")) == 3
        for report in found["reports"]:
            del report["tool"]["command"]
    assert written[0] == written[1]


def test_the_schema_in_the_package_is_that_of_the_types(folder: Path) -> None:
    """After changing a type, write `json_schema()` into the file again; a real comparison validates."""
    assert json.loads(SCHEMA.read_text()) == json_schema()
    jsonschema.validate(json.loads((folder / "c.json").read_text()), json_schema())


def test_rows_name_their_model(folder: Path) -> None:
    """One row for each model and element."""
    rows = list(csv.DictReader(io.StringIO((folder / "c.csv").read_text())))
    assert [row["model"] for row in rows] == ["A"] * 7 + ["B"] * 7 + ["C"] * 7
    assert rows[7]["spec"] == THREE[1]
    assert float(rows[20]["error"]) < 1e-6


def test_masks_are_compared_by_dice(eqaudit: Run, tmp_path: Path) -> None:
    """Of a segmentation Dice with the truth, unmoved and moved, and with the turned mask are tested."""
    blobs = MODELS.parent / "blobs"
    arguments = [str(MODELS / "unet_plain.pt"), str(MODELS / "unet_p4.pt"), "--data", str(blobs / "images")]
    arguments += ["--masks", str(blobs / "masks"), "--angles", "90,180", "--samples", "12"]
    ended = eqaudit("compare", *arguments, "--json", "-", cwd=tmp_path)
    found = comparison_from_json(ended.stdout, "stdout")
    parts = {part.quantity: part for part in found.differences}
    assert list(parts) == ["error, moved", "truth Dice", "truth Dice, moved", "Dice, moved"]
    for place, report in enumerate(found.reports):
        assert report.segmentation is not None
        dice = [row.dice.mean for row in report.segmentation.by_element]
        assert parts["Dice, moved"].values[place] == pytest.approx(np.mean(dice), abs=ROUNDING)
        still = report.segmentation.unmoved.truth_dice
        assert still is not None
        assert parts["truth Dice"].values[place] == pytest.approx(still.mean, abs=ROUNDING)


def test_numbers_that_mean_nothing_are_told(eqaudit: Run, tmp_path: Path) -> None:
    """A constant output and one that is not finite are compared, and said to be what they are."""
    models = [str(MODELS / name) for name in ("constant_output.pt", "nan_output.pt")]
    arguments = ["--input-shape", "3,32,32", "--samples", "8", "--group", "C2", "--layers", "none"]
    ended = eqaudit("compare", *models, *arguments, "--json", "-", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    found = comparison_from_json(ended.stdout, "stdout")
    constant, lost = found.warnings
    assert constant == "model A: the output does not depend on the image"
    assert lost.startswith("model B: the output is not finite")
    assert "nothing can be tested" in render_comparison(found, Style())


MISTAKES = {
    "one model": (THREE[:1], 2, "2 to 8 models, not 1"),
    "nine models": (THREE * 3, 2, "2 to 8 models, not 9"),
    "a missing model": ((*THREE[:1], "nope.pt"), 3, "nope.pt"),
    "a group and angles": ((*THREE[:2], "--group", "C4", "--angles", "0"), 2, "--group"),
    "mirrors without angles": ((*THREE[:2], "--mirror"), 2, "--mirror"),
    "weights without code": ((*THREE[:2], "--weights", "w.pt"), 2, "1 --weights and 0 models"),
    "arguments without code": ((*THREE[:2], "--arg", "a=1"), 2, "--arg"),
    "another shape": (
        (str(MODELS / "lenet5.pt"), THREE[0], "--samples", "2", "--group", "C2"),
        3,
        f"model B ({THREE[0]}), given images as model A takes them: the model refuses 1x28x28",
    ),
    "a model as output": ((*THREE[:2], "--json", THREE[1]), 2, "is an input"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_bad_input_is_told_and_names_its_model(name: str, eqaudit: Run, told: Told, tmp_path: Path) -> None:
    """One error, one hint, the right code."""
    arguments, code, words = MISTAKES[name]
    ended = eqaudit("compare", *arguments, cwd=tmp_path)
    assert ended.returncode == code
    assert words in told(ended)


def test_weights_go_to_the_models_of_code_in_their_order(tmp_path: Path) -> None:
    """One checkpoint each, past the files among the models; arguments go to all of them."""
    for name in ("nets.py", "a.pth", "b.pth"):
        (tmp_path / name).touch()
    code, paths = f"{tmp_path}/nets.py:make", [str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    one, file, other = ComparedFlags([code, THREE[0], code], ["width=3"], paths).parse()
    assert file == FileModel(THREE[0])
    for model, path in ((one, paths[0]), (other, paths[1])):
        assert isinstance(model, PythonObject)
        assert (model.weights, model.arguments) == (WeightsFile(path), {"width": 3})


def classified(
    scores: Sequence[Sequence[float] | None],
    truth: Sequence[int],
    spec: str = "m.pt",
    *,
    logits: bool = False,
    names: Sequence[str] = (),
) -> Report:
    """Return the report of a classifier that gives these scores to images as they are, and at 90 degrees."""
    kind = len(scores[0] or ())
    rows = [row if row is None or kind > 1 else [0.0 if logits else 0.5, row[0]] for row in scores]
    classes = [-1 if row is None else int(np.argmax(row)) for row in rows]
    found = PerImage(
        [f"{place}.png" for place in range(len(scores))],
        {"r90": [0.1 * place for place in range(len(scores))]},
        {"e": classes, "r90": classes},
        truth=list(truth),
        scores=[None if row is None else list(row) for row in scores],
    )
    report = make_report(group="C2" if not truth else "C4")
    assert report.predictions is not None
    predictions = msgspec.structs.replace(
        report.predictions,
        classes=kind,
        class_names=list(names),
        scores="logits" if logits else "probabilities",
    )
    model = msgspec.structs.replace(report.model, spec=spec)
    return msgspec.structs.replace(report, per_image=found, predictions=predictions, model=model)


def compare(*reports: Report, threshold: float = 0.5) -> Comparison:
    """Return a comparison without times."""
    return compare_reports(reports, threshold, [], ["no time"])


TWO = ([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], None, [0.8, 0.2]], [0, 0, 1, 1, 1])


def test_a_confusion_matrix_counts_at_the_threshold() -> None:
    """Rows are true classes; images without finite scores are left out."""
    report = classified(*TWO)
    found = {threshold: confusion(report, threshold) for threshold in (0.5, 0.65, 0.05)}
    wanted = {0.5: [[1, 1], [1, 1]], 0.65: [[2, 0], [1, 1]], 0.05: [[0, 2], [0, 2]]}
    for threshold, matrix in wanted.items():
        assert np.array_equal(np.array(found[threshold]), matrix)
    logits = classified([[-2.0], [1.0], [3.0]], [0, 0, 1], logits=True)
    assert np.array_equal(np.array(confusion(logits, 0.5)), [[1, 1], [0, 1]])
    assert np.array_equal(np.array(confusion(logits, 0.9)), [[2, 0], [0, 1]])
    several = classified([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]], [0, 1, 1])
    assert np.array_equal(np.array(confusion(several, 0.9)), [[1, 0, 0], [0, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize("count", [2, 3, 8])
def test_pictures_hold_any_number_of_models_and_any_name(count: int) -> None:
    """Nothing touches the edge, no name is read as mathematics, and no library warns."""
    random = np.random.default_rng(0)
    truth = [0, 1, 2] * 4
    reports = [
        classified(random.dirichlet([1, 1, 1], 12).tolist(), truth, HOSTILE, names=["cat", HOSTILE, "e$e$l"])
        for _ in range(count)
    ]
    image = PanelImage("x", (3, 4, 4), np.zeros(48, np.float32).tobytes())
    means = PanelImage("", (3,), np.array([1, np.nan, -1], np.float32).tobytes())
    shown = [PooledFeature("input", image, means), PooledFeature(HOSTILE, None, means)]
    pictures = draw_comparison(compare(*reports), [Features(HOSTILE, [], [], [], shown)] * count)
    assert set(pictures) == {
        "curves.png",
        "boxes.png",
        "roc.png",
        "confusion.png",
        "confidence.png",
        "features.png",
    }
    for name, content in pictures.items():
        assert is_framed_in_white(read_pixels(content)), name


def test_what_has_no_labels_or_no_scores_is_not_drawn() -> None:
    """A picture without values would say nothing."""
    unlabelled = compare(classified(TWO[0], []), classified(TWO[0], []))
    assert draw_roc(unlabelled) is None
    assert draw_confusion(unlabelled) is None
    assert draw_confidence(unlabelled) is not None
    assert set(draw_comparison(compare(make_sweep("dense"), make_sweep("dense")))) == {
        "curves.png",
        "boxes.png",
    }
    for kind in ("segmentation", "embedding"):
        sweep = make_sweep(kind, [45], mirror=True)
        assert "curves.png" in draw_comparison(compare(sweep, sweep))


def test_hostile_names_reach_terminal_and_rows_as_text() -> None:
    """No escape, no formula, no command to the log of a job."""
    found = compare(classified(*TWO, spec=HOSTILE), classified(*TWO, spec="=1+1"))
    table = render_comparison(found, Style())
    assert table.replace("\n", "").isprintable()
    assert "no time" in table
    rows = list(csv.reader(io.StringIO(comparison_csv(found).decode())))
    assert {row[1][:2] for row in rows[1:]} == {"$a", "'="}


def test_a_p_value_that_a_float_cannot_hold_is_not_shown_as_0() -> None:
    """Thousands of pairs that all lie on one side."""
    found = compare(classified(*TWO), classified(*TWO))
    tested = next(part for part in found.differences if part.test is not None)
    assert tested.test is not None
    small = msgspec.structs.replace(tested.test, p=0.0, p_holm=0.0)
    part = msgspec.structs.replace(tested, test=small)
    table = render_comparison(msgspec.structs.replace(found, differences=[part]), Style())
    row = next(line for line in table.splitlines() if line.startswith(part.quantity))
    assert row.split()[-2:] == ["<1e-300", "<1e-300"]


def test_a_class_that_a_resample_lacks_is_left_out_of_its_auc() -> None:
    """Few images of many classes still give an interval; the area is the mean over classes."""
    random = np.random.default_rng(0)
    truth = [0, 1, 2, 3, 4] + [0] * 7
    rows = [random.dirichlet(np.ones(5), 12).tolist() for _ in range(2)]
    found = compare(*(classified(row, truth) for row in rows)).differences
    part = next(part for part in found if part.quantity == "AUC")
    for row, value in zip(rows, part.values, strict=True):
        areas = [
            area([scores[label] for scores in row], [own == label for own in truth]) for label in range(5)
        ]
        assert value == pytest.approx(np.mean(areas), abs=ROUNDING)
    assert part.ci95 is not None
    assert part.ci95[0] < part.difference < part.ci95[1]


def test_models_of_other_images_are_not_compared() -> None:
    """Fingerprints tell; the error names the second model and what differs."""
    one = classified(*TWO)
    for field, value, words in (
        ("fingerprint", "2" * 64, "model C cannot be compared with model A: the fingerprint of the images"),
        ("shape", (1, 8, 8), "the input shape is 1x8x8, and was 3x32x32"),
    ):
        other = msgspec.structs.replace(one, inputs=msgspec.structs.replace(one.inputs, **{field: value}))
        with pytest.raises(DataError, match=words):
            compare(one, one, other)


def test_many_values_of_single_images_lie_beside_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each model has an archive of its own, and reading puts all of it back."""
    found = compare(classified(*TWO), classified(TWO[0][::-1], TWO[1]))
    monkeypatch.setattr(per_image, "LARGEST_INLINE", 1)
    write_comparison(str(tmp_path / "c.json"), found)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"c.json", "c.json.A.per-image.npz", "c.json.B.per-image.npz"}
    assert read_saved(str(tmp_path / "c.json")) == found


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "one model": (lambda found: found["reports"].pop(), "compares 1 models"),
    "a model that is not there": (lambda found: found["differences"][0].update(second=5), "does not hold"),
    "a time too few": (
        lambda found: found.update(timing=[msgspec.to_builtins(Timing(1.0, 1.0, 1.0, 1, 5))]),
        "1 times of 2 models",
    ),
    "a score too few": (lambda found: found["reports"][0]["per_image"]["scores"].pop(), "one value for each"),
    "uneven scores": (
        lambda found: found["reports"][0]["per_image"]["scores"][0].pop(),
        "one value for each",
    ),
    "other images": (lambda found: found["reports"][1]["inputs"].update(samples=3), "the number of images"),
    "a wrong type": (lambda found: found.update(threshold="high"), "threshold"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_comparison_is_refused(name: str, tmp_path: Path) -> None:
    """Says what is wrong, and is no bug."""
    change, words = DAMAGES[name]
    found = json.loads(to_json(compare(classified(*TWO), classified(*TWO))))
    change(found)
    (tmp_path / "c.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match=words):
        read_saved(str(tmp_path / "c.json"))


def test_a_comparison_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one report is wanted a comparison is refused by its schema; `render` takes both."""
    content = to_json(compare(classified(*TWO), classified(*TWO)))
    with pytest.raises(DataError, match=r"schema .eqaudit\.comparison/1"):
        from_json(content)
    (tmp_path / "c.json").write_bytes(content)
    assert cli.main(["render", str(tmp_path / "c.json"), "--quiet"]) == ExitCode.PASSED
    assert cli.main(["render", str(tmp_path / "c.json"), "--report", "junit=x.xml"]) == ExitCode.USAGE
    assert "--report is on one audit" in capsys.readouterr().err


def test_predictions_of_one_task_only_are_not_paired() -> None:
    """A model without classes is compared by its error alone."""
    one = classified(*TWO)
    other = msgspec.structs.replace(one, predictions=None)
    other = msgspec.structs.replace(other, per_image=PerImage(values_of(one).ids, values_of(one).output, {}))
    assert isinstance(one.predictions, Predictions)
    elements = [pose for pose in one.group.elements if pose.name in {"e", "r90"}]
    group = msgspec.structs.replace(one.group, elements=elements)
    one, other = (msgspec.structs.replace(report, group=group) for report in (one, other))
    assert [part.quantity for part in compare(one, other).differences] == ["error, moved"]


NETS = """
import time, torch


class Waits(torch.nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x.mean((2, 3))


class Tires(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 5:
            raise ValueError("tired")
        return x.mean((2, 3))
"""


def timing_plan(folder: Path, *models: tuple[str, dict[str, Any]]) -> TimingPlan:
    """Return what times some of the models above."""
    (folder / "nets.py").write_text(NETS)
    path = str(folder / "nets.py")
    specs = tuple(PythonObject(path, name, is_file=True, arguments=arguments) for name, arguments in models)
    return TimingPlan(specs, InputOptions(samples=8, batch_size=4, input_shape=(3, 8, 8)), RunOptions())


def test_models_are_timed_in_turn(tmp_path: Path) -> None:
    """A model that waits takes as long as it waits; each is measured in every round."""
    plan = timing_plan(tmp_path, ("Waits", {"seconds": 0.0}), ("Waits", {"seconds": 0.02}))
    quick, slow = time_models(plan, lambda *_: None).models
    assert slow.p25 >= 0.02 > quick.median > 0
    assert (quick.batch, slow.batch) == (4, 4)
    assert quick.rounds == slow.rounds >= 5


def test_a_model_that_raises_while_it_is_timed_is_named(tmp_path: Path) -> None:
    """It is the model's error, no bug."""
    with pytest.raises(ModelError, match=r"nets\.py:Tires raises when it runs again: tired"):
        time_models(timing_plan(tmp_path, ("Tires", {})), lambda *_: None)
