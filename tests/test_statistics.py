import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eqaudit.statistics import (
    LAYER_REPLICATES,
    Floats,
    Grown,
    Integers,
    LogHistograms,
    bootstrap_indices,
    lasting,
    percentile_interval,
    poisson_weights,
    ratio_interval,
    root_ratio,
    share_interval,
)


def test_poisson_weights_depend_only_on_seed_and_image() -> None:
    """Shards draw the weights that one run would have drawn."""
    whole = poisson_weights(3, range(10))
    shards = [poisson_weights(3, range(4)), poisson_weights(3, range(4, 10))]
    assert np.array_equal(np.concatenate(shards), whole)
    assert not np.array_equal(poisson_weights(4, range(10)), whole)


def test_poisson_weights_have_mean_and_variance_one() -> None:
    """The weights are those of a Poisson bootstrap."""
    weights = poisson_weights(0, range(500))
    assert weights.shape == (500, LAYER_REPLICATES)
    assert weights.mean() == pytest.approx(1, abs=0.02)
    assert weights.var() == pytest.approx(1, abs=0.03)


def test_percentile_interval_matches_numpy_and_passes_over_what_is_not_finite() -> None:
    """Replicates without a value do not spoil the others."""
    replicates = np.array([*np.linspace(0, 1, 101), np.nan, np.inf])
    assert percentile_interval(replicates) == pytest.approx((0.025, 0.975))
    assert percentile_interval(np.array([np.nan, 1.0])) is None


@pytest.mark.parametrize("images", [16, 64])
def test_ratio_interval_covers_the_true_ratio(images: int) -> None:
    """500 sets of images with skewed errors: the 95 % interval holds the truth in 90 to 98 % of them."""
    generator = np.random.default_rng(0)
    hits = 0
    for number in range(500):
        power = generator.uniform(0.5, 2.0, images)
        difference = power * generator.lognormal(0.0, 0.8, images)
        interval = ratio_interval(difference, power, number)
        assert interval is not None
        hits += interval[0] <= np.exp(0.8**2 / 4) <= interval[1]
    assert 0.90 <= hits / 500 <= 0.98


def test_ratio_interval_of_an_error_of_zero_is_zero() -> None:
    """An exact model has nothing to be unsure of."""
    assert ratio_interval(np.zeros(20), np.ones(20), 0) == (0.0, 0.0)


def test_ratio_interval_of_one_image_is_unknown_and_of_few_is_finite() -> None:
    """One image has no spread; two to seven get the percentile interval."""
    assert ratio_interval(np.ones(1), np.ones(1), 0) is None
    for images in (2, 3, 7, 8, 9):
        values = np.arange(1.0, images + 1)
        low, high = ratio_interval(values / 10, np.ones(images), 0) or (np.nan, np.nan)
        assert 0 < low <= high <= 2


def test_ratio_interval_survives_one_image_that_holds_all_the_error() -> None:
    """Resamples that miss the only bad image have no logarithm and are left out."""
    difference = np.zeros(64)
    difference[5] = 1.0
    low, high = ratio_interval(difference, np.ones(64), 0) or (np.nan, np.nan)
    assert 0 <= low <= np.sqrt(1 / 64) <= high <= 2


@given(st.integers(1, 400), st.data())
def test_share_interval_is_that_of_wilson(images: int, data: st.DataObject) -> None:
    """Oracle: scipy's binomial test."""
    hits = data.draw(st.integers(0, images))
    expected = stats.binomtest(hits, images).proportion_ci(method="wilson")
    assert share_interval(hits, images) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_share_interval_without_images_is_unknown() -> None:
    """No image, no share."""
    assert share_interval(0, 0) is None


def _histogram(values: Floats) -> LogHistograms:
    return LogHistograms.of(values[None], np.ones((1, len(values)), dtype=bool))


@given(st.lists(st.floats(1e-15, 2.0), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_histogram_quantile_is_within_half_a_bin_of_an_order_statistic(
    values: list[float], share: float
) -> None:
    """The fixed histogram gives quantiles to 4.8 %."""
    found = _histogram(np.array(values)).quantile(0, share)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert found == pytest.approx(expected, rel=0.048)


@given(
    st.lists(st.floats(0, 1e3) | st.floats(1e-12, 1e-9), max_size=20),
    st.lists(st.floats(0, 1e3) | st.sampled_from([0.0, 1e-30]), max_size=20),
)
def test_histograms_of_shards_add_up_to_that_of_one_run(one: list[float], other: list[float]) -> None:
    """Wherever their values lie, and where there are none."""
    merged, whole = _histogram(np.array(one)), _histogram(np.array(one + other))
    merged.add(_histogram(np.array(other)))
    assert np.array_equal(merged.counts, whole.counts)
    assert not whole.decades or merged.decade == whole.decade
    assert whole.counts.sum() == len(one + other)


def test_histograms_keep_only_decades_with_values() -> None:
    """What is not counted leaves no trace, zeros take no decade, and what is too large is in the last one."""
    values, counted = np.array([[0.0, 0.03, 1e9], [2e-7, 0.03, 5.0]]), np.ones((2, 3), dtype=bool)
    assert LogHistograms.of(values, counted).decades == 8
    counted[:, 2], counted[1, 0] = False, False
    found = LogHistograms.of(values, counted)
    assert (found.decade, found.decades, found.counts.sum(axis=1).tolist()) == (-2, 1, [2, 1])
    assert found.quantile(0, 0.5) == 0
    assert found.quantile(1, 0.5) == pytest.approx(0.03, rel=0.048)


def test_the_median_of_zeros_is_zero_and_of_nothing_unknown() -> None:
    """Zero is no bin."""
    assert _histogram(np.zeros(5)).quantile(0, 0.5) == 0
    assert _histogram(np.zeros(0)).quantile(0, 0.5) is None


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=4))
def test_arrays_that_last_are_the_joined_parts(sizes: list[int]) -> None:
    """In memory of their own or not, they can be written to."""
    parts = [np.arange(2 * size, dtype=np.float64).reshape(2, size) for size in sizes]
    joined = lasting(parts, axis=1)
    assert np.array_equal(joined, np.concatenate(parts, axis=1))
    joined += 1


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=6), st.sampled_from([0, 1]))
def test_grown_arrays_are_the_joined_parts(sizes: list[int], axis: int) -> None:
    """Along either axis; what was appended is a copy."""
    parts = [np.full((2, size) if axis else (size, 2), float(place)) for place, size in enumerate(sizes)]
    expected = np.concatenate(parts, axis=axis)
    grown = Grown(parts[0], axis)
    for part in parts[1:]:
        grown.append(part)
        part.fill(-1)
    assert np.array_equal(grown.array, expected)


def test_root_ratio_of_nothing_is_zero() -> None:
    """Two tensors without content agree."""
    assert root_ratio(np.array([0.0, 4.0]), np.array([0.0, 1.0])).tolist() == [0.0, 2.0]


def _drawn(seed: int) -> Integers:
    return np.concatenate(list(bootstrap_indices(seed, 9)))


def test_bootstrap_indices_are_seeded() -> None:
    """The same seed, the same resamples."""
    assert np.array_equal(_drawn(1), _drawn(1))
    assert not np.array_equal(_drawn(1), _drawn(2))
