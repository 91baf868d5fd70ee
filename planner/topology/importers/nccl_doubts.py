"""What looks as if a line or an attribute of an NCCL topology were missing or in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from planner.topology.importers.views import HostView, Remark
from planner.topology.importers.xml import XmlElement


def doubts(root: XmlElement, view: HostView) -> Iterator[Remark]:
    """Yield a remark for each irregularity; some machines are irregular, so none is a reason to refuse."""
    yield from _missing_attributes(root)
    yield from _order_of_nodes(view)
    yield from _order_of_gpus(view)
    yield from _uneven_groups(root)
    links = {(gpu.product, gpu.pcie_generation, gpu.pcie_width) for gpu in view.gpus}
    if len(links) > len({gpu.product for gpu in view.gpus}):
        yield Remark(0, "GPUs of one product have different PCI Express links")
    if len({gpu.product for gpu in view.gpus}) > 1:
        yield Remark(0, "the GPUs are of different products")
    if len({nic.ports for nic in view.nics if nic.bus_id}) > 1:
        yield Remark(0, "the adapters have different numbers of ports")


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
    if any(after < before for before, after in pairwise(addresses)):
        yield Remark(0, "the numbers of the GPUs do not follow their PCI addresses")


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
