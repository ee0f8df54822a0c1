"""Each fixture model is asserted for what its name says."""

import importlib
import json
import sys
from functools import cache
from pathlib import Path

import pytest

import eqaudit
from eqaudit.report import ElementError, Layer, Report, from_json, to_json
from eqaudit.reporters.base import first_breaking_layer, worst_error

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
NAMES = sorted(path.stem for path in MODELS.glob("*.pt"))

sys.path.append(str(Path(__file__).parent / "calibration"))

from verdicts import Variant, measure, variants  # noqa: E402 - a script beside the tests


@cache
def audited(name: str, group: str, size: int = 32) -> Report:
    """Return the audit of a fixture on 16 built-in photographs, shared by the tests."""
    shape = (1, 28, 28) if name == "lenet5" else (3, size, size)
    return eqaudit.audit(MODELS / f"{name}.pt", group=group, input_shape=shape, samples=16)


def _passed(name: str, group: str, size: int = 32) -> bool:
    gate = audited(name, group, size).gate
    assert gate is not None
    return gate.passed


def _layer(report: Report, name: str) -> Layer:
    return next(layer for layer in report.layers if layer.name == name)


def _worst(report: Report) -> ElementError:
    error = worst_error(report.gating_output)
    assert error is not None
    return error


def test_every_fixture_has_a_saved_file_beside_its_factory() -> None:
    """`NAME.py` with a factory `NAME`, and `NAME.pt`."""
    sources = {path.stem for path in MODELS.glob("[!_]*.py")}
    assert sources == set(NAMES)
    sys.path.append(str(MODELS))
    assert all(callable(getattr(importlib.import_module(name), name)) for name in NAMES)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("exact_c4", "C4"),
        ("orbit_cnn", "D4"),
        ("two_outputs", "C4"),
        ("large_offset", "C4"),
        ("deep_exact", "C4"),
    ],
)
def test_exact_fixtures_pass_as_exact(name: str, group: str) -> None:
    """Every element of the group is exact at the output, and the verdict names the group."""
    report = audited(name, group)
    assert _passed(name, group)
    assert {error.class_ for error in report.gating_output.errors} == {"exact"}
    assert report.verdict is not None
    assert report.verdict.holds == group


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("lenet5", "D4"),
        ("standard_cnn", "D4"),
        ("orbit_cnn_published", "D4"),
        ("strided_even", "C4"),
        ("functional_relu", "D4"),
        ("broken_at_layer2", "D4"),
        ("nan_output", "D4"),
        ("nan_sometimes", "D4"),
        ("constant_output", "D4"),
        ("saturated_softmax", "D4"),
        ("corner_pixel", "C4"),
        ("untrained_pooled_cnn", "D4"),
        ("dropout_left_on", "C4"),
        ("batch_statistics", "C4"),
    ],
)
def test_broken_fixtures_do_not_pass(name: str, group: str) -> None:
    """None of them holds under the group that it is asked for."""
    assert not _passed(name, group)


def test_lenet5_has_the_published_size() -> None:
    """767,426 parameters."""
    assert audited("lenet5", "D4").model.parameters == 767_426


def test_exact_c4_is_not_equivariant_to_mirrors() -> None:
    """C4 holds and D4 does not: the verdict says both."""
    verdict = audited("exact_c4", "D4").verdict
    assert verdict is not None
    assert verdict.holds == "C4"
    assert verdict.sentence.startswith("C4 exactly (")
    assert "not D4 (0.0" in verdict.sentence


def test_inner_layers_of_a_group_network_are_exact_under_the_action_of_their_channels() -> None:
    """The channels of a group convolution permute; read as plain maps they would be broken."""
    report = audited("exact_c4", "C4")
    for name in ("lift", "relu3"):
        layer = _layer(report, name)
        assert layer.representation is not None
        assert layer.representation.kind == "permutation"
        assert {error.class_ for error in layer.errors} == {"exact"}
        assert min(error.trivial_error or 0.0 for error in layer.errors) > 0.1
    assert {error.class_ for error in _layer(report, "pool").errors} == {"exact"}
    assert first_breaking_layer(report) is None


def test_orbit_cnn_published_is_exact_at_the_average_and_broken_after_the_flatten() -> None:
    """What the study built: flattened, the averaged map still turns by positions; linear layers do not."""
    report = audited("orbit_cnn_published", "D4")
    assert {error.class_ for error in _layer(report, "average").errors} == {"exact"}
    flat = _layer(report, "flatten")
    assert {error.class_ for error in flat.errors} == {"exact"}
    assert min(error.trivial_error or 0.0 for error in flat.errors) > 0.1
    later = [layer for layer in report.layers if layer.name.startswith("classifier")]
    assert all(error.class_ in {"broken", "approximate"} for layer in later for error in layer.errors)
    breaking = first_breaking_layer(report)
    assert breaking is not None
    assert breaking.name == "classifier.fc1"


def test_strided_even_breaks_by_one_pixel_of_input_size() -> None:
    """(N + 2p - k) mod s is 0 at 33 pixels and 1 at 32."""
    assert not _passed("strided_even", "C4", 32)
    assert _passed("strided_even", "C4", 33)


def test_two_outputs_judges_the_first_and_reports_both() -> None:
    """The logits are exact, the mask is not; `--output mask` judges the other."""
    report = audited("two_outputs", "C4")
    assert [(output.name, output.gating) for output in report.outputs] == [
        ("output.logits", True),
        ("output.mask", False),
    ]
    other = eqaudit.audit(
        MODELS / "two_outputs.pt", group="C4", output="mask", samples=16, input_shape=(3, 32, 32)
    )
    assert other.gating_output.name == "output.mask"
    assert other.gate is not None
    assert not other.gate.passed


def test_broken_at_layer2_is_exact_before() -> None:
    """conv1 holds as plain maps, conv2 is the first layer that breaks."""
    report = audited("broken_at_layer2", "D4")
    assert {error.class_ for error in _layer(report, "conv1").errors} == {"exact"}
    breaking = first_breaking_layer(report)
    assert breaking is not None
    assert breaking.name == "conv2"


@pytest.mark.parametrize("name", ["nan_output", "nan_sometimes"])
def test_nan_is_counted_named_and_absent_from_the_json(name: str) -> None:
    """The gate names the image; the report has null where a number would not be finite."""
    report = audited(name, "D4")
    assert report.gate is not None
    reasons = " ".join(check.reason for check in report.gate.checks if not check.passed)
    assert "not finite" in reasons
    bad = [error for error in report.gating_output.errors if error.nonfinite]
    assert bad
    assert all(error.worst_image in (report.per_image.ids if report.per_image else []) for error in bad)
    assert str(bad[0].worst_image) in reasons
    content = to_json(report)
    json.loads(content, parse_constant=pytest.fail)
    assert from_json(content) == report


def test_nan_sometimes_is_finite_for_most_images() -> None:
    """Few images are NaN, and the others are exact."""
    values = audited("nan_sometimes", "D4").per_image
    assert values is not None
    row = values.output["r90"]
    assert 1 <= row.count(None) <= 8
    assert all(error < 1e-5 for error in row if error is not None)


def test_constant_output_is_degenerate() -> None:
    """A constant passes every comparison, so it passes nothing."""
    assert {error.class_ for error in audited("constant_output", "D4").gating_output.errors} == {"degenerate"}


def test_saturated_softmax_is_broken_though_its_error_is_tiny() -> None:
    """Relative error 1e-10, normalised about 1."""
    worst = _worst(audited("saturated_softmax", "D4"))
    assert worst.class_ == "broken"
    assert worst.error is not None
    assert worst.error < 1e-9
    assert worst.normalised is not None
    assert worst.normalised > 0.5


def test_large_offset_is_exact_though_its_share_of_chance_is_rounding() -> None:
    """Float32 alone says 0.5 % of chance; float64 shows that it is rounding, and the figure is reported."""
    report = audited("large_offset", "C4")
    worst = _worst(report)
    assert worst.normalised is not None
    assert worst.normalised > 1e-5
    assert worst.float64_normalised is not None
    assert worst.float64_normalised < 1e-9
    assert report.float64_images == 4


def test_deep_exact_is_exact_though_rounding_grows_to_a_thousandth() -> None:
    """Sixty layers amplify rounding; the float64 error is below 1e-10."""
    worst = _worst(audited("deep_exact", "C4"))
    assert worst.error is not None
    assert worst.error > 1e-4
    assert worst.float64_error is not None
    assert worst.float64_error < 1e-10


def test_corner_pixel_is_not_exact_though_its_error_is_a_two_thousandth() -> None:
    """One pixel of one channel, 4e-4 to 6e-4."""
    worst = _worst(audited("corner_pixel", "C4"))
    assert worst.class_ == "approximate"
    assert worst.error == pytest.approx(5e-4, rel=0.3)


def test_untrained_pooled_cnn_deceives_by_its_relative_error() -> None:
    """Under 1 % relative, around 10 % to 20 % of chance."""
    worst = _worst(audited("untrained_pooled_cnn", "D4"))
    assert worst.error is not None
    assert worst.error < 0.01
    assert worst.normalised is not None
    assert worst.normalised > 0.05


@pytest.mark.parametrize(
    ("name", "cause"), [("dropout_left_on", "random"), ("batch_statistics", "depends on the batch")]
)
def test_models_that_are_not_deterministic_are_called_by_their_own_name(name: str, cause: str) -> None:
    """No group holds, and the verdict says which of the two it is."""
    report = audited(name, "C4")
    assert report.determinism.cause == cause
    assert report.verdict is not None
    assert report.verdict.holds == "C1"
    assert cause in report.verdict.sentence


@pytest.mark.parametrize("variant", list(variants(20, seed=100)), ids=lambda variant: variant.name)
def test_random_variants_get_the_right_verdict(variant: Variant) -> None:
    """Twenty of the two hundred networks of the calibration script."""
    gate = measure(variant).gate
    assert gate is not None
    assert gate.passed == variant.exact


@pytest.mark.parametrize(("name", "group"), [("escnn_c4", "C4"), ("escnn_d4", "D4")])
def test_networks_of_an_independent_library_are_exact(name: str, group: str) -> None:
    """Traced escnn networks on regular fields: their stored weights are symmetric only to rounding."""
    path = MODELS.parent / "independent" / f"{name}.pt"
    report = eqaudit.audit(path, group=group, samples=16, input_shape=(3, 33, 33))
    assert report.verdict is not None
    assert report.verdict.holds == group
    assert {error.class_ for error in report.gating_output.errors} == {"exact"}
    even = eqaudit.audit(path, group="D4", samples=16, input_shape=(3, 33, 33))
    assert even.verdict is not None
    assert even.verdict.holds == group
