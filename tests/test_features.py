"""`eqaudit features`: arrays against numpy, pictures by their pixels, the command as a user starts it."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import group_networks as networks
import numpy as np
import pytest
import torch
from drawn import is_framed_in_white, read_pixels
from numpy.typing import NDArray
from PIL import Image
from reports import make_sweep
from torch import nn

from eqaudit import engine
from eqaudit.parsing import parse_angles
from eqaudit.plan import AuditPlan, InputOptions, PathData, PythonObject
from eqaudit.report import FeaturePicture, FeatureRow, Features, PanelImage
from eqaudit.reporters.feature_pictures import draw_features, draw_kernels
from eqaudit.reporters.figures import to_png
from eqaudit.reporters.pictures import draw_seen

Ended = CompletedProcess[bytes]
MODELS = Path(__file__).parents[1] / "fixtures" / "models"
EXACT, PLAIN = str(MODELS / "exact_c4.pt"), str(MODELS / "lenet5.pt")
SIDE = 21
NEAR = 1e-5  # of values near 1, in float32


def plain() -> nn.Sequential:
    """Return a network of one plain convolution and a vector."""
    with networks.seeded(3):
        layers = [nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(6, 3))


def not_finite() -> nn.Module:
    """Return a convolution whose first channel is NaN everywhere."""
    model = plain()
    with torch.no_grad():
        next(model.parameters())[0] = np.nan
    return nn.Sequential(model[0], nn.ReLU())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return an array file of four smooth images."""
    path = tmp_path / "pictures.npy"
    np.save(path, networks.images(4, SIDE).numpy())
    return path


def seen(
    factory: str,
    data: Path,
    layers: tuple[str, ...],
    angles: str,
    source: str = __file__,
    *,
    mirror: bool = False,
) -> Features:
    """Return what is drawn of a model of this file, or of another."""
    plan = AuditPlan(
        model=PythonObject(source, factory, is_file=True),
        inputs=InputOptions(data=PathData(str(data))),
        angles=parse_angles(angles),
        mirror=mirror,
        layers=layers,
        drawn=InputOptions(data=PathData(str(data)), samples=1),
    )
    audited = engine.check(plan, lambda *_: None)
    assert audited is not None
    assert audited.features is not None
    return audited.features


def rows_of(layer: FeaturePicture) -> list[NDArray[np.float32]]:
    """Return the maps of each row, (P, H, W)."""
    return [array(row.maps) for row in layer.rows]


def array(picture: PanelImage) -> NDArray[np.float32]:
    """Return the values of a picture."""
    return np.frombuffer(picture.values, np.float32).reshape(picture.shape)


def test_a_quarter_turn_rolls_the_planes_of_each_field(pictures: Path) -> None:
    """Turned back, the planes of a group field are those of F(x), each one place further; nothing is left."""
    found = seen("exact_c4", pictures, ("lift", "p4conv2"), "0,90,180", str(MODELS / "exact_c4.py"))
    for layer in found.layers:
        still, _, quarter, rest, _, half, half_rest = rows_of(layer)
        assert [sorted(field) for field in layer.fields] in (
            [[0, 1, 2, 3], [4, 5, 6, 7]],
            [[4, 5, 6, 7], [0, 1, 2, 3]],
        )
        for first in (0, 4):
            field = slice(first, first + 4)
            assert np.abs(quarter[field] - np.roll(still[field], 1, axis=0)).max() < NEAR
            assert np.abs(half[field] - np.roll(still[field], 2, axis=0)).max() < NEAR
            assert np.abs(still[field] - np.roll(still[field], 1, axis=0)).max() > 1e-2
        assert np.abs(rest).max() < NEAR
        assert np.abs(half_rest).max() < NEAR


def test_pooled_features_are_means_over_channels_and_over_the_image(pictures: Path) -> None:
    """Of maps the mean size of the channels and the mean of each; of a vector the vector."""
    plan = AuditPlan(
        model=PythonObject(__file__, "plain", is_file=True),
        inputs=InputOptions(data=PathData(str(pictures))),
        drawn=InputOptions(data=PathData(str(pictures))),
        pooled=True,
    )
    audited = engine.check(plan, lambda *_: None)
    assert audited is not None
    assert audited.features is not None
    source, convolution, *_, last = audited.features.pooled
    assert source.map is not None
    assert convolution.map is not None
    image = torch.from_numpy(array(source.map).copy())
    with torch.no_grad():
        features, scores = plain()[0](image[None])[0].numpy(), plain()(image[None])[0].numpy()
    assert np.abs(array(convolution.map) - np.abs(features).mean(0)).max() < NEAR
    assert np.abs(array(convolution.means) - features.mean((1, 2))).max() < NEAR
    assert (last.layer, last.map) == ("3", None)
    assert np.abs(array(last.means) - scores).max() < NEAR


def test_rows_are_what_numpy_makes_of_a_plain_convolution(pictures: Path) -> None:
    """The most varied channel first; F(x), F(T x), turned back, and F(T x) - T F(x) turned back."""
    layer = seen("plain", pictures, ("0",), "90").layers[0]
    channels = [channel for field in layer.fields for channel in field]
    shown = [array(row.image) for row in layer.rows if row.image is not None]
    image = shown[0][None]
    assert image[0].tobytes() in {known.tobytes() for known in np.load(pictures)}
    assert (shown[1] == np.rot90(image[0], 1, (1, 2))).all()
    with torch.no_grad():
        convolve = plain()[0]
        still, moved = (
            convolve(torch.from_numpy(np.rot90(image, turns, (2, 3)).copy())).numpy()[0, channels]
            for turns in (0, 1)
        )
    back = np.rot90(moved, -1, (1, 2))
    wanted = [still, moved, back, back - still]
    for row, expected in zip(rows_of(layer), wanted, strict=True):
        assert np.abs(row - expected).max() < NEAR
    assert (np.diff(still.std(axis=(1, 2))) <= 0).all()
    size = np.linalg.norm(back - still) / np.sqrt((np.square(back).sum() + np.square(still).sum()) / 2)
    assert layer.rows[3].title == f"difference, error {size:.2g}"


def test_a_mixing_action_is_undone_in_the_difference(pictures: Path) -> None:
    """Rotated irreps leave nothing of a difference, though the maps turned back are not those of F(x)."""
    source = str(Path(__file__).with_name("group_networks.py"))
    found = seen("irrep_network", pictures, ("*",), "90", source)
    changed = 0
    for layer in found.layers:
        still, _, back, rest = rows_of(layer)
        assert np.abs(rest).max() < 1e-4 * np.abs(still).max()
        changed += bool(np.abs(back - still).max() > 0.1 * np.abs(still).max())
    assert changed


def test_planes_of_a_field_with_mirrors_are_in_the_order_of_its_turns(pictures: Path) -> None:
    """Of D4 a quarter turn rolls the first four planes by one, and the four mirrored ones too."""
    source = str(Path(__file__).with_name("group_networks.py"))
    found = seen("d4_network", pictures, ("*",), "90", source, mirror=True)
    layer = next(layer for layer in found.layers if len(layer.fields[0]) == 8)
    still, _, back, rest, _, _, mirrored_rest = rows_of(layer)
    for first in range(0, 8 * len(layer.fields), 4):
        cycle = slice(first, first + 4)
        assert np.abs(back[cycle] - np.roll(still[cycle], 1, axis=0)).max() < NEAR
    assert np.abs(rest).max() < NEAR
    assert np.abs(mirrored_rest).max() < NEAR


def test_between_pixels_the_corners_do_not_count(pictures: Path) -> None:
    """At 30 degrees the difference is nothing outside of the disc, and small beside the map inside."""
    layer = seen("plain", pictures, ("0",), "30").layers[0]
    still, _, _, rest = rows_of(layer)
    assert rest[:, 0, 0].max() == 0
    assert 0 < np.abs(rest).max() < np.abs(still).max()


def test_kernels_are_the_weights_and_vectors_are_named(pictures: Path) -> None:
    """A kernel for each pair of channels; what has no map to draw says so."""
    found = seen("plain", pictures, ("*",), "90")
    weight = next(plain().parameters()).detach().numpy()
    assert [kernel.title for kernel in found.kernels] == ["0.weight (6 x 3 x 3 x 3)"]
    assert (array(found.kernels[0]) == weight).all()
    assert [layer.layer for layer in found.layers] == ["0", "1"]
    assert {skipped.name for skipped in found.undrawn} == {"2", "3"}
    assert {skipped.reason for skipped in found.undrawn} == {"no map: nothing to turn"}


def test_what_is_not_finite_is_drawn_without_it(pictures: Path) -> None:
    """NaN is no colour and stops no picture."""
    found = seen("not_finite", pictures, ("*",), "90")
    for content in draw_seen(make_sweep(None), found).values():
        assert is_framed_in_white(read_pixels(content))
    assert "error nan" in found.layers[0].rows[3].title


def test_a_picture_shows_each_map_in_its_place() -> None:
    """Two fields: the planes of one share a scale, from dark to bright; a large difference is red."""
    steps = np.stack([np.full((2, 2), value, np.float32) for value in (0, 1, 10, 30)])
    rows = [
        FeatureRow("F(x)", "maps", picture(steps), picture(np.eye(2, dtype=np.float32)[None])),
        FeatureRow("F(T x), r90", "maps", picture(steps), picture(np.eye(2, dtype=np.float32)[None])),
        FeatureRow("turned back", "maps", picture(steps)),
        FeatureRow("difference, error 1", "difference", picture(steps)),
    ]
    layer = FeaturePicture("$conv$", "2 x regular C2", 4, [[0, 1], [2, 3]], rows)
    figure = draw_features(make_sweep(None), Features("a\nb.png", [layer], [], []))
    (axes,) = figure.axes
    (shown,) = (np.asarray(image.get_array()) for image in axes.images)
    middle = [
        tuple(int(place) for place in axes_ticks) for axes_ticks in (axes.get_yticks(), axes.get_xticks())
    ]
    dark, bright = shown[middle[0][0], middle[1][1]], shown[middle[0][0], middle[1][2]]
    assert (shown[middle[0][2], middle[1][3]] == dark).all()
    assert (shown[middle[0][1], middle[1][4]] == bright).all()
    assert dark.sum() < bright.sum()
    red = shown[middle[0][3], middle[1][4]]
    assert red[0] > 3 * red[1]
    assert (shown[middle[0][2], middle[1][0]] == 1).all()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["input", "0", "1", "2", "3"]
    pixels = read_pixels(to_png(figure))
    assert is_framed_in_white(pixels)


def test_a_bright_border_does_not_take_the_colours_of_the_middle() -> None:
    """The scale is that of the middle of the maps, whatever surrounds it."""
    plain = np.linspace(0, 1, 100, dtype=np.float32).reshape(1, 10, 10)
    framed = plain.copy()
    framed[:, 0], framed[:, -1] = 100, -100
    middles = []
    for maps in (plain, framed):
        rows = [FeatureRow("F(x)", "maps", picture(maps), picture(maps))]
        layer = FeaturePicture("conv", "unchanged", 1, [[0]], rows)
        (axes,) = draw_features(make_sweep(None), Features("x.png", [layer], [], [])).axes
        shown = np.asarray(axes.images[0].get_array())
        middles.append(shown[20:76, -76:-20])
    assert (middles[0] == middles[1]).all()
    assert middles[0].std() > 0.1


def picture(values: NDArray[np.float32]) -> PanelImage:
    """Return values as they travel."""
    return PanelImage("w", values.shape, values.tobytes())


def test_kernels_are_drawn_on_one_scale_about_zero() -> None:
    """Blue below zero, white at it, red above; no kernel of zeros divides by zero."""
    values = np.array([-2.0, 0.0, 2.0], np.float32).reshape(1, 3, 1, 1)
    figure = draw_kernels(make_sweep(None), [picture(values), picture(0 * values)])
    (shown, zeros) = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    blue, white, red = (shown[5, place] for place in (5, 45, 85))
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert white.min() > 0.95
    assert zeros.min() > 0.95


def test_the_command_prints_errors_and_writes_both_pictures(
    eqaudit: Callable[..., Ended], tmp_path: Path
) -> None:
    """One image of a user: how channels turn, the error at each angle, two pictures and a report."""
    noise = np.random.default_rng(0).integers(0, 255, (33, 33, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "slide.png")
    ended = eqaudit(
        *("features", EXACT, "--layer", "lift", "--image", "slide.png", "--angles", "0,90"),
        *("--plots", "seen", "--json", "report.json"),
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    table = ended.stdout.decode().split("\n\n")[1].splitlines()
    assert table[1].startswith("lift  2 x regular C4, last, roll +1     0      0")
    assert float(table[2].split()[1]) < 1e-6
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["features.png", "kernels.png"]
    for path in (tmp_path / "seen").iterdir():
        assert is_framed_in_white(read_pixels(path.read_bytes()))
    assert b'"slide.png' in (tmp_path / "report.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--layer", "nowhere"), 2, "matches no layer"),
        (("--layer", "conv1", "--angles", "0:360:10"), 2, "at most 8"),
        (("--layer", "conv1", "--image", "missing.png"), 3, "no such data: missing.png"),
        (("--layer", "conv1", "--image", ""), 2, "--image is empty"),
        (("--layer", "conv1", "--image", "text.png"), 3, "text.png"),
        (("--layer", "conv1", "--image", "text.png", "--json", "text.png"), 2, "would be overwritten"),
        (("--layer", "conv1", "--plots", "text.png"), 2, "is a file"),
    ],
)
def test_bad_input_is_one_error(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    eqaudit: Callable[..., Ended],
    told: Callable[[Ended], str],
    tmp_path: Path,
) -> None:
    """What, where, and what to do next, with the code of the contract."""
    (tmp_path / "text.png").write_text("no picture")
    ended = eqaudit("features", PLAIN, "--samples", "2", *arguments, cwd=tmp_path)
    assert ended.returncode == code, ended.stderr.decode()
    assert words in told(ended)
