"""The resolved topology: expanded machines, named nodes, the fabric, the graph and its hierarchy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from planner.schema import digest
from planner.topology.fabric import ExplicitLink, cluster_graph
from planner.topology.hierarchy import Hierarchy
from planner.topology.levels import cluster_levels
from planner.topology.machine import MachineType
from planner.topology.models import Device, Fabric, TopologyDocument
from planner.topology.rings import machine_mesh
from planner.topology.routes import Route, route

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Node:
    """One machine of the cluster."""

    name: str
    machine: MachineType
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Topology:
    """A machine or cluster, ready to be planned on.

    Attributes
    ----------
    document
        The document, complete: machines taken from presets and the device models in use are written out, so
        that its digest stands for everything that the topology rests on.
    nodes
        The machines in document order.
    fabric
        What joins the nodes, with the ranges of its switches expanded.
    explicit_links
        Links of the fabric given one by one, ranges expanded.
    sources
        What the source keys of all figures mean.
    """

    document: TopologyDocument
    nodes: tuple[Node, ...]
    fabric: Fabric | None
    explicit_links: tuple[ExplicitLink, ...]
    sources: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of the document."""
        return self.document.name

    @cached_property
    def gpus(self) -> tuple[str, ...]:
        """All GPUs as ``NODE/GPU``, node by node."""
        return tuple(f"{node.name}/{gpu.name}" for node in self.nodes for gpu in node.machine.gpus)

    @cached_property
    def node_of(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the complete document in canonical form."""
        return digest(self.document)

    def device(self, gpu: str) -> Device:
        """Return the device model of a GPU named ``NODE/GPU``."""
        node, name = gpu.split("/", 1)
        return self.node_of[node].machine.device_of(name)

    @cached_property
    def machine_types(self) -> tuple[MachineType, ...]:
        """The distinct machine types in order of first use."""
        return tuple({node.machine.name: node.machine for node in self.nodes}.values())

    @cached_property
    def graph(self) -> nx.DiGraph[str]:
        """The whole cluster as one directed graph with vertices ``NODE/PART`` and fabric switches."""
        return cluster_graph(self)

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """Locality levels over :attr:`gpus`."""
        mesh = machine_mesh(self.nodes[0].machine) if len(self.nodes) == 1 else None
        return Hierarchy(self.gpus, cluster_levels(self), mesh)

    def host_route(self, node: str, numa: str, gpu: str) -> Route | None:
        """Return the route from a NUMA domain to a GPU of the same node, both named without the node."""
        return route(self.node_of[node].machine.graph, numa, gpu)
