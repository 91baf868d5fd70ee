"""The sections of the report page, each as plain data and finished pictures for the template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from planner import units
from planner.placement.plan import JobPlan, Plan
from planner.placement.records import StageMemory
from planner.report import wording
from planner.report.charts import CdfChart, legend, part_classes, stacked_bar
from planner.report.links import busiest_links
from planner.report.names import DASH, TIMES
from planner.report.palette import Swatch
from planner.report.summary import Table, job_simulation, memory_share, performance_table
from planner.report.svg import NOTHING
from planner.report.timeline import Timeline, timeline
from planner.simulate.result import JobSimulation, SimulationResult
from planner.workload.jobs import ServingJob, Slo, WorkloadDocument

if TYPE_CHECKING:
    from markupsafe import Markup


_PREDICTED = {
    "training": "predicted step",
    "serving": "predicted p99",
    "recommender": "predicted iteration",
    "ensemble": "predicted p99",
}


@dataclass(frozen=True)
class Fact:
    """A figure to read at a glance, with a line that puts it in context."""

    name: str
    value: str
    context: str


@dataclass(frozen=True)
class BarRow:
    """A bar with a label on its left and a figure on its right."""

    label: str
    bar: Markup
    figure: str
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """Bars that share a scale and a legend."""

    title: str
    rows: tuple[BarRow, ...]
    legend: tuple[Swatch, ...] = ()


def facts(plan: Plan, simulation: SimulationResult | None) -> Iterator[Fact]:
    """Yield the figures of the page's head."""
    objective = plan.objective
    yield Fact(
        wording.objective_name(objective),
        wording.objective_text(objective, objective.value),
        _simulated(plan, simulation),
    )
    yield Fact(
        "proven bound",
        wording.objective_text(objective, plan.bound),
        "no plan of the search space is below it",
    )
    yield Fact(
        "gap",
        wording.share(plan.gap),
        "proven optimal" if plan.status == "optimal" else "the best possible is at most this much better",
    )
    ratios = [(item.ratio, item.name) for item in plan.baselines if item.ratio is not None]
    if ratios:
        ratio, name = min(ratios)
        how = "better than" if ratio >= 1.005 else "as good as"
        yield Fact("gain", f"{ratio:.2f} {TIMES}", f"{how} the best simple rule, {name}")
    stages = [
        (memory_share(stage.total, stage.capacity), f"{wording.place_of(job)} {name}")
        for job in plan.jobs
        for name, stage in wording.named_memory(job)
    ]
    if stages:
        fullest = max(stages, key=lambda item: item[0])
        yield Fact("fullest memory", wording.share(fullest[0]), f"of a device, on {fullest[1]}")
    for link in busiest_links(plan, simulation, 1):
        yield Fact("busiest link", wording.share(link.utilisation), f"{link.source} → {link.target}")
    yield Fact(
        "on assumptions",
        wording.share(plan.assumed_share),
        "share of the objective that rests on assumed numbers",
    )


def _simulated(plan: Plan, simulation: SimulationResult | None) -> str:
    """Return what the simulation says of the objective."""
    for job in simulation.jobs if simulation is not None else ():
        if plan.objective.name == "step_time" and job.step_time is not None:
            return f"simulated {units.show(job.step_time, 's')}"
        if plan.objective.name in ("sample_interval", "sample_latency") and job.step_time is not None:
            return f"simulated {units.show(job.step_time, 's')}"
        if plan.objective.name == "p99_latency" and "latency" in job.latency:
            return f"simulated {units.show(job.latency['latency'].p99, 's')}"
    return "predicted"


def breakdown_bars(job: JobPlan, result: JobSimulation | None) -> Bars | None:
    """Return where the predicted time goes, and where the simulated latency goes."""
    bars = {_PREDICTED.get(job.kind, "predicted"): dict(job.prediction.breakdown)}
    if result is not None and result.split:
        bars["simulated mean"] = dict(result.split)
    return time_bars(bars)


def time_bars(bars: Mapping[str, Mapping[str, float]]) -> Bars | None:
    """Return times by part, s, as bars of one scale; those of no time at all are left out."""
    bars = {label: parts for label, parts in bars.items() if sum(parts.values()) > 0}
    if not bars:
        return None
    classes = part_classes([name for parts in bars.values() for name in parts])
    full = max(sum(parts.values()) for parts in bars.values())
    rows = tuple(
        BarRow(
            label,
            stacked_bar(parts, classes, full, "s", _words(label, parts, "s")),
            units.show(sum(parts.values()), "s"),
        )
        for label, parts in bars.items()
    )
    return Bars("Where the time goes", rows, legend(classes))


def _words(label: str, parts: Mapping[str, float], unit: str) -> str:
    listed = ", ".join(f"{wording.plain(name)} {units.show(value, unit)}" for name, value in parts.items())
    return f"{label}: {listed}"


def memory_bars(job: JobPlan) -> Bars | None:
    """Return the memory of a device of each stage; neighbours that are equal share a bar."""
    return compared_memory(job.name, {"": job})


def compared_memory(title: str, jobs: Mapping[str, JobPlan]) -> Bars | None:
    """Return the memory of a device of each stage of jobs on one scale, each stage with its job's label."""
    stages = [stage for job in jobs.values() for _, stage in wording.named_memory(job)]
    if not stages:
        return None
    classes = part_classes([name for stage in stages for name in stage.parts])
    full = 1.02 * max(max(stage.total, stage.capacity) for stage in stages)
    rows = [row for label, job in jobs.items() for row in _memory_rows(label, job, classes, full)]
    return Bars(title, tuple(rows), legend(classes))


def _memory_rows(label: str, job: JobPlan, classes: Mapping[str, str], full: float) -> Iterator[BarRow]:
    for role, stages in wording.memory_by_pool(job):
        what = " ".join(filter(None, (label, role, wording.place_of(job))))
        yield from _pool_rows(what, stages, classes, full)


def _pool_rows(
    what: str, stages: Sequence[StageMemory], classes: Mapping[str, str], full: float
) -> Iterator[BarRow]:
    for first, last in _equal_runs(stages):
        name = f"{what} {first.stage}" if first is last else f"{what}s {first.stage}{DASH}{last.stage}"
        used, room = units.show(first.total, "bytes"), units.show(first.capacity, "bytes")
        bar = stacked_bar(
            first.parts, classes, full, "bytes", _words(name, first.parts, "bytes"), first.capacity
        )
        share = wording.share(memory_share(first.total, first.capacity))
        over = "does not fit" if first.total > first.capacity else ""
        yield BarRow(name, bar, f"{used} of {room} · {share}", over)


def _equal_runs(stages: Sequence[StageMemory]) -> Iterator[tuple[StageMemory, StageMemory]]:
    for _, run in groupby(stages, key=lambda stage: (stage.parts, stage.capacity)):
        first, *others = run
        yield first, [first, *others][-1]


@dataclass(frozen=True)
class Latency:
    """The latency of a served job: its distribution, and percentiles with their intervals and limits."""

    chart: Markup
    table: Table
    verdict: str
    met: bool | None


def latency(result: JobSimulation | None, slo: Slo | None) -> Latency | None:
    """Return the simulated latency of a job, or ``None`` where nothing was simulated."""
    if result is None or not result.latency:
        return None
    limits = {} if slo is None else {"latency": slo.latency_p99, "ttft": slo.ttft_p99, "tpot": slo.tpot_p99}
    chart, whole = NOTHING, result.latency.get("latency")
    if result.latency_cdf and whole is not None:
        marks = {"p50": whole.p50, "p95": whole.p95, "p99": whole.p99}
        words = ", ".join(f"{name} {units.show(value, 's')}" for name, value in marks.items())
        chart = CdfChart(result.latency_cdf, marks, limits.get("latency")).svg(
            f"Latency distribution: {words}"
        )
    verdict = {True: "every limit holds", False: "a limit is missed", None: ""}[result.slo_met]
    return Latency(chart, _percentile_table(result, limits), verdict, result.slo_met)


def _percentile_table(result: JobSimulation, limits: dict[str, float | None]) -> Table:
    """Return percentiles by row and metrics by column, with half of each interval."""
    samples = result.latency.items()
    rows = [("mean", *(units.show(sample.mean, "s") for _, sample in samples))]
    for name in ("p50", "p95", "p99"):
        cells = [(getattr(sample, name), getattr(sample, f"{name}_interval")) for _, sample in samples]
        rows.append(
            (
                name,
                *(
                    f"{units.show(at, 's')} ± {units.show(max(high - low, 0.0) / 2, 's')}"
                    for at, (low, high) in cells
                ),
            )
        )
    if any(limits.values()):
        rows.append(("limit", *(_limit_text(sample.p99, limits.get(metric)) for metric, sample in samples)))
    return Table(
        "Latency", ("", *(wording.METRICS.get(metric, metric) for metric, _ in samples)), tuple(rows)
    )


def _limit_text(p99: float, limit: float | None) -> str:
    return "" if limit is None else f"{'✓ within' if p99 <= limit else '✗ over'} {units.show(limit, 's')}"


def baseline_bars(plan: Plan) -> Bars | None:
    """Return the plan beside the simple rules; shorter is better."""
    if not plan.baselines:
        return None
    values = [item.value for item in plan.baselines if item.value is not None]
    full = max([plan.objective.value, *values])
    rows = [
        BarRow(
            "this plan",
            _bar("this plan", plan.objective.value, full, "p0"),
            _value(plan, plan.objective.value),
        )
    ]
    for item in sorted(plan.baselines, key=lambda each: (each.value is None, each.value or 0.0)):
        bar = NOTHING if item.value is None else _bar(item.name, item.value, full, "p8")
        figure = (
            wording.ratio_text(None)
            if item.value is None
            else f"{_value(plan, item.value)} · {wording.ratio_text(item.ratio)}"
        )
        rows.append(BarRow(item.name, bar, figure, item.note))
    return Bars(wording.objective_name(plan.objective), tuple(rows))


def _bar(name: str, value: float, full: float, class_: str) -> Markup:
    return stacked_bar({name: value}, {name: class_}, full, "1", f"{name}: {value:.3g}")


def _value(plan: Plan, value: float) -> str:
    return wording.objective_text(plan.objective, value)


@dataclass(frozen=True)
class JobSections:
    """What the page shows of one job."""

    name: str
    model: str
    sentence: str
    performance: Table
    breakdown: Bars | None
    memory: Bars | None
    timeline: Timeline | None
    latency: Latency | None


def _brief(job: JobPlan, result: JobSimulation | None) -> Table:
    """Return the performance of a job without what the page draws elsewhere."""
    table = performance_table(job, result)
    rows = tuple(row for row in table.rows if not row[0].endswith((", p50", ", p95")))
    return Table(table.title, table.columns, rows)


def job_sections(
    plan: Plan, simulation: SimulationResult | None, workload: WorkloadDocument | None
) -> list[JobSections]:
    """Return the sections of every job."""
    limits = (
        {job.name: job.slo for job in workload.jobs if isinstance(job, ServingJob)}
        if workload is not None
        else {}
    )
    made = []
    for job in plan.jobs:
        result = job_simulation(simulation, job.name)
        made.append(
            JobSections(
                job.name, job.model, wording.job_sentence(job), _brief(job, result),
                breakdown_bars(job, result), memory_bars(job), None if result is None else timeline(result),
                latency(result, limits.get(job.name)),
            )
        )  # fmt: skip
    return made
