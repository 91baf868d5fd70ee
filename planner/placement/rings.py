"""Jobs whose only group is the whole set of their GPUs: on a mesh of direct links the set gives the rate."""

from __future__ import annotations

from dataclasses import replace

from planner.placement.groups import IntArray
from planner.placement.plan import Strategy
from planner.placement.problem import TrainingProblem


def is_one_group(strategy: Strategy) -> bool:
    """Return whether every group that communicates is the whole set of ranks."""
    ranks, data = strategy.num_ranks, strategy.dp * strategy.cp
    groups = (strategy.tp, strategy.cp, data, strategy.ep, data * strategy.tp // strategy.ep)
    return strategy.pp == 1 and all(size in (1, ranks) for size in groups)


def on_ring(problem: TrainingProblem, strategy: Strategy, gpus: IntArray) -> TrainingProblem:
    """Return the problem as a placed strategy sees it: with the rate of the rings through its GPUs.

    Only where the machine is a mesh and the strategy has a single group; else the problem as it is, whose
    levels hold for every pair.
    """
    mesh = problem.hierarchy.mesh
    if mesh is None or strategy.num_ranks == 1 or not is_one_group(strategy):
        return problem
    return replace(problem, hierarchy=problem.hierarchy.at_rate(mesh.rate(gpus.tolist())))
