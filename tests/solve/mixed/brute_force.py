"""Walk every mixed plan of a small problem with the judge alone; nothing of the solver is used."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np

from planner.placement import Strategy, training_spans
from planner.placement.mixed import MixedTrainingProblem, capacities, judge_cells, mixed_rules


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to split ``total`` in ``parts`` of at least one, in order."""
    if parts == 1:
        if total >= 1:
            yield (total,)
        return
    for first in range(1, total - parts + 2):
        for rest in compositions(total - first, parts - 1):
            yield (first, *rest)


def strategies(problem: MixedTrainingProblem) -> Iterator[Strategy]:
    """Yield every legal strategy of the job's degree lists."""
    degrees = problem.job.degrees
    names = ("tp", "pp", "dp", "cp", "micro_batch", "recompute", "sharding")
    lists: list[Any] = [getattr(degrees, name) or [1] for name in names]
    for *values, parallel in product(*lists, (False, True)):
        strategy = Strategy(**dict(zip(names, values, strict=True)), sequence_parallel=parallel)
        if not list(mixed_rules(problem, strategy)):
            yield strategy


def layouts(problem: MixedTrainingProblem, strategy: Strategy) -> Iterator[tuple[Any, Any]]:
    """Yield the kinds of the cells and the spans of every legal rank order, each distinct pair once."""
    inner, seen = problem.hierarchy.levels[0].domain_of, set()
    for order in permutations(range(problem.hierarchy.num_gpus), strategy.num_ranks):
        gpus = np.asarray(order)
        cells = gpus.reshape(strategy.pp, strategy.dp, -1)
        kinds = problem.kind_of[cells]
        if (kinds != kinds[:, :, :1]).any() or (inner[cells] != inner[cells][:, :, :1]).any():
            continue
        spans = training_spans(strategy, gpus, problem.hierarchy)
        fields = [np.asarray(getattr(spans, name)).tobytes() for name in spans.__dataclass_fields__]
        key = (kinds.tobytes(), *fields)
        if key not in seen:
            seen.add(key)
            yield kinds[:, :, 0], spans


def best_mixed(problem: MixedTrainingProblem) -> float:
    """Return the least step time, s, infinite where nothing fits."""
    best = float("inf")
    for strategy in strategies(problem):
        count = problem.job.global_batch // strategy.micro_batch
        for kinds, spans in layouts(problem, strategy):
            for layers in compositions(problem.model.layers, strategy.pp):
                for batches in compositions(count, strategy.dp):
                    outcome = judge_cells(problem, strategy, layers, batches, kinds, spans)
                    if (outcome.memory <= capacities(problem)[kinds]).all():
                        best = min(best, outcome.step_time)
    return best
