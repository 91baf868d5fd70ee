"""Physical times of the parts of a training step at face value: kernels and collectives, nothing overlapped.

A stack's coefficients turn them into stage costs, see :mod:`planner.costs.training`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from planner.costs import blocks, collectives
from planner.costs.kernels import Kernels
from planner.costs.layer_traffic import (
    accumulation,
    context_round,
    expert_exchange,
    host_copies,
    shard_traffic,
    tensor_message,
    tensor_messages,
)
from planner.costs.products import Product, attention_products, expert_products, head_product, mlp_products
from planner.costs.stacks import by_operation
from planner.costs.strategy import ACTIVATION_BYTES, Setting, distinct
from planner.costs.synchronise import OncePerStep, hideable, host_update, synchronisation, update
from planner.workload import Transformer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NARROW = ("fp8", "fp4")


@dataclass(frozen=True)
class LayerTerms:
    """Times of one layer for one micro-batch, s, arrays of shape (n,); zero where there is no such layer.

    Attributes
    ----------
    gemm, casts, attention, scores, elementwise
        The forward pass: products, conversions to narrow types, the attention core, reading and writing
        scores where no kernel is fused, element-wise kernels.
    tp, cp, ep
        Communication of a forward pass: tensor group, keys and values once around, dispatch and combine.
    messages
        Number of messages of the tensor group in a forward pass.
    accumulate
        Adding the weight gradients to those of earlier micro-batches.
    gather, scatter
        Gathering the sharded parameters once; scattering sharded gradients once.
    fetch_forward, fetch_backward
        Copies between device and host during each pass, see :mod:`planner.costs.offload`.
    """

    gemm: FloatArray
    casts: FloatArray
    attention: FloatArray
    scores: FloatArray
    elementwise: FloatArray
    tp: FloatArray
    cp: FloatArray
    ep: FloatArray
    messages: FloatArray
    accumulate: FloatArray
    gather: FloatArray
    scatter: FloatArray
    fetch_forward: FloatArray
    fetch_backward: FloatArray


@dataclass(frozen=True)
class StepTerms:
    """All terms of a step, with what the combination needs of each strategy; arrays of shape (n,).

    Attributes
    ----------
    head, logits, embedding
        Forward product with the output projection; loss; embedding and vision tower, both passes.
    hop
        Sending activations and their gradients between neighbouring stages, s per micro-batch.
    flash
        Whether attention is fused.
    halvings
        Halvings that make a tensor group of its size out of one of 8 ranks, none for larger ones.
    crosses
        Whether a tensor group leaves the innermost domain.
    block
        Whether block recompute repeats some layers; ``recompute`` is that of the others.
    by_operation
        Whether selective recomputation repeats every second product.
    overlap
        What may hide, an index into :data:`planner.costs.strategy.OVERLAP`; ``hideable`` is the share of the
        synchronisation that may.
    host_update
        The optimizer on the host, copies included.
    trained
        1 where weights have gradients, 0 where they are frozen.
    """

    dense: LayerTerms
    moe: LayerTerms
    head: FloatArray
    logits: FloatArray
    embedding: FloatArray
    hop: FloatArray
    sync: OncePerStep
    update: OncePerStep
    host_update: OncePerStep
    num_micro_batches: FloatArray
    recompute: IntArray
    block: NDArray[np.bool_]
    flash: NDArray[np.bool_]
    halvings: FloatArray
    crosses: NDArray[np.bool_]
    by_operation: NDArray[np.bool_]
    overlap: IntArray
    hideable: FloatArray
    trained: FloatArray
    has_experts: NDArray[np.bool_]


Terms = TypeVar("Terms", StepTerms, LayerTerms, OncePerStep)


def step_terms(setting: Setting) -> StepTerms:
    """Return the terms of every strategy of a setting."""
    shape, many, count = setting.shape, setting.many, len(setting.many)
    head, logits, embedding = _edges(setting)
    message, around = tensor_message(setting), context_round(setting)
    return StepTerms(
        dense=layer_terms(setting, message, around, moe=False),
        moe=layer_terms(setting, message, around, moe=True),
        head=head, logits=logits, embedding=embedding, hop=_hop(setting),
        sync=synchronisation(setting), update=update(setting), host_update=host_update(setting),
        num_micro_batches=shape.global_batch / (many.dp * many.micro_batch).astype(float),
        recompute=many.usual_recompute, block=many.block, flash=np.full(count, shape.flash),
        halvings=np.log2(8.0 / np.minimum(setting.tp, 8.0)),
        crosses=setting.spans.tp[:, 0] < setting.tp,
        by_operation=np.full(count, by_operation(shape.stack)),
        overlap=many.overlap, hideable=hideable(setting),
        trained=np.full(count, 0.0 if shape.frozen else 1.0),
        has_experts=np.full(count, shape.model.experts is not None),
    )  # fmt: skip


def concatenated(parts: Sequence[Terms]) -> Terms:
    """Return the terms of several settings as one."""
    values: dict[str, Any] = {}
    for field in fields(parts[0]):
        column = [getattr(part, field.name) for part in parts]
        values[field.name] = (
            np.concatenate(column) if isinstance(column[0], np.ndarray) else concatenated(column)
        )
    return type(parts[0])(**values)


def taken(terms: Terms, rows: IntArray) -> Terms:
    """Return the terms of some strategies."""
    values: dict[str, Any] = {}
    for field in fields(terms):
        value = getattr(terms, field.name)
        values[field.name] = value[rows] if isinstance(value, np.ndarray) else taken(value, rows)
    return type(terms)(**values)


# -- layers --------------------------------------------------------------------------------------------------


def layer_terms(setting: Setting, message: FloatArray, around: FloatArray, *, moe: bool) -> LayerTerms:
    """Return the terms of a dense or of an expert layer.

    Parameters
    ----------
    message, around : ndarray, shape (n,)
        Time of a message of the tensor group; of keys and values once around the context group, s.
    """
    nothing = setting.nothing
    if moe and setting.model.experts is None:
        return LayerTerms(*(nothing for _ in fields(LayerTerms)))
    gemm, casts, attention, scores, elementwise = _per_shape(
        setting, "moe" if moe else "dense", _Compute(setting, moe=moe)
    )
    gather, scatter = shard_traffic(setting, moe=moe)
    return LayerTerms(
        gemm, casts, attention, scores, elementwise,
        tensor_messages(setting, moe=moe) * message, around, expert_exchange(setting, moe=moe),
        np.where(setting.tp > 1, tensor_messages(setting, moe=moe), 0.0), accumulation(setting, moe=moe),
        gather, scatter, *host_copies(setting, moe=moe),
    )  # fmt: skip


def _per_shape(
    setting: Setting, name: str, evaluate: Callable[[IntArray], tuple[FloatArray, ...]]
) -> tuple[FloatArray, ...]:
    """Return what ``evaluate(rows)`` gives for every row, asked once per distinct shape of kernels."""
    many = setting.many
    columns = (many.tp, many.cp, many.ep, many.micro_batch, many.sequence_parallel)
    first, inverse = distinct(*columns)
    memo = setting.shape.memo
    known = (name, id(setting.kernels), *(column[first].tobytes() for column in columns))
    if known not in memo:
        memo[known] = tuple(np.broadcast_to(values, first.shape) for values in evaluate(first))
    return tuple(values[inverse] for values in memo[known])


class _Compute:
    """Forward compute of a layer on some rows of a setting."""

    def __init__(self, setting: Setting, *, moe: bool) -> None:
        self.setting, self.moe = setting, moe

    def __call__(self, rows: IntArray) -> tuple[FloatArray, ...]:
        setting, shape, model = self.setting, self.setting.shape, self.setting.model
        kernels, dtype = setting.kernels, shape.dtype
        tokens, tp, ep = (one[rows] for one in (setting.tokens, setting.tp, setting.ep))
        mixer, space = model.attention_share, model.state_space
        narrow = shape.cast_bytes if dtype in NARROW else 0.0
        gemm, casts = _products(kernels, attention_products(model, tokens, tp), dtype, narrow)
        gemm, casts = mixer * gemm, mixer * casts
        if self.moe:
            more = _products(kernels, _expert_products(model, tokens, tp, ep), dtype, narrow)
            work = blocks.moe_layer(model, tokens, tokens, tp, ep, shape.element)
        else:
            more = _products(kernels, mlp_products(model, tokens, tp), dtype, narrow)
            work = blocks.dense_layer(model, tokens, tokens, tp, shape.element)
        gemm, casts = gemm + more[0], casts + more[1]
        attention, scores = self._attention(rows)
        moved = kernels.streaming(work.stream_bytes / setting.parted[rows])
        moved = moved + kernels.streaming(work.inner_bytes)
        if space is not None:
            mixing = blocks.state_space_layer(model, tokens, tp)
            gemm = gemm + space.per_layer * _products(kernels, mixing.products, dtype)[0]
            moved = moved + space.per_layer * kernels.streaming(mixing.moved_bytes)
        return gemm, casts, mixer * attention, mixer * scores, moved

    def _attention(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the attention core, and the traffic of its scores where it is not fused."""
        setting, model = self.setting, self.setting.model
        batch, tp, cp = setting.many.micro_batch[rows].astype(float), setting.tp[rows], setting.cp[rows]
        sequence, kernels = setting.shape.sequence, setting.kernels
        heads, kv_heads = model.heads / tp, np.maximum(model.kv_heads / tp, 1.0)
        if setting.shape.flash:
            width = model.head_dim if model.latent is None else model.latent.attention_dim
            core = kernels.prefill_attention(batch, sequence, 0.0, heads, kv_heads, width) / cp
            return np.asarray(core), np.zeros(len(rows))
        flops = blocks.attention_core_flops(model, batch * sequence / cp, np.asarray(float(sequence))) / tp
        scores = batch * sequence / cp * sequence * heads * 4 * ACTIVATION_BYTES
        return np.asarray(flops / kernels.matmul("bf16")), kernels.streaming(scores)


def _expert_products(model: Transformer, tokens: FloatArray, tp: FloatArray, ep: FloatArray) -> list[Product]:
    """Return the products of a layer with experts, which may work on compressed tokens."""
    products = expert_products(model, tokens, tp, ep)
    latent = 0 if model.experts is None else model.experts.latent
    if not latent:
        return products
    narrow = expert_products(model.model_copy(update={"hidden": latent}), tokens, tp, ep)
    one, wide, width = np.ones(()), np.asarray(float(model.hidden)), np.asarray(float(latent))
    return [
        *(product for product in products if not product.name.startswith("experts")),
        *(product for product in narrow if product.name.startswith("experts")),
        Product("compress", tokens, width, wide, one, one),
        Product("expand", tokens, wide, width, one, one),
    ]


def _products(
    kernels: Kernels, products: Sequence[Product], dtype: str, cast_bytes: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Return the time of products and of converting their inputs at ``cast_bytes`` per element."""
    total: FloatArray | float = 0.0
    inputs: FloatArray | float = 0.0
    for one in products:
        kind = "bf16" if one.name == "router" else dtype
        if np.all(one.groups == 1.0):
            seconds = kernels.gemm(one.m, one.n, one.k, kind)
        else:
            seconds = kernels.grouped_gemm(one.m, one.groups, one.n, one.k, kind)
        total = total + one.count * seconds
        inputs = inputs + (one.count * one.m * one.k if kind in NARROW else 0.0)
    moved = np.asarray(inputs) * cast_bytes
    return np.asarray(total), np.where(moved > 0.0, kernels.streaming(moved), 0.0)


# -- edges of the pipeline ------------------------------------------------------------------------------


def _hop(setting: Setting) -> FloatArray:
    """Activations there and their gradients back, every tensor rank its part (scatter and gather) [1]_.

    References
    ----------
    .. [1] D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using
       Megatron-LM", SC 2021, section 4.1.
    """
    size = setting.tokens * setting.model.hidden * ACTIVATION_BYTES / setting.tp
    cost = collectives.send(setting.spans.pipeline, setting.fabric)
    many = setting.many
    return np.where(many.pp > 1, 2 * many.virtual * cost.time(size), 0.0)


def _edges(setting: Setting) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return head (forward), loss and embedding (all passes), s."""

    def evaluate(rows: IntArray) -> tuple[FloatArray, ...]:
        tokens, tp, model = setting.tokens[rows], setting.tp[rows], setting.model
        head = _products(setting.kernels, [head_product(model, tokens, tp)], "bf16")[0]
        logits = setting.kernels.streaming(tokens * model.vocab / tp * (4 * ACTIVATION_BYTES + 4))
        moved = setting.kernels.streaming(3 * tokens * model.hidden * ACTIVATION_BYTES)
        return head, logits, moved + _vision(setting, rows)

    head, logits, embedding = _per_shape(setting, "edges", evaluate)
    return head, logits, embedding


def _vision(setting: Setting, rows: IntArray) -> FloatArray:
    model = setting.model
    if model.vision is None:
        return np.zeros(len(rows))
    patches = setting.many.micro_batch[rows] * model.vision.patches / setting.cp[rows]
    flops = 6 * patches * model.vision_parameters / setting.tp[rows]
    return np.asarray(flops / setting.kernels.matmul(setting.shape.dtype))
