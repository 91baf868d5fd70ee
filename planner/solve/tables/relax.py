"""Linear relaxation of the choice of options, and lower bounds that hold whatever the solver returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from ortools.linear_solver.python import model_builder

from planner.solve.tables.candidates import Candidates

FloatArray = NDArray[np.float64]

SAFETY = 1e-9
"""Relative allowance for rounding in the sums behind a bound."""
SIGNIFICANT = 0.2
"""Tables whose largest block can take this share of the bound get a row of their own."""


@dataclass(frozen=True)
class Relaxed:
    """A solution of the relaxation.

    Attributes
    ----------
    value
        Proven lower bound of the busiest rank under the restriction, s; infinite where nothing fits.
    share : ndarray, shape (options,)
        How much of each option is taken.
    price : ndarray, shape (options,)
        Reduced cost of each option, s: a bound of any plan with the option is ``value + price``.
    """

    value: float
    share: FloatArray
    price: FloatArray


class Relaxation:
    """Minimise the mean load of the ranks over fractional choices of options.

    Rows: every table is chosen once; the work of all ranks fits under ``ranks * T``; bytes fit the sum of
    the memories; for tables with large blocks, the load that all ranks share and the largest block of the
    table fit under ``T`` together.
    """

    def __init__(self, found: Candidates) -> None:
        self.found = found
        problem = found.problem
        self.scale = max(float(found.work.sum()) / len(found.work) / found.num_ranks, 1e-30)
        self._gpu, self._host = float(sum(problem.gpu_memory)), float(sum(problem.host_memory))
        self._large = self._large_tables()
        self._build()

    def _large_tables(self) -> list[int]:
        least = sum(float(self.found.work[options].min()) for options in self.found.of_table)
        limit = SIGNIFICANT * least / self.found.num_ranks
        return [
            table
            for table, options in enumerate(self.found.of_table)
            if (self.found.largest[options] + self.found.uniform[options]).max() > limit
        ]

    def _build(self) -> None:
        found, helper = self.found, model_builder.Model()
        self._model, self._helper = helper, helper.helper
        h = self._helper
        self._x = [h.add_var() for _ in range(len(found.work))]
        self._t, self._u = h.add_var(), h.add_var()
        for x in self._x:
            h.set_var_lower_bound(x, 0.0)
            h.set_var_upper_bound(x, 1.0)
        for free in (self._t, self._u):
            h.set_var_lower_bound(free, 0.0)
            h.set_var_upper_bound(free, float("inf"))
        h.set_var_objective_coefficient(self._t, 1.0)
        for options in found.of_table:
            self._row(1.0, 1.0, {self._x[o]: 1.0 for o in options})
        ranks, scale = float(found.num_ranks), self.scale
        inf = float("inf")
        work = {self._x[o]: value / scale / ranks for o, value in enumerate(found.work)}
        self._work = self._row(-inf, 0.0, work | {self._t: -1.0})
        self._hbm = self._row(
            -inf, 1.0, {self._x[o]: v / max(self._gpu, 1.0) for o, v in enumerate(found.hbm)}
        )
        self._ddr = self._row(
            -inf, 1.0, {self._x[o]: v / max(self._host, 1.0) for o, v in enumerate(found.host)}
        )
        uniform = {self._x[o]: v / scale for o, v in enumerate(found.uniform) if v > 0.0}
        self._row(0.0, 0.0, uniform | {self._u: -1.0})
        self._blocks = []
        for table in self._large:
            terms = {
                self._x[o]: found.largest[o] / scale for o in found.of_table[table] if found.largest[o] > 0.0
            }
            self._blocks.append(self._row(-inf, 0.0, terms | {self._u: 1.0, self._t: -1.0}))

    def _row(self, low: float, high: float, terms: dict[int, float]) -> int:
        h = self._helper
        row = int(h.add_linear_constraint())
        h.set_constraint_lower_bound(row, low)
        h.set_constraint_upper_bound(row, high)
        for variable, value in terms.items():
            if value:
                h.add_term_to_constraint(row, variable, float(value))
        return row

    def solve(self, largest: float = float("inf"), memory: float = 1.0) -> Relaxed:
        """Solve with blocks of at most ``largest`` seconds and a share of the GPU memory."""
        found, h = self.found, self._helper
        allowed = found.largest <= largest
        for x, kept in zip(self._x, allowed, strict=True):
            h.set_var_upper_bound(x, 1.0 if kept else 0.0)
        h.set_constraint_upper_bound(self._hbm, memory)
        solver = model_builder.Solver("GLOP")
        status = solver.solve(self._model)
        if status != model_builder.SolveStatus.OPTIMAL:
            nothing = np.zeros(len(found.work))
            return Relaxed(float("inf"), nothing, nothing)
        share = np.asarray(solver.values(self._model.get_variables()), dtype=np.float64)[: len(found.work)]
        duals = np.asarray(solver.dual_values(self._model.get_linear_constraints()), dtype=np.float64)
        value, price = self._lagrangian(duals, allowed, memory)
        return Relaxed(value, share, price)

    def _lagrangian(
        self, duals: FloatArray, allowed: NDArray[np.bool_], memory: float
    ) -> tuple[float, FloatArray]:
        """Return the bound that any non-negative prices of the rows prove, and the reduced costs, s."""
        found = self.found
        work = max(-float(duals[self._work]), 0.0)
        blocks = np.maximum(-duals[self._blocks], 0.0) if self._blocks else np.zeros(0)
        whole = work + float(blocks.sum())
        if whole <= 0.0:
            return 0.0, np.zeros(len(found.work))
        work, blocks = work / whole, blocks / whole
        hbm = max(-float(duals[self._hbm]), 0.0) * self.scale / whole
        ddr = max(-float(duals[self._ddr]), 0.0) * self.scale / whole
        price = found.work * (work / found.num_ranks) + found.uniform * float(blocks.sum())
        price += found.hbm * (hbm / max(self._gpu, 1.0)) + found.host * (ddr / max(self._host, 1.0))
        for table, weight in zip(self._large, blocks, strict=True):
            price[found.of_table[table]] += weight * found.largest[found.of_table[table]]
        priced = np.where(allowed, price, np.inf)
        starts = self._starts
        least = np.minimum.reduceat(priced, starts)
        value = float(least.sum()) - hbm * memory - ddr
        reduced = priced - np.repeat(least, np.diff(np.append(starts, len(price))))
        return value - SAFETY * (float(least.sum()) + hbm + ddr), reduced

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.array([options[0] for options in self.found.of_table], dtype=np.int64)

    def bound(self) -> float:
        """Return a lower bound: no plan has a busiest rank below it.

        A plan of cost ``T`` has no block above ``T``. So a relaxation without blocks above some ``T`` whose
        value exceeds ``T`` proves that every plan costs more than ``T``; the largest such ``T`` is searched
        among the block times, between which the relaxation does not change.
        """
        proven = self.solve().value
        steps = np.unique(self.found.largest)
        steps = steps[steps > proven]
        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            below = self.solve(np.nextafter(steps[middle], 0.0)).value
            # Plans below steps[middle] have no block of that size or more.
            proven = max(proven, min(below, float(steps[middle])))
            low, high = (middle + 1, high) if below >= steps[middle] else (low, middle)
        return proven
