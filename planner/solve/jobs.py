"""Solve one job and assemble its part of the plan."""

from __future__ import annotations

from collections.abc import Sequence

from planner.errors import NoPlanError
from planner.placement import (
    EnsembleProblem,
    JobPlan,
    OperatorsProblem,
    Problem,
    RecommenderProblem,
    TrainingPlan,
    TrainingProblem,
    judge_training,
    memory_records,
    prediction,
)
from planner.placement.bindings import gpu_bindings
from planner.schema import compress
from planner.solve.baselines import training_baselines
from planner.solve.budget import Budget
from planner.solve.cuts import AnyCut, EnsembleCut
from planner.solve.ensemble import solve_ensemble
from planner.solve.graphs import solve_operators_job
from planner.solve.hints import training_hint
from planner.solve.infeasible import explain_training
from planner.solve.recommender import solve_recommender
from planner.solve.rings import search_machine
from planner.solve.services import solve_service
from planner.solve.solution import JobSolution, no_plan
from planner.solve.training import PlacedStrategy
from planner.solve.why import training_decisions


def solve_job(
    problem: Problem,
    budget: Budget,
    *,
    explain: bool = True,
    start: JobPlan | None = None,
    cuts: Sequence[AnyCut] = (),
) -> JobSolution:
    """Return the best plan of a job with its bound.

    Parameters
    ----------
    explain
        Whether to work out baselines and the runner-up of every decision.
    start
        A plan of a training or serving job whose decisions, where legal here, are the first incumbent.
    cuts
        Strategies of a serving job, or designs of an ensemble, that are left out.

    Raises
    ------
    InfeasibleError
        If no plan can exist; it names the constraints in conflict and the nearest change.
    NoPlanError
        If the budget ended before any plan was found.
    """
    if isinstance(problem, TrainingProblem):
        return _solve_training(problem, budget, start, explain=explain)
    if isinstance(problem, OperatorsProblem):
        return solve_operators_job(problem, budget, explain=explain)
    if isinstance(problem, RecommenderProblem):
        return solve_recommender(problem, budget, explain=explain)
    if isinstance(problem, EnsembleProblem):
        own = [cut for cut in cuts if isinstance(cut, EnsembleCut)]
        return solve_ensemble(problem, budget, explain=explain, cuts=own)
    return solve_service(problem, budget, start, cuts, explain=explain)


def _solve_training(
    problem: TrainingProblem, budget: Budget, start: JobPlan | None, *, explain: bool
) -> JobSolution:
    hint = training_hint(problem, start)
    search = search_machine(problem, budget, hint.placed)
    if search.best is None:
        if search.bound < float("inf"):
            raise NoPlanError(no_plan(problem.job.name, budget), search.bound)
        raise explain_training(problem)
    best = search.best
    plan = training_plan(problem, best)
    baselines = training_baselines(problem, best) if explain else []
    decisions = training_decisions(search, best, budget) if explain else []
    decisions = [*hint.decisions(best.seconds), *decisions]
    return JobSolution(
        plan,
        "step_time",
        "s",
        best.seconds,
        search.bound,
        search.evaluated,
        search.visited,
        baselines,
        decisions,
    )


def training_plan(problem: TrainingProblem, best: PlacedStrategy) -> TrainingPlan:
    """Return the plan record of a placed strategy."""
    outcome = judge_training(problem, best.strategy, best.layers, best.devices, best.again)
    nodes = dict.fromkeys(device.split("/", 1)[0] for device in best.devices)
    machines = {
        problem.topology.node_of[node].machine.name: problem.topology.node_of[node].machine for node in nodes
    }
    return TrainingPlan(
        name=problem.job.name,
        model=problem.model.name,
        strategy=best.strategy,
        num_micro_batches=problem.job.global_batch // (best.strategy.dp * best.strategy.micro_batch),
        layers=best.layers,
        recompute_layers=list(best.again),
        devices=compress(best.devices),
        bindings=[binding for machine in machines.values() for binding in gpu_bindings(machine)],
        memory=memory_records(problem, outcome),
        prediction=prediction(problem, best.strategy, outcome),
    )
