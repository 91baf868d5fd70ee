"""Solve one job and assemble its part of the plan."""

from __future__ import annotations

from collections.abc import Sequence

from planner.errors import InfeasibleError, NoPlanError
from planner.placement import (
    Batching,
    JobPlan,
    OperatorsProblem,
    Problem,
    RecommenderProblem,
    ServingPlan,
    ServingProblem,
    TrainingPlan,
    TrainingProblem,
    judge_training,
    memory_records,
    prediction,
    serving_memory,
    serving_prediction,
)
from planner.placement.bindings import gpu_bindings, with_core_lists
from planner.schema import compress
from planner.solve.baselines import even_layers, serving_baselines, training_baselines
from planner.solve.budget import Budget
from planner.solve.cuts import Cut, allowed
from planner.solve.degrees import powers_of_two
from planner.solve.graphs import solve_operators_job
from planner.solve.hints import Hint, serving_hint, training_hint
from planner.solve.infeasible import explain_serving, explain_training
from planner.solve.recommender import solve_recommender
from planner.solve.rings import search_machine
from planner.solve.serving import PlacedService, ServingSearch, serving_strategies
from planner.solve.solution import JobSolution
from planner.solve.training import PlacedStrategy
from planner.solve.why import serving_decisions, training_decisions


def solve_job(
    problem: Problem,
    budget: Budget,
    *,
    explain: bool = True,
    start: JobPlan | None = None,
    cuts: Sequence[Cut] = (),
) -> JobSolution:
    """Return the best plan of a job with its bound.

    Parameters
    ----------
    explain
        Whether to work out baselines and the runner-up of every decision.
    start
        A plan of a training or serving job whose decisions, where legal here, are the first incumbent.
    cuts
        Strategies of a serving job that are left out.

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
    return _solve_serving(problem, budget, start, cuts, explain=explain)


def _solve_training(
    problem: TrainingProblem, budget: Budget, start: JobPlan | None, *, explain: bool
) -> JobSolution:
    hint = training_hint(problem, start)
    search = search_machine(problem, budget, hint.placed)
    if search.best is None:
        if search.bound < float("inf"):
            raise NoPlanError(_no_plan(problem.job.name, budget), search.bound)
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


def _no_plan(name: str, budget: Budget) -> str:
    if budget.stopped():
        return f"job {name!r}: interrupted before there was a plan; let it run longer"
    if budget.over:
        return f"job {name!r}: no plan within {budget.seconds:g} s; give more time with --time-limit"
    return f"job {name!r}: no strategy that may fit could be placed, nor proven impossible; narrow 'degrees'"


def training_plan(problem: TrainingProblem, best: PlacedStrategy) -> TrainingPlan:
    """Return the plan record of a placed strategy."""
    outcome = judge_training(problem, best.strategy, best.layers, best.devices)
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
        devices=compress(best.devices),
        bindings=[binding for machine in machines.values() for binding in gpu_bindings(machine)],
        memory=memory_records(problem, outcome),
        prediction=prediction(problem, best.strategy, outcome),
    )


def _solve_serving(
    problem: ServingProblem, budget: Budget, start: JobPlan | None, cuts: Sequence[Cut], *, explain: bool
) -> JobSolution:
    hint, strategies = serving_hint(problem, start), allowed(problem, serving_strategies(problem), cuts)
    if hint.placed is not None and not allowed(problem, [hint.placed.strategy], cuts):
        hint = Hint(reason="its simulation breaks a limit")
    search = ServingSearch(problem, budget, hint.placed)
    search.run(strategies)
    if search.best is None:
        if search.bound < float("inf"):
            raise NoPlanError(_no_plan(problem.job.name, budget), search.bound)
        if cuts:
            raise InfeasibleError(f"job {problem.job.name!r}: no strategy is left", remedy="")
        raise explain_serving(problem)
    best = search.best
    plan = serving_plan(problem, best)
    baselines = serving_baselines(problem, best, budget) if explain else []
    decisions = serving_decisions(problem, best, budget, strategies) if explain else []
    decisions = [*hint.decisions(best.value), *decisions]
    unit = "GPUs" if problem.job.objective == "gpus" else "s"
    return JobSolution(
        plan,
        problem.job.objective,
        unit,
        best.value,
        search.bound,
        search.evaluated,
        search.visited,
        baselines,
        decisions,
    )


def serving_plan(problem: ServingProblem, best: PlacedService) -> ServingPlan:
    """Return the plan record of a placed service."""
    nodes = {replica.node: problem.topology.node_of[replica.node].machine for replica in best.replicas}
    kept = int(problem.calibration.number("host_cores_per_gpu"))
    model = best.outcome.model
    max_batch = int(model.max_batch[0])
    machines = {machine.name: machine for machine in nodes.values()}
    return ServingPlan(
        name=problem.job.name,
        model=problem.model.name,
        strategy=best.strategy,
        layers=even_layers(problem.model.layers, best.strategy.pp),
        replicas=with_core_lists(best.replicas, nodes, kept),
        bindings=[binding for machine in machines.values() for binding in gpu_bindings(machine, kept)],
        batching=Batching(
            max_batch=max_batch,
            max_tokens=int(problem.calibration.number("prefill_chunk")),
            graph_shapes=powers_of_two(max_batch) if problem.job.cuda_graphs else [],
        ),
        memory=serving_memory(problem, best.strategy, model, max_batch),
        prediction=serving_prediction(problem, best.outcome, best.strategy),
    )
