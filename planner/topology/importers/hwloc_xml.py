"""The XML that hwloc exports (``lstopo --of xml``), of its versions 1, 2 and 3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from planner.topology.importers import words
from planner.topology.importers.hwloc_distances import (
    node_distances,
    read_attributes,
    read_distances,
    read_links,
)
from planner.topology.importers.hwloc_doubts import doubts
from planner.topology.importers.hwloc_objects import Item, bits, read_objects
from planner.topology.importers.hwloc_pci import PciItem, gpu_views, nic_views, read_functions
from planner.topology.importers.hwloc_view import HwlocView
from planner.topology.importers.pci import bus_id
from planner.topology.importers.pci_roles import Role
from planner.topology.importers.rates import link_rates
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import NumaView, Remark
from planner.topology.importers.xml import XmlElement, parse

FORMAT = "hwloc-xml"
GPU_MEMORY = "GPUMemory"
_ORDINARY = (None, "DRAM")
_POWER9_GPU_NODES = range(240, 256)
_VERSION = re.compile(r"[1-3](\.[0-9]{1,2})?")
_BYTES = re.compile(r"[0-9]{1,17}")


def read_hwloc(text: str, name: str) -> HwlocView:
    """Read an export of hwloc 1, 2 or 3.

    Raises
    ------
    ImportRefusedError
        If it is not one, or names a processor, NUMA node, or PCI function twice.
    """
    root = parse(text, name)
    if root.tag not in ("topology", "root"):
        raise ImportRefusedError(name, root.line, f"<{root.tag}> is no topology of hwloc")
    version = root.get("version") or "1"
    if not _VERSION.fullmatch(version):
        raise ImportRefusedError(name, root.line, f"version {version[:20]!r} is none of 1, 2, 3")
    return _Reader(name, version).read(root)


class _Reader:
    """Draws the host from the tree of objects."""

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version
        self.remarks: list[Remark] = []

    def read(self, root: XmlElement) -> HwlocView:
        """Return the host."""
        machine = read_objects(root, self.name, self.remarks)
        kinds = [item.kind for item in machine.walk()]
        self.remarks += doubts(machine)
        infos = _infos(root, machine)
        arch = words.architecture(infos.get("Architecture"))
        if arch is None:
            self._note(machine.line, "the architecture is not stated")
        matrices = read_distances(root, machine, self.remarks)
        numa, subtypes, memory_of = self._numa(machine, node_distances(matrices, self.remarks))
        pci = read_functions(machine, self.name, self.remarks)
        if arch is not None and arch.startswith("ppc64"):
            numa = [self._on_power(node) for node in numa]
        by_role = {role: [one for one in pci if one.role is role] for role in Role}
        hosts = {node.number for node in numa if not node.device_memory}
        gpus = [
            replace(gpu, memory_numa=memory_of.get(gpu.bus_id or ""))
            for gpu in gpu_views(by_role[Role.GPU], hosts, self.remarks)
        ]
        if len(hosts) > 1 and not any(node.distances for node in numa):
            self._note(0, "no distances between the NUMA nodes")
        names = {gpu.bus_id: gpu.name for gpu in gpus if gpu.bus_id}
        switches = _addresses(by_role[Role.SWITCH])
        kinds_of_gpu = {(one.function.vendor, one.function.device) for one in by_role[Role.GPU]}
        links = read_links(matrices, names, switches, lambda: _link_rate(kinds_of_gpu), self.remarks)
        attributes = read_attributes(root, machine, self.remarks)
        return HwlocView(
            FORMAT,
            tuple(gpus),
            tuple(nic_views(by_role[Role.NETWORK], hosts, self.remarks)),
            tuple(numa),
            links.pairs,
            links.kind,
            links.rate,
            links.to_switches,
            bridges={one.address: one.bridges for one in pci if one.role in (Role.GPU, Role.NETWORK)},
            unknown_functions=_addresses(by_role[Role.UNKNOWN]),
            arch=arch,
            vendor=words.product(infos.get("CPUVendor")),
            cpu=words.product(infos.get("CPUModel")),
            packages=kinds.count("Package") or None,
            cores=kinds.count("Core") or None,
            processors=kinds.count("PU") or None,
            remarks=tuple(sorted(self.remarks, key=lambda remark: remark.line)),
            version=self.version,
            functions={one.address: one.function for one in pci},
            displays=_addresses(by_role[Role.DISPLAY]),
            nvswitches=switches,
            subtypes=subtypes,
            distances=matrices,
            memory_attributes=attributes,
            peer_rates=links.rates,
        )

    def _numa(
        self, machine: Item, distances: Mapping[int, dict[int, float]]
    ) -> tuple[list[NumaView], dict[int, str], dict[str, int]]:
        """Return the NUMA nodes, their subtypes, and the node that is the memory of each GPU."""
        items = [item for item in machine.walk() if item.kind == "NUMANode"]
        if not items:
            return self._whole_machine(machine), {}, {}
        owned = self._owned(items)
        nodes: list[NumaView] = []
        subtypes: dict[int, str] = {}
        memory_of: dict[str, int] = {}
        packages = [item for item in machine.walk() if item.kind == "Package"]
        for item in sorted(items, key=lambda one: one.os_index or 0):
            number = item.os_index or 0
            subtype = item.element.get("subtype")
            if subtype:
                subtypes[number] = subtype
            address = bus_id(item.infos().get("PCIBusID", "")) if subtype == GPU_MEMORY else None
            if address is not None:
                memory_of[address] = number
            cpus = owned[number]
            nodes.append(
                NumaView(
                    number,
                    None if cpus is None else bits(cpus),
                    self._memory(item),
                    distances.get(number, {}),
                    subtype == GPU_MEMORY,
                    _package(item, cpus, packages),
                )
            )
        return nodes, subtypes, memory_of

    def _owned(self, items: list[Item]) -> dict[int, int | None]:
        """Return the processors of every node: hwloc gives nodes without processors those next to them."""
        taken = 0
        found: dict[int, int | None] = {}

        def order(item: Item) -> tuple[bool, bool, int, int]:
            subtype = item.element.get("subtype")
            size = (item.cpus or 0).bit_count()
            return subtype == GPU_MEMORY, subtype not in _ORDINARY, size, item.os_index or 0

        for item in sorted(items, key=order):
            number, subtype = item.os_index or 0, item.element.get("subtype")
            if item.cpus is None:
                found[number] = None
                self._note(item.line, f"the processors of NUMA node {number} are not stated")
            elif subtype == GPU_MEMORY:
                found[number] = 0
            elif not item.cpus:
                found[number] = 0
                what = subtype or "of unknown kind"
                self._note(item.line, f"NUMA node {number} has no processors: memory {what}")
            elif item.cpus & taken:
                found[number] = 0
                what = subtype or "of unknown kind"
                self._note(item.line, f"NUMA node {number} shares its processors: memory without any, {what}")
            else:
                found[number] = item.cpus
                taken |= item.cpus
        return found

    def _on_power(self, node: NumaView) -> NumaView:
        """Take high nodes without processors for memory of GPUs: on POWER9 these count from 255 down."""
        if node.cpus != () or node.device_memory or node.number not in _POWER9_GPU_NODES:
            return node
        self._note(0, f"NUMA node {node.number} is taken for GPU memory: on POWER9 it counts from 255 down")
        return replace(node, device_memory=True)

    def _whole_machine(self, machine: Item) -> list[NumaView]:
        """Return the one node that hwloc 2 makes of a machine for which hwloc 1 exported none."""
        if self.version != "1" or machine.cpus is None:
            self._note(machine.line, "no NUMA node at all; whether the host is uniform is unknown")
            return []
        self._note(machine.line, "no NUMA node; the whole machine is taken for one")
        return [NumaView(0, bits(machine.cpus), self._memory(machine))]

    def _memory(self, item: Item) -> float | None:
        text = item.element.get("local_memory")
        if text is None or not _BYTES.fullmatch(text):
            what = "not stated" if text is None else f"{text[:40]!r}"
            self._note(item.line, f"the memory of NUMA node {item.os_index} is {what}")
            return None
        pages = [(page.get("size") or "", page.get("count") or "") for page in item.element.all("page_type")]
        if pages and all(_BYTES.fullmatch(one) for page in pages for one in page):
            total = sum(int(size) * int(count) for size, count in pages)
            if total and total != int(text):
                what = f"memory is {text} bytes, but its pages are {total}"
                self._note(item.line, f"NUMA node {item.os_index}: {what}")
        return float(text)

    def _note(self, line: int, text: str) -> None:
        self.remarks.append(Remark(line, text))


def _link_rate(kinds: AbstractSet[tuple[int, int]]) -> int | None:
    """Return the rate of one NVLink of GPUs of a single kind, MB/s, where the catalogue has it."""
    names = {f"{vendor:04x}:{device:04x}" for vendor, device in kinds}
    facts = [one for one in link_rates().gpus if names & set(one.pci)] if len(names) == 1 else []
    figure = facts[0].link_rate if facts else None
    return None if figure is None else round(figure.value / 1e6)


def _addresses(items: list[PciItem]) -> tuple[str, ...]:
    return tuple(item.address for item in items)


def _package(item: Item, cpus: int | None, packages: list[Item]) -> int | None:
    """Return the package that a node is in, or lies on wholly."""
    above = next((one for one in item.above() if one.kind == "Package"), None)
    if above is not None:
        return packages.index(above)
    near = [place for place, one in enumerate(packages) if cpus and one.cpus and one.cpus & cpus]
    return near[0] if len(near) == 1 else None


def _infos(root: XmlElement, machine: Item) -> dict[str, str]:
    """Return what is said of the whole host: at the root (hwloc 3), the machine or the first package."""
    found: dict[str, str] = {}
    package = next((item for item in machine.walk() if item.kind == "Package"), None)
    for element in (package.element if package else None, machine.element, root):
        for info in element.all("info") if element is not None else ():
            found[info.get("name") or ""] = info.get("value") or ""
    return found
