"""Walk every plan of a small problem with the judge alone; nothing of the solver is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.costs import StageCosts, stage_costs
from planner.costs.pipeline import host_memory, in_flight, split_kinds, stage_memory, step_time
from planner.costs.training import RECOMPUTE, SHARDING
from planner.placement import (
    CpuPlacement,
    Replica,
    ServingOutcome,
    ServingProblem,
    Strategy,
    TrainingProblem,
    Transfer,
    as_candidates,
    broken_rules,
    host_options,
    judge_serving,
    limits_broken,
    training_spans,
    transfer_sizes,
)
from planner.placement.job_problem import free_cores
from planner.placement.pools import PlacedPool, judge_pools
from planner.placement.serving import serving_rules

Key = tuple[Any, ...]
IntArray = NDArray[np.int64]


DEFAULTS: dict[str, list[Any]] = {"overlap": ["all"], "offload": ["none"]}
"""Values of the degrees that a job does not list; 1 for those that are not here."""


def legal_strategies(problem: TrainingProblem) -> Iterator[Strategy]:
    """Yield every legal strategy of the job's degree lists that the GPUs can hold."""
    degrees = problem.job.degrees
    names = (
        "tp",
        "pp",
        "dp",
        "cp",
        "ep",
        "virtual",
        "micro_batch",
        "recompute",
        "sharding",
        "overlap",
        "offload",
    )
    lists: list[Any] = [getattr(degrees, name) or DEFAULTS.get(name, [1]) for name in names]
    for *values, parallel in product(*lists, (False, True)):
        strategy = Strategy(**dict(zip(names, values, strict=True)), sequence_parallel=parallel)
        recompute, sharding = strategy.recompute, strategy.sharding
        fits = strategy.num_ranks <= problem.num_gpus and recompute in RECOMPUTE and sharding in SHARDING
        if fits and not broken_rules(problem, as_candidates(strategy)).any():
            yield strategy


def compositions(total: int, parts: int, least: int) -> Iterator[list[int]]:
    """Yield every way to split ``total`` in ``parts`` of at least ``least``, in order."""
    if parts == 1:
        if total >= least:
            yield [total]
        return
    for first in range(least, total - least * (parts - 1) + 1):
        for rest in compositions(total - first, parts - 1, least):
            yield [first, *rest]


def best_training(problem: TrainingProblem) -> float:
    """Return the least step time over all strategies, layer splits and rank orders, infinite without any."""
    signature = problem.hierarchy.signature()
    spans_of: dict[tuple[int, ...], list[Any]] = {}
    pairs: list[tuple[Strategy, Any]] = []
    for strategy in legal_strategies(problem):
        shape = (strategy.tp, strategy.pp, strategy.dp, strategy.cp, strategy.ep, min(strategy.virtual, 2))
        if shape not in spans_of:
            spans_of[shape] = distinct_spans(problem, strategy, signature)
        pairs += [(strategy, spans) for spans in spans_of[shape]]
    if not pairs:
        return float("inf")
    many = _joined([as_candidates(strategy) for strategy, _ in pairs])
    spans = _joined([spans for _, spans in pairs])
    costs = stage_costs(problem.shape, many, spans, problem.kernels, problem.fabric, problem.calibration)
    return min(best_split(problem, strategy, costs, row) for row, (strategy, _) in enumerate(pairs))


def _joined(rows: list[Any]) -> Any:
    """Return records of arrays with one row each as one record."""
    names = [field.name for field in fields(rows[0])]
    return type(rows[0])(**{name: np.concatenate([getattr(row, name) for row in rows]) for name in names})


def best_split(problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int) -> float:
    """Return the least step time over the splits and repeated layers that fit, infinite without any."""
    best = float("inf")
    flight = in_flight(strategy.pp, strategy.virtual, int(costs.num_micro_batches[row]))
    for layers in compositions(problem.model.layers, strategy.pp, strategy.virtual):
        dense, moe = split_kinds(np.asarray(layers), problem.model.dense_layers)
        host = host_memory(costs, row, dense, moe, flight)
        if (host > problem.shape.host.memory).any():
            continue
        for again in repeats(problem, strategy, layers):
            device = np.asarray(sum(stage_memory(costs, row, dense, moe, flight, again).values()))
            if (device <= problem.capacity).all():
                best = min(best, step_time(costs, row, strategy.virtual, dense, moe, again))
    return best


def repeats(problem: TrainingProblem, strategy: Strategy, layers: list[int]) -> Iterator[IntArray]:
    """Yield every way to repeat layers of the stages: as many of each chunk as the job lists."""
    listed = problem.job.degrees.recompute_layers
    each = range(problem.model.layers + 1) if listed is None else listed
    alike = [sorted({min(n * strategy.virtual, count) for n in each}) for count in layers]
    for choice in product(*(alike if strategy.recompute == "block" else [[0]] * len(layers))):
        yield np.asarray(choice, dtype=np.int64)


def distinct_spans(
    problem: TrainingProblem, strategy: Strategy, signature: np.ndarray[Any, Any]
) -> list[Any]:
    """Return the spans of every rank order, each distinct one once."""
    found: dict[bytes, Any] = {}
    seen: set[bytes] = set()
    for order in permutations(range(problem.hierarchy.num_gpus), strategy.num_ranks):
        domains = signature[list(order)].tobytes()
        if domains in seen:
            continue
        seen.add(domains)
        spans = training_spans(strategy, np.asarray(order), problem.hierarchy)
        key = b"".join(np.asarray(getattr(spans, name)).tobytes() for name in spans.__dataclass_fields__)
        found[key] = spans
    return list(found.values())


def best_serving(problem: ServingProblem) -> float:
    """Return the least objective over all strategies, GPU choices and CPU placements on a single node."""
    best = float("inf")
    for strategy in served_strategies(problem):
        for order in distinct_orders(problem, strategy.num_ranks):
            host = _best_host(problem, replicas_on(strategy, order))
            if host is None:
                continue
            outcome = judge_serving(problem, strategy, host)
            if not limits_broken(problem, outcome):
                best = min(best, _value(problem, strategy.num_ranks, outcome))
    return best


def best_pools(problem: ServingProblem) -> float:
    """Return the least objective over all pairs of strategies, numbers of replicas and orders of GPUs.

    For machines whose nodes are all alike.
    """
    best, every = float("inf"), served_strategies(problem)
    for prefill, decode in product(every, every):
        first, total = prefill.num_ranks, prefill.num_ranks + decode.num_ranks
        if total > problem.num_gpus or prefill.kv_precision != decode.kv_precision:
            continue
        for order in distinct_orders(problem, total):
            pools = [
                PlacedPool(strategy, [on_host(problem, one) for one in replicas_on(strategy, gpus)])
                for strategy, gpus in ((prefill, order[:first]), (decode, order[first:]))
            ]
            outcome = judge_pools(problem, *pools)
            if not limits_broken(problem, outcome):
                best = min(best, _value(problem, total, outcome))
    return best


def served_strategies(problem: ServingProblem) -> list[Strategy]:
    """Return every legal strategy of the job's degree and type lists that the GPUs can hold."""
    d = problem.job.degrees
    lists = (d.tp, d.pp, d.replicas, d.ep, d.adp)
    listed = (d.precision, d.expert_precision, d.kv_precision)
    types = list(product(*([None] if one is None else one for one in listed)))
    found = []
    for (tp, pp, dp, ep, adp), chosen in product(product(*(one or [1] for one in lists)), types):
        named = dict(zip(("precision", "expert_precision", "kv_precision"), chosen, strict=True))
        strategy = Strategy(tp=tp, pp=pp, dp=dp, ep=ep, adp=adp).model_copy(update=named)
        if strategy.num_ranks <= problem.num_gpus and not list(serving_rules(problem, strategy)):
            found.append(strategy)
    return found


def replicas_on(strategy: Strategy, order: list[str]) -> list[Replica]:
    """Return the replicas of a strategy on GPUs, one after the other."""
    size = strategy.tp * strategy.pp
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    return [
        Replica(name=f"r{number}", node=group[0].split("/", 1)[0], devices=group)
        for number, group in enumerate(groups)
    ]


def _value(problem: ServingProblem, gpus: int, outcome: ServingOutcome) -> float:
    return float(gpus) if problem.job.objective == "gpus" else outcome.latency_p99


def distinct_orders(problem: ServingProblem, count: int) -> Iterator[list[str]]:
    """Yield GPU orders, one for each distinct pattern of domains and NUMA homes."""
    home = {
        f"{node.name}/{gpu.name}": gpu.numa for node in problem.topology.nodes for gpu in node.machine.gpus
    }
    signature = problem.hierarchy.signature()
    seen: set[Key] = set()
    for order in permutations(range(problem.hierarchy.num_gpus), count):
        names = [problem.hierarchy.gpus[index] for index in order]
        key = tuple(
            (signature[index].tobytes(), home[name]) for index, name in zip(order, names, strict=True)
        )
        if key not in seen:
            seen.add(key)
            yield names


def _best_host(problem: ServingProblem, replicas: list[Replica]) -> list[Replica] | None:
    """Return the replicas with the CPU placement whose slowest replica is fastest."""
    machine = problem.topology.nodes[0].machine
    stages = [*problem.job.before, *problem.job.after]
    free = {domain.name: free_cores(problem, machine, domain.name) for domain in machine.numa}
    options = [(name, cores) for name in free for cores in range(1, free[name] + 1)]
    best: tuple[float, list[Replica]] | None = None
    slots = len(stages) * len(replicas)
    for choice in product(options, repeat=slots):
        if any(sum(c for n, c in choice if n == name) > room for name, room in free.items()):
            continue
        placed = [
            _hosted(problem, replica, choice[i * len(stages) : (i + 1) * len(stages)])
            for i, replica in enumerate(replicas)
        ]
        outcome = judge_serving(
            problem, Strategy(tp=1, pp=1, dp=len(replicas)), [_alone(item) for item in placed]
        )
        worst = max(outcome.host.values())
        if worst < float("inf") and (best is None or worst < best[0]):
            best = worst, placed
    return None if best is None else best[1]


def on_host(problem: ServingProblem, replica: Replica) -> Replica:
    """Return a replica without CPU stages with its fastest transfers."""
    return _hosted(problem, replica, ())


def _alone(replica: Replica) -> Replica:
    return replica.model_copy(update={"devices": replica.gpus()[:1]})


def _hosted(problem: ServingProblem, replica: Replica, choice: tuple[tuple[str, int], ...]) -> Replica:
    machine = problem.topology.nodes[0].machine
    names = [stage.name for stage in (*problem.job.before, *problem.job.after)]
    stages = [
        CpuPlacement(stage=name, numa=numa, cores=cores, core_list="", utilisation=0.0, latency=0.0)
        for name, (numa, cores) in zip(names, choice, strict=True)
    ]
    before = len(problem.job.before)
    gpu = replica.gpus()[0].split("/")[1]
    sizes = transfer_sizes(problem)
    transfers = []
    for into, stage in (
        (True, stages[before - 1] if before else None),
        (False, stages[before] if len(stages) > before else None),
    ):
        places = [stage.numa] if stage else [domain.name for domain in machine.numa]
        ways = [
            (option.seconds, option.mode, numa)
            for numa in places
            for option in host_options(
                problem, machine, numa, gpu, sizes[0 if into else 1], "in" if into else "out"
            )
        ]
        seconds, mode, numa = min(ways)
        ends = (numa, gpu) if into else (gpu, numa)
        transfers.append(
            Transfer(
                name="t",
                source=ends[0],
                target=ends[1],
                size=sizes[0 if into else 1],
                mode=mode,
                seconds=seconds,
            )
        )
    return replica.model_copy(update={"stages": stages, "transfers": transfers})
