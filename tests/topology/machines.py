"""Small machines made by hand, with rates in GB/s and no figure worth believing."""

from __future__ import annotations

from collections.abc import Sequence

from planner.schema import BandwidthFigure, BytesFigure, FlopsFigure, LatencyFigure, RatioFigure
from planner.topology import (
    Device,
    Fabric,
    Gpu,
    Link,
    Machine,
    Nic,
    NodeGroup,
    NumaDomain,
    Switch,
    Topology,
    TopologyDocument,
    resolve,
)
from planner.topology.models import LinkKind, SwitchKind

GB = 1e9


def device() -> Device:
    """Return the only accelerator of these machines."""
    return Device(
        name="card",
        architecture="none",
        peak={"bf16": FlopsFigure.of(1e15)},
        memory=BytesFigure.of(80 * GB),
        memory_bandwidth=BandwidthFigure.of(3e12),
    )


def numa(name: str) -> NumaDomain:
    """Return one or several NUMA domains of eight cores."""
    return NumaDomain(
        name=name,
        arch="x86_64",
        cores=8,
        core_speed=RatioFigure.of(1.0),
        memory=BytesFigure.of(64 * GB),
        memory_bandwidth=BandwidthFigure.of(100 * GB),
    )


def gpu(name: str, home: str = "cpu0") -> Gpu:
    """Return one or several GPUs."""
    return Gpu(name=name, device="card", numa=home)


def nic(name: str, rate: float = 50.0, home: str = "cpu0") -> Nic:
    """Return one or several network ports."""
    return Nic(name=name, numa=home, bandwidth=BandwidthFigure.of(rate * GB))


def switch(name: str, kind: SwitchKind = "pcie", reduces: bool = False) -> Switch:
    """Return one or several switches."""
    return Switch(name=name, kind=kind, in_switch_reduction=reduces)


def link(
    left: str,
    right: str,
    kind: LinkKind,
    rate: float,
    *,
    back: float | None = None,
    duplex: float | None = None,
) -> Link:
    """Return one or several links with 100 ns of latency; C2C links are coherent."""
    return Link(
        between=(left, right),
        kind=kind,
        bandwidth=BandwidthFigure.of(rate * GB),
        reverse_bandwidth=None if back is None else BandwidthFigure.of(back * GB),
        duplex=None if duplex is None else BandwidthFigure.of(duplex * GB),
        latency=LatencyFigure.of(100e-9),
        coherent=kind == "nvlink-c2c",
    )


def machine(
    gpus: Sequence[Gpu],
    links: Sequence[Link],
    *,
    name: str = "box",
    sockets: int = 1,
    switches: Sequence[Switch] = (),
    nics: Sequence[Nic] = (),
) -> Machine:
    """Return a machine template."""
    domains = [numa(f"cpu[0-{sockets - 1}]")]
    return Machine(
        name=name, numa=domains, gpus=list(gpus), links=list(links), switches=list(switches), nics=list(nics)
    )


def topology(*machines: Machine, nodes: Sequence[NodeGroup] = (), fabric: Fabric | None = None) -> Topology:
    """Return the topology of some machines, one node of the only machine when ``nodes`` is empty."""
    document = TopologyDocument(name="test", machines=list(machines), nodes=list(nodes), fabric=fabric)
    return resolve(document, {"card": device()})


def rates(resolved: Topology) -> list[tuple[str, float]]:
    """Return name and rate, GB/s, of every level from the innermost outwards."""
    return [(level.name, round(level.rate / GB, 6)) for level in resolved.hierarchy.levels]


def pair_rate(resolved: Topology, left: int, right: int) -> float:
    """Return the rate of the innermost level that joins two GPUs, bytes/s; 0 where none does."""
    for level in resolved.hierarchy.levels:
        if level.domain_of[left] == level.domain_of[right]:
            return level.rate
    return 0.0
