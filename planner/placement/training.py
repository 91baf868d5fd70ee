"""The judge of training plans: what strategy, layer split and rank order take, and whether they are legal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs import Candidates, Spans, StageCosts, stage_costs
from planner.costs.blocks import attention_core_flops
from planner.costs.offload import ACTIVATIONS, OFFLOAD, WEIGHTS
from planner.costs.pipeline import (
    host_memory,
    in_flight,
    repeated,
    split_kinds,
    stage_memory,
    stage_times,
    step_time,
    tail_times,
)
from planner.costs.strategy import OVERLAP, RECOMPUTE, SHARDING
from planner.placement.groups import training_spans
from planner.placement.plan import Strategy, TrainingPlan, TrainingPrediction
from planner.placement.problem import TrainingProblem, gpu_numbers
from planner.placement.recompute import fewest_repeated, repeat_problems
from planner.placement.records import StageMemory
from planner.placement.rings import on_ring

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingOutcome:
    """What the judge computes for one placed strategy; ``host`` is bytes per rank of each stage.

    ``again`` are the layers of each stage that block recompute repeats.
    """

    step_time: float
    costs: StageCosts
    dense: IntArray
    moe: IntArray
    again: IntArray
    memory: dict[str, FloatArray]
    host: FloatArray


def as_candidates(strategy: Strategy) -> Candidates:
    """Return a strategy as candidate arrays with one row."""
    numbers = (
        strategy.tp, strategy.pp, strategy.dp, strategy.cp, strategy.ep,
        strategy.virtual, strategy.micro_batch, RECOMPUTE.index(strategy.recompute),
        SHARDING.index(strategy.sharding), int(strategy.sequence_parallel),
        OVERLAP.index(strategy.overlap), OFFLOAD.index(strategy.offload),
    )  # fmt: skip
    return Candidates(*(np.asarray([number], dtype=np.int64) for number in numbers))


def as_strategy(many: Candidates, row: int) -> Strategy:
    """Return one row of candidate arrays as a strategy."""
    return Strategy(
        tp=int(many.tp[row]), pp=int(many.pp[row]), dp=int(many.dp[row]), cp=int(many.cp[row]),
        ep=int(many.ep[row]), virtual=int(many.virtual[row]), micro_batch=int(many.micro_batch[row]),
        recompute=RECOMPUTE[many.recompute[row]],  # type: ignore[arg-type]
        sharding=SHARDING[many.sharding[row]],  # type: ignore[arg-type]
        sequence_parallel=bool(many.sequence_parallel[row]),
        overlap=OVERLAP[many.overlap[row]],  # type: ignore[arg-type]
        offload=OFFLOAD[many.offload[row]],  # type: ignore[arg-type]
    )  # fmt: skip


RULES = (
    "tp divides the attention heads and the MLP width",
    "pp x virtual is at most the number of layers, and virtual needs pp above 1",
    "interleaving needs a number of micro-batches that pp divides",
    "cp divides the sequence in two equal parts each",
    "dp x micro-batch divides the global batch",
    "ep divides the experts and dp x cp x tp",
    "a dense model has ep 1",
    "sharding needs dp x cp above 1; sharded gradients and parameters need pp 1 and ep 1",
    "sequence parallelism needs tp above 1 that divides the sequence part; experts under tp need it",
    "offloaded weights need sharding none or optimizer; offloaded activations go without block recompute",
)


def broken_rules(problem: TrainingProblem, many: Candidates) -> NDArray[np.bool_]:
    """Return which of :data:`RULES` each strategy breaks, shape (rules, n)."""
    model, job = problem.model, problem.job
    data = many.dp * many.cp
    micro_batches = job.global_batch // np.maximum(1, many.dp * many.micro_batch)
    experts = model.experts.num_experts if model.experts else 1
    part = job.sequence // many.cp
    sequence_parallel = many.sequence_parallel == 1
    return np.stack([
        (model.heads % many.tp != 0) | (model.ffn % many.tp != 0),
        (many.pp * many.virtual > model.layers) | ((many.virtual > 1) & (many.pp == 1)),
        (many.virtual > 1) & (micro_batches % many.pp != 0),
        (many.cp > 1) & (job.sequence % (2 * many.cp) != 0),
        job.global_batch % (many.dp * many.micro_batch) != 0,
        (experts % many.ep != 0) | ((data * many.tp) % many.ep != 0),
        (many.ep > 1) & (model.experts is None),
        ((many.sharding > 0) & (data == 1)) | ((many.sharding >= 2) & ((many.pp > 1) | (many.ep > 1))),
        (sequence_parallel & ((many.tp == 1) | (part % many.tp != 0)))
        | (~sequence_parallel & (many.tp > 1) & (model.experts is not None)),
        ((many.offload == WEIGHTS) & (many.sharding >= 2))
        | ((many.offload == ACTIVATIONS) & many.block),
    ])  # fmt: skip


def judge_training(
    problem: TrainingProblem,
    strategy: Strategy,
    layers: list[int],
    devices: list[str],
    again: Sequence[int] = (),
) -> TrainingOutcome:
    """Return time and memory of a fully placed strategy.

    Parameters
    ----------
    again
        Layers of every stage that block recompute repeats; the fewest that fit when empty.

    Raises
    ------
    KeyError
        If a device is not one of the problem's.
    """
    gpus = gpu_numbers(problem, devices)
    ringed = on_ring(problem, strategy, gpus)
    return judge_spans(ringed, strategy, layers, training_spans(strategy, gpus, ringed.hierarchy), again)


def judge_spans(
    problem: TrainingProblem,
    strategy: Strategy,
    layers: list[int],
    spans: Spans,
    again: Sequence[int] = (),
) -> TrainingOutcome:
    """Return time and memory of a strategy whose groups span the machine in a given way."""
    costs = stage_costs(
        problem.shape, as_candidates(strategy), spans, problem.kernels, problem.fabric, problem.calibration
    )
    dense, moe = split_kinds(np.asarray(layers, dtype=np.int64), problem.model.dense_layers)
    if len(again):
        twice = np.asarray(again, dtype=np.int64)
    else:
        twice = fewest_repeated(problem, strategy, costs, 0, dense, moe)
    seconds = step_time(costs, 0, strategy.virtual, dense, moe, twice)
    flight = in_flight(strategy.pp, strategy.virtual, int(costs.num_micro_batches[0]))
    memory = stage_memory(costs, 0, dense, moe, flight, twice)
    return TrainingOutcome(
        seconds, costs, dense, moe, twice, memory, host_memory(costs, 0, dense, moe, flight)
    )


def judge_plan(problem: TrainingProblem, plan: TrainingPlan) -> TrainingOutcome:
    """Return time and memory of a plan as it stands.

    Raises
    ------
    KeyError
        If the plan names a GPU that the problem lacks.
    """
    return judge_training(problem, plan.strategy, plan.layers, plan.ranks(), plan.recompute_layers)


def fits(problem: TrainingProblem, outcome: TrainingOutcome) -> bool:
    """Return whether every stage fits on its devices and in its share of host memory."""
    device = np.asarray(sum(outcome.memory.values()))
    return bool((device <= problem.capacity).all() and (outcome.host <= problem.shape.host.memory).all())


def memory_records(problem: TrainingProblem, outcome: TrainingOutcome) -> list[StageMemory]:
    """Return the memory of every stage as plan records."""
    return [
        StageMemory(
            stage=stage,
            parts={name: float(values[stage]) for name, values in outcome.memory.items()},
            capacity=problem.device.memory.value,
        )
        for stage in range(len(outcome.dense))
    ]


def prediction(problem: TrainingProblem, strategy: Strategy, outcome: TrainingOutcome) -> TrainingPrediction:
    """Return the predicted times of a step, split by cause.

    Every part is the mean over stages, once per micro-batch; ``imbalance`` is what the slowest stage adds
    to that mean, ``bubble`` what filling and draining the pipeline add.
    """
    costs, dense, moe = outcome.costs, outcome.dense, outcome.moe
    times = stage_times(costs, 0, dense, moe, outcome.again)
    count = float(costs.num_micro_batches[0])
    parts: dict[str, float] = {}
    for name, values in costs.breakdown.items():
        kind, part = name.split("_", 1)
        layers = float((dense if kind == "dense" else moe).sum())
        parts[part] = parts.get(part, 0.0) + float(values[0]) * layers * count / strategy.pp
    twice = repeated(outcome.again, dense)
    again = float((costs.again_dense[0] * twice[0] + costs.again_moe[0] * twice[1]).sum())
    parts["recompute"] = parts.get("recompute", 0.0) + again * count / strategy.pp
    parts["embedding and head"] = float(costs.first[0] + costs.last[0]) * count / strategy.pp
    parts["pipeline transfers"] = float(costs.hop[0]) * count
    parts["imbalance"] = float(times.max() - times.mean()) * count
    bubble = (float(times.sum()) - float(times.max())) / strategy.virtual
    parts["bubble"] = bubble
    parts["gradients and optimizer"] = float(tail_times(costs, 0, dense, moe, outcome.again).max())
    tokens = problem.job.global_batch * problem.job.sequence
    flops = model_flops(problem)
    precision = problem.job.precision
    peak = problem.device.peak.get(precision) if precision in problem.device.peak else None
    rate = peak.value if peak else problem.kernels.matmul(precision)
    achieved = flops / outcome.step_time / strategy.num_ranks
    return TrainingPrediction(
        step_time=outcome.step_time,
        tokens_per_second=tokens / outcome.step_time,
        model_flops_utilisation=achieved / rate,
        bubble=bubble / outcome.step_time,
        breakdown={name: value for name, value in parts.items() if value > 0.0},
    )


def model_flops(problem: TrainingProblem) -> float:
    """Return the operations of one step, none done twice: 6 per active parameter and token, and attention."""
    model, job = problem.model, problem.job
    tokens = job.global_batch * job.sequence
    active = model.layers * model.attention_parameters + model.dense_layers * model.dense_mlp_parameters
    if model.experts is not None:
        per_layer = model.shared_mlp_parameters + model.experts.top_k * model.expert_parameters
        active += (model.layers - model.dense_layers) * per_layer
    active += model.head_parameters
    seen = np.asarray(job.sequence / 2.0)
    core = float(attention_core_flops(model, np.asarray(float(tokens)), seen)) * model.attention_share
    scores = 3.0 * model.layers * core
    return 6.0 * active * tokens + scores


def training_problems(problem: TrainingProblem, plan: TrainingPlan) -> Iterator[str]:
    """Yield every rule that a training plan breaks, as sentences."""
    strategy, ranks = plan.strategy, plan.ranks()
    known = set(problem.hierarchy.gpus)
    for name in [name for name in ranks if name not in known][:3]:
        yield f"{plan.name}: unknown GPU {name!r}"
    if len(set(ranks)) != len(ranks):
        yield f"{plan.name}: a GPU holds two ranks"
    if len(ranks) != strategy.num_ranks:
        yield f"{plan.name}: {strategy.num_ranks} ranks but {len(ranks)} GPUs"
    if strategy.num_ranks > problem.num_gpus:
        yield f"{plan.name}: {strategy.num_ranks} ranks exceed the {problem.num_gpus} GPUs that may be used"
    if len(plan.layers) != strategy.pp or sum(plan.layers) != problem.model.layers:
        split = f"{problem.model.layers} layers in {strategy.pp} stages"
        yield f"{plan.name}: layers {plan.layers} do not split {split}"
    if min(plan.layers, default=0) < strategy.virtual:
        yield f"{plan.name}: a stage has fewer layers than virtual stages"
    yield from repeat_problems(plan)
    broken = broken_rules(problem, as_candidates(strategy))[:, 0]
    for rule, is_broken in zip(RULES, broken, strict=True):
        if is_broken:
            yield f"{plan.name}: {rule}"
    micro_batches = problem.job.global_batch // max(1, strategy.dp * strategy.micro_batch)
    if plan.num_micro_batches != micro_batches:
        stated = f"{plan.num_micro_batches} micro-batches stated"
        yield f"{plan.name}: {stated}, {micro_batches} follow from the batch"


def training_memory_problems(
    problem: TrainingProblem, plan: TrainingPlan, outcome: TrainingOutcome
) -> Iterator[str]:
    """Yield stages that do not fit, and stated bytes or times that differ from the judge's."""
    totals = sum(outcome.memory.values())
    for stage, total in enumerate(np.asarray(totals)):
        if total > problem.capacity * (1 + 1e-9):
            yield f"{plan.name}: stage {stage} needs {total:.4g} bytes of {problem.capacity:.4g}"
        if stage < len(plan.memory) and abs(plan.memory[stage].total - total) > 1e-6 * total:
            stated = f"states {plan.memory[stage].total:.6g} bytes"
            yield f"{plan.name}: stage {stage} {stated}, the judge finds {total:.6g}"
    share = problem.shape.host.memory
    for stage, size in enumerate(outcome.host):
        if size > share * (1 + 1e-9):
            yield f"{plan.name}: stage {stage} needs {size:.4g} bytes of host memory per GPU, of {share:.4g}"
    if len(plan.memory) != len(plan.layers):
        yield f"{plan.name}: memory is stated for {len(plan.memory)} of {len(plan.layers)} stages"
    seconds = plan.prediction.step_time
    if abs(seconds - outcome.step_time) > 1e-6 * outcome.step_time:
        yield f"{plan.name}: step time {seconds:.6g} s stated, the judge finds {outcome.step_time:.6g} s"
