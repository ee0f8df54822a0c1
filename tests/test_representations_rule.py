"""How channel actions are fitted, told from chance, and carried on between pixels: on drawn features."""

import itertools
import math
from collections.abc import Mapping

import group_networks as known
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import eqaudit
from eqaudit.groups import MIRROR, Element, Group
from eqaudit.representations import (
    TRIVIAL_ERROR,
    Action,
    Decision,
    Floats,
    GeneratorFit,
    Orthogonal,
    Pairs,
    Permutation,
    decide,
    extend,
    fit_generator,
    undetermined,
)
from eqaudit.representations.base import power
from eqaudit.representations.fit import PROVEN_ERROR, fit_permutation
from eqaudit.representations.offgrid import Flow, anchor_of
from eqaudit.representations.rule import LIKELY_RELATION, relation_error

SAMPLES = 400
ROUNDING = 1e-12
"""Sums of a few hundred products in float64, relative."""
C4, D4, D1 = map(Group.named, ("C4", "D4", "D1"))
R90, R45 = Element(mirrored=False, k=1, n=4), Element(mirrored=False, k=1, n=8)

Sources = NDArray[np.int64]


def drawn(samples: int, channels: int, seed: int = 0) -> Floats:
    """Return features (samples, channels) of which no two channels are alike."""
    return np.random.default_rng(seed).normal(size=(samples, channels))


def seen(still: Floats, action: Action, noise: float = 0.0, seed: int = 1) -> Pairs:
    """Return pairs of an action, with noise of a share of the features' size, in two halves."""
    moved = action.on_samples(still)
    moved = moved + noise * np.linalg.norm(moved) / math.sqrt(moved.size) * drawn(
        len(moved), moved.shape[1], seed
    )
    return Pairs(moved, still, np.arange(len(still)) % 2 == 1)


def truth(fields: known.Fields) -> dict[Element, Permutation]:
    """Return the permutation of each element but the identity."""
    elements = {Element(mirrored, turns, 4): (mirrored, turns) for mirrored, turns in fields.elements[1:]}
    return {element: Permutation(fields.source(one).numpy()) for element, one in elements.items()}


def fitted(
    actions: Mapping[Element, Action], still: Floats, noises: Mapping[Element, float] | None = None
) -> dict[Element, GeneratorFit]:
    """Return the fits of elements that act in a known way, with noise where there is some."""
    noise = noises or {}
    return {
        element: fit_generator(seen(still, action, noise.get(element, 0.0)), TRIVIAL_ERROR)
        for element, action in actions.items()
    }


def turn_of(*frequencies: int, by: float = math.pi / 2) -> Orthogonal:
    """Return a turn acting on planes, each turning by a frequency times the angle."""
    matrix = np.zeros((2 * len(frequencies), 2 * len(frequencies)))
    for place, frequency in enumerate(frequencies):
        cosine, sine = math.cos(frequency * by), math.sin(frequency * by)
        matrix[2 * place : 2 * place + 2, 2 * place : 2 * place + 2] = [[cosine, -sine], [sine, cosine]]
    return Orthogonal(matrix)


def mixing(channels: int, seed: int = 0) -> Floats:
    """Return an orthogonal matrix that mixes all channels."""
    return np.linalg.qr(drawn(channels, channels, seed))[0]


def sources(decision: Decision, element: Element) -> list[Sources]:
    """Return the permutations of both halves."""
    actions = [decision.at(element, half) for half in (0, 1)]
    return [action.source for action in actions if isinstance(action, Permutation)]


@settings(max_examples=25)
@given(fields=st.integers(1, 6), seed=st.integers(0, 1000), mirrors=st.booleans())
def test_a_regular_action_is_found_with_the_place_of_every_channel(
    fields: int, seed: int, mirrors: bool
) -> None:
    """What is decided acts at each element, generator or not, as the features were made."""
    actions = truth(known.regular(fields, known.D4 if mirrors else known.C4))
    still = drawn(SAMPLES, 8 * fields if mirrors else 4 * fields, seed)
    decision = decide(D4, fitted(actions, still), still)
    assert (decision.kind, decision.group, decision.proven) == ("permutation", D4 if mirrors else C4, True)
    for element, action in actions.items():
        found = sources(decision, element)
        assert len(found) == 2
        assert all((source == action.source).all() for source in found)


def test_dead_channels_hide_no_action() -> None:
    """Fields that are zero everywhere leave error and relations at zero, and the others in their places."""
    still = drawn(SAMPLES, 24)
    still[:, 16:] = 0
    actions = truth(known.regular(6))
    decision = decide(C4, fitted(actions, still), still)
    assert (decision.kind, decision.group) == ("permutation", C4)
    assert decision.error == pytest.approx(0, abs=ROUNDING)
    assert decision.relation == 0
    for source in sources(decision, R90):
        assert (source[:16] == actions[R90].source[:16]).all()


@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-3])
def test_duplicate_channels_hide_no_action(apart: float) -> None:
    """Fields that are copies of others, or nearly, are no reason for another reading."""
    still = drawn(SAMPLES, 24)
    still[:, 16:] = still[:, :8] + apart * drawn(SAMPLES, 8, 2)
    decision = decide(C4, fitted(truth(known.regular(6)), still), still)
    assert (decision.kind, decision.group) == ("permutation", C4)
    assert decision.error == pytest.approx(0, abs=ROUNDING)
    assert decision.relation == pytest.approx(0, abs=ROUNDING)


def test_relations_are_those_that_the_data_can_tell() -> None:
    """A permutation that is no turn on dead channels obeys the relations; on live ones it does not."""
    source = np.array([1, 2, 3, 0, 5, 6, 4])
    still = drawn(SAMPLES, 7)
    assert relation_error(C4, {R90: Permutation(source)}, still) > LIKELY_RELATION
    still[:, 4:] = 0
    assert relation_error(C4, {R90: Permutation(source)}, still) == 0
    assert not np.array_equal(power(Permutation(source), 4).matrix, np.eye(7))


def test_a_permutation_of_no_group_is_not_used() -> None:
    """Channels that change places in a cycle of three come from no quarter turn, however well they fit."""
    still = drawn(SAMPLES, 3)
    cycle = Permutation(np.array([1, 2, 0]))
    fits = fitted({R90: cycle, R90 @ R90: cycle @ cycle}, still)
    found = fits[R90].permutation
    assert found is not None
    assert found.error == 0
    assert decide(C4, fits, still).group is None


def test_an_orthogonal_action_is_found_in_the_span_of_few_features() -> None:
    """Twelve channels that only ever span four dimensions tell the action there, which is enough."""
    basis = mixing(12)[:, :4]
    inside = Orthogonal(basis @ turn_of(1, 1).matrix @ basis.T + np.eye(12) - basis @ basis.T)
    still = drawn(SAMPLES, 4) @ basis.T
    fits = fitted({R90: inside, R90 @ R90: inside @ inside}, still)
    decision = decide(C4, fits, still)
    assert fits[R90].determined
    assert (decision.kind, decision.group) == ("orthogonal", C4)
    for half in (0, 1):
        action = decision.at(R90, half)
        assert action is not None
        assert np.allclose(action.on_samples(still), inside.on_samples(still), atol=1e-10)


def test_too_few_samples_leave_an_action_undetermined() -> None:
    """Twenty samples of 32 channels keep their lengths, but neither half spans what the other shows."""
    still = drawn(20, 32)
    basis = mixing(32)
    action = Orthogonal(basis @ turn_of(*[1] * 16).matrix @ basis.T)
    fits = fitted({R90: action, R90 @ R90: action @ action}, still)
    assert fits[R90].lengths < PROVEN_ERROR
    assert not fits[R90].determined
    assert undetermined(fits)
    assert decide(C4, fits, still).group is None


def test_each_half_is_judged_by_the_fit_of_the_other() -> None:
    """Two halves that each obey a permutation of their own, a different one, obey none."""
    still = drawn(SAMPLES, 8)
    pairs = seen(still, Permutation(np.roll(np.arange(8), 1)))
    other = seen(still, Permutation(np.roll(np.arange(8), 2)))
    moved = np.where(pairs.second[:, None], other.moved, pairs.moved)
    found = fit_permutation(Pairs(moved, still, pairs.second))
    assert found.by_half[0].source.tolist() == np.roll(np.arange(8), 1).tolist()
    assert found.by_half[1].source.tolist() == np.roll(np.arange(8), 2).tolist()
    assert found.error > 1


def test_a_fit_to_noise_does_not_flatter() -> None:
    """Unrelated features keep about the error of plain maps, although each half fits itself better."""
    moved, still = drawn(40, 30, 1), drawn(40, 30, 2)
    pairs = Pairs(moved, still, np.arange(40) % 2 == 1)
    found = fit_permutation(pairs)
    own = [
        pairs.error(
            float(np.square(moved - found.by_half[half].on_samples(still))[pairs.second == half].sum())
        )
        for half in (0, 1)
    ]
    assert math.hypot(*own) < 0.85 * pairs.trivial
    assert found.error > 0.95 * pairs.trivial


def test_plain_maps_stay_plain_maps() -> None:
    """Channels that keep their places are trivial under the whole group, with no action to apply."""
    still = drawn(SAMPLES, 6)
    decision = decide(D4, fitted({g: Permutation.identity(6) for g in D4.moving}, still), still)
    assert (decision.kind, decision.group, decision.error) == ("trivial", D4, 0.0)
    assert decision.at(R90, 0) is None


def test_what_is_proven_comes_before_what_is_likely_in_a_larger_group() -> None:
    """A quarter turn that fits exactly and a mirror that fits roughly make C4, not D4."""
    actions = truth(known.regular(3, known.D4))
    still = drawn(SAMPLES, 24)
    rough = {g: 0.3 for g in D4.moving if g.mirrored}
    decision = decide(D4, fitted(actions, still, rough), still)
    assert (decision.kind, decision.group, decision.proven) == ("permutation", C4, True)
    everywhere = dict.fromkeys(D4.moving, 0.3)
    decision = decide(D4, fitted(actions, still, everywhere), still)
    assert (decision.kind, decision.group, decision.proven) == ("permutation", D4, False)


@pytest.mark.parametrize(
    ("group", "limit"),
    [(D1, 0.25), (Group.named("C2"), 0.25), (Group.named("D2"), 0.25), (C4, 0.5), (D4, 0.5)],
)
def test_a_likely_permutation_must_explain_most_of_what_plain_maps_miss(group: Group, limit: float) -> None:
    """It is used up to half of the trivial error, a quarter where the relations say little."""
    actions = {g: action for g, action in truth(known.regular(8, known.D4)).items() if g in group.elements}
    still = drawn(SAMPLES, 64)
    trivial = seen(still, actions[group.moving[0]]).trivial
    for share, kind in ((0.9 * limit, "permutation"), (1.2 * limit, "trivial")):
        # Noise enters the error as it is, and the trivial error hardly.
        decision = decide(group, fitted(actions, still, dict.fromkeys(actions, share * trivial)), still)
        assert decision.kind == kind


@pytest.mark.parametrize("order", [8, 12, 16])
def test_between_two_orientations_a_regular_action_is_band_limited_interpolation(order: int) -> None:
    """Half a step of a cyclic shift moves each frequency below the highest by half, as a sampled wave."""
    shift = Permutation(np.roll(np.arange(order), 1))
    angles = 2 * math.pi * np.arange(order) / order
    for frequency, phase in itertools.product(range(order // 2), (0.0, 0.7)):
        wave = np.cos(frequency * angles + phase)[None]
        expected = np.cos(frequency * (angles - math.pi / order) + phase)[None]
        assert np.allclose(Flow.of(shift).at(0.5).on_samples(wave), expected, atol=1e-10)


@given(angle=st.floats(-math.pi, math.pi), frequencies=st.lists(st.integers(0, 3), min_size=1, max_size=4))
@settings(max_examples=25)
def test_between_two_turns_irreps_rotate_by_their_frequency_times_the_angle(
    angle: float, frequencies: list[int]
) -> None:
    """The powers of what a turn by 45 degrees does to planes are what every other angle does to them."""
    flow = Flow.of(turn_of(*frequencies, by=math.pi / 4))
    expected = turn_of(*frequencies, by=angle).matrix
    assert np.allclose(flow.at(angle / (math.pi / 4)).matrix, expected, atol=1e-9)


def test_whole_powers_of_a_flow_are_powers_of_the_action() -> None:
    """A matrix that mixes everything, applied three times, is its third power."""
    action = Orthogonal(mixing(9))
    assert np.allclose(Flow.of(action).at(3).matrix, np.linalg.matrix_power(action.matrix, 3))


def test_a_permutation_off_the_grid_is_held_to_the_quarter_turn() -> None:
    """Of regular fields of C8, 45 degrees is found such that twice it is what 90 degrees does."""
    eighth = Permutation(np.concatenate([field * 8 + np.roll(np.arange(8), 1) for field in range(3)]))
    quarter = power(eighth, 2)
    still = drawn(SAMPLES, 24)
    decision = decide(C4, fitted({R90: quarter, R90 @ R90: power(quarter, 2)}, still), still)
    found = extend(R45, decision, seen(still, eighth, 0.05), 0.05)
    assert found is not None
    assert found.how == "permutation"
    for half in (0, 1):
        action = found.at(R45, (None, None), half)
        assert np.array_equal(action.matrix, eighth.matrix)
        assert np.array_equal((action @ action).matrix, quarter.matrix)


def test_an_orthogonal_action_off_the_grid_is_held_to_the_quarter_turn() -> None:
    """Of planes that turn, mixed and noisy, twice the fit at 45 degrees is the fit at 90 degrees."""
    basis = mixing(6)
    eighth = Orthogonal(basis @ turn_of(1, 2, 1, by=math.pi / 4).matrix @ basis.T)
    quarter = power(eighth, 2)
    still = drawn(SAMPLES, 6)
    decision = decide(C4, fitted({R90: quarter, R90 @ R90: power(quarter, 2)}, still), still)
    found = extend(R45, decision, seen(still, eighth, 0.05), 0.05)
    assert found is not None
    assert found.how == "orthogonal"
    for half in (0, 1):
        action, exact = found.at(R45, (None, None), half), decision.at(R90, half)
        assert exact is not None
        assert np.allclose((action @ action).matrix, exact.matrix, atol=1e-9)
        assert np.allclose(action.matrix, eighth.matrix, atol=0.05)


def test_the_power_that_is_exact_is_the_least() -> None:
    """Twice 45 degrees is a quarter turn, three times 30 degrees too; five times 72 degrees is none."""
    turns = {8: (2, R90), 12: (3, R90), 5: (5, Element(mirrored=False, k=0, n=1))}
    for order, expected in turns.items():
        assert anchor_of(Element(mirrored=False, k=1, n=order)) == expected


def test_unrelated_features_get_no_action_off_the_grid() -> None:
    """Where nothing is known at quarter turns, or plain maps are at the floor, nothing is made up."""
    still = drawn(SAMPLES, 8)
    unrelated = Pairs(drawn(SAMPLES, 8, 5), still, np.arange(SAMPLES) % 2 == 1)
    plain = decide(C4, fitted(dict.fromkeys(C4.moving, Permutation.identity(8)), still), still)
    assert extend(R45, Decision(), unrelated, 0.02) is None
    assert extend(R45, plain, unrelated, 0.02) is None
    assert extend(R45, plain, seen(still, Permutation.identity(8), 0.02), 0.02) is None


def test_a_mirror_is_found_where_only_it_holds() -> None:
    """Turns that fit nothing leave D1, whose permutation swaps pairs of channels."""
    swap = Permutation(np.array([1, 0, 3, 2, 5, 4]))
    still = drawn(SAMPLES, 6)
    fits = {
        g: fit_generator(Pairs(drawn(SAMPLES, 6, 7), still, np.arange(SAMPLES) % 2 == 1), TRIVIAL_ERROR)
        for g in D4.moving
    }
    decision = decide(D4, fits | fitted({MIRROR: swap}, still), still)
    assert (decision.kind, decision.group) == ("permutation", D1)
    assert [source.tolist() for source in sources(decision, MIRROR)] == [swap.source.tolist()] * 2


@pytest.mark.parametrize("seed", range(20))
def test_plain_networks_have_no_channel_action(seed: int) -> None:
    """No layer of an ordinary random network is given one, and every error is that of plain maps."""
    width, depth = (2, 3, 5, 8, 16)[seed % 5], 1 + seed % 4
    network = known.plain_network(100 + seed, width, depth, norm=seed % 2 == 0, pooled=seed % 3 > 0)
    pictures = known.images(8 + seed % 9, 15 + seed % 3, seed)
    if seed % 4 == 0:
        pictures = torch.rand(pictures.shape, generator=torch.Generator().manual_seed(seed))
    report = eqaudit.audit(network, pictures, group="D4")
    for layer in [*report.layers, *report.outputs]:
        assert layer.representation is not None
        assert layer.representation.kind == "trivial"
        assert layer.representation.off_grid is None
        assert all(error.trivial_error in {None, error.error} for error in layer.errors)
