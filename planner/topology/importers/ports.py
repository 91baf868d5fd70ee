"""Network ports of a machine whose dumps do not name them, from what the fabric knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from planner.schema import BandwidthFigure, expand
from planner.topology.importers.cabling import Cable, natural
from planner.topology.importers.rates import link_rates
from planner.topology.models import Link, Machine, Nic


def with_ports(machine: Machine, cables: Sequence[Sequence[Cable]], source: str) -> tuple[Machine, list[str]]:
    """Return a machine that has the ports which its nodes are cabled with, and what was concluded.

    Ports of unknown rate take that of their cable. A machine without any port gets those that the fabric
    names at most of its nodes, next to its first NUMA domain; or a single one where it names none.
    """
    rates = [cable.rate for node in cables for cable in node if cable.rate is not None]
    if machine.nics:
        return _rated(machine, max(rates), source) if rates else (machine, [])
    shapes = Counter(
        tuple(sorted({one.port or "nic0" for one in node}, key=natural)) for node in cables if node
    )
    names = max(shapes, key=lambda shape: shapes[shape], default=("nic0",))
    links = link_rates()
    rate = BandwidthFigure.of(max(rates), "vendor", source) if rates else links.links.port
    home = expand(machine.numa[0].name)[0]
    bus = links.pcie[max(links.pcie)]
    path = BandwidthFigure.of(min(bus.value, 2 * rate.value), "assumed", bus.source)
    both = links.latencies.root.value + links.latencies.device.value
    latency = type(links.latencies.root).of(both, "assumed", links.latencies.root.source)
    nics = [Nic(name=name, numa=home, bandwidth=rate) for name in names]
    added = [Link(between=(home, name), kind="pcie", bandwidth=path, latency=latency) for name in names]
    note = (
        f"No dump names the network ports of {machine.name}; {', '.join(names)} of the fabric "
        f"{'is' if len(names) == 1 else 'are'} taken to be next to {home}."
    )
    return machine.model_copy(update={"nics": nics, "links": [*machine.links, *added]}), [note]


def _rated(machine: Machine, rate: float, source: str) -> tuple[Machine, list[str]]:
    """Return the machine with the rate of the cables for ports of unknown rate."""
    figure = BandwidthFigure.of(rate, "vendor", source)
    unknown = link_rates().links.port
    nics = [
        nic.model_copy(update={"bandwidth": figure}) if nic.bandwidth == unknown else nic
        for nic in machine.nics
    ]
    if nics == machine.nics:
        return machine, []
    said = f"Ports of unknown rate have that of their cable, {rate / 1e9:g} GB/s."
    return machine.model_copy(update={"nics": nics}), [said]
