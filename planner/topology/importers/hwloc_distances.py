"""Distances and memory attributes of an hwloc export, and the GPU links that follow from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeVar

from planner.topology.importers.hwloc_objects import Item
from planner.topology.importers.hwloc_view import Distances, MemoryAttribute, MemoryValue
from planner.topology.importers.views import Remark
from planner.topology.importers.xml import XmlElement

K = TypeVar("K", str, tuple[str, str])
MOST_OBJECTS = 2048
_NVLINK_RATES = (20_000, 25_000, 50_000)
"""Rate of one NVLink that hwloc counts with, MB/s: versions 1, 2 to 4, and 5 (hwloc, topology-nvml.c)."""
_REFERENCE = re.compile(r"([A-Za-z0-9]+):([0-9]{1,19})")
_VALUE = re.compile(r"[0-9]{1,18}")
_FLOAT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass
class Links:
    """What the bandwidth matrices tell of GPUs, by their names.

    Attributes
    ----------
    rates
        Between two GPUs, or from a GPU to all NVSwitches, bytes/s.
    """

    kind: str | None = None
    pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    to_switches: dict[str, int] = field(default_factory=dict)
    rates: dict[tuple[str, str], float] = field(default_factory=dict)
    rate: float | None = None


def read_distances(root: XmlElement, machine: Item, remarks: list[Remark]) -> tuple[Distances, ...]:
    """Return the matrices of an export, of its present form or of that of hwloc 1."""
    labels = _labels(machine)
    found = [
        matrix
        for element in root.all("distances2", "distances2hetero")
        if (matrix := _matrix(element, labels, remarks)) is not None
    ]
    for item in machine.walk():
        for element in item.element.all("distances"):
            if (old := _old_matrix(element, item, remarks)) is not None:
                found.append(old)
    return tuple(found)


def _labels(machine: Item) -> dict[str, str]:
    """Return PCI addresses by the number that matrices refer to, for functions and what is below them."""
    found = {}
    for item in machine.walk():
        number = item.element.get("gp_index")
        owner = next((one for one in (item, *item.above()) if one.element.get("pci_busid")), None)
        if number and owner is not None:
            found[f"{item.kind}:{number}"] = (owner.element.get("pci_busid") or "").lower()
    return found


def _matrix(element: XmlElement, labels: Mapping[str, str], remarks: list[Remark]) -> Distances | None:
    name = element.get("name") or ""
    kind = element.get("type")
    indexes = " ".join(child.text for child in element.all("indexes")).split()
    values = " ".join(child.text for child in element.all("u64values")).split()
    count = element.get("nbobjs") or ""
    if not _VALUE.fullmatch(count) or int(count) > MOST_OBJECTS or len(indexes) != int(count):
        _note(remarks, element, f"distances {name!r} name {len(indexes)} objects, not {count[:20]}; left out")
        return None
    size = len(indexes)
    if len(values) != size * size or not all(_VALUE.fullmatch(value) for value in values):
        _note(remarks, element, f"distances {name!r} have {len(values)} values for {size} objects; left out")
        return None
    if len(set(indexes)) < size:
        _note(remarks, element, f"distances {name!r} name an object twice; left out")
        return None
    if not name or (kind is None and element.tag == "distances2"):
        _note(remarks, element, "distances without a name, or a type of their objects, are left out")
        return None
    if kind == "NUMANode" and element.get("indexing") != "os":
        _note(remarks, element, f"distances {name!r} do not say how they number NUMA nodes; left out")
        return None
    if element.get("indexing") != "os":
        keys = [one if _REFERENCE.fullmatch(one) else f"{kind}:{one}" for one in indexes]
        indexes = [labels.get(key, key) for key in keys]
    rows = tuple(tuple(map(float, values[start : start + size])) for start in range(0, size * size, size))
    return Distances(name, kind, tuple(indexes), rows)


def _old_matrix(element: XmlElement, item: Item, remarks: list[Remark]) -> Distances | None:
    """Read a matrix of hwloc 1: multiples of a base, between the NUMA nodes below an object.

    Matrices between other objects are left out without a word, as nothing here is about these.
    """
    nodes = [one.os_index for one in item.walk() if one.kind == "NUMANode"]
    if element.get("relative_depth") is None:
        _note(remarks, element, "distances between objects of unknown depth are left out")
        return None
    if "NUMANode" not in _kinds_below(item, element.get("relative_depth") or ""):
        return None
    base = element.get("latency_base") or ""
    values = [child.get("value") or "" for child in element.all("latency")]
    size = len(nodes)
    fits = element.get("nbobjs") == str(size) and len(values) == size * size and _FLOAT.fullmatch(base)
    if not fits or not all(_FLOAT.fullmatch(value) for value in values):
        _note(remarks, element, "distances that are not between the NUMA nodes are left out")
        return None
    numbers = [float(base) * float(value) for value in values]
    rows = tuple(tuple(numbers[start : start + size]) for start in range(0, size * size, size))
    return Distances("NUMALatency", "NUMANode", tuple(map(str, nodes)), rows)


def _kinds_below(item: Item, depth: str) -> set[str]:
    """Return the types of the objects a number of levels below another."""
    level = [item]
    for _ in range(int(depth) if re.fullmatch(r"[0-9]{1,2}", depth) else 0):
        level = [child for one in level for child in one.children]
    return {one.kind for one in level}


def node_distances(matrices: Sequence[Distances], remarks: list[Remark]) -> dict[int, dict[int, float]]:
    """Return the relative latency of every NUMA node to every other."""
    matrix = next((one for one in matrices if one.name == "NUMALatency" and one.type == "NUMANode"), None)
    if matrix is None or not all(_VALUE.fullmatch(one) for one in matrix.objects):
        return {}
    numbers = [int(one) for one in matrix.objects]
    for row, left in enumerate(numbers):
        own = matrix.values[row][row]
        if any(value < own for value in matrix.values[row]):
            remarks.append(Remark(0, f"NUMA node {left} is nearer to another node than to itself"))
        if any(matrix.values[row][column] != matrix.values[column][row] for column in range(row)):
            remarks.append(Remark(0, f"the distances from and to NUMA node {left} differ"))
    return {
        number: dict(zip(numbers, row, strict=True))
        for number, row in zip(numbers, matrix.values, strict=True)
    }


def read_links(
    matrices: Sequence[Distances],
    gpus: Mapping[str, str],
    switches: Sequence[str],
    known: Callable[[], int | None],
    remarks: list[Remark],
) -> Links:
    """Return the links between GPUs, and to NVSwitches, that the bandwidth matrices show.

    Parameters
    ----------
    gpus
        Names of the GPUs by PCI address.
    switches
        PCI addresses of the NVSwitches.
    known
        Tells the rate of one link of these GPUs, MB/s, where the matrix leaves it open.
    """
    links = Links()
    for matrix in matrices:
        if matrix.name == "NVLinkBandwidth":
            _read_nvlink(matrix, gpus, switches, known, links, remarks)
        elif matrix.name == "XGMIBandwidth":
            _read_xgmi(matrix, gpus, links, remarks)
    return links


def _cells(matrix: Distances) -> Iterator[tuple[str, str, float, float]]:
    """Yield both objects of every pair once, with the value there and back."""
    for row, left in enumerate(matrix.objects):
        for column in range(row + 1, len(matrix.objects)):
            yield left, matrix.objects[column], matrix.values[row][column], matrix.values[column][row]


def _read_nvlink(
    matrix: Distances,
    gpus: Mapping[str, str],
    switches: Sequence[str],
    known: Callable[[], int | None],
    links: Links,
    remarks: list[Remark],
) -> None:
    links.kind = "nvlink"
    one = _rate_of_one([max(there, back) for *_, there, back in _cells(matrix)], known)
    links.rate = None if one is None else one * 1e6
    if one is None:
        remarks.append(Remark(0, "NVLink bandwidths fit several rates of one link; the count is unknown"))
    hosts = 0
    for left, right, there, back in _cells(matrix):
        value = max(there, back)
        ends = [gpus.get(end) for end in (left, right)]
        pair, gpu = _pair(ends), next((end for end in ends if end is not None), None)
        if not value or gpu is None:
            continue
        if there != back:
            what = f"NVLink between {left} and {right} is {there:g} and {back:g} MB/s"
            remarks.append(Remark(0, f"{what} by direction; the larger is taken"))
        if pair is not None:
            _add(links, pair, value, one, links.pairs, pair)
        elif left in switches or right in switches:
            _add(links, (gpu, "NVSwitch"), value, one, links.to_switches, gpu)
        else:
            hosts += 1
    if hosts:
        remarks.append(Remark(0, f"{hosts} NVLink connections into the host are left out"))


def _add(
    links: Links, ends: tuple[str, str], value: float, one: int | None, counts: dict[K, int], key: K
) -> None:
    links.rates[ends] = links.rates.get(ends, 0.0) + value * 1e6
    if one is not None:
        counts[key] = counts.get(key, 0) + round(value / one)


def _rate_of_one(values: Sequence[float], known: Callable[[], int | None]) -> int | None:
    """Return the rate of a link that all values are multiples of: the only one, or that of the product."""
    found = [int(value) for value in values if value]
    divisor = math.gcd(*found) if found else 0
    fitting = [rate for rate in _NVLINK_RATES if divisor and divisor % rate == 0]
    if len(fitting) == 1:
        return fitting[0]
    stated = known() if fitting else None
    return stated if stated in fitting else None


def _read_xgmi(matrix: Distances, gpus: Mapping[str, str], links: Links, remarks: list[Remark]) -> None:
    links.kind = "xgmi"
    for left, right, there, back in _cells(matrix):
        pair = _pair([gpus.get(left), gpus.get(right)])
        if pair is not None and (there or back):
            links.rates[pair] = max(there, back) * 1e6
    remarks.append(Remark(0, "xGMI bandwidths do not tell how many links there are; their count is unknown"))


def _pair(ends: Sequence[str | None]) -> tuple[str, str] | None:
    left, right = ends
    if left is None or right is None or left == right:
        return None
    return min(left, right), max(left, right)


def read_attributes(root: XmlElement, machine: Item, remarks: list[Remark]) -> tuple[MemoryAttribute, ...]:
    """Return the memory attributes of an export."""
    nodes = {
        item.element.get("gp_index") or "": item.os_index
        for item in machine.walk()
        if item.kind == "NUMANode"
    }
    objects = {(item.kind, item.element.get("gp_index") or "") for item in machine.walk()}
    found = []
    for element in root.all("memattr"):
        values, seen = [], list[XmlElement]()
        if not element.get("name"):
            _note(remarks, element, "an attribute of memory has no name")
        for child in element.all("memattr_value"):
            text = child.get("value") or ""
            if not _VALUE.fullmatch(text):
                _note(remarks, child, f"a value of {element.get('name')!r} is no number; left out")
                continue
            if any(child.attributes == other.attributes for other in seen):
                _note(remarks, child, f"a value of {element.get('name')!r} is there twice")
            elif any(_is_same_pair(child, other) for other in seen):
                _note(remarks, child, f"two values of {element.get('name')!r} are of the same objects")
            seen.append(child)
            target = nodes.get(child.get("target_obj_gp_index") or "")
            if target is None and (child.get("target_obj_type") or "NUMANode") == "NUMANode":
                _note(remarks, child, f"a value of {element.get('name')!r} is of no NUMA node that is listed")
            if not _is_listed(child, objects):
                _note(
                    remarks,
                    child,
                    f"a value of {element.get('name')!r} is seen from an object that is not listed",
                )
            values.append(MemoryValue(target, int(text), _initiator(child)))
        found.append(MemoryAttribute(element.get("name") or "", tuple(values)))
    return tuple(found)


def _is_same_pair(left: XmlElement, right: XmlElement) -> bool:
    """Whether two values differ in nothing but the value."""
    return all(left.get(key) == right.get(key) for key in {*left.attributes, *right.attributes} - {"value"})


def _is_listed(element: XmlElement, objects: AbstractSet[tuple[str, str]]) -> bool:
    """Whether the object that a value is seen from is in the export, where the value names one."""
    number, kind = element.get("initiator_obj_gp_index"), element.get("initiator_obj_type")
    return number is None or (kind or "", number) in objects


def _initiator(element: XmlElement) -> str | None:
    kind = element.get("initiator_obj_type")
    if kind is not None:
        return f"{kind}:{element.get('initiator_obj_gp_index')}"
    return element.get("initiator_cpuset")


def _note(remarks: list[Remark], element: XmlElement, text: str) -> None:
    remarks.append(Remark(element.line, text))
