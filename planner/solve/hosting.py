"""Spread replicas over nodes and place their CPU stages: one CP-SAT model for each kind of node and count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.placement import Replica, ServingProblem
from planner.schema import compress
from planner.solve.budget import Budget
from planner.solve.host import HostPlan, place_host
from planner.topology import MachineType

MOST_SPREADS = 2000
"""Most ways to divide replicas among kinds of nodes that are tried."""


@dataclass(frozen=True)
class NodeKind:
    """Nodes of one machine type whose replicas may take the same groups of GPUs."""

    machine: MachineType
    firsts: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def room(self) -> int:
        """Replicas that all nodes of the kind can hold."""
        return len(self.firsts) * len(self.nodes)


def with_hosts(
    problem: ServingProblem, replicas: int, groups: list[list[str]], budget: Budget
) -> list[Replica] | None:
    """Return the replicas with GPUs, CPU stages and transfers, the slowest as fast as possible.

    Equal nodes share their replicas evenly, since fewer replicas on a node never slow it; how many go to
    each kind of node is tried in every way. ``None`` where the cores suffice in none.
    """
    by_node: dict[str, list[list[str]]] = {}
    for group in groups:
        by_node.setdefault(group[0].split("/")[0], []).append(group)
    kinds = node_kinds(problem, by_node)
    hosts = _Hosts(problem, problem.job.traffic.rate / replicas, budget)
    best: tuple[float, tuple[int, ...]] | None = None
    for counts in spreads(replicas, [kind.room for kind in kinds]):
        slowest = max(
            (hosts.slowest(kind, count) for kind, count in zip(kinds, counts, strict=True)), default=0.0
        )
        if slowest < float("inf") and (best is None or slowest < best[0]):
            best = slowest, counts
    return None if best is None else list(hosts.replicas(by_node, kinds, best[1]))


def node_kinds(problem: ServingProblem, by_node: dict[str, list[list[str]]]) -> list[NodeKind]:
    """Return the nodes by machine type and by the first GPUs of their groups."""
    kinds: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for node, slots in by_node.items():
        firsts = tuple(group[0].split("/", 1)[1] for group in slots)
        kinds.setdefault((problem.topology.node_of[node].machine.name, firsts), []).append(node)
    return [
        NodeKind(problem.topology.node_of[nodes[0]].machine, firsts, tuple(nodes))
        for (_, firsts), nodes in kinds.items()
    ]


def spreads(replicas: int, rooms: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield ways to divide replicas among kinds of nodes, those that fill the first kinds first."""

    def divide(left: int, start: int) -> Iterator[tuple[int, ...]]:
        if start == len(rooms) - 1:
            if left <= rooms[start]:
                yield (left,)
            return
        for count in range(min(left, rooms[start]), -1, -1):
            for rest in divide(left - count, start + 1):
                yield (count, *rest)

    for number, counts in enumerate(divide(replicas, 0)):
        if number >= MOST_SPREADS:
            return
        yield counts


class _Hosts:
    """CPU placements by kind of node and number of replicas on it, each solved once."""

    def __init__(self, problem: ServingProblem, rate: float, budget: Budget) -> None:
        self.problem, self.rate, self.budget = problem, rate, budget
        self.packed = not (problem.job.before or problem.job.after)
        self._solved: dict[tuple[str, tuple[str, ...], int], HostPlan | None] = {}

    def plan(self, kind: NodeKind, count: int) -> HostPlan | None:
        """Return the CPU placement of ``count`` replicas on one node of a kind."""
        key = (kind.machine.name, kind.firsts, count)
        if key not in self._solved:
            self._solved[key] = place_host(
                self.problem, kind.machine, list(kind.firsts), count, self.rate, self.budget
            )  # fmt: skip
        return self._solved[key]

    def per_node(self, kind: NodeKind, count: int) -> list[int]:
        """Return how many replicas each node of a kind gets: packed without CPU stages, else even."""
        nodes, room = len(kind.nodes), len(kind.firsts)
        if self.packed:
            return [max(0, min(room, count - index * room)) for index in range(nodes)]
        return [count // nodes + (index < count % nodes) for index in range(nodes)]

    def slowest(self, kind: NodeKind, count: int) -> float:
        """Return the latency of the slowest replica of a kind, s, infinite where cores lack."""
        plans = [self.plan(kind, number) for number in set(self.per_node(kind, count)) if number]
        return max((float("inf") if plan is None else plan.seconds for plan in plans), default=0.0)

    def replicas(
        self, by_node: dict[str, list[list[str]]], kinds: list[NodeKind], counts: tuple[int, ...]
    ) -> Iterator[Replica]:
        """Yield the replicas node by node."""
        number = 0
        for kind, count in zip(kinds, counts, strict=True):
            for node, here in zip(kind.nodes, self.per_node(kind, count), strict=True):
                host = self.plan(kind, here) if here else None
                for index in range(here):
                    assert host is not None
                    yield Replica(
                        name=f"replica-{number}", node=node,
                        devices=compress(by_node[node][host.slots[index]]),
                        stages=host.stages[index], transfers=host.transfers[index],
                    )  # fmt: skip
                    number += 1
