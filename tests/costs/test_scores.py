import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from planner.costs.scores import score, spearman

VALUES = arrays(np.float64, st.integers(3, 30), elements=st.integers(1, 9).map(float))


def test_errors_of_a_hand_worked_table() -> None:
    """Ratios 1.1, 0.8 and one row without a prediction: errors 0.1, 0.2 and 1."""
    result = score([11.0, 8.0, float("nan")], [10.0, 10.0, 10.0])
    assert result.rows == 3
    assert result.coverage == pytest.approx(2 / 3)
    assert result.mape == pytest.approx(1.3 / 3)
    assert result.median == pytest.approx(0.2)
    assert result.worst == 1.0
    assert result.bias == pytest.approx(-0.05)


def test_unequal_shapes_are_refused() -> None:
    """A prediction too many cannot be paired."""
    with pytest.raises(ValueError, match="predictions for"):
        score([1.0, 2.0], [1.0])


@given(VALUES, st.integers(0, 1000))
def test_rank_correlation_is_scipys(left: np.ndarray, seed: int) -> None:
    """Equal to scipy's figure, ties included."""
    right = np.random.default_rng(seed).integers(1, 5, len(left)).astype(float)
    if left.std() == 0.0 or right.std() == 0.0:
        assert np.isnan(spearman(left, right))
    else:
        assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic, abs=1e-12)
