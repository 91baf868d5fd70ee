"""Where embedding tables go: a search with a proven lower bound for every plan."""

from planner.solve.tables.search import Effort, solve_tables

__all__ = ["Effort", "solve_tables"]
