"""Re-plan after a failure: the plan that keeps what is left of another one, in few moves."""

from __future__ import annotations

from dataclasses import replace

from planner.errors import PlannerError
from planner.placement import (
    JobPlan,
    Objective,
    Plan,
    Problem,
    ServingPlan,
    ServingProblem,
    TrainingPlan,
    TrainingProblem,
    connected_groups,
    make_problem,
)
from planner.solve import Budget, JobSolution
from planner.solve.baselines import serving_baselines, training_baselines
from planner.solve.jobs import training_plan
from planner.solve.keeping import KeepingSearch, kept_part
from planner.solve.keeping_service import keep_service
from planner.solve.moves import move_decisions, service_moves, training_moves
from planner.solve.services import service_plan
from planner.solve.serving import ServingSearch
from planner.solve.training import search_training
from planner.study.inputs import Documents, Sources, Study
from planner.study.solving import Solved, finished


def replan(
    documents: Documents,
    plan: Plan,
    max_moves: int | None,
    budget: Budget,
    sources: Sources | None = None,
) -> Study:
    """Return the best plan that differs from another one in at most so many moves.

    A move is a GPU of a training job that has to hold other weights, a replica of a service that gets other
    GPUs, or a CPU stage of a replica that stays but whose stage does not.

    Parameters
    ----------
    documents
        The machine as it is now.
    max_moves
        When ``None`` as many as GPUs or replicas are gone, or the fewest that work.

    Raises
    ------
    InfeasibleError
        If no plan has so few moves; it names the least number that works.
    PlannerError
        If the workload has several jobs, or the plan is of another one.
    """
    jobs = documents.workload.jobs
    old = next((job for job in plan.jobs if job.name == jobs[0].job.name), None)
    if len(jobs) > 1 or len(plan.jobs) > 1:
        raise PlannerError("plans are kept for a workload of a single job; solve without --keep")
    if old is None:
        raise PlannerError(
            f"the plan to keep has no job {jobs[0].job.name!r}; it was made from another workload"
        )
    problem = _problem(documents, old)
    solution = _kept(problem, old, max_moves, budget)
    return finished(documents, _as_solved(problem, solution), budget, sources)


def _problem(documents: Documents, old: JobPlan) -> Problem:
    """Return the problem on the group of GPUs that has most of the plan's."""
    resolved, used = documents.workload.jobs[0], set(old.gpus())
    groups = connected_groups(documents.topology)
    group = max(groups, key=lambda gpus: len(used & set(gpus)))
    return make_problem(resolved.job, resolved.model, documents.topology, documents.calibration, group)


def _kept(problem: Problem, old: JobPlan, max_moves: int | None, budget: Budget) -> JobSolution:
    if isinstance(old, TrainingPlan) and old.micro_batches:
        raise PlannerError("a plan on GPUs of several models cannot be kept; solve with --hint instead")
    if isinstance(old, ServingPlan) and old.prefill is not None:
        raise PlannerError("a plan with a pool for prompts cannot be kept; solve with --hint instead")
    if isinstance(problem, TrainingProblem) and isinstance(old, TrainingPlan):
        return _kept_training(problem, old, max_moves, budget)
    if isinstance(problem, ServingProblem) and isinstance(old, ServingPlan):
        return _kept_serving(problem, old, max_moves, budget)
    raise PlannerError(f"a plan of a {old.kind} job cannot be kept; solve without --keep")


def _kept_training(
    problem: TrainingProblem, old: TrainingPlan, max_moves: int | None, budget: Budget
) -> JobSolution:
    search = KeepingSearch(problem, kept_part(problem, old), budget)
    search.run(max_moves)
    assert search.best is not None
    best, bound = search.best, search.bound
    limit = max(search.least, search.kept.gone) if max_moves is None else max_moves
    if limit and not budget.over:
        wide = search_training(_on_fewer(problem, limit), budget, best)
        assert wide.best is not None
        best, bound = wide.best, min(bound, wide.bound)
    plan = training_plan(problem, best)
    return JobSolution(
        plan, "step_time", "s", best.seconds, bound, search.evaluated, search.visited,
        training_baselines(problem, best),
        move_decisions(training_moves(old, plan), search.least), searched=f"plans of at most {limit} moves",
    )  # fmt: skip


def _on_fewer(problem: TrainingProblem, gpus: int) -> TrainingProblem:
    """Return the problem on at most so many GPUs: every plan that cuts the model otherwise moves them all."""
    most = min(gpus, problem.num_gpus)
    limits = problem.job.budget.model_copy(update={"gpus": most})
    return replace(problem, job=problem.job.model_copy(update={"budget": limits}))


def _kept_serving(
    problem: ServingProblem, old: ServingPlan, max_moves: int | None, budget: Budget
) -> JobSolution:
    kept = keep_service(problem, old, max_moves, budget)
    best = kept.placed
    wide = ServingSearch(problem, budget, best)
    wide.run()
    if (
        wide.best is not None
        and len(service_moves(old, wide.best.strategy, wide.best.replicas)) <= kept.limit
    ):
        best = wide.best
    plan = service_plan(problem, best)
    moves = service_moves(old, plan.strategy, plan.replicas)
    return JobSolution(
        plan, problem.job.objective, problem.unit, best.value,
        min(wide.bound, best.value), wide.evaluated, wide.visited,
        serving_baselines(problem, best, budget), move_decisions(moves, kept.least),
        searched=f"plans of at most {kept.limit} moves",
    )  # fmt: skip


def _as_solved(problem: Problem, solution: JobSolution) -> Solved:
    name = solution.plan.name
    objective = Objective(name=solution.objective, value=solution.value, unit=solution.unit)
    return Solved({name: problem}, {name: solution}, objective, solution.bound, {name: 1.0}, solution.how)
