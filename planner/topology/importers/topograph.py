"""Topograph's model files: switches, and groups of nodes below them with their NVLink domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.errors import DocumentError
from planner.schema.foreign import Foreign, read_foreign_yaml
from planner.topology.importers.hostlist import host_names
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.switch_tree import SwitchTree
from planner.topology.importers.views import FabricView, Remark
from planner.topology.importers.words import cut_remark

FORMAT = "topograph"
_DOMAIN_KEYS = ("/domain", "/accelerator", "/level-0")
"""Ends of the labels and annotations that name an NVLink domain, in the order of Topograph's releases."""
_TOP = frozenset({"switches", "blocks", "capacity_blocks", "topology"})


@dataclass(frozen=True)
class TopographView(FabricView):
    """A fabric as a Topograph model tells it; ``blocks`` are the NVLink domains.

    Attributes
    ----------
    groups
        Nodes of every entry of ``blocks`` (once ``capacity_blocks``), by its name or number.
    described
        Switches that have an entry of their own; others are only named.
    top
        Fields of the model.
    """

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    described: tuple[str, ...] = ()
    top: tuple[str, ...] = ()


def read_model(text: str, name: str) -> TopographView:
    """Read a model, of the present form or of the one before 0.2 (``capacity_blocks``).

    Raises
    ------
    ImportRefusedError
        If it is no such model, or contradicts itself: a node in two groups, a switch below itself.
    """
    try:
        document = read_foreign_yaml(text, name)
    except DocumentError as error:
        problem = error.problems[0]
        raise ImportRefusedError(name, problem.line, problem.text) from None
    model = _Model(document, name)
    model.remarks += cut_remark(text)
    return model.read()


class _Model:
    """Reads one model file."""

    def __init__(self, document: Foreign, name: str) -> None:
        self.document, self.name = document, name
        self.tree = SwitchTree(name)
        self.groups: dict[str, tuple[str, ...]] = {}
        self.domains: dict[str, tuple[str, ...]] = {}
        self.remarks: list[Remark] = []
        self.described: list[str] = []
        self.upper_of: dict[str, str] = {}
        self._group_of: dict[str, str] = {}

    def read(self) -> TopographView:
        """Return the fabric of the model."""
        data = self.document.data
        if not isinstance(data, dict) or not data.keys() & {"blocks", "capacity_blocks"}:
            raise self.refused("no model of Topograph: neither switches nor blocks")
        for key in data.keys() - _TOP:
            raise self.refused(f"unknown field {key!r}", key)
        for key, switch, body in self._entries(data, "switches"):
            self._switch(switch or "", body, self.document.line("switches", key))
        for part in ("blocks", "capacity_blocks"):
            for key, named, body in self._entries(data, part):
                self._block(named or f"{part}.{key}", body, self.document.line(part, key))
        self.tree.finish()
        without = [name for name, nodes in self.groups.items() if self.domains and not self._in_domain(nodes)]
        if without:
            self.remarks.append(
                Remark(0, f"{len(without)} blocks have no NVLink domain, {without[0]!r} first")
            )
        self._compare_sizes()
        return TopographView(
            FORMAT,
            tuple(self.tree.switches),
            tuple(self.tree.nodes),
            self.tree.parents,
            tuple((upper, lower, None) for upper, lower in self.tree.links),
            self.domains,
            remarks=tuple(sorted([*self.remarks, *self.tree.remarks], key=lambda remark: remark.line)),
            groups=self.groups,
            described=tuple(self.described),
            top=tuple(data),
        )

    def _entries(
        self, data: Mapping[str, Any], part: str
    ) -> Iterator[tuple[str | int, str | None, dict[str, Any]]]:
        """Yield key, name and body of the entries of a list or of a mapping."""
        entries = data.get(part)
        if entries is None:
            return
        if not isinstance(entries, dict | list):
            raise self.refused(f"{part} is neither a list nor a mapping", part)
        pairs = list(entries.items()) if isinstance(entries, dict) else list(enumerate(entries))
        for key, body in pairs:
            if not isinstance(body, dict | None):
                raise self.refused(f"an entry of {part} is no mapping", part, key)
            name = key if isinstance(key, str) else (body or {}).get("name")
            if name is not None and not isinstance(name, str):
                raise self.refused("a name is no text", part, key)
            if part == "switches" and not name:
                raise self.refused("a switch without a name", part, key)
            yield key, name, body or {}

    def _switch(self, name: str, body: Mapping[str, Any], line: int) -> None:
        self._add_switch(self._names([name], line)[0], line)
        self.described.append(name)
        below = self._names(self._list(body, "switches", line), line)
        self.tree.hang_switches(name, below, line)
        self.tree.hang_nodes(name, self._names(self._list(body, "nodes", line), line), line)
        for block in self._names(self._list(body, "capacity_blocks", line), line):
            if self.upper_of.setdefault(block, name) != name:
                raise self._refused_at(line, f"block {block!r} hangs on {self.upper_of[block]!r} as well")
        self._leaves(below, line)

    def _leaves(self, names: list[str], line: int) -> None:
        """Take note of switches that are named before, or without, an entry of their own."""
        entries = self.document.data["switches"]
        if isinstance(entries, dict):
            own = set(entries)
        else:
            stated = [entry.get("name") for entry in entries if isinstance(entry, dict)]
            own = {name for name in stated if isinstance(name, str)}
        for name in names:
            if name not in own and name not in self.tree.switches:
                self._add_switch(name, line)

    def _add_switch(self, name: str, line: int) -> None:
        self.tree.add_switch(name, line)

    def _block(self, name: str, body: Mapping[str, Any], line: int) -> None:
        nodes = self._names(self._list(body, "nodes", line), line)
        if name in self.groups:
            raise self._refused_at(line, f"block {name!r} is described twice")
        for node in nodes:
            if self._group_of.setdefault(node, name) != name:
                raise self._refused_at(line, f"{node!r} is in {self._group_of[node]!r} and in {name!r}")
        if not nodes:
            self.remarks.append(Remark(line, f"block {name!r} has no nodes"))
        self.groups[name] = tuple(nodes)
        switch = body.get("switch") or self.upper_of.get(name)
        if switch is None:
            self.remarks.append(Remark(line, f"the switch above block {name!r} is unknown"))
        elif not isinstance(switch, str):
            raise self._refused_at(line, "the name of a switch is no text")
        elif switch not in self.tree.switches:
            self.remarks.append(Remark(line, f"switch {switch!r} hangs below none that is described"))
            self._add_switch(switch, line)
        self.tree.hang_nodes(switch, nodes, line)
        if domain := self._domain(body, line):
            self.domains[domain] = (*self.domains.get(domain, ()), *nodes)

    def _compare_sizes(self) -> None:
        """Remark the one block whose number of nodes is unlike that of all others."""
        sizes = Counter(len(nodes) for nodes in self.groups.values())
        odd = [name for name, nodes in self.groups.items() if sizes[len(nodes)] == 1]
        if len(sizes) == 2 and len(odd) == 1 and len(self.groups) > 2:
            text = f"block {odd[0]!r} has {len(self.groups[odd[0]])} nodes, all others another number"
            self.remarks.append(Remark(0, text))

    def _in_domain(self, nodes: Sequence[str]) -> bool:
        return any(set(nodes) <= set(members) for members in self.domains.values())

    def _domain(self, body: Mapping[str, Any], line: int) -> str | None:
        """Return the NVLink domain of a block."""
        found: dict[str, str] = {"nvlink": body["nvlink"]} if body.get("nvlink") else {}
        for part in ("annotations", "labels"):
            labels = body.get(part) or {}
            if not isinstance(labels, dict):
                raise self._refused_at(line, f"{part} is no mapping")
            found |= {key: value for key, value in labels.items() if key.endswith(_DOMAIN_KEYS) and value}
        values = set(map(str, found.values()))
        for value in values:
            self._names([value.replace("[", "?")], line)  # a domain is named like a host
        if len(values) > 1:
            raise self._refused_at(line, f"two NVLink domains: {', '.join(sorted(values))}")
        return values.pop() if values else None

    def _list(self, body: Mapping[str, Any], key: str, line: int) -> list[str]:
        value = body.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._refused_at(line, f"{key} is no list of names")
        return value

    def _names(self, patterns: list[str], line: int) -> list[str]:
        try:
            return [name for pattern in patterns for name in host_names(pattern)]
        except ValueError as error:
            raise self._refused_at(line, str(error)) from None

    def _refused_at(self, line: int, text: str) -> ImportRefusedError:
        return ImportRefusedError(self.name, line, text)

    def refused(self, text: str, *steps: str | int) -> ImportRefusedError:
        """Return the error for something that cannot be repaired, with the line of a value."""
        return ImportRefusedError(self.name, self.document.line(*steps), text)
