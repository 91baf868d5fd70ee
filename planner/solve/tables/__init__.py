"""Where embedding tables go: a search with a proven lower bound for every plan."""

from planner.solve.tables.fewest import Fewest, fewest_ranks
from planner.solve.tables.search import Effort, lower_bound, solve_tables

__all__ = ["Effort", "Fewest", "fewest_ranks", "lower_bound", "solve_tables"]
