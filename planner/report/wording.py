"""How plans and figures are put into words, the same on every page and in every table."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from planner import units
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.plan import (
    JobPlan,
    ModelPlan,
    Objective,
    Plan,
    ServingPlan,
    SimulatedLimit,
    Strategy,
    TrainingPlan,
)
from planner.placement.recommender_plan import RecommenderPlan
from planner.placement.records import StageMemory
from planner.report.names import DASH, MINUS, TIMES

SHARDING = {
    "optimizer": "optimizer states sharded (ZeRO-1)",
    "gradients": "gradients sharded (ZeRO-2)",
    "parameters": "parameters sharded (ZeRO-3)",
}
MODES = {
    "pinned-copy": "copy from pinned memory",
    "pageable-copy": "copy from pageable memory",
    "managed": "managed memory",
    "coherent": "coherent mapping",
}
_KINDS = {
    "nvlink": "NVLink", "nvlink-c2c": "NVLink-C2C", "pcie": "PCIe", "xgmi": "xGMI", "socket": "socket link",
    "ethernet": "Ethernet", "infiniband": "InfiniBand",
}  # fmt: skip
SWITCHES = {
    "nvswitch": "NVSwitch", "pcie": "PCIe switch", "leaf": "leaf switch", "spine": "spine switch",
    "core": "core switch",
}  # fmt: skip
METRICS = {"latency": "end to end", "ttft": "first token", "tpot": "per output token"}
_OBJECTIVES = {
    "step_time": "step time", "p99_latency": "p99 latency", "gpus": "GPUs",
    "cost": "price of the GPUs",
    "sample_interval": "time between samples", "sample_latency": "time of one sample",
    "embedding_time": "embedding time of the busiest rank",
}  # fmt: skip
WHOLE = {
    "training": "the step",
    "serving": "the p99 latency",
    "operators": "the busiest device",
    "recommender": "the iteration",
    "ensemble": "the weighted p99 latency",
}
"""What the parts of a predicted time add up to, by kind of job."""
POOL_ROLES = ("prompts", "answers")
"""What the two pools of a service compute, in the order of `ServingPlan.pools`."""


def shown(value: float, unit: str) -> str:
    """Return a figure for people, its unit being one that `units` knows or any other word."""
    return units.show(value, unit) if unit in units.DIMENSIONS else f"{value:,.4g} {unit}".strip()


def objective_name(objective: Objective) -> str:
    """Return what was minimised, in words."""
    return _OBJECTIVES.get(objective.name, plain(objective.name))


def objective_text(objective: Objective, value: float | None) -> str:
    """Return a value of the objective, or ``none`` where there is none."""
    if value is None:
        return "none"
    return f"{value:g} GPUs" if objective.name == "gpus" else shown(value, objective.unit)


def plain(name: str) -> str:
    """Return a key as words: ``tensor_parallel`` as ``tensor parallel``."""
    return name.replace("_", " ")


def link_kind(kind: str) -> str:
    """Return what people call a kind of link."""
    return _KINDS.get(kind, kind)


def sentence(text: str) -> str:
    """Return a remark with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def share(value: float) -> str:
    """Return a share as a percentage: whole from ten per cent, finer below."""
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.0f} %" if value >= 0.0995 or not value else f"{100 * value:.1f} %"


def loss_text(loss: float | None) -> str:
    """Return by how much an alternative is worse."""
    if loss is None:
        return "not feasible"
    size = share(abs(loss))
    return size if size.startswith("<") else f"{'+' if loss >= 0 else MINUS}{size}"


def ratio_text(ratio: float | None) -> str:
    """Return how many times better the plan is than a baseline."""
    return "no feasible plan" if ratio is None else f"{ratio:.2f} {TIMES}"


def degrees(strategy: Strategy, *, copies: bool = True) -> str:
    """Return ``TP 8 x PP 4 x DP 2``: the degrees above one, without data parallel unless ``copies``."""
    named = (
        ("TP", strategy.tp),
        ("PP", strategy.pp),
        ("DP", strategy.dp if copies else 1),
        ("CP", strategy.cp),
        ("EP", strategy.ep),
        ("attention copies", strategy.adp),
    )
    found = f" {TIMES} ".join(f"{name} {value}" for name, value in named if value > 1) or "one GPU"
    types = (
        ("weights", strategy.precision),
        ("experts", strategy.expert_precision),
        ("cache", strategy.kv_precision),
    )
    return found + "".join(f", {name} in {value}" for name, value in types if value is not None)


def layers_text(layers: list[int]) -> str:
    """Return ``20/20/20/20``; runs are folded where there are many stages: ``10 x 15, 8``."""
    if len(layers) <= 8:
        return "/".join(map(str, layers))
    runs = [(value, len(list(run))) for value, run in groupby(layers)]
    return ", ".join(f"{value} {TIMES} {many}" if many > 1 else str(value) for value, many in runs)


def whole(job: JobPlan) -> str:
    """Return what the parts of a job's predicted time add up to."""
    latency = isinstance(job, OperatorsPlan) and job.objective == "latency"
    return "the time of a sample" if latency else WHOLE[job.kind]


def place_of(job: JobPlan) -> str:
    """Return what the numbers of a job's memory records count: stages, or ranks."""
    return "rank" if isinstance(job, RecommenderPlan) else "stage"


def memory_by_pool(job: JobPlan) -> list[tuple[str, list[StageMemory]]]:
    """Return the memory records of a job; of a service with two pools those of each, with its role."""
    if isinstance(job, ServingPlan) and job.prefill is not None:
        return [(role, pool.memory) for role, pool in zip(POOL_ROLES, job.pools(), strict=True)]
    return [("", job.memory)]


def named_memory(job: JobPlan) -> list[tuple[str, StageMemory]]:
    """Return the memory records of a job with what distinguishes them: a number, a pool."""
    return [
        (f"{role} {stage.stage}".strip(), stage) for role, stages in memory_by_pool(job) for stage in stages
    ]


def job_sentence(job: JobPlan) -> str:
    """Return the placement of a job in one sentence."""
    if isinstance(job, OperatorsPlan):
        return _operators_sentence(job)
    if isinstance(job, RecommenderPlan):
        return _recommender_sentence(job)
    if isinstance(job, EnsemblePlan):
        return _ensemble_sentence(job)
    return _model_sentence(job)


def _operators_sentence(job: OperatorsPlan) -> str:
    how = "consecutive parts of the graph" if job.contiguous else "any parts of the graph"
    gpus = [stage for stage in job.stages if not stage.on_host]
    text = f"{sum(len(stage.operators) for stage in job.stages)} operators on {len(job.gpus())} GPUs"
    hosted = sum(len(stage.operators) for stage in job.stages if stage.on_host)
    parts = [text] + ([f"{hosted} of them on the host of {job.host}"] if hosted else [])
    return ", ".join([*parts, *([how] if len(gpus) > 1 else [])])


def _recommender_sentence(job: RecommenderPlan) -> str:
    ways = Counter(plain(table.sharding) for table in job.tables)
    shown = ", ".join(f"{many} {way}" for way, many in ways.most_common())
    tiers = Counter(table.tier for table in job.tables)
    parts = [f"{len(job.tables)} tables over {len(job.gpus())} GPUs: {shown}"]
    if tiers["cached"]:
        parts.append(f"{tiers['cached']} behind a GPU cache")
    if tiers["host"]:
        parts.append(f"{tiers['host']} in host memory")
    return ", ".join(parts)


def _ensemble_sentence(job: EnsemblePlan) -> str:
    """Return the placement of an ensemble in one sentence."""
    cpu = len({pool.stage for pool in job.pools})
    gpu = len({instance.stage for instance in job.instances})
    slices = len({(each.gpu, each.start) for each in job.instances if each.mig is not None})
    text = f"{cpu} stages on host cores, {gpu} on {len(job.gpus())} GPUs"
    return text + (f", {slices} of their slices" if slices else "")


def _model_sentence(job: ModelPlan) -> str:
    strategy = job.strategy
    if isinstance(job, TrainingPlan):
        parts = [degrees(strategy), f"micro-batch {strategy.micro_batch} {TIMES} {_micro_batches(job)}"]
        parts.append({"none": "no recompute"}.get(strategy.recompute, f"{strategy.recompute} recompute"))
        if job.recompute_layers:
            parts[-1] += f" of {layers_text(job.recompute_layers)} layers"
        if strategy.offload != "none":
            parts.append(f"{strategy.offload} in host memory")
        if strategy.virtual > 1:
            parts.append(f"{strategy.virtual} model chunks per stage")
    else:
        parts = [
            served_by(job),
            f"up to {job.batching.max_batch} sequences per batch",
        ]
        if job.batching.window:
            parts.append(f"window {units.show(job.batching.window, 's')}")
        if job.mig:
            parts.append(f"MIG {job.mig}")
    if strategy.sharding != "none":
        parts.append(SHARDING[strategy.sharding])
    if strategy.pp > 1:
        parts.append(f"layers {layers_text(job.layers)}")
    if isinstance(job, TrainingPlan) and job.device_models:
        runs = [(model, len(list(stages))) for model, stages in groupby(job.device_models)]
        parts.append("stages on " + " then ".join(f"{model} {TIMES} {count}" for model, count in runs))
    return ", ".join(parts)


def served_by(job: ServingPlan) -> str:
    """Return the replicas of a service, with what each of its pools is for."""
    pools = [_replicas(pool) for pool in job.pools()]
    return pools[0] if job.prefill is None else f"{pools[0]} for prompts, {pools[1]} for answers"


def _replicas(pool: ServingPlan) -> str:
    """Return the replicas of a service, or of one of its pools."""
    replicas = f"{len(pool.replicas)} replica" + ("s" if len(pool.replicas) != 1 else "")
    return f"{replicas} of {degrees(pool.strategy, copies=False)}"


def _micro_batches(job: TrainingPlan) -> str:
    """Return the micro-batches of a replica, the fewest and the most where they differ."""
    least = min(job.micro_batches, default=job.num_micro_batches)
    most = job.num_micro_batches
    return str(least) if least == most else f"{least}{DASH}{most} by replica"


def plan_sentence(plan: Plan) -> str:
    """Return the whole plan in a sentence, one clause per job."""
    if len(plan.jobs) == 1:
        return job_sentence(plan.jobs[0])
    return "; ".join(f"{job.name}: {job_sentence(job)}" for job in plan.jobs)


def status_text(plan: Plan) -> str:
    """Return what was proven."""
    if plan.status == "optimal":
        return "optimal, proven"
    broken = [limit for limit in plan.simulated if limit.excess > 0.0]
    if broken:
        return f"feasible on paper; in simulation {'; '.join(map(_broken_limit, broken))}"
    return f"feasible, at most {share(plan.gap)} from the optimum"


def _broken_limit(limit: SimulatedLimit) -> str:
    if limit.simulated is None:
        return f"{limit.job} cannot keep up with its rate"
    return f"{limit.name} is {limit.excess:.1%} above its limit of {units.show(limit.limit, 's')}"


def num_gpus(job: JobPlan) -> int:
    """Return how many GPUs a job takes."""
    return len(job.gpus())
