"""A machine as the topology XML that NCCL and RCCL load (``NCCL_TOPO_FILE``).

NCCL reads XML with a small parser of its own (``src/graph/xml.cc``): no declaration, no entities, attributes
in double quotes, at most 16 of them and 255 characters each, and comments before or between elements. It
counts links and names generations where a document states rates, so a comment carries the document itself:
an importer that finds it, and the XML below it unchanged, has lost nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from planner.errors import TopologyError
from planner.schema import dump_yaml, loads
from planner.topology.importers.nccl_parts import LinkCounts, bus_ids, cpu_attributes, pci_link
from planner.topology.importers.rates import facts_of
from planner.topology.machine import MachineType
from planner.topology.models import Gpu, Nic, TopologyDocument
from planner.topology.resolve import resolve

LONGEST_VALUE = 255
MOST_ATTRIBUTES = 16
LARGEST_DOCUMENT = 16 * 1024 * 1024
_CARRIED = re.compile(r"<!-- planner topology/1 ([0-9a-f]{64}) ([A-Za-z0-9+/=]+) -->\n")


def to_nccl_xml(document: TopologyDocument) -> str:
    """Return the XML of the only machine of a document.

    Raises
    ------
    TopologyError
        If the document describes several machines, or a part that NCCL has no element for.
    """
    topology = resolve(document)
    if len(topology.machine_types) > 1:
        raise TopologyError(f"{document.name!r} is made of several machines; NCCL loads a topology for each")
    machine = topology.machine_types[0]
    body = "\n".join(_write(_Tree(machine, LinkCounts.of(machine), bus_ids(machine)).system(), 0)) + "\n"
    packed = base64.b64encode(zlib.compress(dump_yaml(document).encode(), 9)).decode("ascii")
    return f"<!-- planner topology/1 {_digest(body)} {packed} -->\n{body}"


def from_nccl_xml(text: str, name: str) -> TopologyDocument | None:
    """Return the document that an exported XML carries, ``None`` without one or if the XML was changed."""
    match = _CARRIED.match(text)
    if match is None or _digest(text[match.end() :]) != match[1]:
        return None
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(base64.b64decode(match[2], validate=True), LARGEST_DOCUMENT)
        carried = plain.decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError):
        return None
    return None if unpacker.unconsumed_tail else loads(carried, TopologyDocument, name)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


@dataclass
class _Element:
    tag: str
    attributes: Mapping[str, str | int]
    children: list[_Element] = field(default_factory=list)


def _write(element: _Element, depth: int) -> Iterator[str]:
    if len(element.attributes) > MOST_ATTRIBUTES:
        raise TopologyError(f"<{element.tag}> has more attributes than NCCL reads")
    words = [element.tag]
    for key, value in element.attributes.items():
        if len(str(value)) > LONGEST_VALUE or re.search(r'["<>&\n]', str(value)):
            raise TopologyError(f"<{element.tag}>: {key} {str(value)[:40]!r} is no value that NCCL reads")
        words.append(f'{key}="{value}"')
    opening = "  " * depth + "<" + " ".join(words)
    if not element.children:
        yield opening + "/>"
        return
    yield opening + ">"
    for child in element.children:
        yield from _write(child, depth + 1)
    yield "  " * depth + f"</{element.tag}>"


@dataclass
class _Tree:
    """Turns the parts of a machine into elements, each once."""

    machine: MachineType
    counts: LinkCounts
    addresses: Mapping[str, str]
    placed: set[str] = field(default_factory=set)

    def system(self) -> _Element:
        """Return the root, a CPU below it for each NUMA domain."""
        machine = self.machine
        amd = any(edge.kind == "xgmi" for edge in machine.edges)
        root = _Element("system", {"version": 2 if amd else 1})
        for number, domain in enumerate(machine.numa):
            cpu = _Element("cpu", cpu_attributes(machine, number))
            cpu.children = [self.function(child, domain.name) for child in self.below(domain.name)]
            root.children.append(cpu)
        for name in [*(gpu.name for gpu in machine.gpus), *(nic.name for nic in machine.nics)]:
            if name not in self.placed:
                raise TopologyError(f"{name} hangs on no NUMA domain by PCI Express or a chip-to-chip link")
        return root

    def below(self, above: str) -> list[str]:
        """Return the parts that hang on another, in the order of the links, and mark them as placed."""
        machine = self.machine
        parts = {gpu.name for gpu in machine.gpus} | {nic.name for nic in machine.nics}
        parts |= {switch.name for switch in machine.switches if switch.kind == "pcie"}
        held = [
            edge.source
            for edge in machine.edges
            if edge.target == above and edge.kind in ("pcie", "nvlink-c2c") and edge.source in parts
        ]
        found = [name for name in dict.fromkeys(held) if name not in self.placed]
        self.placed.update(found)
        return found

    def function(self, name: str, above: str) -> _Element:
        """Return the PCI function of a GPU, an adapter or a switch, with all below it."""
        speed, width = pci_link(self.machine, name, above)
        link: dict[str, str | int] = {"link_speed": speed, "link_width": width}
        for number, gpu in enumerate(self.machine.gpus):
            if gpu.name == name:
                return self.gpu(gpu, number, link)
        for number, nic in enumerate(self.machine.nics):
            if nic.name == name:
                return self.nic(nic, number, link)
        children = [self.function(child, name) for child in self.below(name)]
        return _Element("pci", {"busid": self.addresses[name], "class": "0x060400", **link}, children)

    def gpu(self, gpu: Gpu, number: int, link: Mapping[str, str | int]) -> _Element:
        """Return a GPU with its links."""
        facts = facts_of(gpu.device)
        amd = self.machine.devices[gpu.device].vendor == "amd"
        identity: dict[str, str] = {}
        if facts is not None and facts.pci:
            vendor, device = facts.pci[0].split(":")
            identity = {"vendor": f"0x{vendor}", "device": f"0x{device}"}
        head = {"busid": self.addresses[gpu.name], "class": "0x120000" if amd else "0x030200", **identity}
        inner = _Element("gpu", {"dev": number, "sm": facts.sm if facts else 0, "rank": number, "gdr": 1})
        links = self.counts.of_gpu(gpu.name, self.addresses)
        inner.children = [_Element(tag, attributes) for tag, attributes in links]
        return _Element("pci", {**head, **link}, [inner])

    def nic(self, nic: Nic, number: int, link: Mapping[str, str | int]) -> _Element:
        """Return an adapter with one port."""
        port = _Element(
            "net",
            {
                "name": nic.name,
                "dev": number,
                "speed": max(1, round(nic.bandwidth.value * 8 / 1e6)),
                "port": 1,
                "guid": f"{number + 1:#x}",
                "maxconn": 131072,
                "gdr": 1,
            },
        )
        head = {"busid": self.addresses[nic.name], "class": "0x020700"}
        return _Element("pci", {**head, **link}, [_Element("nic", {}, [port])])
