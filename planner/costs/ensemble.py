r"""Latency of the stages of an ensemble: batches on a GPU that several streams share, workers on host cores.

Means and variances of the parts of a request's way add up; a percentile is taken of the sum alone:
:math:`t_{99} = m + (\ln 100 - 1) \sqrt{v}`. That is exact for an exponential law, above the truth where
several parts of like size add up (an Erlang law's tail is lighter), below it where one rare wait dominates.

References
----------
.. [1] L. Kleinrock, "Queueing Systems, Volume 2", 1976, chapter 3 (Cobham's formula; preemption).
.. [2] A. O. Allen, "Probability, Statistics, and Queueing Theory", 1990, section 5.3 (Allen and Cunneen).
.. [3] J. F. C. Kingman, "The single server queue in heavy traffic", 1961.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.costs.coefficients import Calibration, device_rates
from planner.costs.host import erlang_c
from planner.topology import Device
from planner.workload.ensembles import GpuWork

FloatArray = NDArray[np.float64]

MOST_BUSY = 0.95
"""Most of the time that workers or a device may be planned to be busy."""
TAIL = math.log(100.0) - 1.0
"""Standard deviations from the mean of an exponential law to its 99th percentile."""


def batch_seconds(
    work: GpuWork, device: Device, calibration: Calibration, units: ArrayLike, *, graphs: bool = True,
    share: float = 1.0,
) -> FloatArray:  # fmt: skip
    """Return the time of batches alone on a device, s: launches, then the longer of computing and moving.

    Parameters
    ----------
    device
        A whole device, or a slice as `planner.placement.slices.slice_device` gives it.
    units
        Units of work of each batch.
    graphs
        Whether the kernels are launched as a CUDA graph.
    share
        Compute share of a slice: what was measured on the whole device takes that much longer on it.

    Notes
    -----
    Roofline of Williams, Waterman and Patterson (CACM, 2009); weights are read once per batch. Measured times
    are joined by straight lines, carried on beyond the last.
    """
    number = np.asarray(units, dtype=float)
    whole = device.name if share == 1.0 else device.name.rsplit("-", 1)[0]
    if work.device == whole or (work.device is not None and work.device in device.aliases):
        return _measured(work, number) / share
    rates = device_rates(device, work.precision, calibration, graphs=graphs)
    compute = number * work.flops / (rates.matmul * calibration.number("matmul_efficiency"))
    moved = (number * work.bytes + work.weights) / rates.memory
    return np.asarray(work.kernels * rates.overhead + np.maximum(compute, moved))


def _measured(work: GpuWork, units: FloatArray) -> FloatArray:
    sizes = [float(time.batch) for time in work.measured]
    times = [time.seconds for time in work.measured]
    found = np.interp(units, sizes, times)
    if len(sizes) == 1:
        slope = times[0] / sizes[0]
    else:
        slope = max(0.0, (times[-1] - times[-2]) / (sizes[-1] - sizes[-2]))
    return np.asarray(found + np.maximum(units - sizes[-1], 0.0) * slope)


@dataclass(frozen=True)
class Moments:
    """Means, s, and variances, s², of independent parts of a time."""

    mean: FloatArray
    variance: FloatArray


@dataclass(frozen=True)
class Stream:
    """The batches of one instance on a device; arrays are alternatives.

    Attributes
    ----------
    rate
        Batches per second.
    seconds, second
        Mean time of a batch alone on the device, s, and the mean of its square, s².
    scv
        Squared coefficient of variation of the gaps between batches.
    kernels
        Kernels of a batch: a stream of higher priority waits for one of them only.
    high
        Whether the stream has high priority.
    """

    rate: FloatArray
    seconds: FloatArray
    second: FloatArray
    scv: FloatArray
    kernels: int
    high: NDArray[np.bool_]

    @property
    def busy(self) -> FloatArray:
        """Part of the time that it keeps the device busy."""
        return self.rate * self.seconds

    @property
    def residual(self) -> FloatArray:
        """What is left of its batch in service on average, s, more where arrivals come in bursts."""
        return self.rate * (self.second + (self.scv - 1.0) * self.seconds**2) / 2.0


def shared_device(streams: Sequence[Stream]) -> tuple[list[Moments], list[Moments], FloatArray]:
    r"""Return each stream's wait for the device, its time on it, and how busy the device is.

    Returns
    -------
    list of Moments
        Waits; infinite where the device is busier than `MOST_BUSY`.
    list of Moments
        Times from the start of a batch to its end.
    ndarray
        Busy part of the time.

    Notes
    -----
    The device serves one batch after the other in order of arrival, streams of high priority first between
    kernels: [1]_ with :math:`R = \sum_i \lambda_i E[S_i^2] / 2`,

    .. math:: W_h = \frac{R_h}{1 - \rho_h}, \quad W_n = \frac{R}{(1 - \rho_h)(1 - \rho)}, \quad
              T_n = \frac{S_n}{1 - \rho_h},

    where :math:`R_h` counts one kernel of the batches of normal priority. Gaps that vary more than those of a
    Poisson process lengthen R by their squared coefficient of variation [3]_. A wait is zero with probability
    :math:`1 - \rho` and exponential otherwise; interruptions add
    :math:`\lambda_h E[S_h^2] S_n / (1 - \rho_h)^3` to the variance of :math:`T_n` (Gaver, 1962).
    """
    busy = np.sum([stream.busy for stream in streams], axis=0)
    above = np.sum([np.where(stream.high, stream.busy, 0.0) for stream in streams], axis=0)
    whole = np.sum([stream.residual for stream in streams], axis=0)
    kernel = np.sum(
        [stream.residual / np.where(stream.high, 1.0, stream.kernels) for stream in streams], axis=0
    )
    second = np.sum([np.where(stream.high, stream.rate * stream.second, 0.0) for stream in streams], axis=0)
    free = np.where(busy <= MOST_BUSY, 1.0 - busy, np.nan)
    rest = 1.0 - np.minimum(above, MOST_BUSY)
    waits, services = [], []
    for stream in streams:
        mean = np.where(stream.high, kernel / (1.0 - above), whole / (rest * free))
        mean = np.where(np.isnan(free), np.inf, mean)
        with np.errstate(invalid="ignore"):
            variance = np.where(np.isinf(mean), np.inf, mean**2 * (2.0 / busy - 1.0))
        waits.append(Moments(mean, variance))
        time = np.where(stream.high, stream.seconds, stream.seconds / rest)
        spread = np.where(stream.high, 0.0, second * stream.seconds / rest**3)
        services.append(Moments(time, spread))
    return waits, services, np.asarray(busy)


@dataclass(frozen=True)
class Gathering:
    """How requests of one instance gather to batches.

    Attributes
    ----------
    joined
        Units that join the first request of a batch.
    rate
        Batches per second.
    scv
        Squared coefficient of variation of the gaps between batches.
    wait
        Time of a request until its batch is complete, s.
    """

    joined: FloatArray
    rate: FloatArray
    scv: FloatArray
    wait: Moments


def gathering(
    requests: ArrayLike, units: ArrayLike, scv: ArrayLike, batch: ArrayLike, window: ArrayLike
) -> Gathering:
    r"""Return the batches of requests at a dynamic batcher with an idle device.

    Parameters
    ----------
    requests
        Requests per second at the instance.
    units
        Mean units of a request.
    scv
        Squared coefficient of variation of the gaps between requests.
    batch, window
        Units at which a batch is complete, and the longest wait of its first request, s.

    Notes
    -----
    The first request of a batch waits :math:`w = \min(\text{window}, (b - g) / u)` with :math:`u` units per
    second; those that join it arrive evenly over w, so that the batch has :math:`g + u w` units. A window of
    0 sends every request alone. A busy device only makes batches larger: an upper estimate of their number.
    """
    rate, each, size = (np.asarray(value, dtype=float) for value in (requests, units, batch))
    flow = rate * each
    wait = np.minimum(np.asarray(window, dtype=float), np.maximum(size - each, 0.0) / flow)
    joining = rate * wait
    mean = wait * (1.0 + joining / 2.0) / (1.0 + joining)
    second = wait**2 * (1.0 + joining / 3.0) / (1.0 + joining)
    spread = np.maximum(1.0, 1.0 + (np.asarray(scv, dtype=float) - 1.0) / (1.0 + joining))
    return Gathering(flow * wait, rate / (1.0 + joining), spread, Moments(mean, second - mean**2))


def gather_window(requests: float, units: float, batch: int) -> float:
    """Return the window in which a batch gathers at the offered rate, s, in whole microseconds."""
    return math.ceil(max(0.0, batch - units) / (requests * units) * 1e6 - 1e-6) / 1e6


def pool_wait(
    rates: Sequence[float], services: Sequence[float], scvs: Sequence[float], workers: int
) -> tuple[float, float]:
    r"""Return mean, s, and variance, s², of the wait for a worker of a CPU pool; infinite when overloaded.

    Parameters
    ----------
    rates, services, scvs
        By class: requests per second, time of a request on a worker, s, and squared coefficient of variation
        of the gaps.

    Notes
    -----
    Wait of M/M/c times :math:`(c_a^2 + c_s^2) / 2` [2]_, neither factor below 1, as in
    `planner.costs.host.pool_latency`: an upper estimate. The wait is exponential where there is one.
    """
    total = sum(rates)
    load = sum(rate * time for rate, time in zip(rates, services, strict=True))
    if load > workers * MOST_BUSY:
        return math.inf, math.inf
    mean = load / total
    second = sum(rate * time**2 for rate, time in zip(rates, services, strict=True)) / total
    arrivals = sum(rate * scv for rate, scv in zip(rates, scvs, strict=True)) / total
    factor = (max(1.0, arrivals) + max(1.0, second / mean**2 - 1.0)) / 2.0
    waiting = erlang_c(workers, load)
    scale = factor * mean / (workers - load)
    return waiting * scale, scale**2 * waiting * (2.0 - waiting)
