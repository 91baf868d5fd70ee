"""What NCCL calls the parts of a machine: addresses, masks of processors, generations, counts of links."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from planner.topology.importers.figures import LANES
from planner.topology.importers.rates import GpuFacts, facts_of, link_rates
from planner.topology.machine import Edge, MachineType

GIGATRANSFERS = {1: "2.5", 2: "5.0", 3: "8.0", 4: "16.0", 5: "32.0", 6: "64.0"}
"""Transfer rate of a lane by generation of PCI Express, GT/s."""
_NARROW = (8, 4, 2, 1)
_SAME = 0.02
"""Relative difference of rates up to which a narrower link is recognised."""
_WHOLE = 0.75
"""Share of the rate of all links from which a GPU is taken to have all of them on its switches."""
_GPU_LINKS = frozenset({"nvlink", "xgmi"})


def bus_ids(machine: MachineType) -> dict[str, str]:
    """Return a PCI address for every GPU, adapter and switch of a machine, which documents do not hold."""
    names = [gpu.name for gpu in machine.gpus]
    names += [nic.name for nic in machine.nics]
    names += [switch.name for switch in machine.switches]
    return {name: f"{index // 0xE0:04x}:{0x10 + index % 0xE0:02x}:00.0" for index, name in enumerate(names)}


def cpu_attributes(machine: MachineType, index: int) -> dict[str, str | int]:
    """Return the attributes of the CPU of a NUMA domain; a domain that lists no cores has them counted up."""
    domain = machine.numa[index]
    start = sum(part.cores for part in machine.numa[:index])
    cores = domain.core_numbers or tuple(range(start, start + domain.cores))
    found: dict[str, str | int] = {
        "numaid": numa_number(domain.name, index), "affinity": affinity(cores), "arch": domain.arch,
    }  # fmt: skip
    cpu = domain.cpu or ""
    for pattern, vendor in (("Intel", "GenuineIntel"), ("AMD|EPYC", "AuthenticAMD")):
        if re.search(pattern, cpu):
            found["vendor"] = vendor
    model = re.search(r"family ([0-9]+) model ([0-9]+)", cpu)
    if model:
        found.update(familyid=int(model[1]), modelid=int(model[2]))
    return found


def numa_number(name: str, index: int) -> int:
    """Return the number in the name of a NUMA domain, else its place."""
    match = re.fullmatch(r"[^0-9]*([0-9]{1,5})", name)
    return int(match[1]) if match else index


def affinity(cores: tuple[int, ...]) -> str:
    """Return the mask of processors, words of 32 bits, the highest first."""
    words = [0] * (max(cores, default=0) // 32 + 1)
    for core in cores:
        words[core // 32] |= 1 << core % 32
    return ",".join(f"{word:08x}" for word in reversed(words))


def pci_link(machine: MachineType, name: str, above: str) -> tuple[str, int]:
    """Return speed and lanes of the link of a part to what it hangs on; nothing for a chip-to-chip link."""
    edge = next(edge for edge in machine.edges if (edge.source, edge.target) == (name, above))
    if edge.kind != "pcie":
        return "", 0
    rates = {generation: figure.value for generation, figure in link_rates().pcie.items()}
    for width in (LANES, *_NARROW):
        for generation, rate in sorted(rates.items(), reverse=True):
            if abs(rate * width / LANES - edge.rate) <= _SAME * edge.rate:
                return f"{GIGATRANSFERS[generation]} GT/s PCIe", width
    nearest = min(rates, key=lambda generation: abs(rates[generation] - edge.rate))
    return f"{GIGATRANSFERS[nearest]} GT/s PCIe", LANES


@dataclass(frozen=True)
class LinkCounts:
    """Links of the GPUs of a machine in whole numbers.

    Attributes
    ----------
    edges
        Links from a GPU to another one, to a switch of the GPU fabric, or to its host, by their ends.
    """

    machine: MachineType
    edges: Mapping[tuple[str, str], Edge]

    @classmethod
    def of(cls, machine: MachineType) -> LinkCounts:
        """Return the links of a machine, parallel ones added up."""
        gpus = {gpu.name for gpu in machine.gpus}
        graph = machine.graph
        found: dict[tuple[str, str], Edge] = {}
        for source, target, data in graph.edges(data=True):
            edge: Edge = data["edge"]
            if source in gpus and edge.kind in (*_GPU_LINKS, "nvlink-c2c"):
                found[source, target] = edge
        return cls(machine, found)

    def of_gpu(self, gpu: str, addresses: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str | int]]]:
        """Yield tag and attributes of each link of a GPU."""
        gpus = {part.name for part in self.machine.gpus}
        for (source, target), edge in self.edges.items():
            if source != gpu:
                continue
            if edge.kind == "nvlink-c2c":
                yield "c2c", {"bw": round(edge.rate / 1e6), "count": 1}
                continue
            other = "0x030200" if target in gpus else "0x068000"
            count = self.count(gpu, edge, switched=target not in gpus)
            yield edge.kind, {"target": addresses[target], "count": count, "tclass": other}

    def count(self, gpu: str, edge: Edge, *, switched: bool) -> int:
        """Return how many links carry the rate of an edge, at least one.

        All links of a device where its switches get nearly the rate of them all: a measured rate is less
        than the links would carry.
        """
        facts = self._facts(gpu)
        rate = link_rates().links.xgmi if edge.kind == "xgmi" else link_rates().links.nvlink
        single = facts.link_rate.value if facts and facts.link_rate else rate.value
        links = facts.links if facts else 0
        if switched and links and _WHOLE * links * single <= edge.rate <= links * single:
            return links
        return max(1, round(edge.rate / single))

    def _facts(self, gpu: str) -> GpuFacts | None:
        return facts_of(next(part.device for part in self.machine.gpus if part.name == gpu))
