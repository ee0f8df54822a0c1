"""The networks that other tests measure are what they say they are; nothing of the package is used."""

import warnings
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from group_networks import (
    C4,
    D4,
    EXACT,
    FIELD_FILES,
    FIELD_SIDE,
    SIDE,
    Element,
    Fields,
    Known,
    acted,
    as_maps,
    axis_network,
    broken_network,
    compose,
    d4_network,
    images,
    irrep_network,
    lifting,
    move,
    noisy,
    plain_network,
    quotient_network,
    vision_transformer,
    with_dead_channels,
    with_duplicates,
    with_half_turn_kernels,
    with_near_duplicates,
)
from torch import Tensor, nn

INDEPENDENT = Path(__file__).parent.parent / "fixtures" / "independent"
R90: Element = (False, 1)
MIRROR: Element = (True, 0)

EXACTLY = 1e-5
"""Largest relative error of an exact layer: a transformer in float32 scores 3e-6."""

VISIBLY = 0.1
"""Smallest relative error of a layer whose channels are wrongly read as plain maps."""

CONVOLUTIONAL = [name for name in EXACT if "transformer" not in name]


@cache
def network(name: str, seed: int = 0) -> Known:
    """Return one of the exact networks."""
    make: Callable[..., Known] = EXACT[name]
    return make(seed=seed)


def features(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Return what every module inside returns, by name."""
    seen = dict[str, Tensor]()
    handles = [
        module.register_forward_hook(lambda _module, _inputs, value, name=name: seen.update({name: value}))
        for name, module in model.named_modules()
        if name
    ]
    model(batch)
    for handle in handles:
        handle.remove()
    return seen


def relative(left: Tensor, right: Tensor) -> float:
    """Return the relative difference, 0 to 2."""
    left, right = left.double(), right.double()
    size = ((left.square().sum() + right.square().sum()) / 2).sqrt()
    return float((left - right).norm() / size)


def errors(here: Tensor, there: Tensor, fields: Fields, element: Element) -> tuple[float, float]:
    """Return the error under the fields' action and that of the plain reading, of features of x and T x."""
    maps, seen = as_maps(here, fields.layout), as_maps(there, fields.layout)
    return relative(seen, acted(maps, fields, element)), relative(seen, move(maps, element))


def check(model: Known, side: int, count: int = 4) -> None:
    """Hold every tap to its truth, under every element."""
    batch = images(count, side)
    here = features(model, batch)
    for element in next(iter(model.truth.values())).elements[1:]:
        there = features(model, move(batch, element))
        for tap, fields in model.truth.items():
            own, plain = errors(here[tap], there[tap], fields, element)
            assert own < EXACTLY, (tap, element)
            if element == R90 and fields.kind != "trivial" and fields.layout != "BC":
                assert plain > VISIBLY, tap


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", EXACT)
def test_every_layer_turns_as_its_truth_says_and_not_as_plain_maps(name: str, seed: int) -> None:
    """The known action gives the features of the turned image, by hand."""
    check(network(name, seed), SIDE)


@pytest.mark.parametrize("side", [17, 20, 29])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_networks_are_exact_on_odd_and_even_sides(name: str, side: int) -> None:
    """No network has a stride."""
    check(network(name), side, count=2)


@pytest.mark.parametrize("name", EXACT)
def test_the_truth_covers_every_tap_of_an_exact_network(name: str) -> None:
    """Every submodule has its fields, as many channels as it returns."""
    model = network(name)
    seen = features(model, images(2, SIDE))
    assert set(seen) == set(model.truth)
    for tap, fields in model.truth.items():
        assert as_maps(seen[tap], fields.layout).shape[1] == fields.size, tap


def every_truth() -> dict[str, Fields]:
    """Return the fields of all taps of all networks and files."""
    models = {name: network(name).truth for name in EXACT} | FIELD_FILES
    return {f"{name} {tap}": fields for name, truth in models.items() for tap, fields in truth.items()}


def test_the_action_of_a_product_is_the_product_of_the_actions() -> None:
    """`rho(g h) = rho(g) rho(h)`, and `T` likewise."""
    numbers = torch.arange(9).reshape(3, 3)
    for g in D4:
        for h in D4:
            assert torch.equal(move(numbers, compose(g, h)), move(move(numbers, h), g))
    for name, fields in every_truth().items():
        table = {g: fields.matrix(g) for g in fields.elements}
        for g, h in product(fields.elements, repeat=2):
            torch.testing.assert_close(table[compose(g, h)], table[g] @ table[h], msg=f"{name}: {g} {h}")


def test_permutations_are_told_by_their_sources() -> None:
    """Channel c of `rho x` is channel `source[c]` of x."""
    for fields in every_truth().values():
        if fields.kind == "permutation":
            for element in fields.elements:
                source = fields.source(element)
                assert torch.equal(
                    torch.eye(fields.size, dtype=torch.float64)[source], fields.matrix(element)
                )


def test_named_fields_use_up_all_channels() -> None:
    """The sizes of the counted fields sum up to the channels."""
    sizes = {"trivial": 1, "dead": 1, "regular C4": 4, "regular D4": 8, "frequency 1": 2, "E1": 2}
    sizes |= {"quotient C4/C2": 2, "quotient D4/C2": 4, "quotient D4/C4": 2, "quotient D4/D1": 4}
    sizes |= {"quotient D4/{e, m-r90}": 4} | dict.fromkeys(("frequency 0", "frequency 2"), 1)
    sizes |= dict.fromkeys(("A1", "A2", "B1", "B2"), 1)
    for name, fields in every_truth().items():
        assert sum(sizes[field] * count for field, count in fields.counts.items()) == fields.size, name


@pytest.mark.parametrize(
    ("model", "tap", "expected"),
    [
        (axis_network("axis"), "conv2", ("permutation", "axis", {"regular C4": 6})),
        (axis_network("first"), "relu3", ("permutation", "first", {"regular C4": 6})),
        (d4_network(), "lift", ("permutation", "last", {"regular D4": 4})),
        (lifting(), "lift", ("permutation", "axis", {"regular C4": 12})),
        (lifting(), "mean", ("trivial", None, {"trivial": 4})),
        (
            quotient_network(),
            "conv3",
            ("permutation", None, {"trivial": 3, "regular C4": 2, "quotient C4/C2": 3}),
        ),
        (
            irrep_network(),
            "relu1",
            ("orthogonal", None, {"frequency 0": 3, "frequency 1": 4, "frequency 2": 3}),
        ),
        (vision_transformer(class_token=True), "block1.fc1", ("trivial", None, {"trivial": 32})),
    ],
)
def test_fields_have_kind_order_and_counts(
    model: Known, tap: str, expected: tuple[str, str | None, dict[str, int]]
) -> None:
    """What a report should say of a layer can be read from its truth."""
    fields = model.truth[tap]
    assert (fields.kind, fields.order, dict(fields.counts)) == expected


def test_a_counter_clockwise_turn_rolls_group_axes_forwards() -> None:
    """Channel r of a field becomes channel r + 1; of 12 orientations, o becomes o + 3."""
    numbers = torch.arange(6 * 4)
    assert torch.equal(
        axis_network("last").truth["lift"].source(R90), numbers.reshape(6, 4).roll(1, 1).flatten()
    )
    assert torch.equal(
        axis_network("first").truth["lift"].source(R90), numbers.reshape(4, 6).roll(1, 0).flatten()
    )
    orientations = torch.arange(4 * 12).reshape(4, 12)
    assert torch.equal(lifting().truth["lift"].source(R90), orientations.roll(3, 1).flatten())
    batch = images(2, 17)
    here, there = (features(lifting(), maps)["lift"] for maps in (batch, move(batch, R90)))
    assert here.shape == (2, 4, 12, 17, 17)
    assert relative(there, move(here, R90).roll(3, 2)) < EXACTLY


def test_a_random_basis_mixes_channels() -> None:
    """The rotated irreps are no signed permutation, and orthogonal."""
    plain, rotated = (irrep_network(rotated=choice).truth["lift"].matrix(R90) for choice in (False, True))
    assert bool((plain.abs().sum(1) == 1).all())
    assert bool((rotated.abs().sum(1) > 1.1).all())
    torch.testing.assert_close(rotated @ rotated.T, torch.eye(len(rotated), dtype=torch.float64))


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
def test_no_layer_of_a_broken_network_holds_from_the_broken_one_on(at: int) -> None:
    """The truth names the layers before; from there on neither reading fits, up to the logits."""
    model = broken_network(at)
    assert set(model.truth) == {f"block{n}{part}" for n in range(1, at) for part in ("", ".conv", ".relu")}
    if at > 1:
        check(model, SIDE)
    whole, batch = broken_network(0), images(4, SIDE)
    for element in C4[1:]:
        here, there = features(model, batch), features(model, move(batch, element))
        for tap in set(here) - set(model.truth):
            limit = VISIBLY if "block" in tap else 1e-3
            assert min(errors(here[tap], there[tap], whole.truth[tap], element)) > limit, tap


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dead_fields_are_zero_after_their_relu_only(seed: int) -> None:
    """They are seen before it, and the others are alive."""
    model = with_dead_channels(seed)
    seen = features(model, images(4, SIDE))
    for number in (2, 3):
        alive = seen[f"relu{number}"].abs().amax((0, 2, 3)) > 0
        assert alive.tolist() == [True] * 16 + [False] * 8
        assert model.truth[f"relu{number}"].counts == {"regular C4": 4, "dead": 8}
        assert seen[f"conv{number}"].abs().amax((0, 2, 3)).min() > 0


def test_duplicates_agree_and_near_duplicates_nearly() -> None:
    """The last two fields are those in front, or differ by a thousandth or so."""
    seen, near = (features(make(), images(4, SIDE)) for make in (with_duplicates, with_near_duplicates))
    for tap in ("lift", "relu1", "conv2", "relu2", "conv3", "relu3"):
        assert relative(seen[tap][:, -8:], seen[tap][:, :8]) < 1e-6, tap
        assert 1e-4 < relative(near[tap][:, -8:], near[tap][:, :8]) < 1e-2, tap
        assert relative(seen[tap][:, :4], seen[tap][:, 4:8]) > VISIBLY, tap


def test_kernels_with_a_half_turn_make_pairs_of_channels_agree() -> None:
    """Channels 0 and 2 of the last field, and 1 and 3."""
    model = with_half_turn_kernels()
    lifted = features(model, images(4, SIDE))["lift"]
    assert relative(lifted[:, -4:-2], lifted[:, -2:]) < 1e-6
    assert relative(lifted[:, -4], lifted[:, -3]) > VISIBLY


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("pooled", [True, False])
def test_plain_networks_do_not_turn(norm: bool, pooled: bool) -> None:
    """Every layer sees which way the image is turned."""
    model, batch = plain_network(norm=norm, pooled=pooled), images(4, SIDE)
    here = features(model, batch)
    for element in D4[1:]:
        there = features(model, move(batch, element))
        for tap, seen in here.items():
            plain = move(seen, element) if seen.ndim == 4 else seen
            assert relative(there[tap], plain) > 1e-3, tap


def test_noise_on_the_weights_breaks_exactness_by_about_its_share() -> None:
    """One per cent on every weight shows in every layer; the network itself is left alone."""
    model, batch = axis_network(), images(4, SIDE)
    changed = noisy(model, 0.01)
    here, there = features(changed, batch), features(changed, move(batch, R90))
    for tap, fields in model.truth.items():
        own, _ = errors(here[tap], there[tap], fields, R90)
        assert own > (1e-3 if fields.layout == "BCHW" else 1e-5), tap
        assert own < 0.1, tap
    check(model, SIDE)


@pytest.mark.parametrize("name", EXACT)
def test_networks_can_be_scripted_and_traced(name: str) -> None:
    """Both say what the network says."""
    model, batch = network(name), images(2, SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.jit.script(model), torch.jit.trace(model, batch)  # type: ignore[no-untyped-call]
    for other in compiled:
        torch.testing.assert_close(other(batch), model(batch))


@pytest.mark.parametrize("name", EXACT)
def test_weights_depend_on_the_seed_and_leave_the_global_state_alone(name: str) -> None:
    """The same seed makes the same network."""
    state = torch.random.get_rng_state()
    first, again, other = (EXACT[name](seed=seed).state_dict() for seed in (3, 3, 4))  # type: ignore[call-arg]
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@cache
def file_features(name: str, element: Element) -> dict[str, Tensor]:
    """Return what each layer of a file returns for turned images; TorchScript has no hooks."""
    seen = dict[str, Tensor]()

    def run(module: nn.Module, value: Tensor, prefix: str) -> Tensor:
        for part, child in module.named_children():
            tap = f"{prefix}{part}"
            value = run(child, value, f"{tap}.") if list(child.children()) else child(value)
            seen[tap] = value
        return value

    batch = move(images(4, FIELD_SIDE), element)
    model = torch.jit.load(INDEPENDENT / f"{name}.pt")  # type: ignore[no-untyped-call]
    torch.testing.assert_close(run(model, batch, ""), model(batch))
    return seen


@pytest.mark.parametrize("name", FIELD_FILES)
def test_layers_of_an_independent_library_turn_as_the_truth_says(name: str) -> None:
    """The actions of escnn's own representations, written down without it."""
    truth = FIELD_FILES[name]
    here = file_features(name, C4[0])
    assert set(here) == set(truth)
    for element in truth["conv1"].elements[1:]:
        there = file_features(name, element)
        for tap, fields in truth.items():
            own, plain = errors(here[tap], there[tap], fields, element)
            assert own < EXACTLY, (tap, element)
            if element in {R90, MIRROR} and fields.kind != "trivial":
                assert plain > 0.05, tap


def test_the_files_of_the_independent_library_are_those_of_the_truth_and_small() -> None:
    """Nothing is left over, and a clone of the repository stays light."""
    paths = {path.stem: path for path in INDEPENDENT.glob("fields_*.pt")}
    assert set(paths) == set(FIELD_FILES)
    assert max(path.stat().st_size for path in paths.values()) < 100_000
