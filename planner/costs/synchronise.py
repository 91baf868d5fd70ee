"""What happens once per optimizer step: gradients are reduced, weights updated and gathered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs import collectives
from planner.costs.collectives import Affine
from planner.costs.offload import OPTIMIZER, WEIGHTS, optimizer_seconds
from planner.costs.strategy import ACTIVATION_BYTES, MASTER_BYTES, Setting

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

IN_HOST = (OPTIMIZER, WEIGHTS)
"""Options of offloading that update weights on the host."""


@dataclass(frozen=True)
class OncePerStep:
    """Times of a dense layer, of an expert layer, and of the first and last stage's own parts, s.

    Attributes
    ----------
    alpha
        Part that does not depend on the layers, s.
    algorithm
        Collective algorithm of the data group, see :data:`planner.costs.collectives.ALGORITHMS`.
    """

    alpha: FloatArray
    dense: FloatArray
    moe: FloatArray
    first: FloatArray
    last: FloatArray
    algorithm: IntArray


def synchronisation(setting: Setting) -> OncePerStep:
    """Return the time of the gradients, and of the gathered weights where the optimizer is sharded."""
    dense = _per_parameter(setting, setting.data, setting.spans.data)
    expert = _per_parameter(setting, setting.expert_data, setting.spans.expert_data)
    return OncePerStep(
        alpha=dense.alpha + (expert.alpha if setting.model.experts is not None else 0.0),
        dense=setting.layer_parameters(moe=False) * dense.beta,
        moe=setting.layer_parameters(moe=True) * dense.beta + setting.expert_parameters() * expert.beta,
        first=setting.first_parameters() * dense.beta,
        last=setting.last_parameters() * dense.beta,
        algorithm=dense.algorithm,
    )


def _per_parameter(setting: Setting, group: FloatArray, members: FloatArray) -> Affine:
    """Return the cost per *parameter*; bulk prices, as stages' parameters are open until layers are split.

    Nothing sharded: all-reduce. Optimizer sharded: reduce-scatter and all-gather. Gradients sharded too:
    their reduce-scatter belongs to every micro-batch, the all-gather stays. Parameters too: nothing stays.
    """
    gradient, sharding = setting.number("gradient_bytes"), setting.many.sharding

    def evaluate(rows: IntArray) -> tuple[FloatArray | IntArray, ...]:
        size, shared, fabric = group[rows], members[rows], setting.fabric
        whole = collectives.all_reduce(None, size, shared, fabric)
        half = collectives.reduce_scatter(None, size, shared, fabric)
        gather = collectives.all_gather(None, size, shared, fabric)
        kinds = [sharding[rows] == level for level in range(3)]
        gathered = gather.beta * ACTIVATION_BYTES
        alpha = np.select(kinds, [whole.alpha, half.alpha + gather.alpha, gather.alpha], 0.0)
        beta = np.select(kinds, [whole.beta * gradient, half.beta * gradient + gathered, gathered], 0.0)
        return alpha, beta, np.where(kinds[0], whole.algorithm, half.algorithm)

    return Affine(*setting.per_group(group, members, (sharding,), evaluate))


def update(setting: Setting) -> OncePerStep:
    """Return the time of the optimizer on the device: read gradient and states, write states and weights."""
    bulk = 1e9
    per_byte = float(setting.kernels.streaming(bulk)) / bulk
    here = np.where(np.isin(setting.many.offload, IN_HOST), 0.0, 1.0)
    return _optimizer(setting, _touched(setting) * per_byte * here)


def host_update(setting: Setting) -> OncePerStep:
    """Return the time of the optimizer on the host, copies included, where its states are offloaded."""
    there = np.isin(setting.many.offload, IN_HOST)
    if not there.any():
        return _optimizer(setting, setting.nothing)
    seconds = optimizer_seconds(
        setting.shape.host, setting.number("gradient_bytes"), ACTIVATION_BYTES, _touched(setting)
    )
    return _optimizer(setting, np.where(there, seconds, 0.0))


def _touched(setting: Setting) -> float:
    return setting.number("gradient_bytes") + 2 * MASTER_BYTES + ACTIVATION_BYTES


def _optimizer(setting: Setting, seconds: FloatArray) -> OncePerStep:
    """Return the time of an optimizer that takes so many seconds per parameter of its shard."""
    sharded = setting.many.sharding >= 1
    dense = seconds / np.where(sharded, setting.data, 1.0)
    expert = seconds / np.where(sharded, setting.expert_data, 1.0)
    return OncePerStep(
        alpha=setting.nothing,
        dense=setting.layer_parameters(moe=False) * dense,
        moe=setting.layer_parameters(moe=True) * dense + setting.expert_parameters() * expert,
        first=setting.first_parameters() * dense,
        last=setting.last_parameters() * dense,
        algorithm=np.zeros(len(setting.many), dtype=np.int64),
    )


def hideable(setting: Setting) -> FloatArray:
    """Return which share of the synchronisation the overlap options let hide, a ratio.

    Reduction of gradients and gathering of weights run at the same rate, so that they divide it as their
    bytes do; gathering alone is left where sharded gradients are reduced with every micro-batch.
    """
    gradient = setting.number("gradient_bytes")
    reduced = np.select(
        [setting.many.sharding == 0, setting.many.sharding == 1],
        [1.0, gradient / (gradient + ACTIVATION_BYTES)],
    )
    return np.select([setting.many.overlap <= 1, setting.many.overlap == 2], [1.0, reduced], 0.0)
