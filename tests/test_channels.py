"""The action of each layer's channels is found from the outside, whatever the network and its file."""

from functools import cache
from pathlib import Path

import pytest
import torch
from group_networks import (
    EXACT,
    FIELD_FILES,
    FIELD_SIDE,
    SIDE,
    Fields,
    axis_network,
    broken_network,
    d4_network,
    images,
    irrep_network,
    lifting,
    noisy,
    plain_network,
    seeded,
    vision_transformer,
)
from torch import Tensor, nn

import eqaudit
from eqaudit.engine import samples
from eqaudit.errors import UsageError
from eqaudit.plan import TaskOptions
from eqaudit.report import HOLDING, Layer, Report

INDEPENDENT = Path(__file__).parent.parent / "fixtures" / "independent"
EXACTLY = 1e-5
"""Largest relative error of an exact layer: float32 in a transformer gives 3e-6."""
VISIBLY = 0.1
"""Smallest error of a map whose channels are wrongly read as plain."""
COUNT = 12

SMALL_PLAIN = {"fields_c4_quotient": ("conv1",)}

LOOKS_LIKE = {
    # Kernels of 3x3 pixels that turns keep, mirrors keep too: what differs by its mirror is alike or dead.
    ("quotient of D4", "lift"): {"trivial": 7, "regular D4": 2, "quotient D4/C2": 3},
    ("quotient of D4", "relu1"): {"trivial": 7, "regular D4": 2, "quotient D4/C2": 3},
    ("fields_d4_irreps", "conv1"): {"A1": 2, "B1": 2, "B2": 2, "E1": 4},
    ("fields_d4_irreps", "norm1"): {"A1": 2, "B1": 2, "B2": 2, "E1": 4},
    ("fields_c4_trained", "relu3"): {"regular C4": 2, "dead": 4},
    ("dead", "pool"): {"trivial": 4, "dead": 2},
}
"""What can be seen of fields, where not all of what they are made for can."""


@cache
def audited(name: str) -> Report:
    """Return the audit of one exact network, under the group that its truth is about."""
    network = EXACT[name]()
    return eqaudit.audit(network, images(COUNT, SIDE), group=group_of(network.truth))


def group_of(truth: dict[str, Fields]) -> str:
    """Return the largest group that any layer is known to turn under."""
    return "C4" if any(fields.mirror is None for fields in truth.values()) else "D4"


def layer_of(report: Report, name: str) -> Layer:
    """Return one layer."""
    return next(layer for layer in report.layers if layer.name == name)


def check_layer(network: str, layer: Layer, truth: Fields, group: str) -> None:
    """Assert that a layer is named rightly and exact under its action."""
    expected = LOOKS_LIKE.get((network, layer.name), dict(truth.counts))
    found = layer.representation
    assert found is not None
    assert found.kind == truth.kind
    assert found.group == group
    counts = {field.name: field.count for field in found.fields}
    assert counts == expected
    assert all(error.class_ == "exact" and (error.error or 0.0) < EXACTLY for error in layer.errors)


@pytest.mark.parametrize("name", EXACT)
def test_every_layer_of_an_exact_network_is_named_rightly(name: str) -> None:
    """Kind, fields and group are those it was built with, and the error under the action is rounding."""
    truth = EXACT[name]().truth
    report = audited(name)
    assert set(truth) <= {layer.name for layer in report.layers}
    for tap, fields in truth.items():
        check_layer(name, layer_of(report, tap), fields, group_of(truth))


@pytest.mark.parametrize("name", EXACT)
def test_the_plain_reading_of_what_turns_is_far_off(name: str) -> None:
    """Maps whose channels turn are broken by 0.1 or more when they are read as plain."""
    truth = EXACT[name]().truth
    for tap, fields in truth.items():
        layer = layer_of(audited(name), tap)
        if fields.kind != "trivial" and layer.layout != "BC":
            assert max(error.trivial_error or 0.0 for error in layer.errors) > VISIBLY


@pytest.mark.parametrize("stem", FIELD_FILES)
def test_traced_networks_of_an_independent_library_are_named_rightly(stem: str) -> None:
    """Regular, mixed, quotient fields and irreps of escnn are found in its traced files."""
    truth = FIELD_FILES[stem]
    group = group_of(truth)
    report = eqaudit.audit(INDEPENDENT / f"{stem}.pt", images(COUNT, FIELD_SIDE), group=group)
    for tap, fields in truth.items():
        layer = layer_of(report, tap)
        check_layer(stem, layer, fields, group)
        if fields.kind != "trivial" and tap not in SMALL_PLAIN.get(stem, ()):
            assert max(error.trivial_error or 0.0 for error in layer.errors) > VISIBLY


@pytest.mark.parametrize("flat", [False, True])
def test_a_quarter_turn_rolls_twelve_orientations_by_three(flat: bool) -> None:
    """The roll is found along the axis of orientations, with its direction."""
    report = eqaudit.audit(lifting(12, flat=flat), images(COUNT, SIDE), group="C4")
    found = layer_of(report, "lift").representation
    assert found is not None
    assert found.roll is not None
    assert (found.roll.element, found.roll.length, found.roll.shift) == ("r90", 12, 3)
    assert found.roll.axis == ("last" if flat else "2")


@pytest.mark.parametrize("at", [1, 3, 5])
def test_the_verdict_names_the_first_broken_layer(at: int) -> None:
    """C4 holds by a regular representation before the spoiled block, and nothing from it on."""
    report = eqaudit.audit(broken_network(at), images(COUNT, SIDE), group="C4")
    assert report.verdict is not None
    assert report.verdict.broken_from == f"block{at}.conv"
    held = [part for part in report.verdict.by_layer if part.group == "C4"]
    assert [(part.first, part.last) for part in held] == (
        [("block1.conv", f"block{at - 1}")] if at > 1 else []
    )


def test_a_c4_network_fails_exactly_the_mirrors_of_d4() -> None:
    """Every layer holds at the turns, by its permutation, and at no mirror."""
    report = eqaudit.audit(axis_network("last"), images(COUNT, SIDE), group="D4")
    assert report.verdict is not None
    assert report.verdict.holds == "C4"
    assert "C4 exactly" in report.verdict.sentence
    assert "not D4" in report.verdict.sentence
    for layer in report.layers:
        holding = {error.element for error in layer.errors if error.class_ in HOLDING}
        assert holding == {"r90", "r180", "r270"}


def test_mirrors_of_a_d4_network_have_a_permutation_of_their_own() -> None:
    """The mirror moves channels otherwise than the turn, and both are in the report."""
    report = eqaudit.audit(d4_network(), images(COUNT, SIDE), group="D4")
    found = layer_of(report, "conv2").representation
    assert found is not None
    turn, mirror = found.actions
    assert (turn.element, mirror.element) == ("r90", "m")
    assert turn.source != mirror.source
    assert all(mirror.source[mirror.source[c]] == c for c in range(len(mirror.source)))
    assert report.verdict is not None
    assert report.verdict.holds == "D4"


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 20))]
)
def test_no_action_is_found_in_a_plain_network(seed: int) -> None:
    """Every layer is read as plain maps, and its error is that of the plain reading."""
    network = plain_network(
        seed, width=(2, 8, 24, 48)[seed % 4], depth=1 + seed % 5, norm=bool(seed % 2), pooled=bool(seed % 3)
    )
    report = eqaudit.audit(network, images(COUNT, 16, seed), group="D4")
    for layer in [*report.layers, *report.outputs]:
        assert layer.representation is not None
        assert layer.representation.group == "C1"
        assert all(error.error == error.trivial_error for error in layer.errors)


def test_little_noise_on_the_weights_does_not_hide_the_action() -> None:
    """With 1 % of noise the permutation is still named; the layers are approximate, not broken."""
    report = eqaudit.audit(noisy(axis_network("last"), 0.01), images(COUNT, SIDE), group="C4")
    for name in ("lift", "relu1", "conv2"):
        layer = layer_of(report, name)
        assert layer.representation is not None
        assert layer.representation.kind == "permutation"
        assert layer.representation.words.startswith("6 x regular C4, last")
        assert all(error.class_ == "approximate" for error in layer.errors)


class OrthogonalFirst(nn.Sequential):
    """A plain network whose first layer keeps lengths: turned kernels are mixtures of each other."""

    def __init__(self, depth: int) -> None:
        with seeded(0):
            first = nn.Conv2d(1, 9, 3, bias=False)
            nn.init.orthogonal_(first.weight.data.view(9, 9))
            rest = [nn.Sequential(nn.ReLU(), nn.Conv2d(9, 9, 3)) for _ in range(depth)]
            super().__init__(first, *rest)


def test_an_orthogonal_action_before_the_first_nonlinearity_is_vacuous() -> None:
    """It is shown with a reason and not used, where no later layer confirms it."""
    report = eqaudit.audit(OrthogonalFirst(2), images(COUNT, 17)[:, :1], group="C4")
    first = report.layers[0]
    assert first.representation is not None
    assert first.representation.kind == "vacuous"
    assert first.representation.group == "C1"
    assert first.representation.fit_error is not None
    assert first.representation.fit_error < EXACTLY
    assert all(error.error == error.trivial_error for error in first.errors)
    assert {error.class_ for error in first.errors} <= {"approximate", "broken"}


def test_an_orthogonal_action_that_a_later_layer_confirms_is_used() -> None:
    """The first layer of a steerable network is linear too, but the rest of the network turns with it."""
    report = audited("irreps, rotated")
    found = layer_of(report, "lift").representation
    assert found is not None
    assert found.kind == "orthogonal"


class Vectors(nn.Module):
    """Vectors of many channels, mixed by an orthogonal matrix when the image turns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, channels, 8, stride=8, bias=False)
        with seeded(0):
            basis = torch.linalg.qr(torch.randn(channels, channels)).Q
            weight = torch.randn(channels // 4, 3, 8, 8) / 10
            turned = torch.stack([torch.rot90(weight, turn, (-2, -1)) for turn in range(4)], dim=1).flatten(
                0, 1
            )
            self.features.weight.copy_(turned)
        self.mix = nn.Linear(channels, channels, bias=False)
        self.mix.weight.data.copy_(basis)

    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, channels)`."""
        mixed: Tensor = self.mix(self.features(image).relu().mean((2, 3)))
        return mixed


def test_an_action_that_few_images_leave_open_is_undetermined() -> None:
    """128 mixed channels and 4 images: lengths are kept, and no one can tell which matrix it is."""
    network = Vectors(128)
    few = eqaudit.audit(network, images(4, 16), group="C4").layers[-1].representation
    enough = eqaudit.audit(Vectors(8), images(COUNT, 16), group="C4").layers[-1].representation
    assert few is not None
    assert few.kind == "undetermined"
    assert few.reason is not None
    assert "too few" in few.reason
    assert enough is not None
    assert enough.kind == "orthogonal"


def test_class_scores_are_never_turned() -> None:
    """A classifier whose logits permute is no invariant one; as an embedding its action is used."""
    network = nn.Sequential(
        nn.Sequential(*list(axis_network("last"))[:6]), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    task = TaskOptions(task="classification")
    scores = eqaudit.audit(network, images(COUNT, SIDE), group="C4", task=task)
    features = eqaudit.audit(network, images(COUNT, SIDE), group="C4", task=TaskOptions(task="embedding"))
    assert scores.verdict is not None
    assert scores.verdict.holds == "C1"
    assert features.verdict is not None
    assert features.verdict.holds == "C4"
    assert "regular C4" in features.verdict.sentence


def test_layers_beyond_the_limit_are_read_as_plain_maps_with_a_reason() -> None:
    """More than 2,048 channels are not fitted, and the report says so."""
    report = eqaudit.audit(nn.Conv2d(3, 2052, 3), images(4, 9), group="C4")
    found = report.outputs[0].representation
    assert found is not None
    assert found.kind == "undetermined"
    assert found.reason is not None
    assert "2,052 channels" in found.reason


class Rare(nn.Module):
    """Fields of turned random kernels without offset: many channels live in few places, and some nowhere."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        with seeded(0):
            weight = torch.randn(fields, 3, 3, 3)
        turned = [torch.rot90(weight, turn, (-2, -1)) for turn in range(4)]
        self.weight = nn.Parameter(torch.stack(turned, dim=1).flatten(0, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return maps `(B, fields * 4, H, W)`."""
        return nn.functional.conv2d(image, self.weight, padding=1).relu()


@pytest.mark.long
def test_channels_that_hardly_live_have_their_place_in_their_field() -> None:
    """Where the samples do not see a channel, the other fields tell where it belongs."""
    report = eqaudit.audit(Rare(256), images(16, 25), group="C4")
    found = report.outputs[0].representation
    assert found is not None
    assert "regular C4" in found.words
    assert "irregular" not in found.words
    assert all(error.class_ == "exact" for error in report.outputs[0].errors)


class OneAtATime(nn.Module):
    """A network that takes one image only."""

    def __init__(self) -> None:
        super().__init__()
        self.network = axis_network("last")

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(1, 5)`."""
        logits: Tensor = self.network(image.reshape(1, 3, SIDE, SIDE))
        return logits


def test_a_network_of_one_batch_size_is_fitted_image_by_image() -> None:
    """The action is found from two images, one at a time."""
    report = eqaudit.audit(OneAtATime(), images(6, SIDE), group="C4")
    found = layer_of(report, "network.conv2").representation
    assert found is not None
    assert found.words.startswith("6 x regular C4")
    assert found.images == 2


def test_one_image_is_split_into_cells() -> None:
    """With one image every other cell fits what the rest is judged under."""
    report = eqaudit.audit(axis_network("last"), images(1, SIDE), group="C4")
    layer = layer_of(report, "conv2")
    assert layer.representation is not None
    assert layer.representation.kind == "permutation"
    assert all((error.error or 0.0) < EXACTLY for error in layer.errors)


class Deep(nn.Module):
    """An exact p4 network in front of layers that blow rounding up."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.network = nn.Sequential(*list(axis_network("last"))[:6])
        self.gain = gain

    def forward(self, image: Tensor) -> Tensor:
        """Return maps `(B, 24, H, W)`."""
        features = self.network(image)
        return torch.sin(self.gain * features)


def test_rounding_does_not_hide_the_action() -> None:
    """Where float32 is off by 1 % the fit is made in float64, and the float64 rerun calls it exact."""
    report = eqaudit.audit(Deep(1e5), images(COUNT, SIDE), group="C4")
    output = report.outputs[0]
    assert output.representation is not None
    assert output.representation.kind == "permutation"
    assert max(error.error or 0.0 for error in output.errors) > 1e-3
    assert all(error.class_ == "exact" for error in output.errors)


def test_tokens_and_channels_last_are_read_by_their_shape() -> None:
    """The layout is printed: a grid of tokens, its extra ones, and channels behind space."""
    report = eqaudit.audit(vision_transformer(class_token=True), images(COUNT, SIDE), group="D4")
    assert layer_of(report, "block1.fc1").layout == "BND: 6x6 tokens, 1 extra left out"
    assert layer_of(report, "block1.attention.softmax").layout == "BCND: 6x6 tokens, 1 extra left out"
    assert layer_of(audited("channels last, regular"), "conv2").layout == "BHWC"
    assert layer_of(audited("axis"), "conv2").layout == "BCGHW"


class Square(nn.Module):
    """Maps of as many channels as cells along a side, channels first or last: shape alone does not tell."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self.last = last
        with seeded(1):
            self.conv = nn.Conv2d(3, 16, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, 16, 16, 16)`."""
        features: Tensor = self.conv(image)
        return features.movedim(1, -1) if self.last else features


@pytest.mark.parametrize("last", [False, True])
def test_of_two_readings_the_one_with_the_lower_error_is_taken(last: bool) -> None:
    """A cube of 16 is read as what turns with the image."""
    report = eqaudit.audit(Square(last=last), images(COUNT, 16), group="D4")
    assert report.outputs[0].layout == ("BHWC" if last else "BCHW")


def test_the_user_can_fix_a_layout() -> None:
    """A fixed layout is used as it is; one that fits no layer or not its shape is refused."""
    network = Square(last=False)
    fixed = eqaudit.audit(network, images(COUNT, 16), group="D4", layouts=("output=BHWC",))
    assert fixed.outputs[0].layout == "BHWC"
    for rule, said in (("nothing=BCHW", "matches no layer"), ("conv=BND", "does not fit"), ("conv=HB", "B")):
        with pytest.raises(UsageError, match=said):
            eqaudit.audit(network, images(COUNT, 16), group="D4", layouts=(rule,))


def test_irreps_are_confirmed_in_float64() -> None:
    """A matrix is fitted again in float64, so that float64 errors are as small as those of a permutation."""
    layer = layer_of(audited("irreps"), "conv3")
    errors = [error.float64_error for error in layer.errors if error.float64_error is not None]
    report = eqaudit.audit(Deep(1.0), images(COUNT, SIDE), group="C4")
    assert report.outputs[0].representation is not None
    assert all(error < 1e-6 for error in errors)


def test_where_few_cells_leave_it_open_more_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed channels with fewer samples than channels: the fit is made again with many."""
    monkeypatch.setattr(samples, "LEAST_SAMPLES", 4)
    monkeypatch.setattr(samples, "SAMPLES_PER_CHANNEL", 0)
    shown = images(2, SIDE)
    found = layer_of(eqaudit.audit(irrep_network(rotated=True), shown, group="C4"), "conv2").representation
    monkeypatch.setattr(samples, "MOST_SAMPLES", 0)
    few = layer_of(eqaudit.audit(irrep_network(rotated=True), shown, group="C4"), "conv2").representation
    assert found is not None
    assert found.kind == "orthogonal"
    assert few is not None
    assert few.kind == "undetermined"


class Squeezing(Deep):
    """The same, where a batch of one image is squeezed away."""

    def forward(self, image: Tensor) -> Tensor:
        """Return maps `(B, 24, H, W)`."""
        return super().forward(image).squeeze(0)


def test_no_image_is_fitted_alone() -> None:
    """In float64 a few images go through the model at once, never one, also of an odd number."""
    report = eqaudit.audit(Squeezing(1e5), images(7, SIDE), group="C4")
    output = report.outputs[0].representation
    assert output is not None
    assert output.kind == "permutation"
    assert output.images == 7


def test_the_action_of_a_mirror_alone_is_found() -> None:
    """Under D1 and under C2 a D4 network turns by permutations of order two."""
    for group in ("D1", "C2"):
        report = eqaudit.audit(d4_network(), images(COUNT, SIDE), group=group)
        layer = layer_of(report, "conv2")
        assert layer.representation is not None
        assert layer.representation.kind == "permutation"
        assert layer.representation.group == group
        assert [field.name for field in layer.representation.fields] == [f"regular {group}"]


def test_the_rotated_basis_of_irreps_is_no_obstacle() -> None:
    """Multiplicities come from characters, which no change of basis moves."""
    plain, rotated = irrep_network(), irrep_network(rotated=True)
    found = [
        layer_of(eqaudit.audit(network, images(COUNT, SIDE), group="C4"), "conv2").representation
        for network in (plain, rotated)
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].words == found[1].words
    assert found[0].words.startswith("irreps: ")
