"""All nodes at once: small cells coloured by use, grouped by the switches that join them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.report.moments import Ends, Moments
from planner.report.names import fold, natural
from planner.report.node_view import Drawing
from planner.report.palette import load_step
from planner.report.roles import Role
from planner.report.svg import NOTHING, element, group, joined, title
from planner.report.uses import Loads, Occupancy
from planner.report.wording import share
from planner.topology.cluster import Node, Topology
from planner.topology.fabric import fabric_edges
from planner.topology.machine import Edge

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_CELLS = 4096
DETAILED = 256
_CELL, _BIG_CELL, _STEP = 14.0, 30.0, 4.0


@dataclass(frozen=True)
class Fabric:
    """The links that leave the nodes.

    Attributes
    ----------
    at
        Edges by the full name of the node part that they leave or reach.
    uplinks
        Edges between switches, by the switch nearer to the nodes.
    """

    at: Mapping[str, list[Edge]]
    uplinks: Mapping[str, list[Edge]]


def fabric_of(topology: Topology) -> Fabric:
    """Return the links of the fabric, sorted by where they end."""
    parts: dict[str, list[Edge]] = defaultdict(list)
    between: list[Edge] = []
    nodes = topology.node_of
    for edge in fabric_edges(topology):
        inner = [end for end in (edge.source, edge.target) if end.split("/", 1)[0] in nodes and "/" in end]
        for end in inner:
            parts[end].append(edge)
        if not inner:
            between.append(edge)
    near = {
        other
        for end, edges in parts.items()
        for edge in edges
        for other in (edge.source, edge.target)
        if other != end
    }
    uplinks: dict[str, list[Edge]] = defaultdict(list)
    for edge in between:
        for end in (edge.source, edge.target):
            if end in near:
                uplinks[end].append(edge)
    return Fabric(parts, uplinks)


@dataclass(frozen=True)
class Pod:
    """Nodes that the same switches join.

    Attributes
    ----------
    switches
        The switches, nearest to the nodes; empty where nothing is known to join them.
    uplink
        Utilisation of the busiest known link from these switches upwards; ``None`` where none is known.
    uplinks
        Ends of the links from these switches upwards, and of those back.
    """

    label: str
    nodes: tuple[Node, ...]
    switches: tuple[str, ...]
    uplink: float | None
    uplinks: tuple[Ends, ...]


def pods(topology: Topology, fabric: Fabric, loads: Loads | None) -> tuple[Pod, ...]:
    """Return the nodes grouped by the switches they are linked to: by NVLink where it leaves the node."""
    members: dict[tuple[str, ...], list[Node]] = defaultdict(list)
    for node in topology.nodes:
        members[_switches_of(node, fabric)].append(node)
    return tuple(_pod(switches, nodes, fabric, loads) for switches, nodes in members.items())


def _pod(switches: tuple[str, ...], nodes: list[Node], fabric: Fabric, loads: Loads | None) -> Pod:
    links = tuple((edge.source, edge.target) for name in switches for edge in fabric.uplinks.get(name, ()))
    known = [] if loads is None else [loads[ends] for ends in links if ends in loads]
    return Pod(fold(switches, 2) or "nodes", tuple(nodes), switches, max(known, default=None), links)


def _switches_of(node: Node, fabric: Fabric) -> tuple[str, ...]:
    nvlink: set[str] = set()
    network: set[str] = set()
    for part in [*(gpu.name for gpu in node.machine.gpus), *(nic.name for nic in node.machine.nics)]:
        name = f"{node.name}/{part}"
        for edge in fabric.at.get(name, ()):
            other = edge.target if edge.source == name else edge.source
            (nvlink if edge.kind == "nvlink" else network).add(other)
    return tuple(sorted(nvlink or network, key=natural))


class FleetView:
    """Draws pods of node cells.

    Parameters
    ----------
    roles
        As from :func:`planner.report.roles.node_roles`; they colour the cells.
    drawn
        Names of the nodes that are drawn in detail elsewhere; they are outlined.
    moments
        Use of links over time, which the slider of a page shows.
    """

    def __init__(
        self,
        topology: Topology,
        roles: Sequence[Role],
        who: Occupancy,
        drawn: Collection[str],
        moments: Moments | None = None,
    ) -> None:
        self.who, self.moments = who, moments
        self.index = {node.name: position for position, node in enumerate(topology.nodes)}
        self.role_of = {name: role for role in roles for name in role.nodes}
        self.drawn = drawn
        self.detailed = len(topology.nodes) <= DETAILED
        self.fold = -(-len(topology.nodes) // MOST_CELLS)

    def draw(self, pod: Pod) -> Drawing:
        """Return the cells of one pod, with a strip on top coloured by the load of its uplinks."""
        size = _BIG_CELL if self.detailed else _CELL
        heads = list(range(0, len(pod.nodes), self.fold))
        columns = max(1, min(len(heads), 8 if len(heads) <= 64 else 32))
        rows = -(-len(heads) // columns)
        width = columns * (size + _STEP) - _STEP
        top = 10.0 if pod.uplink is not None else 0.0
        cells = [
            self._cell(
                pod.nodes[head : head + self.fold], place % columns * (size + _STEP),
                top + place // columns * (size + _STEP), size,
            )
            for place, head in enumerate(heads)
        ]  # fmt: skip
        strip = NOTHING
        if pod.uplink is not None:
            text = f"busiest uplink of {pod.label}: {share(pod.uplink)} used"
            strip = element(
                "rect",
                title(text),
                x=0,
                y=0,
                width=width,
                height=5.0,
                rx=2.0,
                class_=f"fill-{load_step(pod.uplink)}",
                data_series=None if self.moments is None else self.moments.series(pod.uplinks),
            )
        label = f"{len(pod.nodes)} nodes joined by {pod.label}, coloured by use"
        return Drawing(width, top + rows * (size + _STEP) - _STEP, joined([strip, *cells]), label)

    def _cell(self, nodes: Sequence[Node], x: float, y: float, size: float) -> Markup:
        node = nodes[0]
        role = self.role_of[node.name]
        colour = "idle" if role.colour is None else f"k{role.colour}"
        more = f" to {nodes[-1].name}" if len(nodes) > 1 else ""
        sampled = " sample" if any(each.name in self.drawn for each in nodes) else ""
        text = title(f"{node.name}{more} ({node.machine.name}): {role.label}")
        outline = element(
            "rect", text, x=x, y=y, width=size, height=size, rx=4.0 if self.detailed else 3.0,
            class_=f"cell {colour}{sampled}", data_n=self.index[node.name],
        )  # fmt: skip
        return group(outline, *self._dots(node, x, y, size)) if self.detailed else outline

    def _dots(self, node: Node, x: float, y: float, size: float) -> Iterator[Markup]:
        """Yield one dot per GPU, coloured by its own use."""
        gpus = node.machine.gpus
        if not 1 < len(gpus) <= 16:
            return
        columns = 2 if len(gpus) <= 4 else 4
        rows = -(-len(gpus) // columns)
        pitch = (size - 6) / max(columns, rows)
        left, top = x + (size - pitch * columns) / 2, y + (size - pitch * rows) / 2
        for place, gpu in enumerate(gpus):
            main = self.who.main_group(f"{node.name}/{gpu.name}")
            colour = "idle" if main is None else f"k{main}"
            yield element(
                "rect", x=left + place % columns * pitch + 0.8, y=top + place // columns * pitch + 0.8,
                width=pitch - 1.6, height=pitch - 1.6, rx=1.2, class_=f"dot {colour}",
            )  # fmt: skip
