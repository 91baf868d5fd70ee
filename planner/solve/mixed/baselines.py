"""What simple rules give on a mixed cluster: one kind alone, and everything split evenly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.errors import InfeasibleError
from planner.placement import Strategy, as_strategy, make_problem
from planner.placement.mixed import MixedPlacement, MixedTrainingProblem, capacities, judge_mixed
from planner.solve.baselines import even_layers
from planner.solve.budget import Budget
from planner.solve.jobs import solve_job
from planner.solve.mixed.space import FloatArray, Rows
from planner.solve.solution import JobSolution


def one_kind(problem: MixedTrainingProblem, kind: int, budget: Budget) -> JobSolution | None:
    """Return the best plan on the nodes of one kind alone, with the rates that these have among themselves.

    ``None`` where the job does not fit on them.
    """
    device = problem.kinds[kind].device.name
    topology = problem.topology
    nodes = tuple(node for node in topology.nodes if any(gpu.device == device for gpu in node.machine.gpus))
    part = replace(topology, nodes=nodes)
    gpus = [gpu for gpu in part.gpus if part.device(gpu).name == device]
    own = make_problem(problem.job, problem.model, part, problem.kinds[kind].calibration, gpus)
    try:
        return solve_job(own, budget, explain=False)
    except InfeasibleError:
        return None


def even_placement(problem: MixedTrainingProblem, rows: Rows) -> tuple[MixedPlacement, float] | None:
    """Return the best plan on all GPUs with layers and micro-batches split evenly, and its step time, s.

    Ranks take the GPUs in the order of the topology, stage by stage or replica by replica. ``None`` where
    nothing fits.
    """
    best: tuple[MixedPlacement, float] | None = None
    seen: set[Strategy] = set()
    floors = _floors(problem, rows)
    for row in np.argsort(floors, kind="stable"):
        if best is not None and floors[row] >= best[1]:
            break
        strategy = as_strategy(rows.many, int(row))
        count = problem.job.global_batch // strategy.micro_batch
        if strategy.num_ranks != problem.num_gpus or count % strategy.dp or strategy in seen:
            continue
        seen.add(strategy)  # other spans of it: the ranks lie where they lie
        layers = tuple(even_layers(problem.model.layers, strategy.pp))
        order = np.arange(strategy.num_ranks)
        by_replica = order.reshape(strategy.dp, strategy.pp, -1).swapaxes(0, 1).ravel()
        for gpus in (order, by_replica):
            devices = tuple(problem.hierarchy.gpus[gpu] for gpu in gpus)
            batches = (count // strategy.dp,) * strategy.dp
            placement = MixedPlacement(strategy, layers, batches, devices)
            outcome = judge_mixed(problem, placement)
            fits = (outcome.memory <= capacities(problem)[outcome.kinds]).all()
            if fits and (best is None or outcome.step_time < best[1]):
                best = placement, outcome.step_time
    return best


def _floors(problem: MixedTrainingProblem, rows: Rows) -> FloatArray:
    """Return what layers split evenly take at least, s: those of the slowest kind if all GPUs work."""
    whole = problem.num_gpus == problem.hierarchy.num_gpus
    each = np.stack([cost.dense for cost in rows.costs])
    layer = each.max(axis=0) if whole else each.min(axis=0)
    many = rows.many
    count = problem.job.global_batch // (many.micro_batch * many.dp)
    return np.asarray(layer * count * (problem.model.layers // many.pp), dtype=np.float64)
