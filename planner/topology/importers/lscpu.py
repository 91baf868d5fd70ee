"""``lscpu``: processors, cores, sockets and NUMA nodes; also its ``-p`` tables and its JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.errors import DocumentError
from planner.schema.foreign import read_foreign_json
from planner.topology.importers import words
from planner.topology.importers.lists import listed, numbers
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import HostView, NumaView, Remark

FORMAT = "lscpu"
_NODE = re.compile(r"NUMA node([0-9]{1,5}) CPU\(s\)")
_PLAIN = re.compile(r"[0-9]{1,6}")
_DEEPEST = 8
_SINGLE = frozenset({"CPU(s)", "On-line CPU(s) list", "Architecture", "NUMA node(s)", "Socket(s)", "ISA"})
"""Fields that a host has once; others, such as the model name, may differ between kinds of core."""


@dataclass(frozen=True)
class LscpuView(HostView):
    """A host as ``lscpu`` shows it; ``isa`` is the instruction set of a RISC-V host."""

    isa: str | None = None


@dataclass(frozen=True)
class _Field:
    line: int
    value: str


def read_lscpu(text: str, name: str) -> LscpuView:
    """Read the output of ``lscpu``, alone or followed by that of ``lscpu -p``, or ``lscpu -J``.

    Raises
    ------
    ImportRefusedError
        If it is not such output (it must be in English), or contradicts itself.
    """
    body = text.removeprefix("\ufeff")
    cut: list[Remark] = []
    if body.lstrip().startswith("{"):
        fields, rows = dict(_collect(_json_fields(body, name), name)), []
    else:
        lines = list(enumerate(body.splitlines(), start=1))
        pairs = [(number, *_split(line)) for number, line in lines if _is_field(line)]
        fields = _collect(((number, key, value) for number, key, value in pairs), name)
        rows = _first_table(lines, name)
        strays = [number for number, line in lines if line.strip() and not _is_known(line)]
        cut = words.cut_remark(text)
        if strays:
            raise ImportRefusedError(name, strays[0], "no line of lscpu; the file may be cut or mixed up")
    return _Reader(fields, rows, name, cut).view()


def _is_field(line: str) -> bool:
    """Whether a line is ``Name: value``; nested names of newer releases are indented, all are capitalised."""
    return ":" in line and line.lstrip()[:1].isupper()


def _is_known(line: str) -> bool:
    return (
        line.startswith("#") or _is_field(line) or bool(re.fullmatch(r"[0-9]{1,9}(,[0-9-]*)*", line.strip()))
    )


def _split(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _json_fields(text: str, name: str) -> Iterator[tuple[int, str, str]]:
    """Yield the fields of ``lscpu -J``; newer releases nest them."""
    try:
        data = read_foreign_json(text, name)
    except DocumentError as error:
        problem = error.problems[0]
        raise ImportRefusedError(name, problem.line, problem.text) from None

    def walk(items: Any, depth: int) -> Iterator[tuple[int, str, str]]:
        if not isinstance(items, list) or depth > _DEEPEST:
            raise ImportRefusedError(name, 0, "no JSON of lscpu")
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("field"), str):
                raise ImportRefusedError(name, 0, "no JSON of lscpu")
            yield 0, item["field"].rstrip(": "), str(item.get("data") or "")
            if "children" in item:
                yield from walk(item["children"], depth + 1)

    yield from walk(data.get("lscpu") if isinstance(data, dict) else None, 0)


def _collect(pairs: Iterator[tuple[int, str, str]], name: str) -> dict[str, _Field]:
    fields: dict[str, _Field] = {}
    for line, key, value in pairs:
        if key in fields and (key in _SINGLE or _NODE.fullmatch(key)):
            raise ImportRefusedError(name, line, f"{key!r} is given in line {fields[key].line} already")
        fields.setdefault(key, _Field(line, value))
    return fields


def _first_table(lines: list[tuple[int, str]], name: str) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of the first ``lscpu -p`` table; a second one, with physical numbers, is not needed."""
    columns: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    for number, line in lines:
        if line.startswith("# CPU,"):
            if columns:
                break
            columns = [column.strip() for column in line[2:].split(",")]
        elif columns and line[:1].isdigit():
            cells = line.strip().split(",")
            if len(cells) != len(columns):
                text = f"{len(cells)} cells under {len(columns)} columns"
                raise ImportRefusedError(name, number, text)
            rows.append((number, dict(zip(columns, cells, strict=True))))
    return rows


class _Reader:
    """Draws the host from the fields, and compares it with the table."""

    def __init__(
        self,
        fields: Mapping[str, _Field],
        rows: list[tuple[int, dict[str, str]]],
        name: str,
        remarks: list[Remark],
    ) -> None:
        self.fields, self.rows, self.name = fields, rows, name
        self.remarks = remarks

    def view(self) -> LscpuView:
        """Return the host."""
        total = self._count("CPU(s)")
        if total is None:
            raise self._refused(0, "no line 'CPU(s)': this is not lscpu's output, or not in English")
        online = self._online(total)
        nodes = self._nodes(online)
        sockets, cores = self._shape(len(online))
        self._compare_table(online, nodes)
        isa = self._checked("ISA", words.isa)
        if isa is not None and "Architecture" not in self.fields:
            arch: str | None = f"riscv{isa[2:4]}"
        else:
            arch = self._checked("Architecture", words.architecture)
        return LscpuView(
            FORMAT,
            numa=tuple(nodes),
            arch=arch,
            vendor=self._checked("Vendor ID", words.product),
            cpu=self._checked("Model name", words.product),
            packages=sockets,
            cores=cores,
            processors=len(online),
            remarks=tuple(self.remarks),
            isa=isa,
        )

    def _text(self, key: str) -> str | None:
        found = self.fields.get(key)
        return found.value if found is not None and found.value not in ("", "-") else None

    def _checked(self, key: str, read: Callable[[str | None], str | None]) -> str | None:
        """Return a word, unknown with a remark where it is missing or makes no sense."""
        text = self._text(key)
        found = read(text)
        if found is None and (key != "ISA" or text is not None):
            line = self.fields[key].line if key in self.fields else 0
            self._note(
                line, f"{key} is not stated" if text is None else f"{key} {text[:40]!r} makes no sense"
            )
        return found

    def _count(self, key: str) -> int | None:
        found = self.fields.get(key)
        if found is None or found.value in ("", "-"):
            return None
        if not _PLAIN.fullmatch(found.value):
            raise self._refused(found.line, f"{key} {found.value[:40]!r} is no number")
        return int(found.value)

    def _online(self, total: int) -> tuple[int, ...]:
        found = self.fields.get("On-line CPU(s) list")
        if found is None:
            self._note(0, f"no list of running processors; 0-{total - 1} are taken")
            return tuple(range(min(total, 65_536)))
        online = numbers(found.value)
        if online is None:
            raise self._refused(found.line, f"{found.value[:40]!r} is no list of processors")
        offline = self.fields.get("Off-line CPU(s) list")
        rest = () if offline is None else numbers(offline.value)
        if rest is None or set(rest) & set(online) or len(online) + len(rest) != total:
            raise self._refused(found.line, f"CPU(s) is {total}, but the lists hold {len(online)} processors")
        return online

    def _nodes(self, online: tuple[int, ...]) -> list[NumaView]:
        count = self._count("NUMA node(s)")
        matched = ((match, found) for key, found in self.fields.items() if (match := _NODE.fullmatch(key)))
        stated = [(int(match[1]), found) for match, found in matched]
        if count is None and not stated:
            self._note(0, "no NUMA information at all; whether the host is uniform is unknown")
            return []
        if count is None:
            self._note(0, "no line 'NUMA node(s)'; the nodes are taken from their own lines")
        elif count != len(stated):
            line = self.fields["NUMA node(s)"].line
            raise self._refused(line, f"NUMA node(s) is {count}, but {len(stated)} nodes are listed")
        owners: dict[int, int] = {}
        nodes = []
        for number, found in stated:
            cpus = numbers(found.value) if found.value else ()
            if cpus is None:
                raise self._refused(found.line, f"{found.value[:40]!r} is no list of processors")
            for cpu in cpus:
                if owners.setdefault(cpu, number) != number:
                    text = f"processor {cpu} is in NUMA nodes {owners[cpu]} and {number}"
                    raise self._refused(found.line, text)
            if not cpus:
                self._note(found.line, f"NUMA node {number} has no processors; what memory it is, is unknown")
            nodes.append(NumaView(number, tuple(sorted(cpus))))
        if owners.keys() != set(online):
            odd = listed(sorted(owners.keys() ^ set(online)))
            text = f"the NUMA nodes and the list of running processors differ in {odd[:60]}"
            raise self._refused(stated[0][1].line, text)
        return nodes

    def _shape(self, online: int) -> tuple[int | None, int | None]:
        """Return sockets and cores; lscpu works these out, and its counts need not fit."""
        threads, sockets = self._count("Thread(s) per core"), self._count("Socket(s)")
        per_socket, per_cluster = self._count("Core(s) per socket"), self._count("Core(s) per cluster")
        if sockets is None and per_cluster is not None:
            clusters = self._count("Cluster(s)")
            cores = None if clusters is None else clusters * per_cluster
        else:
            cores = None if sockets is None or per_socket is None else sockets * per_socket
        if cores is None or threads is None:
            self._note(0, "the number of cores is not stated")
            return sockets, None
        if cores * threads != online:
            line = self.fields["Thread(s) per core"].line
            text = f"{cores} cores with {threads} threads are not {online} processors; the cores stay unknown"
            self._note(line, text)
            return sockets, None
        return sockets, cores

    def _compare_table(self, online: tuple[int, ...], nodes: list[NumaView]) -> None:
        """Compare the fields with the table behind them.

        Raises
        ------
        ImportRefusedError
            If a processor or its NUMA node is another there.
        """
        if not self.rows:
            return
        listed_cpus = [row["CPU"] for _, row in self.rows]
        if sorted(listed_cpus, key=int) != [str(cpu) for cpu in sorted(online)]:
            raise self._refused(self.rows[0][0], "the table lists other processors than the summary")
        home = {cpu: str(node.number) for node in nodes for cpu in node.cpus or ()}
        for line, row in self.rows:
            cpu, node = int(row["CPU"]), row.get("Node") or None
            if node is not None and home.get(cpu) != node:
                text = f"processor {cpu} is in NUMA node {node} here, but in {home.get(cpu)} in the summary"
                raise self._refused(line, text)

    def _note(self, line: int, text: str) -> None:
        self.remarks.append(Remark(line, text))

    def _refused(self, line: int, text: str) -> ImportRefusedError:
        return ImportRefusedError(self.name, line, text)
