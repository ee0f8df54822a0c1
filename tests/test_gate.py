import msgspec
import pytest
from reports import make_error, make_layer, make_report

from eqaudit.errors import ExitCode
from eqaudit.gate import Limits, exit_code, incomplete, judge
from eqaudit.limits import shorthand_limits
from eqaudit.report import Class, ElementError, Report, Skipped
from eqaudit.verdict import format_error, format_share


def _with_errors(*errors: ElementError) -> Report:
    return make_report(outputs=[make_layer("output", errors=list(errors), gating=True)])


def _judged(report: Report, **limits: float) -> Report:
    return judge(report, Limits(shorthand_limits(**limits)))


def _passed(report: Report) -> bool:
    assert report.gate is not None
    return report.gate.passed


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("exact", True),
        ("at the floor", True),
        ("approximate", False),
        ("broken", False),
        ("unresolved", False),
        ("degenerate", False),
    ],
)
def test_by_default_the_group_must_hold_at_every_element(name: Class, holds: bool) -> None:
    """One element that does not hold fails the gate."""
    report = _judged(_with_errors(make_error("r90"), make_error("r180", name), make_error("r270")))
    assert _passed(report) == holds


def test_max_error_replaces_the_demand_that_the_group_holds() -> None:
    """0.05 everywhere, 0.055 at the upper end of its interval; equality passes."""
    report = _with_errors(*(make_error(name, "approximate", error=0.05) for name in ("r90", "r180", "r270")))
    assert _passed(_judged(report, max_error=0.1))
    assert _passed(_judged(report, max_error=0.05 * 1.1))
    assert not _passed(_judged(report, max_error=0.05))
    assert not _passed(_judged(report, max_error=0.01))


def test_max_normalised_error_is_a_share_of_chance() -> None:
    """The relative error may be tiny and the share large."""
    report = _with_errors(make_error("r90", "approximate", error=1e-9, chance=1e-8))
    assert _passed(_judged(report, max_normalised_error=0.2))
    assert not _passed(_judged(report, max_normalised_error=0.05))
    assert not _passed(_judged(report, max_normalised_error=0.2, max_error=1e-10))


def test_a_value_that_is_missing_passes_no_limit() -> None:
    """With nan every comparison is false; with null there is nothing to compare."""
    report = _with_errors(make_error("r90", "unresolved", error=None))
    assert not _passed(_judged(report, max_error=2.0))
    assert not _passed(_judged(_with_errors(make_error("r90", chance=None)), max_normalised_error=9.0))
    assert not _passed(_judged(_with_errors(), max_error=2.0))


def test_a_degenerate_or_not_finite_output_fails_also_with_a_limit() -> None:
    """--max-error does not let a constant or a NaN through."""
    assert not _passed(_judged(_with_errors(make_error("r90", "degenerate", error=0.0)), max_error=0.1))
    assert not _passed(_judged(_with_errors(make_error("r90", nonfinite=1)), max_error=0.1))


def test_max_layer_error_looks_at_every_layer() -> None:
    """The worst layer and element are named."""
    layers = [
        make_layer("a", errors=[make_error("r90")]),
        make_layer("b", errors=[make_error("r90", "broken", error=0.7)]),
    ]
    report = _judged(make_report(layers=layers), max_layer_error=0.5)
    assert not _passed(report)
    assert report.gate is not None
    assert "b at r90" in report.gate.checks[-1].reason
    assert _passed(_judged(make_report(layers=layers), max_layer_error=0.8))


def test_min_consistency_needs_class_scores() -> None:
    """Without predictions the demand is not met; the lower end of the interval counts, which is 0.5 here."""
    assert _passed(_judged(make_report(consistency=0.9), min_consistency=0.5))
    assert not _passed(_judged(make_report(consistency=0.9), min_consistency=0.6))
    assert not _passed(_judged(make_report(consistency=None), min_consistency=0.0))


def test_a_model_that_is_not_deterministic_fails() -> None:
    """Whatever its errors are."""
    report = _judged(make_report(cause="random"), max_error=2.0)
    assert not _passed(report)
    assert report.verdict is not None
    assert report.verdict.holds == "C1"


@pytest.mark.parametrize(
    ("gate", "strict", "name", "skipped", "code"),
    [
        (True, False, "exact", False, ExitCode.PASSED),
        (True, False, "broken", False, ExitCode.GATE_FAILED),
        (False, False, "broken", False, ExitCode.PASSED),
        (True, True, "broken", True, ExitCode.INCOMPLETE),
        (False, True, "exact", True, ExitCode.INCOMPLETE),
        (True, False, "exact", True, ExitCode.PASSED),
        (True, True, "exact", False, ExitCode.PASSED),
    ],
)
def test_exit_codes_follow_the_table(
    gate: bool, strict: bool, name: Class, skipped: bool, code: ExitCode
) -> None:
    """--no-gate turns 1 into 0 and nothing else; --strict outranks the gate."""
    report = make_report(skipped=[Skipped("x.png", "truncated")] if skipped else [], class_=name)
    assert exit_code(judge(report, Limits(judged=gate)), strict=strict) == code


def test_incomplete_names_layers_and_images() -> None:
    """A skipped layer, a layer that is not finite and an unreadable image are each named."""
    layers = [
        make_layer("rnn", skipped="returns None"),
        make_layer("log", errors=[make_error("r90", nonfinite=3)]),
    ]
    report = make_report(layers=layers, skipped=[Skipped("x.png", "truncated")])
    text = " ".join(incomplete(report))
    assert all(part in text for part in ("rnn", "returns None", "log", "x.png", "truncated"))


@pytest.mark.parametrize(
    ("classes", "holds", "parts"),
    [
        ("EEE EEEE", "D4", ["D4 exactly"]),
        ("EEE BBBB", "C4", ["C4 exactly", "not D4", "on mirrors"]),
        ("BBB BBBB", "C1", ["Not equivariant", "none of the 7 turns and mirrors"]),
        ("BEB BBBB", "C2", ["C2 exactly", "not D4"]),
        ("BEB EBEB", "D2", ["D2 exactly"]),
        ("BBB EEBB", "D1 and {e, m-r90}", ["D1 and {e, m-r90} exactly"]),
        ("EBB BBBB", "C1", ["No group holds, though r90 does"]),
    ],
)
def test_the_verdict_names_the_largest_groups_that_hold(classes: str, holds: str, parts: list[str]) -> None:
    """Also several, also none, also sets of elements that are no group."""
    names = ["r90", "r180", "r270", "m", "m-r90", "m-r180", "m-r270"]
    letters: dict[str, Class] = {"E": "exact", "B": "broken"}
    errors = [
        make_error(name, letters[letter], error=1e-7 if letter == "E" else 0.4)
        for name, letter in zip(names, classes.replace(" ", ""), strict=True)
    ]
    report = _judged(msgspec.structs.replace(_with_errors(*errors), group=make_report(group="D4").group))
    assert report.verdict is not None
    assert report.verdict.holds == holds
    assert all(part in report.verdict.sentence for part in parts)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (1.14e-7, "1.1e-7"),
        (0.00801, "0.0080"),
        (0.0421, "0.0421"),
        (0.4, "0.400"),
        (1.2, "1.20"),
    ],
)
def test_errors_are_written_with_the_digits_that_matter(value: float | None, text: str) -> None:
    """One function writes every error."""
    assert format_error(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.991, "99 %"), (0.0153, "1.5 %"), (2e-4, "0.02 %"), (1e-7, "0 %")]
)
def test_shares_of_chance_are_written_in_percent(value: float | None, text: str) -> None:
    """Two digits, and 0 below a thousandth of a percent."""
    assert format_share(value) == text
