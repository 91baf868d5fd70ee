"""What a plan states of a judged ensemble: times, transfers, memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from planner.costs import MemoryMode
from planner.costs.host import service_time, traffic
from planner.placement.ensemble_design import Group, Key, Pools
from planner.placement.ensemble_judge import Judged, Moved, seconds
from planner.placement.ensemble_plan import ClassPrediction, EnsemblePrediction, EnsembleTransfer
from planner.placement.ensemble_problem import SHARES, TICK, EnsembleProblem
from planner.placement.records import StageMemory
from planner.placement.serving import HOST_BANDWIDTH_SHARE

PARTS = ("cpu", "cpu queue", "transfer", "batch wait", "gpu queue", "gpu")
VARIATION = "variation up to p99"


def prediction(judged: Judged) -> EnsemblePrediction:
    """Return the predicted behaviour of a design that keeps up."""
    problem = judged.problem
    classes = [class_prediction(judged, request) for request in range(len(problem.classes))]
    weights = [request.weight / sum(each.weight for each in problem.classes) for request in problem.classes]
    breakdown = {
        part: sum(
            weight * said.breakdown.get(part, 0.0) for weight, said in zip(weights, classes, strict=True)
        )
        for part in PARTS
    }
    mean = sum(weight * said.latency_mean for weight, said in zip(weights, classes, strict=True))
    tail = weighted_tail(judged)
    breakdown[VARIATION] = tail - mean
    return EnsemblePrediction(classes=classes, latency_p99=tail, breakdown=breakdown, gpu_utilisation={})


def weighted_tail(judged: Judged) -> float:
    """Return the weighted mean of the classes' 99th percentiles, s."""
    weights = [request.weight for request in judged.problem.classes]
    whole = sum(weight * tail for weight, tail in zip(weights, judged.tails, strict=True))
    return whole / sum(weights) * TICK / (1000 * SHARES)


def class_prediction(judged: Judged, request: int) -> ClassPrediction:
    """Return the prediction of one class; what rounding adds to a part's ticks counts as transfer."""
    problem = judged.problem
    path, mean, tail = judged.slowest(request)
    parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for stage in path:
        part = judged.stage_parts[stage, request]
        assert part is not None
        for name, value in part.split.items():
            parts[name] += value
    parts["transfer"] = seconds(mean) - sum(value for name, value in parts.items() if name != "transfer")
    return ClassPrediction(
        name=problem.classes[request].name, rate=problem.classes[request].rate,
        latency_mean=seconds(mean), latency_p99=seconds(tail), breakdown=parts,
        path=[problem.stages[stage].name for stage in path],
    )  # fmt: skip


def transfers(judged: Judged) -> list[EnsembleTransfer]:
    """Return every move of every class that takes time or could be made otherwise."""
    problem = judged.problem
    return [
        _transfer(judged, key, moved)
        for key, moved in judged.ways.items()
        if moved.carrier != "none"
        and problem.size(problem.ways[key[0]], problem.classes[key[1]]) > 0
    ]  # fmt: skip


def _transfer(judged: Judged, key: Key, moved: Moved) -> EnsembleTransfer:
    problem, (index, request) = judged.problem, key
    way, size = problem.ways[index], problem.size(problem.ways[index], problem.classes[request])
    names = [None if stage is None else problem.stages[stage].name for stage in (way.source, way.target)]
    mode = judged.design.modes.get(key) if moved.carrier == "host-copy" else None
    other = runner_up(judged, key, moved) if mode is not None else None
    return EnsembleTransfer(
        source=names[0], target=names[1], request=problem.classes[request].name, size=size,
        carrier=moved.carrier, mode=mode, local=moved.local / SHARES, node=moved.node / SHARES,
        seconds=moved.seconds, runner_up=None if other is None else other[0],
        runner_up_seconds=None if other is None else other[1],
    )  # fmt: skip


def runner_up(judged: Judged, key: Key, moved: Moved) -> tuple[MemoryMode, float] | None:
    """Return the next best memory mode of a copy and its time over the same distances, s."""
    problem, (index, request) = judged.problem, key
    way, size = problem.ways[index], problem.size(problem.ways[index], problem.classes[request])
    first = way.source is not None and (way.source, request) in judged.group_of
    options = problem.prices.host_copy(size, "out" if first else "in")
    found = []
    for mode, levels in options.items():
        if mode != judged.design.modes[key]:
            fine = SHARES * levels[0] + (levels[1] - levels[0]) * (SHARES - moved.local)
            fine += (levels[2] - levels[1]) * (SHARES - moved.node)
            found.append((fine * TICK / SHARES, mode))
    if not found:
        return None
    time, other = min(found)
    return other, time


def group_memory(problem: EnsembleProblem, number: int, group: Group) -> StageMemory:
    """Return the device memory of a unit of a group, by tenant."""
    parts = {"context and buffers": problem.calibration.number("context_bytes")}
    for tenant in group.tenants:
        stage = problem.stages[tenant.stage]
        assert stage.gpu is not None
        size = stage.gpu.weights + tenant.batch * stage.gpu.activations
        parts[stage.name] = parts.get(stage.name, 0.0) + size
    return StageMemory(stage=number, parts=parts, capacity=problem.profiles[group.profile].memory.value)


def host_memory(judged: Judged) -> dict[str, float]:
    """Return the bytes of workers and of pinned buffers by domain, where there are any."""
    problem = judged.problem
    found: dict[str, float] = defaultdict(float)
    for pools in judged.design.pools:
        cpu = problem.stages[pools.stage].cpu
        assert cpu is not None
        for domain in pools.domains:
            found[problem.domains[domain].name] += pools.workers * cpu.memory
    for domain, size in pinned(judged).items():
        found[problem.domains[domain].name] += size
    return {name: size for name, size in found.items() if size}


def pinned(judged: Judged) -> dict[int, float]:
    """Return the pinned bytes of every domain: buffers of the instances next to it."""
    problem = judged.problem
    found: dict[int, float] = defaultdict(float)
    for (index, request), moved in judged.ways.items():
        if moved.carrier != "host-copy" or judged.design.modes[index, request] != "pinned-copy":
            continue
        way = problem.ways[index]
        ends = [stage for stage in (way.source, way.target) if stage is not None]
        stage = next(stage for stage in ends if (stage, request) in judged.group_of)
        for domain, units in enumerate(judged.group_of[stage, request].units):
            found[domain] += units * problem.pinned_bytes(way, stage)
    return dict(found)


def pool_utilisation(problem: EnsembleProblem, pools: Pools) -> float:
    """Return the busy part of the time of a worker of some pools."""
    stage, domain = problem.stages[pools.stage], problem.domains[pools.domains[0]]
    load = sum(
        request.rate * service_time(stage.cpu_stage(stage.units(request)), domain.numa)
        for request in problem.classes
    )
    return load / len(pools.domains) / pools.workers


def host_problems(judged: Judged) -> Iterator[str]:
    """Yield over-committed cores, memory and memory rates of domains, and pinned memory above its budget."""
    problem = judged.problem
    cores: dict[int, int] = defaultdict(int)
    moved: dict[int, float] = defaultdict(float)
    for pools in judged.design.pools:
        stage = problem.stages[pools.stage]
        assert stage.cpu is not None
        load = sum(
            request.rate * traffic(stage.cpu_stage(stage.units(request))) for request in problem.classes
        )
        for place in pools.domains:
            cores[place] += pools.workers * stage.cpu.parallel
            moved[place] += load / len(pools.domains)
    used, locked = host_memory(judged), pinned(judged)
    free = 1.0 - problem.calibration.number("memory_margin")
    for domain in problem.domains:
        numa, index = domain.numa, domain.index
        if cores[index] > domain.cores:
            room = f"{domain.cores} of {numa.cores} are free"
            yield f"{cores[index]} cores planned on {domain.name}, where {room}"
        if used.get(domain.name, 0.0) > numa.memory.value * free:
            yield f"workers and pinned buffers need more memory than {domain.name} has"
        if moved[index] > numa.memory_bandwidth.value * HOST_BANDWIDTH_SHARE * (1 + 1e-9):
            yield f"CPU stages need more memory bandwidth than {domain.name} has"
        if locked.get(index, 0.0) > numa.memory.value * problem.job.allow.pinned:
            yield f"pinned buffers exceed the budget of {domain.name}"
