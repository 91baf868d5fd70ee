"""How far predictions are from measurements: one table of figures for every accuracy report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Errors of a set of predictions; all but ``rows`` and ``spearman`` are ratios (0.1: 10 %).

    Attributes
    ----------
    rows
        Number of measured rows.
    coverage
        Share of the rows with a prediction.
    mape, median, p90, worst
        Mean, median, 90th percentile and maximum of ``|predicted / measured - 1|``; a row without a
        prediction counts as 1.
    bias
        Mean of ``predicted / measured - 1`` over the rows with a prediction, not a number without one.
    spearman
        Rank correlation over the rows with a prediction, not a number below three of them.
    """

    rows: int
    coverage: float
    mape: float
    median: float
    p90: float
    worst: float
    bias: float
    spearman: float


def score(predicted: ArrayLike, measured: ArrayLike) -> Score:
    """Return the errors of predictions; a prediction that is not finite or not positive is missing.

    Parameters
    ----------
    predicted, measured : array_like, shape (n,)
        In the same unit; measured values are positive.

    Raises
    ------
    ValueError
        If the shapes differ or there is no row.
    """
    guess = np.asarray(predicted, dtype=float)
    truth = np.asarray(measured, dtype=float)
    if guess.shape != truth.shape or guess.ndim != 1 or not len(truth):
        raise ValueError(f"{guess.shape} predictions for {truth.shape} measurements")
    known = np.isfinite(guess) & (guess > 0.0)
    relative = np.where(known, guess, 0.0) / truth - 1.0
    errors = np.where(known, np.abs(relative), 1.0)
    return Score(
        rows=len(truth),
        coverage=float(known.mean()),
        mape=float(errors.mean()),
        median=float(np.median(errors)),
        p90=float(np.quantile(errors, 0.9)),
        worst=float(errors.max()),
        bias=float(relative[known].mean()) if known.any() else float("nan"),
        spearman=spearman(guess[known], truth[known]),
    )


def spearman(left: FloatArray, right: FloatArray) -> float:
    """Return the rank correlation, ties at their mean rank; nan below three rows or without spread."""
    if len(left) < 3:
        return float("nan")
    ranks = [_ranks(side) for side in (left, right)]
    if any(side.std() == 0.0 for side in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: FloatArray) -> FloatArray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return np.asarray((ends - (count - 1) / 2.0)[place], dtype=float)
