"""Names of channel actions, on representations made from the table of the group."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eqaudit.groups import Element, Group
from eqaudit.report import FieldCount, Roll
from eqaudit.representations.naming import Named, name_orthogonal, name_permutation

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SAMPLES = 40
DIAGONAL = Group(1, Element(mirrored=True, k=1, n=4))
GROUPS = [*map(Group.named, ["C1", "C2", "C3", "C4", "C12", "D1", "D2", "D3", "D4", "D6"]), DIAGONAL]


def generating(group: Group) -> list[Element]:
    """Return the turn and the mirror of a group, those that it has."""
    turn = [Element(mirrored=False, k=1, n=group.rotations)] if group.rotations > 1 else []
    return turn if group.mirror is None else [*turn, group.mirror]


def coset_source(group: Group, stabiliser: Group, element: Element) -> Integers:
    """Return how an element moves functions on cosets: (rho(g) x)[h] = x[g^-1 h]."""
    cosets: list[frozenset[Element]] = []
    for g in group.elements:
        coset = frozenset(g @ h for h in stabiliser.elements)
        if coset not in cosets:
            cosets.append(coset)
    return np.array([cosets.index(frozenset(~element @ g for g in coset)) for coset in cosets])


def stack(fields: Sequence[Integers]) -> Integers:
    """Put fields one after the other."""
    starts = np.cumsum([0, *map(len, fields)])[:-1]
    return np.concatenate([start + field for start, field in zip(starts, fields, strict=True)])


def made_of(group: Group, *stabilisers: Group) -> dict[Element, Integers]:
    """Return the generators on fields of cosets, one field after the other."""
    return {g: stack([coset_source(group, h, g) for h in stabilisers]) for g in generating(group)}


def placed(actions: Mapping[Element, Integers], places: Integers) -> dict[Element, Integers]:
    """Put what is channel c in an action at ``places[c]``."""
    back = np.argsort(places)
    return {element: places[source[back]] for element, source in actions.items()}


def drawn(channels: int, samples: int = SAMPLES) -> Floats:
    """Return features of which no two channels are alike."""
    return np.random.default_rng(0).normal(size=(channels, samples))


def name(
    group: Group, actions: Mapping[Element, Integers], *sizes: int, features: Floats | None = None
) -> Named:
    """Name an action on channels of which no two are alike, unless features are given."""
    given_sizes = sizes or (len(next(iter(actions.values()))),)
    channels = int(np.prod(given_sizes))
    return name_permutation(group, actions, drawn(channels) if features is None else features, given_sizes)


def held(fields: list[FieldCount]) -> int:
    """Return how many channels the fields have together."""
    return sum(field.size * field.count for field in fields)


@pytest.mark.parametrize(
    "group", [group for group in GROUPS if group.name != "C1"], ids=lambda group: group.name
)
def test_regular_fields_bear_the_name_of_the_group(group: Group) -> None:
    """Two fields on the elements of a group are two regular fields, whose channels stand together."""
    named = name(group, made_of(group, Group(1), Group(1)))
    assert named.fields == [FieldCount(f"regular {group.name}", len(group.elements), 2)]
    assert named.words.startswith(f"2 x regular {group.name}, last")
    assert named.axis == "last"


def test_a_regular_layer_with_the_group_axis_last_reads_short() -> None:
    """The usual case fits the column of the table."""
    named = name(Group.named("C4"), made_of(Group.named("C4"), *[Group(1)] * 8))
    assert named.words == "8 x regular C4, last, roll +1"
    assert named.roll == Roll("r90", "last", 4, 1)


def test_a_regular_layer_with_the_group_axis_first_is_strided() -> None:
    """Channel g * fields + field is the group axis first."""
    group, places = Group.named("C4"), np.arange(32).reshape(4, 8).T.reshape(-1)
    named = name(group, placed(made_of(group, *[Group(1)] * 8), places))
    assert named.words == "8 x regular C4, first, roll +1"
    assert (named.axis, named.roll) == ("first", Roll("r90", "first", 4, 1))


def test_a_roll_backwards_is_negative() -> None:
    """The other convention of writing a group axis turns the other way."""
    actions = {g: np.argsort(source) for g, source in made_of(Group.named("C4"), *[Group(1)] * 3).items()}
    named = name(Group.named("C4"), actions)
    assert named.words == "3 x regular C4, last, roll -1"
    assert named.roll == Roll("r90", "last", 4, -1)


@pytest.mark.parametrize(
    ("length", "shift", "signed"), [(3, 2, -1), (3, 1, 1), (4, 2, 2), (12, 6, 6), (12, 7, -5), (5, 3, -2)]
)
def test_a_roll_goes_the_shorter_way(length: int, shift: int, signed: int) -> None:
    """A shift is at most half of the axis, and half of it forwards."""
    source = np.roll(np.arange(2 * length).reshape(2, length), shift, 1).reshape(-1)
    order = length // np.gcd(length, shift)
    named = name(Group(int(order)), {Element(mirrored=False, k=1, n=int(order)): source})
    assert named.roll is not None
    assert (named.roll.axis, named.roll.length, named.roll.shift) == ("last", length, signed)


def test_shuffled_fields_have_no_axis_and_no_roll() -> None:
    """What stands nowhere in particular is only counted."""
    group = Group.named("C4")
    places = np.random.default_rng(1).permutation(32)
    named = name(group, placed(made_of(group, *[Group(1)] * 8), places))
    assert (named.words, named.axis, named.roll) == ("8 x regular C4", None, None)


def test_mixed_fields_are_counted_by_kind() -> None:
    """Trivial, regular and quotient fields beside each other, and channels that carry nothing."""
    group = Group.named("C4")
    actions = made_of(group, *[group] * 3, *[Group(1)] * 5, *[Group(2)] * 2, *[group] * 4)
    features = drawn(31)
    features[-4:] = 1e-8 * drawn(4)
    named = name(group, actions, 31, features=features)
    assert named.words == "3 x trivial + 5 x regular C4 + 2 x quotient C4/C2 + 4 dead, last"
    assert named.fields == [
        FieldCount("trivial", 1, 3),
        FieldCount("regular C4", 4, 5),
        FieldCount("quotient C4/C2", 2, 2),
        FieldCount("dead", 1, 4),
    ]
    assert (named.axis, named.roll) == ("last", None)


TURN = np.array([1, 2, 3, 0])


@pytest.mark.parametrize(
    ("group", "sources"),
    [
        ("C4", [np.roll(np.arange(5), 1)]),
        ("C4", [np.array([1, 2, 0])]),
        ("D1", [TURN]),
        ("D2", [TURN, np.array([2, 3, 0, 1])]),
        ("D2", [np.array([1, 0, 3, 2]), np.array([2, 0, 3, 1])]),
        ("D4", [np.concatenate([TURN, 4 + TURN]), np.roll(np.arange(8), 4)]),
    ],
    ids=[
        "five-cycle",
        "three-cycle",
        "mirror of order 4",
        "half turn of order 4",
        "flip of order 4",
        "mirror that commutes",
    ],
)
def test_what_breaks_the_relations_of_the_group_is_no_field_of_it(
    group: str, sources: list[Integers]
) -> None:
    """Each relation counts: r^n, m^2, and the turn that a mirror reverses."""
    named = name(Group.named(group), dict(zip(generating(Group.named(group)), sources, strict=True)))
    size = len(sources[0])
    assert named.fields == [FieldCount(f"irregular of {size}", size, 1)]


@pytest.mark.parametrize("stabiliser", Group.named("D4").subgroups()[1:-1], ids=lambda group: group.name)
def test_quotients_of_d4_are_named_by_what_leaves_a_channel_alone(stabiliser: Group) -> None:
    """Conjugate stabilisers are one kind of field; one with a name lends it."""
    group = Group.named("D4")
    named = name(group, made_of(group, stabiliser))
    conjugates = [
        h.name
        for h in group.subgroups()
        for g in group.elements
        if {g @ x @ ~g for x in stabiliser.elements} == set(h.elements)
    ]
    assert named.fields == [
        FieldCount(f"quotient D4/{conjugates[0]}", 8 // len(stabiliser.elements), 1),
    ]


def test_the_mirrors_of_the_sides_and_of_the_diagonals_are_told_apart() -> None:
    """D4 has two kinds of fields of four channels that a mirror leaves in place."""
    group = Group.named("D4")
    named = name(group, made_of(group, Group.named("D1"), DIAGONAL))
    assert named.words.startswith("1 x quotient D4/D1 + 1 x quotient D4/{e, m-r90}, last")


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_an_action_that_moves_nothing_is_unchanged(group: Group) -> None:
    """Trivial fields alone need no counting in words."""
    named = name(group, {g: np.arange(6) for g in generating(group)}, 6)
    assert named == Named("unchanged", [FieldCount("trivial", 1, 6)], None, None)


def test_dead_channels_beside_unchanged_ones_are_said() -> None:
    """Wherever a fit sends dead channels, they are dead."""
    features = drawn(8)
    features[5:] = 0
    source = np.array([0, 1, 2, 3, 4, 6, 7, 5])
    named = name(Group.named("C4"), {Element(mirrored=False, k=1, n=4): source}, 8, features=features)
    assert named.words == "unchanged, 3 dead"
    assert named.fields == [FieldCount("trivial", 1, 5), FieldCount("dead", 1, 3)]


def test_a_layer_without_content_is_dead() -> None:
    """Nothing can be said of channels that are all zero."""
    source = np.array([3, 0, 1, 2])
    for scale in (0.0, 1.0):
        features = np.zeros((8, SAMPLES))
        features[4:] = scale * drawn(4)
        actions = {Element(mirrored=False, k=1, n=4): np.append(source, [4, 5, 6, 7])}
        named = name(Group.named("C4"), actions, 8, features=features)
        assert named.words == ("unchanged, 4 dead" if scale else "8 dead")
        assert (named.axis, named.roll) == (None, None)


def test_dead_channels_that_a_fit_scrambled_leave_the_roll() -> None:
    """Two dead fields whose channels are sent around at random are in nobody's way."""
    group = Group.named("C4")
    source = made_of(group, *[Group(1)] * 8)[Element(mirrored=False, k=1, n=4)]
    source[8:16] = 8 + np.random.default_rng(2).permutation(8)
    features = drawn(32)
    features[8:16] *= 1e-9
    named = name(group, {Element(mirrored=False, k=1, n=4): source}, 32, features=features)
    assert named.words == "6 x regular C4 + 8 dead, last, roll +1"
    assert named.roll == Roll("r90", "last", 4, 1)


def test_dead_channels_between_live_ones_are_one_kind() -> None:
    """Noise far below the features makes no channel alive, and no two of them different."""
    source = np.append(TURN, [5, 6, 7, 8, 4])
    features = drawn(9)
    features[4:] *= 1e-7
    named = name(Group.named("C4"), {Element(mirrored=False, k=1, n=4): source}, features=features)
    assert named.fields == [FieldCount("regular C4", 4, 1), FieldCount("dead", 1, 5)]


def test_two_alike_fields_with_the_group_axis_first_are_strided() -> None:
    """Equal neighbours are the same place of two fields, not two places of one."""
    group, features = Group.named("C4"), np.repeat(drawn(4), 2, axis=0)
    places = np.arange(8).reshape(4, 2).T.reshape(-1)
    named = name(group, placed(made_of(group, Group(1), Group(1)), places), features=features)
    assert named.words == "2 x regular C4, first, roll +1"


def test_a_turn_that_changes_nothing_is_no_roll() -> None:
    """Where only the mirror moves channels, a roll among equal ones would fit the turn."""
    group, features = Group.named("D4"), np.repeat(drawn(2), 2, axis=0)
    places = np.arange(4).reshape(2, 2).T.reshape(-1)
    actions = placed(made_of(group, Group.named("C4"), Group.named("C4")), places)
    named = name(group, actions, features=features)
    assert (named.words, named.roll) == ("2 x quotient D4/C4, first", None)


def test_one_field_that_turns_the_other_way_is_no_roll() -> None:
    """A roll is said of all channels or not at all, however faint the others are."""
    source = stack([np.array([3, 0, 1, 2])] * 31 + [TURN])
    features = drawn(128)
    features[-4:] *= 1e-3
    named = name(Group.named("C4"), {Element(mirrored=False, k=1, n=4): source}, features=features)
    assert (named.words, named.roll) == ("32 x regular C4, last", None)


def test_of_several_rolls_that_fit_the_least_is_said() -> None:
    """On an axis whose channels repeat by twos, every odd shift fits."""
    features = np.repeat(drawn(4).reshape(2, 1, 2, SAMPLES), 3, axis=1).reshape(12, SAMPLES)
    source = np.roll(np.arange(12).reshape(2, 6), 3, 1).reshape(-1)
    named = name(Group.named("C2"), {Element(mirrored=False, k=1, n=2): source}, 2, 6, features=features)
    assert named.words == "6 x regular C2, axis 2 of 2x6, roll +1"


@pytest.mark.parametrize("first", [False, True])
def test_alike_fields_that_a_fit_scrambled_are_still_fields(first: bool) -> None:
    """Which of two equal channels a fit takes is arbitrary, also where it breaks the group's relations."""
    group, turn = Group.named("C4"), Element(mirrored=False, k=1, n=4)
    source = made_of(group, *[Group(1)] * 6)[turn]
    # Field 2 equals field 0: their channels 3 go to each other's channel 0, a cycle of eight.
    source[[0, 8]] = source[[8, 0]]
    features = drawn(24)
    features[8:12] = features[:4] * (1 + 1e-8)
    places = np.arange(24).reshape(4, 6).T.reshape(-1) if first else np.arange(24)
    at_places = np.empty_like(features)
    at_places[places] = features
    named = name(group, placed({turn: source}, places), 24, features=at_places)
    assert named.words == f"6 x regular C4, {'first' if first else 'last'}, roll +1"
    assert named.fields == [FieldCount("regular C4", 4, 6)]


def test_channels_that_are_nearly_alike_are_not_alike() -> None:
    """A difference well above rounding keeps a scrambled fit visible."""
    group, turn = Group.named("C4"), Element(mirrored=False, k=1, n=4)
    source = made_of(group, *[Group(1)] * 2)[turn]
    source[[0, 4]] = source[[4, 0]]
    features = drawn(8)
    features[4:] = features[:4] + 1e-4 * drawn(8)[4:]
    named = name(group, {turn: source}, 8, features=features)
    assert named.fields == [FieldCount("irregular of 8", 8, 1)]
    assert named.words.startswith("1 x irregular of 8")


def test_a_field_whose_channels_repeat_is_what_the_data_show() -> None:
    """Filters that a half turn leaves alone make quotient fields of regular ones, constant ones trivial."""
    group = Group.named("C4")
    features = drawn(8)
    features[2:4], features[4:] = features[:2], features[4]
    named = name(group, made_of(group, Group(1), Group(1)), 8, features=features)
    assert named.fields == [FieldCount("trivial", 1, 4), FieldCount("quotient C4/C2", 2, 2)]


def test_alike_channels_that_are_sent_apart_stay_single() -> None:
    """Two channels that chance made alike are no class where the fields around them differ."""
    group = Group.named("C4")
    features = drawn(8)
    features[4] = features[0]
    named = name(group, made_of(group, Group(1), Group(1)), 8, features=features)
    assert named.words == "2 x regular C4, last, roll +1"


def test_a_dead_channel_of_a_live_field_belongs_to_the_field() -> None:
    """One orientation that too few images woke is no dead channel."""
    group = Group.named("C4")
    features = drawn(12)
    features[[5, 8, 9, 10, 11]] = 0
    named = name(group, made_of(group, *[Group(1)] * 3), 12, features=features)
    assert named.fields == [FieldCount("regular C4", 4, 2), FieldCount("dead", 1, 4)]


def twelve(first: bool) -> dict[Element, Integers]:
    """Return a quarter turn on twelve orientations of eight fields."""
    channels = np.arange(96).reshape((12, 8) if first else (8, 12))
    return {Element(mirrored=False, k=1, n=4): np.roll(channels, 3, 0 if first else 1).reshape(-1)}


def test_twelve_orientations_under_quarter_turns_roll_by_three() -> None:
    """A lifting layer with a group axis of its own, that has more places than the group elements."""
    named = name(Group.named("C4"), twelve(first=False), 8, 12)
    assert named.words == "24 x regular C4, axis 2 of 8x12, roll +3"
    assert (named.axis, named.roll) == ("2 of 8x12", Roll("r90", "2", 12, 3))
    named = name(Group.named("C4"), twelve(first=True), 12, 8)
    assert named.words == "24 x regular C4, axis 1 of 12x8, roll +3"
    assert (named.axis, named.roll) == ("1 of 12x8", Roll("r90", "1", 12, 3))


def test_a_flattened_axis_of_twelve_is_found_last_and_is_shorter_first() -> None:
    """Last, only twelve places explain it; first, a roll by a quarter of all channels is one of four."""
    named = name(Group.named("C4"), twelve(first=False), 96)
    assert named.words == "24 x regular C4, last of 12, roll +3"
    assert (named.axis, named.roll) == ("last", Roll("r90", "last", 12, 3))
    named = name(Group.named("C4"), twelve(first=True), 96)
    assert named.words == "24 x regular C4, first, roll +1"
    assert (named.axis, named.roll) == ("first", Roll("r90", "first", 4, 1))


def test_a_group_axis_of_its_own_is_found_under_the_whole_group() -> None:
    """Five-dimensional features (B, fields, group, H, W)."""
    group = Group.named("C12")
    named = name(group, made_of(group, *[Group(1)] * 6), 6, 12)
    assert named.words == "6 x regular C12, axis 2 of 6x12, roll +1"
    assert named.roll == Roll("r30", "2", 12, 1)


def test_fields_over_two_axes_have_no_axis_and_may_roll_along_one() -> None:
    """Mirrors along one axis, turns along another."""
    group = Group.named("D4")
    named = name(group, made_of(group, *[Group(1)] * 8), 8, 2, 4)
    assert named.words == "8 x regular D4, roll +1 along axis 3"
    assert (named.axis, named.roll) == (None, Roll("r90", "3", 4, 1))


def test_a_turn_within_a_field_with_mirrors_rolls_by_its_own_length() -> None:
    """The eight channels of a D4 field are two runs of four turns."""
    group = Group.named("D4")
    named = name(group, made_of(group, Group(1), Group(1)))
    assert named.words == "2 x regular D4, last, roll +1 of last 4"
    assert (named.axis, named.roll) == ("last", Roll("r90", "last", 4, 1))


def test_a_group_without_turns_has_no_roll() -> None:
    """A mirror swaps; only a turn rolls."""
    named = name(DIAGONAL, made_of(DIAGONAL, *[Group(1)] * 3))
    assert (named.words, named.roll) == ("3 x regular {e, m-r90}, last", None)


@settings(max_examples=60)
@given(st.sampled_from(GROUPS), st.integers(0, 5), st.data())
def test_fields_of_any_mixture_are_found_wherever_they_stand(
    group: Group, dead: int, data: st.DataObject
) -> None:
    """Sizes and counts are those of the mixture, with repeated fields and dead channels, in any order."""
    kinds = data.draw(st.lists(st.sampled_from(group.subgroups()), min_size=1, max_size=5))
    repeated = [*kinds, *data.draw(st.lists(st.sampled_from(kinds), max_size=3))]
    actions = made_of(group, *repeated, *[group] * dead)
    sizes = [len(group.elements) // len(kind.elements) for kind in repeated]
    channels = sum(sizes) + dead
    features = drawn(channels)
    for number in range(len(kinds), len(repeated)):
        like, start = repeated.index(repeated[number]), sum(sizes[:number])
        begin = sum(sizes[:like])
        features[start : start + sizes[number]] = features[begin : begin + sizes[number]]
    features[sum(sizes) :] = 0
    places = np.array(data.draw(st.permutations(range(channels))))
    at_places = np.empty_like(features)
    at_places[places] = features
    fields = name(group, placed(actions, places), channels, features=at_places).fields
    assert held(fields) == channels
    counted = Counter[int]()
    for field in fields:
        if field.name != "dead":
            counted[field.size] += field.count
    assert counted == Counter(sizes)
    assert sum(field.count for field in fields if field.name == "dead") == dead


@settings(max_examples=60)
@given(st.sampled_from(GROUPS[1:]), st.sampled_from([(12,), (3, 4), (2, 3, 2)]), st.data())
def test_fields_have_every_channel_of_any_permutation(
    group: Group, sizes: tuple[int, ...], data: st.DataObject
) -> None:
    """Also permutations that are no representation, on channels that are dead or alike, are counted whole."""
    actions = {g: np.array(data.draw(st.permutations(range(12)))) for g in generating(group)}
    content = data.draw(st.lists(st.integers(-1, 4), min_size=12, max_size=12))
    features = np.vstack([drawn(5), np.zeros((1, SAMPLES))])[content]
    named = name_permutation(group, actions, features, sizes)
    assert held(named.fields) == 12
    if named.roll is not None:
        assert 0 < abs(named.roll.shift) <= named.roll.length // 2


def rotation(turns: float) -> Floats:
    """Return the plane turned by a share of a circle."""
    c, s = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    return np.array([[c, -s], [s, c]])


def frequencies(order: int, *fields: int) -> Floats:
    """Return the turn by 1/order of a circle on irreps of these frequencies."""
    one = {0: np.eye(1), order / 2: -np.eye(1)}
    return np.asarray(scipy.linalg.block_diag(*(one[f] if f in one else rotation(f / order) for f in fields)))


def mixed(channels: int) -> Floats:
    """Return an orthonormal basis in which nothing is aligned with a channel."""
    return np.linalg.qr(np.random.default_rng(3).normal(size=(channels, channels)))[0]


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_frequencies_in_a_mixed_basis_are_counted(noise: float) -> None:
    """Multiplicities of the frequencies of C8, also where the fit has some error."""
    turn = frequencies(8, 0, 0, 0, 0, 0, 1, 1, 1, 3, 4)
    basis = mixed(14)
    fitted = basis @ turn @ basis.T + noise * np.random.default_rng(4).normal(size=(14, 14))
    named = name_orthogonal(Group.named("C8"), {Element(mirrored=False, k=1, n=8): fitted}, drawn(14))
    assert named.words == "irreps: 5 x f0, 3 x f1, 1 x f3, 1 x f4"
    assert named.fields == [
        FieldCount("frequency 0", 1, 5),
        FieldCount("frequency 1", 2, 3),
        FieldCount("frequency 3", 2, 1),
        FieldCount("frequency 4", 1, 1),
    ]
    assert (named.axis, named.roll) == (None, None)


def test_irreps_of_d4_in_a_mixed_basis_are_counted() -> None:
    """Parities of the turn and of the mirror, and the plane."""
    group, basis = Group.named("D4"), mixed(15)
    flip = np.diag([1.0, -1])
    turn = scipy.linalg.block_diag(1, 1, 1, -1, -1, -1, -1, *[rotation(1 / 4)] * 4)
    mirror = scipy.linalg.block_diag(1, -1, -1, 1, 1, 1, -1, *[flip] * 4)
    generators = {
        g: basis @ matrix @ basis.T for g, matrix in zip(generating(group), [turn, mirror], strict=True)
    }
    named = name_orthogonal(group, generators, drawn(15))
    assert named.words == "irreps: 1 x A1, 2 x A2, 3 x B1, 1 x B2, 4 x E1"
    assert held(named.fields) == 15


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_regular_field_has_each_irrep_as_often_as_real_numbers_allow(group: Group) -> None:
    """Oracle: a regular representation has each irrep of Dn as often as its size, of Cn once."""
    identity = np.eye(len(group.elements))
    generators = {g: identity[coset_source(group, Group(1), g)] for g in generating(group)}
    named = name_orthogonal(group, generators, drawn(len(group.elements)))
    dihedral = group.mirror is not None
    assert held(named.fields) == len(group.elements)
    assert all(field.count == (field.size if dihedral else 1) for field in named.fields)


def test_a_mirror_alone_keeps_or_negates() -> None:
    """Groups of one mirror are named by parity, whichever mirror it is."""
    for group in (Group.named("D1"), DIAGONAL):
        basis = mixed(5)
        fitted = basis @ np.diag([1.0, 1, 1, -1, -1]) @ basis.T
        named = name_orthogonal(group, {generating(group)[0]: fitted}, drawn(5))
        assert named.words == "3 x even, 2 x odd"
        assert named.fields == [FieldCount("even", 1, 3), FieldCount("odd", 1, 2)]


def test_only_what_the_data_span_is_counted() -> None:
    """Where the data have no content the fit is arbitrary, and here no representation at all."""
    basis, turn = mixed(12), frequencies(4, 0, 1, 1, 2, 0, 0, 0, 0, 0, 0)
    turn[6:, 6:] = mixed(6)
    features = basis[:, :6] @ drawn(6)
    generators = {Element(mirrored=False, k=1, n=4): basis @ turn @ basis.T}
    named = name_orthogonal(Group.named("C4"), generators, features)
    assert named.words == "irreps: 1 x f0, 2 x f1, 1 x f2"
    assert held(named.fields) == 6


def test_what_is_no_representation_is_only_called_orthogonal() -> None:
    """A turn that does not close has no whole multiplicities; data without content have none at all."""
    turn = Element(mirrored=False, k=1, n=4)
    half_way, nearly, dead = rotation(1 / 8), rotation(80 / 360), np.zeros((2, SAMPLES))
    for matrix, features in ((half_way, drawn(2)), (nearly, drawn(2)), (np.eye(2), dead)):
        named = name_orthogonal(Group.named("C4"), {turn: matrix}, features)
        assert named == Named("orthogonal", [], None, None)


@settings(max_examples=40)
@given(st.integers(2, 12), st.data())
def test_irreps_of_any_mixture_are_found(order: int, data: st.DataObject) -> None:
    """Multiplicities are those of the mixture, in any orthonormal basis."""
    chosen = data.draw(st.lists(st.integers(0, order // 2), min_size=1, max_size=8))
    turn = frequencies(order, *chosen)
    basis = mixed(len(turn))
    generators = {Element(mirrored=False, k=1, n=order): basis @ turn @ basis.T}
    named = name_orthogonal(Group(order), generators, drawn(len(turn)))
    assert {field.name: field.count for field in named.fields} == Counter(f"frequency {f}" for f in chosen)
    assert held(named.fields) == len(turn)
