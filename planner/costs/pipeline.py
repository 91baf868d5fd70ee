"""From stage costs and a layer split to the time and memory of a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.costs.training import StageCosts, StageTimes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def split_kinds(layers: IntArray, first_dense: int) -> tuple[IntArray, IntArray]:
    """Return the dense and the expert layers of every stage; the first ``first_dense`` layers are dense.

    Parameters
    ----------
    layers : ndarray, shape (stages,)
        Layers of each stage, in order.
    """
    ends = np.cumsum(layers)
    dense = np.clip(first_dense - (ends - layers), 0, layers)
    return dense, layers - dense


def in_flight(stages: int, virtual: int, num_micro_batches: int) -> FloatArray:
    """Return how many stage-fulls of activations each stage holds at its peak, shape (stages,).

    1F1B: stage ``s`` of ``p`` holds ``p - s`` micro-batches. Interleaved with ``v`` chunks:
    ``2 (p - s - 1) + (v - 1) p + 1`` chunks of ``1 / v`` stage each [1]_. Never more than there are.

    References
    ----------
    .. [1] D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
       Megatron-LM", SC 2021, section 2.2.
    """
    place = np.arange(stages, dtype=float)
    if virtual == 1:
        return np.asarray(np.minimum(stages - place, num_micro_batches))
    chunks = 2 * (stages - place - 1) + (virtual - 1) * stages + 1
    return np.asarray(np.minimum(chunks, num_micro_batches * virtual) / virtual)


Again = IntArray | int
"""Layers of every stage that block recompute repeats, the first ones; 0 without it."""


def repeated(again: Again, dense: IntArray) -> tuple[IntArray, IntArray]:
    """Return the dense and the expert layers of every stage that block recompute repeats."""
    leading = np.minimum(again, dense)
    return leading, again - leading


def stage_times(costs: StageCosts, row: int, dense: IntArray, moe: IntArray, again: Again = 0) -> FloatArray:
    """Return the time of every stage for one micro-batch, s, shape (stages,)."""
    times = costs.dense[row] * dense + costs.moe[row] * moe + costs.hop[row]
    twice = repeated(again, dense)
    times = times + costs.again_dense[row] * twice[0] + costs.again_moe[row] * twice[1]
    times[0] += costs.first[row]
    times[-1] += costs.last[row]
    return np.asarray(times)


def sync_times(costs: StageCosts, row: int, dense: IntArray, moe: IntArray) -> FloatArray:
    """Return the gradient synchronisation of every stage, s."""
    times = costs.sync_alpha[row] + costs.sync_dense[row] * dense + costs.sync_moe[row] * moe
    times[0] += costs.sync_first[row]
    times[-1] += costs.sync_last[row]
    return np.asarray(times)


def update_times(costs: StageCosts, row: int, dense: IntArray, moe: IntArray) -> FloatArray:
    """Return the optimizer time of every stage, s."""
    times = costs.update_dense[row] * dense + costs.update_moe[row] * moe
    times[0] += costs.update_first[row]
    times[-1] += costs.update_last[row]
    return np.asarray(times, dtype=float)


def tail_times(costs: StageCosts, row: int, dense: IntArray, moe: IntArray, again: Again = 0) -> FloatArray:
    """Return what follows the last micro-batch on every stage, s: exposed synchronisation and update.

    A share ``overlap * hideable`` of the synchronisation hides behind the backward pass of one micro-batch.
    """
    window = costs.backward_share[row] * stage_times(costs, row, dense, moe, again)
    sync = sync_times(costs, row, dense, moe)
    exposed = np.maximum((1.0 - costs.overlap * costs.hideable[row]) * sync, sync - window)
    return np.asarray(exposed + update_times(costs, row, dense, moe))


def step_time(
    costs: StageCosts, row: int, virtual: int, dense: IntArray, moe: IntArray, again: Again = 0
) -> float:
    r"""Return the time of an optimizer step, s.

    The pipeline drains its slowest stage: :math:`m T_{max} + (\sum_s T_s - T_{max}) / v` for
    :math:`m` micro-batches and :math:`v` chunks per stage (Narayanan et al., SC 2021, section 2.2, for
    uneven stages), then the longest tail.
    """
    times = stage_times(costs, row, dense, moe, again)
    slowest = float(times.max())
    pipeline = costs.num_micro_batches[row] * slowest + (float(times.sum()) - slowest) / virtual
    return float(pipeline + tail_times(costs, row, dense, moe, again).max())


def stage_memory(
    costs: StageCosts, row: int, dense: IntArray, moe: IntArray, flight: FloatArray, again: Again = 0
) -> dict[str, FloatArray]:
    """Return the bytes per device of every stage, by part, each of shape (stages,)."""
    count = len(dense)
    static = costs.static_dense[row] * dense + costs.static_moe[row] * moe
    static[0] += costs.static_first[row]
    static[-1] += costs.static_last[row]
    twice = repeated(again, dense)
    saved = costs.saved_dense[row] * twice[0] + costs.saved_moe[row] * twice[1]
    return {
        "parameters and optimizer": np.asarray(static, dtype=float),
        "activations": np.asarray(
            (costs.kept_dense[row] * dense + costs.kept_moe[row] * moe - saved) * flight
        ),
        "working": np.full(count, float(costs.peak_working[row])),
        "context and buffers": np.full(count, float(costs.static_base[row])),
    }


def host_memory(
    costs: StageCosts, row: int, dense: IntArray, moe: IntArray, flight: FloatArray
) -> FloatArray:
    """Return the bytes in host memory of a rank of every stage, shape (stages,)."""
    kept = costs.host_kept_dense[row] * dense + costs.host_kept_moe[row] * moe
    static = costs.host_dense[row] * dense + costs.host_moe[row] * moe
    static[0] += costs.host_first[row]
    static[-1] += costs.host_last[row]
    return np.asarray(static + kept * flight, dtype=float)


def even_step_times(
    times: StageTimes, stages: IntArray, virtual: IntArray, dense_layers: IntArray, moe_layers: IntArray
) -> FloatArray:
    """Return the step time of many strategies with layers split evenly, s, shape (n,).

    As :func:`step_time` where every stage has as many layers; where they do not divide, the ends of the
    pipeline, which have the embedding and the head besides, have fewer. Leading dense layers count as
    spread, and block recompute is left aside.
    """
    layers = (dense_layers + moe_layers).astype(float)
    most = np.ceil(layers / stages)
    missing = most * stages - layers
    counts = [
        np.maximum(0.0, most - np.floor(missing / 2)),
        most,
        np.maximum(0.0, most - np.ceil(missing / 2)),
    ]
    alone = stages == 1

    def mean(name: str) -> FloatArray:
        dense, moe = getattr(times, f"{name}dense"), getattr(times, f"{name}moe")
        return np.asarray((dense * dense_layers + moe * moe_layers) / layers)

    def ends(name: str, place: int) -> FloatArray:
        first, last = getattr(times, f"{name}first"), getattr(times, f"{name}last")
        return np.asarray(np.where(alone, first + last, (first, 0.0, last)[place]))

    layer, sync, step = mean(""), mean("sync_"), mean("update_")
    slowest = tail = np.zeros_like(layer)
    for place, count in enumerate(counts):
        stage = count * layer + ends("", place) + times.hop
        reduced = times.sync_alpha + count * sync + ends("sync_", place)
        exposed = np.maximum(
            (1.0 - times.overlap * times.hideable) * reduced, reduced - times.backward_share * stage
        )
        slowest = np.maximum(slowest, stage)
        tail = np.maximum(tail, exposed + count * step + ends("update_", place))
    total = layers * layer + times.first + times.last + stages * times.hop
    filled = np.maximum(total - slowest, 0.0) / virtual
    return np.asarray(times.num_micro_batches * slowest + filled + tail)
