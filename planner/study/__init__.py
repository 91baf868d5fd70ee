"""Compositions: solve, check, simulate; plans loaded again with their inputs."""

from planner.study.inputs import Documents, Sources, Study, load_documents
from planner.study.loading import check_study, load_study
from planner.study.solving import solve, solve_files

__all__ = [
    "Documents",
    "Sources",
    "Study",
    "check_study",
    "load_documents",
    "load_study",
    "solve",
    "solve_files",
]
