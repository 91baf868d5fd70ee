"""The joint solve of ensembles against every design of small problems, and against its own judge."""

import pytest

from planner.errors import InfeasibleError
from planner.placement import check_job
from planner.placement.check import objective
from planner.solve.budget import Budget
from planner.solve.ensemble import solve_ensemble
from planner.solve.ensemble.model import as_stated
from tests.solve.ensemble.small import Walk, random_problem


@pytest.mark.parametrize("seed", range(48))
def test_the_plan_is_legal_and_as_good_as_every_design_that_there_is(seed: int) -> None:
    """On random small ensembles the plan passes the judge and no design of the whole space is better."""
    problem = random_problem(seed)
    best = Walk(problem).least()
    try:
        solution = solve_ensemble(problem, Budget(seconds=30.0), explain=False)
    except InfeasibleError:
        assert best == float("inf")
        return
    assert check_job(problem, solution.plan) == []
    assert objective(problem, solution.plan) == pytest.approx(solution.value, rel=1e-9)
    assert solution.value == pytest.approx(as_stated(problem, best), rel=1e-9)
    assert solution.proven
