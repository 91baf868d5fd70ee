"""What a plan says of an ensemble, as tables for people and figures for programs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from planner import units
from planner.placement.ensemble_plan import EnsemblePlan, EnsemblePool, EnsembleTransfer, GpuInstance
from planner.report import wording
from planner.report.names import fold
from planner.simulate.result import JobSimulation

Row = tuple[str, str, str, str]
STAGE_COLUMNS = ("stage", "classes", "where", "how many", "settings", "busy")
_CARRIERS = {
    "none": "stays where it is", "hand-over": "handed over in host memory", "host-copy": "copied",
    "peer-copy": "copied from GPU to GPU", "staged-copy": "copied through host memory",
}  # fmt: skip


def ensemble_rows(job: EnsemblePlan, result: JobSimulation | None) -> Iterator[tuple[str, ...]]:
    """Yield predicted and simulated figures of an ensemble, class by class."""
    for said in job.prediction.classes:
        seen = None if result is None else result.latency.get(said.name)
        yield f"{said.name}: requests per second", f"{said.rate:g}", ""
        mean, tail = ("", "") if seen is None else (units.show(seen.mean, "s"), units.show(seen.p99, "s"))
        yield f"{said.name}: latency, mean", units.show(said.latency_mean, "s"), mean
        yield f"{said.name}: latency, p99", units.show(said.latency_p99, "s"), tail
    for gpu, busy in job.prediction.gpu_utilisation.items():
        used = None if result is None else result.utilisation.get(gpu)
        yield f"{gpu} busy", wording.share(busy), "" if used is None else wording.share(used)


def stage_rows(job: EnsemblePlan) -> Iterator[tuple[str, ...]]:
    """Yield a row per CPU stage and per group of GPU instances."""
    for stage, pools in groupby(job.pools, key=lambda pool: pool.stage):
        yield _pool_row(stage, list(pools))
    for _, group in groupby(job.instances, key=lambda one: (one.group, one.stage, one.classes)):
        yield _instance_row(list(group))


def _pool_row(stage: str, pools: list[EnsemblePool]) -> tuple[str, ...]:
    first = pools[0]
    where = fold([f"{pool.node}/{pool.numa}" for pool in pools])
    settings = f"{first.workers} workers on {first.cores} cores each, prefetch {first.prefetch}"
    many = f"{len(pools)} pool" + ("s" if len(pools) > 1 else "")
    return stage, "all", where, many, settings, wording.share(max(pool.utilisation for pool in pools))


def _instance_row(instances: list[GpuInstance]) -> tuple[str, ...]:
    first = instances[0]
    where = fold([instance.gpu for instance in instances]) + (f" ({first.mig})" if first.mig else "")
    settings = f"batch {first.max_batch}, window {units.show(first.window, 's')}, {first.priority} priority"
    many = f"{len(instances)} instance" + ("s" if len(instances) > 1 else "")
    classes = ", ".join(first.classes)
    return first.stage, classes, where, many, settings, wording.share(first.utilisation)


def prediction_json(
    job: EnsemblePlan, result: JobSimulation | None
) -> tuple[dict[str, object], dict[str, object]]:
    """Return predicted and simulated figures as plain JSON data."""
    said: dict[str, object] = {"latency_p99_s": job.prediction.latency_p99}
    said["classes"] = {
        each.name: {"latency_mean_s": each.latency_mean, "latency_p99_s": each.latency_p99}
        for each in job.prediction.classes
    }
    seen: dict[str, object] = {}
    if result is not None:
        seen["classes"] = {
            name: {"latency_mean_s": sample.mean, "latency_p99_s": sample.p99}
            for name, sample in result.latency.items()
        }
    return said, seen


def pattern_rows(job: EnsemblePlan, patterns: tuple[str, ...]) -> Iterator[Row]:
    """Yield which of the five patterns an ensemble uses: pattern, flow, decision, why."""
    for stage, pools in groupby(job.pools, key=lambda pool: pool.stage):
        _, _, where, many, settings, busy = _pool_row(stage, list(pools))
        yield patterns[0], f"{job.name}: {stage}", f"{many} on {where}: {settings}", f"{busy} busy"
    for transfer in job.transfers:
        if transfer.mode is not None:
            yield (patterns[1], *_transfer_row(job.name, transfer))
    for _, group in groupby(job.instances, key=lambda one: (one.group, one.stage, one.classes)):
        stage, classes, where, many, settings, busy = _instance_row(list(group))
        yield (
            patterns[4],
            f"{job.name}: {stage} of {classes}",
            f"{many} on {where}",
            f"{settings}; {busy} busy",
        )


def _transfer_row(name: str, transfer: EnsembleTransfer) -> tuple[str, str, str]:
    ends = f"{transfer.source or 'requests'} → {transfer.target or 'answers'}"
    flow = f"{name}: {ends} of {transfer.request}, {units.show(transfer.size, 'bytes')}"
    why = f"{units.show(transfer.seconds, 's')}, {wording.share(transfer.local)} within a NUMA domain"
    if transfer.runner_up is not None and transfer.runner_up_seconds is not None:
        other = units.show(transfer.runner_up_seconds, "s")
        why += f"; {wording.plain(transfer.runner_up)} takes {other}"
    return flow, f"{_CARRIERS[transfer.carrier]}, {wording.plain(str(transfer.mode))}", why
