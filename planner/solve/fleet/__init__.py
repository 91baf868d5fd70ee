"""Many jobs on one cluster: packing with a bound, and the simple rules that it is compared with."""

from planner.solve.fleet.rules import best_fit, first_fit, greedy
from planner.solve.fleet.search import FleetSolution, solve_fleet

__all__ = ["FleetSolution", "best_fit", "first_fit", "greedy", "solve_fleet"]
