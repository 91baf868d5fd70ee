"""CPU stages: service time on a NUMA domain, waiting in a pool of cores."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from planner.topology import NumaDomain
from planner.workload import CpuStage

FloatArray = NDArray[np.float64]

REFERENCE_VECTOR_BITS = 512
TAIL = 0.01
"""Probability beyond the 99th percentile."""


def service_time(stage: CpuStage, domain: NumaDomain) -> float:
    """Return the time of one request on one worker, s.

    Work is stated for a reference core with 512-bit vectors. The vector share of it slows down with
    narrower vectors, everything with a slower core; a worker may use several cores for one request.
    Memory traffic at the domain's rate is a floor (roofline).
    """
    width = max(domain.vector_bits, 64) / REFERENCE_VECTOR_BITS
    vector = stage.vector_share / min(1.0, width)
    compute = stage.work * (1.0 - stage.vector_share + vector) / domain.core_speed.value / stage.parallel
    return max(compute, traffic(stage) / domain.memory_bandwidth.value)


def traffic(stage: CpuStage) -> float:
    """Return the bytes of host memory traffic of one request."""
    return stage.bytes_in + stage.bytes_out if stage.traffic_bytes is None else stage.traffic_bytes


def erlang_c(workers: int, load: float) -> float:
    """Return the probability that an arrival waits in M/M/c (Erlang's second formula).

    Parameters
    ----------
    workers
        Servers :math:`c`.
    load
        Offered load :math:`a` in Erlang, below ``workers``.

    References
    ----------
    .. [1] L. Kleinrock, "Queueing Systems, Volume 1", 1975, section 3.5; the recursion is Jagerman's.
    """
    blocking = 1.0
    for count in range(1, workers + 1):
        blocking = load * blocking / (count + load * blocking)
    return blocking / (1.0 - load / workers * (1.0 - blocking))


def pool_latency(service: float, rate: float, workers: int) -> float:
    """Return the 99th percentile of wait plus service in a pool, s; infinite when overloaded.

    Service is taken as constant, the wait as that of M/M/c, whose tail is exponential: an upper estimate.
    """
    load = rate * service
    if load >= workers:
        return math.inf
    waiting = erlang_c(workers, load)
    drain = (workers - load) / service
    return service + max(0.0, math.log(waiting / TAIL) / drain if waiting > 0 else 0.0)
