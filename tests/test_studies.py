"""The studies as commands: their data, their trained networks, and what they write."""

import hashlib
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
from study_audits import FEW, STUDIES, holds, layer_of
from torch import nn

import eqaudit
from eqaudit.report import Report, from_json
from eqaudit.reporters.base import first_breaking_layer

sys.path.append(str(STUDIES))

import train
from datasets import load_digits, load_patches
from nuclei import cut, read_pairs
from train import TRAININGS
from unets import unet_p4, unet_plain, unet_se2, unet_steerable


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


@pytest.mark.long
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


@pytest.mark.long
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
