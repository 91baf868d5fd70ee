"""What looks as if a line or an attribute of an NCCL topology were missing or in the wrong place."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise

from planner.topology.importers.pci import bus_id
from planner.topology.importers.views import HostView, Remark
from planner.topology.importers.words import has_long_number
from planner.topology.importers.xml import XmlElement

_MADE_UP = "ffff:"
"""Start of the addresses that files made by hand give to switches a machine hides."""
_WORD = re.compile(r"[A-Za-z][\w.:-]*", re.ASCII)


def doubts(root: XmlElement, view: HostView) -> Iterator[Remark]:
    """Yield a remark for each irregularity; some machines are irregular, so none is a reason to refuse."""
    yield from _missing_attributes(root)
    yield from _order_of_nodes(view)
    yield from _order_of_gpus(view)
    yield from _uneven_groups(root)
    yield from _bus_numbers(root)
    yield from _ports(root)
    yield from _domains(root)
    yield from _bus_ranges(root)
    yield from _odd_addresses(root)
    yield from _mixed_groups(root)
    if view.arch is not None and (not _WORD.fullmatch(view.arch) or has_long_number(view.arch)):
        yield Remark(0, f"{view.arch[:40]!r} is no architecture")
    links = {(gpu.product, gpu.pcie_generation, gpu.pcie_width) for gpu in view.gpus}
    if len(links) > len({gpu.product for gpu in view.gpus}):
        yield Remark(0, "GPUs of one product have different PCI Express links")
    if len({gpu.product for gpu in view.gpus}) > 1:
        yield Remark(0, "the GPUs are of different products")
    if len({nic.ports for nic in view.nics if nic.bus_id}) > 1:
        yield Remark(0, "the adapters have different numbers of ports")
    rates = Counter(nic.speeds for nic in view.nics if nic.speeds)
    if len(rates) == 2 and 1 in rates.values() and len(view.nics) > 2:
        yield Remark(0, "one adapter has ports of another rate than all others")


def _missing_attributes(root: XmlElement) -> Iterator[Remark]:
    """Yield elements without an attribute that most elements of their kind have."""
    by_tag: dict[str, list[XmlElement]] = {}
    for element in root.walk():
        bridge = element.tag == "pci" and element.find("pci") is not None
        by_tag.setdefault("bridge" if bridge else element.tag, []).append(element)
    for elements in by_tag.values():
        names = dict.fromkeys(name for element in elements for name in element.attributes)
        for name in names:
            without = [element for element in elements if name not in element.attributes]
            if without and 2 * len(without) <= len(elements):
                yield Remark(without[0].line, f"<{without[0].tag}> has no {name!r}, though others have it")


def _order_of_nodes(view: HostView) -> Iterator[Remark]:
    numbers = [node.number for node in view.numa]
    if any(after < before for before, after in pairwise(numbers)):
        yield Remark(0, f"the NUMA nodes are listed out of order: {', '.join(map(str, numbers))}")
    first = [min(node.cpus) for node in sorted(view.numa, key=lambda node: node.number) if node.cpus]
    if any(after < before for before, after in pairwise(first)):
        yield Remark(0, "the processors of the NUMA nodes do not follow their numbers")


def _order_of_gpus(view: HostView) -> Iterator[Remark]:
    addresses = [gpu.bus_id or "" for gpu in sorted(view.gpus, key=lambda gpu: int(gpu.name[3:]))]
    late = [after for before, after in pairwise(addresses) if after < before]
    if late:
        yield Remark(0, f"the numbers of the GPUs do not follow their PCI addresses: {', '.join(late)}")


def _uneven_groups(root: XmlElement) -> Iterator[Remark]:
    """Yield a remark where bare functions, which carry no numbers, are not alike below all bridges."""
    shapes = set()
    for element in root.walk():
        bare = sorted(
            str(child.get("class"))
            for child in element.all("pci")
            if not child.children and child.get("class") is not None
        )
        if bare:
            shapes.add(tuple(bare))
    if len(shapes) > 1:
        yield Remark(0, "the PCI bridges do not hold alike functions; one may be missing")


def _ports(root: XmlElement) -> Iterator[Remark]:
    """Yield a remark where ports are not numbered in the order of their names, or a name makes no sense."""
    numbered = []
    for element in root.walk():
        if element.tag == "net":
            name, number = element.attributes.get("name", ""), element.get("dev") or ""
            if not _WORD.fullmatch(name):
                yield Remark(element.line, f"{name[:40]!r} is no name of a network port")
            if number.isdigit() and len(number) < 6:
                numbered.append((int(number), [int(one) for one in re.findall("[0-9]{1,6}", name)], name))
    late = [
        after[2]
        for before, after in pairwise(sorted(numbered))
        if after[1] < before[1] and re.sub("[0-9]", "", after[2]) == re.sub("[0-9]", "", before[2])
    ]
    if late:
        yield Remark(0, f"the numbers of the network ports do not follow their names: {', '.join(late)}")


def _domains(root: XmlElement) -> Iterator[Remark]:
    """Yield a remark where kinds alternate though functions have PCI domains of their own, as in some VMs."""
    kinds = {
        element.get("busid") or "": element.get("class") or ""
        for element in root.walk()
        if element.tag == "pci" and not element.children and element.get("class")
    }
    ordered = [kinds[address] for address in sorted(kinds)]
    if len({address[:4] for address in kinds}) == len(kinds) > 2:
        runs = 1 + sum(left != right for left, right in pairwise(ordered))
        if runs > len(set(ordered)):
            yield Remark(
                0, "PCI domains of GPUs and adapters alternate; addresses may be in the wrong places"
            )


def _bus_numbers(root: XmlElement) -> Iterator[Remark]:
    """Yield functions whose bus is not behind that of the bridge above; bridges number upwards."""
    for element in root.walk():
        above = bus_id(element.get("busid") or "") if element.tag == "pci" else None
        for child in element.all("pci"):
            below = bus_id(child.get("busid") or "")
            if above and below and below[:4] == above[:4] and below[5:7] <= above[5:7]:
                yield Remark(
                    child.line, f"{below} is below the bridge {above}, whose bus has the higher number"
                )


def _bus_ranges(root: XmlElement) -> Iterator[Remark]:
    """Yield bridges with buses behind them on which other functions are; ranges of buses nest (PCI)."""
    every = sorted(_buses(root))
    for bridge in root.walk():
        own = bus_id(bridge.get("busid") or "") if bridge.tag == "pci" else None
        if own is None:
            continue
        behind = [bus for bus in _buses(bridge) if bus > own[:7]]
        last = max(behind, default="")
        if last[:4] == own[:4] and bisect_right(every, last) - bisect_right(every, own[:7]) > len(behind):
            yield Remark(bridge.line, f"functions on buses behind the bridge {own} are not below it")


def _mixed_groups(root: XmlElement) -> Iterator[Remark]:
    """Yield a class whose addresses below one bridge lie between those of another, where domains differ."""
    places: dict[str, list[tuple[str, int]]] = {}
    for bridge in root.walk():
        for child in bridge.all("pci"):
            if not child.children and child.get("class"):
                places.setdefault(child.get("class") or "", []).append(
                    (bus_id(child.get("busid") or "") or "", bridge.line)
                )
    for kind, found in places.items():
        runs = [line for line, _ in groupby(bridge for _, bridge in sorted(found))]
        if len({address[:4] for address, _ in found}) == len(found) and len(runs) > len(set(runs)):
            yield Remark(0, f"PCI domains of class {kind[:20]} alternate between bridges")


def _buses(top: XmlElement) -> list[str]:
    """Return domain and bus of every function below an element, its own included."""
    functions = (bus_id(one.get("busid") or "") for one in top.walk() if one.tag == "pci")
    return [address[:7] for address in functions if address]


def _odd_addresses(root: XmlElement) -> Iterator[Remark]:
    """Yield the one function whose address is unlike those of its class, and made-up bridges out of order."""
    by_class: dict[str, list[str]] = {}
    made_up = []
    for element in root.walk():
        address = bus_id(element.get("busid") or "") if element.tag == "pci" else None
        if address is None:
            continue
        if element.find("pci") is None:
            by_class.setdefault(element.get("class") or "", []).append(address)
        elif address.startswith(_MADE_UP):
            made_up.append(address)
    if made_up != sorted(made_up):
        yield Remark(0, f"the made-up addresses of the switches are out of order: {', '.join(made_up)}")
    for kind, addresses in by_class.items():
        for what, part in (("domain", slice(0, 4)), ("bus", slice(5, 7)), ("number", slice(8, None))):
            counts = Counter(address[part] for address in addresses)
            odd = [address for address in addresses if counts[address[part]] == 1]
            if len(counts) == 2 and len(odd) == 1 and len(addresses) > 2:
                yield Remark(0, f"{odd[0]} has another {what} than all others of class {kind[:20]}")
