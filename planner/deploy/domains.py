"""Where nodes stand in the fabric: which share NVLink memory, which hang below one leaf switch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.deploy.platform import Platform
from planner.topology.cluster import Node, Topology


@dataclass(frozen=True)
class Domains:
    """Names of the domains of every node; a node without links of a kind has no entry.

    Attributes
    ----------
    accelerator
        Nodes whose GPUs are joined by NVLink across nodes.
    leaf, spine
        Nodes below one leaf switch, and below one spine.
    """

    accelerator: Mapping[str, str]
    leaf: Mapping[str, str]
    spine: Mapping[str, str]

    def of(self, level: str) -> Mapping[str, str]:
        """Return the domains of a level by node."""
        return {"accelerator": self.accelerator, "leaf": self.leaf, "spine": self.spine}[level]


def domains(topology: Topology) -> Domains:
    """Return the domains of a topology."""
    layout = topology.fabric.layout if topology.fabric is not None else None
    leaf: dict[str, str] = {}
    spine: dict[str, str] = {}
    if layout is not None:
        for index, node in enumerate(topology.nodes):
            below = 0 if layout.shape == "single-switch" else index // layout.nodes_per_leaf
            leaf[node.name], spine[node.name] = f"leaf-{below}", "spine-0"
    return Domains(_nvlink(topology), leaf, spine)


def _nvlink(topology: Topology) -> dict[str, str]:
    """Return the domain of each node whose GPUs reach those of others by NVLink, joined over switches."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    for link in topology.explicit_links:
        if link.kind == "nvlink":
            ends = [end.partition("/")[0] for end in (link.left, link.right)]
            root[find(ends[0])] = find(ends[1])
    members: dict[str, list[str]] = {}
    for node in topology.nodes:
        if node.name in root:
            members.setdefault(find(node.name), []).append(node.name)
    joined = [names for names in members.values() if len(names) > 1]
    return {name: f"nvlink-{index}" for index, names in enumerate(joined) for name in names}


def smallest_level(found: Domains, nodes: Sequence[Node], platform: Platform, domain: str) -> str | None:
    """Return the label key of the smallest domain that holds some nodes, of those that have a label."""
    keys = platform.label_keys(domain)
    for level in ("accelerator", "leaf", "spine"):
        key, of = getattr(keys, level), found.of(level)
        homes = {of.get(node.name) for node in nodes}
        if key and len(homes) == 1 and None not in homes:
            return str(key)
    return None
