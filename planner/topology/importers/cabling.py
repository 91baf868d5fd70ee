"""Cables of an imported fabric: which port of which node leads to which switch, and what joins switches."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter

from planner.topology.importers.ibnet import IbView
from planner.topology.importers.views import FabricView
from planner.topology.models import SwitchKind

_SWITCH_NAME = re.compile(r"[^;]*;([^:;]+):.*")
_NUMBER = re.compile(r"([0-9]+)")


@dataclass
class Cabling:
    """What a fabric tells of its cables.

    Attributes
    ----------
    ports
        Port of every adapter of a node and the switches it leads to with the rate, bytes/s, by node; a
        port without a name is any of the node.
    trunks
        Rate, bytes/s, between two switches; None where no cable states one.
    above
        Switches above a switch, where the fabric is a tree.
    """

    ports: dict[str, list[Cable]] = field(default_factory=dict)
    trunks: dict[tuple[str, str], float | None] = field(default_factory=dict)
    above: dict[str, list[str]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    def levels(self) -> dict[str, SwitchKind]:
        """Return the kind of every switch: leaves have nodes below, spines leaves, cores neither."""
        leaves = {cable.switch for cables in self.ports.values() for cable in cables}
        near = {end for ends in self.trunks if leaves & {*ends} for end in ends}
        switches = dict.fromkeys(
            [*sorted(leaves, key=natural), *(end for ends in self.trunks for end in ends)]
        )
        return {name: "leaf" if name in leaves else "spine" if name in near else "core" for name in switches}


@dataclass(frozen=True)
class Cable:
    """One cable of a node; ``port`` is None where any port may be meant."""

    port: str | None
    switch: str
    rate: float | None


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts ``n2`` before ``n10``."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(name))


def cabling(fabric: FabricView) -> Cabling:
    """Return the cables of a fabric."""
    return _of_listing(fabric) if isinstance(fabric, IbView) else _of_tree(fabric)


def _of_tree(fabric: FabricView) -> Cabling:
    """Return the cables of a tree of names: one from every lower end to every upper one, of unknown rate."""
    found, nodes = Cabling(), set(fabric.nodes)
    for upper, lower, rate in fabric.links:
        if lower in nodes:
            found.ports.setdefault(lower, []).append(Cable(None, _plain(upper), rate))
        else:
            found.trunks[_plain(upper), _plain(lower)] = rate
            found.above.setdefault(_plain(lower), []).append(_plain(upper))
    return found


def _of_listing(fabric: IbView) -> Cabling:
    found, names = Cabling(), _switch_names(fabric)
    homeless = 0
    for near, far, rate in fabric.links:
        if near in names and far in names:
            left, right = sorted((names[near], names[far]), key=natural)
            known = found.trunks.get(pair := (left, right), 0.0)
            found.trunks[pair] = None if known is None or rate is None else known + rate
            continue
        adapter, switch = (far, near) if near in names else (near, far)
        host = fabric.adapters.get(adapter)
        if host is None or switch not in names:
            homeless += adapter in fabric.adapters
            continue
        port = fabric.descriptions[adapter].split()[1]
        found.ports.setdefault(host, []).append(Cable(port, names[switch], rate))
    if homeless:
        found.doubts.append(f"{homeless} cables to adapters of unknown hosts are left out")
    return found


def _switch_names(fabric: IbView) -> dict[str, str]:
    """Return a name for every switch: what it calls itself, or its identity where that is no single name."""
    called = {one: _called(fabric.descriptions.get(one, "")) for one in fabric.switches}
    count = Counter(called.values())
    taken = set(fabric.nodes)
    return {
        one: name if name and count[name] == 1 and name not in taken else one for one, name in called.items()
    }


def _called(description: str) -> str:
    match = _SWITCH_NAME.fullmatch(description)
    return _plain(match[1] if match else description)[:80]


@cache
def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:-]+", "-", name).strip("-")


def matched(cables: Sequence[Cable], ports: Sequence[str]) -> tuple[list[tuple[str, Cable]], list[str]]:
    """Return the port of the machine that each cable of a node ends at, and what was concluded.

    A cable at a port of that name ends there. Cables at ports of other names are taken in the order of their
    names, if there are as many ports. A cable without a port stands for all ports, or for its share of them.
    """
    if all(cable.port is None for cable in cables):
        return _shared(cables, ports)
    own = dict.fromkeys(cable.port for cable in cables if cable.port)
    if all(name in ports for name in own):
        return [(cable.port or "", cable) for cable in cables], []
    ordered = sorted(own, key=natural)
    if len(ordered) != len(ports):
        text = f"the fabric knows {len(ordered)} adapters ({_few(ordered)}), the machine {len(ports)} ports"
        places = dict(zip(ordered, ports, strict=False))
        kept = [(places[cable.port], cable) for cable in cables if cable.port in places]
        return kept, [f"{text} ({_few(ports)}); they are taken in order, and what is left has no cable"]
    places = dict(zip(ordered, ports, strict=True))
    text = f"adapters {_few(ordered)} of the fabric are taken for {_few(ports)} in order"
    return [(places[cable.port], cable) for cable in cables if cable.port], [text]


def _shared(cables: Sequence[Cable], ports: Sequence[str]) -> tuple[list[tuple[str, Cable]], list[str]]:
    if len(cables) == 1:
        return [(port, cables[0]) for port in ports], []
    text = f"no dump tells which port leads to which of {len(cables)} switches; they are taken in turn"
    most = max(len(cables), len(ports))
    return [(ports[i % len(ports)], cables[i % len(cables)]) for i in range(most)], [text]


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "") or "none"


def uplink_rates(found: Cabling, below: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Return the rate of every trunk whose cables state none, bytes/s: as much as hangs below it.

    Parameters
    ----------
    below
        Rate of all ports of nodes at each switch, bytes/s.
    """
    children: dict[str, list[str]] = {}
    for lower, uppers in found.above.items():
        for upper in uppers:
            children.setdefault(upper, []).append(lower)
    carried: dict[str, float] = {}
    for switch in TopologicalSorter(children).static_order():
        shares = (carried[child] / len(found.above[child]) for child in children.get(switch, []))
        carried[switch] = below.get(switch, 0.0) + sum(shares)
    return {
        (upper, lower): carried.get(lower, 0.0) / len(found.above.get(lower, [upper]))
        for (upper, lower), rate in found.trunks.items()
        if rate is None
    }
