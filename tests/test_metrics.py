import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eqaudit.metrics import (
    ChanceSums,
    ErrorSums,
    Measured,
    Pairs,
    Rerun,
    classify,
    collect,
    compare,
    doubtful,
    image_errors,
)
from eqaudit.statistics import poisson_weights


def _pair(images: int, seed: int = 0, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn((images, 3, 5, 5), generator=generator)
    return reference + noise * torch.randn(reference.shape, generator=generator), reference


def _sums(moved: torch.Tensor, reference: torch.Tensor, first: int = 0) -> ErrorSums:
    places = range(first, first + len(moved))
    pairs = Pairs()
    pairs.add(moved, reference, careful=True)
    norms = collect([pairs])[0]
    return ErrorSums.of_batch(norms, poisson_weights(0, places), places)


def _error(moved: torch.Tensor, reference: torch.Tensor) -> float:
    a, b = moved.double().numpy(), reference.double().numpy()
    return float(np.sqrt(((a - b) ** 2).sum() / (0.5 * ((a**2).sum() + (b**2).sum()))))


@pytest.mark.parametrize("noise", [1e-7, 1e-3, 0.1, 10.0])
def test_error_matches_the_definition_in_numpy_float64(noise: float) -> None:
    """The oracle computes the formula of the design in one line."""
    moved, reference = _pair(8, noise=noise)
    assert _sums(moved, reference).errors[0] == pytest.approx(_error(moved, reference), rel=1e-6)


def test_error_is_zero_for_equal_and_two_for_opposite_tensors() -> None:
    """0 is perfect, 2 the worst."""
    _, reference = _pair(4)
    assert _sums(reference, reference).errors[0] == 0
    assert _sums(-reference, reference).errors[0] == pytest.approx(2)


def test_error_is_symmetric() -> None:
    """Neither of the two tensors is the better one."""
    moved, reference = _pair(4)
    assert _sums(moved, reference).errors[0] == pytest.approx(_sums(reference, moved).errors[0], rel=1e-12)


def test_half_precision_is_subtracted_in_float32() -> None:
    """Differences of halves do not round to halves, and large ones do not overflow."""
    reference = torch.full((2, 10), 60_000.0, dtype=torch.float16)
    norms = compare(-reference, reference)
    assert norms.nonfinite.tolist() == [0, 0]
    assert norms.difference == pytest.approx([10 * 120_000.0**2, 10 * 120_000.0**2], rel=1e-3)


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9))
def test_sums_of_shards_are_the_sums_of_one_run(one: int, other: int) -> None:
    """Everything that is counted is equal; sums differ by rounding alone."""
    moved, reference = _pair(one + other)
    whole = _sums(moved, reference)
    merged = _sums(moved[:one], reference[:one])
    merged.add(_sums(moved[one:], reference[one:], one))
    assert merged.images == whole.images
    assert np.array_equal(merged.histogram.counts, whole.histogram.counts)
    assert merged.worst_image == whole.worst_image
    assert merged.errors == pytest.approx(whole.errors, rel=1e-12)
    assert merged.replicate_difference == pytest.approx(whole.replicate_difference, rel=1e-5)


def test_values_that_are_not_finite_are_counted_and_enter_nothing_else() -> None:
    """NaN and infinity stay out of sums, maxima and histograms, and the first image is remembered."""
    moved, reference = _pair(6)
    expected = _error(moved[[0, 1, 3, 5]], reference[[0, 1, 3, 5]])
    moved[2, 0, 0, 0], moved[4, 1] = float("nan"), float("inf")
    sums = _sums(moved, reference, first=10)
    assert sums.nonfinite[0] == 1 + 25
    assert sums.first_nonfinite[0] == 12
    assert sums.images[0] == 4
    assert sums.errors[0] == pytest.approx(expected, rel=1e-6)
    assert sums.worst_image[0] in {10, 11, 13, 15}
    assert np.isnan(image_errors(compare(moved, reference))).tolist() == [
        False, False, True, False, True, False,
    ]  # fmt: skip


def test_an_output_that_is_all_nan_has_no_error() -> None:
    """A running maximum that NaN never replaces would let it pass."""
    sums = _sums(torch.full((3, 4), float("nan")), torch.ones(3, 4))
    assert np.isnan(sums.errors[0])
    assert classify(Measured(None, 0.5, int(sums.nonfinite[0])), None) == "unresolved"


def _brute_chance(features: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    pairs = [(i, j) for i in range(len(features)) for j in range(len(features)) if i != j]
    above = sum(((features[i] - features[j]) ** 2).sum() for i, j in pairs)
    below = sum(0.5 * ((features[i] ** 2).sum() + (features[j] ** 2).sum()) for i, j in pairs)
    return float(np.sqrt(above / below))


@pytest.mark.parametrize("offset", [0.0, 5.0, 1e6])
def test_chance_is_the_error_between_all_pairs_of_images(offset: float) -> None:
    """Oracle: the double loop. A large common part does not cancel it away."""
    features = (
        torch.randn((7, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + offset
    )
    assert ChanceSums.of_batch(features).chance == pytest.approx(_brute_chance(features.numpy()), rel=1e-6)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 1e4))
def test_chance_of_shards_is_that_of_one_run(one: int, other: int, offset: float) -> None:
    """Moments merge."""
    features = torch.randn((one + other, 4), generator=torch.Generator().manual_seed(1)) + offset
    merged = ChanceSums.of_batch(features[:one]).merge(ChanceSums.of_batch(features[one:]))
    assert merged.chance == pytest.approx(ChanceSums.of_batch(features).chance, rel=1e-6)


def test_chance_leaves_out_images_that_are_not_finite() -> None:
    """One NaN does not make the yardstick NaN."""
    features = torch.randn((5, 4), generator=torch.Generator().manual_seed(1))
    expected = ChanceSums.of_batch(features[1:]).chance
    features[0, 0] = float("nan")
    assert ChanceSums.of_batch(features).chance == pytest.approx(expected)
    assert ChanceSums.of_batch(features[:1]).chance is None


def test_chance_of_one_image_is_unknown_and_of_a_dead_layer_zero() -> None:
    """Nothing to compare with, and nothing to compare."""
    assert ChanceSums.of_batch(torch.ones(1, 3)).chance is None
    assert ChanceSums.of_batch(torch.zeros(4, 3)).chance == 0
    assert ChanceSums.of_batch(torch.full((5, 3), 0.1)).chance == pytest.approx(0, abs=1e-13)


def _rerun(error: float, chance: float, weight_rounding: float = 1e-7) -> Rerun:
    return Rerun(Measured(error, chance), weight_rounding)


@pytest.mark.parametrize(
    ("measured", "rerun", "expected"),
    [
        (Measured(5e-8, 0.5), None, "exact"),
        (Measured(5e-8, 1e-3), None, "approximate"),
        (Measured(5e-8, 1e-3), _rerun(1e-16, 1e-3), "exact"),
        (Measured(1.1, 1.0), _rerun(1e-11, 1.0, 1e-9), "exact"),
        (Measured(1e-4, 0.5), _rerun(1e-4, 0.5, 5e-6), "approximate"),
        (Measured(1e-4, 0.5), _rerun(1e-5, 0.5, 2e-6), "exact"),
        (Measured(5e-11, 5e-11), _rerun(5e-11, 5e-11), "broken"),
        (Measured(1.04e-8, 2e-8), _rerun(1.04e-8, 2e-8), "broken"),
        (Measured(0.3, 0.5), _rerun(0.3, 0.5), "broken"),
        (Measured(0.003, 0.03), _rerun(0.003, 0.03), "approximate"),
        (Measured(0.0, 0.0), None, "degenerate"),
        (Measured(1e-8, 1e-7), _rerun(1e-16, 1e-16), "degenerate"),
        (Measured(0.0, None), None, "unresolved"),
        (Measured(1e-8, 0.5, nonfinite=1), None, "unresolved"),
        (Measured(1e-16, 0.5), _rerun(1e-16, 0.5, 0.0), "exact"),
    ],
)
def test_classes_are_those_of_the_definition(measured: Measured, rerun: Rerun | None, expected: str) -> None:
    """Each row is a trap that was seen, or the plain case beside it."""
    assert classify(measured, rerun) == expected


def test_only_a_clear_float32_result_leaves_no_doubt() -> None:
    """Whatever is not exact by float32 alone asks for the rerun, however large the error."""
    assert not doubtful(Measured(5e-8, 0.5))
    assert all(doubtful(Measured(error, 0.5)) for error in (2e-6, 0.1, 1.9))
    assert doubtful(Measured(5e-8, 1e-3))
