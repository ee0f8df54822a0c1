"""Angles as they are typed, the poses they become, and the groups behind them."""

from fractions import Fraction
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqaudit.errors import UsageError
from eqaudit.groups import (
    IDENTITY,
    MIRROR,
    Element,
    Group,
    angle_poses,
    group_poses,
    maximal_holding,
    spanned_group,
)
from eqaudit.parsing import parse_angles
from eqaudit.plan import AuditPlan, FileModel

MILLION = 1_000_000


def turns(*degrees: int | str) -> list[Element]:
    """Return rotations by degrees."""
    return [Element(False, *(Fraction(angle) / 360).as_integer_ratio()) for angle in degrees]


def names(angles: tuple[Fraction, ...], mirror: bool = False) -> list[str]:
    """Return the names of the poses."""
    return [pose.name for pose in angle_poses(angles, mirror=mirror)]


# Angles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45", ["45"]),
        ("0,45,90", ["0", "45", "90"]),
        (" 0 , +45 ,\t.5 ", ["0", "45", "1/2"]),
        ("90,0,45", ["90", "0", "45"]),
        ("22.5,0.1,0.000001", ["45/2", "1/10", "1/1000000"]),
        ("-30,30,-360,360", ["-30", "30", "-360", "360"]),
        ("0:45:22.5", ["0", "45/2", "45"]),
        ("0:10:3", ["0", "3", "6", "9"]),
        ("0:0:5", ["0"]),
        ("7:8:360", ["7"]),
        ("-10:10:10", ["-10", "0", "10"]),
        ("0.1:0.3:0.1", ["1/10", "1/5", "3/10"]),
        ("0 : 2 : 1", ["0", "1", "2"]),
        ("45,45.0,+45", ["45"]),
        ("0,-0,0.000", ["0"]),
        ("90,0,90,0", ["90", "0"]),
    ],
)
def test_angles_are_the_decimals_that_were_typed(text: str, expected: list[str]) -> None:
    """Fractions without rounding, in their order, each once; a range ends where the last step meets."""
    assert parse_angles(text) == tuple(Fraction(angle) for angle in expected)


def test_a_full_circle_has_both_of_its_ends() -> None:
    """0:360:5 is 73 angles, the first and the last of which are the same element under two names."""
    angles = parse_angles("0:360:5")
    assert angles == tuple(Fraction(5 * place) for place in range(73))
    poses = angle_poses(angles, mirror=False)
    assert len({pose.name for pose in poses}) == 73
    assert poses[0].element == poses[-1].element == IDENTITY


def test_a_range_ends_exactly_where_floats_would_miss_it() -> None:
    """In float arithmetic 0.3 / 0.1 is less than 3, and steps of 0.1 do not add up to 143."""
    assert parse_angles("0:143:0.1")[-1] == 143
    assert len(parse_angles("0:0.3:0.1")) == 4
    assert len(parse_angles("-72:71.9:0.1")) == 1_440


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds '', which is no angle"),
        (" ", "holds '', which is no angle"),
        (",", "holds '', which is no angle"),
        ("0,,5", "holds '', which is no angle"),
        ("0,45,", "holds '', which is no angle"),
        ("nan", "holds 'nan', which is no angle"),
        ("0:nan:5", "holds 'nan', which is no angle"),
        ("inf", "holds 'inf', which is no angle"),
        ("1e3", "holds '1e3', which is no angle"),
        ("1e-999999999", "which is no angle"),
        ("1/3", "holds '1/3', which is no angle"),
        ("0x10", "which is no angle"),
        ("1_0", "which is no angle"),
        ("45°", "which is no angle"),
        (".", "holds '.', which is no angle"),
        ("-", "holds '-', which is no angle"),
        ("--5", "which is no angle"),
        ("4 5", "which is no angle"),
        ("0;45", "which is no angle"),
        ("1000", "holds '1000', which is no angle"),
        ("0.0000001", "holds '0.0000001', which is no angle"),
        ("1" * 10_000, "which is no angle"),
        ("400", "holds 400, beyond 360 degrees"),
        ("0,-360.000001", "holds -360.000001, beyond 360 degrees"),
        ("0:400:5", "holds 400, beyond 360 degrees"),
        ("0:360:0", "is an empty range"),
        ("0:360:-5", "is an empty range"),
        ("360:0:5", "is an empty range"),
        ("360:0:-5", "is an empty range"),
        ("0:360", "is no START:STOP:STEP"),
        ("0:360:5:1", "is no START:STOP:STEP"),
        ("0:", "holds '', which is no angle"),
        ("::", "holds '', which is no angle"),
        ("0:90:45,180", "which is no angle"),
    ],
)
def test_what_is_no_angle_is_refused_by_name(text: str, said: str) -> None:
    """The message names the option and what is wrong, and the hint shows what is right."""
    with pytest.raises(UsageError) as caught:
        parse_angles(text)
    assert caught.value.message.startswith("--angles ")
    assert said in caught.value.message
    assert "--angles 0:360:5" in caught.value.hint


@pytest.mark.parametrize("text", ["0:360:0.25", "-360:360:0.5", ",".join(str(n / 10) for n in range(1_441))])
def test_more_than_1440_angles_are_refused(text: str) -> None:
    """One too many is told with the number of them."""
    with pytest.raises(UsageError, match="gives 1,441 angles, at most 1,440"):
        parse_angles(text)


def test_as_many_angles_as_are_allowed_are_taken() -> None:
    """1,440 is a step of a quarter of a degree."""
    assert len(parse_angles("0:359.75:0.25")) == 1_440
    assert len(parse_angles(",".join(str(n / 10) for n in range(1_440)))) == 1_440


def test_a_range_of_millions_of_angles_is_refused_at_once_with_its_number() -> None:
    """The finest range that can be typed is counted, not made."""
    start = perf_counter()
    with pytest.raises(UsageError, match="gives 720,000,001 angles, at most 1,440"):
        parse_angles("-360:360:0.000001")
    assert perf_counter() - start < 1


@settings(max_examples=40)
@given(
    start=st.integers(-360 * MILLION, 360 * MILLION),
    length=st.integers(0, 720 * MILLION),
    count=st.integers(1, 1_000),
)
def test_ranges_hold_every_step_and_nothing_else(start: int, length: int, count: int) -> None:
    """Oracle: Python's range on millionths of a degree."""
    stop = min(start + length, 360 * MILLION)
    step = min(max((stop - start) // count, MILLION // 100), 360 * MILLION)
    text = ":".join(f"{part / MILLION:.6f}" for part in (start, stop, step))
    expected = tuple(Fraction(part, MILLION) for part in range(start, stop + 1, step))
    assert parse_angles(text) == expected


@given(st.lists(st.integers(-360_00, 360_00), min_size=1, max_size=40))
def test_lists_keep_their_order_and_drop_what_comes_again(hundredths: list[int]) -> None:
    """Oracle: the keys of a dictionary."""
    text = ",".join(f"{number / 100:.2f}" for number in hundredths)
    assert parse_angles(text) == tuple(Fraction(number, 100) for number in dict.fromkeys(hundredths))


# Poses -----------------------------------------------------------------------------------------------


def test_poses_are_named_by_the_angle_that_was_asked_for() -> None:
    """360 degrees and negative angles keep their names, though their elements have others."""
    angles = parse_angles("0,90,22.5,360,-90,-360,51.428571")
    assert names(angles) == ["e", "r90", "r22.5", "r360", "r-90", "r-360", "r51.428571"]
    poses = angle_poses(angles, mirror=False)
    assert [pose.degrees for pose in poses] == [0, 90, 22.5, 360, -90, -360, 51.428571]
    assert [str(pose.element) for pose in poses] == ["e", "r90", "r22.5", "e", "r270", "e", "r51.4286"]


def test_mirrored_poses_follow_the_turns() -> None:
    """The mirror comes first in the name and first in the action."""
    angles = parse_angles("0,45,360,-90")
    found = ["e", "r45", "r360", "r-90", "m", "m-r45", "m-r360", "m-r-90"]
    assert names(angles, mirror=True) == found
    poses = angle_poses(angles, mirror=True)
    (r45,) = turns(45)
    assert [pose.element for pose in poses[4:6]] == [MIRROR, r45 @ MIRROR]
    assert [pose.degrees for pose in poses[4:]] == [0, 45, 360, -90]


def test_a_pose_is_exact_where_its_element_is() -> None:
    """Multiples of 90 degrees of either sign, mirrored or not."""
    poses = angle_poses(parse_angles("-360:360:45"), mirror=True)
    assert [pose.exact for pose in poses] == [pose.degrees % 90 == 0 for pose in poses]


@given(st.lists(st.integers(-3_600, 3_600), min_size=1, max_size=100, unique=True), st.booleans())
def test_every_pose_has_a_name_of_its_own(tenths: list[int], mirror: bool) -> None:
    """And its element turns by its angle, up to full circles."""
    poses = angle_poses([Fraction(tenth, 10) for tenth in tenths], mirror=mirror)
    assert len({pose.name for pose in poses}) == len(poses) == len(tenths) * (1 + mirror)
    for pose, tenth in zip(poses, tenths * 2, strict=False):
        assert pose.element.turn == Fraction(tenth, 3_600) % 1
    assert sum(pose.element.mirrored for pose in poses) == len(tenths) * mirror


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("C1", ["e"]),
        ("C4", ["r90", "r180", "r270"]),
        ("D1", ["m"]),
        ("D2", ["r180", "m", "m-r180"]),
        ("C8", ["r45", "r90", "r135", "r180", "r225", "r270", "r315"]),
        ("C7", ["r51.4286", "r102.857", "r154.286", "r205.714", "r257.143", "r308.571"]),
    ],
)
def test_poses_of_a_group_are_its_elements_but_the_identity(name: str, expected: list[str]) -> None:
    """C1 alone compares an image with itself."""
    poses = group_poses(Group.named(name))
    assert [pose.name for pose in poses] == expected
    assert [pose.degrees for pose in poses] == [pose.element.degrees for pose in poses]


def test_a_plan_with_angles_sweeps_and_one_without_audits_its_group() -> None:
    """The poses of a plan are those of its angles, where it has any."""
    model = FileModel("m.pt")
    swept = AuditPlan(model, group="D4", angles=parse_angles("0,30"), mirror=True)
    assert [pose.name for pose in swept.poses] == ["e", "r30", "m", "m-r30"]
    assert AuditPlan(model, group="D4", mirror=True).poses == group_poses(Group.named("D4"))


# Groups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "order"), [("C1", 1), ("C8", 8), ("D12", 24), ("C360", 360), ("D360", 720)])
def test_groups_have_names_and_as_many_elements(name: str, order: int) -> None:
    """Turns come first, by angle, and the mirrored ones follow in the same order."""
    group = Group.named(name)
    assert (group.name, len(set(group.elements))) == (name, order)
    assert list(group.elements) == sorted(
        group.elements, key=lambda element: (element.mirrored, element.turn)
    )
    assert group.elements[0] == IDENTITY


@pytest.mark.parametrize(
    "name",
    [
        "C0",
        "C361",
        "D1000",
        "C04",
        "E4",
        "c4",
        "C",
        "D",
        "4",
        "",
        "C-4",
        "C4.0",
        " C4",
        "C4 ",
        "C4\n",
        "SO2",
        "CC4",
    ],
)
def test_other_names_are_refused_with_those_that_exist(name: str) -> None:
    """The hint says how far the orders go."""
    with pytest.raises(UsageError, match="no group") as caught:
        Group.named(name)
    assert repr(name) in caught.value.message
    assert "C360 (rotations)" in caught.value.hint


C7 = Group.named("C7").elements


@given(one=st.sampled_from(C7), other=st.sampled_from(C7))
def test_c7_is_closed_though_no_float_holds_its_angles(one: Element, other: Element) -> None:
    """Elements compare as integers: products, inverses and the seventh power are exact."""
    assert one @ other in C7
    assert ~one in C7
    assert one @ other == other @ one == C7[(C7.index(one) + C7.index(other)) % 7]
    assert one @ one @ one @ one @ one @ one @ one == IDENTITY


@given(k=st.integers(-1_000, 1_000), n=st.integers(1, 360), times=st.integers(1, 9), mirrored=st.booleans())
def test_an_element_is_the_same_in_every_group_that_has_it(
    k: int, n: int, times: int, mirrored: bool
) -> None:
    """It has one hash and one name, and full circles count for nothing."""
    one, other = Element(mirrored, k, n), Element(mirrored, (k + n) * times, n * times)
    assert one == other
    assert hash(one) == hash(other)
    assert str(one) == str(other)
    assert 0 <= one.degrees < 360


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([], "C1"),
        ([IDENTITY], "C1"),
        (turns(180), "C2"),
        (turns(0, 90), "C4"),
        (turns(120, 180), "C6"),
        (turns("22.5"), "C16"),
        (turns(5, 360), "C72"),
        (turns(1), "C360"),
        ([MIRROR], "D1"),
        ([*turns(45), MIRROR], "D8"),
        ([MIRROR @ element for element in turns(60)], "D6"),
    ],
)
def test_the_spanned_group_is_the_smallest_that_contains_the_elements(
    elements: list[Element], expected: str
) -> None:
    """Orders have their least common multiple, and one mirrored element makes it dihedral."""
    group = spanned_group(elements)
    assert group.name == expected
    assert set(elements) <= set(group.elements)


@pytest.mark.parametrize("mirrored", [False, True])
def test_beyond_c360_only_quarter_turns_are_spanned(mirrored: bool) -> None:
    """Half a degree, or 1/7 with 1/8 and 1/9 of a circle, is in no group that has a name."""
    odd = [Element(mirrored, 1, n) for n in (7, 8, 9)]
    expected = "D4" if mirrored else "C4"
    assert spanned_group([Element(mirrored, 1, 720)]).name == expected
    assert spanned_group(odd).name == expected
    assert spanned_group([Element(mirrored, 1, 360)]).name == ("D360" if mirrored else "C360")


@pytest.mark.parametrize(
    ("holding", "expected"),
    [
        ((), ["C1"]),
        ((45, 90, 135, 180, 225, 270, 315), ["C8"]),
        ((90, 180, 270), ["C4"]),
        ((180,), ["C2"]),
        ((45, 135, 225, 315), ["C1"]),
        ((45, 90, 180, 270), ["C4"]),
        ((90, 270), ["C1"]),
        ((45, 90, 135, 180, 225, 270), ["C4"]),
        ((180, 225), ["C2"]),
    ],
)
def test_what_holds_on_c8_is_its_largest_subgroup_that_holds(
    holding: tuple[int, ...], expected: list[str]
) -> None:
    """Single elements that hold without their group claim nothing."""
    found = maximal_holding(Group.named("C8"), frozenset(turns(*holding)))
    assert [group.name for group in found] == expected


def test_every_maximal_group_is_named_where_there_are_several() -> None:
    """On D8 two mirrors without the turn between them make two groups; C6 has C2 and C3 side by side."""
    r45, r90 = turns(45, 90)
    found = maximal_holding(Group.named("D8"), frozenset({MIRROR, r45 @ MIRROR}))
    assert {frozenset(group.elements) for group in found} == {
        frozenset({IDENTITY, MIRROR}),
        frozenset({IDENTITY, r45 @ MIRROR}),
    }
    assert found[0].name == "D1"
    both = maximal_holding(Group.named("C6"), frozenset(turns(120, 180, 240)))
    assert [group.name for group in both] == ["C3", "C2"]
    assert maximal_holding(Group.named("C8"), frozenset({r90, MIRROR}))[0].name == "C1"


def test_an_angle_beside_a_quarter_turn_does_not_take_its_name() -> None:
    """89.99999 degrees resamples, and its name says so."""
    (pose,) = angle_poses(parse_angles("89.99999"), mirror=False)
    assert pose.name == "r89.99999"
    assert not pose.exact
