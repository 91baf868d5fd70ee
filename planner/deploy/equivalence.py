"""Which nodes, and which GPUs of a node, are as good as others: equal parts and links under any names.

Predicted costs rest on a machine's domains, devices and links alone, so that a plan costs the same on every
node of one kind, and on every set of GPUs that has the same place among a machine's links.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection
from typing import Any

from planner.topology.machine import Edge, MachineType
from planner.topology.models import Gpu, Nic, NumaDomain, Switch

LENGTH = 16
"""Hexadecimal digits of a kind: short enough for the value of a label."""
ROUNDS = 4
"""Rounds of refinement: links that far from a part still tell it from others."""


_RECENT: deque[tuple[MachineType, str]] = deque(maxlen=64)
"""Machines that were looked at last, by identity: every object of a bundle asks for those of one topology."""


def kind_of_machine(machine: MachineType) -> str:
    """Return the kind of a machine; see `machine_kind`."""
    for known, kind in _RECENT:
        if known is machine:
            return kind
    kind = machine_kind(machine)
    _RECENT.append((machine, kind))
    return kind


def machine_kind(machine: MachineType, chosen: Collection[str] = ()) -> str:
    """Return a digest that is equal for machines of one kind, under any names and order of their parts.

    Parameters
    ----------
    chosen
        GPUs that are marked, so that equal digests mean equivalent choices as well.

    Notes
    -----
    Colours of parts are refined by those of their neighbours and the links to them [1]_. Memory counts with
    two digits, since kernels keep a little of it for themselves, and rates with three.

    References
    ----------
    .. [1] B. Weisfeiler, A. Leman, "The reduction of a graph to canonical form and the algebra which appears
       therein", 1968.
    """
    graph = machine.graph
    colours = {
        name: _digest(_part(machine, data["part"]), name in chosen) for name, data in graph.nodes(data=True)
    }
    around = {
        name: [
            *((other, "out", _edge(data["edge"])) for _, other, data in graph.out_edges(name, data=True)),
            *((other, "in", _edge(data["edge"])) for other, _, data in graph.in_edges(name, data=True)),
        ]
        for name in graph
    }
    for _ in range(ROUNDS):
        colours = {
            name: _digest(colours[name], sorted((colours[other], *more) for other, *more in around[name]))
            for name in graph
        }
    return _digest(sorted(colours.values()))


def _part(machine: MachineType, part: NumaDomain | Gpu | Nic | Switch) -> tuple[Any, ...]:
    if isinstance(part, NumaDomain):
        rates = f"{part.memory.value:.2g} {part.memory_bandwidth.value:.3g} {part.core_speed.value:.3g}"
        gpus = sum(gpu.numa == part.name for gpu in machine.gpus)
        return ("numa", part.arch, part.cores, rates, part.vector_bits, gpus)
    if isinstance(part, Gpu):
        return ("gpu", part.device, part.addressing)
    if isinstance(part, Nic):
        return ("nic", f"{part.bandwidth.value:.3g}")
    return ("switch", part.kind, part.in_switch_reduction)


def _edge(edge: Edge) -> tuple[str, str]:
    shared = "" if edge.group_rate is None else f"{edge.group_rate:.3g}"
    return edge.kind, f"{edge.rate:.3g} {edge.latency:.2g} {shared}"


def _digest(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:LENGTH]


class Kinds:
    """Kinds of the machines of one topology and of sets of their GPUs, each looked at once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, frozenset[str]], str] = {}

    def of(self, machine: MachineType, chosen: Collection[str] = ()) -> str:
        """Return the kind of a machine with some of its GPUs marked."""
        key = machine.name, frozenset(chosen)
        if key not in self._found:
            self._found[key] = machine_kind(machine, key[1])
        return self._found[key]
