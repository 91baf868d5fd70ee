"""Lower bounds of the step time of many strategies, before any layer split or rank order is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs import Candidates, StageCosts
from planner.costs.stacks import stack_coefficients
from planner.costs.training import StageBytes
from planner.placement import TrainingProblem

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class StepBounds:
    """Lower bounds of what a step is made of, s: arrays of shape (n,).

    Attributes
    ----------
    slowest
        One micro-batch on the slowest stage.
    total
        One micro-batch on all stages.
    tail
        What follows the last micro-batch.
    """

    slowest: FloatArray
    total: FloatArray
    tail: FloatArray


def step_time_bounds(problem: TrainingProblem, many: Candidates, costs: StageCosts) -> FloatArray:
    r"""Return a lower bound of the step time of every row, s.

    Some stage holds at least :math:`\lceil L / p \rceil` layers, the slowest stage is at least the mean,
    the sum over stages is the same for every split, and the exposed synchronisation is at least the share
    that nothing hides. The step time grows with the slowest stage, so bounds compose.
    """
    least = step_bounds(problem, many, costs)
    pipeline = costs.num_micro_batches * least.slowest + (least.total - least.slowest) / many.virtual
    return np.asarray(pipeline + least.tail)


def step_bounds(problem: TrainingProblem, many: Candidates, costs: StageCosts) -> StepBounds:
    """Return the parts of the bound, see :func:`step_time_bounds`.

    Layers that block recompute repeats add to the stage with most layers, and to the sum at least as much as
    they do where all stages but one have as few layers as they may.
    """
    model = problem.model
    dense, expert = model.dense_layers, model.layers - model.dense_layers
    total = dense * costs.dense + expert * costs.moe + costs.first + costs.last + many.pp * costs.hop
    again = _lightest(costs.again_dense, costs.again_moe, dense, expert)
    few = (many.pp - 1) * many.virtual
    total = total + again * (few + np.minimum(costs.again_layers, model.layers - few))
    most = np.ceil(model.layers / many.pp)
    lightest = _lightest(costs.dense, costs.moe, dense, expert)
    slowest = np.maximum(
        total / many.pp, most * lightest + again * np.minimum(costs.again_layers, most) + costs.hop
    )
    slowest = np.maximum(slowest, np.ceil(expert / many.pp) * costs.moe + costs.hop)
    slowest = np.maximum(slowest, np.maximum(costs.first, costs.last) + lightest + costs.hop)
    sync = costs.sync_alpha + most * _lightest(costs.sync_dense, costs.sync_moe, dense, expert)
    update = most * _lightest(costs.update_dense, costs.update_moe, dense, expert)
    return StepBounds(slowest, total, (1.0 - costs.overlap * costs.hideable) * sync + update)


def _lightest(dense: FloatArray, expert: FloatArray, num_dense: int, num_expert: int) -> FloatArray:
    if num_expert == 0:
        return dense
    return expert if num_dense == 0 else np.minimum(dense, expert)


def may_fit(problem: TrainingProblem, many: Candidates, costs: StageBytes) -> NDArray[np.bool_]:
    """Return which rows can fit in memory at all: the stages' room adds up to all layers (necessary).

    Memory does not depend on where ranks are placed. A mixture-of-experts model has to fit its expert
    layers; its few dense layers are left aside. So is host memory.
    """
    model = problem.model
    counted = model.layers - model.dense_layers or model.layers
    static, kept, saved = (
        (costs.static_dense, costs.kept_dense, costs.saved_dense)
        if model.experts is None
        else (costs.static_moe, costs.kept_moe, costs.saved_moe)
    )
    count = problem.job.global_batch / (many.dp * many.micro_batch)
    fits = np.zeros(len(many), dtype=np.bool_)
    for stages in np.unique(many.pp):
        rows = np.flatnonzero(many.pp == stages)
        flight = flights(int(stages), many.virtual[rows], count[rows])
        room = np.repeat(
            (problem.capacity - costs.static_base[rows] - costs.peak_working[rows])[:, None], stages, axis=1
        )
        room[:, 0] -= costs.static_first[rows]
        room[:, -1] -= costs.static_last[rows]
        each = static[rows, None] + kept[rows, None] * flight
        less, again = saved[rows, None] * flight, costs.again_layers[rows, None]
        layers = np.where(room < again * (each - less), room / (each - less), (room + again * less) / each)
        layers = np.floor(layers + 1e-9)
        fits[rows] = (room >= 0).all(axis=1) & (np.maximum(layers, 0).sum(axis=1) >= counted)
    return fits


def flights(stages: int, virtual: NDArray[np.int64], micro_batches: FloatArray) -> FloatArray:
    """Return the stage-fulls of activations in flight, shape (n, stages); see costs.pipeline.in_flight."""
    place = np.arange(stages, dtype=float)[None, :]
    chunks = 2 * (stages - place - 1) + (virtual[:, None] - 1) * stages + 1
    plain = np.minimum(stages - place, micro_batches[:, None])
    interleaved = np.minimum(chunks, micro_batches[:, None] * virtual[:, None]) / virtual[:, None]
    return np.asarray(np.where(virtual[:, None] == 1, plain, interleaved))


def compute_bound(problem: TrainingProblem, many: Candidates, flops: float) -> FloatArray:
    r"""Return the time of the model's matrix work alone, with the bubble and full recomputation, s.

    Stages of mean time :math:`T` take at least :math:`(m + (p - 1) / v) T` for :math:`m` micro-batches.
    """
    count = problem.job.global_batch / (many.dp * many.micro_batch)
    bubble = 1.0 + (many.pp - 1) / many.virtual / count
    again = np.where(many.usual_recompute == 2, 1.0 + problem.model.layers_share / 3.0, 1.0)
    stack = stack_coefficients(problem.calibration, problem.job.stack, problem.device.architecture)
    least = min(1.0, float(stack.gemm), float(stack.attention), float(stack.head))
    rate = problem.kernels.matmul(problem.job.precision) / least
    return np.asarray(flops / (many.ranks * rate) * bubble * again)
