"""What a plan says of operator graphs and of tables, as tables for people and figures for programs."""

from __future__ import annotations

from collections.abc import Iterator

from planner import units
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.plan import JobPlan
from planner.placement.recommender_plan import PlacedTable, RecommenderPlan
from planner.report import ensembles, wording
from planner.report.names import TIMES
from planner.simulate.result import JobSimulation

Row = tuple[str, str, str, str]
Rows = tuple[tuple[str, ...], ...]
_TIERS = {"cached": "rows in host memory, the hot ones cached on GPU", "host": "read in place"}
MOST_LISTED = 40
"""Most stages or tables that a page lists, the heaviest first."""
STAGE_COLUMNS = ("device", "operators", "time per sample", "compute", "transfers", "memory")
TABLE_COLUMNS = ("table", "sharding", "tier", "shards", "on GPU", "on host", "busiest rank")


def operators_rows(job: OperatorsPlan, result: JobSimulation | None) -> Iterator[tuple[str, ...]]:
    """Yield predicted and simulated figures of an operator graph."""
    said = job.prediction
    seen = None if result is None else result.step_time
    latency = job.objective == "latency"
    rate = "" if result is None or result.throughput is None else f"{result.throughput:,.4g}"
    yield "time between samples", _seconds(said.interval), "" if latency else _seconds(seen)
    first = None if result is None else result.critical_path
    yield "time of one sample", _seconds(said.latency), _seconds(first)
    if not latency:
        yield "samples per second", f"{said.samples_per_second:,.4g}", rate


def recommender_rows(job: RecommenderPlan, result: JobSimulation | None) -> Iterator[tuple[str, ...]]:
    """Yield predicted and simulated figures of a recommender."""
    said = job.prediction
    rate = "" if result is None or result.throughput is None else f"{result.throughput:,.0f}"
    mean = sum(said.rank_seconds) / max(1, len(said.rank_seconds))
    yield "embedding time, busiest rank", _seconds(said.embedding_time), ""
    yield "embedding time, mean rank", _seconds(mean), ""
    yield "dense part", _seconds(said.dense_time), ""
    yield "iteration", _seconds(said.iteration_time), _seconds(result.step_time if result else None)
    yield "samples per second", f"{said.samples_per_second:,.0f}", rate


def _seconds(value: float | None) -> str:
    return "" if value is None else units.show(value, "s")


def listed(job: JobPlan) -> tuple[str, tuple[str, ...], Rows, str] | None:
    """Return title, columns, rows and a note of what a job places one by one; ``None`` for other kinds."""
    if isinstance(job, OperatorsPlan):
        return f"Stages of {job.name}", STAGE_COLUMNS, tuple(_stage_rows(job))[:MOST_LISTED], ""
    if isinstance(job, RecommenderPlan):
        tables = sorted(job.tables, key=lambda table: -table.seconds)
        note = "" if len(tables) <= MOST_LISTED else f"{len(tables) - MOST_LISTED} more in plan.yaml"
        rows = tuple(_table_row(table) for table in tables[:MOST_LISTED])
        return f"Tables of {job.name}", TABLE_COLUMNS, rows, note
    if isinstance(job, EnsemblePlan):
        return f"Stages of {job.name}", ensembles.STAGE_COLUMNS, tuple(ensembles.stage_rows(job)), ""
    return None


def _stage_rows(job: OperatorsPlan) -> Iterator[tuple[str, ...]]:
    memory = {record.stage: record.total for record in job.memory}
    for place, stage in enumerate(job.stages):
        moved = sum(seconds for name, seconds in stage.load.items() if name != "compute")
        yield (
            ", ".join(stage.devices) or f"{job.host} (host)",
            str(len(stage.operators)),
            units.show(stage.seconds, "s"),
            units.show(stage.load.get("compute", 0.0), "s"),
            units.show(moved, "s"),
            units.show(memory[place], "bytes") if place in memory else "",
        )


def _table_row(table: PlacedTable) -> tuple[str, ...]:
    shards = len(table.ranks)
    cut = f"{shards}"
    if len(table.columns) > 1 or len(table.rows) > 1:
        cut = f"{shards} ({len(table.rows)} {TIMES} {len(table.columns)})"
    tier = table.tier if table.tier != "cached" else f"cached {wording.share(table.cache_share)}"
    sizes = (units.show(table.gpu_bytes, "bytes"), units.show(table.host_bytes, "bytes"))
    return table.table, wording.plain(table.sharding), tier, cut, *sizes, units.show(table.seconds, "s")


def prediction_json(
    job: OperatorsPlan | RecommenderPlan | EnsemblePlan, result: JobSimulation | None
) -> tuple[dict[str, object], dict[str, object]]:
    """Return predicted and simulated figures as plain JSON data."""
    if isinstance(job, EnsemblePlan):
        return ensembles.prediction_json(job, result)
    if isinstance(job, OperatorsPlan):
        said: dict[str, object] = {
            "interval_s": job.prediction.interval,
            "latency_s": job.prediction.latency,
            "samples_per_second": job.prediction.samples_per_second,
        }
    else:
        said = {
            "embedding_time_s": job.prediction.embedding_time,
            "dense_time_s": job.prediction.dense_time,
            "iteration_time_s": job.prediction.iteration_time,
            "samples_per_second": job.prediction.samples_per_second,
        }
    seen: dict[str, object] = {}
    if result is not None:
        seen = {"step_time_s": result.step_time, "samples_per_second": result.throughput}
    return said, seen


def pattern_rows(
    job: OperatorsPlan | RecommenderPlan | EnsemblePlan, patterns: tuple[str, ...]
) -> Iterator[Row]:
    """Yield which of the five patterns a job uses: pattern, flow, decision, why."""
    if isinstance(job, EnsemblePlan):
        yield from ensembles.pattern_rows(job, patterns)
        return
    if isinstance(job, OperatorsPlan):
        yield from _operator_patterns(job, patterns)
    else:
        yield from _table_patterns(job, patterns)


def _operator_patterns(job: OperatorsPlan, patterns: tuple[str, ...]) -> Iterator[Row]:
    busiest = max(job.stages, key=lambda stage: stage.seconds)
    for stage in job.stages:
        if stage.on_host:
            why = f"{units.show(stage.seconds, 's')} per sample of {units.show(job.prediction.interval, 's')}"
            flow = f"{job.name}: {len(stage.operators)} operators"
            yield patterns[0], flow, f"on the host of {job.host}", why
    moved = sum(move.seconds for move in job.moves)
    if job.moves:
        outputs = f"{job.name}: {len(job.moves)} outputs that leave their device"
        yield patterns[1], outputs, "copied through host memory", f"{units.show(moved, 's')} one way in all"
    where = ", ".join(busiest.devices) or f"the host of {job.host}"
    why = f"busiest is {where} with {units.show(busiest.seconds, 's')} per sample"
    yield patterns[2], f"{job.name}: {job.model}", wording.job_sentence(job), why


def _table_patterns(job: RecommenderPlan, patterns: tuple[str, ...]) -> Iterator[Row]:
    for tier, text in (
        ("cached", "rows in host memory, the hot ones cached on GPU"),
        ("host", "read in place"),
    ):
        held = [table for table in job.tables if table.tier == tier]
        if held:
            size = units.show(sum(table.host_bytes for table in held), "bytes")
            yield (
                patterns[1],
                f"{job.name}: {len(held)} tables of {size}",
                text,
                "GPU memory is left to others",
            )
    times = job.prediction.rank_seconds
    mean = sum(times) / max(1, len(times))
    over = job.prediction.embedding_time / mean - 1.0 if mean > 0.0 else 0.0
    why = f"the busiest rank is {wording.share(over)} above the mean"
    yield patterns[2], f"{job.name}: {job.model}", wording.job_sentence(job), why
