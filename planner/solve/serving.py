"""Exact search over serving strategies: replicas, degrees, GPUs, CPU stages, under latency limits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.costs import ServingCandidates, ServingCosts, ServingSpans, serving_costs
from planner.placement import Replica, ServingOutcome, ServingProblem, Strategy, judge_serving, limits_broken
from planner.schema import compress
from planner.solve.budget import Budget
from planner.solve.degrees import Chain, divisors, level_sizes, powers_of_two, span_choices
from planner.solve.host import HostPlan, HostTables, place_host
from planner.solve.layout import exact_layout, nested_layout

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
TOLERANCE = 1e-9
LARGEST_PP = 16


@dataclass(frozen=True)
class PlacedService:
    """A serving strategy with its replicas, the judge's outcome and the objective's value."""

    strategy: Strategy
    replicas: list[Replica]
    outcome: ServingOutcome
    value: float


@dataclass(frozen=True)
class Table:
    """All strategies with each way to span the machine, their predicted behaviour and bounds.

    Attributes
    ----------
    host : ndarray, shape (n,)
        Least time that CPU stages and transfers can take, s.
    """

    many: ServingCandidates
    chains: list[Chain]
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
    experts = model.experts.num_experts if model.experts else 1
    found = []
    for tp in limits.tp or [d for d in divisors(model.heads) if model.ffn % d == 0]:
        for pp in limits.pp or [p for p in powers_of_two(LARGEST_PP) if p <= model.layers]:
            most = gpus // (tp * pp)
            for dp in [d for d in limits.replicas or range(1, most + 1) if d <= most]:
                for ep in [e for e in limits.ep or divisors(tp) if tp % e == 0 and experts % e == 0]:
                    found.append(Strategy(tp=tp, pp=pp, dp=dp, ep=ep))
    return found


def table_of(problem: ServingProblem, found: list[Strategy]) -> Table:
    """Evaluate strategies under every way to span the machine."""
    levels = level_sizes(problem.hierarchy)
    rows = [(s, chain) for s in found for chain in span_choices(levels, s.tp, s.pp, 1, 1, s.ep)]
    many = ServingCandidates(
        *(np.asarray([getattr(s, name) for s, _ in rows], dtype=np.int64) for name in ("dp", "tp", "pp", "ep"))
    )
    chains = [chain for _, chain in rows]
    shares = np.asarray(chains, dtype=float).reshape(len(rows), len(levels), 6)
    hop = np.argmax(shares[:, :, 3] >= many.pp[:, None], axis=1)
    spans = ServingSpans(shares[:, :, 0], shares[:, :, 4], hop)
    costs = serving_costs(problem.job, problem.model, many, spans, problem.rates, problem.fabric, problem.calibration)
    host = {int(dp): least_host_time(problem, int(dp)) for dp in np.unique(many.replicas)}
    return Table(many, chains, costs, np.asarray([host[int(dp)] for dp in many.replicas]))


def least_host_time(problem: ServingProblem, replicas: int) -> float:
    """Return a lower bound of what CPU stages and transfers add, every stage having its best domain alone, s."""
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
    table: Table | None = None

    @property
    def incumbent(self) -> float:
        """Objective of the best placed strategy, infinite before there is one."""
        return float("inf") if self.best is None else self.best.value

    def run(self, found: list[Strategy] | None = None) -> None:
        """Evaluate all strategies, visit those within the limits in order of bound."""
        strategies = serving_strategies(self.problem) if found is None else found
        if not strategies:
            return
        self.table = table = table_of(self.problem, strategies)
        self.evaluated = len(table.chains)
        within = np.logical_and.reduce(list(table.limits(self.problem).values()))
        bounds = self._bounds(table)
        order = np.lexsort((table.costs.latency_p99, bounds))
        pending = float("inf")
        for row in (int(r) for r in order if within[r]):
            if bounds[row] >= self.incumbent * (1 - TOLERANCE):
                break
            if self.budget.over:
                pending = float(bounds[row])
                break
            self._place(row)
            self.budget.progress("place", self.visited, float(bounds[row]), self.incumbent)
        self.bound = min([self.incumbent, pending, *self.unresolved])

    def _bounds(self, table: Table) -> FloatArray:
        if self.problem.job.objective == "gpus":
            return table.many.ranks.astype(float)
        return np.asarray(table.costs.latency_p99 + table.host)

    def _place(self, row: int) -> None:
        assert self.table is not None
        many, chain = self.table.many, self.table.chains[row]
        strategy = Strategy(
            tp=int(many.tp[row]), pp=int(many.pp[row]), dp=int(many.replicas[row]), ep=int(many.ep[row])
        )
        self.visited += 1
        placed = place_service(self.problem, strategy, chain, self.budget)
        claimed = float(self._bounds(self.table)[row])
        if placed is None or limits_broken(self.problem, placed.outcome):
            if placed is None and not self._excluded(strategy):
                self.unresolved.append(claimed)
            return
        if placed.value < self.incumbent:
            self.best = placed

    def _excluded(self, strategy: Strategy) -> bool:
        """Whether a strategy that could not be placed is impossible for sure: CPU cores do not suffice."""
        return bool(self.problem.job.before or self.problem.job.after)


def place_service(problem: ServingProblem, strategy: Strategy, chain: Chain, budget: Budget) -> PlacedService | None:
    """Return a strategy placed: GPUs of every replica, then CPU stages and memory modes by CP-SAT."""
    groups = replica_slots(problem, strategy, chain, budget)
    if groups is None:
        return None
    replicas = _with_hosts(problem, strategy, groups, budget)
    if replicas is None:
        return None
    outcome = judge_serving(problem, strategy, replicas)
    value = float(strategy.dp * strategy.tp * strategy.pp) if problem.job.objective == "gpus" else outcome.latency_p99
    return PlacedService(strategy, replicas, outcome, value)


def replica_slots(problem: ServingProblem, strategy: Strategy, chain: Chain, budget: Budget) -> list[list[str]] | None:
    """Return groups of GPUs that a replica may take, as many as the machine holds, each in (pp, tp) order."""
    size = strategy.tp * strategy.pp
    for copies in (problem.num_gpus // size, strategy.dp):
        wide = strategy.model_copy(update={"dp": copies})
        gpus = nested_layout(wide, chain, problem.hierarchy)
        if gpus is None and copies == strategy.dp:
            gpus, _ = exact_layout(wide, chain, problem.hierarchy, seconds=budget.left, seed=budget.seed)
        if gpus is not None:
            mesh = gpus.reshape(strategy.pp, copies, strategy.tp).swapaxes(0, 1).reshape(copies, -1)
            return [[problem.hierarchy.gpus[gpu] for gpu in row] for row in mesh]
    return None


def _with_hosts(
    problem: ServingProblem, strategy: Strategy, groups: list[list[str]], budget: Budget
) -> list[Replica] | None:
    """Spread the replicas over nodes and place their CPU stages, one CP-SAT model per kind of node."""
    by_node: dict[str, list[list[str]]] = {}
    for group in groups:
        by_node.setdefault(group[0].split("/")[0], []).append(group)
    counts = _spread(strategy.dp, {node: len(slots) for node, slots in by_node.items()}, spread=bool(problem.job.before or problem.job.after))
    solved: dict[tuple[str, tuple[str, ...], int], HostPlan | None] = {}
    replicas: list[Replica] = []
    rate = problem.job.traffic.rate / strategy.dp
    for node, count in counts.items():
        machine = problem.topology.node_of[node].machine
        firsts = tuple(group[0].split("/", 1)[1] for group in by_node[node])
        key = (machine.name, firsts, count)
        if key not in solved:
            solved[key] = place_host(problem, machine, list(firsts), count, rate, seconds=budget.left, seed=budget.seed)
        host = solved[key]
        if host is None:
            return None
        for index in range(count):
            replicas.append(
                Replica(
                    name=f"replica-{len(replicas)}", node=node,
                    devices=compress(by_node[node][host.slots[index]]),
                    stages=host.stages[index], transfers=host.transfers[index],
                )
            )  # fmt: skip
    return replicas


def _spread(replicas: int, room: dict[str, int], *, spread: bool) -> dict[str, int]:
    """Return replicas per node: even where CPU stages compete for cores, packed where they do not."""
    counts = dict.fromkeys(room, 0)
    for _ in range(replicas):
        open_nodes = [node for node in room if counts[node] < room[node]]
        node = min(open_nodes, key=lambda name: counts[name]) if spread else open_nodes[0]
        counts[node] += 1
    return {node: count for node, count in counts.items() if count}
