"""Work of one transformer layer: floating-point operations, bytes moved, bytes kept for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs.products import Product
from planner.workload import Transformer

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LayerWork:
    """Forward work of one layer on one rank for one micro-batch; arrays of shape (n,).

    Attributes
    ----------
    gemm_flops, attention_flops
        Matrix multiplications with weights, and the attention core, FLOP.
    weight_bytes
        Bytes of weights read, once.
    stream_bytes
        Bytes that norms and residual sums move when one rank works on the whole residual stream.
    inner_bytes
        Bytes that activation functions move inside the MLP, and tokens on their way to experts and back.
    kernels
        Number of kernels.
    """

    gemm_flops: FloatArray
    attention_flops: FloatArray
    weight_bytes: FloatArray
    stream_bytes: FloatArray
    inner_bytes: FloatArray
    kernels: float


def attention_core_flops(model: Transformer, queries: FloatArray, context: FloatArray) -> FloatArray:
    r"""Return the operations of scores and weighted values of all heads, :math:`2 q c (d_k + d_v) a`.

    ``context`` is the mean number of keys that a query sees: half the sequence under a causal mask.
    """
    if model.latent is None:
        width = 2 * model.heads * model.head_dim
    else:
        latent = model.latent
        width = model.heads * (latent.nope_dim + latent.rope_dim + latent.value_dim)
    return 2.0 * queries * context * width


STREAM_WIDTH = 10.0
"""Elements moved per token and hidden unit: two norms (in, out), two residual sums (two in, one out)."""
ELEMENT_BYTES = 2.0
"""Bytes of an activation in element-wise kernels."""


def dense_layer(
    model: Transformer, tokens: FloatArray, context: FloatArray, tp: FloatArray, element: float
) -> LayerWork:
    """Return the forward work of a layer with a dense MLP.

    Parameters
    ----------
    tokens
        Tokens of the micro-batch on this rank (its context part).
    context
        Mean keys that a query attends to.
    tp
        Tensor-parallel degree.
    element
        Bytes of a weight element.
    """
    weights = (model.attention_parameters + model.dense_mlp_parameters) / tp
    return LayerWork(
        gemm_flops=2.0 * tokens * weights,
        attention_flops=attention_core_flops(model, tokens, context) / tp,
        weight_bytes=weights * element,
        stream_bytes=tokens * STREAM_WIDTH * model.hidden * ELEMENT_BYTES,
        inner_bytes=tokens * model.mlp_matrices * model.ffn * ELEMENT_BYTES / tp,
        kernels=14.0,
    )


def moe_layer(
    model: Transformer,
    tokens: FloatArray,
    context: FloatArray,
    tp: FloatArray,
    ep: FloatArray,
    element: float,
) -> LayerWork:
    """Return the forward work of a mixture-of-experts layer, the router balanced.

    Experts are whole on their rank; attention and the shared expert are split over ``tp``, and so are the
    tokens that the experts see. Parameters as in :func:`dense_layer`, ``ep`` the expert-parallel degree.
    """
    assert model.experts is not None
    experts = model.experts
    shared = (model.attention_parameters + model.shared_mlp_parameters) / tp
    routed_tokens = tokens * experts.top_k / tp
    width = experts.latent or model.hidden
    local = experts.num_experts / ep
    touched = np.minimum(local, np.maximum(1.0, routed_tokens))
    routed_elements = routed_tokens * (4.0 * width + model.mlp_matrices * experts.ffn)
    shared_elements = tokens * model.mlp_matrices * experts.shared_ffn / tp
    return LayerWork(
        gemm_flops=2.0 * tokens * shared + 2.0 * routed_tokens * model.expert_parameters,
        attention_flops=attention_core_flops(model, tokens, context) / tp,
        weight_bytes=(shared + touched * model.expert_parameters) * element,
        stream_bytes=tokens * STREAM_WIDTH * model.hidden * ELEMENT_BYTES,
        inner_bytes=(routed_elements + shared_elements) * ELEMENT_BYTES,
        kernels=22.0,
    )


@dataclass(frozen=True)
class StateSpaceWork:
    """Forward work of the state-space mixers of one layer on one rank."""

    products: list[Product]
    moved_bytes: FloatArray


SCAN_WIDTH = 12.0
"""Elements moved per token and inner unit: convolution, scan by chunks, gate and norm, each in and out."""


def state_space_layer(model: Transformer, tokens: FloatArray, tp: FloatArray) -> StateSpaceWork:
    """Return the forward work of one state-space mixer (Mamba-2, arXiv 2405.21060, section 7)."""
    assert model.state_space is not None
    space, one, none = model.state_space, np.ones(()), np.asarray(float(model.hidden))
    inner = space.inner / tp
    products = [
        Product("mixer_in", tokens, space.projected / tp, none, one, one),
        Product("scan", tokens, inner, np.asarray(3.0 * space.state), one, one),
        Product("mixer_out", tokens, none, inner, one, one),
    ]
    return StateSpaceWork(products, SCAN_WIDTH * tokens * inner * ELEMENT_BYTES)


def stored_elements(
    model: Transformer,
    *,
    moe: bool,
    tp: FloatArray,
    sequence_parallel: NDArray[np.bool_],
    recompute: NDArray[np.int64],
) -> FloatArray:
    """Return the elements per token that a layer keeps for its backward pass on one rank.

    Inputs of the norms and of the matrix multiplications, queries, keys, values, the attention output and
    the MLP's inner activations; ``selective`` drops what the norms and the activation function produced;
    ``full`` keeps the layer's input only. With dense attention (no fused kernel) the scores come on top,
    see :func:`score_elements`. After V. Korthikanti et al., "Reducing Activation Recomputation in Large
    Transformer Models", 2022, section 4.
    """
    hidden = model.hidden / np.where(sequence_parallel, tp, 1.0)
    heads = (
        (2 * model.heads + 2 * model.kv_heads) * model.head_dim
        if model.latent is None
        else model.latent.q_rank + 2 * model.latent.kv_rank
        + model.heads * (2 * model.latent.nope_dim + 2 * model.latent.rope_dim + 2 * model.latent.value_dim)
    )  # fmt: skip
    inner_matrices = model.mlp_matrices - 1
    if moe and model.experts is not None:
        experts = model.experts
        width = experts.ffn * experts.top_k + experts.shared_ffn
        routed = 2.0 * experts.top_k * model.hidden / tp
    else:
        width, routed = model.ffn, np.zeros_like(tp)
    none = 4 * hidden + heads / tp + (inner_matrices + 1) * width / tp + routed
    selective = 2 * hidden + heads / tp + inner_matrices * width / tp + routed
    return np.choose(recompute, [none, selective, hidden])


def operation_elements(model: Transformer, *, moe: bool, tp: FloatArray, parted: FloatArray) -> FloatArray:
    """Return the elements per token kept where every second product and attention are not recomputed.

    The layer's input, the attention output, and half of what the products give (PyTorch's selective
    checkpointing by operation, as in torchtitan).
    """
    heads = model.heads * model.head_dim
    outputs = heads + 2 * model.kv_heads * model.head_dim + 2 * model.hidden
    width = model.ffn
    if moe and model.experts is not None:
        width = model.experts.ffn * model.experts.top_k + model.experts.shared_ffn
    outputs += (model.mlp_matrices - 1) * width
    return np.asarray(model.hidden / parted + (heads + outputs / 2) / tp)


def score_elements(model: Transformer, sequence: int, tp: FloatArray) -> FloatArray:
    """Return the attention scores and probabilities kept per token without a fused kernel (5 a s / 2)."""
    return 2.5 * model.heads * sequence / tp
