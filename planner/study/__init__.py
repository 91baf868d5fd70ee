"""Compositions: solve, check, simulate; plans loaded again with their inputs."""

from planner.study.loading import check_study, load_study
from planner.study.solving import Sources, Study, solve, solve_files

__all__ = ["Sources", "Study", "check_study", "load_study", "solve", "solve_files"]
