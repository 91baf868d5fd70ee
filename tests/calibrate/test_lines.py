"""Lines through copies: coefficients come back, and nothing is read beyond the points silently."""

from __future__ import annotations

import numpy as np
import pytest

from planner.calibrate.lines import ExtrapolationError, doubts, fit_line
from planner.errors import CalibrationError


def noisy(true: np.ndarray, seed: int) -> np.ndarray:
    """Return times with 10 % noise, one in twenty three to ten times too long."""
    dice = np.random.default_rng(seed)
    times = true * np.exp(dice.normal(0.0, 0.1, len(true)))
    wrong = dice.random(len(true)) < 0.05
    return np.where(wrong, times * dice.uniform(3.0, 10.0, len(true)), times)


@pytest.mark.parametrize("seed", range(8))
def test_start_and_rate_come_back_within_three_percent(seed: int) -> None:
    """From 600 points with 10 % noise and 5 % outliers."""
    sizes = np.tile(np.geomspace(1e3, 1e9, 60), 10)
    line = fit_line(sizes, noisy(1.2e-5 + sizes / 25e9, seed))
    assert line.start == pytest.approx(1.2e-5, rel=0.03)
    assert line.rate == pytest.approx(25e9, rel=0.03)


def test_sizes_beyond_the_points_are_refused_unless_asked_for() -> None:
    """Half the smallest and twice the largest size are the limits."""
    sizes = np.geomspace(1e4, 1e8, 20)
    line = fit_line(sizes, 1e-5 + sizes / 1e10)
    assert line.seconds(1.9e8) > 0.0
    for size in (1e3, 1e9):
        with pytest.raises(ExtrapolationError, match="outside the measured"):
            line.seconds(size)
    assert float(line.seconds(1e9, extrapolate=True)) == pytest.approx(0.1, rel=0.05)


def test_the_share_of_the_rate_follows_the_size() -> None:
    """Copies that fit the cache run at twice the rate; the fit knows where."""
    sizes = np.tile(np.geomspace(1e4, 1e9, 40), 5)
    true = 1e-6 + sizes / np.where(sizes < 1e6, 20e9, 10e9)
    line = fit_line(sizes, true)
    assert float(line.seconds(3e5)) == pytest.approx(1e-6 + 3e5 / 20e9, rel=0.12)
    assert float(line.seconds(3e8)) == pytest.approx(1e-6 + 3e8 / 10e9, rel=0.12)


def test_too_few_points_are_doubted_or_refused() -> None:
    """One size gives no line; four close ones give one with two doubts."""
    with pytest.raises(CalibrationError, match="two sizes"):
        fit_line(np.asarray([1e6, 1e6]), np.asarray([1e-3, 1e-3]))
    sizes = np.asarray([1e6, 1.5e6, 2e6, 3e6])
    assert len(doubts("copies", fit_line(sizes, 1e-5 + sizes / 1e10))) == 2
