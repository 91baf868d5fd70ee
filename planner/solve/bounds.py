"""Lower bounds of the step time of many strategies, before any layer split or rank order is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs import Candidates, StageCosts
from planner.costs.stacks import stack_coefficients
from planner.costs.training import StageBytes
from planner.placement import TrainingProblem
from planner.placement.recompute import repeat_choices

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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

    Layers that block recompute repeats add to the sum, see :func:`fewest_repeats`.
    """
    model = problem.model
    dense, expert = model.dense_layers, model.layers - model.dense_layers
    total = dense * costs.dense + expert * costs.moe + costs.first + costs.last + many.pp * costs.hop
    if many.block.any():
        total = total + _repeated_seconds(problem, many, costs)
    most = np.ceil(model.layers / many.pp)
    lightest = _lightest(costs.dense, costs.moe, dense, expert)
    slowest = np.maximum(total / many.pp, most * lightest + costs.hop)
    slowest = np.maximum(slowest, np.ceil(expert / many.pp) * costs.moe + costs.hop)
    slowest = np.maximum(slowest, np.maximum(costs.first, costs.last) + lightest + costs.hop)
    sync = costs.sync_alpha + most * _lightest(costs.sync_dense, costs.sync_moe, dense, expert)
    update = most * _lightest(costs.update_dense, costs.update_moe, dense, expert)
    return StepBounds(slowest, total, (1.0 - costs.overlap * costs.hideable) * sync + update)


def _lightest(dense: FloatArray, expert: FloatArray, num_dense: int, num_expert: int) -> FloatArray:
    if num_expert == 0:
        return dense
    return expert if num_dense == 0 else np.minimum(dense, expert)


@dataclass(frozen=True)
class _Rooms:
    """What the stages of some strategies of one depth have for layers, bytes: arrays of shape (n, stages).

    Attributes
    ----------
    room
        What is left for layers.
    each, less
        What a layer takes, and by how much less where it is repeated.
    """

    room: FloatArray
    each: FloatArray
    less: FloatArray


def _rooms(problem: TrainingProblem, many: Candidates, costs: StageBytes, rows: IntArray) -> _Rooms:
    """Return the room of the stages of rows of one depth.

    A mixture-of-experts model has to fit its expert layers; its few dense layers are left aside.
    """
    kind = "dense" if problem.model.experts is None else "moe"
    static, kept, saved = (getattr(costs, f"{part}_{kind}")[rows] for part in ("static", "kept", "saved"))
    count = problem.job.global_batch / (many.dp[rows] * many.micro_batch[rows])
    stages = int(many.pp[rows[0]])
    flight = flights(stages, many.virtual[rows], count)
    room = np.repeat(
        (problem.capacity - costs.static_base[rows] - costs.peak_working[rows])[:, None], stages, axis=1
    )
    room[:, 0] -= costs.static_first[rows]
    room[:, -1] -= costs.static_last[rows]
    return _Rooms(room, static[:, None] + kept[:, None] * flight, saved[:, None] * flight)


def _counted(problem: TrainingProblem) -> int:
    model = problem.model
    return model.layers - model.dense_layers or model.layers


def may_fit(problem: TrainingProblem, many: Candidates, costs: StageBytes) -> NDArray[np.bool_]:
    """Return which rows can fit in memory at all: the stages' room adds up to all layers (necessary).

    Memory does not depend on where ranks are placed. Block recompute repeats as many layers as it may. Host
    memory is left aside.
    """
    most = int(repeat_choices(problem)[-1])
    fits = np.zeros(len(many), dtype=np.bool_)
    for stages in np.unique(many.pp):
        rows = np.flatnonzero(many.pp == stages)
        rooms = _rooms(problem, many, costs, rows)
        room, each, less = rooms.room, rooms.each, rooms.less
        again = np.where(many.block[rows], most * many.virtual[rows], 0)[:, None]
        layers = np.where(room < again * (each - less), room / (each - less), (room + again * less) / each)
        layers = np.floor(layers + 1e-9)
        fits[rows] = (room >= 0).all(axis=1) & (np.maximum(layers, 0).sum(axis=1) >= _counted(problem))
    return fits


def fewest_repeats(problem: TrainingProblem, many: Candidates, costs: StageBytes) -> FloatArray:
    r"""Return a lower bound of the layers that block recompute repeats on all stages together.

    A stage of room :math:`R` holds :math:`R / b` layers of :math:`b` bytes each with none repeated. For every
    layer beyond it has to repeat :math:`b / s` layers, each of which saves :math:`s` bytes, up to
    :math:`R / (b - s)` layers, all repeated. Layers divide freely, so the cheapest way fills the room of all
    stages first and then the stages of the greatest savings: the first ones, with most in flight.
    """
    least = np.zeros(len(many))
    for stages in np.unique(many.pp[many.block]):
        rows = np.flatnonzero(many.block & (many.pp == stages))
        rooms = _rooms(problem, many, costs, rows)
        room = np.maximum(rooms.room, 0.0)
        free = room / rooms.each
        extra = room / (rooms.each - rooms.less) - free
        before = np.cumsum(extra, axis=1) - extra
        missing = _counted(problem) - free.sum(axis=1)
        taken = np.clip(missing[:, None] - before, 0.0, extra)
        repeated = taken * rooms.each / np.maximum(rooms.less, 1.0)
        least[rows] = np.ceil(repeated.sum(axis=1) * (1 - 1e-9) - 1e-6)
    return least


def _repeated_seconds(problem: TrainingProblem, many: Candidates, costs: StageCosts) -> FloatArray:
    """Return a lower bound of the time that repeated layers add to a micro-batch on all stages, s.

    Where the job asks for some layers of every chunk, they are fewest where all stages but one have as few
    layers as they may.
    """
    model, listed = problem.model, int(repeat_choices(problem)[0])
    own = costs.again_dense if model.experts is None else costs.again_moe
    seconds = own * fewest_repeats(problem, many, costs)
    if not listed:
        return seconds
    few = (many.pp - 1) * many.virtual
    count = np.where(many.block, few + np.minimum(listed * many.virtual, model.layers - few), 0)
    lightest = _lightest(
        costs.again_dense, costs.again_moe, model.dense_layers, model.layers - model.dense_layers
    )
    return np.asarray(np.maximum(seconds, count * lightest))


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
