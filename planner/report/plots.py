"""Figures of one plan for notebooks; every function draws on the axes that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.placement import Plan
from planner.report import wording
from planner.report.links import busiest_links
from planner.report.palette import CATEGORIES, HUES
from planner.report.timeline import unseen
from planner.simulate.result import JobSimulation, SimulationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GB = 1e9
MOST_SPANS = 4000
"""Most intervals that a timeline draws; the first ones of the simulation."""


def plot_memory(ax: Axes, plan: Plan) -> None:
    """Draw the memory of each pipeline stage by part, GB, and the capacity of its device as a line.

    Raises
    ------
    PlanError
        If no job of the plan states its memory.
    """
    stages = [(f"{job.name} {name}", each) for job in plan.jobs for name, each in wording.named_memory(job)]
    if not stages:
        raise PlanError("the plan has no memory by device to draw")
    parts = list(dict.fromkeys(part for _, stage in stages for part in stage.parts))
    left = [0.0] * len(stages)
    for number, part in enumerate(parts):
        widths = [stage.parts.get(part, 0.0) / GB for _, stage in stages]
        ax.barh(range(len(stages)), widths, left=left, color=HUES[number % len(HUES)], label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, (_, stage) in enumerate(stages):
        label = "capacity" if place == 0 else None
        ax.plot([stage.capacity / GB] * 2, [place - 0.45, place + 0.45], color="black", label=label)
    ax.set_yticks(range(len(stages)), [name for name, _ in stages])
    ax.invert_yaxis()
    ax.set_xlabel("memory per device (GB)")
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)


def plot_links(ax: Axes, plan: Plan, simulation: SimulationResult | None = None, most: int = 12) -> None:
    """Draw the use of the busiest links, 0 to 100 %, as predicted and, where there is one, as simulated.

    Raises
    ------
    PlanError
        If no link carries anything.
    """
    links = busiest_links(plan, simulation, most)
    if not links:
        raise PlanError("no link of the plan carries anything")
    labels = [f"{link.source} → {link.target} ({wording.link_kind(link.kind)})" for link in links]
    ax.barh(range(len(links)), [100.0 * link.utilisation for link in links], color=HUES[0], label="mean")
    peaks = [(place, link.simulated.peak) for place, link in enumerate(links) if link.simulated]
    if peaks:
        ax.plot([100.0 * peak for _, peak in peaks], [place for place, _ in peaks], "D", color=HUES[1],
                label="simulated peak")  # fmt: skip
    ax.set_yticks(range(len(links)), labels, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 102)
    ax.set_xlabel("use of the link (%)")
    ax.legend(fontsize=8, loc="lower right")


def plot_latency(ax: Axes, job: JobSimulation, limit: float | None = None) -> None:
    """Draw the cumulative distribution of a service's latency with its percentiles.

    Parameters
    ----------
    limit
        Latency that the 99th percentile must meet, s.

    Raises
    ------
    PlanError
        If the job is no simulated service.
    """
    if not job.latency_cdf:
        raise PlanError(f"job {job.name!r} has no simulated latencies: is it a service, and simulated?")
    ax.step(
        [at for at, _ in job.latency_cdf],
        [100.0 * share for _, share in job.latency_cdf],
        where="post",
        color=HUES[0],
    )
    percentiles = job.latency["latency"]
    for number, (name, share) in enumerate((("p50", 50.0), ("p95", 95.0), ("p99", 99.0)), start=1):
        at = getattr(percentiles, name)
        ax.plot(at, share, "o", color=HUES[number], label=f"{name} {at:.3g} s")
    if limit is not None:
        ax.axvline(limit, color="black", linestyle="--", label=f"limit {limit:.3g} s")
    ax.set_xlim(left=0)
    ax.set_ylim(0, 102)
    ax.set_xlabel("latency (s)")
    ax.set_ylabel("requests at or below (%)")
    ax.legend(fontsize=8, loc="lower right")


def plot_split(ax: Axes, job: JobSimulation) -> None:
    """Draw the mean time that a request spends in each part, s.

    Raises
    ------
    PlanError
        If the job is no simulated service.
    """
    if not job.split:
        raise PlanError(f"job {job.name!r} has no split of its latency: is it a service, and simulated?")
    names = list(job.split)
    bars = ax.barh(range(len(names)), [job.split[name] for name in names], color=HUES[0])
    ax.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    ax.set_yticks(range(len(names)), [wording.plain(name) for name in names])
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set_xlabel("mean time of a request (s)")


def plot_timeline(ax: Axes, job: JobSimulation) -> None:
    """Draw what each stage, copy engine and core pool does over time, s from the start of the simulation.

    Raises
    ------
    PlanError
        If the simulation kept no timeline.
    """
    if not job.timeline:
        raise PlanError(f"job {job.name!r} has no timeline: was it simulated?")
    spans = sorted(job.timeline, key=lambda span: span.start)[:MOST_SPANS]
    tracks = list(dict.fromkeys(span.track for span in spans))
    for category, colour in CATEGORIES.items():
        label: str | None = category
        for place, track in enumerate(tracks):
            mine = [span for span in spans if span.track == track and span.category == category]
            if mine:
                bars = [(span.start, span.end - span.start) for span in mine]
                ax.broken_barh(bars, (place - 0.4, 0.8), facecolors=colour, label=label)
                label = None
    gap = unseen(spans)
    if gap is not None:
        ax.axvspan(*gap, facecolor="none", edgecolor="#bbbbbb", hatch="//", label="not recorded")
    ax.set_yticks(range(len(tracks)), tracks)
    ax.invert_yaxis()
    ax.set_xlabel("time (s)")
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=5)
