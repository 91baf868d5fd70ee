"""Exact search over training strategies: evaluate all, visit in order of bound, place, stop with a proof."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs import Candidates, StageCosts, stage_costs
from planner.placement import Strategy, TrainingProblem, as_strategy, judge_training
from planner.placement.training import model_flops
from planner.solve.bounds import compute_bound, may_fit, step_time_bounds
from planner.solve.budget import Budget
from planner.solve.degrees import Chain, as_spans, level_sizes, strategies, with_spans
from planner.solve.layers import best_split
from planner.solve.layout import exact_layout, nested_layout, weaker_chains

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCK_ROWS = 30_000
TOLERANCE = 1e-9


@dataclass(frozen=True)
class PlacedStrategy:
    """A strategy with its layers and devices, and the judge's step time, s."""

    strategy: Strategy
    layers: list[int]
    devices: list[str]
    seconds: float


@dataclass(frozen=True)
class Priced:
    """Candidates, each with its chain of shares, and the lower bounds of their step times, s."""

    bounds: FloatArray
    many: Candidates
    shares: IntArray


@dataclass
class TrainingSearch:
    """State of one search; :func:`search_training` runs it.

    Attributes
    ----------
    evaluated, visited
        Strategies priced with a bound, and those that were placed.
    unresolved
        Bounds of candidates that could neither be placed nor excluded.
    """

    problem: TrainingProblem
    budget: Budget
    best: PlacedStrategy | None = None
    evaluated: int = 0
    visited: int = 0
    unresolved: list[float] = field(default_factory=list)
    bound: float = float("inf")
    fits_somewhere: bool = False

    def __post_init__(self) -> None:
        self.levels = level_sizes(self.problem.hierarchy)
        self.priced: list[Priced] = []
        self._batches: list[Priced] = []
        self._queue: list[tuple[float, int, int]] = []
        self._seen: set[tuple[Strategy, Chain]] = set()

    @property
    def incumbent(self) -> float:
        """Step time of the best placed strategy, s, infinite before there is one."""
        return float("inf") if self.best is None else self.best.seconds

    # -- evaluation ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Evaluate every strategy that could still win, then visit them in order of bound."""
        many = strategies(self.problem)
        floor = compute_bound(self.problem, many, model_flops(self.problem))
        order = np.argsort(floor, kind="stable")
        limit = float("inf")
        for start in range(0, len(order), BLOCK_ROWS):
            block = order[start : start + BLOCK_ROWS]
            if floor[block[0]] >= self.incumbent * (1 - TOLERANCE):
                break
            if self.budget.over:
                limit = float(floor[block[0]])
                break
            self.evaluate(many.take(block))
            self.visit(most=4)
        self.visit(most=None)
        pending = self._queue[0][0] if self._queue else float("inf")
        self.bound = min([self.incumbent, pending, limit, *self.unresolved])

    def evaluate(self, many: Candidates) -> None:
        """Price candidates under every span and queue those that could still win, in order of bound."""
        fitting = self.fitting(many)
        if not len(fitting):
            return
        rows, shares = with_spans(fitting, self.levels)
        spread = fitting.take(rows)
        bounds = step_time_bounds(self.problem, spread, self._costs(spread, shares))
        self.evaluated += len(rows)
        self.priced.append(Priced(bounds, spread, shares))
        kept = np.flatnonzero(bounds < self.incumbent * (1 - TOLERANCE))
        kept = kept[np.argsort(bounds[kept], kind="stable")]
        if len(kept):
            self.queue(Priced(bounds[kept], spread.take(kept), shares[kept]))

    def fitting(self, many: Candidates) -> Candidates:
        """Return the strategies that may fit in memory, which does not depend on their placement."""
        together = np.ones((len(many), len(self.levels), 6), dtype=np.int64) * many.ranks[:, None, None]
        fits = may_fit(self.problem, many, self._costs(many, together))
        self.fits_somewhere |= bool(fits.any())
        return many.take(np.flatnonzero(fits))

    def _costs(self, many: Candidates, shares: IntArray) -> StageCosts:
        problem = self.problem
        spans = as_spans(many, shares)
        return stage_costs(problem.shape, many, spans, problem.kernels, problem.fabric, problem.calibration)

    def _push(self, bound: float, one: Candidates, chain: Chain) -> None:
        """Queue a single candidate."""
        self.queue(Priced(np.asarray([bound]), one, np.asarray([chain])))

    def queue(self, batch: Priced) -> None:
        """Queue candidates that are in order of bound."""
        self._batches.append(batch)
        heapq.heappush(self._queue, (float(batch.bounds[0]), len(self._batches) - 1, 0))

    # -- visits --------------------------------------------------------------------------------------

    def visit(self, most: int | None) -> None:
        """Place candidates in order of bound until none can win (or ``most`` were placed)."""
        count = 0
        while self._queue and not self.budget.over and (most is None or count < most):
            bound, number, row = heapq.heappop(self._queue)
            if bound >= self.incumbent * (1 - TOLERANCE):
                self._queue.clear()
                self._batches.clear()
                return
            batch = self._batches[number]
            if row + 1 < len(batch.bounds):
                heapq.heappush(self._queue, (float(batch.bounds[row + 1]), number, row + 1))
            self._place(batch.many.take(np.asarray([row])), as_chain(batch.shares[row]))
            count += 1
            self.budget.progress("place", self.visited, bound, self.incumbent)

    def _place(self, one: Candidates, chain: Chain) -> None:
        problem, strategy = self.problem, as_strategy(one, 0)
        if (strategy, chain) in self._seen:
            return
        self._seen.add((strategy, chain))
        self.visited += 1
        costs = self._costs(one, np.asarray([chain]))
        split = best_split(problem, strategy, costs, 0, seconds=self.budget.left, seed=self.budget.seed)
        if split is None or split.bound >= self.incumbent * (1 - TOLERANCE):
            return
        if split.bound < split.seconds * (1 - TOLERANCE):
            self.unresolved.append(split.bound)
        if not split.layers:
            return
        gpus = nested_layout(strategy, chain, problem.hierarchy)
        if gpus is not None and self._accept(strategy, split.layers, gpus) <= split.seconds * (1 + TOLERANCE):
            return
        exact, proven = exact_layout(
            strategy, chain, problem.hierarchy, seconds=self.budget.left, seed=self.budget.seed
        )
        if exact is not None and self._accept(strategy, split.layers, exact) <= split.seconds * (
            1 + TOLERANCE
        ):
            return
        if not proven:
            self.unresolved.append(split.bound)
        for weaker in weaker_chains(chain, len(self.levels)):
            self._push(self._bound(one, weaker), one, weaker)

    def _bound(self, one: Candidates, chain: Chain) -> float:
        return float(step_time_bounds(self.problem, one, self._costs(one, np.asarray([chain])))[0])

    def _accept(self, strategy: Strategy, layers: list[int], gpus: IntArray) -> float:
        devices = [self.problem.hierarchy.gpus[gpu] for gpu in gpus]
        seconds = judge_training(self.problem, strategy, layers, devices).step_time
        if seconds < self.incumbent:
            self.best = PlacedStrategy(strategy, layers, devices, seconds)
        return seconds


def as_chain(shares: IntArray) -> Chain:
    """Return an array of shares, shape (levels, 6), as a hashable chain."""
    return tuple((int(a), int(b), int(c), int(d), int(e), int(f)) for a, b, c, d, e, f in shares)


def search_training(problem: TrainingProblem, budget: Budget) -> TrainingSearch:
    """Return the finished search of a training problem."""
    search = TrainingSearch(problem, budget)
    search.run()
    return search


def best_among(problem: TrainingProblem, batch: Priced, budget: Budget) -> PlacedStrategy | None:
    """Return the best placed strategy among some priced candidates, visited in order of bound."""
    if not len(batch.bounds):
        return None
    search = TrainingSearch(problem, budget)
    search.queue(batch)
    search.visit(most=None)
    return search.best


def cheapest(priced: list[Priced], chosen: Callable[[Candidates], NDArray[np.bool_]], most: int) -> Priced:
    """Return the candidates of lowest bound that a condition holds for, at most ``most``, in order."""
    parts = []
    for batch in priced:
        rows = np.flatnonzero(chosen(batch.many))
        rows = rows[np.argsort(batch.bounds[rows], kind="stable")[:most]]
        parts.append(Priced(batch.bounds[rows], batch.many.take(rows), batch.shares[rows]))
    bounds = np.concatenate([part.bounds for part in parts])
    many = Candidates(*(np.concatenate([getattr(p.many, f.name) for p in parts]) for f in fields(Candidates)))
    order = np.argsort(bounds, kind="stable")[:most]
    return Priced(bounds[order], many.take(order), np.concatenate([part.shares for part in parts])[order])
