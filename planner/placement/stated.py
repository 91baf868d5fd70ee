"""What a plan states besides its decisions, against what the judge finds: nothing is taken on trust."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from planner.costs.host import service_time
from planner.placement.bindings import core_numbers
from planner.placement.plan import Replica, ServingPlan, TrainingPlan, TrainingPrediction
from planner.placement.pools import PoolOutcome, prompt_memory, repeated_names
from planner.placement.problem import ServingProblem, TrainingProblem
from planner.placement.records import Binding, StageMemory
from planner.placement.serving import (
    ServingOutcome,
    host_options,
    serving_memory,
    serving_prediction,
    stage_latency,
    transfer_sizes,
)
from planner.placement.training import TrainingOutcome, memory_records, prediction
from planner.schema import Record, expand
from planner.topology import MachineType, Topology

RELATIVE = 1e-6
"""Difference of a time, rate or share that counts as another figure, a ratio."""
JUDGED = ("step_time", "latency_p99")
"""Objectives, which the judge compares where it computes them."""
BYTE = 0.5
"""Difference of a memory size that counts as another one, bytes."""


def stated_training(problem: TrainingProblem, plan: TrainingPlan, outcome: TrainingOutcome) -> Iterator[str]:
    """Yield every figure and binding of a training plan that is not what the judge finds, as sentences."""
    found = prediction(problem, plan.strategy, outcome)
    yield from stated_figures(plan, found, memory_records(problem, outcome), problem.topology)


def stated_figures(
    plan: TrainingPlan, found: TrainingPrediction, memory: Sequence[StageMemory], topology: Topology
) -> Iterator[str]:
    """Yield what a training plan states of its figures, memory and bindings that is not so."""
    yield from _other_figures(plan.name, plan.prediction, found)
    yield from _other_memory(plan.name, plan.memory, memory)
    nodes = dict.fromkeys(gpu.split("/", 1)[0] for gpu in plan.ranks())
    yield from _bad_bindings(plan.name, plan.bindings, [topology.node_of[n].machine for n in nodes])


def stated_serving(problem: ServingProblem, plan: ServingPlan, outcome: ServingOutcome) -> Iterator[str]:
    """Yield every figure, name and binding of a serving plan that is not what the judge finds."""
    yield from repeated_names(plan)
    found = serving_prediction(problem, outcome, plan.strategy)
    yield from _other_figures(plan.name, plan.prediction, found)
    memory = serving_memory(problem, plan.strategy, outcome.model, plan.batching.max_batch)
    yield from _other_memory(plan.name, plan.memory, memory)
    if plan.prefill is not None and isinstance(outcome, PoolOutcome):
        part = plan.prefill
        own = prompt_memory(problem, part.strategy, outcome.prefill, part.batching.max_batch)
        yield from _other_memory(f"{plan.name}, prompts", part.memory, own)
    rate = problem.job.traffic.rate / plan.strategy.dp
    for replica in plan.replicas:
        yield from _other_stages(problem, plan.name, replica, rate)
    nodes = [replica.node for pool in plan.pools() for replica in pool.replicas]
    machines = [problem.topology.node_of[node].machine for node in nodes]
    yield from _bad_bindings(plan.name, plan.bindings, machines)


def misplaced_transfers(problem: ServingProblem, plan: ServingPlan) -> Iterator[str]:
    """Yield replicas whose GPUs are on another node than stated, and transfers that the job does not make.

    A request crosses once to the first GPU and once back, between it and a NUMA domain, in a mode that the
    machine has and in the time that this takes.
    """
    sizes = transfer_sizes(problem)
    for replica in (one for pool in plan.pools() for one in pool.replicas):
        where = f"{plan.name}: {replica.name}"
        nodes = {gpu.split("/", 1)[0] for gpu in replica.gpus()}
        if replica.node not in nodes or replica.node not in problem.topology.node_of:
            yield f"{where} is said to be on {replica.node!r}, its GPUs are on {', '.join(sorted(nodes))}"
            continue
        machine = problem.topology.node_of[replica.node].machine
        domains, gpu = {domain.name for domain in machine.numa}, replica.gpus()[0].split("/", 1)[1]
        into = [item for item in replica.transfers if item.source in domains and item.target == gpu]
        out = [item for item in replica.transfers if item.target in domains and item.source == gpu]
        if len(into) != 1 or len(out) != 1 or len(replica.transfers) != 2:
            yield f"{where} does not move inputs to {gpu} once and outputs back once"
            continue
        for item, size in ((into[0], sizes[0]), (out[0], sizes[1])):
            inward = item is into[0]
            numa = item.source if inward else item.target
            ways = host_options(problem, machine, numa, gpu, size, "in" if inward else "out")
            times = {way.mode: way.seconds for way in ways}
            seconds = times.get(item.mode)
            if item.runner_up is not None and _differs(
                item.runner_up_seconds or 0.0, times.get(item.runner_up, 0.0)
            ):
                yield f"{where}: {item.name} in mode {item.runner_up} takes another time than stated"
            if seconds is None:
                yield f"{where}: {item.name} in mode {item.mode}, which the machine lacks"
            elif _differs(item.size, size) or _differs(item.seconds, seconds):
                stated = f"{item.size:.6g} bytes in {item.seconds:.6g} s"
                yield f"{where}: {item.name} states {stated}, the judge finds {size:.6g} in {seconds:.6g} s"


def _other_stages(problem: ServingProblem, name: str, replica: Replica, rate: float) -> Iterator[str]:
    """Yield CPU stages whose latency or utilisation is not what their cores give."""
    stages = {stage.name: stage for stage in (*problem.job.before, *problem.job.after)}
    machine = problem.topology.node_of[replica.node].machine
    for item in replica.stages:
        stage, domain = stages[item.stage], machine.numa_named(item.numa)
        latency = stage_latency(stage, domain, rate, item.cores)
        busy = rate * service_time(stage, domain) * stage.parallel / item.cores if item.cores else 0.0
        for what, stated, found in (
            ("latency", item.latency, latency),
            ("utilisation", item.utilisation, busy),
        ):
            if _differs(stated, found):
                yield (
                    f"{name}: {replica.name} states a {what} of {stated:.6g} for {item.stage}, "
                    f"the judge finds {found:.6g}"
                )


def _other_figures(name: str, stated: Record, found: Record) -> Iterator[str]:
    """Yield predicted figures that differ."""
    for field in type(found).model_fields:
        if field in JUDGED:
            continue
        left, right = getattr(stated, field), getattr(found, field)
        if isinstance(right, Mapping):
            yield from _other_parts(name, field, left, right)
        elif _differs(left, right):
            yield f"{name}: {field} {left:.6g} stated, the judge finds {right:.6g}"


def _other_parts(
    name: str, field: str, stated: Mapping[str, float], found: Mapping[str, float]
) -> Iterator[str]:
    for part in dict.fromkeys([*stated, *found]):
        left, right = stated.get(part, 0.0), found.get(part, 0.0)
        if _differs(left, right):
            yield f"{name}: {part} in the {field} {left:.6g} stated, the judge finds {right:.6g}"


def _other_memory(name: str, stated: Sequence[StageMemory], found: Sequence[StageMemory]) -> Iterator[str]:
    """Yield stages whose bytes, by part, differ from the judge's by a byte or more."""
    if len(stated) != len(found):
        yield f"{name}: memory is stated for {len(stated)} of {len(found)} stages"
    for record, own in zip(stated, found, strict=False):
        if record.stage != own.stage:
            yield f"{name}: memory of stage {own.stage} is stated as that of stage {record.stage}"
        if abs(record.capacity - own.capacity) > BYTE:
            yield f"{name}: stage {own.stage} states a capacity of {record.capacity:.6g} bytes"
        for part in dict.fromkeys([*record.parts, *own.parts]):
            left, right = record.parts.get(part, 0.0), own.parts.get(part, 0.0)
            if abs(left - right) > BYTE:
                stated_bytes = f"{name}: stage {own.stage} states {left:.0f} bytes of {part}"
                yield f"{stated_bytes}, the judge finds {right:.0f}"


def _bad_bindings(name: str, bindings: Sequence[Binding], machines: Sequence[MachineType]) -> Iterator[str]:
    """Yield bindings that name a GPU, NUMA domain, core or port that none of the machines has."""
    for item in bindings:
        if not any(_is_possible(item, machine) for machine in machines):
            parts = f"{item.gpu}, {item.numa}, cores {item.cores} and {item.nic}"
            yield f"{name}: no machine of the plan has {parts}"


def _is_possible(item: Binding, machine: MachineType) -> bool:
    gpus = {gpu.name: gpu.numa for gpu in machine.gpus}
    if gpus.get(item.gpu) != item.numa:
        return False
    if item.nic is not None and item.nic not in {nic.name for nic in machine.nics}:
        return False
    return {int(core) for core in expand(f"[{item.cores}]")} <= set(core_numbers(machine, item.numa))


def _differs(stated: float, found: float) -> bool:
    if stated == found:
        return False
    return not abs(stated - found) <= RELATIVE * max(abs(found), 1e-12)
