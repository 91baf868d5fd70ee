"""Figures of a simulated ensemble: latency by class, where it goes, whether the limits hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.errors import SimulationError
from planner.simulate.ensemble_layout import ClassSpec
from planner.simulate.fluid import FloatArray, IntArray
from planner.simulate.measures import Window, distribution, falls_behind, percentiles, steady_window
from planner.simulate.result import JobSimulation, TimelineSpan

PARTS = ("cpu queue", "cpu", "transfer", "batch wait", "gpu queue", "gpu")
CPU_QUEUE, CPU, TRANSFER, BATCH_WAIT, GPU_QUEUE, GPU = range(len(PARTS))
FEWEST_OF_A_CLASS = 10
"""Requests below which nothing is said about a class."""


@dataclass(frozen=True, eq=False)
class EnsembleRecords:
    """What became of each request, in order of arrival.

    Attributes
    ----------
    classes, stages
        Names.
    arrivals, latency
        s; shape (n,).
    kinds
        Place of its class; shape (n,).
    times
        Time by stage and by part of `PARTS` along the slowest way, s; shape (n, stages, parts). They add up
        to the latency.
    """

    classes: tuple[str, ...]
    stages: tuple[str, ...]
    arrivals: FloatArray
    kinds: IntArray
    latency: FloatArray
    times: FloatArray

    @property
    def parts(self) -> dict[str, FloatArray]:
        """Time by part, over all stages, s; arrays of shape (n,)."""
        sums = self.times.sum(axis=1)
        return {name: sums[:, place] for place, name in enumerate(PARTS)}


def refuse_overload(job: str, classes: Sequence[ClassSpec], records: EnsembleRecords) -> None:
    """Say so when requests of a class wait ever longer.

    Raises
    ------
    SimulationError
        With what they wait for.
    """
    for kind, each in enumerate(classes):
        times = records.times[records.kinds == kind]
        waits = times.sum(axis=1)[:, [CPU_QUEUE, TRANSFER, GPU_QUEUE]].sum(axis=1)
        if not falls_behind(waits):
            continue
        stage, part = np.unravel_index(int(times[-1].argmax()), times[-1].shape)
        raise SimulationError(
            f"job {job!r}: the plan cannot keep up with {each.rate:g} requests/s of class {each.name!r}; "
            f"after {len(waits)} of them they wait {float(waits[-1]):.3g} s, and ever longer, most at "
            f"{records.stages[stage]!r} ({PARTS[part]}); lower the rates, or add instances or workers"
        )


def job_record(
    job: str,
    classes: Sequence[ClassSpec],
    records: EnsembleRecords,
    utilisation: dict[str, float],
    timeline: list[TimelineSpan],
) -> JobSimulation:
    """Return the record of a run, its figures over the steady part."""
    window = steady_window(records.arrivals, records.latency)
    kept = window.part
    latency, split = {}, {}
    for kind, each in enumerate(classes):
        mine = records.kinds[kept] == kind
        if np.count_nonzero(mine) < FEWEST_OF_A_CLASS:
            raise SimulationError(
                f"job {job!r}: {np.count_nonzero(mine)} requests of class {each.name!r} count, too few for "
                "percentiles; simulate more requests"
            )
        latency[each.name] = percentiles(records.latency[kept][mine])
        split[each.name] = dict(zip(PARTS, _mean(records.times[kept][mine].sum(axis=1)), strict=True))
    return JobSimulation(
        name=job,
        kind="ensemble",
        latency=latency,
        split=dict(zip(PARTS, _mean(records.times[kept].sum(axis=1)), strict=True)),
        class_split=split,
        attribution=_attribution(records, window),
        warm_up=window.begin,
        cool_down=len(records.arrivals) - window.end,
        throughput=_throughput(records, window),
        latency_cdf=distribution(records.latency[kept]),
        slo_met=_within_limits(classes, {name: sample.p99 for name, sample in latency.items()}),
        utilisation=utilisation,
        timeline=timeline,
    )


def _mean(rows: FloatArray) -> list[float]:
    values: list[float] = np.maximum(rows.mean(axis=0), 0.0).tolist()  # sums of differences: noise
    return values


def _attribution(records: EnsembleRecords, window: Window) -> dict[str, float]:
    """Return the share of the mean latency by stage and part, those that take some of it."""
    mean = records.times[window.part].mean(axis=0)
    whole = float(mean.sum())
    return {
        f"{stage}: {part}": float(mean[row, column]) / whole
        for row, stage in enumerate(records.stages)
        for column, part in enumerate(PARTS)
        if mean[row, column] > 0.0
    }


def _throughput(records: EnsembleRecords, window: Window) -> float | None:
    """Return the requests per second that ended while the kept ones arrived."""
    begin, end = records.arrivals[window.begin], records.arrivals[window.end - 1]
    if end <= begin:
        return None
    finish = records.arrivals + records.latency
    return float(np.count_nonzero((finish > begin) & (finish <= end)) / (end - begin))


def _within_limits(classes: Sequence[ClassSpec], tails: Mapping[str, float]) -> bool | None:
    """Return whether the 99th percentiles hold the limits of the classes; ``None`` without limits."""
    held = [tails[each.name] <= each.limit for each in classes if each.limit is not None]
    return all(held) if held else None
