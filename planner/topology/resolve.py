"""From a ``topology/1`` document to a `Topology`: presets filled in, names checked, ranges expanded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from planner.errors import TopologyError
from planner.schema import Fault, expand, load, presets
from planner.schema.locate import raise_faults
from planner.topology.checks import Located, parts_of, problems_of_machine, unknown
from planner.topology.cluster import Node, Topology
from planner.topology.fabric import ExplicitLink
from planner.topology.machine import expand_machine, pairs_of, weakest
from planner.topology.models import Device, DeviceCatalogue, Fabric, Link, Machine, TopologyDocument

KIND = "topologies"


def load_topology(reference: str | Path) -> Topology:
    """Load a topology from a file or by the name of a preset.

    Raises
    ------
    DocumentError
        If the document is malformed, or a name in it refers to nothing.
    TopologyError
        If there is neither such a file nor such a preset.
    """
    return resolve(_load_sound(presets.find(KIND, reference, TopologyError)))


def _load_sound(path: Path) -> TopologyDocument:
    document = load(path, TopologyDocument)
    raise_faults(path, [Fault(place, message) for place, message in find_problems(document)])
    return document


@cache
def shipped_devices() -> DeviceCatalogue:
    """Return the shipped catalogue of devices, with its sources."""
    return load(presets.folder(KIND) / "devices.yaml", DeviceCatalogue)


def catalogue(document: TopologyDocument | None = None) -> dict[str, Device]:
    """Return the device models by name: the shipped ones and those of the document, which win."""
    own = document.devices if document is not None else []
    return {device.name: device for device in [*shipped_devices().devices, *own]}


def find_problems(
    document: TopologyDocument, devices: Mapping[str, Device] | None = None
) -> Iterator[Located]:
    """Yield every dangling or doubled name with its place in the document."""
    known = catalogue(document) if devices is None else devices
    machines: dict[str, Machine] = {}
    for index, machine in enumerate(document.machines):
        if machine.name in machines:
            yield ("machines", index, "name"), f"the machine {machine.name!r} is defined twice"
        machines[machine.name] = machine
        if machine.preset is not None:
            yield from _problems_of_preset(index, machine.preset)
        for place, message in problems_of_machine(machine, known):
            yield ("machines", index, *place), message
    yield from _problems_of_nodes(document, machines)
    if document.fabric is not None and all(_is_known(machine) for machine in machines.values()):
        yield from _problems_of_fabric(document.fabric, _parts_of_nodes(document, machines))


def _is_known(machine: Machine) -> bool:
    return machine.preset is None or not list(_problems_of_preset(0, machine.preset))


def _problems_of_preset(index: int, preset: str) -> Iterator[Located]:
    place = ("machines", index, "preset")
    if not presets.exists(KIND, preset):
        yield place, unknown("preset", preset, dict.fromkeys(presets.names(KIND)))
        return
    inner = _preset(preset)
    if inner.nodes or len(inner.machines) > 1:
        machines = dict.fromkeys(machine.preset or machine.name for machine in inner.machines)
        yield place, f"the preset {preset!r} is a cluster, not a machine; it is made of {', '.join(machines)}"


@cache
def _preset(name: str) -> TopologyDocument:
    return _load_sound(presets.folder(KIND) / f"{name}.yaml")


def _problems_of_nodes(document: TopologyDocument, machines: Mapping[str, Machine]) -> Iterator[Located]:
    seen: set[str] = set()
    for index, group in enumerate(document.nodes):
        if group.machine not in machines:
            yield ("nodes", index, "machine"), unknown("machine", group.machine, machines)
        for name in expand(group.name):
            if name in seen:
                yield ("nodes", index, "name"), f"the node {name!r} is named twice"
                break
            seen.add(name)
    if not document.nodes and len(document.machines) > 1:
        yield ("machines",), "several machines are described: say under 'nodes' which of them exist"


def _parts_of_nodes(
    document: TopologyDocument, machines: Mapping[str, Machine]
) -> dict[str, set[str] | None]:
    """Return the names of the parts of every node, ``None`` for nodes of unknown machines."""
    groups = [(name, group.machine) for group in document.nodes for name in expand(group.name)]
    groups = groups or [(document.machines[0].name, document.machines[0].name)]
    parts: dict[str, set[str]] = {}
    for name, machine in machines.items():
        spec = machine if machine.preset is None else _preset(machine.preset).machines[0]
        parts[name] = {
            one for group in parts_of(spec).values() for part in group for one in expand(part.name)
        }
    return {node: parts.get(machine) for node, machine in groups}


def _problems_of_fabric(fabric: Fabric, nodes: Mapping[str, set[str] | None]) -> Iterator[Located]:
    switches: set[str] = set()
    for index, switch in enumerate(fabric.switches):
        for name in expand(switch.name):
            if name in switches:
                yield ("fabric", "switches", index, "name"), f"the switch {name!r} is named twice"
            switches.add(name)
    for index, link in enumerate(fabric.links):
        place = ("fabric", "links", index, "between")
        try:
            ends = {end for pair in pairs_of(link) for end in pair}
        except ValueError as error:
            yield place, str(error)
            continue
        for end in sorted(ends):
            message = _problem_of_end(end, switches, nodes)
            if message:
                yield place, f"dangling link: {message}"
                break


def _problem_of_end(end: str, switches: set[str], nodes: Mapping[str, set[str] | None]) -> str:
    node, slash, part = end.partition("/")
    if not slash:
        return "" if end in switches else unknown("switch", end, switches)
    if node not in nodes:
        return unknown("node", node, nodes)
    parts = nodes[node]
    return "" if parts is None or part in parts else f"node {node!r}: {unknown('part', part, parts)}"


def resolve(document: TopologyDocument, devices: Mapping[str, Device] | None = None) -> Topology:
    """Return the topology of a document.

    Raises
    ------
    TopologyError
        If a name in the document refers to nothing. `load_topology` says where in the file.
    """
    known = catalogue(document) if devices is None else devices
    problems = [
        f"{'.'.join(map(str, place))}: {message}" for place, message in find_problems(document, known)
    ]
    if problems:
        raise TopologyError("\n".join(problems))
    full, sources = _complete(document, known)
    types = {machine.name: expand_machine(machine, known) for machine in full.machines}
    nodes = [
        Node(name, types[group.machine], group.labels) for group in full.nodes for name in expand(group.name)
    ] or [Node(full.machines[0].name, types[full.machines[0].name], {})]
    _check_ports(full, nodes)
    links = full.fabric.links if full.fabric is not None else []
    cables = tuple(_cable(link, *ends) for link in links for ends in pairs_of(link))
    return Topology(full, tuple(nodes), _expand_switches(full.fabric), cables, sources)


def _cable(link: Link, left: str, right: str) -> ExplicitLink:
    back = link.reverse_bandwidth or link.bandwidth
    trust = weakest(figure.provenance for figure in (link.bandwidth, back, link.latency))
    return ExplicitLink(
        left, right, link.kind, link.bandwidth.value, back.value, link.latency.value, trust, link.coherent,
        link.duplex.value if link.duplex is not None else None,
    )  # fmt: skip


def _complete(
    document: TopologyDocument, known: Mapping[str, Device]
) -> tuple[TopologyDocument, dict[str, str]]:
    """Return the document with presets and used devices written out, and the sources of all its figures."""
    machines: list[Machine] = []
    sources = dict(shipped_devices().sources)
    for machine in document.machines:
        if machine.preset is None:
            machines.append(machine)
            continue
        inner = _preset(machine.preset)
        sources.update(inner.sources)
        own = {"name": machine.name, "description": machine.description or inner.description}
        price = machine.price or inner.machines[0].price
        machines.append(inner.machines[0].model_copy(update={**own, "price": price}))
    used = {gpu.device for machine in machines for gpu in machine.gpus}
    devices = [known[name] for name in sorted(used)]
    full = document.model_copy(update={"machines": machines, "devices": devices})
    return full, {**sources, **document.sources}


def _expand_switches(fabric: Fabric | None) -> Fabric | None:
    if fabric is None:
        return None
    switches = [s.model_copy(update={"name": name}) for s in fabric.switches for name in expand(s.name)]
    return fabric.model_copy(update={"switches": switches})


def _check_ports(document: TopologyDocument, nodes: list[Node]) -> None:
    """Refuse a regular fabric around a node with GPUs that has no port to be cabled with."""
    if document.fabric is None or document.fabric.layout is None:
        return
    for node in nodes:
        if node.machine.gpus and not any(nic.bandwidth.value for nic in node.machine.nics):
            raise TopologyError(
                f"fabric.layout: node {node.name!r} of machine {node.machine.name!r} has no network port; "
                "describe its ports under 'nics'"
            )
