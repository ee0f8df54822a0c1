"""The networks of published studies: their sizes, and what holds of them at random weights."""

import importlib
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from study_audits import STUDIES, audited, holds, layer_of, parameters
from torch import Tensor, nn

from eqaudit import engine
from eqaudit.parsing import parse_angles
from eqaudit.plan import AuditPlan, InputOptions, PythonObject
from eqaudit.reporters.base import first_breaking_layer

sys.path.append(str(STUDIES))

from _layers import GROUPS, GroupConv, Steered, Turns, initialised
from gcnn import all_cnn, early, lenet, resnet44, rotated_digits
from se2 import resnet50, se2_cnn
from unets import unet_p4, unet_plain, unet_se2, unet_steerable

ROUNDING = 1e-12  # of features near 1, in float64
BROKEN = {"broken", "approximate"}


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
        pytest.param(lambda group: resnet44(group, shrink=8), 33, 3, marks=pytest.mark.long),
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
