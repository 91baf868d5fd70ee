"""What an hwloc export says twice, compared: buses, names of vendors and processors, cores, sets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from planner.topology.importers.hwloc_objects import Item
from planner.topology.importers.pci import bus_id
from planner.topology.importers.views import Remark

_BEHIND = re.compile(r"[0-9a-fA-F]{4,8}:\[([0-9a-fA-F]{2})-([0-9a-fA-F]{2})\]")
_IDENTITY = re.compile(r"\[([0-9a-fA-F]{4}):([0-9a-fA-F]{4})\]")


def doubts(machine: Item) -> Iterator[Remark]:
    """Yield a remark for each thing that the export states in two places, differently."""
    items = list(machine.walk())
    yield from _buses(items)
    yield from _names_of_identities(items)
    yield from _models(items)
    yield from _cores(items)
    yield from _processors(machine, items)
    for item in items:
        if item.element.text.strip():
            yield Remark(item.line, f"{item.kind} holds the words {item.element.text.strip()[:40]!r}")


def _buses(items: list[Item]) -> Iterator[Remark]:
    """Yield functions on another bus than the first behind the bridge above, and siblings out of order."""
    for item in items:
        addresses = [bus_id(child.element.get("pci_busid") or "") for child in item.children]
        known = [address for address in addresses if address]
        if known != sorted(known):
            yield Remark(item.line, f"PCI functions are listed out of order: {', '.join(known)}")
        behind = _BEHIND.fullmatch(item.element.get("bridge_pci") or "")
        if item.kind != "Bridge" or behind is None:
            continue
        for address in known:
            if address[5:7] != behind[1].lower():
                yield Remark(item.line, f"{address} is below a bridge to bus {behind[1]}")


def _names_of_identities(items: list[Item]) -> Iterator[Remark]:
    """Yield identities of vendors and devices that have two names, and names of two identities."""
    for part, key in ((1, "PCIVendor"), (2, "PCIDevice")):
        names: dict[str, str] = {}
        for item in items:
            match, name = _IDENTITY.search(item.element.get("pci_type") or ""), item.infos().get(key)
            if match is None or name is None:
                continue
            identity = match[1] if part == 1 else match[0]
            if names.setdefault(identity, name) != name:
                yield Remark(item.line, f"{identity} is {names[identity][:40]!r} and {name[:40]!r}")


def _models(items: list[Item]) -> Iterator[Remark]:
    """Yield packages that name another processor than the first, and what is missing or no vendor of one."""
    packages = [item for item in items if item.kind == "Package"]
    for key in ("CPUVendor", "CPUModel"):
        names = [item.infos().get(key) for item in packages]
        if len(set(names)) > 1:
            yield Remark(packages[0].line, f"the packages differ in {key}")
    for item in packages:
        infos = item.infos()
        x86 = "CPUFamilyNumber" in infos or "CPUVendor" in infos
        if x86 and not {"CPUVendor", "CPUModel"} <= infos.keys():
            yield Remark(item.line, "the package does not name its processor or the vendor of it")
        if " " in infos.get("CPUVendor", "").strip():
            yield Remark(item.line, f"{infos['CPUVendor'][:40]!r} is no vendor of a processor")


def _cores(items: list[Item]) -> Iterator[Remark]:
    """Yield a remark where processors are in no core or in two, though others are in one."""
    counts = {sum(one.kind == "Core" for one in item.above()) for item in items if item.kind == "PU"}
    if len(counts) > 1 or counts > {1} or any(count > 1 for count in counts):
        yield Remark(0, f"processors are in {min(counts)} to {max(counts)} cores each")
    empty = sum(item.kind == "Core" and not any(one.kind == "PU" for one in item.walk()) for item in items)
    if empty:
        yield Remark(0, f"{empty} cores have no processor")


def _processors(machine: Item, items: list[Item]) -> Iterator[Remark]:
    """Yield processors that are in the machine but in no NUMA node."""
    sets = [item.cpus for item in items if item.kind == "NUMANode"]
    if machine.cpus is None or not sets or None in sets:
        return
    covered = 0
    for cpus in sets:
        covered |= cpus or 0
    if machine.cpus & ~covered:
        yield Remark(machine.line, f"{(machine.cpus & ~covered).bit_count()} processors are in no NUMA node")
