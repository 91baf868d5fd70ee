"""The judge of services whose prompts and answers are computed by separate pools, and of all services."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from planner.costs.pools import PrefillPool, cache_move, decode_pool, pooled, prefill_pool
from planner.placement.plan import Replica, ServingPlan, Strategy
from planner.placement.problem import ServingProblem, gpu_numbers
from planner.placement.records import StageMemory
from planner.placement.serving import (
    ServingOutcome,
    host_options,
    judge_serving,
    serving_model,
    serving_outcome_problems,
    serving_problems,
)
from planner.topology import Hierarchy

AGGREGATED, DISAGGREGATED = "aggregated", "disaggregated"
Holder = Sequence[Sequence[str]]
"""The GPUs that together hold the cache of a request: of each pipeline stage, in rank order."""
Part = TypeVar("Part")


@dataclass(frozen=True)
class PlacedPool:
    """Replicas of one strategy on their GPUs."""

    strategy: Strategy
    replicas: Sequence[Replica]

    @classmethod
    def of(cls, pool: ServingPlan) -> PlacedPool:
        """Return one of the pools of a plan."""
        return cls(pool.strategy, pool.replicas)

    def gpus(self) -> list[str]:
        """Return the GPUs of all replicas."""
        return [gpu for replica in self.replicas for gpu in replica.gpus()]


@dataclass(frozen=True)
class PoolOutcome(ServingOutcome):
    """What the judge computes for two pools.

    Attributes
    ----------
    prefill
        Of the pool for prompts alone.
    moved
        Mean time to move the cache of a prompt, s.
    """

    prefill: PrefillPool
    moved: float

    @property
    def parts(self) -> dict[str, float]:
        """What the mean latency consists of, transfers to and from hosts left out, s."""
        first, rest = float(self.prefill.ttft[0]), float(self.model.latency_mean[0] - self.model.ttft_mean[0])
        prefill = float(self.prefill.prefill[0])
        return {
            "wait for prefill": first - prefill,
            "prefill": prefill,
            "move of the cache": self.moved,
            "decode": rest - self.moved,
        }


def allowed_pools(problem: ServingProblem) -> tuple[str, ...]:
    """Return what the job allows of ``aggregated`` and ``disaggregated``: the first where it says nothing."""
    return tuple(problem.job.degrees.pools or (AGGREGATED,))


def joining_level(gpus: Sequence[int], hierarchy: Hierarchy) -> int:
    """Return the innermost level one of whose domains holds all of some GPUs; one past the last without."""
    for number, level in enumerate(hierarchy.levels):
        if len(np.unique(level.domain_of[list(gpus)])) == 1:
            return number
    return len(hierarchy.levels)


def judge_pools(problem: ServingProblem, prefill: PlacedPool, decode: PlacedPool) -> PoolOutcome:
    """Return the predicted behaviour of two placed pools.

    Raises
    ------
    KeyError
        If a device is not one of the problem's.
    """
    prompts = prefill_pool(serving_model(problem, prefill.strategy, prefill.gpus()))
    answers = decode_pool(serving_model(problem, decode.strategy, decode.gpus()))
    numbers = gpu_numbers(problem, [*prefill.gpus(), *decode.gpus()])
    level = np.asarray([joining_level(numbers.tolist(), problem.hierarchy)])
    fabric = problem.fabric
    costs = pooled(problem.job, prompts, answers, level, fabric)
    moved = float(cache_move(problem.job, prompts, answers, level, fabric)[0][0])
    inwards = max(_transfer_time(problem, replica, into=True) for replica in prefill.replicas)
    outwards = max(_transfer_time(problem, replica, into=False) for replica in decode.replicas)
    return PoolOutcome(costs, {"both pools": inwards + outwards}, prompts, moved)


def judge_service(problem: ServingProblem, plan: ServingPlan) -> ServingOutcome:
    """Return the predicted behaviour of a plan, with or without pools."""
    if plan.prefill is None:
        return judge_serving(problem, plan.strategy, plan.replicas)
    first, second = plan.pools()
    return judge_pools(problem, PlacedPool.of(first), PlacedPool.of(second))


def cache_holders(pool: ServingPlan) -> list[list[Holder]]:
    """Return, for each replica of a pool and each of its copies of attention, who holds a request's cache."""
    tp, width = pool.strategy.tp, pool.strategy.tp // pool.strategy.adp
    found: list[list[Holder]] = []
    for replica in pool.replicas:
        gpus = replica.gpus()
        stages = [gpus[start : start + tp] for start in range(0, len(gpus), tp)]
        copies = range(0, tp, width)
        found.append([[stage[start : start + width] for stage in stages] for start in copies])
    return found


def cache_pairs(sources: Holder, targets: Holder) -> list[tuple[str, str, float]]:
    """Return who sends to whom when a cache moves, and which share of what the target holds.

    Layers lie in order of stages, and heads in rank order within a stage, on both sides: with fewer targets
    each receives from several sources, with more several receive from each.
    """
    return [
        (source, target, of_layers * of_heads)
        for senders, receivers, of_layers in _overlaps(sources, targets)
        for source, target, of_heads in _overlaps(senders, receivers)
    ]


def _overlaps(sources: Sequence[Part], targets: Sequence[Part]) -> list[tuple[Part, Part, float]]:
    """Return which of two even divisions of one line overlap, and the share of the target that is common."""
    count = math.lcm(len(sources), len(targets))
    places = ((place * len(sources) // count, place * len(targets) // count) for place in range(count))
    share = len(targets) / count
    return [
        (sources[source], targets[target], number * share)
        for (source, target), number in Counter(places).items()
    ]


def _transfer_time(problem: ServingProblem, replica: Replica, *, into: bool) -> float:
    """Return the time of the inputs of a replica, or of its outputs, in the mode that it states, s."""
    machine = problem.topology.node_of[replica.node].machine
    domains = {domain.name for domain in machine.numa}
    transfer = next(item for item in replica.transfers if (item.source in domains) == into)
    ends = (transfer.source, transfer.target) if into else (transfer.target, transfer.source)
    options = host_options(problem, machine, *ends, transfer.size, "in" if into else "out")
    return next(option.seconds for option in options if option.mode == transfer.mode)


def prompt_memory(
    problem: ServingProblem, strategy: Strategy, pool: PrefillPool, max_batch: int
) -> list[StageMemory]:
    """Return the memory per device of the stages of a pool that holds ``max_batch`` prompts."""
    parts = {
        "weights": float(pool.weights[0]),
        "kv cache": float(pool.prompt_cache[0]) * max_batch / strategy.adp,
        "working": float(pool.working[0]),
        "context and buffers": problem.calibration.number("context_bytes"),
    }
    capacity = problem.device.memory.value
    return [StageMemory(stage=stage, parts=parts, capacity=capacity) for stage in range(strategy.pp)]


def service_problems(problem: ServingProblem, plan: ServingPlan) -> Iterator[str]:
    """Yield every rule that a plan breaks, with or without pools, as sentences."""
    kind = AGGREGATED if plan.prefill is None else DISAGGREGATED
    if kind not in allowed_pools(problem):
        yield f"{plan.name}: {kind}, which the job does not allow"
    for pool in plan.pools():
        yield from serving_problems(problem, pool)
    if plan.prefill is None:
        return
    names = plan.gpus()
    if len(set(names)) != len(names):
        yield f"{plan.name}: a GPU is in both pools"
    if len(names) > problem.num_gpus:
        yield f"{plan.name}: {len(names)} GPUs exceed the {problem.num_gpus} that may be used"
    if problem.job.before or problem.job.after:
        yield f"{plan.name}: pools have no CPU stages"
    for first, second in pairwise(pool.strategy for pool in plan.pools()):
        if first.kv_precision != second.kv_precision:
            yield f"{plan.name}: the caches of the two pools have different data types"


def service_outcome_problems(
    problem: ServingProblem, plan: ServingPlan, outcome: ServingOutcome
) -> Iterator[str]:
    """Yield broken limits, memory that does not fit, and stated figures of either pool that are not so."""
    yield from serving_outcome_problems(problem, plan, outcome)
    if plan.prefill is None or not isinstance(outcome, PoolOutcome):
        return
    own = prompt_memory(problem, plan.prefill.strategy, outcome.prefill, plan.prefill.batching.max_batch)
    if own[0].total > problem.capacity * (1 + 1e-9):
        yield f"{plan.name}: the pool for prompts needs {own[0].total:.4g} bytes of {problem.capacity:.4g}"
    if plan.prefill.batching.max_batch < 1:
        yield f"{plan.name}: the pool for prompts holds none"
    if abs(plan.prefill.cache_move - outcome.moved) > 1e-6 * outcome.moved:
        stated = plan.prefill.cache_move
        yield f"{plan.name}: moves a cache in {stated:.6g} s as stated, the judge finds {outcome.moved:.6g} s"


def repeated_names(plan: ServingPlan) -> Iterator[str]:
    """Yield names that several replicas have."""
    names = Counter(replica.name for pool in plan.pools() for replica in pool.replicas)
    yield from (f"{plan.name}: {count} replicas are called {n!r}" for n, count in names.items() if count > 1)
