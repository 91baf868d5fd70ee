"""``nvidia-smi topo -m`` and ``nvidia-smi topo -p2p``: classes of path between GPUs and network adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.topology.importers.lists import listed, numbers
from planner.topology.importers.nvidia_matrix import P2P_STATES, Matrix, Row, is_gpu, lines_of, read_matrix
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import GpuView, HostView, NicView, NumaView, Remark
from planner.topology.importers.words import has_long_number

TOPO = "nvidia-smi-topo"
P2P = "nvidia-smi-p2p"
_VALUE = re.compile(r"[0-9][0-9,-]*|N/A")
_LEGEND = re.compile(r"\s*([A-Za-z][\w.-]*):\s+([A-Za-z][\w.:-]*)\s*")
_NEAR = frozenset({"PIX", "PXB", "PHB", "NODE"})


@dataclass(frozen=True)
class TopoView(HostView):
    """The table with what only it says.

    Attributes
    ----------
    nic_names
        Name that the system knows an adapter by, by the name in the table, where a legend tells it.
    numbered_here
        Whether the numbers of the NUMA nodes were given here rather than read.
    """

    nic_names: Mapping[str, str] = field(default_factory=dict)
    numbered_here: bool = False


def read_nvidia_topo(text: str, name: str) -> HostView:
    """Read the table of ``nvidia-smi topo -m``, or of ``topo -p2p``, which tells of no link.

    The table names processors and NUMA nodes next to each GPU, if it has these columns. Where it has only
    the processors, each distinct list stands for one node, numbered by its first processor.

    Raises
    ------
    ImportRefusedError
        If the table is incomplete, or contradicts itself.
    """
    matrix = read_matrix(text, name)
    cells = {cell for _, _, cell in matrix.pairs()}
    if cells & P2P_STATES:
        return _p2p(matrix, cells, name)
    affinity = _Affinity(matrix)
    classes = {(left, right): _class(matrix, cell) for left, right, cell in matrix.pairs()}
    links = {
        pair: int(cell[2:])
        for pair, cell in classes.items()
        if cell.startswith("NV") and all(is_gpu(end) for end in pair)
    }
    if any(count == 0 for count in links.values()):
        raise ImportRefusedError(name, 0, "NV0 is no class of path")
    gpus = tuple(
        GpuView(one, numa=affinity.host.get(one), memory_numa=affinity.memory.get(one))
        for one in matrix.names
        if is_gpu(one)
    )
    homeless = [one.name for one in gpus if one.numa is None]
    if 0 < len(homeless) < len(gpus):
        matrix.remarks.append(
            Remark(0, f"the NUMA node of {', '.join(homeless)} is unknown, unlike of others")
        )
    _compare_with_classes(matrix, classes, affinity.host)
    return TopoView(
        TOPO,
        gpus,
        tuple(NicView(one) for one in matrix.names if not is_gpu(one)),
        affinity.nodes(),
        links,
        "nvlink" if links else None,
        path_classes=classes,
        nic_names=_legend(text, matrix),
        numbered_here=affinity.numbered_here,
        remarks=tuple(sorted(matrix.remarks, key=lambda remark: remark.line)),
    )


def _p2p(matrix: Matrix, cells: set[str], name: str) -> HostView:
    strange = sorted(cells - P2P_STATES)
    if strange:
        raise ImportRefusedError(name, 0, f"states of peer access and the class {strange[0]!r} in one table")
    note = Remark(0, "states of peer access, not classes of path: no link is concluded from them")
    return HostView(
        P2P,
        tuple(GpuView(one) for one in matrix.names if is_gpu(one)),
        path_classes={(left, right): cell for left, right, cell in matrix.pairs()},
        remarks=(*sorted(matrix.remarks, key=lambda remark: remark.line), note),
    )


def _legend(text: str, matrix: Matrix) -> dict[str, str]:
    """Return the names behind NIC0, NIC1, ... that the legend gives.

    The legend numbers the adapters in the order of their names; where it does not, a name may be wrong.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(lines_of(text), start=1):
        match = _LEGEND.fullmatch(line)
        if match is None or match[1] not in matrix.names:
            continue
        if has_long_number(match[2]):
            matrix.remarks.append(Remark(number, f"{match[1]} is called {match[2][:60]!r}; left out"))
        elif found.setdefault(match[1], match[2]) != match[2]:
            matrix.remarks.append(Remark(number, f"{match[1]} is {found[match[1]]} and {match[2]}"))
    silent = [name for name in matrix.names if re.fullmatch("NIC[0-9]+", name) and name not in found]
    if silent:
        matrix.remarks.append(Remark(0, f"no legend tells which adapter {', '.join(silent)} is"))
    if len(set(found.values())) < len(found):
        matrix.remarks.append(Remark(0, "the legend calls two adapters the same; its names are left out"))
        return {}
    names = [_natural(found[name]) for name in matrix.names if name in found]
    if names != sorted(names):
        matrix.remarks.append(Remark(0, "the legend does not follow the names of the adapters"))
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``mlx5_2`` before ``mlx5_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split("([0-9]+)", name)]


def _class(matrix: Matrix, cell: str) -> str:
    """Return the class of a cell; older drivers wrote SOC for SYS."""
    if cell != "SOC":
        return cell
    note = Remark(0, "SOC of an older driver is read as SYS")
    if note not in matrix.remarks:
        matrix.remarks.append(note)
    return "SYS"


@dataclass
class _Affinity:
    """The columns behind the table, as far as they can be told apart.

    Attributes
    ----------
    host, memory
        NUMA node next to a GPU, and the one that its memory is.
    """

    matrix: Matrix
    host: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    numbered_here: bool = False
    _processors: dict[int, tuple[int, ...] | None] = field(default_factory=dict)
    _lines: dict[int, int] = field(default_factory=dict)
    _device_nodes: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        rows = [row for row in self.matrix.rows.values() if is_gpu(row.name)]
        columns = {row.name: self._columns(row) for row in rows}
        for row in rows:
            self._read_memory(row, columns[row.name])
        for row in rows:
            self._read_numa(row, columns[row.name])
        if not self.host:
            self._number_by_processors(rows, columns)
        self._check_disjoint()

    def nodes(self) -> tuple[NumaView, ...]:
        """Return the NUMA nodes by number."""
        host = [NumaView(number, cpus) for number, cpus in self._processors.items()]
        device = [NumaView(n, (), device_memory=True) for n in self._device_nodes - self._processors.keys()]
        return tuple(sorted([*host, *device], key=lambda node: node.number))

    def _note(self, line: int, text: str) -> None:
        self.matrix.remarks.append(Remark(line, text))

    def _columns(self, row: Row) -> dict[str, str]:
        """Return the values behind a row by column; a row whose values cannot be told apart has none."""
        words = row.tail.split()
        count = next((i for i, word in enumerate(words) if not _VALUE.fullmatch(word)), len(words))
        values, columns = words[:count], self.matrix.columns
        if count < len(words):
            self._note(row.line, f"ignored behind {row.name}: {' '.join(words[count:])[:60]!r}")
        if len(values) == len(columns):
            return dict(zip(columns, values, strict=True))
        if columns and values and set(values[1:]) <= {"N/A"} and columns[0] == "cpu":
            self._note(row.line, f"{row.name} has {len(values)} values for {len(columns)} affinity columns")
            return {"cpu": values[0]}
        if values or columns:
            self._note(
                row.line,
                f"{row.name} has {len(values)} values for {len(columns)} affinity columns; left unknown",
            )
        return {}

    def _read_memory(self, row: Row, columns: Mapping[str, str]) -> None:
        memory = self._numbers(row, columns, "gpu numa")
        if memory is not None and len(memory) == 1:
            self.memory[row.name] = memory[0]
            self._device_nodes.add(memory[0])
        elif memory is not None:
            self._note(
                row.line, f"{row.name}: GPU NUMA ID {columns['gpu numa']!r} is not one node; left unknown"
            )

    def _read_numa(self, row: Row, columns: Mapping[str, str]) -> None:
        near = self._numbers(row, columns, "numa")
        if near is None:
            return
        home, others = near[0], near[1:]
        if home in self._device_nodes:
            self._note(
                row.line, f"{row.name} is next to node {home}, which is the memory of a GPU; left unknown"
            )
            return
        self.host[row.name] = home
        cpus = self._numbers(row, columns, "cpu")
        if others and row.name in self.memory:
            self._device_nodes.update(others)
        elif others:
            self._note(row.line, f"{row.name} is next to nodes {listed(near)}; the first is taken")
            cpus = None
        self._set_processors(home, cpus, row)

    def _set_processors(self, node: int, cpus: tuple[int, ...] | None, row: Row) -> None:
        known = self._processors.get(node)
        if node in self._processors and known != cpus:
            self._note(
                row.line,
                f"node {node} has the processors {listed(cpus or ()) or 'unknown'} here but "
                f"{listed(known or ()) or 'unknown'} in line {self._lines[node]}; left unknown",
            )
            cpus = None
        self._processors[node] = cpus
        self._lines[node] = row.line

    def _numbers(self, row: Row, columns: Mapping[str, str], column: str) -> tuple[int, ...] | None:
        text = columns.get(column, "N/A")
        found = None if text == "N/A" else numbers(text)
        if found is None and text != "N/A":
            self._note(row.line, f"{row.name}: {text[:40]!r} is no list of numbers; left unknown")
        return found

    def _number_by_processors(self, rows: list[Row], columns: Mapping[str, Mapping[str, str]]) -> None:
        lists = {row.name: self._numbers(row, columns[row.name], "cpu") for row in rows}
        distinct = sorted({cpus for cpus in lists.values() if cpus is not None})
        if not distinct:
            return
        self.numbered_here = True
        for row in rows:
            cpus = lists[row.name]
            if cpus is not None:
                self.host[row.name] = distinct.index(cpus)
                self._set_processors(distinct.index(cpus), cpus, row)
        self._note(0, f"no NUMA numbers: {len(distinct)} list(s) of processors are taken for one node each")

    def _check_disjoint(self) -> None:
        seen: dict[int, int] = {}
        for node, cpus in sorted(self._processors.items()):
            shared = next((cpu for cpu in cpus or () if cpu in seen), None)
            if shared is not None:
                self._note(
                    self._lines[node], f"processor {shared} is in node {node} and in node {seen[shared]}"
                )
            seen.update(dict.fromkeys(cpus or (), node))


def _compare_with_classes(
    matrix: Matrix, classes: Mapping[tuple[str, str], str], host: Mapping[str, int]
) -> None:
    """Remark where the affinity columns and the classes of path say different things about NUMA."""
    within = {pair: cell for pair, cell in classes.items() if all(end in host for end in pair)}
    for (left, right), cell in within.items():
        same = host[left] == host[right]
        if (cell == "SYS" and same) or (cell in _NEAR and not same):
            text = (
                f"{left} to {right} is {cell}, though they are next to nodes {host[left]} and {host[right]}"
            )
            matrix.remarks.append(Remark(matrix.rows[left].line, text))
    known = set(classes.values())
    if len(set(host.values())) == 1 and "NODE" in known and "SYS" not in known:
        matrix.remarks.append(
            Remark(
                0, "one NUMA node for all, NODE between host bridges: NUMA may be off, sockets are unknown"
            )
        )
    if known == {"PHB"} and len(matrix.names) > 2:
        matrix.remarks.append(
            Remark(0, "PHB between all devices, as in a virtual machine that hides its tree")
        )
