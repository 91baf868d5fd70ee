"""Hit rates of caches of embedding rows: popularity laws, measured histograms, replacement policies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.workload.tables import AccessPoint, EmbeddingTable

FloatArray = NDArray[np.float64]

PROFILE = 4.0
"""Lookups per row of the profile that a static cache is filled from.

Fitted to the miss rates of the logs that the UGache artifact publishes (SJTU-IPADS/ugache, SOSP 2023) for
100 tables of 8 million rows with exponents 1.2 and 1.4: largest difference 0.06 percentage points.
"""
_EXACT_RANKS, _BINS, _EXACT_COUNTS = 1000, 3000, 60


@dataclass(frozen=True)
class MissCurve:
    """Share of lookups that a cache misses, piecewise linear over the share of the rows that it holds.

    Attributes
    ----------
    share, miss : ndarray, shape (n,)
        Rising shares of the rows and falling miss rates; the ends (0, 1) and (1, 0) are implied.
    """

    share: FloatArray
    miss: FloatArray

    def at(self, share: float) -> float:
        """Return the miss rate of a cache that holds a share of the rows."""
        shares = np.concatenate(([0.0], self.share, [1.0]))
        misses = np.concatenate(([1.0], self.miss, [0.0]))
        return float(np.interp(share, shares, misses))


@dataclass(frozen=True)
class Popularity:
    """How often rows are looked up: groups of equally popular rows, most popular first.

    Attributes
    ----------
    count : ndarray, shape (groups,)
        Rows in each group.
    mass : ndarray, shape (groups,)
        Share of all lookups that goes to the group; adds up to 1.
    """

    count: FloatArray
    mass: FloatArray

    @property
    def rows(self) -> float:
        """Number of rows."""
        return float(self.count.sum())

    @property
    def each(self) -> FloatArray:
        """Probability that a lookup goes to one given row of the group."""
        return np.asarray(self.mass / self.count)

    def distinct(self, lookups: float) -> float:
        """Return the expected number of distinct rows among independent lookups."""
        return float((self.count * -np.expm1(-lookups * self.each)).sum())

    def static_miss(self, share: float, profile: float = math.inf) -> float:
        """Return the miss rate of a cache of the rows that a profile showed most often; see `held`."""
        return float(np.clip(1.0 - (self.mass * self.held(share, profile)).sum(), 0.0, 1.0))

    def distinct_misses(self, lookups: float, share: float, profile: float = math.inf) -> float:
        """Return the expected number of distinct rows among independent lookups that `held` leaves out."""
        rare = self.count * (1.0 - self.held(share, profile))
        return float((rare * -np.expm1(-lookups * self.each)).sum())

    def held(self, share: float, profile: float = math.inf) -> FloatArray:
        """Return the probability that a static cache holds a row of each group.

        Parameters
        ----------
        share
            Share of the rows that the cache holds.
        profile
            Lookups per row that the profile saw; infinite for known popularity, which is also what
            least-frequently-used replacement tends to. Equal counts are broken at random.
        """
        room = share * self.rows
        if room >= self.rows:
            return np.ones_like(self.count)
        if math.isinf(profile):
            below = np.cumsum(self.count) - self.count
            return np.asarray(np.clip(room - below, 0.0, self.count) / self.count)
        seen = profile * self.rows * self.each
        threshold = _first(
            lambda k: float((self.count * _at_least(k, seen)).sum()) <= room, float(seen.max())
        )
        above = _at_least(threshold, seen)
        tied = _at_least(threshold - 1, seen) - above if threshold else np.zeros_like(seen)
        rows, ties = float((self.count * above).sum()), float((self.count * tied).sum())
        part = min(1.0, (room - rows) / ties) if ties > 0.0 else 0.0
        return np.asarray(np.clip(above + part * tied, 0.0, 1.0))

    def lru_miss(self, share: float) -> float:
        """Return the miss rate of least-recently-used replacement, by Che's approximation.

        References
        ----------
        .. [1] H. Che, Y. Tung, Z. Wang, "Hierarchical Web caching systems: modeling, design and experimental
           results", IEEE JSAC 20(7), 2002.
        """
        room, each = share * self.rows, self.each
        if room >= self.rows:
            return 0.0
        if room <= 0.0:
            return 1.0
        low, high = 0.0, 1.0
        while self.distinct(high) < room and high < 1e300:
            high *= 2.0
        for _ in range(100):
            middle = (low + high) / 2.0
            low, high = (middle, high) if self.distinct(middle) < room else (low, middle)
        return float((self.mass * np.exp(-high * each)).sum())

    def curve(self, shares: ArrayLike, profile: float = math.inf) -> MissCurve:
        """Return the miss rates of a static cache at rising shares strictly between 0 and 1."""
        points = np.asarray(shares, dtype=np.float64)
        return MissCurve(points, np.array([self.static_miss(float(share), profile) for share in points]))


def zipf(rows: float, exponent: float) -> Popularity:
    r"""Return the bounded power law :math:`p(r) \sim r^{-a}` on ``rows`` rows.

    The law is the continuous one that data generators of recommender benchmarks draw from:
    :math:`P(rank \le x) = (1 - x^{1 - a}) / (1 - N^{1 - a})`, its logarithmic form at :math:`a = 1`.
    """
    last = rows + 1.0
    edges = np.arange(1.0, min(_EXACT_RANKS, rows) + 1.5)
    if rows > _EXACT_RANKS:
        edges = np.concatenate((edges, np.geomspace(_EXACT_RANKS + 1.0, last, _BINS)[1:]))
    edges[-1] = last
    power = 1.0 - exponent
    low, steps = np.log(edges[:-1]), np.log(edges[1:] / edges[:-1])
    if abs(power) < 1e-9:
        return Popularity(np.diff(edges), steps / math.log(last))
    whole = math.expm1(power * math.log(last))
    return Popularity(np.diff(edges), np.exp(power * low) * np.expm1(power * steps) / whole)


def measured(rows: float, points: Sequence[AccessPoint]) -> Popularity:
    """Return the popularity that a cumulative histogram shows; what it leaves out is looked up evenly."""
    shares = np.array([0.0, *(point.rows for point in points)])
    accesses = np.array([0.0, *(point.accesses for point in points)])
    if shares[-1] < 1.0:
        shares, accesses = np.append(shares, 1.0), np.append(accesses, 1.0)
    accesses = accesses / accesses[-1] if accesses[-1] > 0.0 else shares
    count, mass = np.diff(shares) * rows, np.diff(accesses)
    order = np.argsort(-mass / count, kind="stable")
    return Popularity(count[order], mass[order])


def reused(unique_share: ArrayLike, access_share: ArrayLike, rows: float) -> Popularity:
    """Return the popularity behind a histogram of reuse counts, groups in any order.

    Parameters
    ----------
    unique_share, access_share : array_like, shape (groups,)
        Share of the distinct rows, and of the accesses, that each group of equal reuse has; groups
        without rows are joined to their neighbour by the rounding of the source and are left out.
    rows
        Number of distinct rows.
    """
    unique, access = np.asarray(unique_share, dtype=np.float64), np.asarray(access_share, dtype=np.float64)
    real = unique > 0.0
    count, mass = unique[real] / unique[real].sum() * rows, access[real].copy()
    mass[-1] += access[~real].sum()
    order = np.argsort(-mass / count, kind="stable")
    return Popularity(count[order], mass[order] / mass.sum())


def popularity(table: EmbeddingTable) -> Popularity:
    """Return how often the rows of a table are looked up."""
    if table.histogram is not None:
        return measured(float(table.rows), table.histogram)
    return zipf(float(table.rows), table.skew)


def _first(holds: Callable[[int], bool], largest: float) -> int:
    """Return the smallest count for which a condition, once true, stays true."""
    low, high = 0, int(2.0 * largest) + 100
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _at_least(count: int, mean: FloatArray) -> FloatArray:
    """Return ``P(X >= count)`` of Poisson variables; by the Wilson-Hilferty normal form for large counts."""
    if count <= 0:
        return np.ones_like(mean)
    if count <= _EXACT_COUNTS:
        term = np.exp(-np.minimum(mean, 700.0))
        below = term.copy()
        for number in range(1, count):
            term = term * mean / number
            below += term
        return np.asarray(np.clip(1.0 - below, 0.0, 1.0))
    spread = 1.0 / (9.0 * count)
    score = ((np.maximum(mean, 1e-300) / count) ** (1.0 / 3.0) - (1.0 - spread)) / math.sqrt(spread)
    return np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in score])
