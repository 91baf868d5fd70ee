"""The plan record of training over several device models, and what the judge holds against one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from planner.costs.pipeline import in_flight, stage_memory
from planner.placement.bindings import gpu_bindings
from planner.placement.mixed import (
    MANY,
    MixedOutcome,
    MixedPlacement,
    MixedTrainingProblem,
    capacities,
    check_mixed,
    judge_mixed,
    stage_costs_of,
)
from planner.placement.plan import TrainingPlan, TrainingPrediction
from planner.placement.records import StageMemory
from planner.placement.stated import stated_figures
from planner.placement.training import model_flops
from planner.schema import compress


def mixed_plan(problem: MixedTrainingProblem, placement: MixedPlacement) -> TrainingPlan:
    """Return the plan record of a placement."""
    outcome, topology = judge_mixed(problem, placement), problem.topology
    nodes = dict.fromkeys(device.split("/", 1)[0] for device in placement.devices)
    machines = {topology.node_of[node].machine.name: topology.node_of[node].machine for node in nodes}
    return TrainingPlan(
        name=problem.job.name,
        model=problem.model.name,
        strategy=placement.strategy,
        num_micro_batches=max(placement.micro_batches),
        layers=list(placement.layers),
        devices=compress(list(placement.devices)),
        bindings=[binding for machine in machines.values() for binding in gpu_bindings(machine)],
        memory=mixed_memory(problem, placement, outcome),
        prediction=mixed_prediction(problem, placement, outcome),
        micro_batches=list(placement.micro_batches),
        device_models=device_models(problem, outcome),
    )


def placement_of(plan: TrainingPlan) -> MixedPlacement:
    """Return the decisions of a plan."""
    return MixedPlacement(plan.strategy, tuple(plan.layers), tuple(plan.micro_batches), tuple(plan.ranks()))


def device_models(problem: MixedTrainingProblem, outcome: MixedOutcome) -> list[str]:
    """Return the device models of every stage, joined by ``+`` where its replicas have several."""
    names = [kind.device.name for kind in problem.kinds]
    return ["+".join(names[kind] for kind in sorted(set(row))) for row in outcome.kinds.tolist()]


def mixed_memory(
    problem: MixedTrainingProblem, placement: MixedPlacement, outcome: MixedOutcome
) -> list[StageMemory]:
    """Return the memory of every stage on the device model that it fills most."""
    costs = stage_costs_of(problem, placement)
    dense = np.asarray(placement.layers, dtype=np.int64)
    flight = in_flight(placement.strategy.pp, 1, MANY)
    shares = outcome.memory / capacities(problem)[outcome.kinds]
    records = []
    for stage, row in enumerate(shares):
        kind = int(outcome.kinds[stage, int(row.argmax())])
        parts = stage_memory(costs[kind], 0, dense, np.zeros_like(dense), flight)
        records.append(
            StageMemory(
                stage=stage,
                parts={name: float(values[stage]) for name, values in parts.items()},
                capacity=problem.kinds[kind].device.memory.value,
            )
        )
    return records


def mixed_prediction(
    problem: MixedTrainingProblem, placement: MixedPlacement, outcome: MixedOutcome
) -> TrainingPrediction:
    """Return the predicted times of a step, split by cause along the replica that ends last.

    As :func:`planner.placement.training.prediction`: parts are means over its stages, once per micro-batch.
    """
    replica = int(outcome.pipelines.argmax())
    times, count = outcome.times[:, replica], float(placement.micro_batches[replica])
    parts = _compute_parts(problem, placement, outcome, replica)
    parts = defaultdict(float, {name: value * count / len(times) for name, value in parts.items()})
    parts["imbalance"] = float(times.max() - times.mean()) * count
    bubble = float(times.sum() - times.max())
    parts["bubble"] = bubble
    parts["gradients and optimizer"] = float(outcome.tails.max())
    job = problem.job
    width = placement.strategy.tp * placement.strategy.cp
    peaks = sum(width * _peak(problem, int(kind)) for kind in outcome.kinds.ravel())
    return TrainingPrediction(
        step_time=outcome.step_time,
        tokens_per_second=job.global_batch * job.sequence / outcome.step_time,
        model_flops_utilisation=model_flops(problem.kinds[0]) / outcome.step_time / peaks,
        bubble=bubble / outcome.step_time,
        breakdown={name: value for name, value in parts.items() if value > 0.0},
    )


def _compute_parts(
    problem: MixedTrainingProblem, placement: MixedPlacement, outcome: MixedOutcome, replica: int
) -> dict[str, float]:
    """Return what the stages of a replica spend on one micro-batch by cause, added up, s."""
    costs = stage_costs_of(problem, placement)
    dense = np.asarray(placement.layers, dtype=np.int64)
    last = len(dense) - 1
    parts: dict[str, float] = defaultdict(float)
    for stage, layers in enumerate(dense):
        own = costs[int(outcome.kinds[stage, replica])]
        for name, values in own.breakdown.items():
            kind, part = name.split("_", 1)
            if kind == "dense":
                parts[part] += float(values[0]) * float(layers)
        parts["embedding and head"] += float(own.first[0]) * (stage == 0) + float(own.last[0]) * (
            stage == last
        )
        parts["pipeline transfers"] += float(own.hop[0])
    return parts


def _peak(problem: MixedTrainingProblem, kind: int) -> float:
    own, precision = problem.kinds[kind], problem.job.precision
    stated = own.device.peak.get(precision)
    return stated.value if stated else own.kernels.matmul(precision)


def mixed_claims(plan: TrainingPlan) -> list[str]:
    """Return what a plan on GPUs of one model may not state, as sentences."""
    stated = plan.micro_batches or plan.device_models
    text = f"{plan.name}: micro-batches by replica and models by stage are for GPUs of several models"
    return [text] if stated else []


def mixed_plan_problems(problem: MixedTrainingProblem, plan: TrainingPlan) -> Iterator[str]:
    """Yield every rule that a plan breaks, and every figure that the judge finds otherwise, as sentences."""
    placement = placement_of(plan)
    broken = check_mixed(problem, placement, plan.prediction.step_time)
    if plan.num_micro_batches != max(plan.micro_batches, default=0):
        broken.append(f"{plan.num_micro_batches} micro-batches stated, no replica has more than its own")
    yield from (f"{plan.name}: {text}" for text in broken)
    if broken:
        return
    outcome = judge_mixed(problem, placement)
    models = device_models(problem, outcome)
    if plan.device_models != models:
        yield f"{plan.name}: stages on {plan.device_models} stated, they are on {models}"
    prediction = mixed_prediction(problem, placement, outcome)
    memory = mixed_memory(problem, placement, outcome)
    yield from stated_figures(plan, prediction, memory, problem.topology)
