"""What a plan decides for a job, as named settings in words, so that two plans can be laid side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from planner import units
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.plan import JobPlan, ServingPlan, Strategy, TrainingPlan
from planner.placement.recommender_plan import RecommenderPlan
from planner.report import ensembles, wording
from planner.report.names import TIMES, fold, spans

Setting = tuple[str, str]

_STRATEGY = {
    "tp": "tensor parallel", "pp": "pipeline stages", "cp": "context parallel", "ep": "expert parallel",
    "adp": "attention data parallel", "virtual": "virtual stages",
    "offload": "in host memory",
}  # fmt: skip
"""Names of the fields of a strategy where they are not the field's own words."""
_APART = ("dp", "micro_batch")


def settings(job: JobPlan) -> dict[str, str]:
    """Return every decision of a job by name; the names are those of the reasons of the plan."""
    if isinstance(job, OperatorsPlan):
        found = _operators(job)
    elif isinstance(job, RecommenderPlan):
        found = _recommender(job)
    elif isinstance(job, EnsemblePlan):
        found = _ensemble(job)
    elif isinstance(job, TrainingPlan):
        found = _training(job)
    else:
        found = _serving(job)
    gpus = job.gpus()
    return {"model": job.model, "GPUs": f"{len(gpus)}: {fold(gpus)}" if gpus else "none", **dict(found)}


def _strategy(strategy: Strategy) -> Iterator[Setting]:
    for field, value in strategy:
        if field not in _APART:
            shown = ("on" if value else "off") if isinstance(value, bool) else str(value)
            yield _STRATEGY.get(field, wording.plain(field)), shown


def _training(job: TrainingPlan) -> Iterator[Setting]:
    yield from _strategy(job.strategy)
    yield "data parallel", str(job.strategy.dp)
    yield "micro-batch", f"{job.strategy.micro_batch} {TIMES} {job.num_micro_batches}"
    yield "layers per stage", wording.layers_text(job.layers)
    if job.recompute_layers:
        yield "recomputed layers per stage", wording.layers_text(job.recompute_layers)
    if job.device_models:
        yield "device models", ", ".join(job.device_models)


def _serving(job: ServingPlan) -> Iterator[Setting]:
    yield from _strategy(job.strategy)
    yield "replicas", str(len(job.replicas))
    yield "layers per stage", wording.layers_text(job.layers)
    yield "most sequences per batch", str(job.batching.max_batch)
    yield "most prompt tokens per chunk", str(job.batching.max_tokens)
    yield "batch window", units.show(job.batching.window, "s")
    yield "priority", job.priority
    yield "MIG slice", job.mig or "none"
    for replica in job.replicas[:1]:
        for stage in replica.stages:
            yield f"CPU stage {stage.stage}", f"{stage.cores} cores of {stage.numa} ({stage.core_list})"
        for transfer in replica.transfers:
            yield f"memory mode, {transfer.name}", transfer.mode


def _ensemble(job: EnsemblePlan) -> Iterator[Setting]:
    for stage, classes, where, many, chosen, _ in ensembles.stage_rows(job):
        yield f"{stage} of {classes}", f"{many} on {where}: {chosen}"
    for transfer in job.transfers:
        if transfer.mode is not None:
            ends = f"{transfer.source or 'requests'} to {transfer.target or 'answers'}"
            yield f"memory mode, {ends} of {transfer.request}", transfer.mode


def _operators(job: OperatorsPlan) -> Iterator[Setting]:
    yield "stages", str(len(job.stages))
    yield "parts of the graph", "consecutive" if job.contiguous else "any"
    for index, stage in enumerate(job.stages):
        where = "the host" if stage.on_host else fold(stage.devices)
        names = fold(stage.operators)
        yield f"stage {index}", f"{len(stage.operators)} operators on {where}: {names}"


def _recommender(job: RecommenderPlan) -> Iterator[Setting]:
    ways = Counter(wording.plain(table.sharding) for table in job.tables)
    tiers = Counter(table.tier for table in job.tables)
    yield "sharding", ", ".join(f"{many} {way}" for way, many in sorted(ways.items()))
    yield "tiers", ", ".join(f"{many} {tier}" for tier, many in sorted(tiers.items()))
    for table in job.tables:
        ranks = spans(sorted(set(table.ranks)))
        yield f"table {table.table}", f"{wording.plain(table.sharding)}, {table.tier}, ranks {ranks}"
