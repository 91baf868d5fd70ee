"""Solve an operators job: the plan, the simple rules beside it, and what its freedom is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from planner.placement import Baseline, Decision, OperatorsProblem, operators_plan
from planner.placement.operators import CPU, Assignment, OperatorProblem, broken_rules, value
from planner.solve.budget import Budget
from planner.solve.operators import solve_operators, solve_with_copies
from planner.solve.operators.contiguous import chain_plan
from planner.solve.operators.solution import OperatorSolution
from planner.solve.operators.wired import exchanged, relaxed
from planner.solve.solution import JobSolution

PRECISION = 2e-6
"""Relative gap up to which a plan counts as optimal: the quantum of the whole-number models."""
MOST_SECONDS = 2.0
"""Most seconds that devices of an alternative are swapped."""
_ORDERS = 8
"""Orders that are cut at best to say what an alternative gives."""


def solve_operators_job(problem: OperatorsProblem, budget: Budget, *, explain: bool = True) -> JobSolution:
    """Return the best plan of an operator graph with its bound.

    Raises
    ------
    InfeasibleError
        If the graph fits in no way.
    NoPlanError
        If the budget ended before there was a plan.
    """
    inner = problem.graph_problem
    solve = solve_with_copies if problem.job.replicate else solve_operators
    found = solve(inner, budget)
    kind = "sample_latency" if problem.job.objective == "latency" else "sample_interval"
    many = f"{len(inner.graph.operators)} operators on {inner.num_accelerators} GPUs"
    return JobSolution(
        operators_plan(problem, found.assignment, found.copies),
        kind,
        "s",
        found.value,
        found.bound,
        1,
        1,
        list(_baselines(inner, found.value)) if explain else [],
        list(_decisions(problem, found, budget)) if explain else [],
        PRECISION,
        f"{many}{' and the host' if inner.has_cpu else ''}, {inner.kind} assignment",
    )


def _baselines(inner: OperatorProblem, best: float) -> Iterator[Baseline]:
    count = len(inner.graph.operators)
    rules: list[tuple[str, Assignment]] = [("everything on one GPU", (0,) * count)]
    if inner.has_cpu:
        rules.append(("everything on the host", (CPU,) * count))
    if inner.num_accelerators > 1:
        rules.append(("even cut of the order of the graph", _even(inner)))
    for name, assignment in rules:
        broken = broken_rules(inner, assignment)
        reached = None if broken else value(inner, assignment)
        ratio = reached / best if reached is not None and best > 0.0 else None
        yield Baseline(name=name, value=reached, ratio=ratio, note=broken[0] if broken else "")


def _even(inner: OperatorProblem) -> Assignment:
    """Return consecutive parts of a topological order of equal run time, colours kept together."""
    graph = inner.graph
    total = sum(op.accelerator_time for op in graph.operators) or 1.0
    home: dict[str, int] = {}
    found, spent = [0] * len(graph.operators), 0.0
    for index in graph.order:
        op = graph.operators[index]
        device = min(inner.num_accelerators - 1, int(inner.num_accelerators * spent / total))
        if not op.on_accelerator:
            device = CPU
        found[index] = home.setdefault(op.colour, device) if op.colour is not None else device
        spent += op.accelerator_time
    return tuple(found)


def _decisions(problem: OperatorsProblem, found: OperatorSolution, budget: Budget) -> Iterator[Decision]:
    """Yield what the plan would lose without one of its freedoms, by the best cut of some orders.

    The alternatives are contiguous plans, which are also legal where free assignments are. Over real links
    they are cut for the fastest routes, their devices swapped as long as that helps, and judged as they are.
    """
    inner = replace(problem.graph_problem, kind="contiguous")
    assignment, best = found.assignment, found.value
    used = len(set(assignment) - {CPU})
    copied = found.copies is not None and max(found.copies) > 1
    if problem.job.objective == "latency" or best <= 0.0 or (copied and inner.wires is not None):
        return
    if copied and found.copies is not None:
        shown = "/".join(map(str, found.copies))
        yield _decision("GPUs of each stage", shown, "one each", inner, best, budget)
    elif used > 1:
        yield _decision(
            "GPUs", f"{used}", f"{used - 1}", replace(inner, num_accelerators=used - 1), best, budget
        )
    if not problem.job.contiguous:
        yield _decision("stages", "free", "consecutive parts of the graph", inner, best, budget)
    if CPU in assignment:
        no_host = replace(inner, has_cpu=False)
        yield _decision("host", "runs operators", "GPUs only", no_host, best, budget)


def _decision(
    what: str, chosen: str, alternative: str, other: OperatorProblem, best: float, budget: Budget
) -> Decision:
    reached = _reached(other, budget)
    return Decision(
        decision=what,
        chosen=chosen,
        alternative=alternative,
        loss=max(0.0, reached / best - 1.0) if reached is not None else None,
        reason=f"best cut of {_ORDERS} orders of the graph" if reached is not None else "no such cut fits",
    )


def _reached(other: OperatorProblem, budget: Budget) -> float | None:
    """Return the load of the best cut, s, ``None`` where none fits."""
    plain = other if other.wires is None else relaxed(other, other.wires)
    found = chain_plan(plain, budget, _ORDERS)
    if not found.assignment or not np.isfinite(found.value):
        return None
    if other.wires is None:
        return found.value
    joined = {device for pair in other.wires.pace for device in pair} - {CPU}
    anywhere = replace(other, num_accelerators=max(len(joined), other.num_accelerators))
    assignment = exchanged(anywhere, found.assignment, budget.part(MOST_SECONDS))
    return None if broken_rules(anywhere, assignment) else value(anywhere, assignment)
