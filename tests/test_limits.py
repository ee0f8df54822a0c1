"""The language of limits, and what is judged by numbers and their intervals."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import make_error, make_layer, make_report, make_sweep

from eqaudit.errors import ExpressionError, UsageError
from eqaudit.gate import Limits, judge
from eqaudit.judging import By
from eqaudit.limits import KINDS, Limit, Places, matches, parse_limit_expression
from eqaudit.report import GateCheck, PerImage, Report

NUMBERS = st.floats(0, 1, allow_nan=False).map(abs)
NAMES = st.sampled_from(["e", "m", "r90", "m-r90", "r22.5", "r51.4286"])
RANGES = st.tuples(st.integers(-360, 0), st.integers(0, 360))
PLACES = st.lists(st.one_of(NAMES, RANGES), min_size=1, max_size=4)


def _read(text: str) -> Limit | ExpressionError:
    try:
        return parse_limit_expression(text)
    except ExpressionError as error:
        return error


def _judged(report: Report, text: str, by: By = "bound") -> GateCheck:
    gate = judge(report, Limits((parse_limit_expression(text),), by)).gate
    assert gate is not None
    return gate.checks[-1]


def _with_interval(error: float, low: float, high: float, images: int = 64) -> Report:
    made = msgspec.structs.replace(make_error("r90", "approximate", error), ci95=(low, high))
    report = make_report(outputs=[make_layer("output", errors=[made], gating=True)])
    return msgspec.structs.replace(report, inputs=msgspec.structs.replace(report.inputs, samples=images))


@given(
    st.sampled_from(["output", 'layers["a.*"]', "layers['a.*']"]),
    st.sampled_from(KINDS),
    st.sampled_from(["<", "<="]),
    NUMBERS,
    st.booleans(),
    st.none() | PLACES,
    st.sampled_from(["", " ", "  "]),
)
def test_a_limit_that_is_written_is_read_as_it_was_meant(
    quantity: str,
    kind: str,
    comparison: str,
    bound: float,
    floor: bool,
    places: list[str | tuple[int, int]] | None,
    space: str,
) -> None:
    """Whatever the spaces, and to the last digit of the number."""
    floor = floor and kind == "error"
    words = [f"{quantity}.{kind}", comparison, repr(bound), *(["*", "floor"] if floor else [])]
    if places is not None:
        written = [place if isinstance(place, str) else f"{place[0]}..{place[1]}" for place in places]
        words += ["@", f"{space},".join(written)]
    limit = parse_limit_expression(space.join(words))
    expected = None
    if places is not None:
        expected = Places(
            tuple(place for place in places if isinstance(place, str)),
            tuple((float(place[0]), float(place[1])) for place in places if not isinstance(place, str)),
        )
    assert limit == Limit(
        space.join(words),
        "--limit",
        quantity.partition("[")[0],
        kind,
        "a.*" if "[" in quantity else "",
        comparison,
        bound,
        floor,
        places=expected,
    )


@given(st.text(max_size=60) | st.text("output.erlays[]\"'*<>=@0123456789, -", max_size=60))
def test_any_text_is_a_limit_or_an_error_with_a_column(text: str) -> None:
    """Nothing else leaves the parser, and the column is inside of the text or at its end."""
    read = _read(text)
    assert read.text == text
    if isinstance(read, ExpressionError):
        assert 1 <= read.column <= len(text) + 1
        assert f"column {read.column}" in read.message
        assert read.hint


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("output.eror < 1", 8, "did you mean error?"),
        ("outptu.error < 1", 1, "did you mean output?"),
        ("output < 1", 8, "expected '.'"),
        ("output.error > 1", 14, "limited by < or <="),
        ("dice.p5 < 0.9", 9, "limited by > or >="),
        ("dice.p6 > 0.9", 6, "did you mean p5?"),
        ("verdict > C4", 9, "limited by >="),
        ("verdict >= X4", 12, "expected a group"),
        ("verdict >= C1", 12, "no limit"),
        ("verdict >= C4 @ r90", 15, "no '@' here"),
        ("consistency > 1.5", 15, "share from 0 to 1"),
        ("accuracy.worst > 0.5", 10, "did you mean worst_angle?"),
        ("output.normalised < 2 * floor", 23, "no '*' here"),
        ("output.error < 2 * flor", 20, "did you mean floor?"),
        ("output.error < 2 floor", 18, "expected the end"),
        ("layers.error < 1", 7, "expected '['"),
        ('layers[""].error < 1', 8, "pattern"),
        ('layers["a.error < 1', 8, "nothing can begin"),
        ("output.error < 1 @ r90,", 24, "the end"),
        ("output.error < 1 @ 60..30", 24, "from 60 on"),
        ("output.error < 1 @ 1e400..1", 27, "from inf on"),
        ("", 1, "the end"),
        ("x" * 2_000, 1, "at most 1,000"),
    ],
)
def test_an_error_says_where_and_what_was_expected(text: str, column: int, says: str) -> None:
    """With the nearest good word where there is one."""
    with pytest.raises(ExpressionError) as caught:
        parse_limit_expression(text, "eqaudit.toml:3")
    assert caught.value.column == column
    assert caught.value.message.startswith(f"eqaudit.toml:3: column {column}: ")
    assert says in caught.value.message


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "1e400", "-0.0", "+inf", "1_0", "0x1"])
def test_c04_a_number_that_cannot_limit_is_refused(number: str) -> None:
    """With nan every comparison is false, and a gate would pass or fail without a word."""
    with pytest.raises(ExpressionError):
        parse_limit_expression(f"output.error < {number}")


def test_c10_a_pattern_is_a_glob_and_never_slow() -> None:
    """No text is a regular expression, and many stars against a long name end at once."""
    start = time.monotonic()
    assert not matches("a" * 10_000, "(a+)+$")
    assert not matches("a" * 10_000, "*a" * 400 + "b")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("low", "high", "passed", "undecided"),
    [(0.02, 0.04, True, False), (0.04, 0.06, False, True), (0.06, 0.07, False, False)],
)
def test_a_limit_holds_only_when_its_whole_interval_does(
    low: float, high: float, passed: bool, undecided: bool
) -> None:
    """Between certain and impossible it is undecided, which is no pass; the number alone may be asked."""
    report = _with_interval((low + high) / 2 - 1e-4, low, high)
    check = _judged(report, "output.error < 0.05")
    assert (check.passed, check.undecided) == (passed, undecided)
    assert _judged(report, "output.error < 0.05", "point").passed == (low < 0.05)


def test_undecided_says_how_many_images_would_do() -> None:
    """An interval that must be half as wide needs four times the images."""
    check = _judged(_with_interval(0.04, 0.02, 0.06), "output.error < 0.05")
    assert "undecided with 64 images, about 260 would tell" in check.reason
    assert "no number of images" in _judged(_with_interval(0.05, 0.02, 0.06), "output.error < 0.05").reason


def test_one_image_decides_nothing() -> None:
    """It has no interval."""
    report = _with_interval(0.01, 0.0, 0.0, images=1)
    output = report.gating_output
    errors = [msgspec.structs.replace(output.errors[0], ci95=None)]
    report = msgspec.structs.replace(report, outputs=[msgspec.structs.replace(output, errors=errors)])
    check = _judged(report, "output.error < 0.05")
    assert check.undecided
    assert "undecided with 1 image, an interval needs at least 2" in check.reason


def test_a_share_is_certain_only_with_enough_images() -> None:
    """64 of 64 images are no proof of 99 %: 381 would be (Wilson 1927)."""
    report = make_report(consistency=1.0)
    assert report.predictions is not None
    rows = [msgspec.structs.replace(row, ci95=(0.943, 1.0)) for row in report.predictions.by_element]
    report = msgspec.structs.replace(
        report, predictions=msgspec.structs.replace(report.predictions, by_element=rows)
    )
    check = _judged(report, "consistency > 0.99")
    assert check.undecided
    assert "about 390 would tell" in check.reason
    assert _judged(report, "consistency > 0.94").passed


@pytest.mark.parametrize(
    ("images", "below", "passed", "undecided"),
    [(64, 0, False, True), (80, 0, True, False), (200, 3, True, False), (200, 30, False, False)],
)
def test_a_quantile_is_judged_by_the_images_below_it(
    images: int, below: int, passed: bool, undecided: bool
) -> None:
    """That 95 % of all images are above the limit takes 73 images, all of them above."""
    report = make_sweep("segmentation", (0, 30, 360))
    assert report.segmentation is not None
    values = [0.5] * below + [0.9] * (images - below)
    row = report.segmentation.by_element[1]
    dice = msgspec.structs.replace(row.dice, p5=values[images // 20])
    report = msgspec.structs.replace(
        report,
        segmentation=msgspec.structs.replace(
            report.segmentation, by_element=[msgspec.structs.replace(row, dice=dice)]
        ),
        per_image=PerImage([str(place) for place in range(images)], {}, {}, {"r30": [*values]}),
    )
    check = _judged(report, "dice.p5 > 0.8 @ 20..40")
    assert (check.passed, check.undecided) == (passed, undecided)


def test_a_floor_is_a_limit_of_its_own_at_every_element() -> None:
    """Exact elements have none and must be exact; without a floor nothing is decided."""
    sweep = make_sweep(angles=(0, 15, 45, 90, 360))
    assert not _judged(sweep, "output.error < 2 * floor").passed
    assert _judged(sweep, "output.error < 2.3 * floor @ r15,r90").passed
    assert _judged(sweep, "output.error < 5 * floor").passed
    check = _judged(make_sweep(angles=(0, 45, 360), floor=False), "output.error < 5 * floor")
    assert check.undecided
    assert "there is no floor" in check.reason


def test_places_choose_elements_and_the_rest_is_not_judged() -> None:
    """By name or by degrees, ends included, whatever full turns are added."""
    sweep = make_sweep(angles=(0, 15, 45, 90, 360))
    assert not _judged(sweep, "output.error < 0.1").passed
    assert _judged(sweep, "output.error < 0.1 @ 0..30,90..90").passed
    assert not _judged(sweep, "output.error < 0.1 @ -320..-310").passed
    for places in ("r33", "31..44"):
        with pytest.raises(UsageError, match="measured"):
            _judged(sweep, f"output.error < 0.1 @ {places}")


def test_the_verdict_is_limited_from_below() -> None:
    """D4 is at least C4; a group that was not tested is no demand but a mistake."""
    report = make_report(group="D4")
    assert _judged(report, "verdict >= C4").passed
    assert _judged(report, "verdict >= D4").passed
    assert not _judged(make_report(group="C4", class_="approximate"), "verdict >= C4").passed
    with pytest.raises(UsageError, match="r45 is not measured"):
        _judged(make_report(group="C4"), "verdict >= C8")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dice.mean > 0.9", "gives no masks"),
        ("accuracy > 0.9", "no true labels"),
        ('layers["b"].error < 1', "does not depend on the image"),
        ('layers["c"].error < 1', "nothing was measured"),
    ],
)
def test_what_was_not_measured_passes_no_limit(text: str, says: str) -> None:
    """And says why."""
    layers = [
        make_layer("a", errors=[make_error("r90")]),
        make_layer("b", errors=[make_error("r90", "degenerate", error=0.0)]),
        make_layer("c", skipped="returns None"),
    ]
    check = _judged(make_report(layers=layers), text)
    assert not check.passed
    assert says in check.reason


def test_a_pattern_that_matches_no_layer_is_a_mistake() -> None:
    """Nothing would be judged, and the gate would pass."""
    with pytest.raises(UsageError, match="matches no layer"):
        _judged(make_report(layers=[make_layer("a")]), 'layers["b*"].error < 1')


def test_limits_of_layers_come_beside_the_demand_that_the_group_holds() -> None:
    """Those of the output take its place."""

    def names(text: str) -> set[str]:
        report = make_report(layers=[make_layer("a", errors=[make_error("r90")])])
        gate = judge(report, Limits((parse_limit_expression(text),))).gate
        assert gate is not None
        return {check.name for check in gate.checks}

    assert "group holds" in names('layers["*"].error < 1')
    assert "group holds" in names("consistency > 0.1")
    assert "group holds" not in names("output.error < 1")
    assert "group holds" not in names("verdict >= C4")


def test_where_nothing_moves_the_control_rows_are_judged() -> None:
    """A limit must have something to judge; elsewhere what cannot fail is left out."""
    assert _judged(make_sweep(angles=(0, 360)), "output.error < 1").passed
    assert "r30" in _judged(make_sweep(angles=(0, 30, 360)), "output.error < 1").reason
