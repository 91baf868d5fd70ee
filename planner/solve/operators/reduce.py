"""From operators to groups that stay together: colours, cycles, and merges that lose no optimum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.placement.operators import OperatorProblem, stage_edges

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reduced:
    """Groups of operators that share a device, and the sets of groups that cost a transfer when parted.

    An accelerator pays the cost of a pin set exactly when it holds some but not all of its groups.

    Attributes
    ----------
    group_of
        Group of each operator.
    accelerator, cpu, size
        Run times, s, and bytes of each group; infinite on a device that cannot run it.
    pins, costs
        Sets of at least two groups, and the time, s, that parting each of them costs.
    edges
        Between groups: stages of a contiguous plan, and the order of time, must not decrease along them.
    """

    group_of: tuple[int, ...]
    accelerator: Floats
    cpu: Floats
    size: Floats
    pins: tuple[tuple[int, ...], ...]
    costs: Floats
    edges: tuple[tuple[int, int], ...]

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return len(self.size)

    def spread(self, devices: Sequence[int]) -> tuple[int, ...]:
        """Return the device of each operator from that of each group."""
        return tuple(int(devices[group]) for group in self.group_of)

    def gather(self, assignment: Sequence[int]) -> list[int]:
        """Return the device of each group from that of each operator."""
        devices = [0] * self.num_groups
        for group, device in zip(self.group_of, assignment, strict=True):
            devices[group] = device
        return devices


class Sets:
    """Disjoint sets of numbers that can be merged."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        """Return the representative of the set of ``item``."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def merge(self, items: Iterable[int]) -> bool:
        """Make one set of those of all ``items``; return whether that changed anything."""
        roots = {self.find(item) for item in items}
        first = min(roots)
        for root in roots:
            self._parent[root] = first
        return len(roots) > 1


def reduce(problem: OperatorProblem, limit: float = np.inf) -> Reduced:
    """Return the groups of a problem.

    Parameters
    ----------
    limit
        An objective that is known to be reachable, s. If any plan is below it, a best one survives the
        merges; the caller holds one that reaches it.
    """
    graph = problem.graph
    sets = Sets(len(graph.operators))
    by_colour: dict[str, int] = {}
    for index, op in enumerate(graph.operators):
        if op.colour is not None:
            sets.merge((index, by_colour.setdefault(op.colour, index)))
    edges = {"contiguous": stage_edges(graph), "latency": set(graph.edges), "free": set()}[problem.kind]
    sources = [(u, (u, *targets)) for u, targets in enumerate(graph.successors) if targets]
    while True:
        if problem.kind == "contiguous":
            _merge_cycles(sets, edges, len(graph.operators))
        found = _build(problem, sets, edges, sources)
        if not _merges_hold(problem) or not _merge_more(problem, found, sets, limit):
            return found


def _merges_hold(problem: OperatorProblem) -> bool:
    """Return whether a move that lowers what transfers cost can raise nothing else.

    Gradients move along with their operators, and routes differ from device to device.
    """
    sends = any(op.weights for op in problem.graph.operators) and problem.sync_rate < float("inf")
    return problem.kind != "latency" and problem.wires is None and not sends


def _build(
    problem: OperatorProblem,
    sets: Sets,
    edges: Iterable[tuple[int, int]],
    sources: Iterable[tuple[int, tuple[int, ...]]],
) -> Reduced:
    operators = problem.graph.operators
    roots = sorted({sets.find(index) for index in range(len(operators))})
    number = {root: place for place, root in enumerate(roots)}
    group_of = tuple(number[sets.find(index)] for index in range(len(operators)))
    accelerator, cpu, size = (np.zeros(len(roots)) for _ in range(3))
    for group, op in zip(group_of, operators, strict=True):
        accelerator[group] += op.accelerator_time if op.on_accelerator else np.inf
        cpu[group] += op.cpu_time if problem.has_cpu and op.on_cpu else np.inf
        size[group] += op.size
    accelerator[size > problem.memory * (1 + 1e-12)] = np.inf
    costs: dict[tuple[int, ...], float] = {}
    for source, members in sources:
        pins = tuple(sorted({group_of[member] for member in members}))
        cost = operators[source].transfer_time
        if len(pins) > 1 and cost > 0.0:
            costs[pins] = costs.get(pins, 0.0) + cost
    between = {(group_of[a], group_of[b]) for a, b in edges if group_of[a] != group_of[b]}
    return Reduced(
        group_of, accelerator, cpu, size, tuple(costs), np.array(list(costs.values())), tuple(sorted(between))
    )


def _merge_more(problem: OperatorProblem, found: Reduced, sets: Sets, limit: float) -> bool:
    """Merge what some optimum keeps together; return whether anything was."""
    first: dict[int, int] = {}
    for index, group in enumerate(found.group_of):
        first.setdefault(group, index)
    changed = False
    for pins, cost in zip(found.pins, found.costs, strict=True):
        if cost + min(found.accelerator[list(pins)]) >= limit:
            changed |= sets.merge(first[group] for group in pins)
    if changed:
        return True
    slack = float(found.size.sum()) <= problem.memory
    for group, other in (*_followers(found, slack), *_partners(found, slack)):
        changed |= sets.merge((first[group], first[other]))
    return changed


def _followers(found: Reduced, slack: bool) -> list[tuple[int, int]]:
    """Return groups that cost nothing to run and may follow the only group that they have to do with."""
    partners: list[set[int]] = [set() for _ in range(found.num_groups)]
    for pins in (*found.pins, *found.edges):
        for group in pins:
            partners[group].update(pins)
    followers = []
    for group, near in enumerate(partners):
        near.discard(group)
        free = found.accelerator[group] == 0.0 and found.cpu[group] == 0.0
        if free and len(near) == 1 and (slack or found.size[group] == 0.0):
            followers.append((group, next(iter(near))))
    return followers


def _partners(found: Reduced, slack: bool) -> list[tuple[int, int]]:
    """Return disjoint pairs of groups of which each follows the other: some optimum keeps them together."""
    follows = set(followings(found, slack))
    pairs: list[tuple[int, int]] = []
    used: set[int] = set()
    for a, b in sorted(follows):
        if a < b and (b, a) in follows and not used.intersection((a, b)):
            pairs.append((a, b))
            used.update((a, b))
    return pairs


def followings(found: Reduced, slack: bool) -> list[tuple[int, int]]:
    """Return pairs of groups such that some optimum has the first wherever the second is on an accelerator.

    If the transfer between two groups costs an accelerator more than running the first and paying for all of
    its other transfers, moving it to the accelerator of the second raises no load, and lowers the sum of all
    loads, so that such moves come to an end. In a contiguous plan the second must be its only consumer or
    only producer.

    Parameters
    ----------
    slack
        Whether one accelerator could hold everything, so that memory forbids no move.
    """
    burden = found.accelerator.copy()
    for pins, cost in zip(found.pins, found.costs, strict=True):
        burden[list(pins)] += cost
    after: list[set[int]] = [set() for _ in range(found.num_groups)]
    before: list[set[int]] = [set() for _ in range(found.num_groups)]
    for source, target in found.edges:
        after[source].add(target)
        before[target].add(source)
    pairs: list[tuple[int, int]] = []
    for pins, cost in zip(found.pins, found.costs, strict=True):
        if len(pins) != 2:
            continue
        for group, other in (pins, pins[::-1]):
            light = burden[group] < 2 * cost and (slack or found.size[group] == 0.0)
            near = after[group] | before[group]
            if light and (near <= {other} or after[group] == {other} or before[group] == {other}):
                pairs.append((group, other))
    return pairs


def _merge_cycles(sets: Sets, edges: Iterable[tuple[int, int]], size: int) -> None:
    """Merge the strongly connected components of the graph of groups."""
    after: dict[int, list[int]] = {sets.find(index): [] for index in range(size)}
    for source, target in edges:
        if sets.find(source) != sets.find(target):
            after[sets.find(source)].append(sets.find(target))
    for component in components(after):
        sets.merge(component)


def components(after: dict[int, list[int]]) -> list[list[int]]:
    """Return the strongly connected components of a graph (R. Tarjan, SIAM J. Comput., 1972)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    closed: set[int] = set()
    found: list[list[int]] = []
    for root in after:
        work = [(root, iter(after[root]))] if root not in index else []
        while work:
            vertex, others = work[-1]
            if vertex not in index:
                index[vertex] = low[vertex] = len(index)
                stack.append(vertex)
            descended = False
            for other in others:
                if other not in index:
                    work.append((other, iter(after[other])))
                    descended = True
                    break
                if other not in closed:
                    low[vertex] = min(low[vertex], low[other])
            if descended:
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[vertex])
            if low[vertex] == index[vertex]:
                place = stack.index(vertex)
                found.append(stack[place:])
                closed.update(stack[place:])
                del stack[place:]
    return found
