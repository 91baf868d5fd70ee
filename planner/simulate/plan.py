"""Simulate a whole plan: every job by itself, the links of all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from planner.errors import SimulationError
from planner.placement import (
    EnsemblePlan,
    EnsembleProblem,
    JobPlan,
    OperatorsPlan,
    OperatorsProblem,
    Plan,
    RecommenderPlan,
    RecommenderProblem,
    ServingPlan,
    ServingProblem,
    TrainingPlan,
    TrainingProblem,
)
from planner.placement.mixed import AnyProblem, MixedTrainingProblem
from planner.simulate.ensemble import simulate_ensemble
from planner.simulate.graphs import simulate_operators
from planner.simulate.link_use import busiest
from planner.simulate.measures import RequestRecords
from planner.simulate.mixed import simulate_mixed
from planner.simulate.outcome import JobOutcome
from planner.simulate.recommender import simulate_recommender
from planner.simulate.result import LinkUse, SimulationResult
from planner.simulate.scenario import Scenario
from planner.simulate.serving import simulate_serving
from planner.simulate.training import ScheduleName, simulate_training
from planner.topology import Router


def simulate_plan(
    problems: Mapping[str, AnyProblem],
    plan: Plan,
    *,
    seed: int = 0,
    requests: int = 4000,
    traces: Mapping[str, Path] | None = None,
    schedule: ScheduleName = "plan",
    scenario: Scenario | None = None,
    collect: Callable[[str, RequestRecords], None] | None = None,
) -> SimulationResult:
    """Simulate every job of a plan.

    Parameters
    ----------
    problems
        The problem of each job by name.
    seed
        Of all random streams; training has none but those of a scenario.
    requests
        Requests that arrive per serving job.
    traces
        Files of recorded traffic by job, where they are not what the job itself names.
    schedule, scenario
        Of training jobs; see `simulate_training`.
    collect
        Is called with the name and the requests of every serving job.

    Raises
    ------
    SimulationError
        If a job has no problem of its kind or no simulation, or a serving plan cannot keep up with its
        offered rate.

    Notes
    -----
    Jobs have GPUs of their own; links that they share are simulated for each job by itself, and their loads
    are added up, as if each job went on for the whole horizon.
    """
    if scenario is not None and not any(isinstance(job, TrainingPlan) for job in plan.jobs):
        raise SimulationError(
            f"scenario {scenario.name!r}: the plan has no training job that it could disturb"
        )
    train = partial(_train, schedule=schedule, scenario=scenario, seed=seed)
    routers: dict[int, Router] = {}
    outcomes = []
    for job in plan.jobs:
        if job.name not in problems:
            known = ", ".join(problems) or "none"
            raise SimulationError(f"no problem for the job {job.name!r} of the plan; there are: {known}")
        problem = problems[job.name]
        router = routers.setdefault(id(problem.topology), Router(problem.topology))
        trace = (traces or {}).get(job.name)
        outcomes.append(_simulate_job(problem, job, seed, requests, trace, router, train))
    for outcome in outcomes:
        if collect is not None and outcome.requests is not None:
            collect(outcome.job.name, outcome.requests)
    horizon = max(outcome.horizon for outcome in outcomes)
    return SimulationResult(
        plan=plan.name,
        plan_digest=plan.content_digest,
        seed=seed,
        horizon=horizon,
        jobs=[outcome.job for outcome in outcomes],
        links=busiest(merged([outcome.links for outcome in outcomes], horizon)),
    )


def _simulate_job(
    problem: AnyProblem,
    job: JobPlan,
    seed: int,
    requests: int,
    trace: Path | None,
    router: Router,
    train: Callable[[TrainingProblem | MixedTrainingProblem, TrainingPlan, Router], JobOutcome],
) -> JobOutcome:
    if isinstance(problem, TrainingProblem | MixedTrainingProblem) and isinstance(job, TrainingPlan):
        return train(problem, job, router)
    if isinstance(problem, ServingProblem) and isinstance(job, ServingPlan):
        return simulate_serving(problem, job, seed=seed, requests=requests, trace=trace, router=router)
    if isinstance(problem, OperatorsProblem) and isinstance(job, OperatorsPlan):
        return simulate_operators(problem, job)
    if isinstance(problem, EnsembleProblem) and isinstance(job, EnsemblePlan):
        return simulate_ensemble(problem, job, seed=seed, requests=requests, router=router)
    if isinstance(problem, RecommenderProblem) and isinstance(job, RecommenderPlan):
        return simulate_recommender(problem, job, router)
    raise SimulationError(
        f"the plan of job {job.name!r} is a {job.kind} plan, its problem is of another kind"
    )


def _train(
    problem: TrainingProblem | MixedTrainingProblem,
    plan: TrainingPlan,
    router: Router,
    *,
    schedule: ScheduleName,
    scenario: Scenario | None,
    seed: int,
) -> JobOutcome:
    if isinstance(problem, TrainingProblem):
        return simulate_training(problem, plan, router, schedule=schedule, scenario=scenario, seed=seed)
    if scenario is not None:
        raise SimulationError(
            f"scenario {scenario.name!r}: job {plan.name!r} runs on GPUs of several models, and scenarios "
            "disturb training on one model only"
        )
    return simulate_mixed(problem, plan, router, schedule=schedule)


def merged(uses: Sequence[Sequence[LinkUse]], horizon: float) -> list[LinkUse]:
    """Return one record per link over a horizon, s: loads add up, the busiest job gives the series."""
    if len(uses) == 1:
        return list(uses[0])
    found: dict[tuple[str, str], LinkUse] = {}
    for links in uses:
        for link in links:
            key = link.source, link.target
            found[key] = _sum(found[key], link) if key in found else link
    return [link.model_copy(update={"carried": link.mean * link.rate * horizon}) for link in found.values()]


def _sum(left: LinkUse, right: LinkUse) -> LinkUse:
    busier = left if left.mean >= right.mean else right
    return busier.model_copy(
        update={
            "mean": min(left.mean + right.mean, 1.0),
            "peak": min(left.peak + right.peak, 1.0),
            "saturated": max(left.saturated, right.saturated),
            "waiting": left.waiting + right.waiting,
        }
    )
