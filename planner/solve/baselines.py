"""What simple rules would do: each plan reports its gain over them, judged by the same judge."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from planner.placement import (
    Baseline,
    ServingProblem,
    Strategy,
    TrainingProblem,
    as_candidates,
    broken_rules,
    gpu_numbers,
    judge_serving,
    judge_training,
    limits_broken,
)
from planner.solve.budget import Budget
from planner.solve.degrees import degree_choices, level_sizes, span_choices
from planner.solve.layout import nested_layout
from planner.solve.serving import PlacedService, place_service, replica_chains, replica_slots
from planner.solve.training import PlacedStrategy

IntArray = NDArray[np.int64]


def training_baselines(problem: TrainingProblem, best: PlacedStrategy) -> list[Baseline]:
    """Return the baselines of a training plan: greedy degrees, topology-blind ranks, even layers."""
    return [
        _baseline(
            "greedy",
            greedy_time(problem),
            best.seconds,
            "smallest model-parallel size that fits, data parallel beyond",
        ),
        _baseline(
            "topology-blind",
            blind_time(problem, best),
            best.seconds,
            "same degrees, ranks dealt over domains in turn",
        ),
        _baseline("even split", even_time(problem, best), best.seconds, "same plan, layers split evenly"),
    ]


def _baseline(name: str, value: float | None, best: float, note: str) -> Baseline:
    return Baseline(name=name, value=value, ratio=None if value is None else value / best, note=note)


def greedy_time(problem: TrainingProblem) -> float | None:
    """Return the step time of the usual rule, s, ``None`` where it finds nothing.

    Tensor parallel grows first, inside the innermost domain, then the pipeline, until the model fits;
    data parallel takes the rest; recomputation only when needed.
    """
    for strategy in _greedy_order(problem):
        if broken_rules(problem, as_candidates(strategy)).any():
            continue
        chains = span_choices(
            level_sizes(problem.hierarchy), strategy.tp, strategy.pp, strategy.dp, strategy.cp, strategy.ep
        )
        for chain in sorted(chains, reverse=True):
            gpus = nested_layout(strategy, chain, problem.hierarchy)
            if gpus is None:
                continue
            layers = even_layers(problem.model.layers, strategy.pp)
            outcome = judge_training(problem, strategy, layers, [problem.hierarchy.gpus[g] for g in gpus])
            if (np.asarray(sum(outcome.memory.values())) <= problem.capacity).all():
                return outcome.step_time
            break
    return None


def _greedy_order(problem: TrainingProblem) -> Iterator[Strategy]:
    choices = degree_choices(problem)
    island = int(problem.hierarchy.levels[0].capacities.max())
    experts = problem.model.experts is not None
    for pp in choices["pp"]:
        for tp in [t for t in choices["tp"] if t <= island]:
            dp = max((d for d in choices["dp"] if d * tp * pp <= problem.num_gpus), default=1)
            for recompute in ("none", "full"):
                ep = (
                    max((e for e in choices["ep"] if (dp * tp) % e == 0 and e <= island), default=1)
                    if experts
                    else 1
                )
                yield Strategy(
                    tp=tp, pp=pp, dp=dp, ep=ep, recompute=recompute,
                    sharding="optimizer" if dp > 1 else "none", sequence_parallel=tp > 1,
                )  # fmt: skip


def even_layers(layers: int, stages: int) -> list[int]:
    """Return layers per stage as equal as possible, the first stages taking the rest."""
    return [layers // stages + (stage < layers % stages) for stage in range(stages)]


def even_time(problem: TrainingProblem, best: PlacedStrategy) -> float | None:
    """Return the step time with an even split, s, ``None`` where it does not fit."""
    layers = even_layers(problem.model.layers, best.strategy.pp)
    outcome = judge_training(problem, best.strategy, layers, best.devices)
    return outcome.step_time if (np.asarray(sum(outcome.memory.values())) <= problem.capacity).all() else None


def blind_time(problem: TrainingProblem, best: PlacedStrategy) -> float:
    """Return the step time when ranks are dealt over the innermost domains in turn, s."""
    devices = [problem.hierarchy.gpus[g] for g in dealt_order(problem, best.devices)]
    return judge_training(problem, best.strategy, best.layers, devices, best.again).step_time


def dealt_order(problem: TrainingProblem | ServingProblem, devices: list[str]) -> IntArray:
    """Return GPU numbers one domain after the other in turn, as a scheduler does that spreads pods."""
    numbers = gpu_numbers(problem, sorted(devices))
    domains = problem.hierarchy.levels[0].domain_of[numbers]
    turn = np.zeros(len(numbers), dtype=np.int64)
    for domain in np.unique(domains):
        turn[domains == domain] = np.arange(int((domains == domain).sum()))
    return numbers[np.lexsort((domains, turn))]


def serving_baselines(problem: ServingProblem, best: PlacedService, budget: Budget) -> list[Baseline]:
    """Return the baselines of a serving plan: one GPU group as small as fits, one as wide as the machine."""
    found = [
        _service(
            "greedy",
            problem,
            _smallest(problem, budget),
            best,
            "smallest replicas that fit, as many as there are GPUs",
        ),
        _service(
            "widest tensor parallel",
            problem,
            _widest(problem, budget),
            best,
            "one replica over the innermost domain",
        ),
    ]
    if best.prefill is not None:
        return found  # how its GPUs would be dealt out is not one rule
    found.append(
        _service(
            "topology-blind",
            problem,
            _shuffled(problem, best),
            best,
            "same degrees, GPUs dealt over domains in turn",
        )
    )
    return found


def _service(
    name: str, problem: ServingProblem, placed: PlacedService | None, best: PlacedService, note: str
) -> Baseline:
    if placed is None:
        return Baseline(name=name, value=None, ratio=None, note=f"{note}: does not fit")
    broken = limits_broken(problem, placed.outcome)
    if any("steady state" in sentence for sentence in broken):
        return Baseline(name=name, value=None, ratio=None, note=f"{note}: cannot sustain the rate")
    suffix = f": breaks {broken[0].split(' ')[0]}" if broken else ""
    return Baseline(name=name, value=placed.value, ratio=placed.value / best.value, note=note + suffix)


def _smallest(problem: ServingProblem, budget: Budget) -> PlacedService | None:
    island = int(problem.hierarchy.levels[0].capacities.max())
    for tp in [t for t in (1, 2, 4, 8, 16) if t <= island and problem.model.heads % t == 0]:
        placed = _plain(problem, Strategy(tp=tp, dp=max(1, problem.num_gpus // tp)), budget)
        if placed is not None and float(placed.outcome.model.max_batch[0]) >= 1.0:
            return placed
    return None


def _widest(problem: ServingProblem, budget: Budget) -> PlacedService | None:
    island = min(int(problem.hierarchy.levels[0].capacities.max()), problem.num_gpus)
    tp = max(t for t in range(1, island + 1) if problem.model.heads % t == 0 and problem.model.ffn % t == 0)
    return _plain(problem, Strategy(tp=tp, dp=1), budget)


def _plain(problem: ServingProblem, strategy: Strategy, budget: Budget) -> PlacedService | None:
    for chain in sorted(replica_chains(level_sizes(problem.hierarchy), strategy), reverse=True):
        slots = replica_slots(problem, strategy, chain, budget)
        if slots.groups is not None:
            return place_service(problem, strategy, slots.groups, budget)
    return None


def _shuffled(problem: ServingProblem, best: PlacedService) -> PlacedService:
    used = [gpu for replica in best.replicas for gpu in replica.gpus()]
    order = [problem.hierarchy.gpus[g] for g in dealt_order(problem, used)]
    size = best.strategy.tp * best.strategy.pp
    replicas = []
    for index, replica in enumerate(best.replicas):
        mine = order[index * size : (index + 1) * size]
        same_node = mine[0].split("/")[0] == replica.node
        replicas.append(replica.model_copy(update={"devices": mine}) if same_node else replica)
    if len({gpu for replica in replicas for gpu in replica.gpus()}) != len(used):
        replicas = best.replicas
    outcome = judge_serving(problem, best.strategy, replicas)
    value = problem.value(float(len(used)), outcome.latency_p99)
    return PlacedService(best.strategy, replicas, outcome, value)
