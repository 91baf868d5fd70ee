"""The solver's proven optimum, judged."""

from __future__ import annotations

import pytest

from planner.errors import InfeasibleError
from planner.placement import check_job, objective
from planner.solve import Budget, solve_job
from planner.workload import ServingJob, TrainingJob
from tests.laws.instances import MachineCase, problem_of

RELATIVE = 1e-6
"""Integers of the solver are nanoseconds; optima of the instances are milliseconds and more."""


def optimum(job: TrainingJob | ServingJob, case: MachineCase) -> float:
    """Return the solver's proven optimum, infinite where it says that nothing fits.

    On the way the plan passes the judge, its objective is recomputed, and the bound must not exceed it.
    """
    problem = problem_of(job, case)
    try:
        solution = solve_job(problem, Budget(seconds=30.0), explain=False)
    except InfeasibleError as error:
        assert error.conflicts
        assert error.remedy
        return float("inf")
    assert check_job(problem, solution.plan) == []
    assert objective(problem, solution.plan) == pytest.approx(solution.value, rel=1e-9)
    assert solution.bound <= solution.value * (1 + 1e-12)
    assert solution.proven
    return solution.value
