"""Lower bounds from a linear program over whole accelerator contents, with columns made on demand.

If every device is done within ``T``, an accelerator holds one of the sets of groups whose load is at most
``T``. The least fractional number of such sets that cover all groups, beside what a CPU does in ``T``, is at
most the number of accelerators, or no plan within ``T`` exists. Any prices of the groups give a bound of that
number: what all groups are worth, divided by the most that one set is worth, which CP-SAT finds.

References
----------
.. [1] A. A. Farley, "A Note on Bounding a Class of Linear Programming Problems, Including Cutting Stock
   Problems", Operations Research 38(5), 1990: the bound from prices that are not optimal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

from planner.solve.budget import Budget
from planner.solve.operators.chains import Machine
from planner.solve.operators.reduce import Floats, Reduced
from planner.solve.operators.scaled import parting, run, scale, weigh
from planner.solve.operators.sides import cpu_relief

_WORTH = 10**7
"""Units of one whole price."""


class Contents:
    """Sets of groups found so far that one accelerator may hold, and the linear program over them."""

    def __init__(self, reduced: Reduced, machine: Machine) -> None:
        self.reduced, self.machine = reduced, machine
        self.columns: dict[tuple[int, ...], float] = {}

    def add(self, groups: Sequence[int]) -> bool:
        """Keep a set; return whether it is new."""
        key = tuple(sorted(groups))
        new = bool(key) and key not in self.columns
        if new:
            self.columns[key] = load_of(self.reduced, key)
        return new

    def excludes(self, limit: float, budget: Budget, seconds: float) -> bool:
        """Return whether the linear program proves that no plan is done within ``limit`` seconds.

        Prices are drawn towards those of the best bound so far, which run times start.
        """
        end, needed = budget.left - seconds, self.machine.num_accelerators * (1 + 1e-6)
        centre = np.where(np.isfinite(self.reduced.accelerator), self.reduced.accelerator, limit) / limit
        record, pull = 0.0, 1.0
        while budget.left > max(end, 0.0) and not budget.over:
            prices = self._prices(limit)
            if self._worth(prices, limit) <= needed:
                return False
            tried = pull * centre + (1.0 - pull) * prices
            most, found = self._dearest(tried, limit, budget, 0.5 * (budget.left - end))
            bound = self._worth(tried, limit) / max(most, 1e-9)
            if bound > needed:
                return True
            if bound > record:
                record, centre = bound, tried
            if not found or (not self.add(found) and pull == 0.0):
                return False
            pull = 0.7 if pull == 1.0 else max(0.0, pull - 0.1)
        return False

    def _prices(self, limit: float) -> Floats:
        """Return the price of each group in the program over the sets at hand."""
        solver = pywraplp.Solver.CreateSolver("GLOP")
        reduced, ceiling = self.reduced, self.machine.num_accelerators + 1.0
        infinity = solver.infinity()
        covers = [solver.Constraint(1.0, infinity) for _ in range(reduced.num_groups)]
        objective = solver.Objective()
        for groups, load in self.columns.items():
            if load <= limit:
                used = solver.NumVar(0.0, infinity, "")
                objective.SetCoefficient(used, 1.0)
                for group in groups:
                    covers[group].SetCoefficient(used, 1.0)
        spent = solver.Constraint(-infinity, limit)
        for group, cover in enumerate(covers):
            missing = solver.NumVar(0.0, infinity, "")
            objective.SetCoefficient(missing, ceiling)
            cover.SetCoefficient(missing, 1.0)
            if self.machine.has_cpu and reduced.cpu[group] <= limit:
                moved = solver.NumVar(0.0, 1.0, "")
                spent.SetCoefficient(moved, float(reduced.cpu[group]))
                cover.SetCoefficient(moved, 1.0)
        solver.Solve()
        return np.array([max(0.0, cover.dual_value()) for cover in covers])

    def _worth(self, prices: Floats, limit: float) -> float:
        """Return what the groups that a CPU cannot do are worth."""
        if not self.machine.has_cpu:
            return float(prices.sum())
        return float(prices.sum()) - cpu_relief(prices, self.reduced.cpu, limit)

    def _dearest(
        self, prices: Floats, limit: float, budget: Budget, seconds: float
    ) -> tuple[float, list[int]]:
        """Return an upper bound of what any set of load at most ``limit`` is worth, and a good set."""
        reduced, scaled = self.reduced, scale(self.reduced, limit, 10**7)
        model = cp_model.CpModel()
        inside = [model.new_bool_var("") for _ in range(reduced.num_groups)]
        costs, parted = [], []
        for pins, cost in zip(reduced.pins, scaled.costs, strict=True):
            if cost:
                costs.append(cost)
                parted.append(parting(model, [inside[group] for group in pins], None))
        model.add(weigh(scaled.accelerator, inside) + weigh(costs, parted) <= scaled.limit)
        if float(reduced.size.sum()) > self.machine.memory:
            model.add(weigh(scaled.size, inside) <= int(self.machine.memory))
        units = [int(np.ceil(price * _WORTH)) for price in prices]
        model.maximize(weigh(units, inside))
        solver, status = run(model, budget, seconds)
        if status not in ("OPTIMAL", "FEASIBLE"):
            return np.inf, []
        chosen = [group for group, variable in enumerate(inside) if solver.boolean_value(variable)]
        return solver.best_objective_bound / _WORTH, chosen


def load_of(reduced: Reduced, groups: Sequence[int]) -> float:
    """Return the load, s, of an accelerator that holds some groups."""
    held = np.zeros(reduced.num_groups, dtype=bool)
    held[list(groups)] = True
    paid = [
        cost
        for pins, cost in zip(reduced.pins, reduced.costs, strict=True)
        if 0 < held[list(pins)].sum() < len(pins)
    ]
    return float(reduced.accelerator[held].sum() + sum(paid))
