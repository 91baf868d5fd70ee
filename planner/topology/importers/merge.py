"""Several views of one machine as one, GPUs and adapters matched by PCI address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any

from planner.errors import TopologyError
from planner.topology.importers.matching import Aligned, aligned
from planner.topology.importers.rates import same_product
from planner.topology.importers.views import GpuView, HostView, NicView, NumaView, Remark

MEMORY_TOLERANCE = 0.05
"""By how much two tools may differ on a size: some count what the driver or the firmware keeps."""
Stated = tuple[str, Any]
"""A source and the value that it states."""


class ContradictionError(TopologyError):
    """Views of one machine say different things.

    Attributes
    ----------
    contradictions
        What they differ in, each with both values and both sources.
    """

    def __init__(self, contradictions: Sequence[str]) -> None:
        self.contradictions = tuple(contradictions)
        shown = "\n  ".join(self.contradictions)
        super().__init__(f"the dumps are not of one machine, or one is out of date:\n  {shown}")


@dataclass
class _Judge:
    """Compares what the views state, and keeps what they differ in."""

    contradictions: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def one(self, what: str, stated: Iterable[Stated]) -> Any:
        """Return the value that all sources agree on, ``None`` where none states any."""
        known = [(source, value) for source, value in stated if value is not None]
        for (first, left), (second, right) in combinations(known, 2):
            if left != right:
                self.contradictions.append(f"{what} is {left} in {first}, {right} in {second}")
                break
        return known[0][1] if known else None

    def size(self, what: str, stated: Iterable[Stated]) -> float | None:
        """Return the largest of sizes that agree within the tolerance."""
        known = [(source, float(value)) for source, value in stated if value]
        if not known:
            return None
        least, most = min(known, key=lambda item: item[1]), max(known, key=lambda item: item[1])
        if most[1] - least[1] > MEMORY_TOLERANCE * most[1]:
            self.contradictions.append(
                f"{what} is {least[1] / 2**30:.1f} GiB in {least[0]}, {most[1] / 2**30:.1f} GiB in {most[0]}"
            )
        return most[1]

    def largest(self, what: str, stated: Iterable[Stated]) -> Any:
        """Return the largest value; a smaller one is remarked."""
        known = [(source, value) for source, value in stated if value is not None]
        best = max((value for _, value in known), default=None)
        for source, value in known:
            if value != best:
                self.remarks.append(
                    Remark(0, f"{what} is {value} in {source}; {best} of another dump is taken")
                )
        return best

    def product(self, what: str, stated: Iterable[Stated]) -> str | None:
        """Return the product, a name rather than a PCI identity or an architecture."""
        known = sorted(
            (
                (source, value)
                for source, value in stated
                if value is not None and not value.startswith("gfx")
            ),
            key=lambda item: ":" in item[1],
        )
        for (first, left), (second, right) in combinations(known, 2):
            if ":" not in left + right and not same_product(left, right):
                self.contradictions.append(f"{what} is {left!r} in {first}, {right!r} in {second}")
                break
            if ":" in left + right and not same_product(left, right):
                self.remarks.append(Remark(0, f"{what} is {left!r} in {first}, {right!r} in {second}"))
        return known[0][1] if known else None


def merge(views: Sequence[HostView], sources: Sequence[str] | None = None) -> HostView:
    """Return what all views of one machine say together.

    Parameters
    ----------
    sources
        What to call the views in messages; their formats when absent.

    Raises
    ------
    ContradictionError
        If they say different things; all differences are listed, with both sources.
    TopologyError
        If the devices of one view cannot be matched with those of another.
    """
    if not views:
        raise TopologyError("there is nothing to merge")
    names = list(sources or [view.format for view in views])
    parts = aligned(views, names)
    judge = _Judge(remarks=[remark for part in parts for remark in part.remarks])
    gpus = _merged_gpus(parts, judge)
    merged = HostView(
        "+".join(dict.fromkeys(view.format for view in views)),
        gpus,
        _merged_nics(parts, judge),
        _merged_numa(parts, judge),
        **_links(parts, judge),
        path_classes=_classes(parts, judge),
        bridges=max((part.view.bridges for part in parts), key=len),
        unknown_functions=_unknown(parts),
        **_host(parts, judge),
        remarks=tuple(judge.remarks),
    )
    if judge.contradictions:
        raise ContradictionError(judge.contradictions)
    return merged


def _fold(
    record: GpuView | NicView | NumaView, others: Sequence[tuple[str, Any]], what: str,
    judge: _Judge, special: Mapping[str, Callable[[str, Iterable[Stated]], Any]],
) -> dict[str, Any]:  # fmt: skip
    """Return the fields of a record, each as all sources state it."""
    found = {}
    for one in fields(record):
        stated = [(source, getattr(other, one.name)) for source, other in others]
        rule = special.get(one.name, judge.one)
        label = one.name.replace("numa", "NUMA node").replace("_", " ")
        found[one.name] = rule(f"{what}: {label}", stated)
    return found


def _merged_gpus(parts: Sequence[Aligned], judge: _Judge) -> tuple[GpuView, ...]:
    order = list(dict.fromkeys(gpu.name for part in parts for gpu in part.view.gpus))
    order.sort(key=parts[0].rank)
    _compare_addresses(parts, judge)
    special = {
        "memory": judge.size,
        "product": judge.product,
        "pcie_generation": judge.largest,
        "pcie_width": judge.largest,
    }
    gpus = []
    for name in order:
        stated = [(part.source, gpu) for part in parts for gpu in part.view.gpus if gpu.name == name]
        listing = [part.source for part in parts if part.view.gpus]
        absent = [source for source in listing if source not in [source for source, _ in stated]]
        address = next((gpu.bus_id for _, gpu in stated if gpu.bus_id), name)
        if absent:
            judge.remarks.append(Remark(0, f"{address} is in {stated[0][0]}, but not in {', '.join(absent)}"))
        gpus.append(GpuView(**_fold(stated[0][1], stated, f"GPU {address}", judge, special)))
    return tuple(gpus)


def _compare_addresses(parts: Sequence[Aligned], judge: _Judge) -> None:
    """Refuse two views that each have GPUs which the other does not know: they are of different machines."""
    lists = [
        (part.source, {gpu.bus_id for gpu in part.view.gpus})
        for part in parts
        if part.view.gpus and all(gpu.bus_id for gpu in part.view.gpus)
    ]
    for (first, left), (second, right) in combinations(lists, 2):
        if left - right and right - left:
            judge.contradictions.append(
                f"the GPU {min(filter(None, left - right))} is in {first} alone, "
                f"{min(filter(None, right - left))} in {second} alone"
            )


def _merged_nics(parts: Sequence[Aligned], judge: _Judge) -> tuple[NicView, ...]:
    nics = []
    for name in dict.fromkeys(nic.name for part in parts for nic in part.view.nics):
        stated = [(part.source, nic) for part in parts for nic in part.view.nics if nic.name == name]
        speeds = next((nic.speeds for _, nic in stated if nic.speeds), ())
        plain = [(source, replace(nic, speeds=())) for source, nic in stated]
        found = _fold(plain[0][1], plain, f"adapter {name}", judge, {"ports": judge.largest})
        nics.append(NicView(**{**found, "speeds": speeds}))
    return tuple(nics)


def _merged_numa(parts: Sequence[Aligned], judge: _Judge) -> tuple[NumaView, ...]:
    nodes = []
    for number in sorted({node.number for part in parts for node in part.view.numa}):
        stated = [(part.source, node) for part in parts for node in part.view.numa if node.number == number]
        what = f"NUMA node {number}"
        sets = [(source, None if node.cpus is None else tuple(sorted(node.cpus))) for source, node in stated]
        nodes.append(
            NumaView(
                number,
                judge.one(f"{what}: list of processors", sets),
                judge.size(f"{what}: memory", [(s, node.memory) for s, node in stated]),
                judge.one(f"{what}: distances", [(s, dict(node.distances) or None) for s, node in stated])
                or {},
                any(node.device_memory for _, node in stated),
                judge.one(f"{what}: package", [(s, node.package) for s, node in stated]),
            )
        )
    return tuple(nodes)


def _links(parts: Sequence[Aligned], judge: _Judge) -> dict[str, Any]:
    """Return links to GPUs and switches; a full mesh beside links to switches is how one tool shows these."""
    switched = [(part.source, part.view.switch_links) for part in parts if part.view.switch_links]
    direct = [(part.source, part.view.gpu_links) for part in parts if part.view.gpu_links]
    to_switches: Mapping[str, int] = switched[0][1] if switched else {}
    for name in sorted({name for _, links in switched for name in links}):
        judge.one(f"links of {name} to switches", [(s, links.get(name, 0)) for s, links in switched])
    for pair in sorted({pair for _, links in direct for pair in links}):
        stated = [(source, links.get(pair, 0)) for source, links in direct]
        if switched:
            through = min(to_switches.get(end, 0) for end in pair)
            stated.append((switched[0][0], through))
        judge.one(f"links between {' and '.join(pair)}", stated)
    kinds = [(part.source, part.view.link_kind) for part in parts]
    return {
        "gpu_links": {} if switched else (direct[0][1] if direct else {}),
        "switch_links": to_switches,
        "link_kind": judge.one("the kind of GPU links", kinds),
        "link_rate": next((part.view.link_rate for part in parts if part.view.link_rate), None),
    }


def _classes(parts: Sequence[Aligned], judge: _Judge) -> dict[tuple[str, str], str]:
    stating = [(part.source, part.classes) for part in parts if part.classes]
    return {
        pair: judge.one(
            f"the path between {' and '.join(pair)}", [(s, known.get(pair)) for s, known in stating]
        )
        for pair in dict.fromkeys(pair for _, known in stating for pair in known)
    }


def _unknown(parts: Sequence[Aligned]) -> tuple[str, ...]:
    known = {gpu.bus_id for part in parts for gpu in part.view.gpus}
    known |= {nic.bus_id for part in parts for nic in part.view.nics}
    functions = dict.fromkeys(one for part in parts for one in part.view.unknown_functions)
    return tuple(one for one in functions if one not in known)


def _host(parts: Sequence[Aligned], judge: _Judge) -> dict[str, Any]:
    names = ("arch", "vendor", "packages", "cores", "processors", "driver")
    found = {
        name: judge.one(f"the host: {name}", [(part.source, getattr(part.view, name)) for part in parts])
        for name in names
    }
    cpus = list(dict.fromkeys(part.view.cpu for part in parts if part.view.cpu))
    cpus.sort(key=lambda cpu: cpu.startswith("family "))
    named = [cpu for cpu in cpus if not cpu.startswith("family ")]
    judge.one("the host: CPU", [(part.source, part.view.cpu) for part in parts if part.view.cpu in named])
    return {**found, "cpu": ", ".join([*named[:1], *[cpu for cpu in cpus if cpu not in named][:1]]) or None}
