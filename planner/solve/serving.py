"""Exact search over serving strategies: replicas, degrees, GPUs, CPU stages, under latency limits."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from planner.costs import ServingCandidates, ServingCosts, ServingModel, ServingSpans
from planner.costs.pools import DecodePool, PrefillPool
from planner.placement import Replica, ServingOutcome, ServingProblem, Strategy, judge_serving, limits_broken
from planner.placement.groups import members_per_domain
from planner.placement.pools import PlacedPool
from planner.placement.problem import TYPES, allowed_types
from planner.placement.serving import degree_rules
from planner.solve.budget import Budget
from planner.solve.degrees import Chain, LevelSizes, divisors, level_sizes, powers_of_two, span_choices
from planner.solve.host import HostTables
from planner.solve.hosting import with_hosts
from planner.solve.layout import LARGEST_EXACT, exact_layout, nested_layout, weaker_chains
from planner.topology import Hierarchy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
TOLERANCE = 1e-9
LARGEST_PP = 16
Priced = TypeVar("Priced", ServingCosts, PrefillPool, DecodePool)


@dataclass(frozen=True)
class PlacedService:
    """A serving strategy with its replicas, the judge's outcome and the objective's value.

    Attributes
    ----------
    prefill
        The pool for prompts, where the replicas only generate.
    """

    strategy: Strategy
    replicas: list[Replica]
    outcome: ServingOutcome
    value: float
    prefill: PlacedPool | None = None


@dataclass(frozen=True)
class Table:
    """All strategies with each way to span the machine, their predicted behaviour and bounds.

    Attributes
    ----------
    host : ndarray, shape (n,)
        Least time that CPU stages and transfers can take, s.
    """

    many: ServingCandidates
    options: list[Option]
    costs: ServingCosts
    host: FloatArray

    def limits(self, problem: ServingProblem) -> dict[str, NDArray[np.bool_]]:
        """Return which rows can hold each constraint."""
        slo, costs = problem.job.slo, self.costs
        weights = costs.weights + costs.working + problem.calibration.number("context_bytes")
        checks = {
            "memory for the weights": weights < problem.capacity,
            "offered rate": costs.feasible,
            "CPU cores": np.isfinite(self.host),
        }
        if slo.ttft_p99 is not None:
            checks["ttft_p99"] = costs.ttft_p99 + self.host <= slo.ttft_p99
        if slo.tpot_p99 is not None:
            checks["tpot_p99"] = costs.tpot_p99 <= slo.tpot_p99
        if slo.latency_p99 is not None:
            checks["latency_p99"] = costs.latency_p99 + self.host <= slo.latency_p99
        return checks


def serving_strategies(problem: ServingProblem) -> list[Strategy]:
    """Return every legal serving strategy that the GPUs can hold; ``dp`` counts replicas."""
    model, limits, gpus = problem.model, problem.job.degrees, problem.num_gpus
    found = []
    for tp, ep, adp in stage_degrees(problem):
        for pp in [
            p for p in limits.pp or powers_of_two(LARGEST_PP) if p <= (model.layers if adp == 1 else 1)
        ]:
            most = gpus // (tp * pp)
            for dp in [d for d in limits.replicas or range(1, most + 1) if d <= most]:
                found.append(Strategy(tp=tp, pp=pp, dp=dp, ep=ep, adp=adp))
    types = [allowed_types(problem.job, name) for name in TYPES]
    if all(choices == [None] for choices in types):
        return found
    return [
        strategy.model_copy(update=dict(zip(TYPES, chosen, strict=True)))
        for strategy in found
        for chosen in product(*types)
    ]


def stage_degrees(problem: ServingProblem) -> Iterator[tuple[int, int, int]]:
    """Yield every legal ``tp, ep, adp`` of a pipeline stage that the GPUs can hold.

    The space: ``tp`` the divisors of the heads, ``ep`` those of ``tp``; of models with experts ``adp`` the
    powers of two, with ``pp`` 1.
    """
    model, limits = problem.model, problem.job.degrees
    copies = limits.adp or (powers_of_two(problem.num_gpus) if model.experts is not None else [1])
    for tp in [d for d in limits.tp or divisors(model.heads) if d <= problem.num_gpus]:
        for ep, adp in product(limits.ep or divisors(tp), copies):
            if not any(degree_rules(problem.model, Strategy(tp=tp, ep=ep, adp=adp))):
                yield tp, ep, adp


Option = tuple[Strategy, Chain]
"""A strategy with one way to span the machine."""


def span_options(problem: ServingProblem, found: list[Strategy]) -> list[Option]:
    """Return every strategy with every way to span the machine that no other one dominates."""
    levels = level_sizes(problem.hierarchy)
    return [(s, chain) for s in found for chain in replica_chains(levels, s)]


def replica_chains(levels: tuple[LevelSizes, ...], strategy: Strategy) -> tuple[Chain, ...]:
    """Return the ways in which a replica may span the machine; groups of experts are copies of attention."""
    return span_choices(levels, strategy.tp, strategy.pp, 1, 1, copy_width(strategy))


def copy_width(strategy: Strategy) -> int:
    """Return the GPUs of one of several copies of attention in a stage, 1 where there is one copy."""
    return strategy.tp // strategy.adp if strategy.adp > 1 else 1


def table_of(problem: ServingProblem, options: list[Option]) -> Table:
    """Evaluate strategies under given spans, all at once."""
    many, costs = candidates_of(options), priced(problem, options, ServingModel.costs)
    if not (problem.job.before or problem.job.after):  # transfers do not depend on the rate
        return Table(many, options, costs, np.full(len(many), least_host_time(problem, 1)))
    host = {int(dp): least_host_time(problem, int(dp)) for dp in np.unique(many.replicas)}
    return Table(many, options, costs, np.asarray([host[int(dp)] for dp in many.replicas]))


def candidates_of(options: list[Option]) -> ServingCandidates:
    """Return the strategies of options as arrays."""
    columns = (
        np.asarray([getattr(s, name) for s, _ in options], dtype=np.int64)
        for name in ("dp", "tp", "pp", "ep", "adp")
    )
    return ServingCandidates(*columns)


def spans_of(many: ServingCandidates, options: list[Option]) -> ServingSpans:
    """Return the spans of options as arrays."""
    shares = np.asarray([chain for _, chain in options], dtype=float).reshape(len(options), -1, 6)
    hop = np.argmax(shares[:, :, 3] >= many.pp[:, None], axis=1)
    several = (many.adp > 1)[:, None]
    return ServingSpans(shares[:, :, 0], np.where(several, shares[:, :, 4], shares[:, :, 0]), hop)


def priced(problem: ServingProblem, options: list[Option], of: Callable[[ServingModel], Priced]) -> Priced:
    """Return a record of arrays about options under their spans, those of one data type evaluated at once."""
    many = candidates_of(options)
    spans = spans_of(many, options)
    rows: dict[int, list[int]] = {}
    typed = [problem.in_types(strategy) for strategy, _ in options]
    for row, one in enumerate(typed):
        rows.setdefault(id(one), []).append(row)
    parts = []
    for members in rows.values():
        own, picked = typed[members[0]], np.asarray(members)
        model = ServingModel(
            own.job,
            own.model,
            many.take(picked),
            spans.take(picked),
            own.rates,
            own.fabric,
            own.calibration,
        )
        parts.append(of(model))
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([np.asarray(members) for members in rows.values()]))
    names = [field.name for field in fields(parts[0])]
    return type(parts[0])(
        **{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    )


def least_host_time(problem: ServingProblem, replicas: int) -> float:
    """Return a lower bound of what CPU stages and transfers add, s: every stage alone on its best domain."""
    best = float("inf")
    for machine in problem.topology.machine_types:
        tables = HostTables(problem, machine, problem.job.traffic.rate / replicas)
        pools = [min(tables.pools(stage).values(), default=None) for stage in tables.stages]
        if any(ticks is None for ticks in pools) or not machine.gpus:
            continue
        moves = [
            min(tables.moved(numa, gpu.name, into=into) for numa in tables.domains for gpu in machine.gpus)
            for into in (True, False)
        ]
        best = min(best, (sum(t for t in pools if t is not None) + sum(moves) - len(pools) - 2) / 1e9)
    return max(best, 0.0) if best < float("inf") else best


@dataclass
class ServingSearch:
    """State of one search; see :class:`planner.solve.training.TrainingSearch`."""

    problem: ServingProblem
    budget: Budget
    best: PlacedService | None = None
    evaluated: int = 0
    visited: int = 0
    unresolved: list[float] = field(default_factory=list)
    bound: float = float("inf")

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, float, int, Option]] = []
        self._seen: set[Option] = set()

    @property
    def incumbent(self) -> float:
        """Objective of the best placed strategy, infinite before there is one."""
        return float("inf") if self.best is None else self.best.value

    def run(self, found: list[Strategy] | None = None) -> None:
        """Evaluate all strategies, visit those within the limits in order of bound."""
        strategies = serving_strategies(self.problem) if found is None else found
        self._evaluate(span_options(self.problem, strategies))
        pending = float("inf")
        while self._queue:
            bound, _, _, option = heapq.heappop(self._queue)
            if bound >= self.incumbent * (1 - TOLERANCE):
                break
            if self.budget.over:
                pending = bound
                break
            self._place(option, bound)
            self.budget.progress("place", self.visited, bound, self.incumbent)
        self.bound = min([self.incumbent, pending, *self.unresolved])

    def _evaluate(self, options: list[Option]) -> None:
        """Queue the options that hold every limit, with the bound of their objective."""
        fresh = [option for option in options if option not in self._seen]
        if not fresh:
            return
        self._seen.update(fresh)
        self.evaluated += len(fresh)
        table = table_of(self.problem, fresh)
        latency = table.costs.latency_p99 + table.host
        bounds = self.problem.value(table.many.ranks.astype(float), latency)
        within = np.logical_and.reduce(list(table.limits(self.problem).values()))
        for row in np.flatnonzero(within):
            entry = (float(bounds[row]), float(latency[row]), len(self._seen) + int(row), fresh[row])
            heapq.heappush(self._queue, entry)

    def _place(self, option: Option, bound: float) -> None:
        """Place one option; where its spans cannot be laid out, queue the weaker ones."""
        strategy, chain = option
        self.visited += 1
        slots = replica_slots(self.problem, strategy, chain, self.budget)
        if slots.groups is None:
            if not slots.proven:
                self.unresolved.append(bound)
            self._evaluate([(strategy, weaker) for weaker in weaker_chains(chain, len(chain))])
            return
        placed = place_service(self.problem, strategy, slots.groups, self.budget)
        if placed is None or limits_broken(self.problem, placed.outcome):
            return
        if placed.value < self.incumbent:
            self.best = placed


@dataclass(frozen=True)
class Slots:
    """Groups of GPUs that a replica may take, each in (pp, tp) order; ``None`` where there are too few.

    Attributes
    ----------
    proven
        Whether it is certain that there are too few.
    """

    groups: list[list[str]] | None
    proven: bool


def place_service(
    problem: ServingProblem, strategy: Strategy, groups: list[list[str]], budget: Budget
) -> PlacedService | None:
    """Return a strategy placed on groups of GPUs, its CPU part by CP-SAT, ``None`` if cores lack."""
    replicas = with_hosts(problem, strategy.dp, groups, budget)
    if replicas is None:
        return None
    outcome = judge_serving(problem, strategy, replicas)
    value = problem.value(float(strategy.num_ranks), outcome.latency_p99)
    return PlacedService(strategy, replicas, outcome, value)


def replica_slots(problem: ServingProblem, strategy: Strategy, chain: Chain, budget: Budget) -> Slots:
    """Return the groups of GPUs that a replica may take: as many as the machine holds, at least one each."""
    most = problem.num_gpus // (strategy.tp * strategy.pp)
    few = most * strategy.tp * strategy.pp <= LARGEST_EXACT
    proven = True
    for copies in range(most, strategy.dp - 1, -1) if few else dict.fromkeys((most, strategy.dp)):
        wide = strategy.model_copy(update={"dp": copies})
        gpus = built_layout(wide, chain, problem.hierarchy)
        if gpus is None:
            gpus, proven = exact_layout(mesh_strategy(wide), chain, problem.hierarchy, budget)
        if gpus is not None:
            return Slots(as_groups(wide, gpus, problem.hierarchy), proven=True)
    return Slots(None, proven)


def mesh_strategy(strategy: Strategy) -> Strategy:
    """Return the mesh of replicas as layouts see it: copies of attention in the place of expert groups."""
    return strategy.model_copy(update={"ep": copy_width(strategy), "adp": 1})


def as_groups(strategy: Strategy, gpus: IntArray, hierarchy: Hierarchy) -> list[list[str]]:
    """Return the GPUs of each replica, in (pp, tp) order."""
    mesh = gpus.reshape(strategy.pp, strategy.dp, strategy.tp).swapaxes(0, 1).reshape(strategy.dp, -1)
    return [[hierarchy.gpus[gpu] for gpu in row] for row in mesh]


def built_layout(strategy: Strategy, chain: Chain, hierarchy: Hierarchy) -> IntArray | None:
    """Return a layout of all replicas by nesting, ``None`` where there is none of the shares of a chain."""
    gpus = nested_layout(mesh_strategy(strategy), chain, hierarchy)
    if gpus is None or strategy.adp == 1:
        return gpus
    own = members_per_domain(gpus.reshape(-1, copy_width(strategy)), hierarchy)
    return gpus if all(own >= [share[4] for share in chain]) else None
