"""One training job on a cluster of several device models: the best of one model alone and of all together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.costs.strategy import BLOCK
from planner.errors import InfeasibleError, NoPlanError
from planner.placement import Baseline, Decision, JobPlan, Problem, TrainingPlan
from planner.placement.mixed import (
    AnyProblem,
    MixedPlacement,
    MixedTrainingProblem,
    check_mixed,
    judge_mixed,
    make_mixed_problem,
)
from planner.placement.mixed_plan import mixed_plan, placement_of
from planner.solve import Budget, JobSolution
from planner.solve.degrees import degree_choices
from planner.solve.hints import excluded
from planner.solve.mixed import MixedSolution, even_placement, search_mixed
from planner.solve.mixed.space import mixed_strategies, price
from planner.study.inputs import Documents
from planner.workload import ResolvedJob, TrainingJob, Transformer

PLAIN = {"virtual": 1, "ep": 1, "overlap": 0, "offload": 0}
"""What every mixed plan has of the degrees that it does not choose."""


def mixed_problem(documents: Documents, resolved: ResolvedJob) -> MixedTrainingProblem | None:
    """Return the problem of a job on GPUs of several models together, ``None`` where it cannot use them so.

    It can where the cluster has several models on one network, and the job is the training of a model
    without experts whose degrees allow what every mixed plan has.
    """
    topology, job, model = documents.topology, resolved.job, resolved.model
    if not isinstance(job, TrainingJob) or not isinstance(model, Transformer) or model.experts is not None:
        return None
    if len({topology.device(gpu).name for gpu in topology.gpus}) < 2:
        return None
    if len(set(topology.hierarchy.levels[-1].domain_of)) > 1:
        return None
    problem = make_mixed_problem(job, model, topology, documents.calibration)
    choices = degree_choices(problem.kinds[0])
    plain = all(value in choices[name] for name, value in PLAIN.items())
    return problem if plain and choices["recompute"] != [BLOCK] else None


def best_with_mixed(
    problem: MixedTrainingProblem,
    budget: Budget,
    one_model: Callable[[], tuple[Problem, JobSolution, float]],
    explained: Callable[[Problem], JobSolution],
    start: JobPlan | None = None,
) -> tuple[AnyProblem, JobSolution, float]:
    """Return the best of GPUs of one model and of several together, with the bound over both.

    Parameters
    ----------
    one_model
        Solves the job on GPUs of one model: the problem, its solution, and the bound over all models.
    explained
        Solves it again with reasons, where that is the best.
    start
        A plan whose decisions, where legal here, are the first incumbent.

    Raises
    ------
    InfeasibleError
        If the job fits in neither way.
    NoPlanError
        If the time ended before there was a plan.
    """
    own: Problem | None = None
    alone: JobSolution | None = None
    refused: InfeasibleError | NoPlanError | None = None
    try:
        own, alone, bound = one_model()
    except InfeasibleError as error:
        refused, bound = error, float("inf")
    except NoPlanError as error:
        refused, bound = error, error.bound or 0.0
    limit = float("inf") if alone is None else alone.value
    found = search_mixed(problem, budget, limit, _hinted(problem, start))
    bound = min(bound, found.bound)
    if found.placement is not None:
        return problem, _solution(problem, found, alone), bound
    if own is not None and alone is not None:
        again = alone if budget.over else explained(own)
        alone = again if again.value <= alone.value else alone
        return own, replace(alone, searched=f"{alone.how}; {_searched(found)}"), bound
    if bound == float("inf") and refused is not None:
        raise refused
    raise NoPlanError(f"job {problem.job.name!r}: no plan on GPUs of any models within the time", bound)


def _hinted(problem: MixedTrainingProblem, plan: JobPlan | None) -> MixedPlacement | None:
    """Return the decisions of a plan on GPUs of several models, ``None`` where they are not legal here."""
    if not isinstance(plan, TrainingPlan) or not plan.micro_batches:
        return None
    placement = placement_of(plan)
    broken = [*excluded(problem.kinds[0], plan.strategy), *check_mixed(problem, placement)]
    return None if broken else placement


def _searched(found: MixedSolution) -> str:
    return f"on GPUs of several models together {found.evaluated:,} priced, {found.visited:,} placed"


def _solution(problem: MixedTrainingProblem, found: MixedSolution, alone: JobSolution | None) -> JobSolution:
    assert found.placement is not None
    plan = mixed_plan(problem, found.placement)
    seconds = judge_mixed(problem, found.placement).step_time
    rules = {"best on GPUs of one model": None if alone is None else alone.value}
    even = even_placement(problem, price(problem, mixed_strategies(problem)))
    rules["even split over all GPUs"] = None if even is None else even[1]
    chosen = ", ".join(dict.fromkeys(plan.device_models))
    decision = Decision(
        decision="GPUs of several models",
        chosen=chosen,
        alternative="GPUs of one model",
        loss=None if alone is None else alone.value / seconds - 1.0,
        reason="stages have layers, and replicas micro-batches, as their GPUs are fast",
    )
    before = f"{alone.how}; " if alone is not None else ""
    return JobSolution(
        plan,
        "step_time",
        "s",
        seconds,
        found.bound,
        found.evaluated + (alone.evaluated if alone else 0),
        found.visited + (alone.visited if alone else 0),
        [
            Baseline(name=name, value=value, ratio=None if value is None else value / seconds)
            for name, value in rules.items()
        ],
        [decision],
        searched=before + _searched(found),
    )
