"""Which network adapters are nearest to each GPU of a view."""

from __future__ import annotations

from dataclasses import dataclass

from planner.topology.importers.views import GpuView, HostView, NicView

_ORDER = ("PIX", "PXB", "PHB", "NODE", "SYS")


@dataclass(frozen=True)
class Nearest:
    """The adapters nearest to a GPU, all equally near.

    Attributes
    ----------
    path_class
        Class of the path where the dump states classes.
    shared_bridges
        PCI bridges above both, where the dump has the PCI tree.
    """

    nics: tuple[str, ...]
    path_class: str | None = None
    shared_bridges: int | None = None
    same_numa: bool | None = None


def closest_nics(view: HostView) -> dict[str, Nearest]:
    """Return the nearest adapters by GPU name: by stated class, else by shared bridges, then by NUMA node."""
    found = {}
    for gpu in view.gpus:
        near = _by_class(view, gpu) or _by_tree(view, gpu)
        if near is not None:
            found[gpu.name] = near
    return found


def _by_class(view: HostView, gpu: GpuView) -> Nearest | None:
    classes = {
        nic.name: view.path_classes.get((min(gpu.name, nic.name), max(gpu.name, nic.name)), "")
        for nic in view.nics
    }
    best = min((_ORDER.index(found) for found in classes.values() if found in _ORDER), default=None)
    if best is None:
        return None
    names = tuple(nic for nic, found in classes.items() if found == _ORDER[best])
    return Nearest(names, path_class=_ORDER[best])


def _by_tree(view: HostView, gpu: GpuView) -> Nearest | None:
    if gpu.bus_id is None or gpu.bus_id not in view.bridges or not view.nics:
        return None
    ranks = {nic.name: (_shared(view, gpu, nic), _same_numa(gpu, nic)) for nic in view.nics}
    best = max(ranks.values())
    names = tuple(nic for nic, rank in ranks.items() if rank == best)
    return Nearest(names, shared_bridges=best[0], same_numa=best[1])


def _same_numa(gpu: GpuView, nic: NicView) -> bool:
    return gpu.numa is not None and gpu.numa == nic.numa


def _shared(view: HostView, gpu: GpuView, nic: NicView) -> int:
    """Return the bridges above both; they are listed outermost first."""
    mine, other = view.bridges.get(gpu.bus_id or "", ()), view.bridges.get(nic.bus_id or "", ())
    count = 0
    for left, right in zip(mine, other, strict=False):
        if left != right:
            break
        count += 1
    return count
