"""A plan as plain tables for the terminal, and as figures for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from planner import units
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.plan import JobPlan, Plan, ServingPlan, TrainingPlan
from planner.placement.recommender_plan import RecommenderPlan
from planner.placement.records import StageMemory
from planner.report import ensembles, placed, wording
from planner.report.links import busiest_links
from planner.report.names import DASH
from planner.simulate.result import JobSimulation, SimulationResult


@dataclass(frozen=True)
class Table:
    """A titled table of text.

    Attributes
    ----------
    notes
        Sentences to print below the rows.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """Tables under one title, with sentences above and below them."""

    title: str
    sentence: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def plan_summary(plan: Plan, simulation: SimulationResult | None = None) -> Summary:
    """Return what was decided, how good it is proven to be, what it gives, and why the next best lost."""
    performance = [performance_table(job, job_simulation(simulation, job.name)) for job in plan.jobs]
    tables = [_result(plan), *performance, *placed_tables(plan), memory_table(plan)]
    tables.append(links_table(plan, simulation))
    tables += [baselines_table(plan), decisions_table(plan)]
    return Summary(
        plan.name,
        wording.plan_sentence(plan),
        tuple(table for table in tables if table.rows),
        (provenance_note(plan),),
    )


def provenance_note(plan: Plan) -> str:
    """Return how much of the objective rests on assumptions."""
    if not plan.assumed_share:
        return "No part of the objective rests on assumed numbers."
    return f"{wording.share(plan.assumed_share)} of the objective rests on assumed numbers."


def _result(plan: Plan) -> Table:
    objective, solver = plan.objective, plan.solver
    rows = (
        ("status", wording.status_text(plan)),
        (wording.objective_name(objective), wording.objective_text(objective, objective.value)),
        ("bound", wording.objective_text(objective, plan.bound)),
        ("gap", wording.share(plan.gap)),
        ("search", _search(plan, f"in {units.show(solver.seconds, 's')}")),
        *((f"{job.name}", f"{wording.num_gpus(job)} GPUs") for job in plan.jobs),
    )
    return Table("Result", ("", ""), rows, (wording.sentence(plan.proof),) if plan.proof else ())


def _search(plan: Plan, time: str) -> str:
    """Return what was searched; of strategies, how many were placed."""
    if all(isinstance(job, TrainingPlan | ServingPlan) for job in plan.jobs):
        return f"{plan.solver.visited} of {plan.solver.candidates} strategies placed {time}"
    return time


def placed_tables(plan: Plan) -> list[Table]:
    """Return what jobs place one by one: stages of operator graphs, tables of recommenders."""
    found = [placed.listed(job) for job in plan.jobs]
    return [
        Table(title, columns, rows, (note,) * bool(note))
        for title, columns, rows, note in filter(None, found)
    ]


def performance_table(job: JobPlan, result: JobSimulation | None) -> Table:
    """Return predicted and, where there are any, simulated figures of a job."""
    rows = list(_rows(job, result))
    width = 2 if result is None else 3
    columns = ("", "predicted", "simulated")[:width]
    shown = tuple(row[:width] for row in rows)
    return Table(f"Performance of {job.name}", columns, shown, _predicted_notes(job, result))


def _rows(job: JobPlan, result: JobSimulation | None) -> Iterator[tuple[str, ...]]:
    if isinstance(job, TrainingPlan):
        return _training_rows(job, result)
    if isinstance(job, ServingPlan):
        return _serving_rows(job, result)
    if isinstance(job, OperatorsPlan):
        return placed.operators_rows(job, result)
    if isinstance(job, EnsemblePlan):
        return ensembles.ensemble_rows(job, result)
    return placed.recommender_rows(job, result)


def job_simulation(simulation: SimulationResult | None, name: str) -> JobSimulation | None:
    """Return what the simulation says of a job."""
    jobs = simulation.jobs if simulation is not None else []
    return next((job for job in jobs if job.name == name), None)


def _predicted_notes(job: JobPlan, result: JobSimulation | None) -> tuple[str, ...]:
    parts = sorted(job.prediction.breakdown.items(), key=lambda item: -item[1])
    what = wording.whole(job)
    notes = (
        [
            f"{what} goes to "
            + ", ".join(f"{wording.plain(name)} {units.show(value, 's')}" for name, value in parts)
        ]
        if parts
        else []
    )
    if result is not None and result.slo_met is not None:
        notes.append(
            "every limit holds in the simulation" if result.slo_met else "a limit is missed in the simulation"
        )
    return tuple(wording.sentence(note) for note in notes)


def _seconds(value: float | None) -> str:
    return "" if value is None else units.show(value, "s")


def _training_rows(job: TrainingPlan, result: JobSimulation | None) -> Iterator[tuple[str, ...]]:
    said = job.prediction
    bubble = "" if result is None or result.bubble is None else wording.share(result.bubble)
    rate = "" if result is None or result.throughput is None else f"{result.throughput:,.0f}"
    yield "step time", _seconds(said.step_time), _seconds(result.step_time if result else None)
    yield "tokens per second", f"{said.tokens_per_second:,.0f}", rate
    yield "model FLOP utilisation", wording.share(said.model_flops_utilisation), ""
    yield "pipeline bubble", wording.share(said.bubble), bubble


def _serving_rows(job: ServingPlan, result: JobSimulation | None) -> Iterator[tuple[str, ...]]:
    said = job.prediction
    rate = "" if result is None or result.throughput is None else f"{result.throughput:,.0f}"
    yield "offered requests per second", f"{said.rate:g}", ""
    yield "tokens per second", f"{said.throughput_tokens_per_second:,.0f}", rate
    yield "mean batch", f"{said.batch:.1f}", ""
    yield "GPU utilisation", wording.share(said.utilisation), ""
    means = {"latency": said.latency_mean, "ttft": said.ttft_mean, "tpot": said.tpot_mean}
    tails = {"latency": said.latency_p99, "ttft": said.ttft_p99, "tpot": said.tpot_p99}
    for metric, name in wording.METRICS.items():
        seen = result.latency.get(metric) if result is not None else None
        yield f"{name}, mean", _seconds(means[metric]), _seconds(seen.mean if seen else None)
        if seen is not None:
            yield f"{name}, p50", "", _seconds(seen.p50)
            yield f"{name}, p95", "", _seconds(seen.p95)
        yield f"{name}, p99", _seconds(tails[metric]), _seconds(seen.p99 if seen else None)


def memory_table(plan: Plan) -> Table:
    """Return the memory of a device of each stage, by part."""
    rows = []
    for job in plan.jobs:
        for name, stage in _folded(job):
            parts = ", ".join(
                f"{wording.plain(part)} {units.show(size, 'bytes')}"
                for part, size in stage.parts.items()
                if size
            )
            used, room = units.show(stage.total, "bytes"), units.show(stage.capacity, "bytes")
            rows.append(
                (
                    job.name,
                    name,
                    used,
                    room,
                    wording.share(memory_share(stage.total, stage.capacity)),
                    parts,
                )
            )
    named = {wording.place_of(job) for job in plan.jobs}
    columns = ("job", " or ".join(sorted(named)), "used", "capacity", "share", "parts")
    return Table("Memory per device", columns, tuple(rows))


def _folded(job: JobPlan) -> Iterator[tuple[str, StageMemory]]:
    """Yield the memory records of a job by number; neighbouring ranks that hold as much are one."""
    if not isinstance(job, RecommenderPlan):
        yield from wording.named_memory(job)
        return
    for _, group in groupby(job.memory, key=lambda stage: (stage.parts, stage.capacity)):
        first, *others = group
        yield f"{first.stage}{DASH}{others[-1].stage}" if others else str(first.stage), first


def memory_share(used: float, capacity: float) -> float:
    """Return the share of a capacity in use; 1 of no capacity at all."""
    return used / capacity if capacity else 1.0


def links_table(plan: Plan, simulation: SimulationResult | None, most: int = 10) -> Table:
    """Return the busiest links."""
    rows = []
    for link in busiest_links(plan, simulation, most):
        seen = link.simulated
        more = ("", "") if seen is None else (wording.share(seen.peak), wording.share(seen.saturated))
        rate = units.show(link.rate, "bytes/s")
        rows.append(
            (
                link.source,
                link.target,
                wording.link_kind(link.kind),
                rate,
                wording.share(link.utilisation),
                *more,
            )
        )
    columns = ("from", "to", "kind", "rate", "mean use", "peak", "saturated")
    simulated = any(row[-1] for row in rows)
    if not simulated:
        return Table("Busiest links", columns[:5], tuple(row[:5] for row in rows))
    return Table("Busiest links", columns, tuple(rows), ("Saturated: share of the time at 95 % or above.",))


def baselines_table(plan: Plan) -> Table:
    """Return the gain over each simple rule."""
    rows = tuple(
        (
            item.name,
            wording.objective_text(plan.objective, item.value),
            wording.ratio_text(item.ratio),
            item.note,
        )
        for item in plan.baselines
    )
    return Table(
        "Gain over simple rules", ("rule", wording.objective_name(plan.objective), "relative", "note"), rows
    )


def decisions_table(plan: Plan) -> Table:
    """Return every decision with the alternative that lost."""
    rows = tuple(
        (item.decision, item.chosen, item.alternative, wording.loss_text(item.loss), item.reason)
        for item in plan.why
    )
    return Table("Why", ("decision", "chosen", "runner-up", "worse by", "reason"), rows)


def summary_json(plan: Plan, simulation: SimulationResult | None, plan_path: str | Path) -> dict[str, object]:
    """Return the figures of a plan as plain JSON data; times in s, sizes in bytes, rates in bytes/s.

    The fields of ``prediction`` are those of the first job; ``prediction.jobs`` has them for every job.
    """
    predictions = {job.name: _prediction(job, job_simulation(simulation, job.name)) for job in plan.jobs}
    stages = [
        (memory_share(stage.total, stage.capacity), job.name, stage)
        for job in plan.jobs
        for _, stage in wording.named_memory(job)
    ]
    fullest = max(stages, key=lambda item: item[0], default=None)
    memory: dict[str, object] = {"largest_share": None}
    if fullest is not None:
        largest, name, stage = fullest
        where = {"job": name, "stage": stage.stage}
        memory = {"largest_share": largest, **where, "bytes": stage.total, "capacity": stage.capacity}
    objective = plan.objective
    return {
        "status": plan.status,
        "objective": {"name": objective.name, "value": objective.value, "unit": objective.unit},
        "bound": plan.bound,
        "gap": plan.gap,
        "solve_seconds": plan.solver.seconds,
        "limits": [
            {
                "job": each.job, "name": each.name, "limit_s": each.limit, "predicted_s": each.predicted,
                "simulated_s": each.simulated,
            }
            for each in plan.simulated
        ],
        "baselines": {item.name: item.ratio for item in plan.baselines},
        "plan": str(plan_path),
        "prediction": {**predictions[plan.jobs[0].name], "jobs": predictions},
        "memory": memory,
        "links": [
            {
                "source": link.source, "target": link.target, "kind": link.kind, "rate": link.rate,
                "utilisation": link.utilisation,
            }
            for link in busiest_links(plan, simulation)
        ],
        "provenance": {"assumed_share": plan.assumed_share},
    }  # fmt: skip


def _prediction(job: JobPlan, result: JobSimulation | None) -> dict[str, object]:
    """Return predicted figures, and simulated ones under ``simulated``."""
    if isinstance(job, TrainingPlan):
        said: dict[str, object] = {
            "step_time_s": job.prediction.step_time,
            "tokens_per_second": job.prediction.tokens_per_second,
            "model_flops_utilisation": job.prediction.model_flops_utilisation,
        }
        seen: dict[str, object] = {} if result is None else {"step_time_s": result.step_time}
    elif isinstance(job, OperatorsPlan | RecommenderPlan | EnsemblePlan):
        said, seen = placed.prediction_json(job, result)
    else:
        fields = ("ttft_mean", "ttft_p99", "tpot_mean", "tpot_p99", "latency_mean", "latency_p99")
        said = {"throughput_tokens_per_second": job.prediction.throughput_tokens_per_second}
        said |= {f"{name}_s": getattr(job.prediction, name) for name in fields}
        seen = {} if result is None else _percentiles(result)
    return {"kind": job.kind, **said, "simulated": seen or None}


def _percentiles(result: JobSimulation) -> dict[str, object]:
    seen: dict[str, object] = {"throughput_tokens_per_second": result.throughput, "slo_met": result.slo_met}
    for metric, sample in result.latency.items():
        for name in ("mean", "p50", "p95", "p99"):
            seen[f"{metric}_{name}_s"] = getattr(sample, name)
    return seen
