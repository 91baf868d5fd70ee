"""Robust fits of times that grow with size: a start, a rate, and the share of the rate at each size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import CalibrationError

FloatArray = NDArray[np.float64]

OUTLIER = 0.1
"""Relative error from which a point counts by its distance rather than by its square."""
REACH = 2.0
"""How far beyond the measured sizes a fit may be read without being told so, a ratio."""
FEWEST = 5
"""Points below which a line is not supported."""
NARROW = 16.0
"""Ratio of the largest to the smallest size below which start and rate cannot be told apart."""
BINS_PER_DECADE = 2


class ExtrapolationError(CalibrationError):
    """A fit was asked about a size that nobody measured."""


@dataclass(frozen=True)
class Line:
    """Time ``start + size / (rate * share(size))``.

    Attributes
    ----------
    start, rate
        Fixed time, s, and rate of large transfers, bytes/s.
    sizes, shares : ndarray, shape (b,)
        Share of the rate at sizes in ascending order; see :func:`fit_line`.
    smallest, largest
        Range that was measured, bytes.
    residual
        Mean relative error on the points.
    samples
        Number of points.
    """

    start: float
    rate: float
    sizes: FloatArray
    shares: FloatArray
    smallest: float
    largest: float
    residual: float
    samples: int

    def seconds(self, size: FloatArray | float, *, extrapolate: bool = False) -> FloatArray:
        """Return the time of transfers, s.

        Raises
        ------
        ExtrapolationError
            If a size lies beyond :data:`REACH` times what was measured, and nobody asked for that.
        """
        asked = np.asarray(size, dtype=float)
        outside = (asked > self.largest * REACH) | (asked < self.smallest / REACH)
        if np.any(outside) and not extrapolate:
            wrong = float(np.atleast_1d(asked)[np.atleast_1d(outside)][0])
            raise ExtrapolationError(
                f"{wrong:.4g} bytes lie outside the measured {self.smallest:.4g} to {self.largest:.4g}; "
                "measure that size, or ask for an extrapolation"
            )
        share = np.interp(np.log(np.maximum(asked, 1.0)), np.log(self.sizes), np.log(self.shares))
        return np.asarray(self.start + asked / (self.rate * np.exp(share)))

    @property
    def curve(self) -> list[tuple[float, float]]:
        """The shares as a coefficient keeps them."""
        return [
            (float(f"{size:.4g}"), float(f"{share:.4g}"))
            for size, share in zip(self.sizes, self.shares, strict=True)
        ]


def fit_line(sizes: FloatArray, seconds: FloatArray) -> Line:
    """Fit a line to times by least squares of relative errors, large ones damped (soft L1).

    The share at a size is the median of rate reached over rate fitted, over the points of half a decade;
    drawn to 1 as by one point more; where the start makes up most of the time it says nothing and stays 1.

    Raises
    ------
    CalibrationError
        If there are fewer than two sizes, or a time is not positive.
    """
    least_squares = scipy_least_squares()
    if len(np.unique(sizes)) < 2 or np.any(seconds <= 0.0):
        raise CalibrationError("a line needs two sizes at least, and times above zero")
    slope = float(np.median(seconds[sizes >= np.median(sizes)] / sizes[sizes >= np.median(sizes)]))
    begin = np.log([max(float(seconds.min()), 1e-9), slope])

    def misses(point: FloatArray) -> FloatArray:
        start, per_byte = np.exp(point)
        return np.asarray(np.log((start + per_byte * sizes) / seconds))

    found = least_squares(misses, begin, loss="soft_l1", f_scale=OUTLIER, bounds=(begin - 12.0, begin + 12.0))
    start, per_byte = (float(value) for value in np.exp(found.x))
    places, shares = _shares(sizes, seconds, start, per_byte)
    line = Line(
        start, 1.0 / per_byte, places, shares, float(sizes.min()), float(sizes.max()), 0.0, len(sizes)
    )
    error = np.abs(line.seconds(sizes) / seconds - 1.0)
    return Line(**(vars(line) | {"residual": float(np.mean(error))}))


def _shares(
    sizes: FloatArray, seconds: FloatArray, start: float, per_byte: float
) -> tuple[FloatArray, FloatArray]:
    bins = np.round(np.log10(sizes) * BINS_PER_DECADE).astype(np.int64)
    places, shares = [], []
    for one in np.unique(bins):
        rows = bins == one
        wire = per_byte * sizes[rows]
        places.append(float(np.exp(np.mean(np.log(sizes[rows])))))
        tells = np.median(wire) > start
        share = float(np.median(wire / np.maximum(seconds[rows] - start, 0.1 * wire)))
        count = float(np.sum(rows))
        shares.append(1.0 + (share - 1.0) * count / (count + 1.0) if tells else 1.0)
    return np.asarray(places), np.clip(np.asarray(shares), 0.1, 10.0)


def doubts(what: str, line: Line) -> list[str]:
    """Return what the points of a line do not support, as sentences."""
    found = []
    if line.samples < FEWEST:
        found.append(f"{what}: {line.samples} sizes only; start and rate are little more than a guess")
    if line.largest < NARROW * line.smallest:
        found.append(f"{what}: sizes span a factor {line.largest / line.smallest:.3g}; start and rate mix")
    if line.residual > 0.2:
        found.append(f"{what}: points lie {line.residual:.0%} off the line on average")
    return found


def scipy_least_squares() -> Callable[..., Any]:
    """Return SciPy's least squares.

    Raises
    ------
    CalibrationError
        If SciPy is missing.
    """
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise CalibrationError("fits need SciPy: pip install 'planner[fit]'") from error
    solver: Callable[..., Any] = least_squares
    return solver
