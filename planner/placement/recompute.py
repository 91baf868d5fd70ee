"""Block recompute: how many layers each pipeline stage repeats in its backward pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from planner.costs import StageCosts
from planner.costs.pipeline import in_flight, repeated, stage_memory
from planner.placement.plan import Strategy, TrainingPlan
from planner.placement.problem import TrainingProblem

IntArray = NDArray[np.int64]


def repeat_choices(problem: TrainingProblem) -> IntArray:
    """Return how many layers of a chunk a stage may repeat, ascending: what the job lists, else any."""
    listed = problem.job.degrees.recompute_layers
    if listed is None:
        return np.arange(problem.model.layers + 1)
    return np.asarray(sorted(set(listed)), dtype=np.int64)


def fewest_repeated(
    problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int, dense: IntArray, moe: IntArray
) -> IntArray:
    r"""Return the fewest layers of every stage that block recompute has to repeat, shape (stages,).

    Chunks of a stage repeat :math:`n` layers each, so the stage :math:`\min(n v, l_s)`; the least :math:`n`
    for which it fits in memory, the largest there is where none does.

    No other numbers that fit are faster in a pipeline of one chunk per stage: a second more on a stage
    lengthens the pipeline by at least a second, as it is in the sum of all stages, and hides at most two
    thirds of a second of the synchronisation that follows. Early stages hold more micro-batches in flight and
    so repeat more than late ones, where one number for all would be the largest of them. With :math:`v`
    chunks it lengthens the pipeline by :math:`1 / v` only, so a stage whose synchronisation comes last
    may gain by repeating more; the solver is free to choose so.
    """
    layers = dense + moe
    if strategy.recompute != "block":
        return np.zeros_like(layers)
    flight = in_flight(strategy.pp, strategy.virtual, int(costs.num_micro_batches[row]))
    total = np.asarray(sum(stage_memory(costs, row, dense, moe, flight).values()))
    again = np.minimum(repeat_choices(problem)[:, None] * strategy.virtual, layers)
    leading, rest = repeated(again, dense)
    saved = (costs.saved_dense[row] * leading + costs.saved_moe[row] * rest) * flight
    fits = total - saved <= problem.capacity * (1 - 1e-12)
    first = np.where(fits.any(axis=0), fits.argmax(axis=0), len(again) - 1)
    return np.asarray(again[first, np.arange(len(layers))])


def repeat_problems(plan: TrainingPlan) -> Iterator[str]:
    """Yield the rules that a plan's numbers of repeated layers break, as sentences."""
    again, virtual = plan.recompute_layers, plan.strategy.virtual
    if plan.strategy.recompute != "block":
        if again:
            yield f"{plan.name}: recompute_layers needs block recompute"
        return
    if len(again) != len(plan.layers):
        yield f"{plan.name}: recompute_layers names {len(again)} of {len(plan.layers)} stages"
        return
    for stage, (count, layers) in enumerate(zip(again, plan.layers, strict=True)):
        if not 0 <= count <= layers or (count % virtual and count != layers):
            chunks = f" in {virtual} chunks alike" if virtual > 1 else ""
            yield f"{plan.name}: stage {stage} cannot recompute {count} of {layers} layers{chunks}"
