"""What joins the nodes: expansion of regular layouts, and the graph of the whole cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import networkx as nx

from planner.topology.machine import Edge, add_edge, weaker
from planner.topology.models import FabricLayout

if TYPE_CHECKING:
    from planner.topology.cluster import Node, Topology


@dataclass(frozen=True)
class ExplicitLink:
    """One fabric link, both directions, its ends being switches or ``NODE/PART``.

    Attributes
    ----------
    rate, reverse_rate
        Payload rates from left to right and back, bytes/s.
    latency
        Time of an empty message, s.
    duplex
        Capacity of both directions together, bytes/s; their sum when absent.
    """

    left: str
    right: str
    kind: str
    rate: float
    reverse_rate: float
    latency: float
    provenance: str
    coherent: bool = False
    duplex: float | None = None

    def edges(self) -> Iterator[Edge]:
        """Yield both directions."""
        shared = self.duplex is not None and self.duplex < self.rate + self.reverse_rate
        group = f"{self.left}<->{self.right}" if shared else None
        for source, target, rate in (
            (self.left, self.right, self.rate),
            (self.right, self.left, self.reverse_rate),
        ):
            yield Edge(
                source, target, self.kind, rate, self.latency, self.coherent, self.provenance,
                group, self.duplex if shared else None,
            )  # fmt: skip


def cluster_graph(topology: Topology) -> nx.DiGraph[str]:
    """Return the whole cluster as a directed graph.

    Vertices carry ``kind`` and ``part``, those of nodes also ``node``; edges carry ``edge``.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    for node in topology.nodes:
        names = {name: f"{node.name}/{name}" for name in node.machine.graph}
        for name, data in node.machine.graph.nodes(data=True):
            graph.add_node(names[name], node=node.name, **data)
        for left, right, data in node.machine.graph.edges(data=True):
            group = data["edge"].group
            edge = replace(
                data["edge"], source=names[left], target=names[right],
                group=None if group is None else f"{node.name}/{group}",
            )  # fmt: skip
            graph.add_edge(names[left], names[right], edge=edge, capacity=edge.rate)
    if topology.fabric is not None:
        for switch in topology.fabric.switches:
            graph.add_node(switch.name, kind="switch", part=switch)
        for edge in fabric_edges(topology):
            for end in (edge.source, edge.target):
                if end not in graph:
                    graph.add_node(end, kind="switch", part=None)
            add_edge(graph, edge)
    return graph


def fabric_edges(topology: Topology) -> Iterator[Edge]:
    """Yield the directed links of the fabric, those of a regular layout included."""
    for link in topology.explicit_links:
        yield from link.edges()
    fabric = topology.fabric
    if fabric is not None and fabric.layout is not None:
        yield from layout_edges(fabric.layout, topology.nodes)


def layout_edges(layout: FabricLayout, nodes: Sequence[Node]) -> Iterator[Edge]:
    """Yield the links of a regular layout, leaves joined by one aggregate spine.

    A non-blocking Clos stage carries any permutation of its ports, so one spine vertex with the leaf's
    whole uplink capacity stands for it; oversubscription divides that capacity.
    """
    below: dict[str, tuple[float, str]] = {}
    for index, node in enumerate(nodes):
        for position, nic in enumerate(node.machine.nics):
            leaf = _leaf_name(layout, index, nic.rail if nic.rail is not None else position)
            trust = weaker(nic.bandwidth.provenance, layout.hop_latency.provenance)
            rate, worst = below.get(leaf, (0.0, trust))
            below[leaf] = rate + nic.bandwidth.value, weaker(worst, trust)
            yield from _cable(layout, f"{node.name}/{nic.name}", leaf, nic.bandwidth.value, trust)
    if layout.shape != "single-switch" and len(below) > 1:
        for leaf, (rate, trust) in below.items():
            if layout.oversubscription is not None:
                trust = weaker(trust, layout.oversubscription.provenance)
            yield from _cable(layout, leaf, "spine", rate / oversubscription(layout), trust)


def oversubscription(layout: FabricLayout) -> float:
    """Return the oversubscription of the leaves, 1 where none is stated."""
    return layout.oversubscription.value if layout.oversubscription else 1.0


def _cable(layout: FabricLayout, left: str, right: str, rate: float, trust: str) -> Iterator[Edge]:
    for source, target in ((left, right), (right, left)):
        yield Edge(source, target, layout.kind, rate, layout.hop_latency.value, False, trust)


def _leaf_name(layout: FabricLayout, node: int, rail: int) -> str:
    pod = node // layout.nodes_per_leaf
    if layout.shape == "single-switch":
        return "switch"
    return f"leaf-{pod}-rail-{rail}" if layout.shape == "rail-optimised" else f"leaf-{pod}"
