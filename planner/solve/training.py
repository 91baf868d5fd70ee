"""Exact search over training strategies: evaluate all, visit in order of bound, place, stop with a proof."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs import Candidates, StageCosts, stage_costs
from planner.costs.strategy import Setting
from planner.costs.training import stage_bytes
from planner.placement import Strategy, TrainingOutcome, TrainingProblem, as_strategy, judge_training
from planner.placement.training import model_flops
from planner.solve.bounds import compute_bound, may_fit, step_time_bounds
from planner.solve.budget import Budget
from planner.solve.degrees import Chain, as_spans, level_sizes, strategies, with_spans
from planner.solve.layers import Split, best_split
from planner.solve.layout import exact_layout, nested_layout, weaker_chains

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCK_ROWS = 30_000
TOLERANCE = 1e-9
AHEAD = 64
"""Queued candidates of a batch whose costs are worked out at once."""


@dataclass(frozen=True)
class PlacedStrategy:
    """A strategy with its layers and devices, and the judge's step time, s.

    ``again`` are the layers that each stage repeats under block recompute, empty without it.
    """

    strategy: Strategy
    layers: list[int]
    devices: list[str]
    seconds: float
    again: tuple[int, ...] = ()


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
        self._ahead: dict[int, tuple[int, StageCosts]] = {}
        self._layouts: dict[tuple[tuple[int, ...], Chain], tuple[IntArray | None, bool]] = {}
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
        problem = self.problem
        together = as_spans(many, np.ones((len(many), len(self.levels), 6), dtype=np.int64))
        setting = Setting(problem.shape, many, together, problem.kernels, problem.fabric, problem.calibration)
        fits = may_fit(problem, many, stage_bytes(setting))
        self.fits_somewhere |= bool(fits.any())
        return many.take(np.flatnonzero(fits))

    def _costs(self, many: Candidates, shares: IntArray) -> StageCosts:
        problem = self.problem
        spans = as_spans(many, shares)
        return stage_costs(problem.shape, many, spans, problem.kernels, problem.fabric, problem.calibration)

    def queue(self, batch: Priced, costs: StageCosts | None = None) -> None:
        """Queue candidates that are in order of bound, with their costs if these are known."""
        self._batches.append(batch)
        number = len(self._batches) - 1
        if costs is not None:
            self._ahead[number] = 0, costs
        heapq.heappush(self._queue, (float(batch.bounds[0]), number, 0))

    # -- visits --------------------------------------------------------------------------------------

    def visit(self, most: int | None) -> None:
        """Place candidates in order of bound until none can win (or ``most`` were placed)."""
        count = 0
        while self._queue and not self.budget.over and (most is None or count < most):
            bound, number, row = heapq.heappop(self._queue)
            if bound >= self.incumbent * (1 - TOLERANCE):
                self._queue.clear()
                self._batches.clear()
                self._ahead.clear()
                return
            batch = self._batches[number]
            if row + 1 < len(batch.bounds):
                heapq.heappush(self._queue, (float(batch.bounds[row + 1]), number, row + 1))
            one, chain = batch.many.take(np.asarray([row])), as_chain(batch.shares[row])
            self._visit_once(one, chain, self._costs_of(number, row))
            count += 1
            self.budget.progress("place", self.visited, bound, self.incumbent)

    def _visit_once(self, one: Candidates, chain: Chain, costs: StageCosts) -> None:
        strategy = as_strategy(one, 0)
        if (strategy, chain) in self._seen:
            return
        self._seen.add((strategy, chain))
        self.visited += 1
        if not self._place(strategy, chain, costs):
            self._weaken(one, chain)

    def _costs_of(self, number: int, row: int) -> StageCosts:
        """Return the costs of a queued candidate; those of its batch are worked out some at a time."""
        batch, start = self._batches[number], row // AHEAD * AHEAD
        if self._ahead.get(number, (-1, None))[0] != start:
            rows = np.arange(start, min(start + AHEAD, len(batch.bounds)))
            self._ahead[number] = start, self._costs(batch.many.take(rows), batch.shares[rows])
        return self._ahead[number][1].take(np.asarray([row - start]))

    def _place(self, strategy: Strategy, chain: Chain, costs: StageCosts) -> bool:
        """Place a strategy; return whether nothing is left to try with weaker chains."""
        problem = self.problem
        split = best_split(problem, strategy, costs, 0, self.budget, self.incumbent)
        if split is None or split.bound >= self.incumbent * (1 - TOLERANCE):
            return True
        if split.bound < split.seconds * (1 - TOLERANCE):
            self.unresolved.append(split.bound)
        if not split.layers:
            return True
        gpus = nested_layout(strategy, chain, problem.hierarchy)
        if gpus is not None and self._accept(strategy, split, gpus) <= split.seconds * (1 + TOLERANCE):
            return True
        exact, proven = self._exact_layout(strategy, chain)
        if exact is not None and self._accept(strategy, split, exact) <= split.seconds * (1 + TOLERANCE):
            return True
        if not proven:
            self.unresolved.append(split.bound)
        return False

    def _exact_layout(self, strategy: Strategy, chain: Chain) -> tuple[IntArray | None, bool]:
        """Return what :func:`exact_layout` finds, once for strategies of the same mesh."""
        s = strategy
        mesh = (s.tp, s.pp, s.dp, s.cp, s.ep)
        if (mesh, chain) not in self._layouts:
            found = exact_layout(strategy, chain, self.problem.hierarchy, self.budget)
            if found[1] is False:
                return found
            self._layouts[mesh, chain] = found
        return self._layouts[mesh, chain]

    def _weaken(self, one: Candidates, chain: Chain) -> None:
        """Queue the weaker chains of a strategy whose chain could not be laid out."""
        chains = weaker_chains(chain, len(self.levels))
        if not chains:
            return
        shares, many = np.asarray(chains), one.take(np.zeros(len(chains), dtype=np.int64))
        costs = self._costs(many, shares)
        bounds = step_time_bounds(self.problem, many, costs)
        order = np.argsort(bounds, kind="stable")
        self.queue(Priced(bounds[order], many, shares[order]), costs.take(order))

    def _accept(self, strategy: Strategy, split: Split, gpus: IntArray) -> float:
        devices = [self.problem.hierarchy.gpus[gpu] for gpu in gpus]
        outcome = judge_training(self.problem, strategy, split.layers, devices, split.again)
        if outcome.step_time < self.incumbent:
            self.best = as_placed(strategy, devices, outcome)
        return outcome.step_time


def as_placed(strategy: Strategy, devices: list[str], outcome: TrainingOutcome) -> PlacedStrategy:
    """Return a strategy as the judge sees it on some devices."""
    layers = [int(count) for count in outcome.dense + outcome.moe]
    again = tuple(int(count) for count in outcome.again) if strategy.recompute == "block" else ()
    return PlacedStrategy(strategy, layers, devices, outcome.step_time, again)


def as_chain(shares: IntArray) -> Chain:
    """Return an array of shares, shape (levels, 6), as a hashable chain."""
    return tuple((int(a), int(b), int(c), int(d), int(e), int(f)) for a, b, c, d, e, f in shares)


def search_training(
    problem: TrainingProblem, budget: Budget, best: PlacedStrategy | None = None
) -> TrainingSearch:
    """Return the finished search of a training problem, started from a placed strategy if there is one."""
    search = TrainingSearch(problem, budget, best)
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
