"""The report of a plan: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from planner.placement.plan import Plan
from planner.report import sections, wording
from planner.report.causes import causes_tables, run_note
from planner.report.charts import stacked_bar
from planner.report.explain import limits_table
from planner.report.fleet_view import Fabric, FleetView, fabric_of, pods
from planner.report.heat_map import heat_map
from planner.report.link_rows import link_rows
from planner.report.links import link_loads
from planner.report.moments import Moments
from planner.report.names import TIMES, count
from planner.report.node_view import NodeView
from planner.report.origins import Origin, origins, provenance_counts
from planner.report.palette import LOAD_LABELS, Swatch
from planner.report.patterns import patterns_table
from planner.report.roles import Role, most_telling, node_roles
from planner.report.style import asset, chart_css, drawing_css
from planner.report.svg import clean
from planner.report.templating import template
from planner.report.topology_text import topology_text
from planner.report.tradeoff import trade_offs
from planner.report.uses import Loads, Occupancy, occupancy
from planner.simulate.result import SimulationResult
from planner.study.alternatives import Alternative
from planner.topology import Topology
from planner.workload.jobs import WorkloadDocument

MOST_DRAWN = 6
WIDE = 780.0
MOST_INDEXED = 65_536
MOST_ASSUMED = 40


def render_report(
    plan: Plan,
    topology: Topology,
    simulation: SimulationResult | None,
    workload: WorkloadDocument | None = None,
    others: Mapping[str, Sequence[Alternative]] | None = None,
) -> str:
    """Return the page as HTML: no scripts, styles, fonts or pictures from elsewhere.

    Parameters
    ----------
    topology
        The machine that the plan was made for.
    simulation
        What the simulator saw; without it the page shows predictions only.
    workload
        The jobs; adds the limits on latency and the work of CPU stages.
    others
        What other numbers of GPUs would give to each job (:mod:`planner.study.alternatives`).
    """
    who, loads = occupancy(plan), link_loads(plan, simulation)
    tables = limits_table(plan, simulation), patterns_table(plan, topology, workload)
    found = origins(topology)
    return template("page.html.j2").render(
        plan=plan,
        title=plan.name,
        sentence=wording.plan_sentence(plan),
        status=wording.status_text(plan),
        proof=wording.sentence(plan.proof),
        facts=list(sections.facts(plan, simulation)),
        machine=_machine(topology, who, loads, Moments(simulation)),
        jobs=sections.job_sections(plan, simulation, workload),
        causes=causes_tables(simulation),
        run=run_note(simulation) if simulation is not None else "",
        links=link_rows(plan, simulation),
        heat=heat_map(simulation),
        baselines=sections.baseline_bars(plan),
        trade_offs=trade_offs(plan, others or {}),
        decisions=[(item, wording.loss_text(item.loss)) for item in plan.why],
        tables=[table for table in tables if table.rows],
        origin=_origin(plan, topology, workload, found),
        inputs=[(name, getattr(plan.inputs, name)) for name in ("topology", "workload", "calibration")],
        simulation=simulation,
        index=_index(topology, who),
        css=Markup(asset("page.css") + drawing_css(len(who.groups)) + chart_css()),
        js=Markup(asset("page.js")),
    )  # fmt: skip


@dataclass(frozen=True)
class DrawnRole:
    """One node drawn in detail for all that are like it; a wide one takes a row of its own."""

    heading: str
    what: str
    more: str
    svg: Markup
    wide: bool


@dataclass(frozen=True)
class DrawnPod:
    """Cells of the nodes that the same switches join."""

    label: str
    size: str
    svg: Markup


@dataclass(frozen=True)
class MachineSection:
    """The machine, drawn and in words; ``moments`` is the data of the slider over time."""

    name: str
    size: str
    roles: tuple[DrawnRole, ...]
    left_out: str
    pods: tuple[DrawnPod, ...]
    uses: tuple[Swatch, ...]
    loads: tuple[Swatch, ...]
    text: str
    moments: Mapping[str, Any] | None


def _machine(topology: Topology, who: Occupancy, loads: Loads, moments: Moments) -> MachineSection:
    fabric = fabric_of(topology)
    roles = node_roles(topology, who, loads)
    chosen = most_telling(roles, loads, MOST_DRAWN)
    drawn = tuple(_drawn(role, who, loads, fabric, moments) for role in chosen)
    others = [role for role in roles if role not in chosen]
    left_out = ""
    if others:
        nodes = count(sum(len(role.nodes) for role in others), "node")
        left_out = (
            f"{count(len(others), 'more role')} ({nodes}) not drawn in detail; the cells below show them."
        )
    fleet = FleetView(topology, roles, who, {role.sample.name for role in chosen}, moments)
    groups = pods(topology, fabric, loads) if len(topology.nodes) > 1 else ()
    cells = tuple(DrawnPod(pod.label, count(len(pod.nodes), "node"), fleet.draw(pod).svg()) for pod in groups)
    uses = [Swatch(f"k{index}", group.label) for index, group in enumerate(who.groups)]
    size = f"{count(len(topology.nodes), 'node')}, {count(len(topology.gpus), 'GPU')}"
    steps = tuple(Swatch(f"fill-u{step}", label) for step, label in enumerate(LOAD_LABELS))
    text = topology_text(topology)
    return MachineSection(topology.name, size, drawn, left_out, cells, tuple(uses), steps, text, moments.data)


def _drawn(role: Role, who: Occupancy, loads: Loads, fabric: Fabric, moments: Moments) -> DrawnRole:
    others, machine = len(role.nodes) - 1, role.sample.machine.name
    more = f"{TIMES} {others} more like this" if others else ""
    what = role.label if role.sample.name == machine else f"{machine} · {role.label}"
    drawing = NodeView(role.sample, who, loads, fabric.at, moments).draw()
    return DrawnRole(role.sample.name, what, more, drawing.svg(), drawing.width > WIDE)


@dataclass(frozen=True)
class OriginSection:
    """How far the numbers can be trusted."""

    counts: tuple[tuple[str, int], ...]
    bar: Markup
    assumed: tuple[Origin, ...]
    num_assumed: int
    sources: tuple[tuple[str, str], ...]


def _origin(
    plan: Plan, topology: Topology, workload: WorkloadDocument | None, found: list[Origin]
) -> OriginSection:
    counts = provenance_counts(found)
    classes = {"measured": "p2", "vendor": "p0", "nccl-constant": "p5", "assumed": "p1"}
    total = sum(counts.values())
    label = "Numbers of the machine: " + ", ".join(f"{value:.0f} {name}" for name, value in counts.items())
    assumed = [origin for origin in found if origin.provenance == "assumed"]
    sources = {**topology.sources, **(workload.sources if workload is not None else {})}
    used = {origin.source for origin in found} | set(workload.sources if workload is not None else ())
    return OriginSection(
        tuple((f"{classes[name]}|{name}", int(value)) for name, value in counts.items()),
        stacked_bar(counts, classes, total, "1", label),
        tuple(assumed[:MOST_ASSUMED]),
        len(assumed),
        tuple((key, text) for key, text in sources.items() if key in used),
    )


def _index(topology: Topology, who: Occupancy) -> dict[str, object]:
    """Return what the search box looks through: nodes, their GPUs and what each does."""
    types = {machine.name: number for number, machine in enumerate(topology.machine_types)}
    index: dict[str, object] = {
        "nodes": [clean(node.name) for node in topology.nodes],
        "type": [types[node.machine.name] for node in topology.nodes],
        "machines": [clean(machine.name) for machine in topology.machine_types],
        "gpus": [[clean(gpu.name) for gpu in machine.gpus] for machine in topology.machine_types],
        "groups": [clean(group.label) for group in who.groups],
    }
    if len(topology.gpus) <= MOST_INDEXED:
        index["uses"] = [
            [
                [[use.group, clean(use.detail)] for use in who.of(f"{node.name}/{gpu.name}")]
                for gpu in node.machine.gpus
            ]
            for node in topology.nodes
        ]
    return index
