"""The networks of published studies: their sizes, and what holds of them at random weights."""

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.io import imsave
from torch import Tensor, nn

import eqaudit
from eqaudit import engine
from eqaudit.parsing import parse_angles
from eqaudit.plan import AuditPlan, InputOptions, PythonObject
from eqaudit.report import Layer, Report, from_json
from eqaudit.reporters.base import first_breaking_layer

STUDIES = Path(__file__).parents[1] / "fixtures" / "studies"
sys.path.append(str(STUDIES))

import train  # noqa: E402 - once its folder is known
from _layers import GROUPS, GroupConv, Steered, Turns, initialised  # noqa: E402 - as above
from datasets import load_digits, load_patches  # noqa: E402 - as above
from gcnn import all_cnn, early, lenet, resnet44, rotated_digits  # noqa: E402 - as above
from nuclei import cut, read_pairs  # noqa: E402 - as above
from se2 import resnet50, se2_cnn  # noqa: E402 - as above
from train import TRAININGS  # noqa: E402 - as above
from unets import unet_p4, unet_plain, unet_se2, unet_steerable  # noqa: E402 - as above

ROUNDING = 1e-12  # of features near 1, in float64
FEW = 8
BROKEN = {"broken", "approximate"}


def parameters(model: nn.Module) -> int:
    """Return how many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def audited(model: nn.Module, group: str, shape: tuple[int, int, int]) -> Report:
    """Return the audit on a few built-in photographs."""
    return eqaudit.audit(model, group=group, samples=FEW, input_shape=shape)


def holds(report: Report) -> str:
    """Return the largest group that holds."""
    assert report.verdict is not None
    return report.verdict.holds


def layer_of(report: Report, name: str) -> Layer:
    """Return a layer by name."""
    return next(layer for layer in report.layers if layer.name == name)


def move(maps: Tensor, element: int) -> Tensor:
    """Return maps mirrored (from 4 on) and turned by quarters."""
    mirrored, quarters = divmod(element, 4)
    return (maps.flip(-1) if mirrored else maps).rot90(quarters, (-2, -1))


def fields_of(features: Tensor, group: Turns) -> Tensor:
    """Return `(B, fields, order, H, W)`."""
    return features.reshape(len(features), -1, group.order, *features.shape[-2:])


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (resnet50, "25557032"),
        (lambda: all_cnn("z2"), "1.37M"),
        (lambda: all_cnn("p4"), "1.37M"),
        (lambda: all_cnn("p4m"), "1.22M"),
        (lambda: resnet44("z2"), "2.64M"),
        (lambda: resnet44("p4m"), "2.62M"),
    ],
)
def test_sizes_are_those_of_the_tables(model: Callable[[], nn.Module], published: str) -> None:
    """To every digit that is printed."""
    count = parameters(model())
    assert published in {str(count), f"{count / 1e6:.2f}M"}


def test_the_study_of_lenet_is_the_fixture() -> None:
    """767,426 parameters; and the networks averaged over orbits are at hand under their names."""
    existing = importlib.import_module("existing")
    assert parameters(existing.lenet5()) == 767_426
    assert parameters(existing.orbit_cnn()) == parameters(existing.standard_cnn())


def test_u_nets_have_the_published_size_within_two_percent() -> None:
    """1.96 million, plain and on p4."""
    assert parameters(unet_plain()) == pytest.approx(1.96e6, rel=0.02)
    assert parameters(unet_p4()) == pytest.approx(1.96e6, rel=0.02)


def test_versions_of_the_small_network_have_equal_sizes() -> None:
    """Z2, p4 and p4m within 2 %."""
    sizes = [parameters(lenet(group)) for group in GROUPS]
    assert max(sizes) < 1.02 * min(sizes)


@pytest.mark.parametrize("group", [*GROUPS.values(), Turns(2), Turns(12), Steered(8), Turns(4, mirrors=True)])
def test_a_move_of_the_image_moves_maps_and_permutes_the_channels_of_each_field(group: Turns) -> None:
    """F(T_h x) = rho(h) T_h F(x) for quarter turns and mirrors that are in the group, lifted and after."""
    lift = GroupConv(group, 2, 3, 5, lift=True)
    layers = initialised(nn.Sequential(lift, nn.ReLU(), GroupConv(group, 3, 2, 3))).double()
    image = torch.rand(2, 2, 11, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    source = group.source()
    with torch.no_grad():
        for mirrored in range(1 + group.mirrors):
            for quarters in range(0, 4, 4 // min(group.turns, 4)):
                element = mirrored * group.turns + quarters * group.turns // 4
                found = fields_of(layers(move(image, 4 * mirrored + quarters)), group)
                still = fields_of(move(layers(image), 4 * mirrored + quarters), group)
                assert (found - still[:, :, source[element]]).abs().max() < ROUNDING
        plain = layers(image.rot90(1, (-2, -1))) - layers(image).rot90(1, (-2, -1))
        assert plain.abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_steered_kernel_is_the_function_at_turned_places(steps: int) -> None:
    """Turned by 30 degrees and more, a kernel of rings is what turning a large picture of it gives."""
    group = Steered(12)
    kernels = group.operator(7).reshape(12, 7, 7, -1)
    turned = kernels[steps].permute(2, 0, 1)
    for first, found in zip(kernels[0].permute(2, 0, 1).numpy(), turned.numpy(), strict=True):
        wide = np.pad(first, 4)
        expected = ndimage.rotate(wide, 30 * steps, reshape=False, order=5)[4:-4, 4:-4]
        assert np.abs(expected - found).max() < 0.1 * np.abs(first).max()


@pytest.mark.parametrize(
    ("model", "side", "channels"),
    [
        (lenet, 28, 1),
        (rotated_digits, 28, 1),
        (lambda group: all_cnn(group, shrink=8), 33, 3),
        (lambda group: resnet44(group, shrink=8), 33, 3),
    ],
)
def test_networks_hold_under_their_own_group_and_no_larger(
    model: Callable[[str], nn.Module], side: int, channels: int
) -> None:
    """Z2 nothing, p4 C4, p4m D4: exact, at sizes that strides fit."""
    found = {group: holds(audited(model(group), "D4", (channels, side, side))) for group in GROUPS}
    assert found == {"z2": "C1", "p4": "C4", "p4m": "D4"}


def test_strides_that_do_not_fit_break_the_group() -> None:
    """All-CNN-C at 32 pixels, the size of its images, is not exact."""
    assert holds(audited(all_cnn("p4", shrink=8), "C4", (3, 32, 32))) == "C1"


def test_equivariance_that_stops_early_is_exact_up_to_there() -> None:
    """The last group convolution and its ReLU are exact, the first plain one breaks, and the output too."""
    report = audited(early(), "C4", (3, 24, 24))
    for name in ("group1", "relu1", "group2", "relu2", "group3", "relu3"):
        assert {error.class_ for error in layer_of(report, name).errors} == {"exact"}
    for name in ("plain4", "relu4", "plain5", "relu5", "classes"):
        assert {error.class_ for error in layer_of(report, name).errors} <= BROKEN
    breaking = first_breaking_layer(report)
    assert breaking is not None
    assert breaking.name == "plain4"
    assert holds(report) == "C1"


def test_the_same_network_without_stopping_holds() -> None:
    """Five group convolutions are exact, none of them is plain."""
    assert holds(audited(early(equivariant=5), "C4", (3, 24, 24))) == "C4"
    assert holds(audited(early(equivariant=0), "C4", (3, 24, 24))) == "C1"


@pytest.mark.parametrize(
    ("model", "group"),
    [
        (lambda: unet_p4(shrink=8), "C4"),
        (lambda: unet_se2(shrink=6), "C4"),
        (lambda: unet_steerable(shrink=9), "C4"),
        (lambda: unet_plain(shrink=8), "C1"),
    ],
)
def test_u_nets_turn_their_map_by_quarters(model: Callable[[], nn.Module], group: str) -> None:
    """All but the plain one."""
    assert holds(audited(model(), "C4", (1, 32, 32))) == group


def bright_discs(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return blurred ellipses on a dark ground `(N, 1, 64, 64)`, and their masks."""
    random = np.random.default_rng(0)
    down, right = np.mgrid[:64, :64]
    masks = np.zeros((count, 64, 64), dtype=np.int64)
    for mask in masks:
        for y, x, height, width in random.uniform((8, 8, 4, 4), (56, 56, 9, 9), (6, 4)):
            mask[((down - y) / height) ** 2 + ((right - x) / width) ** 2 < 1] = 1
    images = 0.05 + 0.75 * ndimage.gaussian_filter(masks.astype(np.float32), (0, 1, 1))
    return images[:, np.newaxis].astype(np.float32), masks


@pytest.mark.parametrize(
    ("make", "exact"), [(unet_plain, False), (unet_p4, True), (unet_se2, True), (unet_steerable, True)]
)
def test_kept_u_nets_segment_discs_and_turn_their_masks(
    make: Callable[[int], nn.Module], exact: bool
) -> None:
    """Dice is 1 at 90 degrees, but for the plain one, and below 1 at 45; discs are found."""
    model = make(4)
    model.load_state_dict(torch.load(STUDIES / "weights" / f"{make.__name__}.pth", weights_only=True))
    images, masks = bright_discs(4)
    report = eqaudit.audit(model, images, angles="0,45,90", targets=masks, layers=("none",))
    assert report.segmentation is not None
    rows = {row.element: row for row in report.segmentation.by_element}
    assert (rows["r90"].dice.mean == 1.0) == exact
    assert rows["r45"].dice.mean < 1.0
    truth = rows["e"].truth_dice
    assert truth is not None
    assert truth.mean > 0.8


def test_smoothed_kernels_turn_better_but_not_at_the_floor() -> None:
    """Turned bilinearly by 30 degrees they are still blurred further: the roll is approximate."""
    rough, smoothed = (
        next(row for row in layer_of(report, "relu1").errors if row.element == "r30")
        for width in (0.0, 1.0)
        for report in [audited(se2_cnn(fields=(4,), pooling=False, smoothed=width), "C12", (3, 48, 48))]
    )
    assert rough.error is not None
    assert smoothed.error is not None
    assert smoothed.error < rough.error
    assert {rough.class_, smoothed.class_} == {"approximate"}


def write_nuclei(folder: Path, shapes: list[tuple[int, ...]]) -> None:
    """Write images with a bright disc (RGBA: a dark one on white), and its label."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, shape in enumerate(shapes):
        down, right = np.mgrid[: shape[0], : shape[1]]
        disc = np.hypot(down - shape[0] / 2, right - shape[1] / 2) < shape[0] / 4
        image = np.where(disc, 200, 20)
        if len(shape) > 2:
            image = np.where(disc, 20, 200)[..., None].repeat(shape[2], 2)
        imsave(folder / "images" / f"{number}.png", image.astype(np.uint8), check_contrast=False)
        imsave(folder / "labels" / f"{number}.png", 7 * disc.astype(np.uint16), check_contrast=False)


def test_nuclei_are_bright_of_like_size_and_split_by_image(tmp_path: Path) -> None:
    """Grey, RGBA and large images: crops hold the nucleus, 0 is the ground, 1 the nucleus."""
    write_nuclei(tmp_path, [(100, 120), (100, 120, 4), (600, 520), (96, 96, 3)])
    train, held_out = read_pairs(tmp_path)
    assert (len(train), len(held_out)) == (3, 1)
    assert sorted(image.shape for image, _ in train + held_out) == [
        (96, 96),
        (100, 120),
        (100, 120),
        (300, 260),
    ]
    for image, mask in train + held_out:
        assert np.median(image[mask == 1]) > 250
        assert np.median(image[mask == 0]) == 0
    images, masks = cut(train, 2, seed=0, side=64)
    assert images.shape == masks.shape == (6, 64, 64)
    assert masks.mean() > 0.02
    assert np.array_equal(images, cut(train, 2, seed=0, side=64)[0])


@pytest.mark.parametrize(
    ("shapes", "spoiled", "said"),
    [
        ([(100, 100)] * 3, None, "3 files images/*.png, expected at least 4"),
        ([(100, 100)] * 3 + [(90, 100)], None, "expected one size, from 96 on"),
        ([(100, 100)] * 4, b"no image", "cannot be read"),
    ],
)
def test_folders_that_hold_no_nuclei_are_one_line(
    shapes: list[tuple[int, ...]], spoiled: bytes | None, said: str, tmp_path: Path
) -> None:
    """Too few images, too small ones, damaged labels: the study names the file."""
    write_nuclei(tmp_path / "data", shapes)
    if spoiled is not None:
        (tmp_path / "data" / "labels" / "2.png").write_bytes(spoiled)
    ended = run_study(tmp_path / "out", "unets", "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"fixtures.studies: error: {tmp_path / 'data'}")
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr


def test_u_nets_are_trained_by_one_command_the_same_every_time(tmp_path: Path) -> None:
    """Weights of the narrow network, from a folder of nuclei; another run writes the same numbers."""
    write_nuclei(tmp_path / "data", [(96, 96)] * 4)
    states = []
    for out in ("one", "other"):
        command = [sys.executable, str(STUDIES / "train_unets.py"), "unet_plain", "--steps", "2"]
        folders = ["--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / out)]
        ended = subprocess.run([*command, *folders], capture_output=True, text=True, check=True)
        assert ended.stdout.startswith("unet_plain: 0.")
        states.append(torch.load(tmp_path / out / "unet_plain.pth", weights_only=True))
    unet_plain(4).load_state_dict(states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["head.conv.weight"], unet_plain(4).state_dict()["head.conv.weight"])


def test_se2_rolls_by_a_quarter_of_its_orientations_and_ends_at_the_floor() -> None:
    """12 orientations: a quarter turn rolls by 3, exactly; by 30 degrees the output is at the floor."""
    report = audited(se2_cnn(), "C12", (3, 64, 64))
    lift = layer_of(report, "lift")
    assert lift.representation is not None
    assert lift.representation.words == "4 x regular C12, last, roll +1"
    assert {error.class_ for error in lift.errors if error.element in {"r90", "r180", "r270"}} == {"exact"}
    assert holds(report) == "C12"
    classes = {error.element: error.class_ for error in report.gating_output.errors}
    assert (classes["r30"], classes["r90"]) == ("at the floor", "exact")


def test_steered_kernels_are_at_the_floor_where_rough_bilinear_ones_are_not() -> None:
    """At each of 12 turns, in each layer; interpolating a rough kernel costs 12 floors."""
    names = ("lift", "relu1", "project")
    steered, bilinear = (
        audited(se2_cnn(fields=(4,), pooling=False, steered=steered), "C12", (3, 64, 64))
        for steered in (True, False)
    )
    found = {error.class_ for name in names for error in layer_of(steered, name).errors}
    assert found == {"at the floor", "exact"}
    rough = next(error for error in layer_of(bilinear, "lift").errors if error.element == "r30")
    assert rough.error == pytest.approx(0.105, rel=0.1)
    assert rough.floor == pytest.approx(0.0087, rel=0.2)
    assert rough.trivial_error == pytest.approx(0.245, rel=0.1)


def test_the_picture_of_the_lifting_layer_shows_the_roll() -> None:
    """Planes turned back are those of F(x), three further at 90 degrees and, nearly, one further at 30."""
    plan = AuditPlan(
        model=PythonObject(str(STUDIES / "se2.py"), "se2_cnn", is_file=True),
        inputs=InputOptions(samples=4, input_shape=(3, 48, 48)),
        angles=parse_angles("0,90,30"),
        layers=("lift",),
        drawn=InputOptions(samples=1, input_shape=(3, 48, 48)),
    )
    audit = engine.check(plan, lambda *_: None)
    assert audit is not None
    assert audit.features is not None
    (layer,) = audit.features.layers
    assert [len(field) for field in layer.fields] == [12]
    maps = [np.frombuffer(row.maps.values, np.float32).reshape(row.maps.shape) for row in layer.rows]
    still, quarter, twelfth = maps[0], maps[2], maps[5]
    assert np.abs(quarter - np.roll(still, 3, axis=0)).max() < 1e-5
    inside = (slice(None), slice(10, -10), slice(10, -10))
    apart = [np.linalg.norm((twelfth - np.roll(still, shift, axis=0))[inside]) for shift in range(12)]
    assert int(np.argmin(apart)) == 1


def test_a_study_is_checked_by_its_name(
    eqaudit: Callable[..., CompletedProcess[bytes]], tmp_path: Path
) -> None:
    """A factory with an argument, from another folder."""
    spec = f"{STUDIES / 'gcnn.py'}:rotated_digits"
    ended = eqaudit(
        "check", spec, "--arg", "group=p4m", "--samples", "4", "--input-shape", "1,28,28", "-q", cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert ended.stdout.startswith(b"D4 exactly")


def run_study(folder: Path, *arguments: str) -> CompletedProcess[str]:
    """Run `python -m fixtures.studies` from the root of the repository."""
    return subprocess.run(
        [sys.executable, "-m", "fixtures.studies", *arguments, "--out", str(folder)],
        cwd=STUDIES.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def write_digits(folder: Path, count: int, prefix: str = "train") -> None:
    """Write idx files of noise with labels, as MNIST has them."""
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for name, array in (("images-idx3", noise), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{prefix}-{name}-ubyte").write_bytes(header + array.tobytes())


def test_digits_that_are_held_out_are_the_same_with_and_without_a_training_set(tmp_path: Path) -> None:
    """Kept weights were trained on the rest of the test set."""
    write_digits(tmp_path, 50, "t10k")
    (part, _), (alone, _) = load_digits(tmp_path)
    write_digits(tmp_path, 60)
    (train, _), (held_out, _) = load_digits(tmp_path)
    assert (len(part), len(train), len(alone)) == (40, 60, 10)
    assert np.array_equal(held_out, alone)


def write_squares(folder: Path, count: int) -> None:
    """Write pictures with two bright squares each; the blue of a picture says which one it is."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        labels = np.zeros((64, 80), np.uint16)
        for mark in (1, 2):
            row, column = random.integers(10, 40, 2)
            labels[row : row + 12, column : column + 12] = mark
        picture = np.stack([np.where(labels > 0, 200, 20), 30 + 0 * labels, number + 0 * labels], axis=-1)
        Image.fromarray(picture.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")


def test_patches_are_balanced_split_by_image_and_labelled_by_their_centre(tmp_path: Path) -> None:
    """And cut in the same way every time."""
    write_squares(tmp_path, 7)
    parts, again = load_patches(tmp_path), load_patches(tmp_path)
    seen = []
    for (images, labels), (same, _) in zip(parts, again, strict=True):
        assert images.shape[1:] == (32, 32, 3)
        assert labels.mean() == 0.5
        assert (images[:, 16, 16, 0] == np.where(labels, 200, 20)).all()
        assert (images == same).all()
        seen.append(set(images[:, 0, 0, 2].tolist()))
    assert [len(images) for images in seen] == [5, 2]
    assert not seen[0] & seen[1]


def kept(name: str, factory: str, data: NDArray[np.float32], group: str = "D4") -> Report:
    """Return the audit of a network of a study with its kept weights."""
    return eqaudit.audit(
        f"{STUDIES / factory}:{name}", data, group=group, weights=STUDIES / "weights" / f"{name}.pth"
    )


PATCHES = np.random.default_rng(0).random((FEW, 3, 32, 32), dtype=np.float32)
DIGITS = np.random.default_rng(0).random((FEW, 1, 28, 28), dtype=np.float32)


def test_kept_weights_are_small_and_of_networks_of_the_studies() -> None:
    """Below 2 MB each; those of the patches below 2.5 MB together."""
    sizes = {path.stem: path.stat().st_size for path in (STUDIES / "weights").glob("*.pth")}
    assert set(TRAININGS) <= set(sizes)
    assert max(sizes.values()) < 2e6
    assert sum(sizes[name] for name in ("standard_cnn", "orbit_cnn_published", "orbit_cnn")) < 2.5e6


def test_the_published_orbit_network_is_exact_at_its_averaged_map_and_breaks_after_it() -> None:
    """Trained: its map turns with the image, its output does not stay; averaged at the output it does."""
    published = kept("orbit_cnn_published", "existing.py", PATCHES)
    assert {error.class_ for error in layer_of(published, "average").errors} == {"exact"}
    # Flattened, the cells of the maps still change places; the first weights of their own break them.
    breaking = first_breaking_layer(published)
    assert breaking is not None
    assert breaking.name == "classifier.fc1"
    assert max(error.trivial_error or 0 for error in layer_of(published, "flatten").errors) > 0.1
    assert (holds(published), published.model.parameters) == ("C1", 170_514)
    assert holds(kept("orbit_cnn", "existing.py", PATCHES)) == "D4"
    assert holds(kept("standard_cnn", "existing.py", PATCHES)) == "C1"


def test_trained_networks_hold_under_their_own_group() -> None:
    """Half precision of the kept weights takes nothing away; LeNet-5 holds nothing."""
    names = ("lenet_z2", "lenet_p4", "lenet_p4m")
    assert [holds(kept(name, "gcnn.py", DIGITS)) for name in names] == ["C1", "C4", "D4"]
    lenet5 = kept("lenet5", "existing.py", DIGITS)
    assert (holds(lenet5), lenet5.model.parameters) == ("C1", 767_426)


def test_trained_equivariance_stops_where_the_group_convolutions_do() -> None:
    """Plain from the first layer on, early p4 after three, p4 never."""
    reports = [kept(name, "gcnn.py", DIGITS, "C4") for name in ("plain", "early_p4", "p4")]
    breaking = [first_breaking_layer(report) for report in reports]
    assert [layer and layer.name for layer in breaking] == ["plain1", "plain4", None]
    assert [holds(report) for report in reports] == ["C1", "C1", "C4"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("lenet", {"digits.npz", "lenet.csv", "seen/kernels.png", "seen/features.png"}),
        pytest.param(
            "orbit",
            {"patches.npz", "orbit.csv", "orbit/roc.png", "orbit/confidence.png"},
            marks=pytest.mark.long,
        ),
        pytest.param(
            "groups", {"groups.csv", "groups/curves.png", "early_p4/per_class.png"}, marks=pytest.mark.long
        ),
    ],
)
def test_a_study_runs_with_its_kept_weights(name: str, written: set[str], tmp_path: Path) -> None:
    """From the files of a data set to tables, pictures, and the published figure beside ours."""
    if name == "orbit":
        write_squares(tmp_path / "data", 3)
    else:
        write_digits(tmp_path / "data", 60)
    out = tmp_path / "out"
    ended = run_study(out, name, "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 0, ended.stderr
    comparison = (out / "comparison.md").read_text()
    assert comparison in ended.stdout
    rows = [line.split(" | ") for line in comparison.splitlines() if line.startswith("| ")]
    assert len(rows) > 8
    assert all(any(sign.isdigit() for sign in row[2]) or "break" in row[2] for row in rows[1:])
    assert "Not matched: " in comparison
    assert all((out / path).is_file() for path in written)


def test_a_study_is_trained_anew(tmp_path: Path) -> None:
    """The weights are written beside what they give, and used; training twice gives the same."""
    write_digits(tmp_path / "data", 60)
    out = tmp_path / "out"
    ended = run_study(out, "lenet", "--train", "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 0, ended.stderr
    report = from_json((out / "lenet.json").read_bytes(), "lenet.json")
    assert report.model.weights_sha256 == hashlib.sha256((out / "lenet5.pth").read_bytes()).hexdigest()
    assert (out / "training.txt").read_text().startswith("lenet5: 48 images to train, 12 held out")
    first = (out / "lenet5.pth").read_bytes()
    assert train.main(["lenet5", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "lenet5.pth").read_bytes() == first


def break_digits(folder: Path) -> None:
    """Cut a file of digits short."""
    write_digits(folder, 60)
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])


def break_nuclei(folder: Path) -> None:
    """Make the labels of a picture smaller."""
    write_squares(folder, 3)
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(folder / "labels" / "1.png")


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("lenet", Path.mkdir, "no file t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz"),
        ("groups", break_digits, "train-images-idx3-ubyte: declares 60x28x28 bytes, holds 47,039"),
        ("orbit", Path.mkdir, "0 PNG images, expected at least 3"),
        ("orbit", break_nuclei, "1.png: image of uint8 and labels of 64x80 and 64x64, expected"),
    ],
)
def test_a_folder_without_the_data_is_one_line(
    name: str, make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    """It names the file, what was expected and what was found; the same when training."""
    make(tmp_path / "data")
    ended = run_study(tmp_path / "out", name, "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"fixtures.studies: error: {tmp_path / 'data'}")
    assert said in line


@pytest.mark.parametrize(
    "arguments", [("lenet",), ("lenet", "--train"), ("unets",), ("sizes", "--train"), ("nothing",)]
)
def test_options_of_a_study_that_contradict_each_other_are_refused(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """No data, nothing to train, no such study."""
    assert run_study(tmp_path, *arguments).returncode == 2
