"""Fit expert dispatch and combine: a few numbers with stated priors, least squares of logarithms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.costs.expert_exchange import NAMES, Exchange, exchange_time

FloatArray = NDArray[np.float64]

PRIOR = {
    "start": 40e-6, "doubling": 30e-6, "copy": 3.2e-10, "crossing": 1.8, "network": 0.8, "inside": 0.65,
    "ramp": 0.15,
}  # fmt: skip
"""Where a fit starts: a token that crosses is copied again by the GPU that forwards it, so it costs nearly
twice; the port reaches what collectives over several nodes reach."""
WIDTH = {
    "start": 1.0, "doubling": 0.5, "copy": 1.0, "crossing": 0.15, "network": 0.3, "inside": 0.1, "ramp": 0.5,
}  # fmt: skip
LOW_LATENCY = {"start": 15e-6, "doubling": 6e-6, "network": 0.94, "ramp": 0.05}
NOISE = 0.1


def fit_exchange(mode: str, direction: str, batch: Exchange, seconds: FloatArray) -> FloatArray:
    """Return the numbers of a mode and direction in the order of :data:`NAMES`."""
    from scipy.optimize import least_squares

    start = PRIOR | (LOW_LATENCY if mode == "ll" else {})
    prior = np.log([start[name] for name in NAMES[mode]])
    width = np.asarray([WIDTH[name] for name in NAMES[mode]])

    def residuals(scaled: FloatArray) -> FloatArray:
        times = exchange_time(mode, direction, batch, np.exp(prior + scaled * width))
        error = (np.log(times) - np.log(seconds)) / NOISE
        damped = np.sign(error) * np.sqrt(8.0 * (np.sqrt(1.0 + error**2 / 4.0) - 1.0))
        return np.concatenate([damped, scaled])

    solved = least_squares(residuals, np.zeros(len(prior)), max_nfev=100)
    return np.asarray(np.exp(prior + solved.x * width))
