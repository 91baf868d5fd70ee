"""Nested locality domains of the GPUs, with the rate that every GPU gets at each level.

A collective among GPUs is priced by the outermost level that it crosses and by how many of its members
share each domain, so the placement problem needs no more of the machine than this tree. Each level's rate
is a cut: what leaves a sub-domain when all of its GPUs send at once, shared equally among the pairs of
senders and receivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from planner.topology.machine import MachineType, weakest
from planner.topology.rings import Mesh
from planner.topology.routes import PathClass, Route, edges_along, route

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """One level of locality.

    Attributes
    ----------
    name
        ``nvlink``, ``c2c``, ``pcie`` (a PCIe switch or one host), ``socket``, ``leaf``, ``fabric``, or
        ``device`` where no GPU reaches another.
    domain_of : ndarray, shape (num_gpus,)
        Number of the domain that each GPU is in.
    rate
        Payload rate per GPU, bytes/s and direction, towards GPUs of the same domain that are in other
        domains of the level below, all GPUs sending at once.
    latency
        Least latency between two such GPUs, s.
    in_switch_reduction
        Whether the switch at this level reduces in flight.
    """

    name: str
    domain_of: IntArray
    rate: float
    latency: float
    in_switch_reduction: bool
    provenance: str

    @property
    def capacities(self) -> IntArray:
        """Number of GPUs in each domain."""
        return np.bincount(self.domain_of)


@dataclass(frozen=True)
class Hierarchy:
    """Levels from the innermost to the outermost, over GPUs in one fixed order.

    Attributes
    ----------
    mesh
        Direct links of the GPUs where pairs of one level differ; ``None`` where they do not.
    """

    gpus: tuple[str, ...]
    levels: tuple[Level, ...]
    mesh: Mesh | None = None

    @property
    def num_gpus(self) -> int:
        """Number of GPUs."""
        return len(self.gpus)

    def signature(self) -> IntArray:
        """Return the domain numbers of every GPU, shape (num_gpus, num_levels)."""
        return np.stack([level.domain_of for level in self.levels], axis=1)

    def subset(self, indices: Sequence[int]) -> Hierarchy:
        """Return the hierarchy of some of the GPUs, domains renumbered."""
        chosen = np.asarray(indices, dtype=np.int64)
        levels = tuple(
            Level(
                level.name, np.unique(level.domain_of[chosen], return_inverse=True)[1].astype(np.int64),
                level.rate, level.latency, level.in_switch_reduction, level.provenance,
            )
            for level in self.levels
        )  # fmt: skip
        mesh = self.mesh.subset(indices) if self.mesh is not None else None
        return Hierarchy(tuple(self.gpus[i] for i in chosen), levels, mesh)

    def at_rate(self, rate: float) -> Hierarchy:
        """Return the GPUs in a single domain of a rate, bytes/s per GPU: what a ring through them gives."""
        inner, outer = self.levels[0], self.levels[-1]
        together = np.zeros(self.num_gpus, dtype=np.int64)
        return Hierarchy(self.gpus, (replace(outer, name=inner.name, domain_of=together, rate=rate),))


@dataclass(frozen=True)
class LocalLevel:
    """A level inside one machine type: groups of GPU names, rate, latency."""

    name: str
    groups: tuple[frozenset[str], ...]
    rate: float
    latency: float
    in_switch_reduction: bool
    provenance: str


LEVEL_NAMES = {
    PathClass.NVL: "nvlink",
    PathClass.NVB: "nvlink",
    PathClass.C2C: "c2c",
    PathClass.PIX: "pcie",
    PathClass.PXB: "pcie",
    PathClass.PHB: "pcie",
    PathClass.SYS: "socket",
    PathClass.NET: "fabric",
}
Groups = tuple[frozenset[str], ...]
Pairs = dict[frozenset[str], Route]
Threshold = tuple[PathClass, float]


def local_levels(machine: MachineType) -> tuple[LocalLevel, ...]:
    """Return the levels inside a machine, innermost first.

    Thresholds on the class and rate of the pairwise routes give nested groups; one is kept when all its pairs
    reach the threshold, so that a group never promises a rate that some pair lacks. The outermost level holds
    every GPU that another one can reach.
    """
    names = [gpu.name for gpu in machine.gpus]
    pairs = _pair_routes(machine, names)
    thresholds = sorted({_threshold(way) for way in pairs.values()})
    levels: list[LocalLevel] = []
    inner: Groups = tuple(frozenset([name]) for name in names)
    for threshold in thresholds:
        groups = _groups(names, pairs, threshold)
        outermost = threshold == thresholds[-1]
        if groups == inner or not (outermost or _all_pairs(groups, pairs, threshold)):
            continue
        levels.append(_level(machine, inner, groups, pairs))
        inner = groups
    return tuple(levels)


def _threshold(way: Route) -> Threshold:
    return way.path_class, -way.rate


def _pair_routes(machine: MachineType, names: list[str]) -> Pairs:
    pairs: Pairs = {}
    for index, left in enumerate(names):
        for right in names[index + 1 :]:
            there, back = route(machine.graph, left, right), route(machine.graph, right, left)
            if there is not None and back is not None:
                pairs[frozenset((left, right))] = min(there, back, key=lambda way: way.rate)
    return pairs


def _groups(names: list[str], pairs: Pairs, threshold: Threshold) -> Groups:
    near: nx.Graph[str] = nx.Graph()
    near.add_nodes_from(names)
    for (left, right), way in ((tuple(pair), way) for pair, way in pairs.items()):
        if _threshold(way) <= threshold:
            near.add_edge(left, right)
    place = {name: index for index, name in enumerate(names)}
    groups = [frozenset(group) for group in nx.connected_components(near)]
    return tuple(sorted(groups, key=lambda group: min(place[name] for name in group)))


def _all_pairs(groups: Groups, pairs: Pairs, threshold: Threshold) -> bool:
    together = [frozenset(pair) for group in groups for pair in combinations(group, 2)]
    return all(pair in pairs and _threshold(pairs[pair]) <= threshold for pair in together)


def _level(machine: MachineType, inner: Groups, groups: Groups, pairs: Pairs) -> LocalLevel:
    home = {name: group for group in groups for name in group}
    nest = {name: part for part in inner for name in part}
    crossing = [
        way for (left, right), way in ((tuple(pair), way) for pair, way in pairs.items())
        if home[left] is home[right] and nest[left] is not nest[right]
    ]  # fmt: skip
    outside = [(part, home[next(iter(part))] - part) for part in inner]
    shares = [_share(machine, part, others) for part, others in outside if others]
    slowest = max(crossing, key=_threshold)
    return LocalLevel(
        LEVEL_NAMES[slowest.path_class],
        groups,
        min(min(shares), max(_busy_rate(machine.graph, way) for way in crossing)),
        min(way.latency for way in crossing),
        _reduces(machine, crossing),
        weakest(way.provenance for way in crossing),
    )


def _share(machine: MachineType, part: frozenset[str], others: frozenset[str]) -> float:
    """Return what each GPU of a part gets when all exchange data with the others, one sender per receiver."""
    return cut_rate(machine.graph, part, others) / min(len(part), len(others))


def _busy_rate(graph: nx.DiGraph[str], way: Route) -> float:
    return min(edge.busy_rate for edge in edges_along(graph, way.vertices))


def _reduces(machine: MachineType, ways: list[Route]) -> bool:
    def through(way: Route) -> bool:
        return any(
            machine.graph.nodes[vertex]["kind"] == "switch"
            and machine.graph.nodes[vertex]["part"].in_switch_reduction
            for vertex in way.vertices
        )

    return all(through(way) for way in ways)


def cut_rate(graph: nx.DiGraph[str], sources: Iterable[str], targets: Iterable[str]) -> float:
    """Return the largest total rate, bytes/s, from some parts to others (max-flow, min-cut).

    Both directions of every channel count as busy. Data never pass through network ports, and through other
    GPUs only where those have channels of their own.
    """
    capacities: nx.DiGraph[str] = nx.DiGraph()
    for left, right, data in graph.edges(data=True):
        if graph.nodes[left]["kind"] != "nic" and graph.nodes[right]["kind"] != "nic":
            capacities.add_edge(left, right, capacity=data["edge"].busy_rate)
    capacities.add_edges_from((_SOURCE, name) for name in sources)
    capacities.add_edges_from((name, _SINK) for name in targets)
    return float(nx.maximum_flow_value(capacities, _SOURCE, _SINK))


_SOURCE, _SINK = "\0source", "\0sink"
