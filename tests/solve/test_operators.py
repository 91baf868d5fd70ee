"""Plans for operator graphs against exhaustive search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InfeasibleError, NoPlanError
from planner.placement.operators import Kind, OperatorProblem, broken_rules, load, value
from planner.solve.budget import Budget
from planner.solve.operators import solve_operators
from planner.solve.operators.chains import Machine, segment_loads
from planner.solve.operators.path import path_bound
from planner.solve.operators.prices import Contents
from planner.solve.operators.reduce import reduce
from planner.solve.operators.sides import least_share
from planner.workload.operators import Operator, OperatorGraph
from tests.placement.operator_cases import brute_force, random_problem


def judged(problem: OperatorProblem, seconds: float) -> tuple[float, float]:
    """Return value and bound of the plan for a problem, infinite when there is none."""
    try:
        found = solve_operators(problem, Budget(seconds))
    except (InfeasibleError, NoPlanError):
        return np.inf, np.inf
    assert broken_rules(problem, found.assignment) == []
    assert found.value == pytest.approx(value(problem, found.assignment))
    return found.value, found.bound


@pytest.mark.parametrize("kind", ["contiguous", "free"])
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_throughput_plans_are_the_proven_optimum(kind: Kind, seed: int) -> None:
    """The value equals that of exhaustive search, and the bound reaches it."""
    problem = random_problem(seed, kind)
    best = brute_force(problem)
    found, bound = judged(problem, 5.0)
    assert found == pytest.approx(best, rel=3e-6)
    assert bound == pytest.approx(best, rel=3e-6)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_latency_plans_are_legal_and_as_good_as_exhaustive_search(seed: int) -> None:
    """On small graphs the search finds the optimum, and its bound is never above it."""
    problem = random_problem(seed, "latency", num_operators=5)
    best = brute_force(problem)
    found, bound = judged(problem, 20.0)
    assert found == pytest.approx(best)
    assert np.isinf(best) or bound <= best * (1 + 1e-9)


@given(seed=st.integers(0, 10**6))
def test_what_a_path_takes_is_never_above_the_optimum(seed: int) -> None:
    """The bound of latency plans holds, and is no weaker than the longest path with everything for free."""
    problem = random_problem(seed, "latency")
    bound, best = path_bound(problem), brute_force(problem)
    assert bound <= best * (1 + 1e-9)
    graph, finish = problem.graph, [0.0] * len(problem.graph.operators)
    for index in graph.order:
        op, earlier = graph.operators[index], graph.predecessors[index]
        fastest = min(op.accelerator_time, op.cpu_time if problem.has_cpu else np.inf)
        finish[index] = fastest + max((finish[source] for source in earlier), default=0.0)
    assert bound >= max(finish) * (1 - 1e-9)


def test_a_chain_that_does_not_fit_is_bound_by_its_best_cut() -> None:
    """Of four operators of 1 GB two fit; a call pays 0.5 s for its output, the CPU 10 s an operator."""
    operators = tuple(
        Operator(str(n), 1.0, 10.0, size=1e9, transfer_time=0.5 if n < 3 else 0.0) for n in range(4)
    )
    graph = OperatorGraph(operators, ((0, 1), (1, 2), (2, 3)))
    problem = OperatorProblem(graph, 1, 2e9, "latency")
    assert path_bound(problem) == pytest.approx(2 * 10.0 + 2 * 1.0 + 0.5)
    assert path_bound(replace(problem, num_accelerators=2)) == pytest.approx(4 * 1.0 + 2 * 0.5)


@given(seed=st.integers(0, 10**6))
def test_bounds_from_shares_and_prices_hold(seed: int) -> None:
    """No bound from one accelerator's share is above the optimum, and prices never exclude it."""
    problem = random_problem(seed, "free")
    best = brute_force(problem)
    if not 0.0 < best < np.inf:
        return
    limit = best * 1.1
    reduced = reduce(problem, limit)
    machine = Machine(problem.num_accelerators, problem.memory, problem.has_cpu)
    share = least_share(reduced, machine, limit, Budget(5.0), seconds=2.0)
    assert share.bound <= best * (1 + 1e-6)
    assert not Contents(reduced, machine).excludes(best * (1 + 1e-6), Budget(5.0), 2.0)


@given(seed=st.integers(0, 10**6))
def test_segment_loads_are_those_of_the_judge(seed: int) -> None:
    """The load of each segment of an order is what the judge finds for that set on an accelerator."""
    problem = random_problem(seed, "free")
    reduced = reduce(problem)
    order = list(range(reduced.num_groups))
    loads, _ = segment_loads(reduced, order, np.inf)
    for start in range(reduced.num_groups):
        for end in range(start + 1, reduced.num_groups + 1):
            devices = [0 if start <= group < end else 1 for group in order]
            two = replace(problem, num_accelerators=2)
            if np.isfinite(loads[start, end]):
                assert loads[start, end] == pytest.approx(load(two, reduced.spread(devices), 0))


def test_prices_prove_what_averages_cannot() -> None:
    """Five equal operators on two accelerators need three on one, which the average load does not show."""
    graph = OperatorGraph(tuple(Operator(str(i), 1.0, 100.0) for i in range(5)), ())
    problem = OperatorProblem(graph, 2, 1.0)
    reduced, machine = reduce(problem), Machine(2, 1.0, has_cpu=True)
    assert Contents(reduced, machine).excludes(2.99, Budget(10.0), 10.0)


def test_the_same_seed_gives_the_same_plan() -> None:
    """A repeated solve returns the identical assignment."""
    problem = random_problem(3, "free")
    first, second = (solve_operators(problem, Budget(5.0, seed=4)) for _ in range(2))
    assert first == second


def test_what_fits_nowhere_is_infeasible() -> None:
    """An operator larger than an accelerator needs a CPU."""
    graph = OperatorGraph((Operator("big", 1.0, 2.0, size=5.0),), ())
    problem = OperatorProblem(graph, 2, 4.0, "free", has_cpu=False)
    with pytest.raises(InfeasibleError, match="big"):
        solve_operators(problem)
    assert solve_operators(replace(problem, has_cpu=True), Budget(2.0)).value == 2.0
