"""Search over mixed strategies: price all, visit in order of bound, place, stop with a proof or a gap."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, product

import numpy as np
from numpy.typing import NDArray

from planner.placement import Strategy, as_strategy, training_spans
from planner.placement.mixed import MixedPlacement, MixedTrainingProblem, judge_cells, judge_mixed
from planner.solve.budget import Budget
from planner.solve.degrees import level_sizes
from planner.solve.layout import weaker_chains
from planner.solve.mixed.cells import CellModel, Cells, replica_options
from planner.solve.mixed.space import Rows, mixed_strategies, price, priced
from planner.solve.training import as_chain

IntArray = NDArray[np.int64]
TOLERANCE = 1e-6
LARGEST_EXHAUSTIVE = 4096
"""Most ways to give the cells their nodes that are all tried."""
NEAR = 4.0
"""Multiple of its bound within which the first plan is looked for: small numbers make a fast model."""
PATIENCE = 4.0
"""Seconds for one strategy before others get their turn."""


@dataclass(frozen=True)
class MixedSolution:
    """The best placement found, its step time and the bound over the whole space, s."""

    placement: MixedPlacement | None
    seconds: float
    bound: float
    evaluated: int
    visited: int

    @property
    def gap(self) -> float:
        """Relative gap between step time and bound."""
        return max(0.0, 1.0 - self.bound / self.seconds)


@dataclass
class MixedSearch:
    """State of one search; :meth:`run` returns the solution.

    Attributes
    ----------
    incumbent
        Step time that is to be beaten, such as that of a plan on one kind, s.
    """

    problem: MixedTrainingProblem
    budget: Budget
    incumbent: float = float("inf")
    best: MixedPlacement | None = None
    visited: int = 0
    unresolved: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, int, Rows, int]] = []
        self._number = count()
        self._seen: set[tuple[Strategy, object]] = set()

    def run(self) -> MixedSolution:
        """Visit every strategy that may win in order of bound."""
        rows = price(self.problem, mixed_strategies(self.problem))
        order = np.argsort(rows.bounds, kind="stable")
        place = 0
        while not self.budget.over:
            fresh = float(rows.bounds[order[place]]) if place < len(order) else float("inf")
            if self._queue and self._queue[0][0] <= fresh:
                bound, _, some, row = heapq.heappop(self._queue)
            elif place < len(order):
                bound, some, row = fresh, rows, int(order[place])
                place += 1
            else:
                break
            if bound >= self.incumbent * (1 - TOLERANCE):
                heapq.heappush(self._queue, (bound, next(self._number), some, row))
                break
            self._visit(some, row, bound)
            self.budget.progress("place", self.visited, bound, self.incumbent)
        pending = float(rows.bounds[order[place]]) if place < len(order) else float("inf")
        queued = self._queue[0][0] if self._queue else float("inf")
        bound = min([self.incumbent, pending, queued, *self.unresolved])
        return MixedSolution(self.best, self.incumbent, bound, len(rows.bounds), self.visited)

    def _visit(self, rows: Rows, row: int, bound: float) -> None:
        strategy, chain = as_strategy(rows.many, row), as_chain(rows.shares[row])
        if (strategy, chain) in self._seen:
            return
        self._seen.add((strategy, chain))
        self.visited += 1
        if strategy.pp == 1:
            self._place(rows, row, iter(replica_options(self.problem, rows, row)))
        else:
            self._place(rows, row, self._pipelines(rows, row, bound))

    def _pipelines(self, rows: Rows, row: int, bound: float) -> Iterator[Cells]:
        """Yield the best choice for pipelines, then the best with other kinds, within the incumbent."""
        for near in (True, False):
            limit = min(self.incumbent * (1 - TOLERANCE), NEAR * bound if near else float("inf"))
            yield from self._within(CellModel(self.problem, rows, row, limit), bound)
            if self.incumbent <= NEAR * bound:
                return

    def _within(self, model: CellModel, bound: float) -> Iterator[Cells]:
        while True:
            cells, least = model.solve(self.budget.part(min(PATIENCE, self.budget.left)))
            if least < (cells.seconds if cells is not None else float("inf")) * (1 - TOLERANCE):
                self.unresolved.append(max(bound, least))
            if cells is None:
                return
            yield cells
            model.forbid(cells.kinds)

    def _place(self, rows: Rows, row: int, options: Iterator[Cells]) -> None:
        """Lay out the options in order; where one cannot have its spans, try the next, and weaker spans."""
        strategy, weakened = as_strategy(rows.many, row), False
        for cells in options:
            if cells.seconds >= self.incumbent * (1 - TOLERANCE):
                return
            judged, exhaustive = self._lay_out(strategy, cells)
            if judged <= cells.seconds * (1 + TOLERANCE):
                return
            if not weakened:
                self._weaken(rows, row)
                weakened = True
            if not exhaustive:
                self.unresolved.append(max(cells.bound, float(rows.bounds[row])))
                return

    def _weaken(self, rows: Rows, row: int) -> None:
        chain = as_chain(rows.shares[row])
        for weaker in weaker_chains(chain, len(level_sizes(self.problem.hierarchy))):
            share = weaker[0]
            if share[0] != int(rows.many.tp[row]) or share[1] != int(rows.many.cp[row]):
                continue
            some = priced(
                self.problem, rows.many.take(np.asarray([row])), np.asarray([weaker], dtype=np.int64)
            )
            if len(some.bounds):
                heapq.heappush(self._queue, (float(some.bounds[0]), next(self._number), some, 0))

    def _lay_out(self, strategy: Strategy, cells: Cells) -> tuple[float, bool]:
        """Return the best judged step time of a choice over layouts, and whether all layouts were tried."""
        layouts, exhaustive = layouts_of(self.problem, strategy, cells.kinds)
        least = float("inf")
        for gpus in layouts:
            spans = training_spans(strategy, gpus, self.problem.hierarchy)
            outcome = judge_cells(
                self.problem, strategy, cells.layers, cells.micro_batches, cells.kinds, spans
            )
            least = min(least, outcome.step_time)
            if outcome.step_time < self.incumbent:
                self.incumbent = outcome.step_time
                devices = tuple(self.problem.hierarchy.gpus[gpu] for gpu in gpus)
                self.best = MixedPlacement(strategy, cells.layers, cells.micro_batches, devices)
            if least <= cells.seconds * (1 + TOLERANCE):
                return least, True
        return least, exhaustive


def layouts_of(
    problem: MixedTrainingProblem, strategy: Strategy, kinds: IntArray
) -> tuple[list[IntArray], bool]:
    """Return GPU numbers in rank order for cells of given kinds, and whether these are all that differ.

    Cells fill nodes stage by stage and replica by replica; where there are few ways, all of them.
    """
    width = strategy.tp * strategy.cp
    free = {kind: domain_slots(problem, kind, width) for kind in range(len(problem.kinds))}
    cells = list(np.ndindex(kinds.shape))
    ways = 1.0
    for cell in cells:
        ways *= len({domain for domain, _ in free[int(kinds[cell])]})
    orders = [cells, sorted(cells, key=lambda cell: (cell[1], cell[0]))]
    found = [_fill(kinds, order, free) for order in orders]
    if ways > LARGEST_EXHAUSTIVE:
        return found, False
    domains = {kind: sorted({domain for domain, _ in some}) for kind, some in free.items()}
    for choice in product(*(domains[int(kinds[cell])] for cell in cells)):
        left = {
            (domain, kind): [gpus for d, gpus in some if d == domain]
            for kind, some in free.items()
            for domain in domains[kind]
        }
        placed: list[IntArray] = []
        for cell, domain in zip(cells, choice, strict=True):
            room = left[domain, int(kinds[cell])]
            if not room:
                break
            placed.append(room.pop(0))
        if len(placed) == len(cells):
            found.append(np.concatenate(placed))
    return found, True


def domain_slots(problem: MixedTrainingProblem, kind: int, width: int) -> list[tuple[int, IntArray]]:
    """Return the places for cells of a kind: the domain and the GPUs of each."""
    inner = problem.hierarchy.levels[0].domain_of
    found = []
    for domain in np.unique(inner):
        gpus = np.flatnonzero((inner == domain) & (problem.kind_of == kind))
        found += [(int(domain), gpus[i * width : (i + 1) * width]) for i in range(len(gpus) // width)]
    return found


def _fill(
    kinds: IntArray, order: list[tuple[int, ...]], free: dict[int, list[tuple[int, IntArray]]]
) -> IntArray:
    used = dict.fromkeys(free, 0)
    place: dict[tuple[int, ...], IntArray] = {}
    for cell in order:
        kind = int(kinds[cell])
        place[cell] = free[kind][used[kind]][1]
        used[kind] += 1
    return np.concatenate([place[cell] for cell in np.ndindex(kinds.shape)])


def search_mixed(
    problem: MixedTrainingProblem,
    budget: Budget,
    incumbent: float = float("inf"),
    start: MixedPlacement | None = None,
) -> MixedSolution:
    """Return the best mixed placement that beats an incumbent, with the bound of the space.

    A legal placement to start from is the incumbent where it is better.

    The space: any kinds for the cells, any layers, any micro-batches; tensor and context groups within an
    innermost domain; no interleaving; models without experts.
    """
    search = MixedSearch(problem, budget, incumbent)
    if start is not None and (seconds := judge_mixed(problem, start).step_time) < incumbent:
        search.best, search.incumbent = start, seconds
    solution = search.run()
    if solution.placement is not None:
        judged = judge_mixed(problem, solution.placement).step_time
        assert abs(judged - solution.seconds) <= 1e-9 * judged
    return solution
