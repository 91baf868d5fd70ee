"""Why a plan is as it is: decisions, patterns, what lost, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner import units
from planner.placement.plan import JobPlan, Plan, ServingPlan, TrainingPlan
from planner.report import wording
from planner.report.links import busiest_links
from planner.report.patterns import patterns_table
from planner.report.summary import (
    Summary,
    Table,
    baselines_table,
    decisions_table,
    memory_share,
    placed_tables,
    provenance_note,
)
from planner.simulate.result import SimulationResult
from planner.study import Shadow
from planner.topology import Topology
from planner.workload.jobs import WorkloadDocument


def explanation(
    plan: Plan,
    workload: WorkloadDocument | None,
    topology: Topology,
    simulation: SimulationResult | None = None,
) -> Summary:
    """Return the decisions with what lost, the five patterns by flow, and what limits each job."""
    tables = (
        decisions_table(plan),
        patterns_table(plan, topology, workload),
        limits_table(plan, simulation),
        *placed_tables(plan),
        baselines_table(plan),
    )
    sentence = f"{wording.plan_sentence(plan)}: {wording.status_text(plan)}"
    notes = (*((wording.sentence(plan.proof),) if plan.proof else ()), provenance_note(plan))
    return Summary(plan.name, sentence, tuple(table for table in tables if table.rows), notes)


def shadow_table(answers: Sequence[Shadow], unit: str) -> Table:
    """Return what the objective would be with a little more of the machine."""
    rows = []
    for each in answers:
        if each.value is None or each.bound is None or each.gain is None or each.most is None:
            rows.append((each.question, "-", "-", "-", each.note))
            continue
        value, bound = (
            units.show(number, "s") if unit == "s" else f"{number:g}" for number in (each.value, each.bound)
        )
        rows.append((each.question, value, bound, f"{each.gain:+.1%}", f"{each.most:.1%}"))
    note = "Each solved again from the plan; the last column is the most that the proven bound allows."
    columns = ("question", "objective", "bound", "gain", "at most")
    return Table("With more of it", columns, tuple(rows), (note,))


def limits_table(plan: Plan, simulation: SimulationResult | None = None) -> Table:
    """Return, per job, where the time goes and how full memory is; then the busiest link."""
    rows = [row for job in plan.jobs for row in _job_limits(job)]
    for link in busiest_links(plan, simulation, 1):
        seen = link.simulated
        more = "" if seen is None else f"; saturated {wording.share(seen.saturated)} of the time"
        rate = units.show(link.rate, "bytes/s")
        what = f"{link.source} → {link.target} ({wording.link_kind(link.kind)}, {rate})"
        rows.append(("busiest link", what, f"{wording.share(link.utilisation)} in use{more}"))
    return Table("What limits", ("", "what", "how much"), tuple(rows))


def _job_limits(job: JobPlan) -> Iterator[tuple[str, str, str]]:
    breakdown = job.prediction.breakdown
    total = sum(breakdown.values())
    if total > 0:
        name, value = max(breakdown.items(), key=lambda item: item[1])
        yield (
            f"time of {job.name}",
            wording.plain(name),
            f"{units.show(value, 's')}, {wording.share(value / total)} of {wording.whole(job)}",
        )
    if isinstance(job, TrainingPlan):
        flops = f"{wording.share(job.prediction.model_flops_utilisation)} of peak FLOP/s used"
        yield f"compute of {job.name}", f"{wording.num_gpus(job)} GPUs", flops
    elif isinstance(job, ServingPlan):
        yield (
            f"compute of {job.name}",
            f"{wording.num_gpus(job)} GPUs",
            f"{wording.share(job.prediction.utilisation)} busy",
        )
    if job.memory:
        name, stage = max(
            wording.named_memory(job), key=lambda item: memory_share(item[1].total, item[1].capacity)
        )
        largest = max(stage.parts, key=lambda part: stage.parts[part], default="")
        used, room = units.show(stage.total, "bytes"), units.show(stage.capacity, "bytes")
        full = wording.share(memory_share(stage.total, stage.capacity))
        yield (
            f"memory of {job.name}",
            f"{wording.place_of(job)} {name}, mostly {largest}",
            f"{used} of {room}, {full}",
        )
