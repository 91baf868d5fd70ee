"""Whether a job fits at all: a search that ends at its first plan, without the reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.placement import Problem, ServingProblem, TrainingProblem
from planner.solve.budget import Budget
from planner.solve.services import search_service
from planner.solve.training import search_training


@dataclass
class _FirstPlan:
    """Watches a search, and tells it to stop once there is a plan."""

    budget: Budget
    found: bool = False

    def watch(self, phase: str, visited: int, bound: float, incumbent: float) -> None:
        """Note whether there is a plan."""
        self.found |= incumbent < float("inf")
        self.budget.progress(phase, visited, bound, incumbent)

    def stopped(self) -> bool:
        """Whether there is a plan, or somebody asked to stop."""
        return self.found or self.budget.stopped()


def may_fit(problem: Problem, budget: Budget) -> bool:
    """Return whether a job has a plan, or may have one for all that was found out within the budget."""
    first = _FirstPlan(budget)
    watched = replace(budget, stopped=first.stopped, progress=first.watch)
    if isinstance(problem, TrainingProblem):
        search = search_training(problem, watched)
        return search.best is not None or search.bound < float("inf")
    if isinstance(problem, ServingProblem):
        served = search_service(problem, watched)
        return served.best is not None or served.bound < float("inf")
    return True
