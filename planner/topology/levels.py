"""Locality levels of a whole cluster: those inside the nodes, NVLink domains across nodes, the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from planner.topology.fabric import oversubscription
from planner.topology.hierarchy import IntArray, Level, LocalLevel, local_levels
from planner.topology.machine import Edge, add_edge, weakest
from planner.topology.models import FabricLayout

if TYPE_CHECKING:
    from planner.topology.cluster import Node, Topology


NETWORK = ("leaf", "fabric")
"""Names of the levels that cross network ports."""


def cluster_levels(topology: Topology) -> tuple[Level, ...]:
    """Return the locality levels over all GPUs of the cluster, innermost and fastest first."""
    node_of_gpu = np.repeat(
        np.arange(len(topology.nodes)), [len(node.machine.gpus) for node in topology.nodes]
    )
    levels = [*_machine_levels(topology), *_nvlink_level(topology)]
    if len(topology.nodes) > 1:
        levels.extend(_network_levels(topology, node_of_gpu))
    alone = Level("device", np.arange(len(topology.gpus)), float("inf"), 0.0, False, "measured")
    return nested(levels) or (alone,)


def nested(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Return the levels by falling rate, each joined with the faster ones; those that join nothing go.

    Of equal rates the quicker one comes first. Links inside a node stay a level of their own for their
    latency even where the network has more bandwidth.
    """
    kept: list[Level] = []
    for level in sorted(_lifted(levels), key=lambda level: (-level.rate, level.latency, _size(level))):
        finer = kept[-1].domain_of if kept else np.arange(len(level.domain_of))
        joined = _join(finer, level.domain_of)
        if joined.max(initial=-1) < finer.max(initial=-1):
            kept.append(replace(level, domain_of=joined))
    return tuple(kept)


def _lifted(levels: Sequence[Level]) -> list[Level]:
    """Return the levels, those quicker than a faster network raised to its rate: large messages may leave."""
    network = [level for level in levels if level.name in NETWORK]
    lifted = []
    for level in levels:
        faster = [other.rate for other in network if other.latency > level.latency and _refines(level, other)]
        lifted.append(replace(level, rate=max([level.rate, *faster])) if level.name not in NETWORK else level)
    return lifted


def _size(level: Level) -> int:
    return int(level.domain_of.max(initial=-1))


def _refines(fine: Level, coarse: Level) -> bool:
    """Whether every domain of one level lies in a domain of the other."""
    return np.array_equal(_join(fine.domain_of, coarse.domain_of), _renumbered(coarse.domain_of))


def _renumbered(domains: IntArray) -> IntArray:
    return _join(domains, domains)


def _join(left: IntArray, right: IntArray) -> IntArray:
    """Return the finest partition that both partitions refine, domains numbered in order of appearance."""
    label = np.arange(len(left))
    while True:
        before = label
        for groups in (left, right):
            least = np.full(groups.max(initial=-1) + 1, len(left))
            np.minimum.at(least, groups, label)
            label = least[groups]
        if np.array_equal(label, before):
            return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _machine_levels(topology: Topology) -> list[Level]:
    """Merge the levels of the machine types by position: the slower rate counts."""
    by_type = {machine.name: local_levels(machine) for machine in topology.machine_types}
    depth = max((len(levels) for levels in by_type.values()), default=0)
    return [
        _merge(
            topology, {name: levels[min(step, len(levels) - 1)] for name, levels in by_type.items() if levels}
        )
        for step in range(depth)
    ]


def _merge(topology: Topology, chosen: dict[str, LocalLevel]) -> Level:
    domains: list[int] = []
    count = 0
    for node in topology.nodes:
        level = chosen.get(node.machine.name)
        groups = level.groups if level else tuple(frozenset([gpu.name]) for gpu in node.machine.gpus)
        place = {name: count + index for index, group in enumerate(groups) for name in group}
        domains.extend(place[gpu.name] for gpu in node.machine.gpus)
        count += len(groups)
    slowest = min(chosen.values(), key=lambda level: level.rate)
    return Level(
        slowest.name,
        np.asarray(domains, dtype=np.int64),
        slowest.rate,
        max(level.latency for level in chosen.values()),
        all(level.in_switch_reduction for level in chosen.values()),
        weakest(level.provenance for level in chosen.values()),
    )


def _nvlink_level(topology: Topology) -> list[Level]:
    """Return the level of the NVLink domains that span nodes, if there are any."""
    position = {gpu: index for index, gpu in enumerate(topology.gpus)}
    links = [link for link in topology.explicit_links if link.kind in ("nvlink", "xgmi")]
    cables: nx.Graph[str] = nx.Graph()
    cables.add_edges_from((link.left, link.right) for link in links)
    edges = [edge for link in links for edge in link.edges()]
    rates: dict[str, float] = {}
    for edge in edges:
        if edge.source in position:
            rates[edge.source] = rates.get(edge.source, 0.0) + edge.busy_rate
    if not rates:
        return []
    domain_of = np.arange(len(position)) + cables.number_of_nodes()
    parts = list(nx.connected_components(cables))
    for number, part in enumerate(parts):
        domain_of[[position[name] for name in part if name in position]] = number
    reducing = (
        {s.name for s in topology.fabric.switches if s.in_switch_reduction} if topology.fabric else set()
    )
    return [
        Level(
            "nvlink",
            np.unique(domain_of, return_inverse=True)[1].astype(np.int64),
            min(rates.values()),
            2 * max(edge.latency for edge in edges),
            all(part & reducing for part in parts),
            weakest(edge.provenance for edge in edges),
        )
    ]


def _network_levels(topology: Topology, node_of_gpu: IntArray) -> list[Level]:
    """Return the levels of the network between nodes."""
    fabric = topology.fabric
    if not len(node_of_gpu) or fabric is None:
        return []
    if fabric.layout is not None:
        return _layout_levels(fabric.layout, topology.nodes, node_of_gpu)
    return _explicit_levels(topology, node_of_gpu)


def _layout_levels(layout: FabricLayout, nodes: Sequence[Node], node_of_gpu: IntArray) -> list[Level]:
    computing = [node for node in nodes if node.machine.gpus]
    share = min(
        sum(nic.bandwidth.value for nic in node.machine.nics) / len(node.machine.gpus) for node in computing
    )
    figures = [nic.bandwidth for node in computing for nic in node.machine.nics]
    provenance = weakest([layout.hop_latency.provenance, *(figure.provenance for figure in figures)])
    ratio = oversubscription(layout)
    crosses = layout.shape != "single-switch" and len(nodes) > layout.nodes_per_leaf
    base, hop = attachment_latency(nodes), layout.hop_latency.value
    top = Level(
        "fabric", np.zeros_like(node_of_gpu), share / (ratio if crosses else 1.0),
        (4 if crosses else 2) * hop + base, layout.in_network_reduction, provenance,
    )  # fmt: skip
    if not crosses or ratio <= 1.0:
        return [top]
    pods = (node_of_gpu // layout.nodes_per_leaf).astype(np.int64)
    return [Level("leaf", pods, share, 2 * hop + base, layout.in_network_reduction, provenance), top]


def attachment_latency(nodes: Sequence[Node]) -> float:
    """Return the latency from a GPU to its nearest network port and from a port to a GPU together, s."""
    worst = 0.0
    for machine in {node.machine.name: node.machine for node in nodes}.values():
        for gpu in machine.gpus:
            lengths = nx.single_source_dijkstra_path_length(machine.graph, gpu.name, weight=_latency_weight)
            reachable = [lengths[nic.name] for nic in machine.nics if nic.name in lengths]
            worst = max(worst, min(reachable, default=0.0))
    return 2 * worst


def _latency_weight(left: str, right: str, data: dict[str, Edge]) -> float:
    return data["edge"].latency


def _explicit_levels(topology: Topology, node_of_gpu: IntArray) -> list[Level]:
    """Return leaf and fabric levels of a network given link by link, several roots allowed.

    Nodes whose ports end at the same switches share a leaf. A node without a cable stays alone.
    """
    network: nx.DiGraph[str] = nx.DiGraph()
    for link in topology.explicit_links:
        if link.kind in ("infiniband", "ethernet"):
            for edge in link.edges():
                add_edge(network, edge)
    nodes = [node for node in topology.nodes if node.machine.gpus and _ports(network, node)]
    if not nodes:
        return []
    leaves = {node.name: _leaves(network, node) for node in topology.nodes}
    trees = {name: i for i, part in enumerate(nx.weakly_connected_components(network)) for name in part}
    places = {node.name: {trees[port] for port in _ports(network, node)} for node in topology.nodes}
    share = min(_rate_out(network, _ports(network, node)) / len(node.machine.gpus) for node in nodes)
    up = min(_uplink_share(network, leaf, leaves, nodes) for leaf in {leaves[node.name] for node in nodes})
    edges = [data["edge"] for *_, data in network.edges(data=True)]
    base, hop = attachment_latency(nodes), max(edge.latency for edge in edges)
    provenance = weakest(edge.provenance for edge in edges)
    near = _numbered([leaves[node.name] or node.name for node in topology.nodes])[node_of_gpu]
    far = _numbered([min(places[node.name], default=node.name) for node in topology.nodes])[node_of_gpu]
    return [
        Level("leaf", near, share, 2 * hop + base, False, provenance),
        Level("fabric", far, min(share, up), 4 * hop + base, False, provenance),
    ]


def _numbered(keys: Sequence[object]) -> IntArray:
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.asarray([numbers[key] for key in keys], dtype=np.int64)


def _ports(network: nx.DiGraph[str], node: Node) -> list[str]:
    return [port for nic in node.machine.nics if (port := f"{node.name}/{nic.name}") in network]


def _leaves(network: nx.DiGraph[str], node: Node) -> frozenset[str]:
    return frozenset(leaf for port in _ports(network, node) for leaf in network.successors(port))


def _rate_out(
    network: nx.DiGraph[str], names: Sequence[str], excluded: frozenset[str] = frozenset()
) -> float:
    return sum(
        float(data["edge"].busy_rate)
        for name in names
        for target, data in network[name].items()
        if target not in excluded
    )


def _uplink_share(
    network: nx.DiGraph[str], leaf: frozenset[str], leaves: dict[str, frozenset[str]], nodes: Sequence[Node]
) -> float:
    """Return what the uplinks of a leaf carry per GPU below it, bytes/s; infinite without uplinks."""
    below = [node for node in nodes if leaves[node.name] == leaf]
    ports = frozenset(port for node in nodes for port in _ports(network, node))
    up = _rate_out(network, sorted(leaf - ports), ports | leaf)
    return up / sum(len(node.machine.gpus) for node in below) if up else float("inf")
