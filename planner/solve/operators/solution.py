"""Solve an operator problem of any kind, and have the judge confirm what was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from planner.errors import InfeasibleError, NoPlanError
from planner.placement.operators import Assignment, OperatorProblem, broken_rules, value
from planner.solve.budget import Budget
from planner.solve.operators.contiguous import solve_contiguous
from planner.solve.operators.free import solve_free
from planner.solve.operators.latency import solve_latency

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
    """

    assignment: Assignment
    value: float
    bound: float
    status: Literal["optimal", "feasible"]

    @property
    def gap(self) -> float:
        """How far, as a share of the value, a plan might still be better."""
        return 1.0 - self.bound / self.value if self.value > 0.0 else 0.0


def solve_operators(
    problem: OperatorProblem, budget: Budget | None = None, *, workers: int = 2
) -> OperatorSolution:
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
    found = solvers[problem.kind](problem, budget, workers)
    if not found.assignment:
        if math.isinf(found.bound):
            raise InfeasibleError("no plan fits", [problem.kind, "memory"], "use more accelerators")
        raise NoPlanError(f"no plan was found in {budget.seconds:g} s; allow more time", found.bound)
    broken = broken_rules(problem, found.assignment)
    if broken:
        raise NoPlanError(f"the solver's plan was refused by the judge: {broken[0]}", found.bound)
    judged = value(problem, found.assignment)
    proven = found.bound >= judged * (1 - _PROOF)
    return OperatorSolution(
        found.assignment, judged, min(found.bound, judged), "optimal" if proven else "feasible"
    )


def _must_fit(problem: OperatorProblem) -> None:
    for op in problem.graph.operators:
        on_accelerator = op.on_accelerator and op.size <= problem.memory and problem.num_accelerators > 0
        if not on_accelerator and not problem.has_cpu:
            raise InfeasibleError(
                f"operator {op.key!r} fits on no accelerator and there is no CPU",
                remedy="add a CPU device or memory",
            )
