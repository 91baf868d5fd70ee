"""What a plan's calibration predicts for the parts of a stage: sums of its kernels, no engine around them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs import Calibration
from planner.costs.blocks import dense_layer
from planner.costs.kernels import Kernels, kernels
from planner.costs.products import Product, attention_products, head_product, mlp_products
from planner.costs.strategy import ACTIVATION_BYTES, MASTER_BYTES
from planner.topology import Device
from planner.workload import BYTES_PER_ELEMENT, Transformer

BACKWARD = 3.0
"""Products of a forward and a backward pass over those of a forward pass (:mod:`planner.costs.training`)."""
FUSED_BACKWARD = 3.5
"""The same for fused attention (T. Dao et al., "FlashAttention", 2022)."""


@dataclass(frozen=True)
class Predictor:
    """Times of one rank's kernels.

    Attributes
    ----------
    tp
        Ranks that share a layer.
    dtype
        Data type that runs.
    """

    device: Device
    calibration: Calibration
    model: Transformer
    tp: int
    dtype: str

    @cached_property
    def kernels(self) -> Kernels:
        """Kernel times of the device."""
        return kernels(self.device, self.calibration)

    @property
    def heads(self) -> tuple[int, int]:
        """Query heads and key/value heads of a rank."""
        return self.model.heads // self.tp, max(self.model.kv_heads // self.tp, 1)

    def products(self, tokens: float) -> list[Product]:
        """Return the products of a dense layer."""
        model, tp = self.model, float(self.tp)
        return attention_products(model, tokens, tp) + mlp_products(model, tokens, tp)

    def product(self, one: Product) -> float:
        """Return the time of a product, s."""
        return float(self.kernels.gemm(one.m, one.n, one.k, self.dtype))

    def layer_gemm(self, tokens: float) -> float:
        """Return the time of a layer's products, s."""
        return sum(self.product(one) for one in self.products(tokens))

    def prefill(self, batch: float, tokens: float) -> float:
        """Return the time of a layer's attention over whole prompts, s."""
        heads, kv_heads = self.heads
        time = self.kernels.prefill_attention(
            batch, tokens, 0.0, heads, kv_heads, self.model.head_dim, self.dtype
        )
        return float(time)

    def decode(self, batch: float, keys: float) -> float:
        """Return the time of a layer's attention of one token per sequence, s."""
        heads, kv_heads = self.heads
        element = BYTES_PER_ELEMENT.get(self.dtype, ACTIVATION_BYTES)
        return float(
            self.kernels.decode_attention(batch, keys, heads, kv_heads, self.model.head_dim, element)
        )

    def elementwise(self, tokens: float) -> float:
        """Return the time of norms, sums and activation functions of a layer, s."""
        many = np.asarray(float(tokens))
        work = dense_layer(self.model, many, many, np.asarray(float(self.tp)), BYTES_PER_ELEMENT[self.dtype])
        streaming = self.kernels.streaming
        return float(streaming(work.stream_bytes) + streaming(work.inner_bytes))

    def head(self, rows: float) -> float:
        """Return the time of the output projection, s."""
        return self.product(head_product(self.model, rows, float(self.tp)))

    def embedding(self, tokens: float) -> float:
        """Return the time of reading tokens' vectors, s."""
        return float(self.kernels.streaming(2.0 * tokens * self.model.hidden * ACTIVATION_BYTES))

    def prefill_stage(self, layers: int, batch: int, tokens: int, *, first: bool, last: bool) -> float:
        """Return the time of prompts through some layers, s."""
        many = float(batch * tokens)
        layer = self.layer_gemm(many) + self.prefill(batch, tokens) + self.elementwise(many)
        ends = (self.embedding(many) if first else 0.0) + (self.head(batch) if last else 0.0)
        return layers * layer + ends

    def decode_stage(self, layers: int, batch: int, keys: int, *, first: bool, last: bool) -> float:
        """Return the time of one token of every sequence through some layers, s."""
        layer = self.layer_gemm(batch) + self.decode(batch, keys) + self.elementwise(batch)
        ends = (self.embedding(batch) if first else 0.0) + (self.head(batch) if last else 0.0)
        return layers * layer + ends

    def train_stage(self, layers: int, batch: int, tokens: int, *, first: bool, last: bool) -> float:
        """Return the time of a micro-batch there and back through some layers, s; nothing is recomputed."""
        many, streaming = float(batch * tokens), self.kernels.streaming
        layer = BACKWARD * (self.layer_gemm(many) + self.elementwise(many))
        layer += FUSED_BACKWARD * self.prefill(batch, tokens)
        layer += float(streaming(self._layer_parameters() * self._accumulated()))
        ends = BACKWARD * self.embedding(many) if first else 0.0
        if last:
            logits = many * self.model.vocab / self.tp * (4.0 * ACTIVATION_BYTES + 4.0)
            ends += BACKWARD * self.head(many) + float(streaming(logits))
        return layers * layer + ends

    def update(self, parameters: float) -> float:
        """Return the time of the optimizer over so many weights, s; see :mod:`planner.costs.synchronise`."""
        touched = self.calibration.number("gradient_bytes") + 2.0 * MASTER_BYTES + ACTIVATION_BYTES
        return float(self.kernels.streaming(parameters * touched))

    def _layer_parameters(self) -> float:
        return (self.model.attention_parameters + self.model.dense_mlp_parameters) / self.tp

    def _accumulated(self) -> float:
        return ACTIVATION_BYTES + 2.0 * self.calibration.number("gradient_bytes")
