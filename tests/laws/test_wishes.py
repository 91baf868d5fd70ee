"""Laws of fixed and hinted solves on random machines and jobs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InfeasibleError
from planner.placement import TrainingProblem, check_job
from planner.solve import Budget, JobSolution, solve_job
from planner.solve.budget import counted
from planner.solve.fixes import Fix, fixed_job
from planner.workload import ServingJob, TrainingJob
from tests.laws.brute_force import best_training
from tests.laws.instances import MachineCase, machine_cases, problem_of, serving_jobs, training_jobs
from tests.laws.optimum import RELATIVE, optimum

FIXES = st.sampled_from(
    [Fix("tp", ("2",)), Fix("pp", ("1",)), Fix("dp", ("2",)), Fix("recompute", ("full",))]
)


def solved(job: TrainingJob | ServingJob, case: MachineCase, **more: Any) -> JobSolution | None:
    """Return the solution of a job, judged, ``None`` where nothing fits."""
    problem = problem_of(job, case)
    try:
        solution = solve_job(problem, more.pop("budget", Budget(seconds=30.0)), explain=False, **more)
    except InfeasibleError:
        return None
    assert check_job(problem, solution.plan) == []
    assert solution.bound <= solution.value * (1 + 1e-12)
    return solution


@given(training_jobs(), machine_cases(), FIXES)
@settings(max_examples=6)
def test_a_fixed_solve_is_the_best_of_its_part_of_the_space(
    job: TrainingJob, case: MachineCase, fix: Fix
) -> None:
    """It equals brute force over the fixed space, and is never better than the free optimum."""
    held = fixed_job(job, [fix])
    problem = problem_of(held, case)
    assert isinstance(problem, TrainingProblem)
    value = optimum(held, case)
    assert value == pytest.approx(best_training(problem), rel=RELATIVE)
    assert value >= optimum(job, case) * (1 - RELATIVE)


@given(training_jobs(), machine_cases(), FIXES)
@settings(max_examples=6)
def test_a_hinted_training_solve_is_never_worse_than_its_hint(
    job: TrainingJob, case: MachineCase, fix: Fix
) -> None:
    """Without time the hint comes back; with time the free optimum, whatever the hint was."""
    hint = solved(fixed_job(job, [fix]), case)
    if hint is None:
        return
    at_once = solved(job, case, budget=Budget(seconds=0.0), start=hint.plan)
    assert at_once is not None
    assert at_once.value <= hint.value * (1 + 1e-12)
    in_time = solved(job, case, start=hint.plan)
    assert in_time is not None
    assert in_time.value == pytest.approx(optimum(job, case), rel=RELATIVE)


@given(serving_jobs(), machine_cases())
@settings(max_examples=6)
def test_a_hinted_serving_solve_is_never_worse_than_its_hint(job: ServingJob, case: MachineCase) -> None:
    """A plan of one replica is a hint for the job with all numbers of replicas."""
    hint = solved(fixed_job(job, [Fix("replicas", ("1",))]), case)
    if hint is None:
        return
    at_once = solved(job, case, budget=Budget(seconds=0.0), start=hint.plan)
    assert at_once is not None
    assert at_once.value <= hint.value * (1 + 1e-12)
    assert solved(job, case, start=hint.plan).value == pytest.approx(optimum(job, case), rel=RELATIVE)  # type: ignore[union-attr]


@given(st.one_of(training_jobs(), serving_jobs()), machine_cases(), st.integers(0, 3))
@settings(max_examples=6)
def test_the_same_seed_gives_the_same_plan(
    job: TrainingJob | ServingJob, case: MachineCase, seed: int
) -> None:
    """Two deterministic solves agree in every field of the plan, and in the work that they took."""
    budgets = [counted(Budget(seconds=30.0, seed=seed)) for _ in range(2)]
    first, second = (solved(job, case, budget=budget) for budget in budgets)
    assert first == second
    assert budgets[0].elapsed == budgets[1].elapsed
