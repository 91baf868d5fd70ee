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
from planner.costs.engine_products import products_of_token
from planner.costs.kernels import Kernels
from planner.workload import BYTES_PER_ELEMENT, Transformer

FloatArray = NDArray[np.float64]
ENGINES = ("trtllm", "sglang", "vllm")
REGIME_ROWS = 256.0
"""Rows at which a product is half-way between reading weights and computing: peak over memory rate.
So far is a product with ``m`` rows in the compute-bound regime: ``m / (m + REGIME_ROWS)``."""


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
        self._products_of_one = products_of_token(model, degrees, precisions)
        self._moved = self._moved_per_token()
        latent = 0 if model.latent is None else model.layers
        counts = (model.layers, model.layers - model.dense_layers, latent)
        self._layers = [np.asarray(float(count)) for count in counts]
        self._exchanges = self._messages_of_one()

    def parts(
        self,
        prompts: ArrayLike,
        chunk: ArrayLike,
        past: ArrayLike,
        batch: ArrayLike,
        keys: ArrayLike,
        *,
        width: ArrayLike = 1.0,
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
        many, new, old, decoding, cached, wide = (
            np.asarray(one, dtype=float) for one in (prompts, chunk, past, batch, keys, width)
        )
        prompt = self.prompt_attention(many, new, old)
        return self.assembled(many, new, decoding, prompt, self.cache_attention(decoding, cached, wide), wide)

    def assembled(
        self,
        prompts: FloatArray,
        chunk: FloatArray,
        batch: FloatArray,
        prompt_attention: FloatArray,
        cache_attention: FloatArray,
        width: FloatArray,
    ) -> StepParts:
        """Return what a step consists of, the times of a layer's attention being known; see :meth:`parts`."""
        model, degrees = self.model, self.degrees
        shape = np.broadcast(prompts, chunk, batch, prompt_attention, cache_attention, degrees.tp).shape
        rows = prompts + batch * width
        tokens = np.empty(shape)
        tokens[...] = np.maximum(prompts * chunk + batch * width, 1.0)
        large, small, expert_large, expert_small = self._products(tokens, np.maximum(rows, 1.0))
        messages, bulk = self._messages(tokens)
        layers, expert_layers, latent_layers = self._layers
        return StepParts(
            large=large + model.layers * prompt_attention,
            small=small,
            expert_large=expert_large,
            expert_small=expert_small,
            attention=model.layers * cache_attention + np.zeros(shape),
            moved=self._moved * tokens,
            layers=layers,
            expert_layers=expert_layers,
            latent_layers=latent_layers,
            messages=messages,
            transfer=bulk,
            prompts=np.where(prompts * chunk > 0, 1.0, 0.0),
            sequences=(batch + prompts) * degrees.adp,
        )

    # -- parts of a layer ----------------------------------------------------------------------------

    def _products(self, tokens: FloatArray, heads: FloatArray) -> list[FloatArray]:
        """Return the time of all products: large and small ones, large and small ones of routed experts.

        ``heads`` are the rows of the output projection. All products of a data type are priced at once.
        """
        touched = self._touched(tokens)
        sums = [np.zeros_like(tokens) for _ in range(4)]
        for one in self._products_of_one:
            rows, groups = one.placed(tokens, heads, touched)
            n, k, count = one.over(tokens.ndim)
            whole = count * self._product(one.dtype, rows, groups, n, k)
            each = rows / groups
            large = whole * (each / (each + REGIME_ROWS))
            for place, part in ((0, slice(one.routed)), (2, slice(one.routed, None))):
                if len(whole[part]):
                    sums[place] += large[part].sum(axis=0)
                    sums[place + 1] += (whole[part] - large[part]).sum(axis=0)
        return sums

    def _product(
        self, dtype: str, m: FloatArray, groups: FloatArray, n: FloatArray, k: FloatArray
    ) -> FloatArray:
        if dtype != "int4":
            return self.kernels.grouped_gemm(m, groups, n, k, dtype)
        wide = 2.0 * m * n * k / self.kernels.matmul("bf16")
        read = n * k * BYTES_PER_ELEMENT["fp4"] / self._bandwidth
        return np.asarray(np.maximum(wide, read) + self.kernels.graph_launch)

    def prompt_attention(self, prompts: FloatArray, chunk: FloatArray, past: FloatArray) -> FloatArray:
        """Return the time of a layer's causal attention over prompts, s; see :meth:`parts`.

        Latent attention expands its cache for it.
        """
        if not np.any(prompts * chunk > 0):
            return np.zeros(())
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

    def cache_attention(self, batch: FloatArray, keys: FloatArray, width: FloatArray) -> FloatArray:
        """Return the time of a layer's attention over caches, s; see :meth:`parts`.

        With latent attention all heads share one vector.
        """
        if not np.any(batch > 0):
            return np.zeros(())
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

    def _touched(self, tokens: FloatArray) -> FloatArray:
        """Return how many routed experts of a GPU some token of the stage chose: only these are read.

        Of ``E`` experts a share :math:`1 - (1 - k/E)^t` under a balanced router.
        """
        experts, degrees = self.model.experts, self.degrees
        if experts is None:
            return np.ones_like(tokens)
        everyone = np.maximum(tokens * degrees.adp, 1e-9)
        chosen = -np.expm1(np.log1p(-experts.top_k / experts.num_experts) * everyone)
        return np.asarray(np.maximum(experts.num_experts / degrees.ep * chosen, 1e-9))

    def _moved_per_token(self) -> FloatArray:
        """Return the time of element-wise work of all layers: norms, residual sums, activations."""
        model, degrees = self.model, self.degrees
        width = np.asarray(model.layers * STREAM_WIDTH * model.hidden)
        width = width + model.dense_layers * model.mlp_matrices * model.ffn / degrees.tp
        if model.experts is not None:
            ffn = model.experts.ffn / degrees.moe_tp
            rows = degrees.adp * model.experts.top_k / degrees.ep
            inner = rows * (4.0 * model.hidden + model.mlp_matrices * ffn)
            width = width + (model.layers - model.dense_layers) * inner
        return np.asarray(width * ELEMENT_BYTES / self._bandwidth)

    def _messages_of_one(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the number of all-reduces of all layers, those over ``tp`` and those over the stage.

        One after attention over ``tp``, one after the MLP. Experts exchange with all GPUs of the stage:
        attention copies gather all tokens and scatter the sums, which moves as much as an all-reduce.
        """
        model, degrees = self.model, self.degrees
        inner = (model.layers + model.dense_layers) * np.where(degrees.tp > 1, 1.0, 0.0)
        outer = (model.layers - model.dense_layers) * np.where(degrees.stage > 1, 1.0, 0.0)
        return inner + outer, inner, outer

    def _messages(self, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the number of all-reduces of all layers and the time of their bulk."""
        degrees = self.degrees
        count, inner, outer = self._exchanges
        size = tokens * (self.model.hidden * ELEMENT_BYTES)
        bulk = np.zeros_like(size)
        alike = bool(np.all(degrees.adp == 1))
        if np.any(inner):
            near = self.all_reduce(size, degrees.tp)
            bulk = bulk + np.where(inner > 0, (inner + outer if alike else inner) * near, 0.0)
        if np.any(outer) and not alike:
            whole = self.all_reduce(size * degrees.adp, degrees.stage)
            bulk = bulk + np.where(outer > 0, outer * whole, 0.0)
        return count, np.asarray(bulk)
