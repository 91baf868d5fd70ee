"""Placement of operator graphs: contiguous and free throughput, and latency of one sample, with bounds."""

from planner.solve.operators.solution import OperatorSolution, solve_operators, solve_with_copies

__all__ = ["OperatorSolution", "solve_operators", "solve_with_copies"]
