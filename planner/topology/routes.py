"""Routes, in the classes and the order in which the hardware and NCCL take them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from planner.topology.machine import Edge, MachineType, weakest

if TYPE_CHECKING:
    import networkx as nx


class PathClass(IntEnum):
    """Classes of path, best first (NCCL ``graph.h``, with NODE as in ``nvidia-smi topo -m``)."""

    LOC = 0
    NVL = 1
    NVB = 2
    C2C = 3
    PIX = 4
    PXB = 5
    PHB = 8
    SYS = 9
    NET = 10
    DIS = 11


@dataclass(frozen=True)
class Route:
    """The path that data take from one part to another.

    Attributes
    ----------
    vertices
        Parts along the way, ends included.
    rate
        Bottleneck payload rate of an otherwise idle path, bytes/s; infinite for a route to itself.
    latency
        Sum of the latencies, s.
    coherent
        Whether every hop is coherent, so that loads and stores may cross it.
    duplex
        What both directions carry together, bytes/s; infinite where they share nothing.
    hops_in_place
        Rate of copies and measured rate of loads of every hop, bytes/s; the latter ``None`` where unknown.
    """

    vertices: tuple[str, ...]
    path_class: PathClass
    rate: float
    latency: float
    coherent: bool
    provenance: str
    duplex: float = float("inf")
    hops_in_place: tuple[tuple[float, float | None], ...] = ()

    def loads(self, share: float) -> float:
        """Return the rate of loads and stores, bytes/s: a share of that of copies where none is measured."""
        hops = self.hops_in_place or ((self.rate, None),)
        return min(rate * share if loads is None else loads for rate, loads in hops)

    @property
    def hops(self) -> tuple[tuple[str, str], ...]:
        """Directed hops along the route."""
        return tuple(pairwise(self.vertices))


Usable = Callable[[Edge], bool]
Path = tuple[str, ...]
_NVLINK = frozenset({"nvlink", "xgmi"})


def route(graph: nx.DiGraph[str], source: str, target: str) -> Route | None:
    """Return the route from ``source`` to ``target``, or ``None`` where no path exists.

    The lower class wins; within a class the widest path, then fewer hops, then lower latency
    (as NCCL ``paths.cc`` does): NVLink, NVLink through one other GPU, hosts and PCIe, and last the network.
    """
    if source == target:
        return Route((source,), PathClass.LOC, float("inf"), 0.0, True, "measured")
    path = (
        widest_path(graph, source, target, _only_nvlink(graph, target))
        or _through_one_gpu(graph, source, target)
        or widest_path(graph, source, target, _avoiding(graph, target, "gpu", "nic"))
        or widest_path(graph, source, target, _avoiding(graph, target, "gpu"))
    )
    return None if path is None else _as_route(graph, path)


_KNOWN: WeakKeyDictionary[nx.DiGraph[str], dict[tuple[str, str], Route | None]] = WeakKeyDictionary()


def machine_route(machine: MachineType, source: str, target: str) -> Route | None:
    """Return what :func:`route` says of a machine, whose graph never changes; each route is sought once."""
    known = _KNOWN.setdefault(machine.graph, {})
    if (source, target) not in known:
        known[source, target] = route(machine.graph, source, target)
    return known[source, target]


def _only_nvlink(graph: nx.DiGraph[str], target: str) -> Usable:
    """Allow links of the GPU fabric through its switches."""
    inside = _avoiding(graph, target, "gpu", "numa")
    return lambda edge: edge.kind in _NVLINK and inside(edge)


def _avoiding(graph: nx.DiGraph[str], target: str, *kinds: str) -> Usable:
    """Allow every link, but pass through no part of the given kinds."""
    return lambda edge: edge.target == target or graph.nodes[edge.target]["kind"] not in kinds


def _through_one_gpu(graph: nx.DiGraph[str], source: str, target: str) -> Path | None:
    """Return the best path over NVLink through exactly one other GPU (NVB)."""
    found: list[tuple[float, int, float, Path]] = []
    for middle in _nvlink_neighbours(graph, source) & _nvlink_neighbours(graph.reverse(copy=False), target):
        first = widest_path(graph, source, middle, _only_nvlink(graph, middle))
        second = widest_path(graph, middle, target, _only_nvlink(graph, target))
        if first is not None and second is not None and middle not in (source, target):
            path = first + second[1:]
            edges = edges_along(graph, path)
            found.append((-min(e.rate for e in edges), len(path), sum(e.latency for e in edges), path))
    return min(found)[3] if found else None


def _nvlink_neighbours(graph: nx.DiGraph[str], start: str) -> set[str]:
    """Return the GPUs that NVLink reaches from ``start`` without passing through another one."""
    seen, queue, gpus = {start}, [start], set()
    while queue:
        vertex = queue.pop()
        for following in graph[vertex]:
            if following in seen or graph.edges[vertex, following]["edge"].kind not in _NVLINK:
                continue
            seen.add(following)
            if graph.nodes[following]["kind"] == "gpu":
                gpus.add(following)
            elif graph.nodes[following]["kind"] != "numa":
                queue.append(following)
    return gpus


def widest_path(graph: nx.DiGraph[str], source: str, target: str, usable: Usable) -> Path | None:
    """Return the path with the largest bottleneck rate, then fewest hops, then least latency."""
    width = _widest_rate(graph, source, target, usable)
    if width is None:
        return None
    queue: list[tuple[int, float, Path]] = [(0, 0.0, (source,))]
    done: set[str] = set()
    while queue:
        hops, latency, path = heapq.heappop(queue)
        if path[-1] == target:
            return path
        if path[-1] not in done:
            done.add(path[-1])
            for edge in _onward(graph, path[-1], usable):
                if edge.rate >= width and edge.target not in done:
                    heapq.heappush(queue, (hops + 1, latency + edge.latency, (*path, edge.target)))
    raise AssertionError("a path of this width was found before")


def _widest_rate(graph: nx.DiGraph[str], source: str, target: str, usable: Usable) -> float | None:
    """Return the largest bottleneck rate of any path, bytes/s."""
    queue: list[tuple[float, str]] = [(-float("inf"), source)]
    done: set[str] = set()
    while queue:
        width, vertex = heapq.heappop(queue)
        if vertex == target:
            return -width
        if vertex not in done:
            done.add(vertex)
            for edge in _onward(graph, vertex, usable):
                if edge.target not in done:
                    heapq.heappush(queue, (max(width, -edge.rate), edge.target))
    return None


def _onward(graph: nx.DiGraph[str], vertex: str, usable: Usable) -> Iterable[Edge]:
    return (edge for data in graph[vertex].values() if usable(edge := data["edge"]))


def edges_along(graph: nx.DiGraph[str], path: Path) -> list[Edge]:
    """Return the directed channels along a path."""
    return [graph.edges[hop]["edge"] for hop in pairwise(path)]


def _as_route(graph: nx.DiGraph[str], path: Path) -> Route:
    edges = edges_along(graph, path)
    return Route(
        path,
        classify(graph, path, edges),
        min(edge.rate for edge in edges),
        sum(edge.latency for edge in edges),
        all(edge.coherent for edge in edges),
        weakest(edge.provenance for edge in edges),
        min((edge.group_rate for edge in edges if edge.group_rate is not None), default=float("inf")),
        tuple((edge.rate, edge.in_place) for edge in edges),
    )


def classify(graph: nx.DiGraph[str], path: Path, edges: list[Edge]) -> PathClass:
    """Return the class of a path from the links and parts that it crosses."""
    inner = [graph.nodes[vertex]["kind"] for vertex in path[1:-1]]
    kinds = {edge.kind for edge in edges}
    if kinds & {"infiniband", "ethernet"}:
        return PathClass.NET
    if kinds <= _NVLINK and "numa" not in inner:
        return PathClass.NVB if "gpu" in inner else PathClass.NVL
    if "socket" in kinds:
        return PathClass.SYS
    if kinds == {"nvlink-c2c"}:
        return PathClass.C2C
    hosts = inner.count("numa") + sum(graph.nodes[end]["kind"] == "numa" for end in (path[0], path[-1]))
    if hosts:
        return PathClass.PHB
    return PathClass.PIX if len(inner) == 1 else PathClass.PXB
