"""Two pools for prompts and answers: the search against brute force, and laws that every optimum obeys."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.placement import (
    Replica,
    ServingPlan,
    ServingProblem,
    Strategy,
    check_job,
    limits_broken,
    objective,
)
from planner.placement.pools import PlacedPool, judge_pools
from planner.solve import Budget, solve_job
from planner.workload import ServingJob
from tests.laws.brute_force import best_serving, distinct_orders, on_host
from tests.laws.instances import MachineCase, machine_cases, pool_jobs, problem_of
from tests.laws.optimum import RELATIVE, optimum


def alike() -> st.SearchStrategy[MachineCase]:
    """Draw machines whose hosts reach their GPUs equally fast: else the gap stays open by microseconds."""
    return machine_cases().map(
        lambda case: replace(case, boxes=tuple(replace(box, pcie=case.boxes[0].pcie) for box in case.boxes))
    )


def best_pools(problem: ServingProblem) -> float:
    """Return the least objective over all pairs of strategies, numbers of replicas and orders of GPUs."""
    degrees, best = problem.job.degrees, float("inf")
    every = [Strategy(tp=tp, dp=dp) for tp, dp in product(degrees.tp or [1], degrees.replicas or [1])]
    for prefill, decode in product(every, every):
        sizes = [strategy.num_ranks for strategy in (prefill, decode)]
        if sum(sizes) > problem.num_gpus:
            continue
        for order in distinct_orders(problem, sum(sizes)):
            first, second = (
                placed(problem, strategy, gpus)
                for strategy, gpus in ((prefill, order[: sizes[0]]), (decode, order[sizes[0] :]))
            )
            outcome = judge_pools(problem, first, second)
            if not limits_broken(problem, outcome):
                best = min(
                    best, float(sum(sizes)) if problem.job.objective == "gpus" else outcome.latency_p99
                )
    return best


def placed(problem: ServingProblem, strategy: Strategy, gpus: list[str]) -> PlacedPool:
    """Return replicas on GPUs in order, each with its fastest transfers."""
    size = strategy.tp
    groups = [gpus[start : start + size] for start in range(0, len(gpus), size)]
    replicas = [
        on_host(problem, Replica(name=f"r{index}", node=group[0].split("/")[0], devices=group))
        for index, group in enumerate(groups)
    ]
    return PlacedPool(strategy, replicas)


def solved(job: ServingJob, case: MachineCase) -> tuple[ServingProblem, ServingPlan]:
    """Return the problem of a job with its best plan."""
    problem = problem_of(job, case)
    plan = solve_job(problem, Budget(seconds=30.0), explain=False).plan
    assert isinstance(problem, ServingProblem)
    assert isinstance(plan, ServingPlan)
    return problem, plan


@given(pool_jobs(["disaggregated"]), alike())
@settings(max_examples=12)
def test_pools_are_legal_and_as_good_as_brute_force(job: ServingJob, case: MachineCase) -> None:
    """Degrees, ratio and GPUs of both pools come out as when all are walked one by one, with proof."""
    node = MachineCase(case.boxes[:1], case.memory)
    problem = problem_of(job, node)
    assert isinstance(problem, ServingProblem)
    assert optimum(job, node) == pytest.approx(best_pools(problem), rel=RELATIVE)


@given(pool_jobs(["aggregated", "disaggregated"]), alike())
@settings(max_examples=8)
def test_the_better_of_both_kinds_is_chosen(job: ServingJob, case: MachineCase) -> None:
    """Where the job allows both, the optimum is that of the better kind alone, and the plan says which."""
    node = MachineCase(case.boxes[:1], case.memory)
    problem = problem_of(job, node)
    assert isinstance(problem, ServingProblem)
    alone = best_serving(problem), best_pools(problem)
    assert optimum(job, node) == pytest.approx(min(alone), rel=RELATIVE)
    if min(alone) < float("inf"):
        _, plan = solved(job, node)
        kinds = (best_serving(problem), best_pools(problem))
        better = kinds[0] > kinds[1] * (1 + RELATIVE)
        worse = kinds[0] * (1 + RELATIVE) < kinds[1]
        assert not (better and plan.prefill is None)
        assert not (worse and plan.prefill is not None)


@given(pool_jobs(["disaggregated"]), alike(), st.sampled_from(["nvlink", "pcie", "port"]))
@settings(max_examples=10)
def test_a_faster_link_is_never_worse(job: ServingJob, case: MachineCase, which: str) -> None:
    """A higher rate of one kind of link keeps or improves the optimum, caches that move included."""
    faster = tuple(replace(box, **{which: getattr(box, which) * 3.0}) for box in case.boxes)
    assert optimum(job, replace(case, boxes=faster)) <= optimum(job, case) * (1 + RELATIVE)


@given(pool_jobs(["disaggregated"]), alike())
@settings(max_examples=10)
def test_renaming_changes_nothing(job: ServingJob, case: MachineCase) -> None:
    """The optimum does not depend on what nodes and GPUs are called."""
    renamed = replace(case, prefix="another", gpu="accelerator")
    assert optimum(job, renamed) == pytest.approx(optimum(job, case), rel=RELATIVE)


@given(pool_jobs(["aggregated", "disaggregated"]), alike())
@settings(max_examples=10)
def test_a_hinted_solve_is_never_worse(job: ServingJob, case: MachineCase) -> None:
    """A plan with pools is taken up again as the first incumbent, and nothing worse comes out."""
    if optimum(job, case) == float("inf"):
        return
    problem, plan = solved(job, case)
    again = solve_job(problem, Budget(seconds=30.0), explain=False, start=plan)
    assert check_job(problem, again.plan) == []
    assert objective(problem, again.plan) <= objective(problem, plan) * (1 + 1e-9)
