"""Links between the GPUs of an imported host: to switches, in meshes, or pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import networkx as nx

from planner.errors import TopologyError
from planner.schema import compress
from planner.topology.importers.figures import gpu_link_rate, scaled
from planner.topology.importers.nvidia_matrix import PATH_CLASSES
from planner.topology.importers.rates import GpuFacts, link_rates
from planner.topology.importers.views import HostView
from planner.topology.models import Link, LinkKind, Mesh, Switch

MOST_LINKS = 18
"""Links of the GPUs with most of them, for a device that is not known (NVLink 4 and 5)."""
_REDUCING = 90
"""Compute capability from which the switches reduce in flight (NVLS)."""


@dataclass
class GpuFabric:
    """Switches, meshes and links among GPUs."""

    switches: list[Switch] = field(default_factory=list)
    meshes: list[Mesh] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


def gpu_fabric(
    view: HostView, names: Mapping[str, str], facts: Mapping[str, GpuFacts | None], notes: list[str]
) -> GpuFabric:
    """Return the links between GPUs; ``names`` and ``facts`` are by their names in the view.

    ``nvidia-smi topo -m`` shows GPUs on switches as if each were linked to every other: a full mesh of more
    links than a GPU has is taken for switches.

    Raises
    ------
    TopologyError
        If a GPU would have more links than its device has, and no switch explains it.
    """
    _check_known(view, facts, notes)
    fabric = GpuFabric()
    kind: LinkKind = "xgmi" if view.link_kind == "xgmi" else "nvlink"
    if view.switch_links:
        _add_switch(fabric, view, view.switch_links, names, facts, kind)
        return fabric
    graph: nx.Graph[str] = nx.Graph()
    graph.add_edges_from(view.gpu_links)
    order = {gpu.name: index for index, gpu in enumerate(view.gpus)}
    for part in sorted(nx.connected_components(graph), key=lambda part: min(order[name] for name in part)):
        members = sorted(part, key=order.__getitem__)
        counts = {pair: count for pair in combinations(members, 2) if (count := _count(view, *pair)) > 0}
        _add_part(fabric, view, members, counts, names, facts, kind, notes)
    return fabric


def _check_known(view: HostView, facts: Mapping[str, GpuFacts | None], notes: list[str]) -> None:
    """Refuse GPUs that are made for links of which the dump says nothing."""
    told = view.link_kind is not None and (view.gpu_links or view.switch_links)
    classes = {view.path_classes.get(pair) for pair in combinations(sorted(gpu.name for gpu in view.gpus), 2)}
    if told or len(view.gpus) < 2 or classes & PATH_CLASSES:
        return
    linked = [known.device for known in facts.values() if known is not None and known.links]
    fixed = [
        known.device for known in facts.values() if known is not None and known.links and not known.bridged
    ]
    if fixed:
        raise TopologyError(
            f"the dump does not tell how the GPUs are linked, and {fixed[0]} is made for such links; "
            "merge it with nvidia-smi topo -m or an NCCL topology of the same machine"
        )
    if linked:
        notes.append(f"The dump tells of no bridges between the {linked[0]}: none are described.")


def _count(view: HostView, left: str, right: str) -> int:
    return view.gpu_links.get((min(left, right), max(left, right)), 0)


def _add_part(
    fabric: GpuFabric, view: HostView, members: Sequence[str], counts: Mapping[tuple[str, str], int],
    names: Mapping[str, str], facts: Mapping[str, GpuFacts | None], kind: LinkKind, notes: list[str],
) -> None:  # fmt: skip
    complete = len(counts) == len(members) * (len(members) - 1) // 2
    equal = complete and len(set(counts.values())) == 1
    sums = {name: sum(count for pair, count in counts.items() if name in pair) for name in members}
    most = {name: (known.links if (known := facts[name]) else 0) or MOST_LINKS for name in members}
    excess = [name for name in members if sums[name] > most[name]]
    if equal and excess:
        count = next(iter(counts.values()))
        notes.append(
            f"{count} links between every two of {len(members)} GPUs are more than a GPU has: "
            "they are taken for links to switches."
        )
        _add_switch(fabric, view, dict.fromkeys(members, count), names, facts, kind)
        return
    if excess:
        name = excess[0]
        raise TopologyError(
            f"{name}: {sums[name]} links to GPUs, but its device has {most[name]}, and no switch explains it"
        )
    rates = {name: gpu_link_rate(view, facts[name]) for name in members}
    latency = link_rates().latencies.nvlink
    uniform = len({(rate.value, rate.provenance) for rate in rates.values()}) == 1
    if equal and uniform and len(members) > 2:
        rate = scaled(rates[members[0]], next(iter(counts.values())))
        among = compress([names[name] for name in members])
        fabric.meshes.append(Mesh(among=among, kind=kind, bandwidth=rate, latency=latency))
        return
    for (left, right), count in counts.items():
        slower = min(rates[left], rates[right], key=lambda rate: rate.value)
        fabric.links.append(
            Link(
                between=(names[left], names[right]), kind=kind, bandwidth=scaled(slower, count),
                latency=latency,
            )
        )  # fmt: skip


def _add_switch(
    fabric: GpuFabric, view: HostView, counts: Mapping[str, int], names: Mapping[str, str],
    facts: Mapping[str, GpuFacts | None], kind: LinkKind,
) -> None:  # fmt: skip
    name = "nvswitch" + (str(len(fabric.switches)) if fabric.switches else "")
    reducing = all((known := facts[gpu]) is not None and known.sm >= _REDUCING for gpu in counts)
    reducing = reducing and kind == "nvlink"
    fabric.switches.append(Switch(name=name, kind="nvswitch", in_switch_reduction=reducing))
    groups: dict[tuple[int, float], list[str]] = {}
    for gpu, count in counts.items():
        groups.setdefault((count, gpu_link_rate(view, facts[gpu]).value), []).append(gpu)
    for (count, _), members in groups.items():
        rate = scaled(gpu_link_rate(view, facts[members[0]]), count)
        for pattern in compress([names[gpu] for gpu in members]):
            fabric.links.append(
                Link(
                    between=(pattern, name), kind=kind, bandwidth=rate, latency=link_rates().latencies.nvlink
                )
            )
