"""Machines and clusters: typed parts, the graph of their links, routes, and nested locality domains."""

from planner.topology.cluster import Node, Topology
from planner.topology.devices import find_device
from planner.topology.fabric import ExplicitLink
from planner.topology.hierarchy import Hierarchy, Level, cut_rate
from planner.topology.machine import Edge, MachineType, weaker, weakest
from planner.topology.models import (
    Device,
    DeviceCatalogue,
    Fabric,
    FabricLayout,
    Gpu,
    Link,
    Machine,
    Mesh,
    MigProfile,
    Nic,
    NodeGroup,
    NumaDomain,
    Switch,
    TopologyDocument,
)
from planner.topology.resolve import catalogue, find_problems, load_topology, resolve
from planner.topology.router import Router
from planner.topology.routes import PathClass, Route, machine_route, route

__all__ = [
    "Device",
    "DeviceCatalogue",
    "Edge",
    "ExplicitLink",
    "Fabric",
    "FabricLayout",
    "Gpu",
    "Hierarchy",
    "Level",
    "Link",
    "Machine",
    "MachineType",
    "Mesh",
    "MigProfile",
    "Nic",
    "Node",
    "NodeGroup",
    "NumaDomain",
    "PathClass",
    "Route",
    "Router",
    "Switch",
    "Topology",
    "TopologyDocument",
    "catalogue",
    "cut_rate",
    "find_device",
    "find_problems",
    "load_topology",
    "machine_route",
    "resolve",
    "route",
    "weaker",
    "weakest",
]
