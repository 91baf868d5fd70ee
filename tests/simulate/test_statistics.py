"""Intervals cover what they claim to cover, and random streams do not disturb one another."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.simulate import (
    batch_means_interval,
    mean_interval,
    mser5,
    named_stream,
    percentile_interval,
    student_t_quantile,
)


@pytest.mark.parametrize(
    ("probability", "dof", "expected"),
    [
        (0.975, 1, 12.7062047362),
        (0.975, 2, 4.3026527297),
        (0.975, 4, 2.7764451052),
        (0.95, 9, 1.8331129327),
        (0.995, 30, 2.7499956536),
        (0.975, 120, 1.9799304051),
        (0.9995, 5, 6.8688266259),
    ],
)
def test_student_quantiles_match_published_tables(probability: float, dof: int, expected: float) -> None:
    """Quantiles agree with the tabulated values to all their digits."""
    assert student_t_quantile(probability, dof) == pytest.approx(expected, rel=1e-10)


@given(probability=st.floats(0.001, 0.999), dof=st.integers(1, 60))
def test_student_quantile_inverts_the_integrated_density(probability: float, dof: int) -> None:
    """Integrating the density from zero to the quantile gives the probability back."""
    quantile = student_t_quantile(probability, dof)
    # t = sqrt(dof) tan(angle) turns the density into a power of the cosine on a bounded interval.
    angle, weight = np.polynomial.legendre.leggauss(200)
    end = math.atan(quantile / math.sqrt(dof))
    area = end / 2.0 * float(weight @ np.cos(end / 2.0 * (angle + 1.0)) ** (dof - 1))
    scale = math.exp(math.lgamma((dof + 1) / 2.0) - math.lgamma(dof / 2.0)) / math.sqrt(math.pi)
    assert 0.5 + scale * area == pytest.approx(probability, abs=1e-12)


def test_student_quantile_is_continuous_where_the_method_changes() -> None:
    """The series and the expansion agree at the degrees of freedom where one takes over from the other."""
    for probability in (0.6, 0.975, 0.9999):
        assert student_t_quantile(probability, 5001) == pytest.approx(
            student_t_quantile(probability, 5000), rel=1e-6
        )


@pytest.mark.parametrize("q", [50.0, 90.0, 99.0])
def test_percentile_interval_covers_as_often_as_claimed(q: float) -> None:
    """Over 400 exponential samples, a 95 % interval covers the true percentile at least 93 % of the time."""
    random = named_stream(5, f"coverage {q}")
    truth = -math.log1p(-q / 100.0)
    intervals = [percentile_interval(random.exponential(size=600), q) for _ in range(400)]
    covered = sum(interval.low <= truth <= interval.high for interval in intervals)
    assert covered / 400 >= 0.93
    assert all(interval.low <= interval.estimate <= interval.high for interval in intervals)


def test_percentile_interval_admits_too_few_samples() -> None:
    """Fifty samples cannot bound a 99th percentile from above, and the interval says so."""
    interval = percentile_interval(np.arange(50.0), 99.0)
    assert interval.high == math.inf
    assert interval.low < 49.0


def test_percentile_interval_of_the_median_uses_the_known_ranks() -> None:
    """For ten samples the 95 % interval of the median runs from the 2nd to the 9th, as tables give."""
    interval = percentile_interval(np.arange(1.0, 11.0), 50.0)
    assert (interval.low, interval.high) == (2.0, 9.0)


def test_mser5_cuts_a_transient_and_keeps_a_stationary_series() -> None:
    """A decaying start is cut about where it ends; a series without one keeps at least 90 %."""
    noise = named_stream(3, "noise").normal(size=4000)
    transient = np.concatenate([np.linspace(12.0, 0.0, 400), np.zeros(3600)])
    assert 300 <= mser5(transient + noise) <= 500
    assert mser5(noise) <= 400
    assert mser5([1.0, 2.0]) == 0


def test_mser5_minimises_the_error_of_what_is_kept() -> None:
    """No other truncation at a multiple of five in the first half has a smaller squared error of the mean."""
    series = named_stream(9, "series").normal(size=200) + 5.0 * np.exp(-np.arange(200.0) / 20.0)
    means = series.reshape(-1, 5).mean(axis=1)
    errors = [float(np.var(means[d:])) / len(means[d:]) for d in range(len(means) // 2 + 1)]
    assert mser5(series) == 5 * int(np.argmin(errors))


def test_batch_means_cover_the_mean_of_a_correlated_series() -> None:
    """On an autoregressive series the batch-means interval covers the mean, where a naive one seldom does."""
    covered = naive = 0
    for replication in range(60):
        noise = named_stream(replication, "autoregressive").normal(size=4000)
        series = np.zeros(4000)
        for i in range(1, 4000):
            series[i] = 0.9 * series[i - 1] + noise[i]
        batches, independent = batch_means_interval(series), mean_interval(series)
        covered += batches.low <= 0.0 <= batches.high
        naive += independent.low <= 0.0 <= independent.high
    assert covered >= 52
    assert naive < 40


def test_named_streams_are_stable_and_independent() -> None:
    """A stream depends on the seed and its name alone, and different names are uncorrelated."""
    again = named_stream(1, "arrivals").random(2000)
    other = named_stream(1, "sizes").random(2000)
    assert np.array_equal(named_stream(1, "arrivals").random(2000), again)
    assert not np.array_equal(named_stream(2, "arrivals").random(2000), again)
    assert abs(np.corrcoef(again, other)[0, 1]) < 0.08


def test_unusable_samples_are_refused() -> None:
    """Too few samples or impossible probabilities are errors, not numbers."""
    with pytest.raises(ValueError, match="samples"):
        percentile_interval([], 50.0)
    with pytest.raises(ValueError, match="two samples"):
        mean_interval([1.0])
    with pytest.raises(ValueError, match="batches"):
        batch_means_interval([1.0, 2.0], num_batches=3)
    with pytest.raises(ValueError, match="degree"):
        student_t_quantile(0.5, 0)
