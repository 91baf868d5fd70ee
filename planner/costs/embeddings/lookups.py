"""Time to gather embedding rows that lie partly here, partly on other GPUs and partly in host memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

_START = (5e11, 1.5e11, 1e10, 3e-4, 2.5)
_LOOSENESS = 50.0
"""A factor of e from the start weighs as much as a relative error of ``1 / 50`` of one sample."""


@dataclass(frozen=True)
class LookupRates:
    """Constants of a platform.

    Attributes
    ----------
    local, remote, host
        Rates of random rows from own memory, from all other GPUs and from host memory, bytes/s.
    fixed
        Time of an empty lookup, s.
    sharpness
        How well the tiers overlap: 1 when their times add up; with growing values the slowest decides.
    """

    local: float
    remote: float
    host: float
    fixed: float
    sharpness: float

    def seconds(self, local: ArrayLike, remote: ArrayLike, host: ArrayLike) -> FloatArray:
        r"""Return the time, s, of lookups that read so many bytes from each tier.

        :math:`t_0 + ((l / B_l)^q + (r / B_r)^q + (h / B_h)^q)^{1/q}`: the p-norm stands between tiers read
        one after another and tiers read at once. The form is the project's own, see `fit_lookups`.
        """
        parts = [
            np.asarray(size, dtype=np.float64) / rate
            for size, rate in ((local, self.local), (remote, self.remote), (host, self.host))
        ]
        slowest = np.maximum(np.maximum.reduce(parts), 1e-30)
        total = sum((part / slowest) ** self.sharpness for part in parts)
        return np.asarray(self.fixed + slowest * total ** (1.0 / self.sharpness))


def fit_lookups(local: ArrayLike, remote: ArrayLike, host: ArrayLike, seconds: ArrayLike) -> LookupRates:
    """Return the constants that explain measured lookups of one platform best, by relative error.

    Parameters
    ----------
    local, remote, host : array_like, shape (n,)
        Bytes read from each tier.
    seconds : array_like, shape (n,)
        Measured times, s.
    """
    sizes = [np.asarray(size, dtype=np.float64) for size in (local, remote, host)]
    measured = np.log(np.asarray(seconds, dtype=np.float64))
    start = _packed(LookupRates(*_START))

    def residuals(point: FloatArray) -> FloatArray:
        errors = np.log(_unpacked(point).seconds(*sizes)) - measured
        robust = np.sign(errors) * 0.1 * np.sqrt(2.0 * (np.sqrt(1.0 + (errors / 0.1) ** 2) - 1.0))
        return np.asarray(np.concatenate((robust, (point - start) / _LOOSENESS)))

    point, damping, best = start, 1e-2, residuals(start)
    for _ in range(200):
        slope = np.stack([(residuals(point + step) - best) / 1e-6 for step in np.eye(5) * 1e-6], axis=1)
        normal = slope.T @ slope
        move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slope.T @ best)
        trial = residuals(point + move)
        if trial @ trial < best @ best:
            gain = best @ best - trial @ trial
            point, best, damping = point + move, trial, damping / 3.0
            if gain < 1e-12:
                break
        else:
            damping *= 4.0
            if damping > 1e12:
                break
    return _unpacked(point)


def _packed(rates: LookupRates) -> FloatArray:
    values: Sequence[float] = (rates.local, rates.remote, rates.host, rates.fixed, rates.sharpness - 1.0)
    return np.asarray(np.log(np.array(values)))


def _unpacked(point: FloatArray) -> LookupRates:
    local, remote, host, fixed, excess = (float(value) for value in np.exp(np.clip(point, -60.0, 60.0)))
    return LookupRates(local, remote, host, fixed, 1.0 + min(excess, 50.0))
