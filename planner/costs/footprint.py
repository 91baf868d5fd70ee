"""Bytes per device of a training stage: parameters with their optimizer, activations, transient buffers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.costs import blocks
from planner.costs.offload import ACTIVATIONS, OPTIMIZER, WEIGHTS
from planner.costs.stacks import by_operation
from planner.costs.strategy import ACTIVATION_BYTES, FULL, MASTER_BYTES, Setting

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
    return np.asarray(weights + grads) + master_bytes(setting, group)


def master_bytes(setting: Setting, group: FloatArray) -> FloatArray:
    """Return the bytes per parameter of the optimizer states under the sharding, see :func:`state_bytes`."""
    return np.where(setting.many.sharding >= 1, MASTER_BYTES / group, MASTER_BYTES)


Parts = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Bytes of a dense layer, of an expert layer, and of the first and last stage's own."""


def static_bytes(setting: Setting) -> Parts:
    """Return the states on the device, bytes."""
    return _states(setting)[0]


def host_bytes(setting: Setting) -> Parts:
    """Return the states in host memory, bytes, see :mod:`planner.costs.offload`."""
    if not setting.many.offload.any():
        return (setting.nothing,) * 4
    return _states(setting)[1]


def _states(setting: Setting) -> tuple[Parts, Parts]:
    """Return the states on the device and in host memory.

    Offloaded weights take their gradients along, and optimizer states; those of the embedding and of the head
    stay on the device, but for the optimizer's.
    """
    offload = setting.many.offload
    groups = (setting.data, setting.expert_data)
    whole = [state_bytes(setting, group) for group in groups]
    host = [np.where(np.isin(offload, (OPTIMIZER, WEIGHTS)), master_bytes(setting, g), 0.0) for g in groups]
    ends = (setting.first_parameters(), setting.last_parameters())
    layers = [np.where(offload == WEIGHTS, each, less) for each, less in zip(whole, host, strict=True)]

    def parts(dense: FloatArray, expert: FloatArray, end: FloatArray) -> Parts:
        return (
            setting.layer_parameters(moe=False) * dense,
            setting.layer_parameters(moe=True) * dense + setting.expert_parameters() * expert,
            ends[0] * end, ends[1] * end,
        )  # fmt: skip

    device = parts(whole[0] - layers[0], whole[1] - layers[1], whole[0] - host[0])
    return device, parts(layers[0], layers[1], host[0])


def kept_bytes(setting: Setting, *, moe: bool, recompute: int | None = None) -> FloatArray:
    """Return what a layer keeps of one micro-batch for its backward pass, with fragmentation, bytes.

    Without a fused kernel the scores weigh most, so ``selective`` recomputes the attention core alone [1]_;
    with one, the norms and the activation function.

    Parameters
    ----------
    recompute
        Index of the mode; that of every strategy when absent.

    References
    ----------
    .. [1] V. Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022,
       section 5.
    """
    if moe and setting.model.experts is None:
        return setting.nothing
    chosen = setting.many.usual_recompute if recompute is None else np.full(len(setting.many), recompute)
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
    layer = np.where(setting.many.recompute >= FULL, setting.tokens * whole * ACTIVATION_BYTES, 0.0)
    gathered = 2 * setting.sharded_parameters(moe=moe) * ACTIVATION_BYTES
    buffers = np.where(setting.many.sharding == 3, gathered, 0.0) + _fetched_bytes(setting, moe=moe)
    return np.asarray(np.maximum(logits, layer + buffers))


def _fetched_bytes(setting: Setting, *, moe: bool) -> FloatArray:
    """Return the buffers of offloading: what two layers keep, or what two layers weigh with gradients."""
    offload = setting.many.offload
    if not offload.any():
        return setting.nothing
    kept = np.maximum(kept_bytes(setting, moe=moe), kept_bytes(setting, moe=False))
    state = setting.sharded_parameters(moe=moe) * (ACTIVATION_BYTES + setting.number("gradient_bytes"))
    two = np.where(offload == ACTIVATIONS, 2 * kept, 0.0)
    return np.asarray(two + np.where(offload == WEIGHTS, 2 * state, 0.0))
