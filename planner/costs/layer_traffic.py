"""Communication of a layer for a micro-batch at face value: tensor, context, expert groups, shards, host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.costs import collectives
from planner.costs.footprint import kept_bytes
from planner.costs.offload import fetches
from planner.costs.strategy import ACTIVATION_BYTES, Setting

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def tensor_message(setting: Setting) -> FloatArray:
    """Time an all-reduce, or a reduce-scatter with an all-gather under sequence parallelism."""
    if (setting.tp <= 1).all():
        return setting.nothing
    tp, members, fabric = setting.tp, setting.spans.tp, setting.fabric

    def evaluate(rows: IntArray) -> tuple[FloatArray, ...]:
        size = setting.tokens[rows] * setting.model.hidden * ACTIVATION_BYTES
        cost = collectives.all_reduce(size, tp[rows], members[rows], fabric)
        halves = collectives.reduce_scatter(size, tp[rows], members[rows], fabric)
        return cost.time(size), 2 * halves.time(size)

    whole, halves = setting.per_group(tp, members, (setting.tokens,), evaluate)
    return np.where(setting.many.sequence_parallel == 1, halves, whole)


def tensor_messages(setting: Setting, *, moe: bool) -> float:
    """Messages of the tensor group in a forward pass: after attention, and after an MLP that it splits."""
    experts = setting.model.experts
    shared = experts is not None and experts.shared_ffn > 0
    return 1.0 if moe and not shared else 2.0


def accumulation(setting: Setting, *, moe: bool) -> FloatArray:
    """Read the gradients of a micro-batch and the sum so far, write the sum."""
    bulk = 1e9
    per_byte = float(setting.kernels.streaming(bulk)) / bulk
    touched = ACTIVATION_BYTES + 2 * setting.number("gradient_bytes")
    return np.asarray(setting.sharded_parameters(moe=moe) * touched * per_byte)


def context_round(setting: Setting) -> FloatArray:
    """Ring attention: keys and values go round once."""
    if (setting.cp <= 1).all():
        return setting.nothing
    cp, members = setting.cp, setting.spans.cp

    def evaluate(rows: IntArray) -> tuple[FloatArray, ...]:
        kv = setting.tokens[rows] * setting.model.kv_width * ACTIVATION_BYTES / setting.tp[rows]
        size = kv * cp[rows]
        return (collectives.reduce_scatter(size, cp[rows], members[rows], setting.fabric).time(size),)

    (around,) = setting.per_group(cp, members, (setting.tokens, setting.tp), evaluate)
    return np.where(cp > 1, around, 0.0)


def expert_exchange(setting: Setting, *, moe: bool) -> FloatArray:
    """Dispatch and combine of a forward pass."""
    experts = setting.model.experts
    if not moe or experts is None:
        return setting.nothing
    width, ep, members = experts.latent or setting.model.hidden, setting.ep, setting.spans.expert

    def evaluate(rows: IntArray) -> tuple[FloatArray, ...]:
        size = setting.tokens[rows] / setting.tp[rows] * experts.top_k * width * ACTIVATION_BYTES
        return (2 * collectives.all_to_all(size, ep[rows], members[rows], setting.fabric).time(size),)

    (both,) = setting.per_group(ep, members, (setting.tokens, setting.tp), evaluate)
    return np.where(ep > 1, both, 0.0)


def shard_traffic(setting: Setting, *, moe: bool) -> tuple[FloatArray, FloatArray]:
    """One gather of sharded parameters, one scatter of sharded gradients.

    Sharded gradients are scattered after every backward pass; sharded parameters are gathered before the
    forward and again before the backward pass (Rajbhandari et al., ZeRO, 2020, section 5).
    """
    parameters, level = setting.sharded_parameters(moe=moe), setting.many.sharding
    if not (level >= 2).any():
        return setting.nothing, setting.nothing
    group, members = setting.data, setting.spans.data

    def evaluate(rows: IntArray) -> tuple[FloatArray, ...]:
        gather = parameters[rows] * ACTIVATION_BYTES
        scatter = parameters[rows] * setting.number("gradient_bytes")
        gathers = collectives.all_gather(gather, group[rows], members[rows], setting.fabric)
        scatters = collectives.reduce_scatter(scatter, group[rows], members[rows], setting.fabric)
        return gathers.time(gather), scatters.time(scatter)

    gathers, scatters = setting.per_group(group, members, (parameters,), evaluate)
    return np.where(level == 3, gathers, 0.0), np.where(level >= 2, scatters, 0.0)


def host_copies(setting: Setting, *, moe: bool) -> tuple[FloatArray, FloatArray]:
    """Return the copies of a layer between device and host, forward and backward."""
    offload = setting.many.offload
    if not offload.any():
        return setting.nothing, setting.nothing
    parameters = setting.sharded_parameters(moe=moe)
    gradients = parameters * setting.number("gradient_bytes")
    kept = kept_bytes(setting, moe=moe)
    found = fetches(setting.shape.host, offload, kept, parameters * ACTIVATION_BYTES, gradients)
    return found.forward, found.backward
