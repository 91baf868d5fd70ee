"""Search: relax, solve on the best columns, then on all columns that may still be in a better plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from ortools.sat.python import cp_model

from planner.placement.ensemble_design import Design
from planner.placement.ensemble_judge import FINE
from planner.placement.ensemble_problem import EnsembleProblem
from planner.solve.budget import Budget
from planner.solve.cuts import EnsembleCut
from planner.solve.engine import run_model
from planner.solve.ensemble.columns import Column
from planner.solve.ensemble.model import EnsembleModel, class_weights
from planner.solve.ensemble.pools import PoolOption
from planner.solve.ensemble.relax import Relaxation, Relaxed

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
FEW = 150
"""Columns of the first exact model, those of least reduced cost."""
GROWTH = 4
"""Factor of columns for the next model where none of them make a plan."""
POOLS = 0.02
"""Reduced cost, relative to the bound, up to which pools are in the first exact model."""
MOST = 3000
"""Most columns of an exact model."""
BRIEF = 120
"""Columns of a short search."""
FIRST = 0.5
"""Part of the time for the first exact model."""
NEAR = 0.01
"""Gap at which the first exact model is good enough."""
ROUNDING = 1e-6


@dataclass(frozen=True)
class Found:
    """The best design with its objective and the bound over all designs, both in the model's units.

    Attributes
    ----------
    design
        ``None`` where there is none, or none was found in time.
    objective, bound
        Weighted percentiles in ``TICK / FINE``, or GPUs; infinite where nothing fits.
    """

    design: Design | None
    objective: float
    bound: float

    @property
    def gap(self) -> float:
        """Relative gap."""
        return max(0.0, 1.0 - self.bound / self.objective)


class Search:
    """Columns and pools of a problem with their relaxation.

    Attributes
    ----------
    refuted
        Whether the last exact model was proven to have no solution.
    """

    def __init__(
        self,
        problem: EnsembleProblem,
        columns: Sequence[Column],
        options: Sequence[PoolOption],
        cuts: Sequence[EnsembleCut] = (),
    ) -> None:
        self.problem, self.columns, self.options, self.cuts = problem, columns, options, cuts
        self.relaxed: Relaxed = Relaxation(problem, columns, options, class_weights(problem)).solve()
        self.refuted = False
        self.counts_gpus = problem.job.objective == "gpus"
        self.scale = 1.0 if self.counts_gpus else float(FINE)

    @property
    def least(self) -> float:
        """Lower bound of the objective from the relaxation."""
        value = self.relaxed.value * self.scale
        return float(np.ceil(value - ROUNDING)) if self.counts_gpus and np.isfinite(value) else value

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Columns by rising reduced cost."""
        return np.argsort(self.relaxed.use, kind="stable")

    def beyond(self, few: int) -> float:
        """Return a bound of every design with a column that is not among the first few in order."""
        if few >= len(self.columns):
            return float("inf")
        return (self.relaxed.value + float(self.relaxed.use[self.order[few]])) * self.scale

    def first(self, budget: Budget, few: int, gap: float = 0.0) -> Found:
        """Return the best design of the first few columns, with a bound of all designs."""
        whole = few >= len(self.columns)
        near = np.inf if whole else self.relaxed.value * (1.0 + POOLS)
        pool = np.flatnonzero(self.relaxed.value + self.relaxed.pool <= near)
        found = self.exact(_kept(self.columns, self.order[:few]), _kept(self.options, pool), budget, gap)
        left_out = min(self.beyond(few), near * self.scale)
        bound = min(max(self.least, found.bound), max(self.least, left_out))
        return Found(found.design, found.objective, min(found.objective, bound))

    def rest(self, best: Found, budget: Budget) -> Found:
        """Return the best design of all columns and pools that may be in one better than ``best``.

        Any plan with a column costs at least the relaxation's value plus the reduced cost of the column.
        Of too many columns the first are taken, and the bound says so.
        """
        limit = (best.objective - self.counts_gpus) / self.scale * (1.0 + ROUNDING)
        few = min(MOST, int((self.relaxed.value + self.relaxed.use <= limit).sum()))
        pool = np.flatnonzero(self.relaxed.value + self.relaxed.pool <= limit)
        options = _kept(self.options, pool)
        found = self.exact(_kept(self.columns, self.order[:few]), options, budget, 0.0, best.design)
        bound = max(self.least, min(found.bound, self.beyond(few), best.objective))
        if found.objective < best.objective:
            return Found(found.design, found.objective, min(found.objective, bound))
        return Found(best.design, best.objective, min(best.objective, max(best.bound, bound)))

    def exact(
        self,
        columns: Sequence[Column],
        options: Sequence[PoolOption],
        budget: Budget,
        gap: float = 0.0,
        start: Design | None = None,
    ) -> Found:
        """Return the best design of some columns and pools."""
        model = EnsembleModel(self.problem, columns, options, self.relaxed.planes, self.cuts)
        if start is not None:
            model.hint(start)
        solver, status = run_model(model.model, budget, linearization=2, gap=gap)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            value = float(round(solver.objective_value))  # a whole number but for noise
            bound = value if status == cp_model.OPTIMAL and not gap else solver.best_objective_bound
            return Found(model.extract(solver), value, min(value, bound))
        self.refuted = status == cp_model.INFEASIBLE
        return Found(None, np.inf, np.inf if self.refuted else 0.0)


def search(
    problem: EnsembleProblem,
    columns: Sequence[Column],
    options: Sequence[PoolOption],
    budget: Budget,
    cuts: Sequence[EnsembleCut] = (),
) -> Found:
    """Return the best design of some columns and pools that no cut leaves out, with its bound."""
    whole = Search(problem, columns, options, cuts)
    if np.isinf(whole.least):
        return Found(None, np.inf, np.inf)
    few, best = FEW, Found(None, np.inf, whole.least)
    while best.design is None and not budget.over:
        best = whole.first(budget.part(budget.left * FIRST), few, NEAR)
        if best.design is None and not whole.refuted:  # out of time: more columns would take longer still
            best = whole.first(budget, few, NEAR)
        if few >= len(columns):
            break
        few *= GROWTH
    if best.design is None or best.bound >= best.objective or budget.over:
        return best
    budget.progress("solve", 1, best.bound, best.objective)
    return whole.rest(best, budget)


def short_search(
    problem: EnsembleProblem, columns: Sequence[Column], options: Sequence[PoolOption], budget: Budget
) -> Found:
    """Return a good design of some columns and pools, for comparison."""
    whole = Search(problem, columns, options)
    if np.isinf(whole.least):
        return Found(None, np.inf, np.inf)
    return whole.first(budget, BRIEF)


def _kept(many: Sequence[T], which: NDArray[np.int64]) -> list[T]:
    return [many[int(index)] for index in sorted(which)]
