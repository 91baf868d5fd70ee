"""Why no design of an ensemble holds its limits: a smallest set of constraints in conflict, and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner import units
from planner.costs.host import service_time
from planner.errors import InfeasibleError
from planner.placement import EnsembleProblem
from planner.placement.ensemble_judge import Judged, seconds
from planner.placement.ensemble_units import unit_bytes, unit_room
from planner.solve.budget import Budget
from planner.solve.ensemble.columns import Column, columns
from planner.solve.ensemble.model import class_weights
from planner.solve.ensemble.pools import PoolOption, pool_options
from planner.solve.ensemble.relax import Relaxation
from planner.solve.ensemble.search import short_search
from planner.workload.ensembles import EnsembleSlo

BISECTIONS = 8
BRIEF = 3.0


def explain_ensemble(
    problem: EnsembleProblem, found: Sequence[Column], options: Sequence[PoolOption]
) -> InfeasibleError:
    """Return the error for an ensemble whose limits nothing holds."""
    name = problem.job.name
    alone = _hopeless_stage(problem, found, options)
    if alone is not None:
        return InfeasibleError(f"job {name!r}: {alone[0]}", alone[1], _remedy(problem))
    conflict = _conflict(problem)
    return InfeasibleError(
        f"job {name!r}: no design on {problem.num_gpus} GPUs {problem.device.name} and "
        f"{sum(domain.cores for domain in problem.domains)} free host cores holds every limit",
        conflict, _remedy(problem),
    )  # fmt: skip


def _hopeless_stage(
    problem: EnsembleProblem, found: Sequence[Column], options: Sequence[PoolOption]
) -> tuple[str, list[str]] | None:
    """Return why a stage cannot serve a class by itself, and the constraints behind it."""
    served = {key for column in found for key in column.keys}
    pooled = {option.stage for option in options}
    for index, stage in enumerate(problem.stages):
        for request, own in enumerate(problem.classes):
            if (index, request) in served or index in pooled:
                continue
            units_of = stage.units(own)
            if stage.gpu is not None and units_of > stage.gpu.max_batch:
                text = f"a request of {own.name} has {units_of} units at {stage.name}, a batch at most "
                return f"{text}{stage.gpu.max_batch}", ["max_batch", "items of a request"]
            if stage.gpu is not None and unit_bytes(problem, [(index, units_of)]) > unit_room(problem, None):
                return f"{stage.name} does not fit into the memory of a GPU", ["GPU memory", "weights"]
            if stage.cpu is not None and stage.gpu is None:
                need = sum(
                    each.rate * service_time(stage.cpu_stage(stage.units(each)), problem.domains[0].numa)
                    for each in problem.classes
                ) * stage.cpu.parallel  # fmt: skip
                room = sum(domain.cores for domain in problem.domains)
                text = f"{stage.name} keeps {need:.3g} host cores busy, {room} are free"
                return text, [f"{room} host cores", "offered rates"]
            return f"no batch of {stage.name} is fast enough for {own.name}", ["latency_p99", "offered rates"]
    return None


def _conflict(problem: EnsembleProblem) -> list[str]:
    """Return constraints that the relaxation cannot hold together, none of which can go (deletion filter)."""
    gpus = f"{problem.num_gpus} GPUs"
    names = [f"latency_p99 of {each.name}" for each in problem.classes if each.slo.latency_p99 is not None]
    kept = [*names, gpus]
    for name in list(kept):
        left = [other for other in kept if other != name]
        if not _holds(_with(problem, left, names), free=gpus not in left):
            kept = left
    cores = sum(domain.cores for domain in problem.domains)
    return [*kept, f"{cores} host cores", "offered rates"]


def _with(problem: EnsembleProblem, kept: Sequence[str], names: Sequence[str]) -> EnsembleProblem:
    classes = [
        each
        if f"latency_p99 of {each.name}" in kept or f"latency_p99 of {each.name}" not in names
        else each.model_copy(update={"slo": EnsembleSlo()})
        for each in problem.job.classes
    ]
    return replace(problem, job=problem.job.model_copy(update={"classes": classes}))


def _holds(problem: EnsembleProblem, *, free: bool = False) -> bool:
    """Whether the relaxation has a solution, on any number of GPUs where they are free."""
    gpus = np.inf if free else None
    weights = class_weights(problem)
    relaxation = Relaxation(problem, columns(problem), pool_options(problem), weights, gpus)
    return bool(np.isfinite(relaxation.solve().value))


def _remedy(problem: EnsembleProblem) -> str:
    """Return the nearest changes: limits that a plan without limits would hold, a rate that can be held."""
    remedies = []
    free = _with(problem, [], [f"latency_p99 of {each.name}" for each in problem.classes])
    reached = short_search(free, columns(free), pool_options(free), Budget(seconds=BRIEF))
    if reached.design is not None:
        tails = Judged(free, reached.design).tails
        for request, tail in zip(problem.classes, tails, strict=True):
            limit = request.slo.latency_p99
            if limit is not None and seconds(tail) > limit:
                remedies.append(f"latency_p99 of {request.name} of {units.show(seconds(tail), 's')}")
        if remedies:
            remedies = [" and ".join(remedies)]
    share = _largest_share(problem)
    if share is not None:
        remedies.append(f"{share:.0%} of the offered rates")
    if not remedies:
        return (
            "nearest change: more GPUs or cores, cheaper stages, or more tenants of a GPU ('allow.tenants')"
        )
    return "nearest change, each alone: " + ", or ".join(remedies) + ", or more GPUs or cores"


def _largest_share(problem: EnsembleProblem) -> float | None:
    """Return the largest part of the offered rates at which the relaxation holds the limits."""

    def holds(share: float) -> bool:
        classes = [each.model_copy(update={"rate": each.rate * share}) for each in problem.job.classes]
        slower = replace(problem, job=problem.job.model_copy(update={"classes": classes}))
        return _holds(slower)

    low, high = 1e-3, 1.0
    if not holds(low):
        return None
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
