"""Exact solvers: strategies and their placement with CP-SAT, bounds, baselines, and reasons."""

from planner.solve.allot import Option, share_out, share_units, unit_counts
from planner.solve.budget import Budget, Progress
from planner.solve.jobs import solve_job
from planner.solve.solution import PROVEN, JobSolution

__all__ = [
    "PROVEN",
    "Budget",
    "JobSolution",
    "Option",
    "Progress",
    "share_out",
    "share_units",
    "solve_job",
    "unit_counts",
]
