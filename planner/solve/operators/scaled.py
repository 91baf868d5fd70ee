"""Whole numbers for CP-SAT, and the variables that say what parting pin sets costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model

from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import Expression, add_up
from planner.solve.operators.reduce import Floats, Reduced


@dataclass(frozen=True)
class Scaled:
    """Times of a reduced graph in whole quanta, rounded down, so that bounds in quanta are valid in seconds.

    Attributes
    ----------
    quantum
        Seconds per unit.
    limit
        An objective that is known to be reachable, in units.
    """

    reduced: Reduced
    quantum: float
    limit: int
    accelerator: tuple[int, ...]
    cpu: tuple[int, ...]
    costs: tuple[int, ...]
    size: tuple[int, ...]

    def seconds(self, units: float) -> float:
        """Return the time, s, of so many units."""
        return units * self.quantum


def scale(reduced: Reduced, limit: float, resolution: int = 10**8) -> Scaled:
    """Return a reduced graph in whole numbers, with ``limit`` seconds as ``resolution`` units."""
    quantum = limit / resolution

    def units(values: Floats) -> tuple[int, ...]:
        return tuple(int(value) for value in np.floor(np.minimum(values, 2 * limit) / quantum))

    return Scaled(
        reduced,
        quantum,
        resolution,
        units(reduced.accelerator),
        units(reduced.cpu),
        units(reduced.costs),
        tuple(int(size) for size in reduced.size),
    )


def parting(
    model: cp_model.CpModel, inside: Sequence[cp_model.IntVar], held: Sequence[bool] | None
) -> cp_model.IntVar:
    """Return a variable that is true where a device holds some but not all groups of a pin set.

    Parameters
    ----------
    inside
        Whether the device holds each of the groups.
    held
        The same in the plan that the solver starts from, if there is one.
    """
    parted = model.new_bool_var("")
    followers = [*inside[1:], inside[0]] if len(inside) > 2 else [inside[1], inside[0]]
    for one, other in zip(inside, followers, strict=True):
        model.add_bool_or([~one, other, parted])
    if held is not None:
        model.add_hint(parted, any(held) and not all(held))
    return parted


def weigh(weights: Sequence[int], variables: Sequence[Expression]) -> Expression:
    """Return the weighted sum of some variables."""
    return add_up(weight * variable for weight, variable in zip(weights, variables, strict=True) if weight)


class _Shown(cp_model.CpSolverSolutionCallback):
    """Reports improvements."""

    def __init__(self, budget: Budget, quantum: float) -> None:
        super().__init__()
        self._budget, self._quantum, self._found = budget, quantum, 0

    def on_solution_callback(self) -> None:
        """Report the incumbent and its bound, s."""
        self._found += 1
        bound, value = self.best_objective_bound * self._quantum, self.objective_value * self._quantum
        self._budget.progress("operators", self._found, bound, value)


def run(
    model: cp_model.CpModel, budget: Budget, seconds: float, quantum: float = 1.0
) -> tuple[cp_model.CpSolver, str]:
    """Solve a model within some seconds of a budget; return the solver and the name of its status."""
    solver, status = run_model(model, budget, seconds=seconds, watch=_Shown(budget, quantum))
    return solver, solver.status_name(status)
