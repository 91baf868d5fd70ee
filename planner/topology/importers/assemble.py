"""Files of one machine, or of the nodes of a cluster and its fabric, as one topology."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.errors import TopologyError
from planner.topology.cluster import Topology
from planner.topology.importers.cluster import clustered
from planner.topology.importers.detect import carried, read
from planner.topology.importers.document import described
from planner.topology.importers.kinds import Host
from planner.topology.importers.merge import merge
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import FabricView, HostView
from planner.topology.models import TopologyDocument
from planner.topology.resolve import catalogue, load_topology, resolve

DOCUMENT = "topology/1"
_DOCUMENT = re.compile(r"\s*schema:\s*[\"']?topology/1\b")


@dataclass(frozen=True)
class Assembled:
    """A topology that was put together from files.

    Attributes
    ----------
    formats
        Format of every file.
    doubts
        What was repaired or differs, with its place.
    notes
        What is taken on trust.
    """

    document: TopologyDocument
    formats: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def assemble(files: Sequence[Path], name: str | None = None, device: str | None = None) -> Assembled:
    """Return the machine that all files describe, or with a fabric among them the cluster.

    With a fabric, files whose name starts with that of a node (``node-7.xml``, ``node-7.topo.txt``, or any
    file in a folder ``node-7``) describe this node. Others describe one host if they are of different
    formats, and a host each if they are of one.

    Parameters
    ----------
    name
        Name of the document and of the machine; that of the first file when absent.
    device
        Device model of the GPUs whose product no file tells.

    Raises
    ------
    TopologyError
        If a file cannot be read for certain, or the files do not belong together.
    """
    if len(files) == 1 and (whole := carried(files[0])) is not None:
        return Assembled(whole, ("planner",))
    read_files = [(file, _document(file) or read(file)) for file in files]
    formats = tuple(_format(view) for _, view in read_files)
    fabrics = [(file, view) for file, view in read_files if isinstance(view, FabricView)]
    hosts = [(file, view) for file, view in read_files if not isinstance(view, FabricView)]
    if not fabrics:
        machine = _machine(hosts, name or plain_name(files[0]), device)
        return Assembled(machine.document, formats, machine.doubts, machine.notes)
    file, fabric = fabrics[0]
    if len(fabrics) > 1:
        raise TopologyError(f"{file} and {fabrics[1][0]} both describe a fabric; name one of them")
    if not hosts:
        raise ImportRefusedError(
            str(file), 0,
            f"a fabric of {len(fabric.switches)} switches and {len(fabric.nodes)} nodes, not a machine; "
            "name a dump of one of its nodes as well",
        )  # fmt: skip
    groups = _by_host(hosts, fabric)
    machines = [
        (node, _machine(group, name or plain_name(group[0][0]), device, in_cluster=True))
        for node, group in groups
    ]
    found = clustered(
        [Host(machine.source, node, machine.document) for node, machine in machines],
        fabric, str(file), name or plain_name(file),
    )  # fmt: skip
    doubts = [doubt for _, machine in machines for doubt in machine.doubts]
    notes = dict.fromkeys(note for _, machine in machines for note in machine.notes)
    return Assembled(found.document, formats, (*doubts, *found.doubts), (*notes, *found.notes))


@dataclass(frozen=True)
class _Machine:
    """One described machine and what was said on the way."""

    source: str
    document: TopologyDocument
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Read = tuple[Path, HostView | Topology]


def _machine(group: Sequence[Read], name: str, device: str | None, *, in_cluster: bool = False) -> _Machine:
    """Return what several files say of one machine; in a cluster its adapters have their full names."""
    source = " + ".join(str(file) for file, _ in group)
    files = [str(file) for file, view in group if isinstance(view, HostView)]
    views = [view for _, view in group if isinstance(view, HostView)]
    whole = [(file, view) for file, view in group if isinstance(view, Topology)]
    if whole:
        file, topology = whole[0]
        if len(group) > 1:
            raise TopologyError(
                f"{file} is a complete topology; it cannot be merged with dumps of the machine"
            )
        if len(topology.nodes) != 1:
            raise TopologyError(
                f"{file} describes {len(topology.nodes)} nodes; a cluster is made of machines"
            )
        own = topology.document.model_copy(update={"sources": dict(topology.sources)})
        return _Machine(source, own)
    merged = merge(views, files) if len(views) > 1 or in_cluster else views[0]
    document, notes = described(merged, name, catalogue(), device)
    doubts = [
        f"{files[0]}:{remark.line or ''}".rstrip(":") + f": {remark.text}"
        if merged is views[0]
        else remark.text
        for remark in merged.remarks
    ]
    return _Machine(source, document, tuple(doubts), notes)


def _by_host(hosts: Sequence[Read], fabric: FabricView) -> list[tuple[str | None, list[Read]]]:
    """Return the files of every host, with the node that they are named after."""
    nodes = dict.fromkeys(fabric.nodes)
    groups: dict[str | None, list[Read]] = {}
    for file, view in hosts:
        groups.setdefault(node_of(file, nodes), []).append((file, view))
    rest = groups.pop(None, [])
    found: list[tuple[str | None, list[Read]]] = list(groups.items())
    counts = Counter(_format(view) for _, view in rest)
    if len(rest) > 1 and len(counts) == 1:
        return [*found, *((None, [one]) for one in rest)]
    twice = next((form for form, count in counts.items() if count > 1), None)
    if twice is not None:
        names = ", ".join(str(file) for file, view in rest if _format(view) == twice)
        raise TopologyError(
            f"{names} are all {twice}, so they are of several hosts, and nothing tells which of the other "
            f"files belong to which; name them after their nodes, such as {next(iter(nodes), 'node-0')}.xml"
        )
    return [*found, *([(None, rest)] if rest else [])]


def node_of(file: Path, nodes: Mapping[str, object]) -> str | None:
    """Return the node that a file, or the folder that it is in, is named after."""
    if file.parent.name in nodes:
        return file.parent.name
    places = [match.start() for match in re.finditer(r"[._-]", file.name)]
    return next(
        (start for end in (len(file.name), *places[::-1]) if (start := file.name[:end]) in nodes), None
    )


def _document(file: Path) -> Topology | None:
    """Return the topology that a file is, None for a dump."""
    if not file.is_file():
        return None
    if (whole := carried(file)) is not None:
        return resolve(whole)
    with file.open("rb") as stream:
        start = stream.read(4096).decode("utf-8-sig", "replace")
    return load_topology(file) if any(map(_DOCUMENT.match, start.splitlines())) else None


def _format(view: HostView | FabricView | Topology) -> str:
    return DOCUMENT if isinstance(view, Topology) else view.format


def plain_name(file: Path) -> str:
    """Return a name for a machine after a file."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.split(".")[0] or file.resolve().name).strip("-._")
    return plain or "machine"
