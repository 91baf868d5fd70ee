"""Compositions: solve, check, simulate; plans loaded again with their inputs."""

from planner.study.inputs import Documents, Sources, Study, load_documents
from planner.study.loading import check_study, load_study
from planner.study.replanning import replan
from planner.study.shadow import Shadow, shadows
from planner.study.solving import solve, solve_files
from planner.study.wishes import Wishes

__all__ = [
    "Documents",
    "Shadow",
    "Sources",
    "Study",
    "Wishes",
    "check_study",
    "load_documents",
    "load_study",
    "replan",
    "shadows",
    "solve",
    "solve_files",
]
