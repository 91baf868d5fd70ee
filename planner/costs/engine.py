"""Time of one step of an inference engine: prompt chunks and decoding sequences in one batch, from kernels.

A step runs every layer on the tokens of its batch. Attention is split over ``tp`` GPUs and repeated by
attention data parallelism ``adp``, whose copies hold different sequences; the MLP or the experts are split
over all ``tp x adp`` GPUs of a stage, experts as ``moe_tp x ep``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.costs.blocks import ELEMENT_BYTES, STREAM_WIDTH
from planner.costs.coefficients import Calibration
from planner.costs.kernels import Kernels
from planner.costs.products import Product, attention_products, expert_products, head_product, mlp_products
from planner.workload import BYTES_PER_ELEMENT, Transformer

FloatArray = NDArray[np.float64]
ENGINES = ("trtllm", "sglang", "vllm")
REGIME_ROWS = 256.0
"""Rows at which a product is half-way between reading weights and computing: peak over memory rate."""


@dataclass(frozen=True)
class EngineDegrees:
    """Degrees inside one replica as arrays of shape (n,).

    Attributes
    ----------
    tp, pp, adp
        Tensor, pipeline and attention data parallelism; a stage has ``tp * adp`` GPUs.
    moe_tp, ep
        How the GPUs of a stage share the experts: each expert over ``moe_tp`` GPUs, the experts over ``ep``.
    """

    tp: FloatArray
    pp: FloatArray
    adp: FloatArray
    moe_tp: FloatArray
    ep: FloatArray

    @property
    def stage(self) -> FloatArray:
        """GPUs of one pipeline stage."""
        return self.tp * self.adp

    @property
    def gpus(self) -> FloatArray:
        """GPUs of a replica."""
        return self.stage * self.pp

    def take(self, rows: NDArray[np.int64]) -> EngineDegrees:
        """Return the degrees of some rows."""
        return EngineDegrees(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Precisions:
    """Data types by component, names of :data:`planner.workload.models.Precision`.

    Attributes
    ----------
    weights, experts
        Of the products of attention, dense MLP and shared expert; of the routed experts.
    kv
        Of the key-value cache.
    """

    weights: str = "bf16"
    experts: str = "bf16"
    kv: str = "bf16"
    head: str = "bf16"


@dataclass(frozen=True)
class Tuning:
    """What an engine adds to its kernels: the coefficients ``engine_*`` of a calibration.

    Attributes
    ----------
    compute, memory
        Time of products in large and in small batches over that of the same kernels alone, ratios.
    attention
        The same for attention over long caches, a ratio.
    layer, expert_layer, latent_layer
        Gaps and small kernels of a layer in a decode step, s: of every layer, added by experts, added by
        latent attention.
    message, transfer
        Fixed time of an all-reduce, s, and its bulk over the model's, a ratio.
    step, sequence
        Host time of a step, s, and of each sequence in it (sampling, detokenising), s.
    eager, expert_eager
        Host-bound time of a layer in a step without CUDA graph (prompts), s, and what experts add to it.
    """

    compute: float
    memory: float
    attention: float
    layer: float
    expert_layer: float
    latent_layer: float
    expert: float
    message: float
    transfer: float
    step: float
    sequence: float
    eager: float
    expert_eager: float

    @classmethod
    def of(cls, calibration: Calibration, engine: str) -> Tuning:
        """Return the coefficients of an engine under a calibration."""
        return cls(**{field.name: engine_number(calibration, field.name, engine) for field in fields(cls)})


def engine_number(calibration: Calibration, name: str, owner: str) -> float:
    """Return the coefficient ``engine_NAME_OWNER`` of an engine or a device, else ``engine_NAME``.

    Raises
    ------
    CalibrationError
        If there is neither.
    """
    own = f"engine_{name}_{owner}"
    return calibration.number(own if own in calibration.coefficients else f"engine_{name}")


AllReduce = Callable[[FloatArray, FloatArray], FloatArray]
"""Time, s, of an all-reduce of ``size`` bytes over ``group`` GPUs, both of shape (n,)."""


@dataclass(frozen=True)
class StepParts:
    """What a step consists of, before an engine's coefficients: arrays of shape (n,).

    Attributes
    ----------
    large, small
        Time of products (and of prompt attention) with many and with few rows, s.
    expert_large, expert_small
        The same for routed experts.
    attention
        Time of attention over caches, s.
    moved
        Time of element-wise work, s.
    layers, expert_layers, latent_layers
        Number of layers, of those with experts, and of those with latent attention.
    messages, transfer
        Number of all-reduces, and the time of their bulk, s.
    prompts
        Whether the step holds prompts, 0 or 1.
    sequences
        Sequences in the step.
    """

    large: FloatArray
    small: FloatArray
    expert_large: FloatArray
    expert_small: FloatArray
    attention: FloatArray
    moved: FloatArray
    layers: FloatArray
    expert_layers: FloatArray
    latent_layers: FloatArray
    messages: FloatArray
    transfer: FloatArray
    prompts: FloatArray
    sequences: FloatArray

    def time(self, tuning: Tuning) -> FloatArray:
        """Return the time of the step under an engine's coefficients, s.

        A step with prompts runs without a CUDA graph: no layer is faster than the host launches it.
        """
        work = self.large * tuning.compute + self.small * tuning.memory
        work = work + tuning.expert * (self.expert_large * tuning.compute + self.expert_small * tuning.memory)
        work = work + self.attention * tuning.attention + self.moved
        work = work + self.layers * tuning.layer + self.expert_layers * tuning.expert_layer
        work = work + self.latent_layers * tuning.latent_layer
        work = work + self.messages * tuning.message + self.transfer * tuning.transfer
        launched = self.layers * tuning.eager + self.expert_layers * tuning.expert_eager
        device = np.maximum(work, self.prompts * launched)
        return np.asarray(device + tuning.step + tuning.sequence * self.sequences)


class StepModel:
    """Steps of one model on one device, for many degrees at once; see the module."""

    def __init__(
        self,
        model: Transformer,
        degrees: EngineDegrees,
        precisions: Precisions,
        kernels: Kernels,
        all_reduce: AllReduce,
    ) -> None:
        self.model, self.degrees, self.precisions = model, degrees, precisions
        self.kernels, self.all_reduce = kernels, all_reduce
        self._bandwidth = kernels.device.memory_bandwidth.value

    def parts(
        self,
        prompts: ArrayLike,
        chunk: ArrayLike,
        past: ArrayLike,
        batch: ArrayLike,
        keys: ArrayLike,
        *,
        width: float = 1.0,
    ) -> StepParts:
        """Return what a step through all pipeline stages consists of.

        Parameters
        ----------
        prompts, chunk, past
            Prompts in the step on each attention copy, new tokens of each, and tokens of each done before.
        batch, keys
            Sequences that decode on each attention copy, and tokens in the cache of each.
        width
            Tokens per decoding sequence: above 1 with speculative decoding.
        """
        arrays = np.broadcast_arrays(
            *(np.asarray(one, dtype=float) for one in (prompts, chunk, past, batch, keys, self.degrees.tp))
        )
        many, new, old, decoding, cached, _ = arrays
        model, degrees = self.model, self.degrees
        tokens = np.maximum(many * new + decoding * width, 1.0)
        dense, routed = float(model.dense_layers), float(model.layers - model.dense_layers)
        products = [(float(model.layers), one) for one in attention_products(model, tokens, degrees.tp)]
        if dense:
            products += [(dense, one) for one in mlp_products(model, tokens, degrees.tp)]
        if model.experts is not None:
            products += [(routed, one) for one in _common_products(model, tokens, degrees.tp)]
        rows = np.maximum(many + decoding * width, 1.0)
        products.append((1.0, head_product(model, rows, degrees.tp)))
        large, small = np.zeros_like(tokens), np.zeros_like(tokens)
        for count, product in products:
            time = count * self._product(product)
            share = _large(product.m)
            large, small = large + time * share, small + time * (1.0 - share)
        large = large + model.layers * self._prompt_attention(many, new, old)
        experts, share = self._experts(tokens)
        messages, bulk = self._messages(tokens)
        ones = np.ones_like(tokens)
        return StepParts(
            large=large,
            small=small,
            expert_large=routed * experts * share,
            expert_small=routed * experts * (1.0 - share),
            attention=model.layers * self._cache_attention(decoding, cached, width),
            moved=self._moved(tokens),
            layers=model.layers * ones,
            expert_layers=routed * ones,
            latent_layers=(0.0 if model.latent is None else model.layers) * ones,
            messages=messages,
            transfer=bulk,
            prompts=np.where(many * new > 0, 1.0, 0.0),
            sequences=(decoding + many) * degrees.adp,
        )

    # -- parts of a layer ----------------------------------------------------------------------------

    def _product(self, product: Product) -> FloatArray:
        dtype = {"router": "bf16", "head": self.precisions.head}.get(product.name, self.precisions.weights)
        if dtype != "int4":
            return self.kernels.gemm(product.m, product.n, product.k, dtype)
        wide = 2.0 * product.m * product.n * product.k / self.kernels.matmul("bf16")
        read = product.n * product.k * BYTES_PER_ELEMENT["fp4"] / self._bandwidth
        return np.asarray(np.maximum(wide, read) + self.kernels.graph_launch)

    def _prompt_attention(self, prompts: FloatArray, chunk: FloatArray, past: FloatArray) -> FloatArray:
        """Return the time of causal attention over prompts; latent attention expands its cache for it."""
        if not np.any(prompts * chunk > 0):
            return np.zeros_like(prompts)
        model = self.model
        heads = model.heads / self.degrees.tp
        if model.latent is None:
            kv_heads, width = np.maximum(model.kv_heads / self.degrees.tp, 1.0), model.head_dim
        else:
            latent = model.latent
            kv_heads, width = heads, (latent.nope_dim + latent.rope_dim + latent.value_dim) // 2
        time = self.kernels.prefill_attention(
            np.maximum(prompts, 1e-9), np.maximum(chunk, 1.0), past, heads, kv_heads, width
        )
        return np.where(prompts * chunk > 0, time, 0.0)

    def _cache_attention(self, batch: FloatArray, keys: FloatArray, width: float) -> FloatArray:
        """Return the time of attention over caches; with latent attention all heads share one vector."""
        if not np.any(batch > 0):
            return np.zeros_like(batch)
        model = self.model
        heads = model.heads / self.degrees.tp * width
        if model.latent is None:
            kv_heads, head_dim = np.maximum(model.kv_heads / self.degrees.tp, 1.0), model.head_dim
        else:
            kv_heads = np.ones(())
            head_dim = (model.latent.kv_rank + model.latent.rope_dim) // 2
        element = BYTES_PER_ELEMENT[self.precisions.kv]
        time = self.kernels.decode_attention(
            np.maximum(batch, 1e-9), np.maximum(keys, 1.0), heads, kv_heads, head_dim, element
        )
        return np.where(batch > 0, time, 0.0)

    def _experts(self, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the time of the routed experts of a layer, and how far they are in the large regime.

        Every expert that some token of the stage chose is read: of ``E`` experts a share
        :math:`1 - (1 - k/E)^t` under a balanced router.
        """
        model, degrees, kernels = self.model, self.degrees, self.kernels
        if model.experts is None:
            return np.zeros_like(tokens), np.zeros_like(tokens)
        experts = model.experts
        everyone = tokens * degrees.adp
        chosen = -np.expm1(np.log1p(-experts.top_k / experts.num_experts) * np.maximum(everyone, 1e-9))
        touched = np.maximum(experts.num_experts / degrees.ep * chosen, 1e-9)
        rows = everyone * experts.top_k / degrees.ep
        ffn = experts.ffn / degrees.moe_tp
        dtype = "fp4" if self.precisions.experts == "int4" else self.precisions.experts
        up = (model.mlp_matrices - 1) * ffn
        time = kernels.grouped_gemm(rows, touched, up, model.hidden, dtype)
        time = time + kernels.grouped_gemm(rows, touched, model.hidden, ffn, dtype)
        return time, _large(rows / touched)

    def _moved(self, tokens: FloatArray) -> FloatArray:
        """Return the time of element-wise work of all layers: norms, residual sums, activations."""
        model, degrees = self.model, self.degrees
        width = model.layers * STREAM_WIDTH * model.hidden * tokens
        width = width + model.dense_layers * model.mlp_matrices * model.ffn / degrees.tp * tokens
        if model.experts is not None:
            ffn = model.experts.ffn / degrees.moe_tp
            rows = tokens * degrees.adp * model.experts.top_k / degrees.ep
            inner = rows * (4.0 * model.hidden + model.mlp_matrices * ffn)
            width = width + (model.layers - model.dense_layers) * inner
        return np.asarray(width * ELEMENT_BYTES / self._bandwidth)

    def _messages(self, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the number of all-reduces of all layers and the time of their bulk.

        One after attention over ``tp``, one after the MLP. Experts exchange with all GPUs of the stage:
        attention copies gather all tokens and scatter the sums, which moves as much as an all-reduce.
        """
        model, degrees = self.model, self.degrees
        routed = model.layers - model.dense_layers
        inner, outer = model.layers + model.dense_layers, routed
        size = tokens * model.hidden * ELEMENT_BYTES
        count = inner * np.where(degrees.tp > 1, 1.0, 0.0) + outer * np.where(degrees.stage > 1, 1.0, 0.0)
        bulk = inner * np.where(degrees.tp > 1, self.all_reduce(size, degrees.tp), 0.0)
        if outer:
            whole = self.all_reduce(size * degrees.adp, degrees.stage)
            bulk = bulk + outer * np.where(degrees.stage > 1, whole, 0.0)
        return np.asarray(count), np.asarray(bulk)


def _common_products(model: Transformer, tokens: FloatArray, tp: FloatArray) -> list[Product]:
    """Return the products of a layer with experts that every token meets: router and shared expert."""
    return [one for one in expert_products(model, tokens, tp, 1.0) if not one.name.startswith("experts")]


def _large(rows: FloatArray) -> FloatArray:
    """Return how far a product with so many rows is in the compute-bound regime, 0 to 1."""
    return np.asarray(rows / (rows + REGIME_ROWS))
