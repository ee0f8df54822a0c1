"""Numbers against independent code: numpy on hooks of the source module, and the laws of groups.

The oracle shares nothing with the package: features come from hooks that are registered here, moves are
``np.rot90`` and ``np.flip``, sums run in float64.
"""

import functools
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_zoo import ResNet, UNet, compiled
from numpy.typing import NDArray
from torch import Tensor, nn

import eqaudit
from eqaudit.engine.measure import Unit, measure_batch
from eqaudit.engine.probe import make_setting
from eqaudit.engine.references import Batch
from eqaudit.engine.shapes import Choice
from eqaudit.groups import IDENTITY, MIRROR, Element, Group, maximal_holding
from eqaudit.loader import wrap_module
from eqaudit.plan import AuditPlan, FileModel
from eqaudit.report import Layer, Report
from eqaudit.transforms import Resampler, UnknownLayoutError, act, find_layout

Array = NDArray[np.float64]
How = Literal["scripted", "traced"]
Key = tuple[str, int]
# Relative, of an error: features of another batch size differ by 1e-7 in float32, sums average that out.
TOLERANCE = 1e-6
# (mirrored, quarter turns) by the names of the contract.
NAMES = {
    "e": (False, 0),
    "r90": (False, 1),
    "r180": (False, 2),
    "r270": (False, 3),
    "m": (True, 0),
    "m-r90": (True, 1),
    "m-r180": (True, 2),
    "m-r270": (True, 3),
}
GROUPS = {
    "C1": ["e"],
    "C2": ["r180"],
    "C4": ["r90", "r180", "r270"],
    "D1": ["m"],
    "D2": ["r180", "m", "m-r180"],
    "D4": ["r90", "r180", "r270", "m", "m-r90", "m-r180", "m-r270"],
}


# Models that the project has not seen ----------------------------------------------------------------


class DictNet(nn.Module):
    """Logits, a mask and a map without channels."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.mask, self.pool, self.head = nn.Conv2d(6, 1, 3, padding=1), nn.AvgPool2d(4), nn.Linear(96, 4)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the three."""
        features = self.trunk(image)
        mask = self.mask(features)
        return {
            "logits": self.head(self.pool(features).flatten(1)),
            "mask": torch.sigmoid(mask),
            "map": mask[:, 0] + features[:, 1],
        }


class ToLast(nn.Module):
    """Channels last."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        return maps.permute(0, 2, 3, 1)


class ChannelsLast(nn.Module):
    """Layers on channels in the last dimension; the output is a map without channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), ToLast()
        self.norm, self.mix, self.act = nn.LayerNorm(4), nn.Linear(4, 5), nn.GELU()

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, H, W)."""
        return torch.mean(self.act(self.mix(self.norm(self.last(self.conv(image))))), dim=3)


def mlp() -> nn.Module:
    """Return a network on flattened pixels, with softmax at its end."""
    names = ("pixels", "hidden", "tanh", "logits", "softmax")
    layers = [nn.Flatten(), nn.Linear(768, 12), nn.Tanh(), nn.Linear(12, 4), nn.Softmax(dim=1)]
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


class Baked(nn.Module):
    """A network that holds its batch size, or takes any (None); the weights are the same."""

    def __init__(self, batch: int | None) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Linear(512, 3)
        self.batch = batch

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (B, 3)."""
        features = self.relu(self.conv(image))
        logits: Tensor = self.head(features.view(self.batch or features.shape[0], -1))
        return logits


def made(factory: Callable[[], nn.Module]) -> nn.Module:
    """Return the module in eval mode, its weights and statistics drawn from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = factory()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean.normal_(std=0.1)
    return module.eval()


@cache
def pictures(count: int = 12, height: int = 16, width: int = 16) -> NDArray[np.float32]:
    """Return random smooth images with some grain, (N, 3, H, W)."""
    random = np.random.default_rng(11)
    coarse = random.normal(size=(count, 3, height // 4 + 1, width // 4 + 1))
    smooth = np.repeat(np.repeat(coarse, 4, axis=2), 4, axis=3)[:, :, :height, :width]
    return (smooth + 0.3 * random.normal(size=smooth.shape)).astype(np.float32)


# The oracle ------------------------------------------------------------------------------------------


def moved(array: NDArray[Any], name: str, axes: tuple[int, int] = (-2, -1)) -> NDArray[Any]:
    """Mirror the width, then turn counter-clockwise."""
    mirrored, turns = NAMES[name]
    return np.rot90(np.flip(array, axes[1]) if mirrored else array, turns, axes)


def features(source: nn.Module, images: NDArray[np.float32]) -> dict[Key, Array]:
    """Return every feature of every module, and the outputs, of images in one batch."""
    found: dict[Key, Array] = {}
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def receive(_module: nn.Module, _inputs: Any, value: Tensor) -> None:
            calls[name] = calls.get(name, -1) + 1
            found[name, calls[name]] = value.double().numpy().copy()

        return receive

    handles = [part.register_forward_hook(hook(name)) for name, part in source.named_modules() if name]
    with torch.no_grad():
        result = source(torch.from_numpy(images.copy()))
    for handle in handles:
        handle.remove()
    outputs = {f"output.{key}": value for key, value in result.items()} if isinstance(result, dict) else {}
    for name, value in (outputs or {"output": result}).items():
        found[name, 0] = value.double().numpy().copy()
    return found


@dataclass
class Expected:
    """The numbers of one tensor: errors by element, of each image by element, and chance."""

    errors: dict[str, float] = field(default_factory=dict)
    by_image: dict[str, Array] = field(default_factory=dict)
    chance: float = 0.0


def squares(array: Array) -> Array:
    """Return the squared norm of each image's feature."""
    return np.asarray((array.reshape(len(array), -1) ** 2).sum(axis=1))


def chance_of(array: Array) -> float:
    """Compare all pairs of different images, one by one."""
    difference = power = 0.0
    for one, other in itertools.permutations(range(len(array)), 2):
        difference += float(((array[one] - array[other]) ** 2).sum())
        power += float((array[one] ** 2).sum() + (array[other] ** 2).sum()) / 2
    return math.sqrt(difference / power)


def oracle(
    source: nn.Module, images: NDArray[np.float32], elements: list[str], last: tuple[str, ...] = ()
) -> dict[Key, Expected]:
    """Measure a module by hand; ``last`` names the features with channels in the last dimension."""
    reference = features(source, images)
    expected = {key: Expected(chance=chance_of(value)) for key, value in reference.items()}
    for name in elements:
        for key, actual in features(source, np.ascontiguousarray(moved(images, name))).items():
            wanted = reference[key]
            if wanted.ndim > 2:
                wanted = moved(wanted, name, (1, 2) if key[0] in last else (-2, -1))
            difference, power = squares(actual - wanted), (squares(actual) + squares(wanted)) / 2
            expected[key].errors[name] = math.sqrt(difference.sum() / power.sum())
            expected[key].by_image[name] = np.sqrt(difference / power)
    return expected


PERMUTED = ("pixels",)
"""Layers that only reorder the pixels of the image: as a permutation they are exact."""


def assert_numbers(report: Report, expected: dict[Key, Expected]) -> None:
    """Compare each layer and output of a report with the oracle, at every element."""
    records: list[Layer] = [*report.layers, *report.outputs]
    assert [(record.name, record.call) for record in records] == list(expected)
    for record in records:
        numbers = expected[record.name, record.call]
        assert record.skipped is None
        assert [error.element for error in record.errors] == list(numbers.errors)
        for error in record.errors:
            where = f"{record.name}#{record.call} at {error.element}"
            wanted = numbers.errors[error.element]
            assert error.trivial_error == pytest.approx(wanted, rel=TOLERANCE), where
            if record.name in PERMUTED:
                assert error.error == pytest.approx(0.0, abs=TOLERANCE), where
                continue
            assert error.error == error.trivial_error
            assert error.chance == pytest.approx(numbers.chance, rel=TOLERANCE), where
            assert error.normalised == pytest.approx(wanted / numbers.chance, rel=2 * TOLERANCE), where
            images = numbers.by_image[error.element]
            assert error.worst_image is not None
            assert images[int(error.worst_image)] == pytest.approx(images.max(), rel=TOLERANCE), where


def saved(module: nn.Module, how: How, folder: Path, images: NDArray[np.float32], batch: int = 3) -> Path:
    """Script or trace a module and save it."""
    path = folder / f"{how}.pt"
    compiled(module, how, images.shape[1:], batch).save(str(path))
    return path


def audit(path: Path | nn.Module, images: NDArray[np.float32], **options: Any) -> Report:
    """Audit in this process, on the array as it is."""
    return eqaudit.audit(path, images, **options)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "resnet": (ResNet, ()),
    "unet": (UNet, ()),
    "mlp": (mlp, ()),
    "dict": (DictNet, ()),
    "channels_last": (ChannelsLast, ("last", "norm", "mix", "act")),
}


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize("name", MODELS)
def test_every_error_of_a_file_is_that_of_the_oracle(name: str, how: How, tmp_path: Path) -> None:
    """Each layer and output, at the seven elements of D4: error, chance, normalised, worst image."""
    factory, last = MODELS[name]
    source, images = made(factory), pictures()
    report = audit(saved(source, how, tmp_path, images), images)
    expected = oracle(source, images, GROUPS["D4"], last)
    assert_numbers(report, expected)
    gating = next(output for output in report.outputs if output.gating)
    assert gating.name == report.outputs[0].name
    assert report.per_image is not None
    assert report.per_image.ids == [f"{number:04d}" for number in range(12)]
    for element, errors in expected[gating.name, 0].by_image.items():
        assert report.per_image.output[element] == pytest.approx(list(errors), rel=1e-5)


@pytest.mark.parametrize("group", ["C2", "D4"])
@pytest.mark.parametrize(("name", "output"), [("mlp", "output"), ("dict", "output.logits")])
def test_consistency_is_the_share_of_equal_argmaxes(name: str, output: str, group: str) -> None:
    """By element, over the orbit, and the classes of each image."""
    source, images = made(MODELS[name][0]), pictures()
    report = audit(source, images, group=group)
    classes = {
        element: features(source, np.ascontiguousarray(moved(images, element)))[output, 0].argmax(axis=1)
        for element in ["e", *GROUPS[group]]
    }
    assert len(set(classes["e"])) > 1
    assert report.predictions is not None
    assert report.per_image is not None
    assert report.per_image.predicted == {element: list(found) for element, found in classes.items()}
    for row in report.predictions.by_element:
        assert row.consistency == pytest.approx((classes[row.element] == classes["e"]).mean())
    orbit = np.all([found == classes["e"] for found in classes.values()], axis=0)
    assert group != "C2" or 0 < orbit.mean() < 1
    assert report.predictions.orbit_consistency == pytest.approx(orbit.mean())


def test_a_map_is_no_row_of_class_scores() -> None:
    """A dense output has no predictions."""
    assert audit(made(UNet), pictures()).predictions is None


@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_half_turns_and_mirrors_of_rectangular_images(name: str) -> None:
    """D2 needs no square."""
    source, images = made(MODELS[name][0]), pictures(12, 12, 20)
    assert_numbers(audit(source, images, group="D2"), oracle(source, images, GROUPS["D2"]))


@pytest.mark.parametrize("group", ["C2", "C4", "D1", "D2"])
def test_smaller_groups(group: str) -> None:
    """The elements of the group and no others."""
    source, images = made(ChannelsLast), pictures()
    expected = oracle(source, images, GROUPS[group], MODELS["channels_last"][1])
    assert_numbers(audit(source, images, group=group), expected)


def test_the_trivial_group_compares_an_image_with_itself() -> None:
    """Error 0 everywhere, and chance as for any group."""
    source, images = made(ResNet), pictures()
    report = audit(source, images, group="C1")
    expected = oracle(source, images, [])
    for record in [*report.layers, *report.outputs]:
        (error,) = record.errors
        assert (error.element, error.error) == ("e", 0.0)
        assert error.chance == pytest.approx(expected[record.name, record.call].chance, rel=TOLERANCE)


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_the_batch_size_changes_no_number(batch_size: int) -> None:
    """Batches of 1, of 5 with a short one at the end, and all images at once."""
    source, images = made(DictNet), pictures()
    report = audit(source, images, batch_size=batch_size)
    assert_numbers(report, oracle(source, images, GROUPS["D4"]))


def _units(sizes: list[int]) -> list[Unit]:
    source = made(lambda: Baked(None))
    model, images = wrap_module(source, "source", torch.device("cpu")), torch.from_numpy(pictures())
    setting = make_setting(
        model, Choice((3, images.shape[2], images.shape[3]), "", None), AuditPlan(FileModel("source"))
    )
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [
        measure_batch(
            model,
            Batch(
                images[start : start + size],
                tuple(str(image) for image in range(start, start + size)),
                tuple(range(start, start + size)),
            ),
            setting,
        )
        for start, size in zip(starts, sizes, strict=True)
    ]


def _numbers(unit: Unit) -> list[float]:
    found: list[float] = []
    for sums in unit.taps.values():
        assert sums.errors is not None
        chance = sums.chances[True].chance
        assert chance is not None
        found += [*sums.errors.errors, *sums.errors.worst_image, *sums.errors.histogram.counts.ravel()]
        found += [*(sums.errors.interval(0) or ()), chance]
    return found


@settings(max_examples=5)
@given(cuts=st.sets(st.integers(1, 11), min_size=2, max_size=4))
def test_merging_is_associative_and_equals_one_run(cuts: set[int]) -> None:
    """Wherever the images are cut into units, and whichever neighbours are merged first."""
    edges = [0, *sorted(cuts), 12]
    sizes = [end - start for start, end in itertools.pairwise(edges)]
    left = functools.reduce(Unit.merge, _units(sizes))
    right = functools.reduce(lambda later, unit: unit.merge(later), reversed(_units(sizes)))
    assert left.names == right.names == [str(image) for image in range(12)]
    assert _numbers(left) == pytest.approx(_numbers(right), rel=1e-6)
    (whole,) = _units([12])
    one, other = np.array(_numbers(left)), np.array(_numbers(whole))
    # An image near the edge of a histogram's bin may change sides when float32 rounds another way.
    assert np.isclose(one, other, rtol=TOLERANCE).mean() > 0.999


def test_a_model_of_one_batch_size_gives_the_numbers_of_any_batch_size(tmp_path: Path) -> None:
    """A trace with `view(4, -1)` is run at 4, its last batch padded; padding never counts."""
    source, images = made(lambda: Baked(None)), pictures(10)
    path = saved(made(lambda: Baked(4)), "traced", tmp_path, images, batch=4)
    report = audit(path, images)
    assert report.inputs.batch_size == 4
    assert "batch size 4 only" in report.inputs.shape_reason
    assert_numbers(report, oracle(source, images, GROUPS["D4"]))
    assert report.predictions is not None
    assert report.predictions.images == 10


# Layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "image", "swaps", "name", "dims"),
    [
        ((2, 7), (16, 16), True, "BC", None),
        ((2,), (16, 16), True, "BC", None),
        ((2, 7, 8, 8), (16, 16), True, "BCHW", (-2, -1)),
        ((2, 7, 1, 1), (16, 16), True, "BCHW", (-2, -1)),
        ((2, 8, 4, 5, 5), (16, 16), True, "BCGHW", (-2, -1)),
        ((2, 8, 8, 7), (16, 16), True, "BHWC", (1, 2)),
        ((2, 6, 10, 3), (12, 20), False, "BHWC", (1, 2)),
        ((2, 3, 6, 10), (12, 20), False, "BCHW", (-2, -1)),
        ((2, 16, 16), (16, 16), True, "BHW", (-2, -1)),
        ((2, 12, 20), (12, 20), False, "BHW", (-2, -1)),
        ((2, 3, 7, 5), (16, 16), False, "BCHW", (-2, -1)),
    ],
)
def test_space_is_found_by_the_proportions_of_the_image(
    shape: tuple[int, ...], image: tuple[int, int], swaps: bool, name: str, dims: tuple[int, int] | None
) -> None:
    """Channels first where that fits, else last, else a plain map."""
    layout = find_layout(shape, image, swaps)
    assert (layout.name, layout.dims) == (name, dims)


@pytest.mark.parametrize(
    ("shape", "said"), [((2, 67, 8), "which of 67x8 is space"), ((2, 3, 7, 5), "map of 7x5 is not square")]
)
def test_a_feature_without_known_space_is_not_guessed(shape: tuple[int, ...], said: str) -> None:
    """Sequences that are no grid, and maps that cannot turn."""
    with pytest.raises(UnknownLayoutError, match=said):
        find_layout(shape, (16, 16), swaps_sides=True)


# Groups ----------------------------------------------------------------------------------------------

SQUARE = Group.named("D4").elements


def move(element: Element, tensor: torch.Tensor) -> torch.Tensor:
    """Move by an exact element, which no resampler touches."""
    return act(element, tensor, Resampler("spline", "reflect"))


def test_the_elements_of_d4_have_the_names_of_the_contract_and_known_answers() -> None:
    """Moves of [[1, 2], [3, 4]] as the design writes them."""
    square = torch.tensor([[1, 2], [3, 4]])
    assert {str(element): move(element, square).tolist() for element in SQUARE} == {
        "e": [[1, 2], [3, 4]],
        "r90": [[2, 4], [1, 3]],
        "r180": [[4, 3], [2, 1]],
        "r270": [[3, 1], [4, 2]],
        "m": [[2, 1], [4, 3]],
        "m-r90": [[1, 3], [2, 4]],
        "m-r180": [[3, 4], [1, 2]],
        "m-r270": [[4, 2], [3, 1]],
    }


def _matrix(element: Element) -> Array:
    """Return the element as it moves a point of the plane, x to the right and y up."""
    angle = 2 * math.pi * element.k / element.n
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(turn @ np.diag([-1.0, 1.0]) if element.mirrored else turn)


turns = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12, 360])
elements = st.builds(Element, st.booleans(), st.integers(-400, 400), turns)
square_elements = st.sampled_from(SQUARE)
rectangle_elements = st.sampled_from(Group.named("D2").elements)


@given(one=elements, two=elements, three=elements)
def test_elements_obey_the_axioms_of_a_group(one: Element, two: Element, three: Element) -> None:
    """Associativity, unit, inverse; and composition is that of matrices."""
    assert (one @ two) @ three == one @ (two @ three)
    assert one @ IDENTITY == IDENTITY @ one == one
    assert one @ ~one == ~one @ one == IDENTITY
    assert ~(one @ two) == ~two @ ~one
    np.testing.assert_allclose(_matrix(one @ two), _matrix(one) @ _matrix(two), atol=1e-12)
    np.testing.assert_allclose(_matrix(~one), np.linalg.inv(_matrix(one)), atol=1e-12)


@given(name=st.sampled_from("CD"), order=st.integers(1, 40))
def test_groups_are_closed_and_have_their_order(name: str, order: int) -> None:
    """Cn has n elements, Dn has 2 n, each once; products and inverses stay inside."""
    group = Group.named(f"{name}{order}")
    members = set(group.elements)
    assert group.name == f"{name}{order}"
    assert len(group.elements) == len(members) == order * (2 if name == "D" else 1)
    assert group.elements[0] == IDENTITY
    assert {one @ two for one in members for two in members} == members
    assert {~one for one in members} == members


@given(data=st.data(), batch=st.integers(1, 3), side=st.integers(1, 6), other=st.integers(1, 6))
def test_moves_compose_as_elements_do(data: st.DataObject, batch: int, side: int, other: int) -> None:
    """T_g T_h = T_gh bit by bit: D4 on squares, D2 on any shape."""
    square = data.draw(st.booleans())
    choice = square_elements if square else rectangle_elements
    one, two = data.draw(choice), data.draw(choice)
    shape = (batch, other, side, side if square else other)
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(move(one, move(two, tensor)), move(one @ two, tensor))
    assert torch.equal(move(~one, move(one, tensor)), tensor)
    by_numpy = moved(tensor.numpy(), str(one), (-2, -1))
    np.testing.assert_array_equal(move(one, tensor).numpy(), by_numpy)


@given(element=square_elements, side=st.integers(1, 7))
def test_a_move_carries_each_pixel_where_the_element_carries_its_point(element: Element, side: int) -> None:
    """The centre is ((H - 1) / 2, (W - 1) / 2), x to the right, y up."""
    image = torch.arange(side * side).reshape(side, side)
    turned = move(element, image)
    centre = (side - 1) / 2
    for row, column in itertools.product(range(side), repeat=2):
        x, y = _matrix(element) @ np.array([column - centre, centre - row])
        assert turned[round(centre - y), round(x + centre)] == image[row, column]


def _is_group(members: frozenset[Element]) -> bool:
    return IDENTITY in members and all(one @ two in members for one in members for two in members)


@pytest.mark.parametrize(
    ("name", "count"), [("C1", 1), ("C4", 3), ("D1", 2), ("D2", 5), ("D3", 6), ("D4", 10)]
)
def test_subgroups_are_all_subsets_that_are_groups(name: str, count: int) -> None:
    """Against every subset, one by one; larger ones come first."""
    group = Group.named(name)
    subsets = [
        frozenset(chosen)
        for size in range(1, len(group.elements) + 1)
        for chosen in itertools.combinations(group.elements, size)
    ]
    found = [frozenset(subgroup.elements) for subgroup in group.subgroups()]
    assert len(found) == len(set(found)) == count
    assert set(found) == {subset for subset in subsets if _is_group(subset)}
    assert [len(subgroup) for subgroup in found] == sorted(map(len, found), reverse=True)
    assert len({subgroup.name for subgroup in group.subgroups()}) == count


@given(name=st.sampled_from(["C4", "D2", "D4", "C12", "D6"]), data=st.data())
def test_what_holds_is_a_group_and_as_large_as_can_be(name: str, data: st.DataObject) -> None:
    """Every group inside the holding elements lies in a maximal one; no maximal one in another."""
    group = Group.named(name)
    holding = data.draw(st.frozensets(st.sampled_from(group.elements)))
    found = [frozenset(largest.elements) for largest in maximal_holding(group, holding)]
    allowed = holding | {IDENTITY}
    assert found
    assert all(_is_group(largest) and largest <= allowed for largest in found)
    assert not any(one < other for one in found for other in found)
    for subgroup in group.subgroups():
        members = frozenset(subgroup.elements)
        assert (members <= allowed) == any(members <= largest for largest in found)


def test_the_mirror_alone_is_d1_and_its_twins_are_named_by_their_elements() -> None:
    """Several maximal groups are all named."""
    diagonal = Element(mirrored=True, k=1, n=4)
    names = [group.name for group in maximal_holding(Group.named("D4"), frozenset({MIRROR, diagonal}))]
    assert names == ["D1", "{e, m-r90}"]
