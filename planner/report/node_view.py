"""One node as a picture: sockets, switches, GPUs and network ports as chips, links coloured by their load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner import units
from planner.report import wording
from planner.report.layout import Bar, Box, MachineLayout, arc_depth, arch_depth, lay_out
from planner.report.moments import Ends, Moments
from planner.report.names import TIMES
from planner.report.palette import load_step
from planner.report.svg import NOTHING, element, group, joined, number, shorten, title
from planner.report.uses import Loads, Occupancy, Use, describe
from planner.topology.cluster import Node
from planner.topology.machine import Edge

if TYPE_CHECKING:
    from markupsafe import Markup

_SIDE = 2.4


@dataclass(frozen=True)
class Drawing:
    """A piece of SVG with its size, px, and a sentence that says the same."""

    width: float
    height: float
    body: Markup
    label: str

    def svg(self, class_: str = "drawing") -> Markup:
        """Return it as an inline SVG image."""
        return element(
            "svg", self.body, class_=class_, role="img", aria_label=self.label,
            viewBox=f"0 0 {number(self.width)} {number(self.height)}",
            width=self.width, height=self.height,
        )  # fmt: skip


class NodeView:
    """Draws one node.

    Parameters
    ----------
    outside
        Edges that leave the node, by the full name ``NODE/PART`` of the part they leave from or reach.
    moments
        Use of links over time, which the slider of a page shows.
    """

    def __init__(
        self,
        node: Node,
        who: Occupancy,
        loads: Loads | None,
        outside: Mapping[str, list[Edge]] | None = None,
        moments: Moments | None = None,
    ) -> None:
        self.node, self.who, self.loads, self.moments = node, who, loads, moments
        self.outside = outside or {}
        far = {gpu.name: self._far_switches(gpu.name) for gpu in node.machine.gpus}
        self.layout: MachineLayout = lay_out(node.machine, far)
        machine = node.machine
        self._gpus = {gpu.name for gpu in machine.gpus}
        self._place = {numa.name: index for index, numa in enumerate(machine.numa)}
        self._place |= {gpu.name: index for index, gpu in enumerate(machine.gpus)}

    def draw(self) -> Drawing:
        """Return the picture."""
        frames = [
            element("rect", x=b.x, y=b.y, width=b.width, height=b.height, rx=12.0, class_="frame")
            for b in self.layout.frames
        ]
        body = joined([*frames, *self._links(), *self._chips()])
        machine = self.node.machine
        label = (
            f"Node {self.node.name}, a {machine.name}: {len(machine.numa)} NUMA domains, "
            f"{len(machine.gpus)} GPUs, {len(machine.switches)} switches "
            f"and {len(machine.nics)} network ports, links coloured by load"
        )
        return Drawing(self.layout.width, self.layout.height, body, label)

    def _full(self, part: str) -> str:
        return f"{self.node.name}/{part}"

    def _load(self, source: str, target: str) -> float | None:
        return None if self.loads is None else self.loads.get((source, target))

    def _series(self, *links: Ends) -> int | None:
        return None if self.moments is None else self.moments.series(links)

    def _far_switches(self, part: str) -> frozenset[str]:
        name = self._full(part)
        edges = (edge for edge in self.outside.get(name, ()) if edge.kind == "nvlink")
        return frozenset(edge.target if edge.source == name else edge.source for edge in edges)

    def _links(self) -> Iterator[Markup]:
        barred = {switch for bar in self.layout.bars for switch in bar.switches if not bar.outside}
        for edge in self.node.machine.graph.edges:
            if not barred.intersection(edge):
                yield self._link(self.node.machine.graph.edges[edge]["edge"])
        for bar in self.layout.bars:
            for gpu in bar.gpus:
                yield from self._risers(bar, gpu)

    def _link(self, edge: Edge) -> Markup:
        boxes = self.layout.boxes
        ends = self._full(edge.source), self._full(edge.target)
        load = self._load(*ends)
        first = edge.source < edge.target
        hops = abs(self._place.get(edge.source, 0) - self._place.get(edge.target, 0))
        direct = self._is_gpu(edge.source) and self._is_gpu(edge.target)
        bend = arc_depth(hops) if direct else -arch_depth(hops)
        path = connect(boxes[edge.source], boxes[edge.target], _SIDE if first else -_SIDE, bend)
        return wire(path, load, edge.kind, _edge_text(edge, load), self._series(ends))

    def _is_gpu(self, part: str) -> bool:
        return part in self._gpus

    def _risers(self, bar: Bar, gpu: str) -> Iterator[Markup]:
        """Yield both directions between a GPU and a bar of switches, coloured by the busiest link."""
        box, x = self.layout.boxes[gpu], self.layout.boxes[gpu].middle
        for up, side in ((False, -_SIDE), (True, _SIDE)):
            edges = list(self._edges_to(bar, gpu, up))
            if not edges:
                continue
            seen = [
                value
                for value in (self._load(edge.source, edge.target) for edge in edges)
                if value is not None
            ]
            load = max(seen, default=None)
            path = f"M{number(x + side)} {number(box.bottom)}V{number(bar.box.y)}"
            ends = (_bar_name(bar), gpu) if up else (gpu, _bar_name(bar))
            rate = units.show(sum(edge.rate for edge in edges), "bytes/s")
            text = f"{ends[0]} → {ends[1]}: {wording.link_kind('nvlink')}, {rate} in all"
            series = self._series(*((edge.source, edge.target) for edge in edges))
            yield wire(path, load, "nvlink", text + _load_text(load, "busiest link "), series)

    def _edges_to(self, bar: Bar, gpu: str, up: bool) -> Iterator[Edge]:
        graph, name = self.node.machine.graph, self._full(gpu)
        if bar.outside:
            yield from (
                e for e in self.outside.get(name, ()) if e.kind == "nvlink" and (e.target == name) == up
            )
            return
        for switch in bar.switches:
            ends = (switch, gpu) if up else (gpu, switch)
            if graph.has_edge(*ends):
                edge: Edge = graph.edges[ends]["edge"]
                yield Edge(
                    self._full(edge.source), self._full(edge.target), edge.kind, edge.rate, edge.latency,
                    edge.coherent, edge.provenance,
                )  # fmt: skip

    def _chips(self) -> Iterator[Markup]:
        machine, boxes = self.node.machine, self.layout.boxes
        for numa in machine.numa:
            busy = self.who.cores.get(self._full(numa.name), [])
            used = min(sum(cores for _, cores in busy) / numa.cores, 1.0)
            memory = units.show(numa.memory.value, "bytes")
            what = "; ".join(f"{name}: {cores} cores" for name, cores in busy)
            text = f"{numa.name}: {numa.cpu or numa.arch}, {numa.cores} cores, {memory}" + (
                f"; {what}" if what else ""
            )
            lines = (f"{numa.name} · {numa.arch}", f"{numa.cores} cores · {memory}")
            yield chip(boxes[numa.name], "numa", lines, text, used if busy else None)
        for switch in machine.switches:
            if switch.name in boxes:
                yield chip(
                    boxes[switch.name],
                    "switch",
                    (switch.name,),
                    f"{switch.name}: {wording.SWITCHES[switch.kind]}",
                    None,
                )
        for gpu in machine.gpus:
            yield self._gpu_chip(gpu.name)
        for nic in machine.nics:
            yield self._nic_chip(nic.name, nic.bandwidth.value, nic.rail)
        for bar in self.layout.bars:
            names = ", ".join(bar.switches[:8]) + (", …" if len(bar.switches) > 8 else "")
            yield chip(bar.box, "switch", (_bar_name(bar),), f"{_bar_name(bar)}: {names}", None)

    def _gpu_chip(self, name: str) -> Markup:
        full, device = self._full(name), self.node.machine.device_of(name)
        uses, groups = self.who.of(full), self.who.groups
        memory = units.show(device.memory.value, "bytes")
        text = f"{full}: {device.name}, {memory}; {describe(uses, groups)}"
        if not uses:
            return chip(self.layout.boxes[name], "gpu idle", (name, "not used"), text, None, data=full)
        share = groups[uses[0].group].memory_share
        text += "" if share is None else f"; memory {wording.share(share)} full"
        lines = (name, self._short(uses))
        return chip(self.layout.boxes[name], f"gpu k{uses[0].group}", lines, text, share, data=full)

    def _short(self, uses: list[Use]) -> str:
        """Return what a GPU does in a word: stage and tensor part, where there are several."""
        if len(uses) > 1:
            return f"{len(uses)} parts"
        found = self.who.groups[uses[0].group]
        staged = any(other.stage > 0 and other.job == found.job for other in self.who.groups)
        return f"S{found.stage} · T{uses[0].tensor}" if staged else f"part {uses[0].tensor}"

    def _nic_chip(self, name: str, rate: float, rail: int | None) -> Markup:
        box, full = self.layout.boxes[name], self._full(name)
        text = f"{full}: network port, {units.show(rate, 'bytes/s')}" + (
            "" if rail is None else f", rail {rail}"
        )
        ports = []
        for edge in self.outside.get(full, ()):
            load = self._load(edge.source, edge.target)
            out = edge.source == full
            x = box.x + 5 if out else box.middle + 1
            path = f"M{number(x)} {number(box.bottom + 4)}h{number(box.width / 2 - 6)}"
            series = self._series((edge.source, edge.target))
            ports.append(wire(path, load, edge.kind, _edge_text(edge, load), series))
        return joined([chip(box, "nic", (name,), text, None, data=full), *ports])


def _bar_name(bar: Bar) -> str:
    kind = "NVLink switch" if bar.outside else "NVSwitch"
    return (f"{kind} {TIMES} {len(bar.switches)}" if len(bar.switches) > 1 else kind) + (
        " outside the node" if bar.outside else ""
    )


def _edge_text(edge: Edge, load: float | None) -> str:
    kind = wording.link_kind(edge.kind)
    more = ", coherent" if edge.coherent else ""
    rate, latency = units.show(edge.rate, "bytes/s"), units.show(edge.latency, "s")
    return (
        f"{edge.source} → {edge.target}: {kind}, {rate}, {latency}{more}, {edge.provenance}{_load_text(load)}"
    )


def _load_text(load: float | None, which: str = "") -> str:
    return "" if load is None else f"; {which}{wording.share(load)} used"


def wire(path: str, load: float | None, kind: str, text: str, series: int | None = None) -> Markup:
    """Return one direction of a link, its colour and width telling the load; ``series``: that over time."""
    return element("path", title(text), d=path, class_=f"wire {load_step(load)} {kind}", data_series=series)


def chip(
    box: Box, class_: str, lines: tuple[str, ...], text: str, share: float | None, data: str | None = None
) -> Markup:
    """Return a labelled box; ``share`` fills a thin gauge along its lower edge."""
    fits = max(3, int((box.width - 6) / 6.1))
    height = box.height - (8 if share is not None else 0)
    first = box.y + height / 2 + 4 - 7 * (len(lines) - 1)
    words = [
        element(
            "text", shorten(line, fits), x=box.middle, y=first + 14 * index, class_="sub" if index else "name"
        )
        for index, line in enumerate(lines)
    ]
    gauge = NOTHING
    if share is not None:
        inner = box.width - 12
        gauge = joined([
            element("rect", x=box.x + 6, y=box.bottom - 10, width=inner, height=4.0, rx=2.0, class_="gauge"),
            element(
                "rect", x=box.x + 6, y=box.bottom - 10, width=inner * min(share, 1.0), height=4.0, rx=2.0,
                class_="level",
            ),
        ])  # fmt: skip
    outline = element("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=7.0, class_="body")
    inside = group(title(text), outline, *words, gauge, class_=f"chip {class_}")
    return inside if data is None else element("g", inside, data_part=data)


def connect(source: Box, target: Box, side: float, bend: float) -> str:
    """Return the path from one box to another.

    Parameters
    ----------
    side
        Distance from the middle, px, so that both directions show.
    bend
        How far a link between boxes of one row goes round what is between them, px; below when positive.
    """
    if source.bottom <= target.y or target.bottom <= source.y:
        return _drop(source, target, side)
    gap = max(source.x, target.x) - min(source.right, target.right)
    if bend < 0 and gap <= (70.0 if source.width > 100 else 40.0):
        left, right = (source.right, target.x) if source.x < target.x else (source.x, target.right)
        y = source.y + min(source.height, target.height) / 2 + side
        return f"M{number(left)} {number(y)}H{number(right)}"
    return _arc(source, target, side, bend)


def _drop(source: Box, target: Box, side: float) -> str:
    """Return the path between rows: straight down where the upper box is above, else a curve."""
    upper, lower = (source, target) if source.y < target.y else (target, source)
    end, top, bottom = lower.middle + side, number(upper.bottom), number(lower.y)
    inset = 8.0 if upper.width > 100 else 12.0
    start = upper.middle + side
    if upper.x + inset <= end <= upper.right - inset:
        return f"M{number(end)} {top}V{bottom}"
    if upper.width > 100:
        start = min(max(end, upper.x + inset), upper.right - inset)
    middle = number((upper.bottom + lower.y) / 2)
    return f"M{number(start)} {top}C{number(start)} {middle} {number(end)} {middle} {number(end)} {bottom}"


def _arc(source: Box, target: Box, side: float, bend: float) -> str:
    start, end = number(source.middle + side), number(target.middle + side)
    y = source.bottom if bend > 0 else source.y
    turn = number(y + (bend + side) * 4 / 3)  # the middle of a cubic lies at three quarters of its handles
    return f"M{start} {number(y)}C{start} {turn} {end} {turn} {end} {number(y)}"
