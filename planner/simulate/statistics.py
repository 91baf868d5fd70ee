"""Output analysis of simulations: intervals, warm-up removal and named random streams."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LARGE_DOF = 5000
"""Degrees of freedom from which the Student-t quantile comes from its expansion around the normal one."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; a side is infinite where samples are too few to bound it."""

    estimate: float
    low: float
    high: float
    confidence: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2.0


def percentile_interval(samples: npt.ArrayLike, q: float, confidence: float = 0.95) -> Interval:
    """Return a percentile of independent samples with a distribution-free interval.

    Parameters
    ----------
    samples
        Independent observations; of a correlated series pass batch or replication figures instead.
    q
        Percentile, between 0 and 100.
    confidence
        Probability, at least, that the interval covers the true percentile.

    Returns
    -------
    Interval
        Two order statistics [1]_: the number of samples below the true percentile is binomial.

    References
    ----------
    .. [1] H. A. David, H. N. Nagaraja, "Order Statistics", 3rd ed., Wiley, 2003, section 7.1.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    if not (len(ordered) and 0.0 < q < 100.0 and 0.0 < confidence < 1.0):
        raise ValueError("need samples, a percentile between 0 and 100, and a confidence between 0 and 1")
    below = np.cumsum(_binomial(len(ordered), q / 100.0))  # below[k] = P(at most k samples are below)
    tail = (1.0 - confidence) / 2.0
    low = int(np.searchsorted(below, tail, side="right"))  # P(fewer than low are below) <= tail
    high = int(np.searchsorted(below, 1.0 - tail)) + 1  # P(at least high are below) <= tail
    return Interval(
        float(np.quantile(ordered, q / 100.0)),
        float(ordered[low - 1]) if low >= 1 else -math.inf,
        float(ordered[high - 1]) if high <= len(ordered) else math.inf,
        confidence,
    )


def mser5(series: npt.ArrayLike) -> int:
    """Return how many leading observations to drop as warm-up, by MSER-5.

    The truncation point minimises the squared standard error of the mean of what remains, over means of five
    observations, and is sought in the first half [1]_.

    References
    ----------
    .. [1] K. P. White, M. J. Cobb, S. C. Spratt, "A comparison of five steady-state truncation heuristics for
       simulation", Winter Simulation Conference, 2000.
    """
    values = np.asarray(series, dtype=np.float64)
    num_batches = len(values) // 5
    if num_batches < 2:
        return 0
    means = values[: 5 * num_batches].reshape(-1, 5).mean(axis=1)
    means -= means.mean()
    left = np.arange(num_batches, 0, -1)
    sums, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    error = (squares - sums**2 / left) / left**2
    return 5 * int(np.argmin(error[: num_batches // 2 + 1]))


def mean_interval(samples: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of independent samples, such as one per replication, with its Student-t interval."""
    values = np.asarray(samples, dtype=np.float64)
    if len(values) < 2:
        raise ValueError("an interval needs at least two samples")
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = student_t_quantile(0.5 + confidence / 2.0, len(values) - 1) * error
    return Interval(mean, mean - half, mean + half, confidence)


def common_warm_up(runs: npt.ArrayLike) -> int:
    """Return how many observations of every replication to drop: MSER-5 of their mean over replications.

    Parameters
    ----------
    runs : array_like, shape (replications, observations)
        Pilot replications. Those that the figures come from should be others: a truncation chosen by the
        data that it is applied to leans towards low or high means.
    """
    return mser5(np.asarray(runs, dtype=np.float64).mean(axis=0))


def replication_interval(runs: npt.ArrayLike, warm_up: int = 0, confidence: float = 0.95) -> Interval:
    r"""Return the steady-state mean from replications, with an interval that allows for skewed means.

    Parameters
    ----------
    runs : array_like, shape (replications, observations)
        At least three replications with seeds of their own.
    warm_up
        Observations dropped from the beginning of each.

    Notes
    -----
    The mean of each replication is one sample. Sojourn times make these skewed to the right, and Student's t
    too short on that side; the interval is :math:`\bar x + \hat\mu_3 / (6 s^2 n) \pm t\, s / \sqrt n` [1]_.

    References
    ----------
    .. [1] N. J. Johnson, "Modified t Tests and Confidence Intervals for Asymmetrical Populations", JASA 73,
       1978, equation 2.3.
    """
    means = np.asarray(runs, dtype=np.float64)[:, warm_up:].mean(axis=1)
    if len(means) < 3:
        raise ValueError("an interval for skewed means needs at least three replications")
    plain = mean_interval(means, confidence)
    count, spread = len(means), float(means.var(ddof=1))
    third = float(((means - plain.estimate) ** 3).sum()) * count / ((count - 1) * (count - 2))
    shift = third / (6.0 * spread * count) if spread > 0.0 else 0.0
    return Interval(plain.estimate, plain.low + shift, plain.high + shift, confidence)


def batch_means_interval(series: npt.ArrayLike, confidence: float = 0.95, num_batches: int = 20) -> Interval:
    """Return the mean of a correlated, stationary series with an interval from the means of its batches.

    Observations that do not fill a batch are dropped from the beginning [1]_.

    References
    ----------
    .. [1] A. M. Law, "Simulation Modeling and Analysis", 5th ed., McGraw-Hill, 2015, section 9.5.3.
    """
    values = np.asarray(series, dtype=np.float64)
    if not 2 <= num_batches <= len(values):
        raise ValueError(f"cannot make {num_batches} batches of {len(values)} observations")
    kept = values[len(values) % num_batches :]
    return mean_interval(kept.reshape(num_batches, -1).mean(axis=1), confidence)


def student_t_quantile(probability: float, dof: int) -> float:
    r"""Return the quantile of Student's t distribution.

    Parameters
    ----------
    probability
        Between 0 and 1.
    dof
        Degrees of freedom, at least 1.

    Notes
    -----
    With :math:`\theta = \arctan(t / \sqrt{\nu})`, :math:`P(|T| < t)` is a finite sum of powers of
    :math:`\cos\theta` ([1]_, 26.7.3 and 26.7.4), inverted here by bisection; for many degrees of freedom the
    expansion 26.7.5 serves.

    References
    ----------
    .. [1] M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions", 1964.
    """
    if not (0.0 < probability < 1.0 and dof >= 1):
        raise ValueError("need a probability between 0 and 1 and at least one degree of freedom")
    if probability < 0.5:
        return -student_t_quantile(1.0 - probability, dof)
    if dof > LARGE_DOF:
        x = NormalDist().inv_cdf(probability)
        return x + (x**3 + x) / (4.0 * dof) + (5.0 * x**5 + 16.0 * x**3 + 3.0 * x) / (96.0 * dof**2)
    low, high = 0.0, math.pi / 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if _student_central(middle, dof) < 2.0 * probability - 1.0:
            low = middle
        else:
            high = middle
    return math.sqrt(dof) * math.tan((low + high) / 2.0)


def named_stream(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of one purpose, such as ``"arrivals"``.

    Streams of different names are independent, and no stream depends on which others are used: a what-if that
    changes one thing leaves the random numbers of all others as they were.
    """
    digest = hashlib.sha256(name.encode()).digest()
    words = tuple(int(word) for word in np.frombuffer(digest, dtype="<u4"))
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=words))


def _binomial(n: int, p: float) -> FloatArray:
    """Return the probabilities of 0 to ``n`` successes."""
    factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    k = np.arange(n + 1)
    log_ways = factorial[n] - factorial - factorial[::-1]
    probability: FloatArray = np.exp(log_ways + k * math.log(p) + (n - k) * math.log1p(-p))
    return probability


def _student_central(theta: float, dof: int) -> float:
    """Return the probability that T lies within sqrt(dof) tan(theta) of zero."""
    cosine = math.cos(theta)
    num_terms = dof // 2
    j: FloatArray = np.arange(1.0, num_terms)
    if dof % 2:
        total = 1.0 + float(np.cumprod(2.0 * j / (2.0 * j + 1.0) * cosine**2).sum()) if num_terms else 0.0
        return 2.0 / math.pi * (theta + math.sin(theta) * cosine * total)
    total = 1.0 + float(np.cumprod((2.0 * j - 1.0) / (2.0 * j) * cosine**2).sum())
    return math.sin(theta) * total
