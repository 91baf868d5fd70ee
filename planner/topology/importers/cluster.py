"""Hosts and a fabric as one cluster: a template for the nodes of a kind, named nodes, switches, cables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError

from planner.errors import TopologyError
from planner.schema import BandwidthFigure, compress, expand
from planner.topology.importers.cabling import Cable, Cabling, cabling, matched, natural, uplink_rates
from planner.topology.importers.figures import sources_of
from planner.topology.importers.ibnet import IbView
from planner.topology.importers.k8s_nodes import KubernetesView
from planner.topology.importers.kinds import Host, Kind, differences, kinds_of
from planner.topology.importers.labels import unlike
from planner.topology.importers.ports import with_ports
from planner.topology.importers.rates import link_rates
from planner.topology.importers.slurm import SlurmView
from planner.topology.importers.views import FabricView
from planner.topology.models import Fabric, Link, LinkKind, Machine, NodeGroup, Switch, TopologyDocument
from planner.topology.resolve import catalogue, resolve

FABRIC = "fabric"
"""Source key of what the fabric file states."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that was put together.

    Attributes
    ----------
    doubts
        What differs between sources, each with both of them, and what was left out.
    notes
        What is taken on trust.
    """

    document: TopologyDocument
    doubts: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Draft:
    """A cluster while it is put together."""

    fabric: FabricView
    source: str
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    kind_of: dict[str, int] = field(default_factory=dict)
    """Place of the machine of every node."""


def clustered(hosts: Sequence[Host], fabric: FabricView, source: str, name: str) -> Cluster:
    """Return the cluster of all nodes of a fabric, those without dumps taken to be like most hosts.

    Parameters
    ----------
    source
        File of the fabric.
    name
        Name of the document.

    Raises
    ------
    TopologyError
        If the fabric has no nodes, or a host differs from the others and no node is named after its dump.
    """
    if not fabric.nodes:
        raise TopologyError(f"{source}: the fabric names no node, so no machine can be put into it")
    draft = _Draft(fabric, source)
    draft.doubts += [
        f"{source}:{remark.line or ''}".rstrip(":") + f": {remark.text}" for remark in fabric.remarks
    ]
    kinds = kinds_of(hosts)
    _assign(draft, kinds)
    cables = cabling(fabric)
    draft.doubts += [f"{source}: {doubt}" for doubt in cables.doubts]
    spanning = [block for block, members in fabric.blocks.items() if len(members) > 1]
    if spanning and not isinstance(fabric, SlurmView):
        draft.doubts.append(
            f"{source}: {len(spanning)} NVLink domains span nodes ({spanning[0]} first); links between nodes "
            "of a domain are not described: add a switch of kind nvswitch under 'fabric'"
        )
    for place, kind in enumerate(kinds):
        draft.machines.append(_template(draft, kind, place, cables))
    document = _document(draft, kinds, cables, name)
    resolve(document)
    return Cluster(document, tuple(draft.doubts), tuple(draft.notes))


def _assign(draft: _Draft, kinds: Sequence[Kind]) -> None:
    """Give every node its kind: that of its own dump, else the most frequent one."""
    first = kinds[0].template
    own = {host.node: number for number, kind in enumerate(kinds) for host in kind.hosts if host.node}
    for kind in kinds[1:]:
        for host in kind.hosts:
            found = differences(first, host)
            text = "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")
            if host.node is None:
                raise TopologyError(
                    f"{host.source} differs from {first.source}: {text}; name the file after a node of "
                    f"{draft.source} (such as {draft.fabric.nodes[0]}), or leave it out"
                )
            draft.doubts.append(
                f"{host.node} differs from the template and gets a machine of its own: {text}"
            )
    facts = draft.fabric.facts if isinstance(draft.fabric, KubernetesView) else {}
    silent = 0
    for node in sorted(draft.fabric.nodes, key=natural):
        place = own.get(node)
        if place is None:
            silent += 1
            against = unlike(facts[node], first.machine) if node in facts else []
            if against:
                draft.doubts += [
                    f"{node} is left out: {what} is {label} in {draft.source}, {other} in {first.source}"
                    for what, label, other in against
                ]
                continue
        draft.kind_of[node] = place or 0
    if silent:
        draft.notes.append(
            f"{silent} of {len(draft.fabric.nodes)} nodes have no dump named after them; they are taken to "
            f"be like {first.source}."
        )
    if not draft.kind_of:
        raise TopologyError(
            f"no node of {draft.source} is like {first.source}:\n  " + "\n  ".join(draft.doubts)
        )


def _template(draft: _Draft, kind: Kind, place: int, cables: Cabling) -> Machine:
    """Return the machine of a kind, with ports where only the fabric knows of them."""
    machine = kind.template.document.machines[0]
    name = machine.name if place == 0 else f"{machine.name}-kind{place}"
    members = [node for node, own in draft.kind_of.items() if own == place]
    known = [cables.ports.get(node, []) for node in members]
    filled, notes = with_ports(machine, known, FABRIC)
    draft.notes += notes
    return filled.model_copy(update={"name": name})


def _document(draft: _Draft, kinds: Sequence[Kind], cables: Cabling, name: str) -> TopologyDocument:
    groups: list[tuple[int, list[str]]] = []
    for node, place in draft.kind_of.items():
        if groups and groups[-1][0] == place:
            groups[-1][1].append(node)
        else:
            groups.append((place, [node]))
    fabric = _fabric(draft, kinds, cables)
    parts = [*draft.machines, *([fabric] if fabric else [])]
    used = {key for part in parts for key in sources_of(part)}
    known = {FABRIC: f"{draft.fabric.format}, as imported", **link_rates().sources}
    for kind in reversed(kinds):
        known |= kind.template.document.sources
    shipped = catalogue()
    own = [device for kind in kinds for device in kind.template.document.devices]
    devices = {device.name: device for device in own if shipped.get(device.name) != device}
    text = f"{len(draft.kind_of)} nodes imported from {draft.fabric.format}. " + " ".join(draft.notes)
    return TopologyDocument(
        name=name,
        description=text.strip(),
        sources={key: said for key, said in known.items() if key in used},
        devices=list(devices.values()),
        machines=draft.machines,
        nodes=[
            NodeGroup(name=pattern, machine=draft.machines[place].name)
            for place, members in groups
            for pattern in compress(members)
        ],
        fabric=fabric,
    )


def _fabric(draft: _Draft, kinds: Sequence[Kind], cables: Cabling) -> Fabric | None:
    """Return switches and cables; None where the fabric joins no two nodes."""
    levels = cables.levels()
    if not levels:
        draft.doubts.append(f"{draft.source}: no switch joins the nodes; they are planned apart")
        return None
    ends = _ends(draft, cables)
    below: dict[str, float] = {}
    for (switch, figure), nodes in ends.items():
        below[switch] = below.get(switch, 0.0) + figure.value * sum(map(len, nodes.values()))
    try:
        guessed = uplink_rates(cables, below)
    except CycleError:
        raise TopologyError(f"{draft.source}: a switch is above itself") from None
    if guessed:
        draft.notes.append("The rates of cables between switches are unknown; uplinks carry all below them.")
    kind = _kind(draft)
    latency = link_rates().latencies.cable
    links = [
        Link(between=(f"{nodes}/{ports}", switch), kind=kind, bandwidth=figure, latency=latency)
        for (switch, figure), members in ends.items()
        for nodes, ports in _folded(members)
    ]
    for (left, figure), others in _trunks(cables, guessed).items():
        links += [
            Link(between=(left, pattern), kind=kind, bandwidth=figure, latency=latency)
            for pattern in compress(sorted(others, key=natural))
        ]
    named: dict[str, list[str]] = {}
    for switch, level in levels.items():
        named.setdefault(level, []).append(switch)
    return Fabric.model_validate({
        "switches": [
            Switch(name=pattern, kind=levels[members[0]])
            for members in named.values()
            for pattern in compress(sorted(members, key=natural))
        ],
        "links": links,
    })  # fmt: skip


Ends = dict[tuple[str, BandwidthFigure], dict[str, list[str]]]
"""Ports of every node by the switch that they lead to and the rate."""


def _ends(draft: _Draft, cables: Cabling) -> Ends:
    ends: Ends = {}
    said: dict[str, int] = {}
    alone = []
    expanded = [resolve_ports(machine) for machine in draft.machines]
    for node, kind in draft.kind_of.items():
        own = cables.ports.get(node, [])
        if not own:
            alone.append(node)
            continue
        pairs, notes = matched(own, list(expanded[kind]))
        for note in notes:
            said[note] = said.get(note, 0) + 1
        for port, cable in pairs:
            key = (cable.switch, _rate(cable, expanded[kind][port]))
            ends.setdefault(key, {}).setdefault(node, []).append(port)
    draft.doubts += [f"{draft.source}: {note} ({count} nodes)" for note, count in said.items()]
    if alone:
        draft.doubts.append(f"{draft.source}: {len(alone)} nodes have no cable, {alone[0]} first")
    return ends


def resolve_ports(machine: Machine) -> dict[str, BandwidthFigure]:
    """Return the rate of every port of a machine by its name, in natural order."""
    ports = {name: nic.bandwidth for nic in machine.nics for name in expand(nic.name)}
    return {name: ports[name] for name in sorted(ports, key=natural)}


def _rate(cable: Cable, port: BandwidthFigure) -> BandwidthFigure:
    return port if cable.rate is None else BandwidthFigure.of(cable.rate, "vendor", FABRIC)


def _trunks(
    cables: Cabling, guessed: Mapping[tuple[str, str], float]
) -> dict[tuple[str, BandwidthFigure], list[str]]:
    trunks: dict[tuple[str, BandwidthFigure], list[str]] = {}
    for (left, right), rate in cables.trunks.items():
        if rate is not None:
            figure = BandwidthFigure.of(rate, "vendor", FABRIC)
        elif guessed[left, right] > 0:
            figure = BandwidthFigure.of(guessed[left, right], "assumed", "trunk")
        else:
            figure = link_rates().links.port  # nothing hangs below
        trunks.setdefault((left, figure), []).append(right)
    return trunks


def _folded(members: Mapping[str, Sequence[str]]) -> Iterable[tuple[str, str]]:
    """Yield patterns of nodes and ports that stand for exactly the given ports of the given nodes."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for node, ports in members.items():
        alike.setdefault(tuple(ports), []).append(node)
    for ports, nodes in alike.items():
        for pattern in compress(nodes):
            for port in compress(ports):
                yield pattern, port


def _kind(draft: _Draft) -> LinkKind:
    if isinstance(draft.fabric, IbView):
        return "infiniband"
    ports = [nic.name for machine in draft.machines for nic in machine.nics]
    kind: LinkKind = "infiniband" if any(name.startswith(("mlx", "ib")) for name in ports) else "ethernet"
    draft.notes.append(f"The kind of the network is not told; {kind} is taken from the names of the ports.")
    return kind
