"""Ensembles: columns of GPU units and pools of workers, chosen and placed together by CP-SAT."""

from planner.solve.ensemble.solve import solve_ensemble

__all__ = ["solve_ensemble"]
