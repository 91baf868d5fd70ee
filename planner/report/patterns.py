"""Which of the five deployment patterns applies to which flow of a plan, and why, in numbers of the plan."""

from __future__ import annotations

from collections.abc import Iterator

from planner import units
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.plan import JobPlan, ModelPlan, Plan, Replica, ServingPlan, TrainingPlan, Transfer
from planner.placement.recommender_plan import RecommenderPlan
from planner.report import wording
from planner.report.locality import AXES, common_level, reaches
from planner.report.names import count
from planner.report.placed import pattern_rows
from planner.report.summary import Table, memory_share
from planner.report.uses import full_name
from planner.topology import Level, Route, Topology, route
from planner.workload import CpuStage
from planner.workload.jobs import AnyJob, ServingJob, WorkloadDocument

Row = tuple[str, str, str, str]
PATTERNS = (
    "CPU pre/post-processing",
    "zero-copy and coherence",
    "model partitioning",
    "topology-aware placement",
    "adaptive batching and priority",
)
_LEVELS = {
    "nvlink": "each within one NVLink domain",
    "pcie": "each within one PCIe tree",
    "socket": "each within one node, across sockets",
    "node": "each within one node",
    "leaf": "each below one leaf switch",
    "fabric": "across the fabric",
}
_ABSENT = {
    PATTERNS[0]: "no job has CPU stages",
    PATTERNS[1]: "no job moves data between host and GPU per request",
    PATTERNS[3]: "every part runs on one GPU, so no group crosses a link",
    PATTERNS[4]: "no job serves requests",
}


def patterns_table(plan: Plan, topology: Topology, workload: WorkloadDocument | None = None) -> Table:
    """Return a row per flow and pattern; a pattern that does not apply says so."""
    specs = {job.name: job for job in workload.jobs} if workload is not None else {}
    rows: list[Row] = []
    for job in plan.jobs:
        rows += _rows_of(job, topology, specs.get(job.name))
    present = {row[0] for row in rows}
    rows += [(name, "", "does not apply", _ABSENT.get(name, "")) for name in PATTERNS if name not in present]
    rows.sort(key=lambda row: PATTERNS.index(row[0]))
    return Table("The five patterns", ("pattern", "flow", "decision", "why"), tuple(rows))


def _rows_of(job: JobPlan, topology: Topology, spec: AnyJob | None) -> Iterator[Row]:
    if isinstance(job, OperatorsPlan | RecommenderPlan | EnsemblePlan):
        yield from pattern_rows(job, PATTERNS)
        if isinstance(job, EnsemblePlan):
            return
        if len(job.gpus()) > 1:
            level = common_level(job.gpus(), topology)
            flow = f"{job.name}: {len(job.gpus())} GPUs that exchange data"
            yield PATTERNS[3], flow, *_reach_words(AXES["pipeline"], level)
        return
    if isinstance(job, ServingPlan) and job.replicas:
        served = spec if isinstance(spec, ServingJob) else None
        stages = (
            {stage.name: stage for stage in (*served.before, *served.after)} if served is not None else {}
        )
        yield from _cpu_rows(job, topology, stages)
        yield from _memory_rows(job, topology)
    yield _partition_row(job)
    pools: list[ModelPlan] = [*job.pools()] if isinstance(job, ServingPlan) else [job]
    roles = [f" for {role}" for role in wording.POOL_ROLES] if len(pools) > 1 else [""]
    for role, pool in zip(roles, pools, strict=True):
        for reach in reaches(pool, topology):
            groups = f"{job.name}: {reach.axis} groups of {reach.degree}{role}"
            yield PATTERNS[3], groups, *_reach_words(AXES[reach.axis], reach.level)
    if isinstance(job, ServingPlan) and job.prefill is not None:
        level = common_level(job.gpus(), topology)
        chosen, why = _reach_words("cache", level)
        took = f"{units.show(job.prefill.cache_move, 's')} for the cache of a mean prompt"
        yield PATTERNS[3], f"{job.name}: caches from prompts to answers", chosen, f"{took}; {why}"
    if isinstance(job, ServingPlan):
        yield _batching_row(job, spec if isinstance(spec, ServingJob) else None)


def _reach_words(group: str, level: Level | None) -> tuple[str, str]:
    if level is None:
        return "across the whole cluster", f"no level of the machine holds a {group} group"
    rate, latency = units.show(level.rate, "bytes/s"), units.show(level.latency, "s")
    return _LEVELS.get(
        level.name, f"each within one {level.name} domain"
    ), f"{rate} per GPU and {latency} there ({level.provenance})"


def _cpu_rows(job: ServingPlan, topology: Topology, specs: dict[str, CpuStage]) -> Iterator[Row]:
    replica = job.replicas[0]
    for stage in replica.stages:
        place = full_name(stage.numa, replica.node)
        which = f" ({stage.core_list})" if stage.core_list else ""
        chosen = f"{count(stage.cores, 'core')} of {place}{which}, prefetch {stage.prefetch}"
        why = [f"{wording.share(stage.utilisation)} busy, {units.show(stage.latency, 's')} per request"]
        way = _host_way(topology, replica, place)
        if way is not None:
            why.append(f"reaches its GPU by {way.path_class.name} at {units.show(way.rate, 'bytes/s')}")
        if stage.stage in specs:
            why.append(f"{units.show(specs[stage.stage].work, 's')} of work on a reference core")
        yield PATTERNS[0], f"{job.name}: {stage.stage}{_each_of(job)}", chosen, "; ".join(why)


def _each_of(job: ServingPlan) -> str:
    return f" (each of {len(job.replicas)} replicas)" if len(job.replicas) > 1 else ""


def _host_way(topology: Topology, replica: Replica, place: str) -> Route | None:
    """Return the route from a NUMA domain to the first GPU of a replica, where both are on one node."""
    node, numa = place.split("/", 1)
    gpu = replica.gpus()[0] if replica.devices else ""
    if not gpu.startswith(f"{node}/") or node not in topology.node_of:
        return None
    graph, target = topology.node_of[node].machine.graph, gpu.split("/", 1)[1]
    return route(graph, numa, target) if numa in graph and target in graph else None


def _memory_rows(job: ServingPlan, topology: Topology) -> Iterator[Row]:
    replica = job.replicas[0]
    for transfer in replica.transfers:
        why = [f"{units.show(transfer.seconds, 's')}{_runner_up(transfer)}"]
        ends = [full_name(end, replica.node) for end in (transfer.source, transfer.target)]
        host = next((end for end in ends if end not in replica.gpus()), None)
        way = None if host is None else _host_way(topology, replica, host)
        if way is not None:
            why.append(
                "the path is coherent"
                if way.coherent
                else "the path is not coherent, so nothing can be mapped"
            )
        size = units.show(transfer.size, "bytes")
        flow = f"{transfer.name}, {size}, {transfer.source} → {transfer.target}"
        yield PATTERNS[1], f"{job.name}: {flow}", wording.MODES[transfer.mode], "; ".join(why)


def _runner_up(transfer: Transfer) -> str:
    if transfer.runner_up is None:
        return "; no other mode is legal here"
    if transfer.runner_up_seconds is None:
        return f"; {wording.MODES[transfer.runner_up]} is next"
    return f"; {wording.MODES[transfer.runner_up]} takes {units.show(transfer.runner_up_seconds, 's')}"


def _partition_row(job: ModelPlan) -> Row:
    why = []
    if job.memory:
        stages = [stage for _, stage in wording.named_memory(job)]
        fullest = max(stages, key=lambda stage: memory_share(stage.total, stage.capacity))
        used, room = units.show(fullest.total, "bytes"), units.show(fullest.capacity, "bytes")
        why.append(f"the fullest stage takes {used} of {room} per device")
        if job.strategy.tp * job.strategy.pp > 1:
            weights = sum(stage.parts.get("weights", 0.0) for stage in job.memory) * job.strategy.tp
            why.append(f"all weights are {units.show(weights, 'bytes')}") if weights else None
    if isinstance(job, TrainingPlan):
        said = job.prediction
        why.append(f"bubble {wording.share(said.bubble)}")
        why.append(f"{wording.share(said.model_flops_utilisation)} of peak FLOP/s")
    else:
        why.append(f"{units.show(job.prediction.tpot_mean, 's')} per output token")
    return PATTERNS[2], f"{job.name}: {job.model}", wording.job_sentence(job), "; ".join(why)


def _batching_row(job: ServingPlan, spec: ServingJob | None) -> Row:
    batching, said = job.batching, job.prediction
    chosen = [f"up to {batching.max_batch} sequences and {batching.max_tokens} tokens per step"]
    chosen.append(
        f"window {units.show(batching.window, 's')}" if batching.window else "no waiting for a fuller batch"
    )
    if batching.graph_shapes:
        chosen.append(f"{len(batching.graph_shapes)} CUDA-graph shapes")
    chosen.append(f"{job.priority} priority" + (f", MIG {job.mig}" if job.mig else ""))
    why = [f"mean batch {said.batch:.3g} at {said.rate:g} requests/s"]
    why.append(f"GPUs {wording.share(said.utilisation)} busy")
    limit = spec.slo.latency_p99 if spec is not None else None
    tail = f"p99 {units.show(said.latency_p99, 's')}"
    why.append(tail if limit is None else f"{tail} of {units.show(limit, 's')} allowed")
    return PATTERNS[4], f"{job.name}: requests", ", ".join(chosen), "; ".join(why)
