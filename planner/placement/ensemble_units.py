"""Times of the stages of an ensemble on one GPU, slice or pool of workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.costs.ensemble import Stream, batch_seconds, gathering, pool_wait, shared_device
from planner.costs.host import service_time
from planner.placement.ensemble_design import Key
from planner.placement.ensemble_problem import TICK, Domain, EnsembleProblem

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Time of a class at a stage: mean, ticks, variance, ticks², and the mean by part, s."""

    mean: int
    variance: int
    split: Mapping[str, float]


@dataclass(frozen=True)
class UnitTable:
    """Times at the tenants of one unit, for many settings at once.

    Attributes
    ----------
    mean, variance : dict of ndarray, shape (settings,)
        By stage and class, s and s²; infinite where the unit is too busy.
    split
        Means by part: batch wait, gpu queue, gpu.
    busy, own
        Busy part of the time of the unit, and of each tenant.
    batches
        Mean units of a batch of each tenant, and the mean time of a batch alone on the unit, s.
    """

    mean: dict[Key, FloatArray]
    variance: dict[Key, FloatArray]
    split: dict[Key, tuple[FloatArray, FloatArray, FloatArray]]
    busy: FloatArray
    own: list[FloatArray]
    batches: list[tuple[FloatArray, FloatArray]]


def unit_table(
    problem: EnsembleProblem,
    tenants: Sequence[tuple[int, tuple[int, ...]]],
    profile: str | None,
    count: ArrayLike,
    batch: Sequence[FloatArray],
    window: Sequence[FloatArray],
    high: Sequence[NDArray[np.bool_]],
) -> UnitTable:
    """Return the times of tenants (stage, classes) that share a unit, one of ``count``.

    Parameters
    ----------
    count
        Units that take the requests in turn.
    batch, window, high
        Settings of each tenant; all arrays have one shape.
    """
    streams, gathered, sizes, sizes_mean = [], [], [], []
    for (stage, classes), most, wait, above in zip(tenants, batch, window, high, strict=True):
        rates, units = shares_of(problem, stage, classes)
        total = sum(rates)
        mean_units = sum(rate * number for rate, number in zip(rates, units, strict=True)) / total
        scv = sum(
            rate * problem.classes[one].arrival_scv for rate, one in zip(rates, classes, strict=True)
        ) / total  # fmt: skip
        found = gathering(total / np.asarray(count, dtype=float), mean_units, scv, most, wait)
        times = [
            unit_seconds(problem, stage, profile, np.minimum(number + found.joined, most)) for number in units
        ]
        mean = sum(rate * time for rate, time in zip(rates, times, strict=True)) / total
        second = sum(rate * time**2 for rate, time in zip(rates, times, strict=True)) / total
        work = problem.stages[stage].gpu
        assert work is not None
        streams.append(
            Stream(found.rate, np.asarray(mean), np.asarray(second), found.scv, work.kernels, above)
        )
        gathered.append(found)
        sizes.append(times)
        sizes_mean.append(np.minimum(mean_units + found.joined, most))
    waits, services, busy = shared_device(streams)
    means: dict[Key, FloatArray] = {}
    variances: dict[Key, FloatArray] = {}
    split: dict[Key, tuple[FloatArray, FloatArray, FloatArray]] = {}
    for place, (stage, classes) in enumerate(tenants):
        stretch = services[place].mean / streams[place].seconds
        for one, time in zip(classes, sizes[place], strict=True):
            parts = (gathered[place].wait.mean, waits[place].mean, time * stretch)
            split[stage, one] = parts
            means[stage, one] = parts[0] + parts[1] + parts[2]
            variances[stage, one] = (
                gathered[place].wait.variance + waits[place].variance + services[place].variance
            )
    batches = [(mean, stream.seconds) for mean, stream in zip(sizes_mean, streams, strict=True)]
    return UnitTable(means, variances, split, busy, [stream.busy for stream in streams], batches)


def shares_of(problem: EnsembleProblem, stage: int, classes: Sequence[int]) -> tuple[list[float], list[int]]:
    """Return requests per second, and units of a request, by class."""
    chosen = [problem.classes[one] for one in classes]
    return [each.rate for each in chosen], [problem.stages[stage].units(each) for each in chosen]


def unit_seconds(problem: EnsembleProblem, stage: int, profile: str | None, units: FloatArray) -> FloatArray:
    """Return the time of batches of a stage alone on a unit, s."""
    work = problem.stages[stage].gpu
    assert work is not None
    return batch_seconds(
        work, problem.profiles[profile], problem.calibration, units,
        graphs=problem.job.cuda_graphs, share=problem.compute_share(profile),
    )  # fmt: skip


def unit_bytes(problem: EnsembleProblem, tenants: Sequence[tuple[int, int]]) -> float:
    """Return the device memory of tenants (stage, largest batch) of a unit with their context, bytes."""
    total = problem.calibration.number("context_bytes")
    for stage, batch in tenants:
        work = problem.stages[stage].gpu
        assert work is not None
        total += work.weights + batch * work.activations
    return total


def unit_room(problem: EnsembleProblem, profile: str | None) -> float:
    """Return the bytes of a unit that a plan may fill."""
    free = 1.0 - problem.calibration.number("memory_margin")
    return problem.profiles[profile].memory.value * free


def pool_part(
    problem: EnsembleProblem, stage: int, domain: Domain, count: int, workers: int
) -> list[Part | None]:
    """Return the times of all classes at one of ``count`` equal pools; ``None`` where it is too busy."""
    own = problem.stages[stage]
    rates, units = shares_of(problem, stage, range(len(problem.classes)))
    times = [service_time(own.cpu_stage(number), domain.numa) for number in units]
    scvs = [request.arrival_scv for request in problem.classes]
    wait, variance = pool_wait([rate / count for rate in rates], times, scvs, workers)
    if math.isinf(wait):
        return [None] * len(times)
    return [
        Part(whole(wait + time), square(variance), {"cpu queue": wait, "cpu": time}) for time in times
    ]  # fmt: skip


def whole(seconds: float) -> int:
    """Return a mean in ticks, rounded up."""
    return math.ceil(seconds / TICK - 1e-6)


def square(variance: float) -> int:
    """Return a variance in ticks², rounded up."""
    return math.ceil(variance / TICK**2 - 1e-3)
