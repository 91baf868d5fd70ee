"""Which device of one view is which of another: by PCI address, else by the number that tools count in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.errors import TopologyError
from planner.topology.importers.nvidia_topo import P2P, TopoView
from planner.topology.importers.views import HostView, NicView, NumaView, Remark

_NUMBERED = "nvidia-smi-xml"
"""The format whose order of GPUs is that of ``nvidia-smi`` by definition."""


@dataclass(frozen=True)
class Aligned:
    """A view with its devices named as in all others.

    Attributes
    ----------
    order
        All GPUs of the machine.
    classes
        Classes of path, none from states of peer access.
    """

    source: str
    view: HostView
    order: tuple[str, ...]
    classes: Mapping[tuple[str, str], str]
    remarks: tuple[Remark, ...] = field(default=())

    def rank(self, name: str) -> int:
        """Return the place of a GPU among all."""
        return self.order.index(name)


def aligned(views: Sequence[HostView], sources: Sequence[str]) -> list[Aligned]:
    """Return the views with one name for each device.

    GPUs are numbered by PCI address, as ``nvidia-smi`` numbers them. A view without addresses is matched
    by these numbers if it has as many GPUs.

    Raises
    ------
    TopologyError
        If it has another number of GPUs.
    """
    by_address = _gpu_names(views)
    adapters = {
        nic.bus_id: nic.name for view in reversed(views) for nic in view.nics if nic.bus_id is not None
    }
    known = {nic.name for view in views if not isinstance(view, TopoView) for nic in view.nics}
    numa: dict[tuple[int, ...] | None, int] = {
        node.cpus: node.number for view in views for node in view.numa if _counted(view) and node.cpus
    }
    order = tuple(by_address.values()) or tuple(
        dict.fromkeys(gpu.name for view in views for gpu in view.gpus)
    )
    found = []
    for view, source in zip(views, sources, strict=True):
        remarks = [
            replace(remark, text=f"{source}:{remark.line or ''}".rstrip(":") + f": {remark.text}")
            for remark in view.remarks
        ]
        names = _names_of_gpus(view, source, by_address, views, remarks)
        names.update(_names_of_nics(view, source, adapters, known, remarks))
        moved = _renumbered(view, source, numa, remarks)
        renamed = _renamed(moved, names)
        classes = {} if view.format == P2P else renamed.path_classes
        found.append(Aligned(source, renamed, order, classes, tuple(remarks)))
    return found


def _counted(view: HostView) -> bool:
    return not (isinstance(view, TopoView) and view.numbered_here)


def _gpu_names(views: Sequence[HostView]) -> dict[str, str]:
    """Return the common name of every GPU by its address, in the order of ``nvidia-smi``."""
    first = next((view for view in views if view.format == _NUMBERED), None)
    listed = [gpu.bus_id for gpu in first.gpus if gpu.bus_id] if first is not None else []
    others = sorted({gpu.bus_id for view in views for gpu in view.gpus if gpu.bus_id} - set(listed))
    return {address: f"GPU{index}" for index, address in enumerate([*listed, *others])}


def _names_of_gpus(
    view: HostView, source: str, by_address: Mapping[str, str], views: Sequence[HostView],
    remarks: list[Remark],
) -> dict[str, str]:  # fmt: skip
    if not by_address or not view.gpus:
        return {gpu.name: gpu.name for gpu in view.gpus}
    if all(gpu.bus_id for gpu in view.gpus):
        return {gpu.name: by_address[gpu.bus_id] for gpu in view.gpus if gpu.bus_id}
    numbered = [re.fullmatch(r"GPU([0-9]+)", gpu.name) for gpu in view.gpus]
    if any(gpu.bus_id for gpu in view.gpus) or None in numbered or len(view.gpus) != len(by_address):
        raise TopologyError(
            f"{source}: its {len(view.gpus)} GPUs have no PCI address, and cannot be matched with the "
            f"{len(by_address)} of the other dumps"
        )
    if not any(other.format == _NUMBERED for other in views):
        remarks.append(Remark(0, f"{source}: GPUs are matched in the order of their PCI addresses"))
    return {gpu.name: f"GPU{int(match[1])}" for gpu, match in zip(view.gpus, numbered, strict=True) if match}


def _names_of_nics(
    view: HostView, source: str, adapters: Mapping[str, str], known: set[str], remarks: list[Remark]
) -> dict[str, str]:
    """Return the common name of every adapter; the empty name for one that cannot be told from others."""
    names = {}
    for nic in view.nics:
        name = adapters.get(nic.bus_id or "", nic.name)
        if isinstance(view, TopoView):
            name = view.nic_names.get(nic.name, nic.name)
            if known and name not in known and re.fullmatch(r"NIC[0-9]+", name):
                remarks.append(Remark(0, f"{source}: no legend tells which adapter {nic.name} is; left out"))
                name = ""
        names[nic.name] = name
    return names


def _renumbered(
    view: HostView, source: str, numa: Mapping[tuple[int, ...] | None, int], remarks: list[Remark]
) -> HostView:
    """Return a view with the numbers that other views give to nodes of the same processors."""
    if _counted(view) or not numa:
        return view
    numbers = {node.number: numa.get(node.cpus) for node in view.numa}
    strange = [number for number, other in numbers.items() if other is None]
    if strange:
        remarks.append(Remark(0, f"{source}: its lists of processors are no NUMA nodes of the other dumps"))
    nodes = tuple(
        NumaView(number, node.cpus) for node in view.numa if (number := numbers[node.number]) is not None
    )
    gpus = tuple(replace(gpu, numa=None if gpu.numa is None else numbers.get(gpu.numa)) for gpu in view.gpus)
    return replace(view, numa=nodes, gpus=gpus)


def _renamed(view: HostView, names: Mapping[str, str]) -> HostView:
    def pair(ends: tuple[str, str]) -> tuple[str, str]:
        left, right = (names.get(end, end) for end in ends)
        return min(left, right), max(left, right)

    nics: list[NicView] = [replace(nic, name=names[nic.name]) for nic in view.nics if names[nic.name]]
    return replace(
        view,
        gpus=tuple(replace(gpu, name=names[gpu.name]) for gpu in view.gpus),
        nics=tuple(nics),
        gpu_links={pair(ends): count for ends, count in view.gpu_links.items()},
        switch_links={names.get(name, name): count for name, count in view.switch_links.items()},
        path_classes={
            pair(ends): found
            for ends, found in view.path_classes.items()
            if all(names.get(end) for end in ends)
        },
    )
