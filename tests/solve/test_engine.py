"""Limits and interrupts of CP-SAT under a budget."""

from __future__ import annotations

import random
import time

from ortools.sat.python import cp_model

from planner.solve.budget import Budget, counted
from planner.solve.engine import run_model


def hard_model(seed: int = 1) -> cp_model.CpModel:
    """Return a packing problem that takes far longer to prove than any test waits."""
    rng, model = random.Random(seed), cp_model.CpModel()
    taken = [model.new_bool_var("") for _ in range(400)]
    for _ in range(600):
        some = rng.sample(taken, 20)
        model.add(sum(rng.choice([-3, -1, 2, 5]) * each for each in some) <= 7)
    model.maximize(sum(rng.randint(1, 50) * each for each in taken))
    return model


def test_a_running_solve_ends_soon_after_it_is_asked_to() -> None:
    """Whoever interrupts need not wait for the next solution or for the time limit."""
    asked = time.monotonic() + 0.5
    budget = Budget(60.0, stopped=lambda: time.monotonic() > asked)
    _, status = run_model(hard_model(), budget)
    assert status in (cp_model.FEASIBLE, cp_model.UNKNOWN)
    assert budget.elapsed < 30.0


def test_a_limit_of_work_ends_a_solve_at_the_same_place() -> None:
    """Two solves with a limit in deterministic time find the same value and the same bound."""
    found = []
    for _ in range(2):
        solver, _ = run_model(hard_model(), counted(Budget(60.0)), work=0.3)
        found.append((solver.objective_value, solver.best_objective_bound))
    assert found[0] == found[1]


def test_the_shorter_of_two_limits_holds() -> None:
    """A solve may take less than what its budget has left."""
    budget = Budget(60.0)
    run_model(hard_model(), budget, seconds=0.2)
    assert budget.elapsed < 30.0
