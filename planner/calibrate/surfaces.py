"""Fit a correction surface: a Gaussian process with its widths from the data, thinned to few centres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.costs.surfaces import Surface

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_CENTRES = 96
LEAST_NOISE = 1e-4
USUAL_WIDTH = 2.0
"""Width before data speak, in standard deviations of a feature."""


def fit_surface(points: FloatArray, heights: FloatArray, *, centres: int = MOST_CENTRES) -> Surface:
    """Return the surface through noisy heights.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        Features.
    heights : ndarray, shape (n,)
        Natural logarithm of measured over modelled time.
    centres
        Most bumps to keep.

    Notes
    -----
    Widths, amplitude and noise maximise the marginal likelihood (C. Rasmussen, C. Williams, "Gaussian
    Processes for Machine Learning", 2006, section 5.4), with a weak prior on the widths; centres come from a
    pivoted Cholesky factorisation, and their weights from the subset of regressors (section 8.3.1).
    """
    spread = np.maximum(points.std(axis=0), 1e-9)
    scales, amplitude, noise = _likeliest(points / spread, heights)
    widths = np.asarray([float(f"{width:.4g}") for width in scales * spread])
    chosen = np.round(points[_pivots(points / widths, centres)], 3)
    between = _bumps(chosen / widths, chosen / widths)
    seen = _bumps(points / widths, chosen / widths)
    normal = seen.T @ seen + (noise / amplitude) * between + 1e-9 * np.eye(len(chosen))
    weights = np.linalg.solve(normal, seen.T @ heights)
    return Surface(
        widths=widths.tolist(), centres=chosen.T.tolist(), weights=[float(f"{one:.5g}") for one in weights]
    )


def _bumps(left: FloatArray, right: FloatArray) -> FloatArray:
    apart = left[:, None, :] - right[None, :, :]
    return np.asarray(np.exp(-0.5 * (apart * apart).sum(axis=2)))


def _likeliest(points: FloatArray, heights: FloatArray) -> tuple[FloatArray, float, float]:
    """Return widths, variance of the surface and variance of the noise of the greatest likelihood."""
    from scipy.optimize import minimize

    features = points.shape[1]
    squares = np.moveaxis((points[:, None, :] - points[None, :, :]) ** 2, 2, 0)
    level = np.log(max(float(heights.std()), 1e-3))
    start = np.concatenate([np.full(features, np.log(USUAL_WIDTH)), [level, level - 1.0]])
    bounds = [(-2.0, 4.0)] * features + [(level - 4.0, level + 2.0)] * 2
    found = minimize(
        _loss, start, (squares, heights), method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 50}
    ).x
    noise = float(np.exp(2.0 * found[-1])) + LEAST_NOISE
    return np.exp(found[:features]), float(np.exp(2.0 * found[-2])), noise


def _loss(point: FloatArray, squares: FloatArray, heights: FloatArray) -> tuple[float, FloatArray]:
    """Return the negative logarithm of likelihood and prior, and its gradient (section 5.4.1)."""
    inverse = np.exp(-2.0 * point[:-2])
    signal, noise = np.exp(2.0 * point[-2]), np.exp(2.0 * point[-1])
    smooth = signal * np.exp(-0.5 * np.tensordot(inverse, squares, axes=1))
    covariance = smooth + (noise + LEAST_NOISE) * np.eye(len(heights))
    precision = np.linalg.inv(covariance)
    solved = precision @ heights
    apart = point[:-2] - np.log(USUAL_WIDTH)
    value = 0.5 * heights @ solved + 0.5 * np.linalg.slogdet(covariance)[1] + 0.25 * (apart**2).sum()
    pull = precision - np.outer(solved, solved)
    weighted = pull * smooth
    widths = 0.5 * inverse * np.tensordot(squares, weighted, axes=2) + 0.5 * apart
    gradient = np.concatenate([widths, [weighted.sum(), noise * np.trace(pull)]])
    return float(value), gradient


def _pivots(points: FloatArray, most: int) -> IntArray:
    """Return the points that span the others best: pivots of the Cholesky factor of their covariance."""
    covariance = _bumps(points, points)
    left = np.ones(len(points))
    rows = np.zeros((0, len(points)))
    chosen: list[int] = []
    while len(chosen) < min(most, len(points)) and left.max() > 1e-5:
        pivot = int(left.argmax())
        row = (covariance[pivot] - rows[:, pivot] @ rows) / np.sqrt(left[pivot])
        rows = np.vstack([rows, row])
        left = np.maximum(left - row * row, 0.0)
        left[pivot] = 0.0
        chosen.append(pivot)
    return np.asarray(chosen, dtype=np.int64)
