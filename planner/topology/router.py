"""Paths between GPUs of a cluster, link by link, without building the graph of the whole cluster."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from itertools import pairwise

import networkx as nx

from planner.errors import TopologyError
from planner.topology.cluster import Topology
from planner.topology.fabric import fabric_edges
from planner.topology.machine import Edge, MachineType
from planner.topology.routes import Route, route

Hop = tuple[str, str]


class Router:
    """Find the links that data cross from one GPU to another.

    Inside a node as :func:`planner.topology.route` says; between nodes through each GPU's own network port
    and the shortest way through the fabric.

    Parameters
    ----------
    without
        Directed links that have failed; ways go around them, ports stay as they were dealt.
    """

    def __init__(self, topology: Topology, *, without: Collection[Hop] = ()) -> None:
        self.topology, self.without = topology, frozenset(without)
        self._hurt = {hop[0].split("/", 1)[0] for hop in self.without}
        self._local: dict[tuple[str, str, str], Route | None] = {}
        self._ports: dict[tuple[str, str], str | None] = {}
        self._paths: dict[tuple[str, str], tuple[str, ...]] = {}

    @cached_property
    def fabric(self) -> nx.DiGraph[str]:
        """Switches, network ports and GPUs that have links outside their node."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for edge in fabric_edges(self.topology):
            if (edge.source, edge.target) not in self.without:
                graph.add_edge(edge.source, edge.target, edge=edge)
        return graph

    def hops(self, source: str, target: str) -> tuple[Hop, ...]:
        """Return the directed links from one part ``NODE/PART`` to another, in order.

        Raises
        ------
        TopologyError
            If nothing joins them.
        """
        vertices = self.vertices(source, target)
        return tuple(pairwise(vertices))

    def vertices(self, source: str, target: str) -> tuple[str, ...]:
        """Return the parts along the way, both ends included."""
        (left, from_part), (right, to_part) = source.split("/", 1), target.split("/", 1)
        if source in self.fabric and target in self.fabric:
            direct = self._through_fabric(source, target)
            if direct:
                return direct
        if left == right:
            way = self._inside(left, from_part, to_part)
            if way is not None:
                return tuple(f"{left}/{part}" for part in way.vertices)
        out_port, in_port = self.port(left, from_part), self.port(right, to_part)
        if out_port is None or in_port is None or left == right:
            raise TopologyError(f"no path from {source} to {target}")
        across = self._through_fabric(f"{left}/{out_port}", f"{right}/{in_port}")
        if not across:
            raise TopologyError(
                f"no path from {source} to {target}: the fabric does not join {left} and {right}"
            )
        head = self._inside(left, from_part, out_port)
        tail = self._inside(right, in_port, to_part)
        if head is None or tail is None:
            raise TopologyError(f"no path from {source} to {target} through their network ports")
        return (
            *(f"{left}/{part}" for part in head.vertices[:-1]),
            *across,
            *(f"{right}/{part}" for part in tail.vertices[1:]),
        )

    def edge(self, hop: Hop) -> Edge:
        """Return the link of one hop, its ends named as in the hop."""
        if self.fabric.has_edge(*hop):
            found: Edge = self.fabric.edges[hop]["edge"]
            return found
        node, left = hop[0].split("/", 1)
        right = hop[1].split("/", 1)[1]
        inside: Edge = self.topology.node_of[node].machine.graph.edges[left, right]["edge"]
        return inside

    def port(self, node: str, part: str) -> str | None:
        """Return the network port that a part of a node uses: the nearest, dealt out in turn among equals."""
        machine = self.topology.node_of[node].machine
        key = (machine.name, part)
        if key not in self._ports:
            self._ports[key] = nearest_port(machine, part)
        return self._ports[key]

    def has_hop(self, hop: Hop) -> bool:
        """Whether there is such a link."""
        if self.fabric.has_edge(*hop):
            return True
        (node, _, left), (other, _, right) = hop[0].partition("/"), hop[1].partition("/")
        return (
            node == other
            and node in self.topology.node_of
            and bool(self.topology.node_of[node].machine.graph.has_edge(left, right))
        )

    def _inside(self, node: str, source: str, target: str) -> Route | None:
        machine = self.topology.node_of[node].machine
        key = (node if node in self._hurt else machine.name, source, target)
        if key not in self._local:
            graph = machine.graph
            if node in self._hurt:
                failed = [hop for hop in self.without if hop[0].split("/", 1)[0] == node]
                graph = graph.copy()
                inside = [(left.split("/", 1)[-1], right.split("/", 1)[-1]) for left, right in failed]
                graph.remove_edges_from(inside)
            self._local[key] = route(graph, source, target)
        return self._local[key]

    def _through_fabric(self, source: str, target: str) -> tuple[str, ...]:
        key = (source, target)
        if key not in self._paths:
            known = source in self.fabric and target in self.fabric
            try:
                path = nx.shortest_path(self.fabric, source, target) if known else []
            except nx.NetworkXNoPath:
                path = []
            self._paths[key] = tuple(path)
        return self._paths[key]


def nearest_port(machine: MachineType, part: str) -> str | None:
    """Return the network port nearest to a part of a machine, ``None`` without any."""
    ways = {nic.name: route(machine.graph, part, nic.name) for nic in machine.nics}
    reachable = {name: way for name, way in ways.items() if way is not None}
    if not reachable:
        return None
    best = min((way.path_class, -way.rate, len(way.vertices)) for way in reachable.values())
    equal = [
        name for name, way in reachable.items() if (way.path_class, -way.rate, len(way.vertices)) == best
    ]
    gpus = [gpu.name for gpu in machine.gpus]
    return equal[gpus.index(part) % len(equal)] if part in gpus else equal[0]
