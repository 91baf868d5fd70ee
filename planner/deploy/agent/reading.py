"""What the agent finds on its node, held against the machine that the plan was made for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.topology import catalogue, resolve
from planner.topology.importers.document import described
from planner.topology.importers.probe import probe
from planner.topology.machine import MachineType

SLOWER = 0.95
"""A link counts as up when its rate is at least this share of the expected one."""


@dataclass(frozen=True)
class LinkState:
    """A link of the node: its kind and ends, its rate, bytes/s, and whether it is as expected."""

    source: str
    target: str
    kind: str
    rate: float
    up: bool


@dataclass(frozen=True)
class Reading:
    """One look at a node.

    Attributes
    ----------
    numa_memory
        Memory of each NUMA domain, bytes.
    missing
        Links of the expected machine that are not there, or narrower, as text.
    seconds
        What the look took, s.
    """

    node: str
    links: tuple[LinkState, ...]
    numa_memory: Mapping[str, float]
    num_gpus: int
    missing: tuple[str, ...]
    seconds: float

    @property
    def matches(self) -> bool:
        """Whether everything that the plan counts on is there."""
        return not self.missing


def read_node(
    root: Path, node: str, device: str | None = None, expected: MachineType | None = None
) -> Reading:
    """Probe a node and compare it with the machine that is expected there.

    Raises
    ------
    PlannerError
        If the node cannot be read.
    """
    start = time.perf_counter()
    document, _ = described(probe(root), node, catalogue(), device)
    found = resolve(document, catalogue()).nodes[0].machine
    wanted = _rates(expected) if expected is not None else {}
    rates = _rates(found)
    links = tuple(
        LinkState(*key, rate=rate, up=rate >= SLOWER * wanted.get(key, 0.0))
        for key, rate in sorted(rates.items())
    )
    missing = tuple(
        f"{source} - {target} ({kind})"
        for (source, target, kind), rate in sorted(wanted.items())
        if rates.get((source, target, kind), 0.0) < SLOWER * rate
    )
    if expected is not None and len(found.gpus) < len(expected.gpus):
        missing += (f"{len(expected.gpus) - len(found.gpus)} of {len(expected.gpus)} GPUs",)
    memory = {domain.name: domain.memory.value for domain in found.numa}
    return Reading(node, links, memory, len(found.gpus), missing, time.perf_counter() - start)


def _rates(machine: MachineType) -> dict[tuple[str, str, str], float]:
    """Return the rate of every channel by its ends and kind, parallel ones added up."""
    found: Counter[tuple[str, str, str]] = Counter()
    for source, target, data in machine.graph.edges(data=True):
        edge = data["edge"]
        found[source, target, edge.kind] += edge.rate
    return dict(found)
