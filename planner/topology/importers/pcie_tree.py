"""PCI Express switches between the devices and the NUMA domains of an imported host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from planner.topology.importers.views import GpuView, HostView, NicView


@dataclass(frozen=True)
class PcieTree:
    """Who hangs below whom.

    Attributes
    ----------
    above
        Switch above each device and switch; one that hangs on a NUMA domain is not in it.
    switches
        Names of the switches, from the root down.
    """

    above: Mapping[str, str]
    switches: tuple[str, ...]

    def below(self, switch: str) -> list[str]:
        """Return the devices below a switch, through other switches too."""
        held = [name for name, parent in self.above.items() if parent == switch]
        return [leaf for name in held for leaf in (self.below(name) if name in self.switches else [name])]


def pcie_tree(view: HostView) -> PcieTree:
    """Return the switches that two or more devices share.

    They come from the PCI tree where the dump has one, else from the classes of path: devices that are PIX
    to each other share a switch, and such groups that are PXB to each other share one above theirs.
    """
    if any(view.bridges.get(gpu.bus_id or "") for gpu in view.gpus):
        return _from_bridges(view)
    return _from_classes(view)


def _devices(view: HostView) -> list[GpuView | NicView]:
    return [*view.gpus, *view.nics]


def _from_bridges(view: HostView) -> PcieTree:
    chains = {
        device.name: view.bridges[device.bus_id]
        for device in _devices(view)
        if device.bus_id is not None and device.bus_id in view.bridges
    }
    loads: dict[str, int] = {}
    for chain in chains.values():
        for bridge in chain:
            loads[bridge] = loads.get(bridge, 0) + 1
    above: dict[str, str] = {}
    for name, chain in chains.items():
        if chain and loads[chain[0]] > 1:
            above.update(zip([*chain[1:], name], chain, strict=True))
    return _named(above, list(chains))


def _from_classes(view: HostView) -> PcieTree:
    devices = [device.name for device in _devices(view)]
    near = _groups(view, devices, {"PIX"})
    above: dict[str, str] = {}
    for number, group in enumerate(_groups(view, devices, {"PIX", "PXB"})):
        inner = [part for part in near if part[0] in group]
        if len(group) < 2:
            continue
        root = f"/{number}"
        for index, part in enumerate(inner):
            holder = root
            if len(inner) > 1:
                holder = f"{root}/{index}"
                above[holder] = root
            above.update(dict.fromkeys(part, holder))
    return _named(above, devices)


def _named(above: Mapping[str, str], devices: Sequence[str]) -> PcieTree:
    """Return the tree with the switches counted level by level, in the order of the devices below them."""
    levels: dict[int, list[str]] = {}
    for device in devices:
        chain = []
        part = device
        while part in above:
            part = above[part]
            chain.append(part)
        for depth, switch in enumerate(reversed(chain)):
            if switch not in levels.setdefault(depth, []):
                levels[depth].append(switch)
    ordered = [switch for depth in sorted(levels) for switch in levels[depth]]
    names = {switch: f"pcie{index}" for index, switch in enumerate(ordered)}
    return PcieTree(
        {names.get(part, part): names[switch] for part, switch in above.items()}, tuple(names.values())
    )


def _groups(view: HostView, devices: Sequence[str], classes: set[str]) -> list[list[str]]:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(devices)
    graph.add_edges_from(pair for pair, found in view.path_classes.items() if found in classes)
    order = {name: index for index, name in enumerate(devices)}
    groups = [sorted(part, key=order.__getitem__) for part in nx.connected_components(graph)]
    return sorted(groups, key=lambda group: order[group[0]])
