"""Figures that a gate can check, by name: where each is read and which direction is worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from planner.calibrate.verification import Verification
from planner.costs import Calibration
from planner.placement.plan import JobPlan, Plan, ServingPlan, TrainingPlan
from planner.simulate.result import SimulationResult

NORMAL_975 = 1.959963984540054
"""97.5th percentile of the standard normal law: 95 % intervals reach so many deviations to both sides."""


@dataclass(frozen=True)
class Reading:
    """One value of a figure.

    Attributes
    ----------
    job
        Job that it belongs to, empty for the whole document.
    deviation
        Standard error of the value; 0 where it is exact.
    """

    value: float
    job: str = ""
    deviation: float = 0.0


@dataclass(frozen=True)
class Metric:
    """A figure of a kind of document.

    Attributes
    ----------
    worse
        Direction in which the figure gets worse.
    compared
        Whether it is compared with a baseline where nobody lists the checks.
    """

    document: str
    dimension: str
    worse: Literal["up", "down"]
    read: Callable[[Any], Iterator[Reading]]
    compared: bool = False


def _gap(plan: Plan) -> Iterator[Reading]:
    yield Reading(plan.gap)


def _assumed(plan: Plan) -> Iterator[Reading]:
    yield Reading(plan.assumed_share)


def _headroom(plan: Plan) -> Iterator[Reading]:
    """Yield the free share of the fullest device of each job."""
    for job in plan.jobs:
        if job.memory:
            yield Reading(min(1.0 - stage.total / stage.capacity for stage in job.memory), job.name)


def _planned(kind: type[JobPlan], field: str) -> Callable[[Plan], Iterator[Reading]]:
    def read(plan: Plan) -> Iterator[Reading]:
        for job in plan.jobs:
            if isinstance(job, kind):
                yield Reading(float(getattr(job.prediction, field)), job.name)

    return read


def _busiest(plan: Plan) -> Iterator[Reading]:
    if plan.links:
        yield Reading(max(link.utilisation for link in plan.links))


def _percentile(metric: str, level: str) -> Callable[[SimulationResult], Iterator[Reading]]:
    def read(result: SimulationResult) -> Iterator[Reading]:
        for job in result.jobs:
            found = job.latency.get(metric)
            if found is not None:
                low, high = getattr(found, f"{level}_interval", (found.mean, found.mean))
                yield Reading(float(getattr(found, level)), job.name, (high - low) / 2.0 / NORMAL_975)

    return read


def _of_job(field: str) -> Callable[[SimulationResult], Iterator[Reading]]:
    def read(result: SimulationResult) -> Iterator[Reading]:
        for job in result.jobs:
            value = getattr(job, field)
            if value is not None:
                yield Reading(float(value), job.name)

    return read


def _missed(result: SimulationResult) -> Iterator[Reading]:
    """Yield 1 for a job that breaks a limit in simulation, 0 for one that keeps all of its own."""
    for job in result.jobs:
        if job.slo_met is not None:
            yield Reading(0.0 if job.slo_met else 1.0, job.name)


def _link(field: str) -> Callable[[SimulationResult], Iterator[Reading]]:
    def read(result: SimulationResult) -> Iterator[Reading]:
        if result.links:
            yield Reading(max(float(getattr(link, field)) for link in result.links))

    return read


def _residual(calibration: Calibration) -> Iterator[Reading]:
    known = [one.residual for one in calibration.coefficients.values() if one.residual is not None]
    if known:
        yield Reading(max(known))


def _typical_error(found: Verification) -> Iterator[Reading]:
    if found.median_error is not None:
        yield Reading(found.median_error)


def _worst_error(found: Verification) -> Iterator[Reading]:
    if found.rows:
        yield Reading(max(abs(row.error) for row in found.rows))


def _nothing(_: Any) -> Iterator[Reading]:
    yield from ()


def _simulated() -> Iterator[tuple[str, Metric]]:
    for metric in ("latency", "ttft", "tpot"):
        for level in ("mean", "p50", "p95", "p99"):
            compared = level != "mean"
            yield (
                f"simulation.{metric}.{level}",
                Metric("simulation", "s", "up", _percentile(metric, level), compared),
            )


METRICS: Mapping[str, Metric] = {
    "plan.gap": Metric("plan", "1", "up", _gap),
    "plan.assumed_share": Metric("plan", "1", "up", _assumed),
    "plan.memory_headroom": Metric("plan", "1", "down", _headroom),
    "plan.link_peak": Metric("plan", "1", "up", _busiest),
    "plan.step_time": Metric("plan", "s", "up", _planned(TrainingPlan, "step_time"), True),
    "plan.latency.p99": Metric("plan", "s", "up", _planned(ServingPlan, "latency_p99"), True),
    "plan.ttft.p99": Metric("plan", "s", "up", _planned(ServingPlan, "ttft_p99"), True),
    "plan.tpot.p99": Metric("plan", "s", "up", _planned(ServingPlan, "tpot_p99"), True),
    **dict(_simulated()),
    "simulation.step_time": Metric("simulation", "s", "up", _of_job("step_time"), True),
    "simulation.throughput": Metric("simulation", "1", "down", _of_job("throughput"), True),
    "simulation.slo_missed": Metric("simulation", "1", "up", _missed),
    "simulation.link_peak": Metric("simulation", "1", "up", _link("peak")),
    "simulation.link_saturated": Metric("simulation", "1", "up", _link("saturated")),
    "calibration.residual": Metric("calibration", "1", "up", _residual),
    "verification.median_error": Metric("verification", "1", "up", _typical_error),
    "verification.worst_error": Metric("verification", "1", "up", _worst_error),
    "calibration.drift": Metric("calibration", "1", "up", _nothing),
}
"""Every figure by name. ``calibration.drift`` is the largest change of a coefficient against the baseline."""
