"""The shipped studies, each solved once for all tests."""

from __future__ import annotations

from functools import cache

from benchmarks.studies import STUDIES
from planner.solve import Budget
from planner.study import Sources, Study, solve_files


@cache
def solved(name: str) -> Study:
    """Return a solved study; not to be changed."""
    return solve_files(Sources(*STUDIES[name]), Budget(seconds=60.0))
