"""GPUs and network adapters among the PCI functions that the kernel knows."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TypeVar

from planner.topology.importers.pci import bus_id, generation_of_speed, hexadecimal, width
from planner.topology.importers.pci_roles import Role, role
from planner.topology.importers.snapshot import Tree
from planner.topology.importers.views import GpuView, NicView

Device = TypeVar("Device", GpuView, NicView)
_DEVICES = "sys/bus/pci/devices"
_NVIDIA_PROC = "proc/driver/nvidia/gpus"
_RATE = re.compile(r"([0-9.]{1,6}) Gb/sec")


@dataclass
class PciDevices:
    """What the PCI functions of a host are.

    Attributes
    ----------
    memory_nodes
        NUMA nodes that are memory of a GPU.
    unknown
        Functions without a class.
    """

    gpus: tuple[GpuView, ...] = ()
    nics: tuple[NicView, ...] = ()
    bridges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    memory_nodes: tuple[int, ...] = ()
    remarks: list[str] = field(default_factory=list)


def read_pci(tree: Tree, nodes: AbstractSet[int]) -> PciDevices:
    """Read the functions of a host that are GPUs or network adapters.

    Parameters
    ----------
    nodes
        NUMA nodes that exist; a function that names another one is taken as of unknown place.
    """
    found = PciDevices()
    gpus, nics, unknown = [], [], []
    for name in tree.names(_DEVICES):
        address, folder = bus_id(name), f"{_DEVICES}/{name}"
        kind = None if address is None else _role(tree, folder)
        if address is None or kind is None:
            continue
        if kind is Role.GPU:
            gpus.append(_gpu(tree, folder, address))
        elif kind is Role.NETWORK and not tree.has(f"{folder}/physfn"):
            nics.append(_nic(tree, folder, address))
        elif kind is Role.UNKNOWN:
            unknown.append(address)
        if kind in (Role.GPU, Role.NETWORK):
            _add_bridges(tree, folder, address, found)
    found.gpus = tuple(
        _placed(replace(gpu, name=f"GPU{place}"), nodes, found) for place, gpu in enumerate(gpus)
    )
    found.nics = tuple(_placed(nic, nodes, found) for nic in _named_apart(nics))
    found.unknown = tuple(unknown)
    found.memory_nodes = tuple(gpu.memory_numa for gpu in found.gpus if gpu.memory_numa is not None)
    return found


def _role(tree: Tree, folder: str) -> Role | None:
    code, vendor, device = (
        hexadecimal(tree.read(f"{folder}/{name}")) for name in ("class", "vendor", "device")
    )
    if code is None:
        return Role.UNKNOWN
    return role(code >> 8, vendor or 0, device or 0)


def _gpu(tree: Tree, folder: str, address: str) -> GpuView:
    vendor, device = (hexadecimal(tree.read(f"{folder}/{name}")) for name in ("vendor", "device"))
    memory = tree.read(f"{folder}/mem_info_vram_total")
    return GpuView(
        "",
        address,
        None if vendor is None or device is None else f"{vendor:04x}:{device:04x}",
        float(memory) if memory and re.fullmatch(r"[0-9]{1,15}", memory) else None,
        _number(tree.read(f"{folder}/numa_node")),
        _memory_node(tree, address),
        pcie_generation=generation_of_speed(tree.read(f"{folder}/max_link_speed")),
        pcie_width=width(tree.read(f"{folder}/max_link_width")),
    )


def _memory_node(tree: Tree, address: str) -> int | None:
    """Return the NUMA node that the NVIDIA driver made of the memory of a GPU."""
    text = tree.read(f"{_NVIDIA_PROC}/{address}/numa_status") or ""
    match = re.search(r"^Node:\s*([0-9]{1,5})$", text, re.MULTILINE)
    return None if match is None else int(match[1])


def _nic(tree: Tree, folder: str, address: str) -> NicView:
    adapters, nets = tree.names(f"{folder}/infiniband"), tree.names(f"{folder}/net")
    speeds: list[float] = []
    for adapter in adapters:
        for port in tree.names(f"{folder}/infiniband/{adapter}/ports"):
            match = _RATE.match(tree.read(f"{folder}/infiniband/{adapter}/ports/{port}/rate") or "")
            speeds += [float(match[1]) * 1e9 / 8] if match else []
    if not adapters:
        stated = [_number(tree.read(f"{folder}/net/{net}/speed")) for net in nets]
        speeds = [speed * 1e6 / 8 for speed in stated if speed]
    ports = sum(len(tree.names(f"{folder}/infiniband/{adapter}/ports")) for adapter in adapters) or len(nets)
    name = (adapters or nets or [""])[0]
    return NicView(name, address, _number(tree.read(f"{folder}/numa_node")), ports or None, tuple(speeds))


def _named_apart(nics: list[NicView]) -> list[NicView]:
    return [nic if nic.name else replace(nic, name=f"NIC{place}") for place, nic in enumerate(nics)]


def _number(text: str | None) -> int | None:
    """Return a number that is not negative; the kernel writes -1 for what it does not know."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else None


def _placed(device: Device, nodes: AbstractSet[int], found: PciDevices) -> Device:
    """Forget the NUMA node of a device where there is no such node."""
    if device.numa is None or not nodes or device.numa in nodes:
        return device
    found.remarks.append(f"{device.bus_id} names NUMA node {device.numa}, which does not exist")
    return replace(device, numa=None)


def _add_bridges(tree: Tree, folder: str, address: str, found: PciDevices) -> None:
    """Note the bridges in the path of a function, if the snapshot keeps the link to it."""
    real = tree.resolve(folder)
    steps = [] if real is None else [bus_id(step) for step in real.split("/")]
    if steps and real and real.startswith("sys/devices/"):
        found.bridges[address] = tuple(step for step in steps if step and step != address)
