"""Placement of operator graphs: contiguous and free throughput, and latency of one sample, with bounds."""

from planner.solve.operators.solution import OperatorSolution, solve_operators

__all__ = ["OperatorSolution", "solve_operators"]
