"""Exact search over prefill/decode disaggregation: strategies of two pools, their ratio, and their GPUs."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.costs.pools import DecodePool, PrefillPool, decode_pool, pooled, prefill_pool
from planner.placement import Replica, ServingProblem, Strategy, limits_broken
from planner.placement.pools import PlacedPool, judge_pools
from planner.solve.budget import Budget
from planner.solve.degrees import Chain
from planner.solve.host import HostTables
from planner.solve.hosting import with_hosts
from planner.solve.layout import exact_layouts, weaker_chains
from planner.solve.serving import (
    TOLERANCE,
    Option,
    PlacedService,
    as_groups,
    built_layout,
    candidates_of,
    mesh_strategy,
    priced,
    serving_strategies,
    span_options,
)
from planner.topology import Hierarchy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BLOCK = 200_000
"""Pairs of strategies that are priced at once."""
EXCESS = 1e-6
"""By how much a placed pair may exceed its bound, as a ratio, before the bound stays open."""

Strategies = tuple[Strategy, Strategy]
Pair = tuple[Option, Option, int]
"""Options of the pool for prompts and of the other, and the level whose domain holds both."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of options within the limits: rows of either side, level, bound and latency, shape (n,)."""

    prefill: IntArray
    decode: IntArray
    level: IntArray
    bound: FloatArray
    latency: FloatArray

    def in_order(self) -> Pairs:
        """Return the pairs in order of bound."""
        order = np.lexsort((self.latency, self.bound))
        return Pairs(*(getattr(self, name)[order] for name in self.__dataclass_fields__))


@dataclass
class PoolSearch:
    """State of one search over pairs of pools.

    Attributes
    ----------
    incumbent
        Objective that a pair has to beat.
    cuts
        Pairs of strategies that are left out.
    """

    problem: ServingProblem
    budget: Budget
    incumbent: float = float("inf")
    cuts: frozenset[Strategies] = frozenset()
    best: PlacedService | None = None
    evaluated: int = 0
    visited: int = 0
    unresolved: list[float] = field(default_factory=list)
    bound: float = float("inf")

    def __post_init__(self) -> None:
        self._largest = [int(level.capacities.max()) for level in self.problem.hierarchy.levels]
        self._host = least_transfers(self.problem)
        self._weaker: list[tuple[float, float, int, Pair]] = []
        self._seen: set[Pair] = set()

    def run(self, prefill: list[Strategy] | None = None, decode: list[Strategy] | None = None) -> None:
        """Price all pairs of strategies, visit those within the limits in order of bound."""
        job = self.problem.job
        if job.before or job.after:
            return
        every = serving_strategies(self.problem) if prefill is None or decode is None else []
        sides = [span_options(self.problem, every if own is None else own) for own in (prefill, decode)]
        if not all(sides):
            return
        first, second = self._sides(*sides)
        table = self._pairs(*first, *second).in_order()
        pending, place = float("inf"), 0
        while (entry := self._next(table, place)) is not None:
            bound, taken = entry
            if bound >= self.incumbent * (1 - TOLERANCE):
                break
            if self.budget.over:
                pending = bound
                break
            if taken:
                pair = heapq.heappop(self._weaker)[3]
            else:
                row, place = place, place + 1
                pair = (
                    first[0][table.prefill[row]],
                    second[0][table.decode[row]],
                    int(table.level[row]),
                )
            if pair not in self._seen:
                self._seen.add(pair)
                self._place(pair, bound)
                self.budget.progress("place pools", self.visited, bound, self.incumbent)
        self.bound = min([self.incumbent, pending, *self.unresolved])

    def _next(self, table: Pairs, place: int) -> tuple[float, bool] | None:
        """Return the least bound that is left, and whether it is that of a weaker pair."""
        rest = float(table.bound[place]) if place < len(table.bound) else float("inf")
        weaker = self._weaker[0][0] if self._weaker else float("inf")
        if rest == weaker == float("inf"):
            return None
        return min(rest, weaker), weaker < rest

    # -- pricing -------------------------------------------------------------------------------------

    def _sides(
        self, early_options: list[Option], late_options: list[Option]
    ) -> tuple[tuple[list[Option], PrefillPool], tuple[list[Option], DecodePool]]:
        """Return the options that hold the limits of either pool by itself, with their figures."""
        problem, slo = self.problem, self.problem.job.slo
        prompts = priced(problem, early_options, prefill_pool)
        answers = priced(problem, late_options, decode_pool)
        room = problem.capacity - problem.calibration.number("context_bytes")
        early = prompts.feasible & (prompts.weights + prompts.working < room)
        if slo.ttft_p99 is not None:
            early &= prompts.ttft + prompts.spread + self._host <= slo.ttft_p99
        late = answers.feasible & (answers.weights + answers.working < room)
        if slo.tpot_p99 is not None:
            late &= answers.step_p99 <= slo.tpot_p99
        first, second = np.flatnonzero(early), np.flatnonzero(late)
        return (
            ([early_options[row] for row in first], prompts.take(first)),
            ([late_options[row] for row in second], answers.take(second)),
        )

    def _pairs(
        self, first: list[Option], prompts: PrefillPool, second: list[Option], answers: DecodePool
    ) -> Pairs:
        """Return the pairs within all limits that could beat the incumbent."""
        empty = np.empty(0, dtype=np.int64)
        parts = [Pairs(empty, empty, empty, np.empty(0), np.empty(0))]
        gpus = [candidates_of(side).ranks if side else empty for side in (first, second)]
        kinds: dict[str | None, int] = {}
        types = [
            np.asarray([kinds.setdefault(s.kv_precision, len(kinds)) for s, _ in side], dtype=np.int64)
            for side in (first, second)
        ]
        step = max(1, BLOCK // max(len(second), 1))
        for start in range(0, len(first) if second else 0, step):
            rows = np.arange(start, min(start + step, len(first)))
            left, right = (one.ravel() for one in np.meshgrid(rows, np.arange(len(second)), indexing="ij"))
            total = gpus[0][left] + gpus[1][right]
            fits = (total <= self.problem.num_gpus) & (types[0][left] == types[1][right])
            fits &= total <= self._largest[-1]
            left, right, total = left[fits], right[fits], total[fits]
            self.evaluated += len(left)
            level = np.searchsorted(self._largest, total).astype(np.int64)
            within, bound, latency = self._bounds(prompts.take(left), answers.take(right), level, total)
            keep = within & (bound < self.incumbent)
            parts.append(Pairs(left[keep], right[keep], level[keep], bound[keep], latency[keep]))
        names = Pairs.__dataclass_fields__
        return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def _bounds(
        self, prompts: PrefillPool, answers: DecodePool, level: IntArray, total: IntArray
    ) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
        """Return which pairs hold all limits, and bounds of their objective and of their latency."""
        slo = self.problem.job.slo
        costs = pooled(self.problem.job, prompts, answers, level, self.problem.fabric)
        latency = costs.latency_p99 + self._host
        within = costs.feasible.copy()
        for limit, value in (
            (slo.ttft_p99, costs.ttft_p99 + self._host),
            (slo.tpot_p99, costs.tpot_p99),
            (slo.latency_p99, latency),
        ):
            if limit is not None:
                within &= value <= limit
        return within, self.problem.value(total.astype(float), latency), latency

    def _queue(self, pair: Pair) -> None:
        """Queue a weaker pair, where it holds the limits."""
        (first, second, level) = pair
        if pair in self._seen or level >= len(self._largest):
            return
        prompts = priced(self.problem, [first], prefill_pool)
        answers = priced(self.problem, [second], decode_pool)
        total = candidates_of([first]).ranks + candidates_of([second]).ranks
        within, bound, latency = self._bounds(prompts, answers, np.asarray([level]), total)
        self.evaluated += 1
        if within[0]:
            entry = (float(bound[0]), float(latency[0]), self.evaluated, pair)
            heapq.heappush(self._weaker, entry)

    # -- placing -------------------------------------------------------------------------------------

    def _place(self, pair: Pair, bound: float) -> None:
        """Place one pair; where its spans cannot be laid out, queue the weaker ones."""
        (prefill, own), (decode, other), level = pair
        if (prefill, decode) in self.cuts:
            return
        self.visited += 1
        groups, proven = self._groups(pair)
        if groups is None:
            if not proven:
                self.unresolved.append(bound)
            for weaker in weaker_chains(own, len(own)):
                self._queue(((prefill, weaker), (decode, other), level))
            for weaker in weaker_chains(other, len(other)):
                self._queue(((prefill, own), (decode, weaker), level))
            self._queue(((prefill, own), (decode, other), level + 1))
            return
        placed = place_pools(self.problem, (prefill, decode), groups, self.budget)
        legal = placed is not None and not limits_broken(self.problem, placed.outcome)
        if placed is None or not legal or placed.value > bound * (1 + EXCESS):
            self.unresolved.append(bound)
        if placed is not None and legal and placed.value < self.incumbent:
            self.best, self.incumbent = placed, placed.value

    def _groups(self, pair: Pair) -> tuple[list[list[list[str]]] | None, bool]:
        """Return the GPUs of the replicas of both pools in one domain of the level, and if that is proven."""
        (prefill, own), (decode, other), level = pair
        proven = True
        for part in self._domains(level, prefill.num_ranks + decode.num_ranks):
            found, sure = joint_layout([(prefill, own), (decode, other)], part, self.budget)
            if found is not None:
                return found, True
            proven = proven and sure
        return None, proven

    def _domains(self, number: int, total: int) -> Iterator[Hierarchy]:
        """Yield the domains of a level that are large enough, one of each shape."""
        hierarchy, seen = self.problem.hierarchy, set()
        signature = hierarchy.signature()
        domain_of = hierarchy.levels[number].domain_of
        for domain in np.unique(domain_of):
            inside = np.flatnonzero(domain_of == domain)
            inner = signature[inside, :number]
            columns = [np.unique(inner[:, column], return_inverse=True)[1] for column in range(number)]
            shape = tuple(column.tobytes() for column in columns)
            if len(inside) >= total and (len(inside), shape) not in seen:
                seen.add((len(inside), shape))
                yield hierarchy.subset(inside.tolist())


def least_transfers(problem: ServingProblem) -> float:
    """Return a lower bound of what inputs to one GPU and outputs of another take, s."""
    ticks = [float("inf"), float("inf")]
    for machine in problem.topology.machine_types:
        tables = HostTables(problem, machine, problem.job.traffic.rate)
        for place, into in enumerate((True, False)):
            moved = [
                tables.moved(numa, gpu.name, into=into) for numa in tables.domains for gpu in machine.gpus
            ]
            ticks[place] = min([ticks[place], *moved])
    return max(0.0, (sum(ticks) - 2.0) / 1e9)


def joint_layout(
    parts: list[tuple[Strategy, Chain]], hierarchy: Hierarchy, budget: Budget
) -> tuple[list[list[list[str]]] | None, bool]:
    """Return the GPUs of the replicas of each part, no GPU in two, and whether the answer is proven."""
    by_size = sorted(range(len(parts)), key=lambda one: -parts[one][0].tp * parts[one][0].pp)
    for order in (by_size, by_size[::-1]):
        found = _one_after_the_other(parts, order, hierarchy)
        if found is not None:
            return found, True
    meshes = [(mesh_strategy(strategy), chain) for strategy, chain in parts]
    gpus, proven = exact_layouts(meshes, hierarchy, budget)
    if gpus is None:
        return None, proven
    return [as_groups(s, one, hierarchy) for (s, _), one in zip(parts, gpus, strict=True)], True


def _one_after_the_other(
    parts: list[tuple[Strategy, Chain]], order: list[int], hierarchy: Hierarchy
) -> list[list[list[str]]] | None:
    """Return layouts built in an order, each on the GPUs that are left."""
    found: dict[int, list[list[str]]] = {}
    left = list(range(hierarchy.num_gpus))
    for index in order:
        strategy, chain = parts[index]
        if len(left) < strategy.num_ranks:
            return None
        free = hierarchy.subset(left)
        gpus = built_layout(strategy, chain, free)
        if gpus is None:
            return None
        found[index] = as_groups(strategy, gpus, free)
        taken = {left[gpu] for gpu in gpus.tolist()}
        left = [gpu for gpu in left if gpu not in taken]
    return [found[index] for index in range(len(parts))]


def place_pools(
    problem: ServingProblem, strategies: Strategies, groups: list[list[list[str]]], budget: Budget
) -> PlacedService | None:
    """Return two pools placed on groups of GPUs, ``None`` where a host cannot reach them."""
    pools = []
    for name, strategy, own in zip(("prefill", "decode"), strategies, groups, strict=True):
        replicas = with_hosts(problem, strategy.dp, own, budget)
        if replicas is None:
            return None
        pools.append(PlacedPool(strategy, _named(name, replicas)))
    return service_of(problem, *pools)


def _named(name: str, replicas: list[Replica]) -> list[Replica]:
    return [
        replica.model_copy(update={"name": f"{name}-{number}"}) for number, replica in enumerate(replicas)
    ]


def service_of(problem: ServingProblem, prefill: PlacedPool, decode: PlacedPool) -> PlacedService:
    """Return two placed pools with the judge's outcome."""
    outcome = judge_pools(problem, prefill, decode)
    gpus = float(len(prefill.gpus()) + len(decode.gpus()))
    value = problem.value(gpus, outcome.latency_p99)
    return PlacedService(decode.strategy, list(decode.replicas), outcome, value, prefill)
