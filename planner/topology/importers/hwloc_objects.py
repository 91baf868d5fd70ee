"""The tree of objects in an hwloc export: sets of processors and nodes, compared along the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import Remark
from planner.topology.importers.xml import XmlElement

MOST_WORDS = 4096
_WORD = re.compile(r"(?:0x)?[0-9a-fA-F]{1,8}|0xf\.\.\.f|")
_INFINITE = "0xf...f"
_NUMBER = re.compile(r"[0-9]{1,9}")
IO_TYPES = frozenset({"Bridge", "PCIDev", "OSDev"})
_ALIASES = {"Socket": "Package", "Node": "NUMANode", "Proc": "PU"}
"""Names of types before hwloc 1.11, by those of today."""
_TYPES = frozenset(
    {
        "Machine", "Package", "Die", "Core", "PU", "NUMANode", "Group", "Misc", "Cache", "System", "MemCache",
        "L1Cache", "L2Cache", "L3Cache", "L4Cache", "L5Cache", "L1iCache", "L2iCache", "L3iCache", *IO_TYPES,
    }
)  # fmt: skip


@dataclass
class Item:
    """One object with the objects below it; sets are bit masks, None where they are not stated."""

    element: XmlElement
    kind: str
    parent: Item | None
    os_index: int | None
    cpus: int | None
    nodes: int | None
    children: list[Item] = field(default_factory=list)

    @property
    def line(self) -> int:
        """Line of the object in the file."""
        return self.element.line

    def walk(self) -> Iterator[Item]:
        """Yield the object and all below it, in document order."""
        waiting = [self]
        while waiting:
            item = waiting.pop()
            yield item
            waiting.extend(reversed(item.children))

    def above(self) -> Iterator[Item]:
        """Yield the objects above, the nearest first."""
        item = self.parent
        while item is not None:
            yield item
            item = item.parent

    def infos(self) -> dict[str, str]:
        """Return the ``<info>`` pairs of the object."""
        return {info.get("name") or "": info.get("value") or "" for info in self.element.all("info")}


def bits(mask: int) -> tuple[int, ...]:
    """Return the numbers of the bits that are set."""
    return tuple(place for place in range(mask.bit_length()) if mask >> place & 1)


def bitmap(text: str) -> int | None:
    """Return the set ``0x00000003,,0xf0000000`` (32-bit words, highest first) as a mask, None if it is none.

    A set without end, as hwloc writes for "all", is taken as its stated part.
    """
    words = text.split(",")
    if len(words) > MOST_WORDS or not all(_WORD.fullmatch(word) for word in words):
        return None
    words = words[1:] if words[0] == _INFINITE else words
    if _INFINITE in words:
        return None
    found = 0
    for word in words:
        found = found << 32 | int(word or "0", 16)
    return found


def read_objects(root: XmlElement, name: str, remarks: list[Remark]) -> Item:
    """Return the machine of an export.

    Raises
    ------
    ImportRefusedError
        If there is no machine, an object has no type that hwloc knows, or a set is none.
    """
    machines = list(root.all("object"))
    if len(machines) != 1:
        raise ImportRefusedError(name, root.line, f"{len(machines)} machines in one topology")
    machine = _item(machines[0], None, name)
    waiting = [machine]
    while waiting:
        item = waiting.pop()
        for child in item.element.all("object"):
            below = _item(child, item, name)
            item.children.append(below)
            waiting.append(below)
    if machine.kind not in ("Machine", "System"):
        raise ImportRefusedError(name, machine.line, f"the outermost object is a {machine.kind}, no machine")
    _check_identities(machine, name, remarks)
    _compare_sets(machine, remarks)
    return machine


def _item(element: XmlElement, parent: Item | None, name: str) -> Item:
    stated = element.get("type") or ""
    kind = _ALIASES.get(stated, stated)
    if kind not in _TYPES:
        raise ImportRefusedError(name, element.line, f"hwloc has no objects of type {stated[:40]!r}")
    sets = {}
    for key in ("cpuset", "nodeset"):
        text = element.get(key)
        sets[key] = None if text is None else bitmap(text)
        if text is not None and sets[key] is None:
            raise ImportRefusedError(name, element.line, f"{key} {text[:40]!r} is no set")
    index = element.get("os_index")
    if index is not None and not _NUMBER.fullmatch(index):
        # Groups and caches without a number of their own carry 4294967295.
        if kind in ("PU", "NUMANode") or not re.fullmatch(r"[0-9]{1,20}", index):
            raise ImportRefusedError(name, element.line, f"os_index {index[:40]!r} is no number")
        index = None
    return Item(element, kind, parent, None if index is None else int(index), sets["cpuset"], sets["nodeset"])


def _check_identities(machine: Item, name: str, remarks: list[Remark]) -> None:
    """Refuse what is there twice, and processors and nodes whose number and set differ."""
    seen: dict[tuple[str, str], Item] = {}
    for item in machine.walk():
        own = item.cpus if item.kind == "PU" else item.nodes
        if item.kind in ("PU", "NUMANode"):
            _check_own(item, own, name, remarks)
        identities = [
            (key, item.element.get(key)) for key in ("gp_index", "id") if item.element.get(key) is not None
        ]
        if item.kind in ("PU", "NUMANode"):
            identities.append((item.kind, str(item.os_index)))
        if item.kind == "PCIDev":
            identities.append(("PCI address", (item.element.get("pci_busid") or "").lower()))
        for key, value in identities:
            first = seen.setdefault((key, value or ""), item)
            if first is not item or not value:
                text = f"{key} {value!r} is given in line {first.line} already" if value else f"no {key}"
                raise ImportRefusedError(name, item.line, text)


def _check_own(item: Item, own: int | None, name: str, remarks: list[Remark]) -> None:
    what = "processor" if item.kind == "PU" else "NUMA node"
    if item.os_index is None:
        numbers = bits(own) if own is not None else ()
        if len(numbers) != 1:
            raise ImportRefusedError(name, item.line, f"a {what} without os_index")
        item.os_index = numbers[0]
        remarks.append(Remark(item.line, f"os_index is missing; {what} {numbers[0]} is taken from its set"))
    if own and own != 1 << item.os_index:
        text = f"{what} {item.os_index} has the set of {', '.join(map(str, bits(own)[:8]))}"
        raise ImportRefusedError(name, item.line, text)


def _compare_sets(machine: Item, remarks: list[Remark]) -> None:
    """Remark objects whose set of processors or nodes is not that of what is below them."""
    processors: dict[int, int] = {}
    for item in reversed(list(machine.walk())):
        below = sum_of(processors[id(child)] for child in item.children)
        own = 1 << item.os_index if item.kind == "PU" and item.os_index is not None else 0
        processors[id(item)] = below | own
        if item.kind in IO_TYPES or item.kind == "Misc":
            continue
        if below and item.cpus is not None and below != item.cpus:
            odd = ", ".join(map(str, bits(below ^ item.cpus)[:8]))
            text = f"the set of this {item.kind} and the processors below it differ in {odd}"
            remarks.append(Remark(item.line, text))
        if item.parent is not None and item.cpus and item.parent.cpus and item.cpus & ~item.parent.cpus:
            text = f"the set of this {item.kind} is not within that of the {item.parent.kind} around it"
            remarks.append(Remark(item.line, text))
        if item.cpus is None and machine.cpus is not None:
            remarks.append(Remark(item.line, f"this {item.kind} states no set of processors"))
    nodes = sum_of(1 << (item.os_index or 0) for item in machine.walk() if item.kind == "NUMANode")
    if machine.nodes is not None and nodes and nodes != machine.nodes:
        odd = ", ".join(map(str, bits(nodes ^ machine.nodes)[:8]))
        remarks.append(Remark(machine.line, f"the nodeset of the machine and its NUMA nodes differ in {odd}"))
    if machine.cpus is None:
        remarks.append(Remark(machine.line, "the machine states no set of processors"))


def sum_of(masks: Iterator[int]) -> int:
    """Return the union of sets."""
    found = 0
    for mask in masks:
        found |= mask
    return found
