"""Linear expressions of CP-SAT models, typed as this room builds them."""

from __future__ import annotations

from collections.abc import Iterable

from ortools.sat.python import cp_model

Expression = cp_model.LinearExpr | int


def add_up(terms: Iterable[Expression]) -> Expression:
    """Return the sum of some terms, 0 for none."""
    value: Expression = 0
    for term in terms:
        value = value + term
    return value
