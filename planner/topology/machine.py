"""A machine template with its ranges expanded, its names checked and its graph built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import networkx as nx

from planner.schema import expand
from planner.topology.models import Device, Gpu, Link, Machine, Mesh, Nic, NumaDomain, Switch

PartKind = Literal["numa", "gpu", "switch", "nic"]
P = TypeVar("P", NumaDomain, Gpu, Switch, Nic)


@dataclass(frozen=True)
class Edge:
    """One direction of one channel.

    Attributes
    ----------
    rate
        Payload rate, bytes/s.
    latency
        Time of an empty message, s.
    group, group_rate
        Shared-duplex group and its capacity, bytes/s, when both directions together carry less than
        the sum of their rates; else ``None``.
    provenance
        ``measured``, ``vendor``, ``nccl-constant`` or ``assumed``: the weaker of rate and latency.
    in_place
        Measured payload rate of loads and stores, bytes/s; ``None`` where only copies are known.
    """

    source: str
    target: str
    kind: str
    rate: float
    latency: float
    coherent: bool
    provenance: str
    group: str | None = None
    group_rate: float | None = None
    in_place: float | None = None

    @property
    def busy_rate(self) -> float:
        """Rate while the other direction is busy as well, bytes/s: at most half of what both share."""
        return self.rate if self.group_rate is None else min(self.rate, self.group_rate / 2)


@dataclass(frozen=True)
class MachineType:
    """The expanded parts of one machine template.

    Raises
    ------
    ValueError
        Never by itself: :func:`problems_of_machine` reports dangling names before one is built.
    """

    name: str
    numa: tuple[NumaDomain, ...]
    gpus: tuple[Gpu, ...]
    switches: tuple[Switch, ...]
    nics: tuple[Nic, ...]
    edges: tuple[Edge, ...]
    devices: Mapping[str, Device]
    price: float | None

    @cached_property
    def graph(self) -> nx.DiGraph[str]:
        """The machine as a directed graph; vertices carry ``part``, edges carry ``edge``."""
        return build_graph(self)

    def device_of(self, gpu: str) -> Device:
        """Return the device model of a GPU of this machine."""
        return self.devices[next(g.device for g in self.gpus if g.name == gpu)]

    def numa_named(self, name: str) -> NumaDomain:
        """Return the NUMA domain called ``name``."""
        return next(n for n in self.numa if n.name == name)


def build_graph(machine: MachineType) -> nx.DiGraph[str]:
    """Return the NetworkX graph of a machine, parallel channels of one kind added up."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    kinds = (
        ("numa", machine.numa),
        ("gpu", machine.gpus),
        ("switch", machine.switches),
        ("nic", machine.nics),
    )
    for kind, parts in kinds:
        for part in parts:
            graph.add_node(part.name, kind=kind, part=part)
    for edge in machine.edges:
        add_edge(graph, edge)
    return graph


def add_edge(graph: nx.DiGraph[str], edge: Edge) -> None:
    """Add one direction of a channel; a second channel between the same ends adds its rate."""
    if graph.has_edge(edge.source, edge.target):
        old: Edge = graph.edges[edge.source, edge.target]["edge"]
        edge = Edge(
            edge.source, edge.target, faster_kind(old, edge), old.rate + edge.rate,
            min(old.latency, edge.latency), old.coherent or edge.coherent,
            weaker(old.provenance, edge.provenance), old.group or edge.group,
            None if old.group_rate is None and edge.group_rate is None
            else (old.group_rate or 2 * old.rate) + (edge.group_rate or 2 * edge.rate),
            None if old.in_place is None or edge.in_place is None else old.in_place + edge.in_place,
        )  # fmt: skip
    graph.add_edge(edge.source, edge.target, edge=edge, capacity=edge.rate)


def faster_kind(first: Edge, second: Edge) -> str:
    """Return the kind of the faster of two channels."""
    return first.kind if first.rate >= second.rate else second.kind


_STRENGTH = ("assumed", "nccl-constant", "vendor", "measured")


def weaker(first: str, second: str) -> str:
    """Return the less trustworthy of two provenances."""
    return min(first, second, key=_STRENGTH.index)


def weakest(provenances: Iterable[str]) -> str:
    """Return the least trustworthy of several provenances, ``measured`` of none."""
    return min(provenances, key=_STRENGTH.index, default="measured")


def expand_machine(spec: Machine, devices: Mapping[str, Device]) -> MachineType:
    """Expand the ranges of a machine that :func:`problems_of_machine` found sound."""
    return MachineType(
        spec.name,
        tuple(_each(spec.numa)),
        tuple(_each(spec.gpus)),
        tuple(_each(spec.switches)),
        tuple(_each(spec.nics)),
        tuple(edges_of(spec.links, spec.meshes)),
        devices,
        None if spec.price is None else spec.price.value,
    )


def _each(parts: Sequence[P]) -> Iterator[P]:
    for part in parts:
        names = expand(part.name)
        numas: list[str] = expand(part.numa) if isinstance(part, Gpu | Nic) else []
        for index, name in enumerate(names):
            update: dict[str, object] = {"name": name}
            if len(numas) > 1:
                update["numa"] = numas[index]
            yield part.model_copy(update=update)


def pairs_of(link: Link) -> list[tuple[str, str]]:
    """Return the pairs of ends that a link with ranges stands for.

    Raises
    ------
    ValueError
        If both ends are ranges of different length.
    """
    left, right = expand(link.between[0]), expand(link.between[1])
    if len(left) == len(right):
        return list(zip(left, right, strict=True))
    if len(right) == 1:
        return [(name, right[0]) for name in left]
    if len(left) == 1:
        return [(left[0], name) for name in right]
    if len(left) % len(right) == 0:
        share = len(left) // len(right)
        return [(name, right[index // share]) for index, name in enumerate(left)]
    raise ValueError(
        f"{link.between[0]!r} names {len(left)} parts and {link.between[1]!r} names {len(right)}: "
        "give equal lengths, one single name, or a multiple"
    )


def edges_of(links: list[Link], meshes: list[Mesh]) -> Iterator[Edge]:
    """Yield both directions of every channel."""
    for link in links:
        for left, right in pairs_of(link):
            yield from _both_directions(link, left, right)
    for mesh in meshes:
        names = [name for item in mesh.among for name in expand(item)]
        pair = Link(
            between=("a", "b"),
            kind=mesh.kind,
            bandwidth=mesh.bandwidth,
            latency=mesh.latency,
            coherent=mesh.coherent,
        )
        for index, left in enumerate(names):
            for right in names[index + 1 :]:
                yield from _both_directions(pair, left, right)


def _both_directions(link: Link, left: str, right: str) -> Iterator[Edge]:
    back = link.reverse_bandwidth or link.bandwidth
    shared = link.duplex is not None and link.duplex.value < link.bandwidth.value + back.value
    group = f"{left}<->{right}" if shared else None
    capacity = link.duplex.value if link.duplex is not None and shared else None
    loads = (link.in_place, link.reverse_in_place)
    for (source, target, rate), load in zip(
        ((left, right, link.bandwidth), (right, left, back)), loads, strict=True
    ):
        trust = weaker(rate.provenance, link.latency.provenance)
        yield Edge(
            source, target, link.kind, rate.value, link.latency.value, link.coherent, trust, group, capacity,
            None if load is None else load.value,
        )  # fmt: skip
