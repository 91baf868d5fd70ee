"""SLURM's ``topology.conf`` and ``topology.yaml``: trees of switches, and blocks of nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.errors import DocumentError
from planner.schema.foreign import Foreign, read_foreign_yaml
from planner.topology.importers.hostlist import host_names
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.switch_tree import SwitchTree
from planner.topology.importers.views import FabricView, Remark
from planner.topology.importers.words import cut_remark

CONF = "slurm-conf"
YAML = "slurm-yaml"
_PAIR = re.compile(r"([A-Za-z]+)\s*=\s*(\"[^\"]*\"|\S*)\s*")
_KEYS = {
    "switchname": frozenset({"switchname", "switches", "nodes", "linkspeed"}),
    "blockname": frozenset({"blockname", "nodes"}),
    "blocksizes": frozenset({"blocksizes"}),
}
_IGNORED = frozenset({"cluster_default", "topology"})


@dataclass(frozen=True)
class SlurmView(FabricView):
    """A fabric as SLURM knows it.

    Attributes
    ----------
    undefined
        Switches that are named below another but described nowhere.
    topologies
        Names of the topologies in a ``topology.yaml``.
    """

    undefined: tuple[str, ...] = ()
    topologies: tuple[str, ...] = ()


@dataclass
class _Fabric:
    """What is collected from one file."""

    source: str
    tree: SwitchTree
    blocks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    remarks: list[Remark] = field(default_factory=list)
    block_of: dict[str, str] = field(default_factory=dict)

    def names(self, text: str, line: int) -> list[str]:
        """Return the names in a host list."""
        try:
            return host_names(text)
        except ValueError as error:
            raise self.tree.refused(line, str(error)) from None

    def one_name(self, text: str, line: int) -> str:
        """Return the single name that a switch or a block has."""
        names = self.names(text, line)
        if len(names) != 1:
            raise self.tree.refused(line, f"{text[:80]!r} are {len(names)} names; give each its own line")
        return names[0]

    def add_switch(self, name: str, switches: str | None, nodes: str | None, line: int) -> None:
        """Take one switch with what is below it."""
        self.tree.add_switch(name, line)
        if switches:
            self.tree.hang_switches(name, self.names(switches, line), line)
        if nodes:
            self.tree.hang_nodes(name, self.names(nodes, line), line)

    def add_block(self, name: str, nodes: str | None, line: int) -> None:
        """Take one block; a node belongs to one block only."""
        if name in self.blocks:
            raise self.tree.refused(line, f"block {name!r} is described twice")
        members = self.names(nodes, line) if nodes else []
        if not members:
            self.remarks.append(Remark(line, f"block {name!r} has no nodes"))
        for node in members:
            if self.block_of.setdefault(node, name) != name:
                raise self.tree.refused(line, f"{node!r} is in blocks {self.block_of[node]!r} and {name!r}")
        self.blocks[name] = tuple(members)
        self.tree.hang_nodes(None, members, line)

    def set_sizes(self, values: list[str], line: int) -> None:
        """Take the sizes of blocks."""
        if self.sizes:
            raise self.tree.refused(line, "block sizes are given twice")
        if not all(re.fullmatch(r"[1-9][0-9]{0,6}", value) for value in values):
            raise self.tree.refused(line, f"block sizes {','.join(values)[:80]!r} are no numbers")
        self.sizes = tuple(map(int, values))
        if list(self.sizes) != sorted(set(self.sizes)):
            self.remarks.append(Remark(line, f"block sizes {','.join(values)[:80]} do not grow"))

    def _below(self, node: str, switch: str) -> bool:
        """Whether a node hangs below a switch, on the first way up; there are no circles."""
        place = self.tree.parents.get(node)
        while place is not None and place != switch:
            place = self.tree.parents.get(place)
        return place is not None

    def compare_names(self) -> None:
        """Remark blocks with a name of their own where others have that of the switch above their nodes."""
        own = [block for block in self.blocks if block not in self.tree.switches]
        if self.tree.switches and 0 < len(own) < len(self.blocks):
            text = f"block {own[0]!r} is named after no switch, though others are"
            self.remarks.append(Remark(0, text))

    def view(self, form: str, topologies: tuple[str, ...] = ()) -> SlurmView:
        """Return the fabric that was read.

        Raises
        ------
        ImportRefusedError
            If it contradicts itself.
        """
        self.tree.finish()
        if self.blocks and not self.sizes:
            self.remarks.append(Remark(0, "the sizes of blocks are not stated"))
        if self.sizes and self.blocks and max(self.sizes) > len(self.block_of):
            text = f"a block size is {max(self.sizes)}, but all blocks hold {len(self.block_of)} nodes"
            self.remarks.append(Remark(0, text))
        homeless = [node for node in self.tree.nodes if self.blocks and node not in self.block_of]
        if homeless:
            self.remarks.append(Remark(0, f"{len(homeless)} nodes are in no block, {homeless[0]} first"))
        apart = [node for node in self.tree.nodes if self.tree.switches and node not in self.tree.parents]
        if apart:
            self.remarks.append(Remark(0, f"{len(apart)} nodes hang on no switch, {apart[0]} first"))
        for block, members in self.blocks.items():
            outside = [
                node for node in members if block in self.tree.switches and not self._below(node, block)
            ]
            if outside:
                text = f"{outside[0]} is in block {block!r}, but not below the switch of that name"
                self.remarks.append(Remark(0, text))
        self.compare_names()
        counts = {len(members) for members in self.blocks.values()}
        if len(counts) > 1:
            self.remarks.append(Remark(0, f"blocks of {min(counts)} to {max(counts)} nodes"))
        return SlurmView(
            form,
            tuple(self.tree.switches),
            tuple(self.tree.nodes),
            self.tree.parents,
            tuple((upper, lower, None) for upper, lower in self.tree.links),
            self.blocks,
            self.sizes,
            tuple(sorted([*self.remarks, *self.tree.remarks], key=lambda remark: remark.line)),
            self.tree.undefined,
            topologies,
        )


def read_topology_conf(text: str, name: str) -> SlurmView:
    """Read a ``topology.conf``; several trees and nodes below several switches are kept and remarked.

    Raises
    ------
    ImportRefusedError
        If a line is none that SLURM knows, a switch is described twice or hangs below itself, or a node is in
        two blocks.
    """
    fabric = _Fabric(name, SwitchTree(name))
    fabric.remarks += cut_remark(text)
    found = False
    for line, pairs in _records(text, name):
        found = True
        _check_keys(pairs, name, line)
        if "switchname" in pairs:
            switch = fabric.one_name(pairs["switchname"], line)
            fabric.add_switch(switch, pairs.get("switches"), pairs.get("nodes"), line)
        elif "blockname" in pairs:
            fabric.add_block(fabric.one_name(pairs["blockname"], line), pairs.get("nodes"), line)
        else:
            fabric.set_sizes(pairs["blocksizes"].split(","), line)
    if not found:
        raise ImportRefusedError(name, 0, "neither switches nor blocks")
    return fabric.view(CONF)


def _records(text: str, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the pairs of every line; a backslash joins a line with the next, a # starts a remark."""
    joined, start = "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        content = raw.partition("#")[0].strip()
        start = start if joined else number
        if content.endswith("\\"):
            joined += content[:-1] + " "
            continue
        content, joined = joined + content, ""
        if content.strip():
            yield start, _pairs(content.strip(), name, start)
    if joined.strip():
        raise ImportRefusedError(name, start, "the last line goes on, but the file ends; it may be cut")


def _pairs(content: str, name: str, line: int) -> dict[str, str]:
    pairs: dict[str, str] = {}
    place = 0
    while place < len(content):
        match = _PAIR.match(content, place)
        if match is None:
            what = content[place : place + 40]
            raise ImportRefusedError(name, line, f"{what!r} is no KEY=VALUE of a topology.conf")
        key = match[1].lower()
        if key in pairs:
            raise ImportRefusedError(name, line, f"{match[1]} is given twice")
        pairs[key] = match[2].strip('"')
        place = match.end()
    return pairs


def _check_keys(pairs: Mapping[str, str], name: str, line: int) -> None:
    leading = next((key for key in _KEYS if key in pairs), None)
    if leading is None or not pairs[leading]:
        raise ImportRefusedError(name, line, "the line names no switch and no block")
    for key in pairs.keys() - _KEYS[leading]:
        raise ImportRefusedError(name, line, f"{key!r} does not belong to {leading}")


def read_topology_yaml(text: str, name: str) -> SlurmView:
    """Read a ``topology.yaml``: the default tree and the default blocks, others are remarked.

    Raises
    ------
    ImportRefusedError
        If it is not such a file, or contradicts itself.
    """
    try:
        document = read_foreign_yaml(text, name)
    except DocumentError as error:
        problem = error.problems[0]
        raise ImportRefusedError(name, problem.line, problem.text) from None
    reader = _Yaml(document, name)
    reader.fabric.remarks += cut_remark(text)
    return reader.read()


class _Yaml:
    """Reads the topologies of one ``topology.yaml``."""

    def __init__(self, document: Foreign, name: str) -> None:
        self.document, self.name = document, name
        self.fabric = _Fabric(name, SwitchTree(name))

    def read(self) -> SlurmView:
        """Return the fabric of the default topologies."""
        entries = self.document.data
        if not isinstance(entries, list) or not entries:
            raise self.refused("not a list of topologies")
        names: list[str] = []
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict) or not isinstance(entry.get("topology"), str):
                raise self.refused("a topology without a name", place)
            self.fabric.one_name(entry["topology"], self.document.line(place))
            if entry["topology"] in names:
                raise self.refused(f"topology {entry['topology']!r} is described twice", place)
            names.append(entry["topology"])
        readers = {"tree": self._tree, "block": self._blocks, "flat": self._flat}
        done: set[str] = set()
        for place in sorted(range(len(entries)), key=lambda place: not self._is_default(entries[place])):
            self._read_entry(entries[place], place, readers, done)
        return self.fabric.view(YAML, tuple(names))

    def _read_entry(
        self,
        entry: dict[str, Any],
        place: int,
        readers: Mapping[str, Callable[[Any, int], None]],
        done: set[str],
    ) -> None:
        kinds = [key for key in entry if key not in _IGNORED]
        if len(kinds) != 1:
            raise self.refused(f"topology {entry['topology']!r} must be one of {', '.join(readers)}", place)
        kind = kinds[0]
        if kind not in readers:
            self.note(f"topology {entry['topology']!r} of kind {kind!r} is not read", place)
        elif kind in done:
            self.note(f"topology {entry['topology']!r} is left out: another {kind} is read", place)
        else:
            readers[kind](entry[kind], place)
            done.add(kind)

    @staticmethod
    def _is_default(entry: Mapping[str, Any]) -> bool:
        return str(entry.get("cluster_default")).lower() in ("true", "yes", "on")

    def _tree(self, body: Any, place: int) -> None:
        for number, item in self._items(body, "tree", "switches", place):
            line = self.document.line(place, "tree", "switches", number)
            name, children, nodes = (self._text(item, key, line) for key in ("switch", "children", "nodes"))
            self._refuse_others(item, {"switch", "children", "nodes"}, line)
            if not name:
                raise ImportRefusedError(self.name, line, "a switch without a name")
            self.fabric.add_switch(self.fabric.one_name(name, line), children, nodes, line)

    def _blocks(self, body: Any, place: int) -> None:
        sizes = body.get("block_sizes") if isinstance(body, dict) else None
        if sizes is not None:
            line = self.document.line(place, "block", "block_sizes")
            values = sizes if isinstance(sizes, list) else str(sizes).split(",")
            self.fabric.set_sizes([str(value).strip() for value in values], line)
        for number, item in self._items(body, "block", "blocks", place):
            line = self.document.line(place, "block", "blocks", number)
            name, nodes = (self._text(item, key, line) for key in ("block", "nodes"))
            self._refuse_others(item, {"block", "nodes"}, line)
            if not name:
                raise ImportRefusedError(self.name, line, "a block without a name")
            self.fabric.add_block(self.fabric.one_name(name, line), nodes, line)

    def _flat(self, body: Any, place: int) -> None:
        """Read nothing: a flat topology tells nothing of the fabric."""

    def _items(self, body: Any, kind: str, key: str, place: int) -> Iterator[tuple[int, dict[str, Any]]]:
        items = body.get(key) if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise self.refused(f"{kind} without a list of {key}", place)
        if unknown := body.keys() - {key, "block_sizes"}:
            raise self.refused(f"unknown field {min(unknown)!r} in {kind}", place)
        for number, item in enumerate(items):
            if not isinstance(item, dict):
                raise self.refused(f"an entry of {key} is no mapping", place)
            yield number, item

    def _text(self, item: Mapping[str, Any], key: str, line: int) -> str | None:
        value = item.get(key)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return ",".join(value)
        if value is not None and not isinstance(value, str):
            raise ImportRefusedError(self.name, line, f"{key} is no text")
        return value

    def _refuse_others(self, item: Mapping[str, Any], known: set[str], line: int) -> None:
        for key in item.keys() - known:
            raise ImportRefusedError(self.name, line, f"unknown field {key!r}")

    def refused(self, text: str, place: int | None = None) -> ImportRefusedError:
        """Return the error for something that cannot be repaired."""
        line = self.document.line() if place is None else self.document.line(place)
        return ImportRefusedError(self.name, line, text)

    def note(self, text: str, place: int) -> None:
        """Take note of a doubt."""
        self.fabric.remarks.append(Remark(self.document.line(place), text))
