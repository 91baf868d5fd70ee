"""Solve an operator problem of any kind, and have the judge confirm what was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from planner.errors import InfeasibleError, NoPlanError
from planner.placement.operators import Assignment, OperatorProblem, broken_rules, value
from planner.placement.replicas import Copies, broken_copies, replicated_load
from planner.solve.budget import Budget
from planner.solve.operators.contiguous import solve_contiguous
from planner.solve.operators.free import solve_free
from planner.solve.operators.latency import solve_latency
from planner.solve.operators.replicate import solve_replicated
from planner.solve.operators.wired import solve_wired

_PROOF = 2e-6
"""Relative gap up to which a plan counts as optimal: the quantum of the whole-number models."""


@dataclass(frozen=True)
class OperatorSolution:
    """A plan for an operator graph.

    Attributes
    ----------
    assignment
        Device of each operator.
    value, bound
        Objective as the judge finds it, and what no plan is below, s.
    status
        ``optimal`` where both agree to 2e-6.
    copies
        Accelerators of each stage where stages may have several; the devices of ``assignment`` are stages
        then.
    """

    assignment: Assignment
    value: float
    bound: float
    status: Literal["optimal", "feasible"]
    copies: Copies | None = None

    @property
    def gap(self) -> float:
        """How far, as a share of the value, a plan might still be better."""
        return 1.0 - self.bound / self.value if self.value > 0.0 else 0.0


def solve_operators(problem: OperatorProblem, budget: Budget | None = None) -> OperatorSolution:
    """Return the best plan found within a budget, 60 s by default, with its bound.

    Raises
    ------
    InfeasibleError
        If no plan exists.
    NoPlanError
        If the budget ended before any plan was found.
    """
    budget = budget or Budget()
    _must_fit(problem)
    solvers = {"contiguous": solve_contiguous, "free": solve_free, "latency": solve_latency}
    solve = solvers[problem.kind] if problem.wires is None else solve_wired
    found = solve(problem, budget)
    _must_be_legal(problem, found.assignment, found.bound, budget)
    return _solution(found.assignment, value(problem, found.assignment), found.bound)


def solve_with_copies(problem: OperatorProblem, budget: Budget | None = None) -> OperatorSolution:
    """Return the best contiguous plan whose stages may be on several accelerators, with its bound.

    Raises
    ------
    InfeasibleError
        If no plan exists.
    NoPlanError
        If the budget ended before any plan was found.
    """
    budget = budget or Budget()
    _must_fit(problem)
    found = solve_replicated(problem, budget)
    _must_be_legal(problem, found.assignment, found.bound, budget, found.copies)
    judged = replicated_load(problem, found.assignment, found.copies)
    return _solution(found.assignment, judged, found.bound, found.copies)


def _must_be_legal(
    problem: OperatorProblem,
    assignment: Assignment,
    bound: float,
    budget: Budget,
    copies: Copies | None = None,
) -> None:
    """Raise the error of a search without a plan, or of a plan that the judge refuses."""
    if not assignment:
        raise _nothing(problem, bound, budget)
    broken = broken_copies(problem, assignment, copies) if copies is not None else []
    broken = broken or broken_rules(problem, assignment)
    if broken:
        raise NoPlanError(f"the solver's plan was refused by the judge: {broken[0]}", bound)


def _solution(
    assignment: Assignment, judged: float, bound: float, copies: Copies | None = None
) -> OperatorSolution:
    proven = bound >= judged * (1 - _PROOF)
    return OperatorSolution(
        assignment, judged, min(bound, judged), "optimal" if proven else "feasible", copies
    )


def _nothing(problem: OperatorProblem, bound: float, budget: Budget) -> InfeasibleError | NoPlanError:
    """Return the error for a search without a plan."""
    if math.isinf(bound):
        return InfeasibleError("no plan fits", [problem.kind, "memory"], "use more accelerators")
    return NoPlanError(f"no plan was found in {budget.seconds:g} s; allow more time", bound)


def _must_fit(problem: OperatorProblem) -> None:
    for op in problem.graph.operators:
        on_accelerator = op.on_accelerator and op.size <= problem.memory and problem.num_accelerators > 0
        if not on_accelerator and not problem.has_cpu:
            raise InfeasibleError(
                f"operator {op.key!r} fits on no accelerator and there is no CPU",
                remedy="add a CPU device or memory",
            )
