"""The PCI functions of an hwloc export, and the GPUs and network adapters among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from planner.topology.importers import words
from planner.topology.importers.hwloc_objects import IO_TYPES, Item, bits
from planner.topology.importers.hwloc_view import PciFunction
from planner.topology.importers.pci import bus_id
from planner.topology.importers.pci_roles import Role, role
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import GpuView, NicView, Remark
from planner.topology.importers.words import has_long_number

_TYPE = re.compile(r"([0-9a-fA-F]{4}) \[([0-9a-fA-F]{4}):([0-9a-fA-F]{4})\].*")
_SPEED = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?")
_KIB = re.compile(r"[0-9]{1,13}")
_MEMORY = ("CUDAGlobalMemorySize", "RSMIVRAMSize")
"""Memory of a GPU in KiB, the unit that hwloc writes bare numbers in."""
_RANK = re.compile(r"(nvml|rsmi|cuda)([0-9]{1,4})")
_PORT_NAME = re.compile(r"(mlx[45]_|eth|ib|hfi1_|hsi)[0-9]{1,3}")
_PORT = re.compile(r"Port([0-9]{1,2})State")


@dataclass(frozen=True)
class PciItem:
    """One function, where it is in the tree, and the bridges above it, outermost first."""

    item: Item
    function: PciFunction
    role: Role
    bridges: tuple[str, ...]

    @property
    def address(self) -> str:
        """PCI address of the function."""
        return self.function.address

    def infos(self) -> dict[str, str]:
        """Return what the export says about the function and its devices."""
        found = self.item.infos()
        for device in self.item.children:
            found |= device.infos()
        return found


def read_functions(machine: Item, source: str, remarks: list[Remark]) -> list[PciItem]:
    """Return the PCI functions below a machine, bridges left out.

    Raises
    ------
    ImportRefusedError
        If a function or bridge has an address that is none.
    """
    return [_function(item, source, remarks) for item in machine.walk() if item.kind == "PCIDev"]


def _function(item: Item, source: str, remarks: list[Remark]) -> PciItem:
    address = _address(item, source)
    bridges = [
        _address(one, source) for one in item.above() if one.kind == "Bridge" and one.element.get("pci_busid")
    ]
    for one in item.above():
        if (
            one.kind == "Bridge"
            and one.element.get("bridge_type") != "0-1"
            and not one.element.get("pci_busid")
        ):
            remarks.append(Remark(one.line, f"a bridge above {address} has no PCI address; left out"))
    match = _TYPE.fullmatch(item.element.get("pci_type") or "")
    if match is None:
        remarks.append(Remark(item.line, f"class and identity of {address} make no sense; left unknown"))
    code, vendor, device = (int(part, 16) for part in match.groups()) if match else (0, 0, 0)
    speed = item.element.get("pci_link_speed") or ""
    if not _SPEED.fullmatch(speed):
        remarks.append(Remark(item.line, f"the link speed of {address} is not stated"))
    link = float(speed) * 1e9 if _SPEED.fullmatch(speed) and float(speed) else None
    home = next((one for one in item.above() if one.kind not in IO_TYPES), None)
    nodes = bits(home.nodes) if home is not None and home.nodes is not None else ()
    devices = tuple(child.element.get("name") or "" for child in item.children if child.kind == "OSDev")
    if not all(devices) or any(has_long_number(name) for name in devices):
        remarks.append(Remark(item.line, f"a device of {address} has no name, or one that makes no sense"))
    kind = role(code, vendor, device)
    if item.element.get("subtype") == "NVSwitch":
        kind = Role.SWITCH
    elif kind is Role.UNKNOWN:
        remarks.append(Remark(item.line, f"the class of PCI function {address} is unknown; so is its role"))
    if doubt := _unlike_devices(kind, devices):
        remarks.append(Remark(item.line, f"the class of {address} is that of a {kind.value}, but {doubt}"))
    function = PciFunction(address, code, vendor, device, link, nodes, devices)
    return PciItem(item, function, kind, tuple(reversed(bridges)))


def _unlike_devices(kind: Role, devices: Sequence[str]) -> str | None:
    """Return what speaks against the role that the class gives a function: what the system calls it."""
    if kind is Role.BRIDGE:
        return "the export does not call it a bridge"
    for pattern, right in ((_RANK, Role.GPU), (_PORT_NAME, Role.NETWORK)):
        name = next((name for name in devices if pattern.fullmatch(name)), None)
        if name is not None and kind is not right:
            return f"its device is called {name!r}"
    return None


def _address(item: Item, source: str) -> str:
    text = item.element.get("pci_busid") or ""
    address = bus_id(text)
    if address is None:
        raise ImportRefusedError(source, item.line, f"{text[:40]!r} is no PCI address")
    return address


def gpu_views(items: Sequence[PciItem], hosts: AbstractSet[int], remarks: list[Remark]) -> list[GpuView]:
    """Return the GPUs, numbered as the GPU library numbers them, else in the order of the export.

    Parameters
    ----------
    hosts
        NUMA nodes that are memory of the host.
    """
    ranks = [_rank(item) for item in items]
    if items and all(rank is not None for rank in ranks) and len(set(ranks)) == len(ranks):
        items = [item for _, item in sorted(zip(ranks, items, strict=True), key=lambda pair: pair[0] or 0)]
    views = [_gpu(item, f"GPU{place}", hosts, remarks) for place, item in enumerate(items)]
    _compare(items, views, remarks)
    return views


def _compare(items: Sequence[PciItem], views: Sequence[GpuView], remarks: list[Remark]) -> None:
    """Remark what differs between GPUs of one kind, where a line may be missing."""
    for kind in {item.function.device for item in items}:
        alike = [
            (item, view) for item, view in zip(items, views, strict=True) if item.function.device == kind
        ]
        backends = [sorted(re.sub("[0-9]+", "", name) for name in item.function.devices) for item, _ in alike]
        facts: dict[str, set[object]] = {
            "PCI Express links": {item.function.link for item, _ in alike},
            "models": {view.product for _, view in alike},
            "sizes of memory": {view.memory for _, view in alike},
            "devices": {tuple(names) for names in backends},
        }
        for what, found in facts.items():
            if len(found) > 1:
                remarks.append(Remark(0, f"{what} differ between GPUs of one kind"))


def _rank(item: PciItem) -> int | None:
    matches = {match[1]: int(match[2]) for name in item.function.devices if (match := _RANK.fullmatch(name))}
    return matches.get("nvml", matches.get("rsmi", matches.get("cuda")))


def _gpu(item: PciItem, name: str, hosts: AbstractSet[int], remarks: list[Remark]) -> GpuView:
    infos, function = item.infos(), item.function
    models = {one.infos()["GPUModel"] for one in item.item.children if "GPUModel" in one.infos()}
    model = words.product(min(models)) if len(models) == 1 else None
    if len(models) > 1 or (models and model is None):
        remarks.append(Remark(item.item.line, f"the models of {name} differ or make no sense; left unknown"))
    sizes = [infos[key] for key in _MEMORY if _KIB.fullmatch(infos.get(key, ""))]
    if not sizes and any(key in infos for key in _MEMORY):
        remarks.append(Remark(item.item.line, f"the memory of {name} makes no sense; left unknown"))
    return GpuView(
        name,
        function.address,
        model or f"{function.vendor:04x}:{function.device:04x}",
        float(int(sizes[0]) * 1024) if sizes else None,
        _home(item, hosts, remarks),
    )


def nic_views(items: Sequence[PciItem], hosts: AbstractSet[int], remarks: list[Remark]) -> list[NicView]:
    """Return the network adapters, one for each PCI function."""
    nameless = [item for item in items if not item.function.devices]
    if nameless and len(nameless) < len(items):
        text = f"the adapter {nameless[0].address} has no device, though others have one"
        remarks.append(Remark(nameless[0].item.line, text))
    return [
        NicView(
            _nic_name(item.function.devices) or f"NIC{place}",
            item.address,
            _home(item, hosts, remarks),
            sum(1 for key in item.infos() if _PORT.fullmatch(key)) or None,
        )
        for place, item in enumerate(items)
    ]


def _nic_name(devices: Sequence[str]) -> str | None:
    """Return the name of the InfiniBand device, which has a number at its end, else the first name."""
    verbs = [name for name in devices if re.fullmatch(r"(mlx|hfi|bnxt_re|efa|irdma|qedr|rocep|ibp)\w*", name)]
    return next(iter(verbs or devices), None)


def _home(item: PciItem, hosts: AbstractSet[int], remarks: list[Remark]) -> int | None:
    """Return the only NUMA node of the host next to a function."""
    near = [node for node in item.function.nodes if node in hosts]
    if len(near) != 1 and len(hosts) > 1:
        remarks.append(Remark(item.item.line, f"{item.address} is next to {len(near)} NUMA nodes"))
    return near[0] if len(near) == 1 else None
