"""Nodes of one kind: what two described machines differ in, and which hosts share one template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.schema import Figure, Record
from planner.topology.machine import MachineType
from planner.topology.models import TopologyDocument
from planner.topology.resolve import resolve

TOLERANCE = 0.05
"""By how much sizes and rates of two machines of one kind may differ: firmware keeps different shares."""


@dataclass(frozen=True)
class Host:
    """One host as its dumps describe it.

    Attributes
    ----------
    source
        Files that it was read from.
    node
        Node of the fabric that the files are named after; None where they are named otherwise.
    """

    source: str
    node: str | None
    document: TopologyDocument

    @cached_property
    def machine(self) -> MachineType:
        """The machine, its ranges expanded."""
        return resolve(self.document).nodes[0].machine


@dataclass(frozen=True)
class Kind:
    """Hosts that are alike; the first one stands for all."""

    hosts: tuple[Host, ...]

    @property
    def template(self) -> Host:
        """The host that the others are like."""
        return self.hosts[0]


def kinds_of(hosts: Sequence[Host]) -> list[Kind]:
    """Return the kinds of hosts, the most frequent one first."""
    kinds: list[list[Host]] = []
    for host in hosts:
        alike = next((kind for kind in kinds if not differences(kind[0], host)), None)
        if alike is None:
            kinds.append([host])
        else:
            alike.append(host)
    return [Kind(tuple(kind)) for kind in sorted(kinds, key=len, reverse=True)]


def differences(left: Host, right: Host) -> list[str]:
    """Return what two hosts differ in, each with both values and both sources."""
    return [
        f"{what} is {one} in {left.source}, {other} in {right.source}"
        for what, one, other in _differing(_statement(left.machine), _statement(right.machine))
    ]


def _statement(machine: MachineType) -> Mapping[str, Mapping[str, object]]:
    """Return the facts of every part and link, by its name."""
    parts: Iterable[Record] = (*machine.numa, *machine.gpus, *machine.switches, *machine.nics)
    facts = {str(getattr(part, "name", "")): _facts(part) for part in parts}
    for edge in machine.edges:
        key = f"the {edge.kind} link from {edge.source} to {edge.target}"
        count = facts.get(key, {}).get("rate", 0.0)
        facts[key] = {"rate": edge.rate + (count if isinstance(count, float) else 0.0)}
    return facts


def _facts(part: Record) -> dict[str, object]:
    values = {name: getattr(part, name) for name in type(part).model_fields}
    return {key: value.value if isinstance(value, Figure) else value for key, value in values.items()}


def _differing(
    left: Mapping[str, Mapping[str, object]], right: Mapping[str, Mapping[str, object]]
) -> Iterator[tuple[str, object, object]]:
    for name in dict.fromkeys([*left, *right]):
        if name not in left or name not in right:
            yield name, *(("there", "absent") if name in left else ("absent", "there"))
            continue
        for key, one in left[name].items():
            other = right[name].get(key)
            if not _same(one, other):
                yield f"{name}: {key.replace('_', ' ')}", _shown(one), _shown(other)


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))
    return one == other


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
