"""The matrix products of a layer: their shapes on one GPU, as the engines and trainers launch them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.workload import Transformer

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """A product of an (m, k) by a (k, n) matrix, in the forward pass of one layer on one GPU.

    Attributes
    ----------
    m, n, k : ndarray
        Rows (tokens), columns (outputs) and inner width; they broadcast.
    count : ndarray
        How many such products a layer has.
    groups : ndarray
        Above 1: a grouped product, whose ``m`` rows go to that many matrices of (k, n).
    """

    name: str
    m: FloatArray
    n: FloatArray
    k: FloatArray
    count: FloatArray
    groups: FloatArray

    @property
    def flops(self) -> FloatArray:
        """Operations of all ``count`` products, FLOP."""
        return np.asarray(2.0 * self.m * self.n * self.k * self.count)

    @property
    def elements(self) -> FloatArray:
        """Elements of all weights."""
        return np.asarray(self.n * self.k * self.count * self.groups)


def attention_products(model: Transformer, tokens: ArrayLike, tp: ArrayLike) -> list[Product]:
    """Return the products of an attention block: fused queries, keys and values, then the output.

    Parameters
    ----------
    tokens
        Tokens that the GPU works on.
    tp
        Tensor-parallel degree; beyond the number of key/value heads they are repeated, one per GPU.

    Notes
    -----
    Latent attention compresses on every GPU alike and splits what follows by heads (DeepSeek-V2, arXiv
    2405.04434, section 2.1).
    """
    many, ranks = np.asarray(tokens, dtype=float), np.asarray(tp, dtype=float)
    heads = model.heads / ranks
    if model.latent is None:
        width = (heads + 2.0 * np.maximum(model.kv_heads / ranks, 1.0)) * model.head_dim
        return [
            _product("qkv", many, width, model.hidden),
            _product("attention_out", many, model.hidden, heads * model.head_dim),
        ]
    latent = model.latent
    query = heads * (latent.nope_dim + latent.rope_dim)
    down = latent.q_rank + latent.kv_rank + latent.rope_dim
    return [
        _product("latent_down", many, down, model.hidden),
        _product("query_up", many, query, latent.q_rank or model.hidden),
        _product("kv_up", many, heads * (latent.nope_dim + latent.value_dim), latent.kv_rank),
        _product("attention_out", many, model.hidden, heads * latent.value_dim),
    ]


def mlp_products(model: Transformer, tokens: ArrayLike, tp: ArrayLike) -> list[Product]:
    """Return the two products of a dense MLP; a gated one makes both inner vectors in one product."""
    return _mlp("mlp", model, np.asarray(tokens, dtype=float), model.ffn / np.asarray(tp, dtype=float))


def expert_products(
    model: Transformer, tokens: ArrayLike, tp: ArrayLike, ep: ArrayLike, *, expert_tp: ArrayLike = 1.0
) -> list[Product]:
    """Return the products of a layer with experts: router, shared expert, routed experts (grouped).

    Parameters
    ----------
    tokens
        Tokens that the GPU holds after tensor parallelism, the same on its ``tp`` peers.
    tp, ep
        Tensor-parallel degree of attention and of the shared expert; expert-parallel degree. The router is
        balanced, and a GPU's share of the rows is ``tokens * top_k * expert_tp / tp``.
    expert_tp
        Number of GPUs that split each expert.
    """
    assert model.experts is not None
    experts = model.experts
    many, ranks = np.asarray(tokens, dtype=float), np.asarray(tp, dtype=float)
    split = np.asarray(expert_tp, dtype=float)
    products = [_product("router", many, experts.num_experts, model.hidden)]
    if experts.shared_ffn:
        products += _mlp("shared", model, many, experts.shared_ffn / ranks)
    groups = experts.num_experts / np.asarray(ep, dtype=float)
    rows = many * experts.top_k * split / ranks
    return products + _mlp("experts", model, rows, experts.ffn / split, groups)


def head_product(model: Transformer, tokens: ArrayLike, tp: ArrayLike) -> Product:
    """Return the product with the output projection."""
    return _product(
        "head", np.asarray(tokens, dtype=float), model.vocab / np.asarray(tp, dtype=float), model.hidden
    )


def _mlp(
    name: str, model: Transformer, rows: FloatArray, ffn: ArrayLike, groups: ArrayLike = 1.0
) -> list[Product]:
    width = np.asarray(ffn, dtype=float)
    return [
        _product(f"{name}_up", rows, (model.mlp_matrices - 1) * width, model.hidden, groups),
        _product(f"{name}_down", rows, model.hidden, width, groups),
    ]


def _product(name: str, m: ArrayLike, n: ArrayLike, k: ArrayLike, groups: ArrayLike = 1.0) -> Product:
    sizes = [np.asarray(one, dtype=float) for one in (m, n, k, groups)]
    return Product(name, sizes[0], sizes[1], sizes[2], np.ones(()), sizes[3])
