"""The topology XML that NCCL and RCCL dump and load: NUMA nodes, the PCI tree, GPU links, network ports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from planner.topology.importers.lists import listed, mask
from planner.topology.importers.nccl_doubts import doubts
from planner.topology.importers.nccl_links import GpuLinks
from planner.topology.importers.nvidia_matrix import LONG_NUMBER
from planner.topology.importers.pci import bus_id, generation_of_speed, hexadecimal, width
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import GpuView, HostView, NicView, NumaView, Remark
from planner.topology.importers.xml import XmlElement, parse

FORMAT = "nccl-xml"
FASTEST_PORT = 10_000_000
"""Faster than any network port, Mb/s."""
_NVIDIA, _AMD = 0x10DE, 0x1002
_INERT = frozenset({"gpu", "nic", "nvlink", "xgmi", "c2c", "net", "pci", "cpu"})


def read_nccl_xml(text: str, name: str) -> HostView:
    """Read a topology of one host; PCI functions are told apart by what they hold, else by their class.

    Raises
    ------
    ImportRefusedError
        If it is a graph of channels rather than a topology, spans several hosts, names a function or a NUMA
        node twice, or its links contradict each other.
    """
    root = parse(text, name)
    if root.tag == "graphs":
        raise ImportRefusedError(
            name, root.line,
            "this is NCCL's search result (NCCL_GRAPH_DUMP_FILE), rings and trees but no machine; "
            "dump the topology with NCCL_TOPO_DUMP_FILE",
        )  # fmt: skip
    if root.tag != "system":
        raise ImportRefusedError(name, root.line, f"<{root.tag}> is not an NCCL topology")
    return _Reader(name).read(root)


class _Reader:
    """Walks the tree and collects the parts of the host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.remarks: list[Remark] = []
        self.gpus: list[tuple[XmlElement, GpuView, str | None]] = []
        self.nics: list[NicView] = []
        self.numa: dict[int, NumaView] = {}
        self.bridges: dict[str, tuple[str, ...]] = {}
        self.unknown: list[str] = []
        self.seen: dict[str, int] = {}
        self.ports: list[str] = []

    def read(self, root: XmlElement) -> HostView:
        """Return the host that the tree describes."""
        cpus = list(root.all("cpu"))
        if not cpus:
            raise ImportRefusedError(self.name, root.line, "no <cpu>: the topology is empty")
        hosts = {cpu.get("host_hash") for cpu in cpus}
        if len(hosts) > 1:
            raise ImportRefusedError(
                self.name, root.line, f"{len(hosts)} hosts in one topology; dump it on one node alone"
            )
        for child in root.children:
            if child.tag != "cpu":
                self.note(child, f"<{child.tag}> is ignored here")
        for cpu in cpus:
            self.cpu(cpu)
        gpus = self.named_gpus()
        links = GpuLinks({gpu.bus_id: gpu.name for _, gpu in gpus if gpu.bus_id}, self.name)
        for element, gpu in gpus:
            links.add(element, gpu.name, gpu.bus_id)
        links.finish()
        self.check_ports()
        self.compare_c2c(gpus)
        arch, vendor = (self.common(cpus, key) for key in ("arch", "vendor"))
        family, model = (self.small(cpus, key) for key in ("familyid", "modelid"))
        if self.unknown:
            self.remarks.append(
                Remark(0, f"{len(self.unknown)} PCI functions without a class: their role is unknown")
            )
        view = HostView(
            FORMAT,
            tuple(gpu for _, gpu in gpus),
            tuple(self.nics),
            tuple(self.numa.values()),
            links.pairs,
            links.kind,
            switch_links=links.to_switches,
            bridges=self.bridges,
            unknown_functions=tuple(self.unknown),
            arch=arch,
            vendor=vendor,
            cpu=f"family {family} model {model}" if family and model else None,
        )
        remarks = (*self.remarks, *links.remarks, *doubts(root, view))
        return replace(view, remarks=tuple(sorted(remarks, key=lambda remark: remark.line)))

    def note(self, element: XmlElement, text: str) -> None:
        self.remarks.append(Remark(element.line, text))

    def common(self, cpus: list[XmlElement], key: str) -> str | None:
        """Return what all CPUs say, ``None`` where they say different things or nothing."""
        said = {cpu.get(key) for cpu in cpus}
        if len(said) > 1:
            self.remarks.append(Remark(cpus[0].line, f"the CPUs differ in {key!r}; left unknown"))
        return (said.pop() or None) if len(said) == 1 else None

    def small(self, cpus: list[XmlElement], key: str) -> str | None:
        """Return a number of at most four digits that all CPUs state."""
        text = self.common(cpus, key)
        if text is None or re.fullmatch(r"-?[0-9]{1,4}", text):
            return text
        self.note(cpus[0], f"{key} {text[:20]!r} is no number of a CPU; left unknown")
        return None

    def cpu(self, cpu: XmlElement) -> None:
        """Read one NUMA node and all that hangs on it."""
        number = cpu.get("numaid") or ""
        home: int | None = None
        if re.fullmatch(r"[0-9]{1,5}", number):
            home = int(number)
            if home in self.numa:
                raise ImportRefusedError(self.name, cpu.line, f"the NUMA node {home} is there twice")
            self.numa[home] = NumaView(home, self.processors(cpu))
        elif number == "-1":
            self.note(cpu, "numaid -1: the host hides its NUMA nodes; those of the devices are unknown")
        else:
            raise ImportRefusedError(self.name, cpu.line, f"numaid {number[:20]!r} is no NUMA node")
        for child in cpu.children:
            self.child(child, home, ())

    def processors(self, cpu: XmlElement) -> tuple[int, ...] | None:
        """Return the processors of a node, none of which may belong to another one."""
        text = cpu.get("affinity")
        cpus = None if text is None else mask(text)
        if text is None:
            self.note(cpu, "no affinity: the processors of the node are unknown")
        if text is not None and cpus is None:
            self.note(cpu, f"affinity {text[:40]!r} is no mask of processors; left unknown")
        for other in self.numa.values():
            shared = set(cpus or ()) & set(other.cpus or ())
            if shared:
                self.note(cpu, f"processor {min(shared)} is also in node {other.number}")
        return cpus

    def child(self, element: XmlElement, home: int | None, above: tuple[str, ...]) -> None:
        """Read what hangs on a NUMA node or below a PCI bridge."""
        if element.tag == "pci":
            self.pci(element, home, above)
        elif element.tag == "nic":
            self.nic(element, None, home)
        else:
            self.note(element, f"<{element.tag}> is ignored here")

    def pci(self, element: XmlElement, home: int | None, above: tuple[str, ...]) -> None:
        """Read a PCI function: a bridge, a GPU, an adapter, or something that the dump does not tell."""
        address = bus_id(element.get("busid") or "")
        if address is None:
            text = (element.get("busid") or "")[:40]
            raise ImportRefusedError(self.name, element.line, f"busid {text!r} is no PCI address")
        if address in self.seen:
            raise ImportRefusedError(
                self.name, element.line, f"{address} is there twice, first in line {self.seen[address]}"
            )
        self.seen[address] = element.line
        role = self.role(element, address)
        if role in ("gpu", "nic"):
            self.bridges[address] = above
        if role == "gpu":
            self.gpu(element, address, home)
        elif role == "nic":
            self.nic(element.find("nic") or element, address, home)
        for child in element.children:
            if child.tag == "pci":
                self.pci(child, home, (*above, address))
            elif child.tag not in ("gpu", "nic"):
                self.note(child, f"<{child.tag}> is ignored here")

    def role(self, element: XmlElement, address: str) -> str:
        """Return ``gpu``, ``nic``, ``bridge`` or ``other``."""
        held = [child.tag for child in element.all("gpu", "nic")]
        if len(held) > 1:
            raise ImportRefusedError(self.name, element.line, f"{address} holds {' and '.join(held)}")
        kind = hexadecimal(element.get("class"))
        if element.get("class") is not None and kind is None:
            self.note(element, f"{address}: class {str(element.get('class'))[:20]!r} is no PCI class")
        if held:
            return held[0]
        if element.find("pci") is not None:
            return "bridge"
        if kind is None:
            self.unknown.append(address)
            return "other"
        return self.role_of_class(element, address, kind)

    def role_of_class(self, element: XmlElement, address: str, kind: int) -> str:
        """Return the role that the class code of a bare function gives it (PCI Code and ID Assignment)."""
        base, sub = kind >> 16, kind >> 8
        maker = hexadecimal(element.get("vendor"))
        if sub in (0x0302, 0x0380, 0x1200) or (sub == 0x0300 and maker == _NVIDIA):
            return "gpu"
        if base == 0x02:
            return "nic"
        what = {0x06: "a bridge with nothing below", 0x03: "a display adapter"}.get(
            base, f"class {kind:#08x}"
        )
        self.note(element, f"{address}: {what}, left out")
        return "other"

    def gpu(self, element: XmlElement, address: str, home: int | None) -> None:
        """Keep a GPU until all are known and can be named."""
        inner = element.find("gpu")
        product = self.identity(element, address)
        if product is None and inner is not None and inner.get("gcn"):
            product = "gfx" + (inner.get("gcn") or "").removeprefix("gfx")
        if inner is not None and any(True for _ in inner.all("c2c")):
            c2c: bool | None = True
        else:
            c2c = None
        view = GpuView(
            "", address, product, numa=home, c2c=c2c,
            pcie_generation=self.generation(element, address), pcie_width=self.lanes(element, address),
        )  # fmt: skip
        self.gpus.append((inner or element, view, None if inner is None else inner.get("dev")))

    def identity(self, element: XmlElement, address: str) -> str | None:
        """Return the PCI identity of a function, ``vendor:device``."""
        words = [element.get("vendor"), element.get("device")]
        numbers = [hexadecimal(word) for word in words]
        if any(
            word and not (number and number < 0x10000) for word, number in zip(words, numbers, strict=True)
        ):
            self.note(element, f"{address}: {words[0]} {words[1]} is no PCI identity; left unknown"[:150])
            return None
        return f"{numbers[0]:04x}:{numbers[1]:04x}" if all(numbers) else None

    def generation(self, element: XmlElement, address: str) -> int | None:
        """Return the PCI Express generation of a function."""
        text = element.get("link_speed")
        found = generation_of_speed(text)
        if text and found is None and not text.lower().startswith("unknown"):
            self.note(element, f"{address}: link_speed {text[:20]!r} is no PCI Express rate; left unknown")
        return found

    def lanes(self, element: XmlElement, address: str) -> int | None:
        """Return the lanes of a function; 0 means that the machine hides them."""
        text = element.get("link_width")
        found = width(text)
        if text not in (None, "", "0") and found is None:
            self.note(
                element, f"{address}: link_width {str(text)[:20]!r} is no number of lanes; left unknown"
            )
        return found

    def named_gpus(self) -> list[tuple[XmlElement, GpuView]]:
        """Name the GPUs by their device number if all have one, else in the order of the file."""
        devices = [dev for *_, dev in self.gpus]
        numbered = all(dev is not None and re.fullmatch(r"[0-9]{1,4}", dev) for dev in devices)
        if not numbered and any(dev is not None for dev in devices):
            self.remarks.append(
                Remark(0, "some GPUs have no device number; all are counted in the file's order")
            )
        numbers = [int(dev or 0) for dev in devices] if numbered else list(range(len(devices)))
        lines: dict[int, int] = {}
        for (element, *_), number in zip(self.gpus, numbers, strict=True):
            if number in lines:
                raise ImportRefusedError(
                    self.name, element.line, f"device number {number} twice, first in line {lines[number]}"
                )
            lines[number] = element.line
        if numbered and lines and set(lines) != set(range(len(lines))):
            self.remarks.append(Remark(0, f"the device numbers have gaps: {listed(sorted(lines))}"))
        return [
            (element, replace(view, name=f"GPU{number}"))
            for (element, view, _), number in zip(self.gpus, numbers, strict=True)
        ]

    def nic(self, element: XmlElement, address: str | None, home: int | None) -> None:
        """Read an adapter with its ports."""
        ports = list(element.all("net"))
        for child in element.children:
            if child.tag != "net" and child.tag not in _INERT:
                self.note(child, f"<{child.tag}> is ignored here")
        name = next((port.get("name") for port in ports if port.get("name")), None) or address
        if name is None:
            self.note(element, "an adapter without an address and without a port is left out")
            return
        if any(not port.get("name") for port in ports):
            self.note(element, f"a port of {name} has no name")
        if LONG_NUMBER.search(name):
            self.note(element, f"{name[:40]!r} is an unlikely name of a port")
        if any(nic.name == name for nic in self.nics):
            raise ImportRefusedError(self.name, element.line, f"the network port {name!r} is there twice")
        self.ports.extend(port.get("dev") or "" for port in ports)
        speeds = tuple(rate for port in ports if (rate := self.speed(port)) is not None)
        bare = element.tag == "pci"
        if not ports and not bare:
            self.note(element, f"the adapter {name} has no port")
        self.nics.append(NicView(name, address, home, None if bare else len(ports), speeds))

    def check_ports(self) -> None:
        """Remark gaps in the numbers of the network ports, where a line may be missing."""
        numbers = sorted(int(dev) for dev in self.ports if re.fullmatch(r"[0-9]{1,4}", dev))
        if len(numbers) < len(self.ports) or numbers != list(range(len(numbers))):
            self.remarks.append(Remark(0, f"the numbers of the network ports have gaps: {listed(numbers)}"))

    def compare_c2c(self, gpus: list[tuple[XmlElement, GpuView]]) -> None:
        """Remark GPUs without the chip-to-chip link that others have."""
        without = [gpu.name for _, gpu in gpus if gpu.c2c is None]
        if without and len(without) < len(gpus):
            self.remarks.append(
                Remark(0, f"no chip-to-chip link at {', '.join(without)}, though others have one")
            )

    def speed(self, port: XmlElement) -> float | None:
        """Return the rate of a port in bytes/s."""
        text = port.get("speed") or ""
        megabits = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
        if 0 < megabits < FASTEST_PORT:
            return megabits * 1e6 / 8
        self.note(port, f"{port.get('name')}: speed {text[:20]!r} is no rate of a port; left unknown")
        return None


def families(view: HostView) -> Mapping[str, int]:
    """Return family and model of the host's CPU as NCCL numbers them, empty where unknown."""
    match = re.search(r"\bfamily ([0-9]+) model ([0-9]+)\b", view.cpu or "")
    return {} if match is None else {"family": int(match[1]), "model": int(match[2])}
