"""What other numbers of GPUs would give: for each the strategy of least time as the search prices it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.placement import (
    JobPlan,
    Plan,
    ServingPlan,
    ServingProblem,
    Strategy,
    TrainingPlan,
    TrainingProblem,
    as_strategy,
)
from planner.placement.training import as_candidates
from planner.solve import Budget
from planner.solve.degrees import strategies
from planner.solve.serving import serving_strategies, span_options, table_of
from planner.solve.training import TrainingSearch
from planner.study.inputs import Study

KEPT = ("micro_batch", "recompute", "overlap", "offload")
"""Switches that alternatives of a training plan share with it; degrees and sharding vary."""


@dataclass(frozen=True)
class Alternative:
    """A strategy on a number of GPUs and the least time that it can take.

    Attributes
    ----------
    seconds
        Lower bound, before placement, of the step time or of the 99th percentile of the latency, s.
    """

    strategy: Strategy
    gpus: int
    seconds: float


def alternatives(study: Study) -> dict[str, list[Alternative]]:
    """Return, for each job that runs a transformer, the best alternative of every number of GPUs."""
    found = {}
    for job in study.plan.jobs:
        problem = study.problems[job.name]
        many: Sequence[Alternative] = ()
        if isinstance(problem, TrainingProblem) and isinstance(job, TrainingPlan):
            many = list(_training(problem, job))
        if isinstance(problem, ServingProblem) and isinstance(job, ServingPlan):
            many = list(_serving(problem))
        best: dict[int, Alternative] = {}
        for one in sorted(many, key=lambda one: one.seconds):
            best.setdefault(one.gpus, one)
        if len(best) > 1:
            proven = study.plan.bound if _bounds_time(study.plan) else 0.0
            found[job.name] = [
                replace(one, seconds=max(one.seconds, proven)) for _, one in sorted(best.items())
            ]
    return found


def _bounds_time(plan: Plan) -> bool:
    """Whether what was proven of a plan is a bound of the time of every alternative."""
    return len(plan.jobs) == 1 and plan.objective.name in ("step_time", "p99_latency")


def front(found: Sequence[Alternative]) -> list[Alternative]:
    """Return the alternatives that none with as few GPUs or fewer is as fast as; fewest GPUs first."""
    kept: list[Alternative] = []
    for one in sorted(found, key=lambda one: (one.gpus, one.seconds)):
        if not kept or one.seconds < kept[-1].seconds:
            kept.append(one)
    return kept


def time_of(job: JobPlan) -> float | None:
    """Return the predicted time of a plan that its alternatives are compared with, s."""
    if isinstance(job, TrainingPlan):
        return job.prediction.step_time
    return job.prediction.latency_p99 if isinstance(job, ServingPlan) else None


def _training(problem: TrainingProblem, job: TrainingPlan) -> Iterator[Alternative]:
    search, many, own = TrainingSearch(problem, Budget()), strategies(problem), as_candidates(job.strategy)
    same = [getattr(many, name) == getattr(own, name) for name in KEPT]
    same.append((many.virtual == 1) | (many.virtual == own.virtual))
    search.evaluate(many.take(np.flatnonzero(np.logical_and.reduce(same))))
    for priced in search.priced:
        order = np.argsort(priced.bounds, kind="stable")
        _, first = np.unique(priced.many.ranks[order], return_index=True)
        for row in order[first][np.isfinite(priced.bounds[order[first]])]:
            strategy = as_strategy(priced.many, int(row))
            yield Alternative(strategy, strategy.num_ranks, float(priced.bounds[row]))


def _serving(problem: ServingProblem) -> Iterator[Alternative]:
    table = table_of(problem, span_options(problem, serving_strategies(problem)))
    within = np.logical_and.reduce(list(table.limits(problem).values()))
    seconds = table.costs.latency_p99 + table.host
    for row in np.flatnonzero(within & np.isfinite(seconds)):
        strategy, _ = table.options[row]
        yield Alternative(strategy, strategy.num_ranks, float(seconds[row]))
