"""The machine at hand: its kernel's description, and its GPUs as their driver describes them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

from planner.topology.importers.lists import listed
from planner.topology.importers.nvml import read_nvml
from planner.topology.importers.snapshot import FolderTree
from planner.topology.importers.sysfs import SysfsView, read_tree
from planner.topology.importers.views import GpuView, HostView, NumaView, Remark

FORMAT = "probe"
_NVIDIA = "10de:"


def probe(root: Path = Path("/"), library: Any = None) -> HostView:
    """Describe the machine at hand; works without a GPU, and inside a container.

    Parameters
    ----------
    root
        Where ``sys`` and ``proc`` of the machine are mounted, such as ``/host`` in a container.
    library
        The module ``pynvml``; looked for when absent.

    Raises
    ------
    ImportRefusedError
        If there is no ``/sys``, or it contradicts itself.
    """
    host = replace(read_tree(FolderTree(root)), format=FORMAT)
    if root == Path("/"):
        host = _of_this_process(host)
    library = library if library is not None else _library()
    if library is None:
        if any((gpu.product or "").startswith(_NVIDIA) for gpu in host.gpus):
            text = "the NVIDIA GPUs are known from PCI only: install nvidia-ml-py for memory, links and modes"
            host = replace(host, remarks=(*host.remarks, Remark(0, text)))
        return host
    driver = read_nvml(library)
    if not driver.gpus and not any((gpu.product or "").startswith(_NVIDIA) for gpu in host.gpus):
        return host
    return _joined(host, driver)


def _library() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _of_this_process(host: SysfsView) -> SysfsView:
    """Add what the kernel tells a process: the architecture, and the processors that it may use."""
    remarks = list(host.remarks)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if usable and host.processors is not None and len(usable) < host.processors:
        text = f"only processors {listed(sorted(usable))} may be used here; the whole host is described"
        remarks.append(Remark(0, text))
    remarks = [remark for remark in remarks if remark.text != "the architecture is unknown"]
    return replace(host, arch=os.uname().machine, remarks=tuple(remarks))


def _joined(host: SysfsView, driver: HostView) -> HostView:
    """Join both descriptions by PCI address; the driver's word counts, the kernel adds the place."""
    by_bus = {gpu.bus_id: gpu for gpu in host.gpus}
    seen = {gpu.bus_id for gpu in driver.gpus}
    remarks = [*host.remarks, *driver.remarks]
    bare = {node.number for node in host.numa if not node.cpus}
    gpus = [_with_place(gpu, by_bus.get(gpu.bus_id), bare) for gpu in driver.gpus]
    for gpu in driver.gpus:
        if gpu.bus_id not in by_bus:
            remarks.append(Remark(0, f"{gpu.name} at {gpu.bus_id} is not in /sys; its place is unknown"))
    for gpu in host.gpus:
        if gpu.bus_id in seen:
            continue
        gpus.append(replace(gpu, name=f"GPU{len(gpus)}"))
        if (gpu.product or "").startswith(_NVIDIA):
            remarks.append(Remark(0, f"the NVIDIA driver does not know the GPU at {gpu.bus_id}"))
    memory_nodes = {gpu.memory_numa for gpu in gpus} - {None}
    return replace(
        host,
        gpus=tuple(gpus),
        numa=tuple(_marked(node, node.number in memory_nodes) for node in host.numa),
        gpu_links=driver.gpu_links,
        link_kind=driver.link_kind,
        link_rate=driver.link_rate,
        switch_links=driver.switch_links,
        driver=driver.driver,
        remarks=tuple(remarks),
    )


def _with_place(gpu: GpuView, known: GpuView | None, bare: AbstractSet[int]) -> GpuView:
    """Add what the kernel knows of a GPU; its memory can only be a node of the ``bare`` ones."""
    memory_node = gpu.memory_numa if gpu.memory_numa in bare else None
    if known is None:
        return replace(gpu, memory_numa=memory_node)
    return replace(
        gpu,
        numa=known.numa,
        memory_numa=memory_node if known.memory_numa is None else known.memory_numa,
        pcie_generation=gpu.pcie_generation or known.pcie_generation,
        pcie_width=gpu.pcie_width or known.pcie_width,
    )


def _marked(node: NumaView, device: bool) -> NumaView:
    return replace(node, device_memory=True) if device and not node.cpus else node
