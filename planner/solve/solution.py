"""What solving one job gives."""

from __future__ import annotations

from dataclasses import dataclass

from planner.placement import Baseline, Decision, JobPlan
from planner.solve.budget import Budget

PROVEN = 1e-6
"""Relative gap below which a plan counts as optimal."""


@dataclass(frozen=True)
class JobSolution:
    """The plan of one job with what was proven about it.

    Attributes
    ----------
    value, bound
        Objective and its proven lower bound.
    unit
        Unit of both: ``s`` or ``GPUs``.
    evaluated, visited
        Strategies priced, and strategies placed.
    precision
        Relative gap up to which the plan counts as optimal: the rounding of the solver's model.
    searched
        What was searched, where it is no strategies.
    """

    plan: JobPlan
    objective: str
    unit: str
    value: float
    bound: float
    evaluated: int
    visited: int
    baselines: list[Baseline]
    decisions: list[Decision]
    precision: float = PROVEN
    searched: str = ""

    @property
    def how(self) -> str:
        """What was searched, in words."""
        priced = f"{self.evaluated:,} strategies with their ways to span the machine priced"
        return self.searched or f"{priced}, {self.visited:,} placed"

    @property
    def gap(self) -> float:
        """Relative gap between objective and bound."""
        return max(0.0, (self.value - self.bound) / self.value) if self.value > 0 else 0.0

    @property
    def proven(self) -> bool:
        """Whether the plan is proven optimal."""
        return self.gap <= self.precision


def no_plan(name: str, budget: Budget) -> str:
    """Return why there is no plan of a job although one may exist."""
    if budget.stopped():
        return f"job {name!r}: interrupted before there was a plan; let it run longer"
    if budget.over:
        return f"job {name!r}: no plan within {budget.seconds:g} s; give more time with --time-limit"
    return f"job {name!r}: no strategy that may fit could be placed, nor proven impossible; narrow 'degrees'"
