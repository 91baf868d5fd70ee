"""``numactl -H``: NUMA nodes with processors, memory and distances."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from planner.topology.importers.lists import listed, numbers
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import HostView, NumaView, Remark
from planner.topology.importers.words import has_long_number

FORMAT = "numactl"
_AVAILABLE = re.compile(r"available: ([0-9]{1,5}) nodes? \(([0-9,-]+)\)")
_FACT = re.compile(r"node ([0-9]{1,5}) (cpus|size|free):\s*(.*)")
_SIZE = re.compile(r"([0-9]{1,12}) MB")
_ROW = re.compile(r"([0-9]{1,5}):\s*([0-9\s]+)")
_MIB = 1024 * 1024  # the program writes MB, but shifts by 20 bits (numactl.c)
_NO_NUMA = "No NUMA available on this system"


@dataclass
class _Node:
    line: int
    cpus: tuple[int, ...] | None = None
    memory: float | None = None
    distances: dict[int, float] = field(default_factory=dict)
    facts: set[str] = field(default_factory=set)


def read_numactl(text: str, name: str) -> HostView:
    """Read the output of ``numactl --hardware``.

    Raises
    ------
    ImportRefusedError
        If a line is none that the program prints, a node or a distance is missing, or a processor is in two
        nodes.
    """
    return _Reader(name).read(text.removeprefix("\ufeff"))


class _Reader:
    """Takes the lines one by one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.remarks: list[Remark] = []
        self.nodes: dict[int, _Node] = {}
        self.stated: tuple[int, ...] = ()
        self.columns: tuple[int, ...] = ()

    def read(self, text: str) -> HostView:
        """Return the host."""
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
        if any(line == _NO_NUMA for _, line in lines):
            remark = Remark(0, "no NUMA information at all; whether the host is uniform is unknown")
            return HostView(FORMAT, remarks=(remark,))
        for number, line in lines:
            if line and line != "node distances:":
                self._take(number, line)
        self._check()
        return HostView(
            FORMAT,
            numa=tuple(
                NumaView(number, node.cpus, node.memory, node.distances)
                for number, node in sorted(self.nodes.items())
            ),
            processors=sum(len(node.cpus or ()) for node in self.nodes.values()),
            remarks=tuple(self.remarks),
        )

    def _take(self, number: int, line: str) -> None:
        if has_long_number(line):
            raise self._refused(number, "a number is longer than any that numactl prints")
        if match := _AVAILABLE.fullmatch(line):
            self._available(number, match)
        elif match := _FACT.fullmatch(line):
            self._fact(number, int(match[1]), match[2], match[3])
        elif re.fullmatch(r"node\s+[0-9\s]+", line):
            if self.columns:
                raise self._refused(number, "a second table of distances")
            self.columns = tuple(map(int, line.split()[1:]))
        elif match := _ROW.fullmatch(line):
            self._row(number, int(match[1]), match[2].split())
        elif re.match(r"available: ", line):
            raise self._refused(number, f"{line[:60]!r} does not tell the nodes")
        else:
            raise self._refused(number, f"{line[:60]!r} is no line of numactl -H")

    def _available(self, number: int, match: re.Match[str]) -> None:
        stated = numbers(match[2])
        if self.stated or stated is None or len(stated) != int(match[1]):
            raise self._refused(number, f"{match[0]!r} is not what numactl prints")
        self.stated = stated

    def _fact(self, number: int, node: int, what: str, value: str) -> None:
        found = self.nodes.setdefault(node, _Node(number))
        if what in found.facts:
            raise self._refused(number, f"the {what} of node {node} is given twice")
        found.facts.add(what)
        if what == "cpus":
            cpus = numbers(",".join(value.split())) if value else ()
            if cpus is None:
                raise self._refused(number, f"{value[:40]!r} is no list of processors")
            found.cpus = tuple(sorted(cpus))
        elif what == "size":
            size = _SIZE.fullmatch(value)
            if size is None:
                self.remarks.append(Remark(number, f"the size of node {node} is unknown: {value[:40]!r}"))
            found.memory = None if size is None else float(int(size[1]) * _MIB)

    def _row(self, number: int, node: int, values: list[str]) -> None:
        found = self.nodes.get(node)
        if found is None or len(values) != len(self.columns) or found.distances:
            raise self._refused(number, f"the distances of node {node} do not fit {len(self.columns)} nodes")
        if not all(re.fullmatch(r"[0-9]{1,3}", value) for value in values):
            raise self._refused(number, "a distance is no number below 1000")
        found.distances = dict(zip(self.columns, map(float, values), strict=True))

    def _check(self) -> None:
        if not self.nodes:
            raise self._refused(0, "no NUMA node")
        present = tuple(sorted(self.nodes))
        if not self.stated:
            self.remarks.append(Remark(0, "no line 'available'; the nodes are taken from their own lines"))
        elif set(self.stated) != set(present):
            text = f"nodes {listed(self.stated)} are available, but {listed(present)} described"
            raise self._refused(0, text)
        self._check_distances(present)
        self._check_processors()
        owners: dict[int, int] = {}
        for number, node in self.nodes.items():
            if node.cpus is None:
                self.remarks.append(Remark(node.line, f"the processors of node {number} are not stated"))
            elif not node.cpus:
                text = f"node {number} has no processors; what memory it is, is unknown"
                self.remarks.append(Remark(node.line, text))
            if node.memory is None and "size" not in node.facts:
                self.remarks.append(Remark(node.line, f"the size of node {number} is not stated"))
            for cpu in node.cpus or ():
                if owners.setdefault(cpu, number) != number:
                    raise self._refused(node.line, f"processor {cpu} is in nodes {owners[cpu]} and {number}")

    def _check_processors(self) -> None:
        """Remark gaps and uneven nodes, where a number may have been lost."""
        counts = {len(node.cpus) for node in self.nodes.values() if node.cpus}
        if len(counts) > 1:
            text = f"the nodes have {min(counts)} to {max(counts)} processors"
            self.remarks.append(Remark(0, text))
        known = {cpu for node in self.nodes.values() for cpu in node.cpus or ()}
        gaps = set(range(max(known, default=-1) + 1)) - known
        if gaps:
            self.remarks.append(Remark(0, f"processors {listed(sorted(gaps))[:60]} are in no node"))

    def _check_distances(self, present: tuple[int, ...]) -> None:
        rows = {number: node.distances for number, node in self.nodes.items() if node.distances}
        if not rows and not self.columns:
            self.remarks.append(Remark(0, "no distances between the nodes"))
            return
        if set(self.columns) != set(present) or set(rows) != set(present):
            raise self._refused(0, "the table of distances does not cover the nodes; the file may be cut")
        for one in present:
            for other in present:
                if rows[one][other] < rows[one][one] or (one == other and rows[one][one] != 10.0):
                    text = f"the distance from node {one} to {other} is below that of local memory"
                    raise self._refused(0, text)
                if one < other and rows[one][other] != rows[other][one]:
                    text = f"the distances between nodes {one} and {other} differ by direction"
                    self.remarks.append(Remark(0, text))

    def _refused(self, line: int, text: str) -> ImportRefusedError:
        return ImportRefusedError(self.name, line, text)
