"""What happens once per optimizer step: gradients are reduced, weights updated and gathered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs import collectives
from planner.costs.collectives import Affine
from planner.costs.strategy import ACTIVATION_BYTES, MASTER_BYTES, Setting

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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
    gradient = setting.number("gradient_bytes")
    whole = collectives.all_reduce(None, group, members, setting.fabric)
    half = collectives.reduce_scatter(None, group, members, setting.fabric)
    gather = collectives.all_gather(None, group, members, setting.fabric)
    kinds = [setting.many.sharding == level for level in range(3)]
    gathered = gather.beta * ACTIVATION_BYTES
    alpha = np.select(kinds, [whole.alpha, half.alpha + gather.alpha, gather.alpha], 0.0)
    beta = np.select(kinds, [whole.beta * gradient, half.beta * gradient + gathered, gathered], 0.0)
    return Affine(alpha, beta, np.where(kinds[0], whole.algorithm, half.algorithm))


def update(setting: Setting) -> OncePerStep:
    """Return the time of the optimizer: read gradient and states, write states and weights."""
    touched = setting.number("gradient_bytes") + 2 * MASTER_BYTES + ACTIVATION_BYTES
    sharded = setting.many.sharding >= 1
    bulk = 1e9
    per_byte = float(setting.kernels.streaming(bulk)) / bulk
    dense = touched / np.where(sharded, setting.data, 1.0) * per_byte
    expert = touched / np.where(sharded, setting.expert_data, 1.0) * per_byte
    return OncePerStep(
        alpha=setting.nothing,
        dense=setting.layer_parameters(moe=False) * dense,
        moe=setting.layer_parameters(moe=True) * dense + setting.expert_parameters() * expert,
        first=setting.first_parameters() * dense,
        last=setting.last_parameters() * dense,
        algorithm=np.zeros(len(setting.many), dtype=np.int64),
    )
