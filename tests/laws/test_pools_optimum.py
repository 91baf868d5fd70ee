"""Two pools for prompts and answers: the search against brute force, and laws that every optimum obeys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.placement import ServingPlan, ServingProblem, check_job, objective
from planner.solve import Budget, solve_job
from planner.workload import ServingJob
from tests.laws.brute_force import best_pools, best_serving
from tests.laws.instances import MachineCase, machine_cases, pool_jobs, problem_of
from tests.laws.optimum import RELATIVE, optimum


def alike() -> st.SearchStrategy[MachineCase]:
    """Draw machines whose hosts reach their GPUs equally fast: else the gap stays open by microseconds."""
    return machine_cases().map(
        lambda case: replace(case, boxes=tuple(replace(box, pcie=case.boxes[0].pcie) for box in case.boxes))
    )


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


@given(pool_jobs(["disaggregated"]), alike())
@settings(max_examples=6)
def test_pools_over_two_nodes_are_as_good_as_brute_force(job: ServingJob, case: MachineCase) -> None:
    """On two equal nodes the pools, and the caches between them, lie as the best of all orders has them."""
    box = replace(case.boxes[0], islands=(2,))
    two = MachineCase((box, box), case.memory)
    problem = problem_of(job, two)
    assert isinstance(problem, ServingProblem)
    assert optimum(job, two) == pytest.approx(best_pools(problem), rel=RELATIVE)


@given(pool_jobs(["disaggregated"]), alike(), st.sampled_from([1.2, 4.0]))
@settings(max_examples=10)
def test_more_memory_is_never_worse(job: ServingJob, case: MachineCase, factor: float) -> None:
    """Larger device memory keeps or improves the optimum."""
    larger = replace(case, memory=case.memory * factor)
    assert optimum(job, larger) <= optimum(job, case) * (1 + RELATIVE)


@given(pool_jobs(["aggregated", "disaggregated"]), alike())
@settings(max_examples=10)
def test_more_gpus_are_never_worse(job: ServingJob, case: MachineCase) -> None:
    """Another node like the last one keeps or improves the optimum."""
    more = replace(case, boxes=(*case.boxes, case.boxes[-1]))
    assert optimum(job, more) <= optimum(job, case) * (1 + RELATIVE)


@given(pool_jobs(["aggregated", "disaggregated"]), alike())
@settings(max_examples=4)
def test_a_freer_choice_is_never_worse(job: ServingJob, case: MachineCase) -> None:
    """Both kinds are as good as either alone, and so are all values of a list as each of them."""
    best = optimum(job, case)
    for name, values in job.degrees:
        for value in values or []:
            held = job.degrees.model_copy(update={name: [value]})
            assert best <= optimum(job.model_copy(update={"degrees": held}), case) * (1 + RELATIVE)


@given(pool_jobs(["disaggregated"]), alike(), st.sampled_from(["nvlink", "pcie", "port"]))
@settings(max_examples=6)
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
