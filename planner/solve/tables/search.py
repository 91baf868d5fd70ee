"""Place embedding tables: relaxation, packing, local search, proof; every plan comes with a bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from planner.errors import InfeasibleError, NoPlanError
from planner.placement.tables import TablePlan, TableProblem, table_loads
from planner.solve.budget import Budget
from planner.solve.tables.candidates import Candidates, candidates
from planner.solve.tables.exact import Scope, solve_exact
from planner.solve.tables.extract import placements
from planner.solve.tables.improve import relieve
from planner.solve.tables.packing import Packing, pack
from planner.solve.tables.polish import MOST_VARIABLES, free_tables, repair, weight
from planner.solve.tables.relax import Relaxation, Relaxed
from planner.solve.tables.reoption import kick, promising, settle

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.52, 0.45, 0.38, 0.33, 0.28, 0.25, 0.21, 0.18, 0.15, 0.12, 0.08)
"""Largest blocks that the relaxation may choose, as shares of the bound: smaller blocks pack better."""
MEMORY = (1.0, 0.97, 0.9)
"""Shares of the GPU memory that it may fill: a fuller memory packs worse."""
EASY = 1500
"""Size of an exact model that is expected to be proven soon."""
CLOSE = 2e-5
"""Gap below which a plan is called optimal: the rounding of times in the exact model."""


@dataclass(frozen=True)
class Effort:
    """How much to search, in units that do not depend on the machine's load.

    Attributes
    ----------
    gap
        Relative gap at which the search ends; small cases are proven to their optimum nevertheless.
    rounds
        Most repairs in a row without a better plan; a quarter of the most repairs at all.
    tries
        Insertions over all rounds of local search.
    proof, repair
        Deterministic time of the exact model and of each repair, in CP-SAT's units, roughly seconds.
    """

    gap: float = 1e-3
    rounds: int = 15
    tries: int = 20_000
    proof: float = 6.0
    repair: float = 0.3


def solve_tables(
    problem: TableProblem, budget: Budget | None = None, effort: Effort | None = None
) -> TablePlan:
    """Return the best plan found, with a proven lower bound of the busiest rank's time.

    Raises
    ------
    InfeasibleError
        If no choice of options fits the memory.
    NoPlanError
        If no plan was found although there may be one.
    """
    return TableSearch(problem, budget or Budget(), effort or Effort()).run()


def lower_bound(problem: TableProblem) -> float:
    """Return a cost, s, below which no plan is; infinite where the tables cannot fit."""
    try:
        return Relaxation(candidates(problem)).bound()
    except InfeasibleError:
        return float("inf")


class TableSearch:
    """One search: the incumbent, the bound, and what may still be in a better plan."""

    def __init__(self, problem: TableProblem, budget: Budget, effort: Effort) -> None:
        self.problem, self.budget, self.effort = problem, budget, effort
        self.found: Candidates = candidates(problem)
        self.relaxation = Relaxation(self.found)
        self.rng = np.random.default_rng(budget.seed)
        self.best: Packing | None = None
        self.bound = 0.0
        self._base: Relaxed | None = None
        self._pruned_at = float("inf")
        self._options: list[NDArray[np.int64]] = []

    def run(self) -> TablePlan:
        """Search in order of price: relaxed choices, local search, proof, repairs."""
        self.bound = self.relaxation.bound()
        if not np.isfinite(self.bound):
            raise InfeasibleError(
                "the tables do not fit the memory of all ranks together",
                ["GPU memory", "host memory"],
                "allow host memory or a cache, use smaller types, or more ranks",
            )
        self._start()
        easy = self._size() <= EASY
        self._local_search(self.effort.tries // 10 if easy else self.effort.tries)
        if easy:
            self._prove()
        self._polish()
        if not easy and not self._done() and self._size() <= MOST_VARIABLES:
            self._prove()
        return self._plan()

    @property
    def cost(self) -> float:
        """Cost of the incumbent, s; infinite without one."""
        return self.best.cost if self.best is not None else float("inf")

    def _done(self) -> bool:
        return self.cost <= self.bound * (1.0 + self.effort.gap) or self.budget.over

    def _take(self, packing: Packing | None) -> bool:
        if packing is None or packing.cost >= self.cost * (1.0 - 1e-9):
            return False
        self.best = packing
        self.budget.progress("tables", 0, self.bound, packing.cost)
        return True

    def _start(self) -> None:
        """Pack what the relaxation chooses under several caps on block size and memory."""
        for memory in MEMORY:
            for cap in CAPS:
                relaxed = self.relaxation.solve(self.bound * cap, memory)
                if relaxed.value >= self.cost or self._done():
                    break
                packing = pack(self.found, _rounded(self.found, relaxed), relaxed.price)
                if packing is not None:
                    relieve(packing, 20 * len(self.problem.tables))
                    self._take(packing)
            if self.best is not None and memory < 1.0:
                break

    def options(self) -> list[NDArray[np.int64]]:
        """Return what a better plan may choose for each table."""
        if self._base is None:
            self._base = self.relaxation.solve()
        if self._pruned_at > self.cost or not self._options:
            self._options, self._pruned_at = promising(self.found, self._base, self.cost), self.cost
        return self._options

    def _local_search(self, tries: int) -> None:
        """Kick the incumbent and settle again, a bounded number of times."""
        if self.best is None:
            return
        size = sum(map(len, self.options()))
        current = self.best
        for attempt in range(max(4, tries // max(size, 1))):
            if self._done():
                return
            trial = current.copy()
            if attempt:
                kick(trial, self.options(), self.rng, int(self.rng.integers(1, 5)))
            settle(trial, self.options(), self.rng, size)
            if trial.cost <= current.cost * 1.003:
                current = trial
            if attempt % 50 == 49:
                current = self.best
            self._take(trial)

    def _size(self) -> int:
        """Return about how many variables the exact model has; none before there is an incumbent."""
        return weight(self.found, self.options()) if self.best is not None else 0

    def _prove(self) -> None:
        """Let CP-SAT decide everything: a proof, or at least a better bound."""
        if self.cost <= self.bound * (1.0 + CLOSE) or self.budget.over:
            return
        limit = self.cost if self.best is not None else float(self.found.work.sum())
        kept = self.options() if self.best is not None else list(self.found.of_table)
        if any(len(mine) == 0 for mine in kept):
            self.bound = max(self.bound, self.cost * (1.0 - 1e-9))
            return
        ranks = self.found.num_ranks
        scope = Scope(
            {table: [int(option) for option in mine] for table, mine in enumerate(kept)},
            range(ranks),
            range(ranks // self.problem.costs.local_size),
            np.zeros(ranks),
            np.array(self.problem.gpu_memory, dtype=np.int64),
            np.array(self.problem.host_memory, dtype=np.int64),
        )
        outcome = solve_exact(
            self.found,
            scope,
            self.best,
            limit,
            self.budget,
            effort=self.effort.proof,
        )
        if outcome.places:
            packing = Packing(self.found)
            for table, (option, places) in outcome.places.items():
                packing.put(table, option, places)
            self._take(packing)
        elif outcome.proven and self.best is None:
            raise InfeasibleError(
                "no placement of the tables fits the memory of every rank", ["memory per rank"]
            )
        self.bound = max(self.bound, min(outcome.bound, self.cost))

    def _polish(self) -> None:
        """Repair parts of the incumbent until many rounds in a row bring nothing."""
        size, failures = min(8, len(self.problem.tables)), 0
        for attempt in range(4 * self.effort.rounds):
            if failures >= self.effort.rounds or self._done() or self.best is None:
                return
            tables = free_tables(self.best, self.rng, size)
            options = self.options()
            while (
                len(tables) > 1 and weight(self.found, [options[table] for table in tables]) > MOST_VARIABLES
            ):
                tables.pop()
            budget = replace(self.budget, seed=self.budget.seed + attempt, workers=1)
            better, complete = repair(
                self.found, self.best, options, tables, budget, effort=self.effort.repair
            )
            if self._take(better):
                failures = 0
                continue
            failures += 1
            size = min(len(self.problem.tables), size + 1) if complete else max(3, size - 1)

    def _plan(self) -> TablePlan:
        if self.best is None:
            raise NoPlanError("no placement of the tables was found in time; allow more time", self.bound)
        found = placements(self.found, self.best)
        cost = float(table_loads(self.problem, found).seconds.max())
        bound = min(self.bound, cost)
        status: Literal["optimal", "feasible"] = "optimal" if cost <= bound * (1.0 + CLOSE) else "feasible"
        return TablePlan(placements=found, cost=cost, bound=bound, status=status)


def _rounded(found: Candidates, relaxed: Relaxed) -> Sequence[int]:
    """Return each table's largest share of the relaxed choice."""
    return [int(options[np.argmax(relaxed.share[options])]) for options in found.of_table]
