"""The best placement of many jobs: shapes by class first, then nodes; both together where they disagree."""

from __future__ import annotations

from dataclasses import dataclass

from planner.placement.fleet import Assignment, FleetProblem, fleet_cost
from planner.solve.budget import Budget
from planner.solve.fleet.classes import ClassModel
from planner.solve.fleet.nodes import NodeModel
from planner.solve.fleet.rules import best_fit, first_fit, greedy

SHARE = 0.6
"""Share of the time left for the shapes alone."""


@dataclass(frozen=True)
class FleetSolution:
    """A placement, its weighted mean cost, a proven lower bound, and the costs of simple rules."""

    placement: dict[str, Assignment]
    cost: float
    bound: float
    baselines: dict[str, float]

    @property
    def gap(self) -> float:
        """Relative gap between cost and bound."""
        return max(0.0, 1.0 - self.bound / self.cost)


def solve_fleet(problem: FleetProblem, budget: Budget) -> FleetSolution:
    """Return the best placement found, at least as good as every simple rule."""
    rules = {"first fit": first_fit(problem), "best fit": best_fit(problem), "greedy": greedy(problem)}
    baselines = {name: fleet_cost(problem, placement) for name, placement in rules.items()}
    best = min(rules.values(), key=lambda placement: fleet_cost(problem, placement))
    shapes, bound = ClassModel(problem).solve(budget, SHARE * budget.left)
    placed, _ = NodeModel(problem, shapes, fixed=True, hint={}).solve(budget, 0.5 * budget.left)
    if placed is not None and fleet_cost(problem, placed) < fleet_cost(problem, best):
        best = placed
    if placed is None and not budget.over:
        again, least = NodeModel(problem, shapes, fixed=False, hint=best).solve(budget, budget.left)
        bound = max(bound, least)
        if again is not None and fleet_cost(problem, again) < fleet_cost(problem, best):
            best = again
    cost = fleet_cost(problem, best)
    return FleetSolution(best, cost, min(bound, cost), baselines)
