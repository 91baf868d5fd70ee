"""Bytes per device of a training stage: parameters with their optimizer, activations, transient buffers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.costs import blocks
from planner.costs.stacks import by_operation
from planner.costs.strategy import ACTIVATION_BYTES, MASTER_BYTES, Setting

FloatArray = NDArray[np.float64]


def state_bytes(setting: Setting, group: FloatArray) -> FloatArray:
    """Return the bytes per parameter of weights, gradients and optimizer states under the sharding.

    Parameters
    ----------
    group : ndarray, shape (n,)
        Ranks among which sharding divides.

    References
    ----------
    .. [1] S. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
       SC 2020, section 5; gradients take ``gradient_bytes`` each.
    """
    gradient, level = setting.number("gradient_bytes"), setting.many.sharding
    weights = np.where(level >= 3, ACTIVATION_BYTES / group, ACTIVATION_BYTES)
    grads = np.where(level >= 2, gradient / group, gradient)
    masters = np.where(level >= 1, MASTER_BYTES / group, MASTER_BYTES)
    return np.asarray(weights + grads + masters)


def static_bytes(setting: Setting) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the state of a dense layer, of an expert layer, and of the first and last stage's own, bytes."""
    dense = state_bytes(setting, setting.data)
    expert = state_bytes(setting, setting.expert_data)
    return (
        setting.layer_parameters(moe=False) * dense,
        setting.layer_parameters(moe=True) * dense + setting.expert_parameters() * expert,
        setting.first_parameters() * dense,
        setting.last_parameters() * dense,
    )


def kept_bytes(setting: Setting, *, moe: bool) -> FloatArray:
    """Return what a layer keeps of one micro-batch for its backward pass, with fragmentation, bytes.

    Without a fused kernel the scores weigh most, so ``selective`` recomputes the attention core alone [1]_;
    with one, the norms and the activation function.

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       section 5.
    """
    if moe and setting.model.experts is None:
        return setting.nothing
    chosen = setting.many.recompute
    elements = blocks.stored_elements(
        setting.model, moe=moe, tp=setting.tp,
        sequence_parallel=setting.many.sequence_parallel == 1,
        recompute=chosen if setting.shape.flash else np.where(chosen == 1, 0, chosen),
    )  # fmt: skip
    if by_operation(setting.shape.stack):
        kept = blocks.operation_elements(setting.model, moe=moe, tp=setting.tp, parted=setting.parted)
        elements = np.where(chosen == 1, kept, elements)
    if not setting.shape.flash:
        scores = blocks.score_elements(setting.model, setting.shape.sequence, setting.tp)
        elements = elements + np.where(chosen == 0, scores, 0.0)
    if setting.shape.dropout:
        elements = elements + np.where(chosen == 2, 0.0, setting.model.hidden / setting.parted)
    spread = 1.0 + setting.number("fragmentation")
    return np.asarray(setting.tokens * elements * ACTIVATION_BYTES * spread)


def working_bytes(setting: Setting) -> FloatArray:
    """Return what is needed for a moment, bytes: logits, or a layer recomputed or gathered."""
    model, moe = setting.model, setting.model.experts is not None
    logits = setting.tokens * model.vocab / setting.tp * setting.number("logit_bytes")
    whole = blocks.stored_elements(
        model, moe=moe, tp=setting.tp,
        sequence_parallel=setting.many.sequence_parallel == 1,
        recompute=np.zeros(len(setting.many), dtype=np.int64),
    )  # fmt: skip
    if not setting.shape.flash:
        whole = whole + blocks.score_elements(model, setting.shape.sequence, setting.tp)
    layer = np.where(setting.many.recompute == 2, setting.tokens * whole * ACTIVATION_BYTES, 0.0)
    gathered = 2 * setting.sharded_parameters(moe=moe) * ACTIVATION_BYTES
    return np.asarray(np.maximum(logits, layer + np.where(setting.many.sharding == 3, gathered, 0.0)))
