"""Copies of stages and real routes against exhaustive search."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.errors import InfeasibleError, NoPlanError
from planner.placement.operators import CPU, Kind, OperatorProblem, broken_rules, max_load
from planner.placement.replicas import broken_copies, replicated_load
from planner.placement.wires import Wires
from planner.solve.budget import Budget
from planner.solve.operators import solve_operators, solve_with_copies
from planner.workload.operators import Operator, OperatorGraph
from tests.placement.operator_cases import brute_force, random_problem


def with_gradients(seed: int) -> OperatorProblem:
    """Return a contiguous problem on up to four accelerators, at times with gradients to sum."""
    rng = random.Random(seed)
    problem = random_problem(seed, "contiguous", num_operators=5)
    operators = tuple(replace(op, weights=rng.choice([0.0, 0.0, 2.0])) for op in problem.graph.operators)
    graph = replace(problem.graph, operators=operators)
    return replace(
        problem, graph=graph, num_accelerators=rng.choice([2, 3, 4]), sync_rate=rng.choice([np.inf, 1.0, 4.0])
    )


def best_with_copies(problem: OperatorProblem) -> float:
    """Return the least load over all assignments and numbers of copies."""
    count, best = len(problem.graph.operators), np.inf
    devices = [*range(problem.num_accelerators), *([CPU] if problem.has_cpu else [])]
    for assignment in itertools.product(devices, repeat=count):
        if broken_rules(problem, assignment):
            continue
        stages = max(assignment) + 1
        for copies in itertools.product(range(1, problem.num_accelerators + 1), repeat=stages):
            if not broken_copies(problem, assignment, copies):
                best = min(best, replicated_load(problem, assignment, copies))
    return best


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_copies_of_stages_reach_the_proven_optimum(seed: int) -> None:
    """Value and bound equal the optimum over all stages and numbers of copies."""
    problem = with_gradients(seed)
    best = best_with_copies(problem)
    try:
        found = solve_with_copies(problem, Budget(5.0))
    except (InfeasibleError, NoPlanError):
        assert np.isinf(best)
        return
    assert found.value == pytest.approx(best, rel=3e-6)
    assert found.bound == pytest.approx(best, rel=3e-6)


def test_one_long_operator_is_shared_by_all_accelerators() -> None:
    """An operator of 8 s on four accelerators gives 2 s per sample, and gradients of 4 bytes at 3 bytes/s add
    2 * 3/4 * 4/3 / 4 = 0.5 s.
    """
    graph = OperatorGraph((Operator("a", 8.0, 0.0, on_cpu=False, weights=4.0),), ())
    for rate, seconds in ((np.inf, 2.0), (3.0, 2.5)):
        problem = OperatorProblem(graph, 4, 1.0, "contiguous", has_cpu=False, sync_rate=rate)
        found = solve_with_copies(problem, Budget(5.0))
        assert (found.copies, found.status) == ((4,), "optimal")
        assert found.value == pytest.approx(seconds)


@given(seed=st.integers(0, 10**6))
def test_copies_never_hurt(seed: int) -> None:
    """The optimum with copies is never above the one with each stage on one accelerator."""
    problem = with_gradients(seed)
    assert best_with_copies(problem) <= brute_force(problem) * (1 + 1e-12)


def wired(seed: int, kind: Kind) -> OperatorProblem:
    """Return a problem whose devices are joined unevenly, some of them over one shared link."""
    rng = random.Random(seed)
    problem = random_problem(seed, kind, num_operators=5)
    devices = [CPU, *range(problem.num_accelerators)]
    pairs = [(a, b) for a in devices for b in devices if a != b]
    wires = Wires(
        tuple(rng.choice([0.0, 1.0, 3.0]) for _ in problem.graph.operators),
        {pair: rng.choice([0.0, 0.1]) for pair in pairs},
        {pair: rng.choice([0.2, 0.5, 1.0]) for pair in pairs},
        {pair: (rng.randrange(2),) if CPU not in pair or rng.random() < 0.5 else (0, 1) for pair in pairs},
        (rng.choice([0.3, 1.5]), rng.choice([0.3, 1.5])),
    )
    return replace(problem, wires=wires)


@pytest.mark.parametrize("kind", ["contiguous", "free"])
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_plans_over_real_routes_are_the_proven_optimum(kind: Kind, seed: int) -> None:
    """Value and bound equal those of exhaustive search when devices and links differ."""
    problem = wired(seed, kind)
    best = brute_force(problem)
    try:
        found = solve_operators(problem, Budget(5.0))
    except (InfeasibleError, NoPlanError):
        assert np.isinf(best)
        return
    assert broken_rules(problem, found.assignment) == []
    assert found.value == pytest.approx(max_load(problem, found.assignment))
    assert found.value == pytest.approx(best, rel=3e-6)
    assert found.bound == pytest.approx(best, rel=3e-6)


@pytest.mark.parametrize("kind", ["contiguous", "free"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
@example(seed=399)  # the first plan parts a group that no better plan parts
def test_operators_that_no_cpu_runs_stay_off_it(kind: Kind, seed: int) -> None:
    """With operators that only accelerators run, value and bound are still those of exhaustive search."""
    rng = random.Random(seed)
    problem = random_problem(seed, kind)
    operators = tuple(replace(op, on_cpu=rng.random() < 0.5) for op in problem.graph.operators)
    problem = replace(problem, graph=replace(problem.graph, operators=operators))
    best = brute_force(problem)
    try:
        found = solve_operators(problem, Budget(5.0))
    except (InfeasibleError, NoPlanError):
        assert np.isinf(best)
        return
    assert found.value == pytest.approx(best, rel=3e-6)
    assert found.bound == pytest.approx(best, rel=3e-6)
