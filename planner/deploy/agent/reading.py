"""What the agent finds on its node, held against the machine that the plan was made for."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.deploy.equivalence import machine_kind
from planner.deploy.shares import host_name
from planner.topology import catalogue, resolve
from planner.topology.cluster import Topology
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
    topology
        Digest of the machine that was found; see :func:`kind_of`.
    kind
        Kind of the machine, by which portable plans pick nodes: that of the expected machine where nothing of
        it is missing, else of the one that was found.
    """

    node: str
    links: tuple[LinkState, ...]
    numa_memory: Mapping[str, float]
    num_gpus: int
    missing: tuple[str, ...]
    seconds: float
    topology: str = ""
    kind: str = ""

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
    seconds = time.perf_counter() - start
    kind = machine_kind(found if expected is None or missing else expected)
    return Reading(node, links, memory, len(found.gpus), missing, seconds, kind_of(found), kind)


def machine_of(topology: Topology, node: str) -> MachineType:
    """Return the machine that a node should be: that of its name in a cluster, else the first one."""
    named = [one.machine for one in topology.nodes if node in (one.name, host_name(one))]
    return named[0] if named else topology.nodes[0].machine


def kind_of(machine: MachineType) -> str:
    """Return a digest of a machine's domains, GPUs and links, the same on nodes of one kind.

    Memory counts with two digits: what the kernel keeps for itself differs a little from start to start.
    """
    domains = [[one.name, one.arch, one.cores, f"{one.memory.value:.2g}"] for one in machine.numa]
    gpus = [[one.name, machine.device_of(one.name).name, one.numa] for one in machine.gpus]
    links = [[*ends, f"{rate:.6g}"] for ends, rate in _rates(machine).items()]
    text = json.dumps([sorted(domains), sorted(gpus), sorted(links)], separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def _rates(machine: MachineType) -> dict[tuple[str, str, str], float]:
    """Return the rate of every channel by its ends and kind, parallel ones added up."""
    found: Counter[tuple[str, str, str]] = Counter()
    for source, target, data in machine.graph.edges(data=True):
        edge = data["edge"]
        found[source, target, edge.kind] += edge.rate
    return dict(found)
