"""Operator graphs on a topology: the problem, the part of the plan, and its judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from planner.placement.bindings import gpu_bindings
from planner.placement.graph_prices import host_route, priced_graph, wires_of
from planner.placement.job_problem import JobProblem
from planner.placement.operators import (
    CPU,
    Assignment,
    Kind,
    OperatorProblem,
    broken_rules,
    invocations,
    transfers,
    value,
)
from planner.placement.operators_plan import (
    OperatorMove,
    OperatorsPlan,
    OperatorsPrediction,
    OperatorStage,
    PartName,
)
from planner.placement.records import StageMemory
from planner.placement.replicas import Copies, broken_copies, replicated_load, shared_load
from planner.placement.wires import link_times, wired_times
from planner.workload import OperatorGraph, OperatorsJob

SAME = 1e-6
"""Relative difference between a stated figure and the judge's that rounding explains."""


@dataclass(frozen=True)
class OperatorsProblem(JobProblem):
    """An operator graph on GPUs of one device model and the host of the first of them.

    Accelerator ``d`` of the graph's problem is the ``d``-th GPU; no more are used than there are operators.
    """

    job: OperatorsJob
    model: OperatorGraph

    @cached_property
    def accelerators(self) -> tuple[str, ...]:
        """GPUs that may be used, neighbours side by side."""
        return self.hierarchy.gpus[: min(self.num_gpus, len(self.model.operators))]

    @property
    def host(self) -> str:
        """Node whose processor stands for the CPU device."""
        return self.hierarchy.gpus[0].split("/", 1)[0]

    @cached_property
    def graph_problem(self) -> OperatorProblem:
        """The graph with its machine: so many accelerators, their memory, perhaps a CPU."""
        kind: Kind = "contiguous" if self.job.contiguous else "free"
        if self.job.objective == "latency":
            kind = "latency"
        _, host = host_route(self.topology, self.accelerators[0])
        graph = priced_graph(self.model, self.device, self.job.precision, self.calibration, host)
        has_cpu = self.job.cpu and any(op.on_cpu for op in graph.operators)
        wires = None
        if self.job.transfers == "links":
            wires = wires_of(graph, self.topology, self.accelerators, self.job.name)
        return OperatorProblem(
            graph, len(self.accelerators), self.capacity, kind, has_cpu, self._sync_rate(), wires
        )

    def _sync_rate(self) -> float:
        """Return the rate per GPU at the innermost level that holds all accelerators, bytes/s."""
        most = len(self.accelerators)
        for level, rate in zip(self.hierarchy.levels, self.fabric.rate, strict=True):
            if len(set(level.domain_of[:most].tolist())) == 1:
                return float(rate)
        return float(self.fabric.rate[-1])


def operators_plan(
    problem: OperatorsProblem, assignment: Assignment, copies: Copies | None = None
) -> OperatorsPlan:
    """Return the plan record of an assignment, with the judge's figures.

    Parameters
    ----------
    copies
        Accelerators of each stage, where the devices of the assignment are stages; they follow one another.
    """
    inner = problem.graph_problem
    graph = inner.graph
    used = sorted(set(assignment) - {CPU}) + ([CPU] if CPU in assignment else [])
    gpus = _gpus_of(problem, used, copies)
    stages = [_stage(inner, assignment, device, gpus[device]) for device in used]
    machine = problem.topology.node_of[problem.host].machine
    return OperatorsPlan(
        name=problem.job.name,
        model=graph_name(problem),
        objective=problem.job.objective,
        contiguous=problem.job.contiguous,
        host=problem.host,
        stages=stages,
        moves=list(_moves(graph, assignment, {device: place for place, device in enumerate(used)})),
        bindings=gpu_bindings(machine),
        memory=_memory(problem, stages),
        prediction=_prediction(inner, assignment, stages),
    )


def _gpus_of(problem: OperatorsProblem, used: Sequence[int], copies: Copies | None) -> dict[int, list[str]]:
    """Return the GPUs of each device of an assignment."""
    if copies is None:
        return {device: [] if device == CPU else [problem.accelerators[device]] for device in used}
    ends = [0, *accumulate(copies)]
    found = {stage: list(problem.accelerators[ends[stage] : ends[stage + 1]]) for stage in range(len(copies))}
    return found | {CPU: []}


def graph_name(problem: OperatorsProblem) -> str:
    """Return what a plan calls a graph: its file, or how many operators it has."""
    return problem.job.graph or f"graph of {len(problem.model.operators)} operators"


def _stage(inner: OperatorProblem, assignment: Sequence[int], device: int, gpus: list[str]) -> OperatorStage:
    graph = inner.graph
    held = [op for op, place in zip(graph.operators, assignment, strict=True) if place == device]
    load: dict[PartName, float] = {"compute": sum(op.cpu_time for op in held)}
    if inner.wires is not None:
        runs = load["compute"] if device == CPU else sum(op.accelerator_time for op in held)
        inwards, outwards = wired_times(graph, inner.wires, assignment, device)
        load = {"compute": runs, "transfers in": inwards, "transfers out": outwards}
    elif device != CPU:
        taken, handed = transfers(graph, assignment, device)
        load = {
            "compute": sum(op.accelerator_time for op in held),
            "transfers in": sum(graph.operators[index].transfer_time for index in taken),
            "transfers out": sum(graph.operators[index].transfer_time for index in handed),
        }
    if len(gpus) > 1:
        whole = shared_load(0.0, sum(op.weights for op in held), inner.sync_rate, len(gpus)) * len(gpus)
        load["gradients"] = whole
    return OperatorStage(devices=gpus, operators=[op.key for op in held], load=load)


def _moves(
    graph: OperatorGraph, assignment: Sequence[int], stage_of: dict[int, int]
) -> Iterator[OperatorMove]:
    for index, targets in enumerate(graph.successors):
        homes = {stage_of[assignment[target]] for target in targets} - {stage_of[assignment[index]]}
        if homes:
            op = graph.operators[index]
            source = stage_of[assignment[index]]
            yield OperatorMove(
                operator=op.key, source=source, targets=sorted(homes), seconds=op.transfer_time
            )


def _memory(problem: OperatorsProblem, stages: Sequence[OperatorStage]) -> list[StageMemory]:
    size = {op.key: op.size for op in problem.model.operators}
    return [
        StageMemory(
            stage=place,
            parts={"operators": sum(size[key] for key in stage.operators)},
            capacity=problem.capacity,
        )
        for place, stage in enumerate(stages)
        if not stage.on_host
    ]


def _prediction(
    inner: OperatorProblem, assignment: Assignment, stages: Sequence[OperatorStage]
) -> OperatorsPrediction:
    busiest = max(stages, key=lambda stage: stage.interval)
    links = 0.0 if inner.wires is None else max(link_times(inner.graph, inner.wires, assignment))
    interval = max(busiest.interval, links)
    try:
        runs = invocations(inner, assignment)
    except ValueError:
        runs = []
    copies = max(1, len(busiest.devices))
    parts: dict[str, float] = {name: seconds / copies for name, seconds in busiest.load.items() if seconds}
    if links > busiest.interval:
        parts = {"busiest link": links}
    if inner.kind == "latency":
        parts = dict(_critical(inner, assignment, runs, stages))
    return OperatorsPrediction(
        interval=interval,
        latency=max(end for _, _, end in runs) if runs else None,
        samples_per_second=1.0 / interval if interval > 0.0 else 0.0,
        breakdown=parts,
    )


def _critical(
    inner: OperatorProblem,
    assignment: Assignment,
    runs: list[tuple[int, float, float]],
    stages: Sequence[OperatorStage],
) -> Iterator[tuple[str, float]]:
    """Yield the parts of the chain of invocations that ends last; they add up to the latency."""
    used = sorted(set(assignment) - {CPU})
    ends = {end: (unit, start) for unit, start, end in runs if end > start}
    parts: dict[str, float] = {}
    now = max((end for _, _, end in runs), default=0.0)
    while now in ends:
        unit, start = ends[now]
        if unit >= 0:
            parts["host"] = parts.get("host", 0.0) + inner.graph.operators[unit].cpu_time
        else:
            for name, seconds in stages[used.index(-1 - unit)].load.items():
                parts[name] = parts.get(name, 0.0) + seconds
        now = start
    yield from parts.items()


def operators_objective(problem: OperatorsProblem, plan: OperatorsPlan) -> float:
    """Return the objective, s, of a legal plan, recomputed."""
    assignment, copies = assignment_of(problem, plan)
    if copies is None:
        return value(problem.graph_problem, assignment)
    return replicated_load(problem.graph_problem, assignment, copies)


def operators_problems(problem: OperatorsProblem, plan: OperatorsPlan) -> Iterator[str]:
    """Yield every rule that a plan breaks, and stated figures that differ from the judge's."""
    found = list(_naming_problems(problem, plan))
    if not found:
        assignment, copies = assignment_of(problem, plan)
        found = broken_rules(problem.graph_problem, assignment)
        found += [] if copies is None else broken_copies(problem.graph_problem, assignment, copies)
    if found:
        yield from (f"{plan.name}: {text}" for text in found)
        return
    expected = operators_plan(problem, assignment, copies)
    stated, judged = plan.prediction, expected.prediction
    if abs(stated.interval - judged.interval) > SAME * judged.interval:
        true_text = f"the judge finds {judged.interval:.6g} s"
        yield f"{plan.name}: an interval of {stated.interval:.6g} s is stated, {true_text}"
    loads = [stage.seconds for stage in _in_order(problem, plan)]
    truth = [stage.seconds for stage in expected.stages]
    for place, (said, true) in enumerate(zip(loads, truth, strict=True)):
        if abs(said - true) > SAME * max(true, judged.interval):
            yield f"{plan.name}: stage {place} states a load of {said:.6g} s, the judge finds {true:.6g} s"
    held = [(memory.total, memory.capacity) for memory in plan.memory]
    right = [(memory.total, memory.capacity) for memory in expected.memory]
    if len(held) != len(right) or any(
        abs(one - other) > SAME * max(other, 1.0)
        for pair, twin in zip(held, right, strict=True)
        for one, other in zip(pair, twin, strict=True)
    ):
        yield f"{plan.name}: the memory that is stated is not what the stages hold"


def _in_order(problem: OperatorsProblem, plan: OperatorsPlan) -> list[OperatorStage]:
    """Return the stages as the judge numbers them: in the order of the GPUs, the host last."""
    order = {gpu: index for index, gpu in enumerate(problem.accelerators)}
    return sorted(plan.stages, key=lambda stage: order[stage.devices[0]] if stage.devices else len(order))


def _naming_problems(problem: OperatorsProblem, plan: OperatorsPlan) -> Iterator[str]:
    keys = [op.key for op in problem.model.operators]
    placed = [key for stage in plan.stages for key in stage.operators]
    if sorted(placed) != sorted(keys):
        lost, alien = sorted(set(keys) - set(placed)), sorted(set(placed) - set(keys))
        twice = sorted({key for key in placed if placed.count(key) > 1}) if not lost and not alien else []
        yield f"operators not placed: {lost[:3]}, unknown: {alien[:3]}, placed twice: {twice[:3]}"
    homes = [stage.devices for stage in plan.stages]
    strangers = [gpu for home in homes for gpu in home if gpu not in problem.accelerators]
    if strangers:
        yield f"{strangers[0]!r} is not one of the {len(problem.accelerators)} GPUs that may be used"
    flat = [gpu for home in homes for gpu in home] + ["the host"] * homes.count([])
    if len(set(flat)) != len(flat):
        yield "a device holds two stages"
    if not problem.job.replicate and any(len(home) > 1 for home in homes):
        yield "a stage is on several GPUs, which the job does not allow"


def assignment_of(problem: OperatorsProblem, plan: OperatorsPlan) -> tuple[Assignment, Copies | None]:
    """Return the device of each operator that a plan states, or its stage with the copies of all stages."""
    number = {gpu: index for index, gpu in enumerate(problem.accelerators)}
    stages = _in_order(problem, plan)
    copies = None
    if problem.job.replicate:
        copies = tuple(len(stage.devices) for stage in stages if stage.devices)
        number = {stage.devices[0]: place for place, stage in enumerate(stages) if stage.devices}
    device = {
        key: number[stage.devices[0]] if stage.devices else CPU for stage in stages for key in stage.operators
    }
    return tuple(device[op.key] for op in problem.model.operators), copies
