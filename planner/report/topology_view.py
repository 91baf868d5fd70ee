"""A machine or cluster as one picture; see `topology_text` for the same in words."""

from __future__ import annotations

from markupsafe import Markup

from planner.report.fleet_view import FleetView, fabric_of, pods
from planner.report.names import TIMES
from planner.report.node_view import Drawing, NodeView
from planner.report.palette import LOAD_LABELS
from planner.report.roles import Role, node_roles
from planner.report.style import drawing_css
from planner.report.svg import element, group, joined, number
from planner.report.topology_text import topology_text
from planner.report.uses import Loads, Occupancy
from planner.topology.cluster import Topology

__all__ = ["more_like_this", "topology_svg", "topology_text"]

_MARGIN, _HEADING, _WIDTH = 24.0, 30.0, 1060.0


def topology_svg(topology: Topology, loads: Loads | None = None) -> str:
    """Return the machine or cluster as a standalone SVG document.

    One node of each machine type is drawn in full; where there are several nodes, a grid shows them all.

    Parameters
    ----------
    loads
        Utilisation, 0 to 1, of directed links by ``(source, target)``, ends named as in the cluster graph:
        ``NODE/PART`` or a fabric switch. A link that it lacks is grey.
    """
    who = Occupancy()
    fabric = fabric_of(topology)
    roles = node_roles(topology, who, loads or {})
    blocks: list[tuple[str, Drawing]] = []
    for role in roles:
        view = NodeView(role.sample, who, loads, fabric.at)
        blocks.append((f"{role.sample.name} · {role.sample.machine.name}{more_like_this(role)}", view.draw()))
    if len(topology.nodes) > 1:
        fleet = FleetView(topology, roles, who, {role.sample.name for role in roles})
        blocks += [(pod.label, fleet.draw(pod)) for pod in pods(topology, fabric, loads)]
    body, width, height = _flow(blocks)
    legend = _legend(width) if loads is not None else group()
    height += 30 if loads is not None else 0
    label = f"Topology {topology.name}: {len(topology.nodes)} nodes, {len(topology.gpus)} GPUs"
    return str(
        element(
            "svg",
            element("style", Markup(drawing_css(1))),
            body,
            group(legend, y=height - 40),
            xmlns="http://www.w3.org/2000/svg",
            class_="drawing",
            role="img",
            aria_label=label,
            viewBox=f"0 0 {number(width)} {number(height)}",
            width=width,
            height=height,
        )
    )


def more_like_this(role: Role) -> str:
    """Return ``" · x 2047 more like this"`` for a role of several nodes."""
    others = len(role.nodes) - 1
    return f" · {TIMES} {others} more like this" if others else ""


def _flow(blocks: list[tuple[str, Drawing]]) -> tuple[Markup, float, float]:
    """Return headed drawings set in lines from left to right, and the size of the whole."""
    placed: list[Markup] = []
    x, y, line, width = _MARGIN, _MARGIN, 0.0, 0.0
    for heading, drawing in blocks:
        size = max(drawing.width, 7.2 * len(heading))
        if x > _MARGIN and x + size > _WIDTH:
            x, y, line = _MARGIN, y + line + _MARGIN, 0.0
        text = element("text", heading, x=0, y=16, class_="left name")
        placed.append(group(text, group(drawing.body, y=_HEADING), x=x, y=y))
        width, line = max(width, x + size + _MARGIN), max(line, drawing.height + _HEADING)
        x += size + _MARGIN
    return joined(placed), width, y + line + _MARGIN


def _legend(width: float) -> Markup:
    pieces = []
    for step, label in enumerate(LOAD_LABELS):
        x = _MARGIN + 64 * step
        pieces.append(element("rect", x=x, y=0, width=60, height=8, rx=2.0, class_=f"fill-u{step}"))
        pieces.append(element("text", f"{'from ' * bool(step)}{label}", x=x + 30, y=22, class_="sub"))
    return joined(pieces)
