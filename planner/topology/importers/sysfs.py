"""The kernel's description of a host: ``/sys`` and ``/proc``, copied to a folder or an archive, or live."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from planner.topology.importers.lists import listed, mask, numbers
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.snapshot import Tree, open_tree
from planner.topology.importers.sysfs_pci import read_pci
from planner.topology.importers.views import HostView, NumaView, Remark

FORMAT = "sysfs"
_CPU, _NODE = "sys/devices/system/cpu", "sys/devices/system/node"
_LOCAL = 10
"""Distance of a NUMA node to itself."""
_NUMBERED = re.compile(r"(?:cpu|node)([0-9]{1,5})")
_TOTAL = re.compile(r"MemTotal:\s*([0-9]{1,15}) kB")


@dataclass(frozen=True)
class SysfsView(HostView):
    """A host as its kernel describes it.

    Attributes
    ----------
    isa
        Instruction set of a RISC-V host, as the kernel writes it.
    clusters
        Groups of cores that share something below the package; None where the kernel tells of none.
    """

    isa: str | None = None
    clusters: int | None = None


def read_snapshot(path: str | Path) -> SysfsView:
    """Read a folder, or a tar archive (plain, gzip, bzip2, xz), with a host's ``sys`` and ``proc``.

    Raises
    ------
    ImportRefusedError
        If there is no snapshot, or more than one, or its files contradict each other.
    """
    return read_tree(open_tree(path))


def read_tree(tree: Tree) -> SysfsView:
    """Read the description of a host; what is absent stays unknown."""
    return _Host(tree).view()


class _Host:
    """Reads one tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.remarks: list[Remark] = []

    def view(self) -> SysfsView:
        """Return everything that the tree tells."""
        online = self._online()
        packages = self._groups(online, ("package_cpus_list", "core_siblings_list"), "physical_package_id")
        cores = self._groups(online, ("core_cpus_list", "thread_siblings_list"), "core_id")
        clusters = self._groups(online, ("cluster_cpus_list",), "cluster_id", optional=True)
        nodes = self._nodes(set(online), packages)
        pci = read_pci(self.tree, {node.number for node in nodes})
        info = self._cpuinfo()
        arch, isa = self._architecture(info), info.get("isa")
        self.remarks += [Remark(0, text) for text in pci.remarks]
        nodes = self._device_memory(nodes, pci.memory_nodes)
        return SysfsView(
            FORMAT,
            pci.gpus,
            pci.nics,
            tuple(nodes),
            bridges=pci.bridges,
            unknown_functions=pci.unknown,
            arch=arch,
            vendor=info.get("vendor_id") or info.get("mvendorid"),
            cpu=info.get("model name") or info.get("uarch"),
            packages=None if packages is None else len(packages),
            cores=None if cores is None else len(cores),
            processors=len(online),
            remarks=tuple(self.remarks),
            isa=isa,
            clusters=None if clusters is None else len(clusters),
        )

    def _online(self) -> tuple[int, ...]:
        """Return the processors that run."""
        text = self.tree.read(f"{_CPU}/online")
        folders = self._numbered(_CPU, "cpu")
        if not folders and not text:
            raise self._refused(f"{_CPU} names no processor")
        if text is None:
            self._note(f"{_CPU}/online is missing; every processor with a folder counts as running")
            return tuple(cpu for cpu in folders if self.tree.read(f"{_CPU}/cpu{cpu}/online") != "0")
        online = numbers(text)
        if not online:
            raise self._refused(f"{_CPU}/online {text[:40]!r} is no list of processors")
        absent = set(online) - set(folders)
        if absent:
            self._note(f"processors {listed(sorted(absent))} run, but have no folder in {_CPU}")
        return online

    def _groups(
        self, online: tuple[int, ...], files: tuple[str, ...], identity: str, *, optional: bool = False
    ) -> list[tuple[int, ...]] | None:
        """Return the groups of processors that files such as ``core_cpus_list`` state; None if unknown."""
        groups: dict[tuple[int, ...], None] = {}
        what = identity.removesuffix("_id").removeprefix("physical_")
        for cpu in online:
            folder = f"{_CPU}/cpu{cpu}/topology"
            text = next((found for name in files if (found := self.tree.read(f"{folder}/{name}"))), None)
            known = self.tree.read(f"{folder}/{identity}")
            members = None if text is None else numbers(text)
            if members is None or known is None or known.startswith("-") or known == "65535":
                if not optional or text or known or groups:
                    self._note(f"the {what} of processor {cpu} is unknown; so is the number of {what}s")
                return None
            if cpu not in members:
                raise self._refused(f"{folder}: processor {cpu} is not in its own {what} {text!r}")
            groups[members] = None
        stated = [cpu for members in groups for cpu in members]
        if len(set(stated)) < len(stated):
            self._note(f"the {what}s of the processors overlap; their number stays unknown")
            return None
        return list(groups)

    def _nodes(self, online: set[int], packages: list[tuple[int, ...]] | None) -> list[NumaView]:
        if not self.tree.has(_NODE):
            self._note("no NUMA information at all; whether the host is uniform is unknown")
            return []
        present = self._numbered(_NODE, "node")
        stated = numbers(self.tree.read(f"{_NODE}/online") or "")
        if stated is not None and set(stated) != set(present):
            raise self._refused(f"{_NODE}/online is {listed(stated)}, but the folders are {listed(present)}")
        owners: dict[int, int] = {}
        nodes = []
        for number in present:
            cpus = self._node_cpus(number)
            for cpu in cpus or ():
                if owners.setdefault(cpu, number) != number:
                    raise self._refused(f"processor {cpu} is in NUMA nodes {owners[cpu]} and {number}")
            nodes.append(
                NumaView(
                    number,
                    cpus,
                    self._node_memory(number),
                    self._node_distances(number, present),
                    package=_package_of(cpus, packages),
                )
            )
        self._compare_distances(nodes)
        if nodes and all(node.cpus is not None for node in nodes) and (rest := online - owners.keys()):
            self._note(f"processors {listed(sorted(rest))} are in no NUMA node")
        if strangers := owners.keys() - online:
            raise self._refused(f"processors {listed(sorted(strangers))} of NUMA nodes do not run")
        return nodes

    def _node_cpus(self, number: int) -> tuple[int, ...] | None:
        folder = f"{_NODE}/node{number}"
        text, bits = self.tree.read(f"{folder}/cpulist"), self.tree.read(f"{folder}/cpumap")
        by_list = None if text is None else numbers(text) if text else ()
        by_mask = mask(bits) if bits else None
        if (text is not None and by_list is None) or (bits and by_mask is None):
            raise self._refused(f"{folder} does not list its processors as the kernel does")
        if by_list is not None and by_mask is not None and set(by_list) != set(by_mask):
            raise self._refused(f"{folder}: cpulist {text!r} and cpumap {bits!r} differ")
        found = by_list if by_list is not None else by_mask
        if found is None:
            self._note(f"the processors of NUMA node {number} are unknown")
        return None if found is None else tuple(sorted(found))

    def _node_memory(self, number: int) -> float | None:
        match = _TOTAL.search(self.tree.read(f"{_NODE}/node{number}/meminfo") or "")
        return None if match is None else float(int(match[1]) * 1024)

    def _node_distances(self, number: int, present: list[int]) -> dict[int, float]:
        text = self.tree.read(f"{_NODE}/node{number}/distance")
        if text is None:
            return {}
        values = text.split()
        if len(values) != len(present) or not all(re.fullmatch(r"[0-9]{1,3}", value) for value in values):
            self._note(f"the distances of NUMA node {number} do not fit {len(present)} nodes; left out")
            return {}
        return dict(zip(present, map(float, values), strict=True))

    def _compare_distances(self, nodes: list[NumaView]) -> None:
        """Remark what no table of distances is: a node to itself is 10, others no nearer (ACPI, SLIT)."""
        tables = {node.number: node.distances for node in nodes}
        without = [number for number, row in tables.items() if not row]
        if without and len(without) < len(tables):
            self._note(f"NUMA nodes {listed(without)} state no distances, though others do")
        for here, row in tables.items():
            for there, value in row.items():
                back = tables[there].get(here, value)
                if value < _LOCAL or (here == there and value != _LOCAL) or (here < there and value != back):
                    self._note(f"the distance of NUMA nodes {here} and {there} is {value:g}, back {back:g}")

    def _device_memory(self, nodes: list[NumaView], of_gpus: Iterable[int]) -> list[NumaView]:
        """Mark the nodes that are memory of GPUs, and remark other nodes without processors."""
        marked = set(of_gpus)
        for node in nodes:
            if node.cpus == () and node.number not in marked:
                self._note(f"NUMA node {node.number} has no processors; what memory it is, is unknown")
        return [replace(node, device_memory=True) if node.number in marked else node for node in nodes]

    def _cpuinfo(self) -> dict[str, str]:
        """Return the fields of the first processor in ``/proc/cpuinfo``."""
        text = self.tree.read("proc/cpuinfo")
        if text is None:
            self._note("proc/cpuinfo is missing")
            return {}
        pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
        fields = {key.strip(): value.strip() for key, mark, value in pairs if mark}
        isas = set(re.findall(r"^isa\s*:\s*(\S+)", text, re.MULTILINE))
        if len(isas) > 1:
            self._note(f"processors of {len(isas)} instruction sets: {', '.join(sorted(isas))[:200]}")
        return fields

    def _architecture(self, info: dict[str, str]) -> str | None:
        kept = self.tree.read("proc/hwloc-nofile-info") or ""  # what hwloc-gather-topology adds
        extra = re.search(r"^Architecture:\s*(\S+)", kept, re.MULTILINE)
        stated = self.tree.read("proc/sys/kernel/arch") or (extra[1] if extra else None)
        found = stated or architecture_of(info)
        if found is None:
            self._note("the architecture is unknown")
        return found

    def _numbered(self, folder: str, start: str) -> list[int]:
        matches = (_NUMBERED.fullmatch(name) for name in self.tree.names(folder) if name.startswith(start))
        return sorted(int(match[1]) for match in matches if match)

    def _note(self, text: str) -> None:
        self.remarks.append(Remark(0, text))

    def _refused(self, text: str) -> ImportRefusedError:
        return ImportRefusedError(self.tree.name, 0, text)


def _package_of(cpus: tuple[int, ...] | None, packages: list[tuple[int, ...]] | None) -> int | None:
    if not cpus or packages is None:
        return None
    owners = {place for place, members in enumerate(packages) if set(members) & set(cpus)}
    return owners.pop() if len(owners) == 1 else None


def architecture_of(info: dict[str, str]) -> str | None:
    """Return the architecture that the fields of ``/proc/cpuinfo`` show, as ``uname -m`` writes it."""
    isa, flags = info.get("isa", ""), info.get("flags", "").split()
    if re.match(r"rv(32|64)", isa):
        return f"riscv{isa[2:4]}"
    if "CPU implementer" in info:
        return "aarch64" if "asimd" in info.get("Features", "").split() else "arm"
    if flags:
        return "x86_64" if "lm" in flags else "i686"
    if "POWER" in info.get("cpu", ""):
        return "ppc64"
    if "IBM/S390" in info.get("vendor_id", ""):
        return "s390x"
    return "loongarch64" if "Loongson" in info.get("CPU Family", "") else None
