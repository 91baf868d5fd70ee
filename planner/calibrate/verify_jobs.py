"""The checks of a serving job and of a training job."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from planner.calibrate.run.backend import Backend
from planner.calibrate.run.collectives import collective_item
from planner.calibrate.run.copies import copy_item
from planner.calibrate.run.stages import jpeg_item
from planner.calibrate.verify_plan import (
    MOST_MESSAGE,
    Check,
    Checks,
    Shard,
    all_reduce_seconds,
    cache_attention_check,
    kernel_checks,
    prompt_attention_check,
    prompt_of,
    send_seconds,
    shard_of,
    stage_check,
    together_check,
)
from planner.costs.host import service_time
from planner.costs.serving_records import context_tokens
from planner.costs.strategy import ACTIVATION_BYTES
from planner.placement import ServingPlan, TrainingPlan
from planner.placement.groups import serving_spans, training_spans
from planner.placement.problem import ServingProblem, TrainingProblem, gpu_numbers
from planner.placement.serving import host_options
from planner.workload import CpuStage

if TYPE_CHECKING:
    import numpy as np

DECODED = ("jpeg", "image")
"""Words in the name of a CPU stage that is run as the decoding of a picture."""
PIXEL = 3
ALONE = "needs {need} processes with a device each, here are {have}; --processes sets how many"


def serving_checks(problem: ServingProblem, plan: ServingPlan, backend: Backend, world: int) -> Checks:
    """Return the checks of one replica of a served model.

    Raises
    ------
    CalibrationError
        If its stages cannot be built on the device at hand.
    """
    found = Checks()
    if plan.prefill is not None:
        plan = plan.pools()[-1]
        found.miss("pool for prompts", "a replica of the pool that generates was run")
    shard = shard_of(problem, plan, backend, world)
    tokens, batch = prompt_of(problem), max(1, round(plan.prediction.batch))
    keys = max(1, round(context_tokens(problem.job, shard.predictor.model)))
    found.checks += kernel_checks(shard, (tokens, batch))
    found.checks += [prompt_attention_check(shard, 1, tokens), cache_attention_check(shard, batch, keys)]
    for stage in shard.kinds():
        ends = {"first": shard.stages[stage].first, "last": shard.stages[stage].last}
        layers = shard.stages[stage].layers
        predicted = shard.predictor.prefill_stage(layers, 1, tokens, **ends)
        found.checks.append(stage_check(shard, stage, "prefill", predicted, batch=1, tokens=tokens))
        predicted = shard.predictor.decode_stage(layers, batch, keys, **ends)
        found.checks.append(stage_check(shard, stage, "decode", predicted, batch=batch, tokens=1, keys=keys))
    numbers = gpu_numbers(problem, plan.gpus())
    spans = serving_spans(plan.strategy, numbers, problem.hierarchy)
    width = tokens * shard.predictor.model.hidden * ACTIVATION_BYTES
    hop = send_seconds(problem, spans.pipeline, width) if plan.strategy.pp > 1 else 0.0
    _messages(problem, shard, found, width, hop, spans.tp)
    host = _host_path(problem, plan, backend, found)
    _prompt(problem, plan, shard, found, tokens, hop, host)
    found.miss("engine", "scheduling, sampling and detokenising of an engine: the stages run without one")
    _shared(plan, found)
    return found


def training_checks(problem: TrainingProblem, plan: TrainingPlan, backend: Backend, world: int) -> Checks:
    """Return the checks of a training job: a micro-batch on every kind of stage, a step, its messages.

    Raises
    ------
    CalibrationError
        If its stages cannot be built on the device at hand.
    """
    shard, found = shard_of(problem, plan, backend, world), Checks()
    strategy, predictor = plan.strategy, shard.predictor
    tokens, batch = problem.job.sequence // strategy.cp, strategy.micro_batch
    found.checks += kernel_checks(shard, (tokens * batch,))
    found.checks.append(prompt_attention_check(shard, batch, tokens))
    times, updates = [], []
    for dims in shard.stages:
        ends = {"first": dims.first, "last": dims.last}
        times.append(predictor.train_stage(dims.layers, batch, tokens, **ends))
        updates.append(predictor.update(dims.layers * dims.layer_parameters + dims.edge_parameters))
    fields = {"batch": batch, "tokens": tokens}
    for stage in shard.kinds():
        found.checks.append(stage_check(shard, stage, "train", times[stage], **fields))
        found.checks.append(stage_check(shard, stage, "update", updates[stage], **fields))
    spans = training_spans(strategy, gpu_numbers(problem, plan.ranks()), problem.hierarchy)
    width = tokens * batch * predictor.model.hidden * ACTIVATION_BYTES
    hop = send_seconds(problem, spans.pipeline, width) if strategy.pp > 1 else 0.0
    _messages(problem, shard, found, width, hop, spans.tp)
    if strategy.recompute != "none" or strategy.virtual > 1:
        found.miss("training step", "recomputation and interleaved stages are not built")
    elif shard.together:
        slowest = max(times) + 2.0 * hop * (strategy.pp > 1)
        filled = sum(times) + 2.0 * hop * (strategy.pp - 1) - max(times)
        count = plan.num_micro_batches
        seconds = count * slowest + filled + max(updates)
        order = shard.order(0, do="step", trained=True, micro_batches=count, **fields)
        found.checks.append(together_check(shard, "training step", seconds, order))
    else:
        found.miss("training step", ALONE.format(need=strategy.pp, have=world))
    if strategy.dp * strategy.cp > 1:
        _gradients(problem, plan, shard, found, spans.data)
    found.miss("training framework", "what it adds to the kernels: the stages run in plain torch")
    return found


def _messages(
    problem: ServingProblem | TrainingProblem, shard: Shard, found: Checks, width: float, hop: float,
    tensor: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:  # fmt: skip
    """Add the message between stages, and the sum of a tensor group."""
    if len(shard.stages) > 1:
        if shard.world > 1:
            found.checks.append(
                Check(collective_item("send", width, shard.world), "message", hop, "between stages")
            )
        else:
            found.miss("message between stages", ALONE.format(need=2, have=shard.world))
    tp = shard.predictor.tp
    if tp > 1:
        if shard.world == tp:
            seconds = all_reduce_seconds(problem, tensor, tp, width)
            found.checks.append(
                Check(collective_item("all_reduce", width, tp), "message", seconds, "tensor group")
            )
        else:
            found.miss("sums of the tensor group", ALONE.format(need=tp, have=shard.world))


def _gradients(
    problem: TrainingProblem, plan: TrainingPlan, shard: Shard, found: Checks,
    data: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:  # fmt: skip
    group = plan.strategy.dp * plan.strategy.cp
    if shard.world != group:
        found.miss("sums of gradients", ALONE.format(need=group, have=shard.world))
        return
    whole = plan.layers[0] * shard.stages[0].layer_parameters * problem.calibration.number("gradient_bytes")
    size = min(whole, MOST_MESSAGE)
    note = "gradients" if size == whole else f"gradients, {size / whole:.0%} of them"
    seconds = all_reduce_seconds(problem, data, group, size)
    found.checks.append(Check(collective_item("all_reduce", size, group), "message", seconds, note))


def _host_path(
    problem: ServingProblem, plan: ServingPlan, backend: Backend, found: Checks
) -> dict[str, float]:
    """Add the CPU stages and the transfers of a replica; return the predicted times by name."""
    replica = plan.replicas[0]
    machine = problem.topology.node_of[replica.node].machine
    times: dict[str, float] = {}
    domains = {item.stage: machine.numa_named(item.numa) for item in replica.stages}
    for stage in (*problem.job.before, *problem.job.after):
        seconds = service_time(stage, domains[stage.name])
        edge = picture_edge(stage)
        if edge:
            times[stage.name] = seconds
            found.checks.append(Check(jpeg_item(edge), "cpu stage", seconds, stage.name))
        else:
            found.miss(f"cpu stage {stage.name}", "there is no program here that does its work")
    for transfer in replica.transfers:
        into = transfer.source in {domain.name for domain in machine.numa}
        ends = (transfer.source, transfer.target) if into else (transfer.target, transfer.source)
        way = "in" if into else "out"
        options = host_options(problem, machine, *ends, transfer.size, "in" if into else "out")
        seconds = next(one.seconds for one in options if one.mode == transfer.mode)
        if transfer.mode in ("pinned-copy", "pageable-copy"):
            times[transfer.name] = seconds
            item = copy_item(round(transfer.size), way, transfer.mode)
            found.checks.append(Check(item, "transfer", seconds, f"{transfer.name}, {transfer.mode}"))
        else:
            found.miss(
                f"transfer {transfer.name}", f"{transfer.mode} memory is only measured by calibrate run"
            )
    return times


def picture_edge(stage: CpuStage) -> int:
    """Return the pixels a side of the picture that a stage decodes, 0 where it is no such stage."""
    if not any(word in stage.name for word in DECODED):
        return 0
    return max(16, round(math.sqrt(stage.bytes_out / PIXEL)))


def _prompt(
    problem: ServingProblem, plan: ServingPlan, shard: Shard, found: Checks, tokens: int, hop: float,
    host: dict[str, float],
) -> None:  # fmt: skip
    """Add one request up to its first token: CPU stage, copy, all stages one after the other."""
    if not shard.together:
        found.miss("prompt through all stages", ALONE.format(need=plan.strategy.pp, have=shard.world))
        return
    edges = [picture_edge(stage) for stage in problem.job.before]
    edge = max(edges, default=0)
    stages = sum(
        shard.predictor.prefill_stage(one.layers, 1, tokens, first=one.first, last=one.last)
        for one in shard.stages
    )
    before = {stage.name for stage in problem.job.before if picture_edge(stage)}
    seconds = stages + hop * (plan.strategy.pp - 1) + sum(host[name] for name in before)
    order = shard.order(0, do="pipeline", batch=1, tokens=tokens, image=edge, trained=False)
    found.checks.append(together_check(shard, "prompt through all stages", seconds, order))


def _shared(plan: ServingPlan, found: Checks) -> None:
    if plan.strategy.dp > 1:
        found.miss("other replicas", f"one of {plan.strategy.dp} equal replicas was run")
    if plan.mig is not None:
        found.miss("MIG slices", "the settings of the card are never changed")


__all__ = ["serving_checks", "training_checks"]
