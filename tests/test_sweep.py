"""Turning by any angle: floors, tasks, control rows and what a sweep writes down, on real models."""

import csv
import io
import json
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import eqaudit
from eqaudit.data import open_images
from eqaudit.engine.base import Setting
from eqaudit.engine.probe import make_setting
from eqaudit.engine.receptive import receptive_radii
from eqaudit.engine.shapes import Choice
from eqaudit.errors import DataError, EqauditError, UsageError
from eqaudit.loader import wrap_module
from eqaudit.plan import (
    AuditPlan,
    Boundary,
    FileModel,
    InputOptions,
    Method,
    SpaceOptions,
    TaskOptions,
    TruthOptions,
)
from eqaudit.report import Report, to_json

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.append(str(FIXTURES))
sys.path.append(str(Path(__file__).parent / "calibration"))

from floors import blur, isotropic, plain  # noqa: E402 - the calibrated networks
from training import load_digits_28  # noqa: E402 - the digits that lenet5 was tested on

CPU = torch.device("cpu")
ANGLES = "3,45,80"
HOLDS = {"exact", "at the floor"}


@cache
def photographs(count: int = 6, side: int = 33, channels: int = 3) -> NDArray[np.float32]:
    """Return patches of the built-in photographs, (N, C, H, W)."""
    dataset = open_images(InputOptions(samples=count)).prepare((channels, side, side))
    images: NDArray[np.float32] = next(iter(dataset.batches(count))).images
    return images


def sweep(model: nn.Module | Path, angles: str, data: Any = None, **options: Any) -> Report:
    """Return the report of a sweep over some photographs."""
    images = photographs() if data is None else data
    options.setdefault("layers", ("none",))
    given = str(model) if isinstance(model, Path) else model
    return eqaudit.audit(given, images, angles=angles, **options)


class NotBlack(nn.Module):
    """A mask of the pixels that are not black."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, (B, 1, H, W)."""
        return images - 1e-6


def output_errors(report: Report) -> dict[str, float]:
    """Return the error of the output at each pose."""
    return {error.element: error.error for error in report.gating_output.errors if error.error is not None}


def classes(report: Report) -> set[str]:
    """Return the classes that the output has at some pose."""
    return {error.class_ for error in report.gating_output.errors}


# Floors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", get_args(Boundary))
@pytest.mark.parametrize("method", get_args(Method))
def test_the_identity_is_exactly_equivariant_however_it_is_measured(
    method: Method, boundary: Boundary
) -> None:
    """Image and feature are turned by the same operator, so nothing is left: zero, not merely small."""
    report = sweep(nn.Sequential(nn.Identity()), ANGLES, space=SpaceOptions(boundary, method, method))
    assert set(output_errors(report).values()) == {0.0}
    assert classes(report) == {"at the floor"}


@pytest.mark.parametrize("boundary", get_args(Boundary))
@pytest.mark.parametrize("method", get_args(Method))
def test_an_isotropic_blur_is_at_the_floor_however_it_is_measured(method: Method, boundary: Boundary) -> None:
    """A Gaussian blur commutes with every turn; what is measured is the measurement."""
    report = sweep(blur(0), ANGLES, space=SpaceOptions(boundary, method, method))
    assert classes(report) == {"at the floor"}


@pytest.mark.parametrize("pooled", [False, True])
def test_isotropic_networks_are_at_the_floor_and_plain_ones_above(pooled: bool) -> None:
    """Maps and pooled outputs; the plain network of two layers is told from 20 degrees on."""
    data = photographs(16, 65)
    angles = "20,30,45,60,70"
    assert classes(sweep(isotropic(3, pooled=pooled), angles, data)) == {"at the floor"}
    report = sweep(plain(0 if pooled else 3, pooled=pooled), angles, data)
    worst = max(report.gating_output.errors, key=lambda error: error.error or 0.0)
    assert worst.class_ in {"approximate", "broken"}
    assert worst.error is not None
    assert worst.floor is not None
    assert worst.error > 3 * worst.floor
    if not pooled:
        assert not classes(report) & HOLDS


@pytest.mark.parametrize("name", ["escnn_c16", "escnn_so2"])
def test_steerable_networks_of_an_independent_library_are_at_the_floor_between_quarter_turns(
    name: str,
) -> None:
    """A traced file of another library's C16 and SO(2) networks, at angles inside and outside of C16."""
    report = sweep(FIXTURES / "independent" / f"{name}.pt", "15,45,90", photographs(8, 65))
    found = {error.element: error.class_ for error in report.gating_output.errors}
    assert found == {"r15": "at the floor", "r45": "at the floor", "r90": "exact"}


def test_a_decoder_s_floor_sees_the_coarsest_grid_and_not_its_own_pixels() -> None:
    """Pooled and brought up again, a map follows shifts by the period of its pooling, not by one pixel."""

    class UpAndDown(nn.Module):
        """Means over a grid four times as coarse as the image, brought up to its size again."""

        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.AvgPool2d(4), nn.Upsample(scale_factor=4)

        def forward(self, image: Tensor) -> Tensor:
            """Return maps of the image's size."""
            upsampled: Tensor = self.up(self.down(image))
            return upsampled

    setting = _setting(UpAndDown(), "disc", (3, 64, 64))
    assert setting.space.cells[setting.gating] == 1.0
    assert setting.space.periods[setting.gating] == 4.0
    report = sweep(UpAndDown(), "30", photographs(8, 64))
    assert report.gating_output.no_floor is None
    assert report.gating_output.errors[0].floor is not None


def test_a_network_that_does_not_follow_translations_has_no_floor_and_is_unresolved() -> None:
    """A flatten into a linear layer knows every place: no resampled angle can be judged, and it says why."""
    data = photographs(16, 28, 1)
    report = sweep(FIXTURES / "models" / "lenet5.pt", "30,90", data)
    found = {error.element: error for error in report.gating_output.errors}
    assert found["r30"].class_ == "unresolved"
    assert found["r30"].floor is None
    assert found["r90"].class_ == "broken"
    assert report.gating_output.no_floor is not None
    assert "translations" in report.gating_output.no_floor


@pytest.mark.parametrize("boundary", ["disc", "zeros"])
def test_a_model_of_one_batch_size_has_the_floor_of_any_batch_size(boundary: Boundary) -> None:
    """The floor's images are given to it in parts, padded where they are too few."""

    class Fixed(nn.Module):
        """Two isotropic layers that take four images and no other number."""

        def __init__(self) -> None:
            super().__init__()
            self.network = isotropic(0)

        def forward(self, image: Tensor) -> Tensor:
            """Return maps (4, 6, H, W)."""
            maps: Tensor = self.network(image.view(4, 3, 33, 33))
            return maps

    options = {"space": SpaceOptions(boundary, floor_samples=6)}
    free, fixed = (sweep(model, "45", **options).gating_output for model in (isotropic(0), Fixed()))
    assert fixed.errors[0].floor == pytest.approx(free.errors[0].floor, rel=1e-4)
    assert fixed.errors[0].error == pytest.approx(free.errors[0].error, rel=1e-4)


def test_without_floor_samples_nothing_resampled_is_judged() -> None:
    """--floor-samples 0 leaves the errors and no class that needs a floor."""
    report = sweep(blur(0), "30", space=SpaceOptions(floor_samples=0))
    assert classes(report) == {"unresolved"}
    assert "--floor-samples 0" in (report.gating_output.no_floor or "")


def test_the_floor_factor_moves_the_line_between_the_classes() -> None:
    """A plain network is at the floor when the floor is counted many times."""
    assert classes(sweep(plain(3), "45", space=SpaceOptions(floor_factor=1000.0))) == {"at the floor"}


def test_a_small_error_of_an_output_that_hardly_changes_is_not_at_the_floor() -> None:
    """An untrained pooled network errs by less than 0.01, and by much more than 1 % of chance."""
    report = sweep(FIXTURES / "models" / "untrained_pooled_cnn.pt", "45", photographs(16, 32))
    (error,) = report.gating_output.errors
    assert error.error is not None
    assert error.error < 0.01
    assert error.class_ not in HOLDS


# Groups ----------------------------------------------------------------------------------------------


def test_check_takes_groups_with_angles_between_the_quarter_turns() -> None:
    """An isotropic network holds D8: the quarter turns and mirrors exactly, the rest at the floor."""
    report = eqaudit.audit(isotropic(3, pooled=True), photographs(16, 65), group="D8")
    found = {error.element: error.class_ for error in report.gating_output.errors}
    assert len(found) == 15
    assert found["r45"] == found["m-r45"] == "at the floor"
    assert found["r90"] == found["m"] == "exact"
    assert report.verdict is not None
    assert report.verdict.holds == "D8"
    assert "D4 exactly" in report.verdict.sentence
    assert "D8 at the floor" in report.verdict.sentence
    assert report.gate is not None
    assert report.gate.passed


def test_a_quarter_turn_has_the_same_bits_beside_other_angles_and_alone() -> None:
    """--angles 90 is the exact path: no resampler touches it, whatever the method."""
    model = FIXTURES / "models" / "standard_cnn.pt"
    data = photographs(8, 32)
    alone = eqaudit.audit(str(model), data, group="C4").gating_output.errors[0]
    for method in get_args(Method):
        swept = sweep(model, "90", data, space=SpaceOptions(interpolation=method)).gating_output.errors[0]
        assert (swept.error, swept.chance, swept.ci95) == (alone.error, alone.chance, alone.ci95)


def test_a_sweep_twice_gives_the_same_bytes() -> None:
    """Same machine, threads and batch size: the same report to the byte."""
    run = partial(sweep, plain(0), "0:90:30", layers=("*",))
    assert to_json(run()) == to_json(run())


def test_360_degrees_is_a_row_of_its_own_and_must_be_zero() -> None:
    """The control runs the model once more on unmoved images, and is judged."""
    report = sweep(plain(0), "0,45,360")
    assert [error.element for error in report.gating_output.errors] == ["e", "r45", "r360"]
    assert output_errors(report)["r360"] == 0.0
    assert report.gate is not None
    assert report.gate.passed
    assert any(check.name == "control" for check in report.gate.checks)


def test_a_model_that_is_random_fails_the_control() -> None:
    """What a random model gives is no curve: exit code 1, and the control says so."""
    report = sweep(FIXTURES / "models" / "dropout_left_on.pt", "0,90", photographs(8, 32))
    assert report.gate is not None
    failed = {check.name for check in report.gate.checks if not check.passed}
    assert failed == {"deterministic", "control"}


def test_mirrored_poses_turn_the_mirrored_image() -> None:
    """An isotropic network passes them at the floor; a network that shifts to the right fails the mirror."""
    report = sweep(isotropic(3, pooled=True), "0,45", photographs(16, 65), mirror=True)
    assert [error.element for error in report.gating_output.errors] == ["e", "r45", "m", "m-r45"]
    assert classes(report) <= HOLDS


def test_rectangles_turn_by_any_angle_but_90_degrees() -> None:
    """Pixels stay square; a quarter turn would swap the sides, and is refused with the way out."""
    data = photographs(8, 33)[..., :27]
    report = sweep(blur(0), "37,180", np.ascontiguousarray(data))
    assert classes(report) <= HOLDS
    with pytest.raises(DataError, match="needs squares") as caught:
        sweep(blur(0), "37,90", np.ascontiguousarray(data))
    assert "--resize" in caught.value.hint


# Boundaries ------------------------------------------------------------------------------------------


def _setting(model: nn.Module, boundary: Boundary, shape: tuple[int, int, int] = (3, 33, 33)) -> Setting:
    plan = AuditPlan(FileModel("m"), space=SpaceOptions(boundary), group="C8")
    return make_setting(wrap_module(model, "m", CPU), Choice(shape, "", None), plan)


def test_receptive_radii_are_those_of_the_kernels() -> None:
    """3x3 reaches the diagonal neighbour; a second layer doubles that; a stride counts in pixels."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.AvgPool2d(3, 3))
    radii = receptive_radii(
        wrap_module(model.eval(), "m", CPU), torch.from_numpy(photographs()), _setting(model, "zeros")
    )
    by_name = {key[1]: radius for key, radius in radii.items() if key[0] == "layer"}
    assert by_name["0"] == pytest.approx(2**0.5)
    assert by_name["1"] == pytest.approx(2 * 2**0.5)
    assert 2 <= by_name["2"] <= 6


def test_a_filled_border_leaves_out_the_receptive_radius_and_the_margin_option_replaces_it() -> None:
    """Zero padding is seen at the border only: within the radius the error of a plain blur falls."""
    whole = sweep(blur(0), "45", space=SpaceOptions("zeros", margin=0.0))
    inner = sweep(blur(0), "45", space=SpaceOptions("zeros"))
    assert output_errors(inner)["r45"] < output_errors(whole)["r45"]
    assert inner.resampling is not None
    assert inner.resampling.margin is None


def test_a_margin_that_leaves_nothing_says_what_to_do() -> None:
    """A network that sees the whole picture from everywhere has no valid cell beside a filled border."""
    with pytest.raises(EqauditError, match="receptive field") as caught:
        sweep(FIXTURES / "models" / "unet_plain.pt", "45", photographs(4, 64, 1), space=SpaceOptions("zeros"))
    assert "--margin" in caught.value.hint


def test_the_effect_of_the_window_on_the_unmoved_output_is_reported() -> None:
    """A network that reads the corner loses everything to the window; exact angles need no window at all."""

    class Corner(nn.Module):
        """The mean of the corner."""

        def forward(self, image: Tensor) -> Tensor:
            """Return (B, 3)."""
            return image[..., :4, :4].mean((2, 3))

    report = sweep(Corner(), "45")
    assert report.resampling is not None
    assert report.resampling.window is not None
    assert report.resampling.window.error == pytest.approx(2**0.5, rel=1e-3)
    assert sweep(Corner(), "90").resampling is None


# Tasks -----------------------------------------------------------------------------------------------


class Scores(nn.Module):
    """Hands out a fixed function of the mean colours, (B, 3)."""

    def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.last = last

    def forward(self, image: Tensor) -> Tensor:
        """Return what the function makes of the mean colours."""
        return self.last(image.mean((2, 3)))


class Maps(nn.Module):
    """Hands out a fixed function of the image, (B, C, H, W)."""

    def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.last = last

    def forward(self, image: Tensor) -> Tensor:
        """Return what the function makes of the image."""
        return self.last(image)


def test_the_task_is_decided_from_shape_values_and_truth() -> None:
    """Scores, one score, unit vectors, maps of scores and maps like the image are told apart."""
    classes_found = sweep(Scores(lambda x: x - 0.4), "90").predictions
    assert classes_found is not None
    assert (classes_found.kind, classes_found.scores) == ("multi-class", "logits")
    assert "3 scores" in classes_found.reason
    softmax = sweep(Scores(lambda x: x.softmax(1)), "90").predictions
    assert softmax is not None
    assert softmax.scores == "probabilities"
    single = sweep(Scores(lambda x: (x[:, :1] - x[:, 1:2]) * 9), "90").predictions
    assert single is not None
    assert (single.kind, single.threshold) == ("binary", 0.5)
    assert sweep(Scores(lambda x: nn.functional.normalize(x - x.mean(), dim=1)), "90").embedding is not None
    assert sweep(Maps(lambda x: x * 2), "90").dense is not None
    masks = sweep(Maps(lambda x: x[:, :2] - 0.4), "90").segmentation
    assert masks is not None
    assert masks.classes == ["class 1"]


def test_a_number_that_is_no_score_gets_no_class() -> None:
    """An age, say: without labels no decision is read from it; with --task classification it is."""
    model = Scores(lambda x: x[:, :1] * 80 + 1)
    assert sweep(model, "90").predictions is None
    assert sweep(model, "90", task=TaskOptions(task="classification")).predictions is not None


def test_a_task_that_does_not_fit_the_output_is_refused() -> None:
    """--task segmentation on scores names the output and its shape."""
    with pytest.raises(UsageError, match="segmentation does not fit output of shape 3"):
        sweep(Scores(lambda x: x), "90", task=TaskOptions(task="segmentation"))


def test_accuracy_falls_when_digits_are_turned_and_some_survive_180_degrees() -> None:
    """LeNet-5 on digits: right at 0 and 360, hardly at 90; 0, 1 and 8 survive half a turn, 6 and 9 do not."""
    _, (images, labels) = load_digits_28()
    report = sweep(FIXTURES / "models" / "lenet5.pt", "0,90,180,360", images, targets=labels, samples=0)
    found = report.predictions
    assert found is not None
    rows = {row.element: row for row in found.by_element}
    accuracy = {name: row.accuracy.value for name, row in rows.items() if row.accuracy}
    assert accuracy["e"] == accuracy["r360"] > 0.9
    assert accuracy["r90"] < 0.3
    upside_down = rows["r180"].class_accuracy
    assert upside_down is not None
    assert min(upside_down[digit] or 0 for digit in (0, 8)) > max(upside_down[digit] or 0 for digit in (6, 9))
    assert found.worst_accuracy is not None
    assert found.worst_accuracy.accuracy == min(accuracy.values())
    assert sum(found.class_images or []) == len(labels)


def test_dice_of_the_p4_u_net_is_one_at_quarter_turns_and_that_of_the_plain_one_is_not() -> None:
    """Dice of the turned mask and the mask of the turned image; below one between, with a floor."""
    truth = TruthOptions(masks=str(FIXTURES / "blobs" / "masks"))
    dice = {}
    for name in ("unet_p4", "unet_plain"):
        report = sweep(
            FIXTURES / "models" / f"{name}.pt",
            "0,45,90,180,270,360",
            str(FIXTURES / "blobs" / "images"),
            truth=truth,
            samples=16,
        )
        assert report.segmentation is not None
        dice[name] = {row.element: row for row in report.segmentation.by_element}
        unmoved = report.segmentation.unmoved.truth_dice
        assert unmoved is not None
    for element in ("e", "r90", "r180", "r270", "r360"):
        assert dice["unet_p4"][element].dice.mean == 1.0
    assert dice["unet_p4"]["r45"].dice.mean < 1.0
    assert dice["unet_p4"]["r45"].dice.floor is not None
    assert all(dice["unet_plain"][element].dice.mean < 0.9 for element in ("r90", "r180", "r270"))


def test_what_the_window_hides_is_not_held_against_a_mask_at_any_angle() -> None:
    """What finds every bright pixel that it is shown has a Dice of 1 with the truth at 0 and 90 too."""
    images = np.random.default_rng(0).integers(0, 2, (8, 1, 32, 32)).astype(np.float32)
    report = sweep(NotBlack(), "0,45,90", images, targets=images[:, 0].astype(np.int64))
    assert report.segmentation is not None
    truth = {row.element: row.truth_dice for row in report.segmentation.by_element}
    assert [spread.mean for name in ("e", "r90") if (spread := truth[name]) is not None] == [1.0, 1.0]


def test_the_bundled_u_nets_segment_the_bundled_pictures() -> None:
    """Dice with the true masks is above 0.85 for both, as the pictures are."""
    for name in ("unet_p4", "unet_plain"):
        report = sweep(
            FIXTURES / "models" / f"{name}.pt",
            "0",
            str(FIXTURES / "blobs" / "images"),
            truth=TruthOptions(masks=str(FIXTURES / "blobs" / "masks")),
        )
        assert report.segmentation is not None
        unmoved = report.segmentation.unmoved.truth_dice
        assert unmoved is not None
        assert unmoved.mean > 0.85


def test_a_label_outside_of_the_classes_names_its_place(tmp_path: Path) -> None:
    """File and line of the label, what it is, and what the model has."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(photographs(4)):
        Image.fromarray((image.transpose(1, 2, 0) * 255).astype(np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "labels.csv").write_text("file,label\n0.png,0\n1.png,1\n2.png,7\n3.png,2\n")
    truth = TruthOptions(labels=str(tmp_path / "labels.csv"))
    said = r"labels\.csv line 4: label 7, and the model has 3 classes"
    with pytest.raises(DataError, match=said) as caught:
        sweep(Scores(lambda x: x), "90", str(folder), truth=truth)
    assert caught.value.hint


# The command -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return digits with labels as an archive."""
    _, (images, labels) = load_digits_28()
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    pixels = (images[:40, 0].numpy() * 255).astype(np.uint8)
    np.savez(path, images=pixels, labels=labels[:40].numpy())
    return path


def test_an_empty_image_is_skipped_also_where_the_floor_would_have_used_it(tmp_path: Path) -> None:
    """A picture that only its pixels give away costs nothing but itself."""
    for number, image in enumerate(photographs(6)):
        pixels = (image.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    Image.new("RGB", (33, 33), "grey").save(tmp_path / "3.png")
    report = sweep(blur(0), "45", str(tmp_path), space=SpaceOptions(floor_samples=6), batch_size=2)
    assert [skipped.name for skipped in report.inputs.skipped] == ["3.png"]
    assert report.inputs.samples == 5
    assert report.resampling is not None
    assert report.resampling.floor_images == 5


def test_the_command_writes_table_json_csv_and_pictures(
    digits: Path, tmp_path: Path, eqaudit: Callable[..., Any]
) -> None:
    """One command gives accuracy by angle in every form; the CSV has one row for each angle."""
    ended = eqaudit(
        "sweep-angles",
        str(FIXTURES / "models" / "lenet5.pt"),
        *("--data", str(digits), "--angles", "0,45,90,360", "--samples", "0", "--layers", "conv*"),
        *("--json", "out.json", "--csv", "out.csv", "--plots", "pictures"),
        cwd=tmp_path,
    )
    text = ended.stdout.decode()
    assert ended.returncode == 0, ended.stderr.decode()
    assert all(part in text for part in ("accuracy", "accuracy by class", "conv1", "< worst", "PASSED"))
    assert max(len(line) for line in text.splitlines()) <= 80
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["kind"] == "sweep"
    assert [row["element"] for row in report["predictions"]["by_element"]] == ["e", "r45", "r90", "r360"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [float(row["degrees"]) for row in rows] == [0.0, 45.0, 90.0, 360.0]
    assert float(rows[0]["accuracy"]) == report["predictions"]["by_element"][0]["accuracy"]["value"]
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert {"error.png", "consistency.png", "heatmap.png", "worst.png"} <= pictures


def test_per_image_rows_go_into_the_csv(digits: Path, tmp_path: Path, eqaudit: Callable[..., Any]) -> None:
    """One row for each image and angle, with what was predicted."""
    arguments = (
        "--data",
        str(digits),
        "--angles",
        "0,90",
        "--samples",
        "0",
        "--csv",
        "out.csv",
        "--per-image",
    )
    ended = eqaudit("sweep-angles", str(FIXTURES / "models" / "lenet5.pt"), *arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr.decode()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert len(rows) == 2 * 40
    assert {row["element"] for row in rows} == {"e", "r90"}


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--angles", "0:360:0"], 2, ["--angles", "empty range"]),
        (["--angles", "400"], 2, ["400", "beyond 360"]),
        (["--angles", "nan"], 2, ["nan", "no angle"]),
        (["--per-image"], 2, ["--csv"]),
        (["--threshold", "1.5"], 2, ["--threshold"]),
        (["--floor-factor", "nan"], 2, ["--floor-factor"]),
        (["--labels", "nowhere.csv"], 3, ["nowhere.csv"]),
        (["--data", str(FIXTURES / "blobs" / "images"), "--masks", "nowhere"], 3, ["nowhere"]),
        (["--labels", ""], 2, ["--labels is empty"]),
        (["--csv", "no/such/folder.csv"], 2, ["no/such"]),
        (["--boundary", "torus"], 2, ["boundary"]),
        (["--json", "out", "--csv", "./out"], 2, ["--json and --csv both write"]),
    ],
)
def test_wrong_requests_get_one_error_and_their_code(
    arguments: list[str], code: int, parts: list[str], tmp_path: Path, eqaudit: Callable[..., Any], told: Any
) -> None:
    """Each names the option and what is wrong with it, and nothing is written."""
    ended = eqaudit("sweep-angles", str(FIXTURES / "models" / "exact_c4.pt"), *arguments, cwd=tmp_path)
    text = told(ended)
    assert ended.returncode == code
    assert all(part in text for part in parts), text
    assert not list(tmp_path.iterdir())


def test_render_shows_a_saved_sweep_and_says_which_picture_it_cannot_draw(
    digits: Path, tmp_path: Path, eqaudit: Callable[..., Any]
) -> None:
    """The same table as the audit printed, and every picture but the one that needs the model."""
    arguments = ("--data", str(digits), "--angles", "0,45,90", "--json", "sweep.json")
    audited = eqaudit("sweep-angles", str(FIXTURES / "models" / "lenet5.pt"), *arguments, cwd=tmp_path)
    rendered = eqaudit("render", "sweep.json", "--plots", "pictures", cwd=tmp_path)
    assert (audited.returncode, rendered.returncode) == (0, 0)
    assert rendered.stdout == audited.stdout
    assert b"worst.png" in rendered.stderr
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert "error.png" in drawn
    assert "worst.png" not in drawn
