"""Paths between GPUs of a cluster, link by link, without building the graph of the whole cluster."""

from __future__ import annotations

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
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._local: dict[tuple[str, str, str], Route | None] = {}
        self._ports: dict[tuple[str, str], str | None] = {}
        self._paths: dict[tuple[str, str], tuple[str, ...]] = {}

    @cached_property
    def fabric(self) -> nx.DiGraph[str]:
        """Switches, network ports and GPUs that have links outside their node."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for edge in fabric_edges(self.topology):
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
            way = self._inside(self.topology.node_of[left].machine, from_part, to_part)
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
        head = self._inside(self.topology.node_of[left].machine, from_part, out_port)
        tail = self._inside(self.topology.node_of[right].machine, in_port, to_part)
        assert head is not None and tail is not None
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

    def _inside(self, machine: MachineType, source: str, target: str) -> Route | None:
        key = (machine.name, source, target)
        if key not in self._local:
            self._local[key] = route(machine.graph, source, target)
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
