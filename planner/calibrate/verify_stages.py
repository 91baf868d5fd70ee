"""A pipeline stage as a synthetic torch module: the real dimensions of its shard, random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.calibrate.run.backend import Backend, dtype_of
from planner.calibrate.torch_here import Torch

Tensor = Any


@dataclass(frozen=True)
class StageDims:
    """Dimensions of one rank's part of a stage.

    Attributes
    ----------
    heads, kv_heads, ffn, vocab
        Of the shard: divided by the tensor-parallel degree already.
    matrices
        Matrices of the MLP: 3 where it is gated, else 2.
    layers
        Layers that are built: all of the stage, or as many as memory and time allow.
    first, last
        Whether the stage has the embedding, and the output projection.
    """

    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    matrices: int
    layers: int
    first: bool
    last: bool
    dtype: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> StageDims:
        """Return the dimensions from an order."""
        return cls(**fields)

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer."""
        width = (2 * self.heads + 2 * self.kv_heads) * self.head_dim
        return self.hidden * (width + self.matrices * self.ffn + 2)

    @property
    def edge_parameters(self) -> int:
        """Weights of the embedding and of the output projection, where the stage has them."""
        return (int(self.first) + int(self.last)) * self.vocab * self.hidden


class Stage:
    """Layers of a transformer on one rank; norms, products, fused attention and sums as engines run them.

    Positions are not rotated and tensor-parallel sums are left to the collectives, which are measured apart.
    """

    def __init__(self, backend: Backend, dims: StageDims, *, trained: bool = False) -> None:
        self.torch, self.dims = backend.torch, dims
        self._device, self._kind = backend.device, dtype_of(backend.torch, dims.dtype)
        self._trained = trained
        queries, keys = dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim
        self._split = (queries, keys, keys)
        shapes = {
            "qkv": (queries + 2 * keys, dims.hidden),
            "out": (dims.hidden, queries),
            "up": ((dims.matrices - 1) * dims.ffn, dims.hidden),
            "down": (dims.hidden, dims.ffn),
            "norm": (dims.hidden,),
            "norm2": (dims.hidden,),
        }
        self.layers = [
            {name: self._weight(*dims_) for name, dims_ in shapes.items()} for _ in range(dims.layers)
        ]
        self.embedding = self._weight(dims.vocab, dims.hidden) if dims.first else None
        self.head = self._weight(dims.vocab, dims.hidden) if dims.last else None
        self._caches: list[tuple[Tensor, Tensor]] = []

    def parameters(self) -> list[Tensor]:
        """Return all weights."""
        ends = [one for one in (self.embedding, self.head) if one is not None]
        return [weight for layer in self.layers for weight in layer.values()] + ends

    def _weight(self, *dims: int) -> Tensor:
        torch = self.torch
        scale = 1.0 if len(dims) == 1 else float(dims[-1]) ** -0.5
        weight = ((torch.rand(*dims, device=self._device) - 0.5) * 2.0 * scale).to(self._kind)
        return weight.requires_grad_(self._trained)

    def tokens(self, batch: int, count: int) -> Tensor:
        """Return what the stage takes in: token numbers on the first stage, else activations."""
        torch, dims = self.torch, self.dims
        if self.embedding is not None:
            return torch.randint(dims.vocab, (batch, count), device=self._device)
        return torch.rand(batch, count, dims.hidden, device=self._device).to(self._kind)

    def fill_cache(self, batch: int, keys: int) -> None:
        """Keep ``keys`` tokens of ``batch`` sequences for every layer."""
        shape = (batch, self.dims.kv_heads, keys, self.dims.head_dim)
        rand = self.torch.rand
        self._caches = [
            (rand(shape, device=self._device).to(self._kind), rand(shape, device=self._device).to(self._kind))
            for _ in self.layers
        ]

    def forward(self, taken: Tensor, *, cached: bool = False) -> Tensor:
        """Return activations; on the last stage the scores of all tokens in training, else of the last."""
        functional = self.torch.nn.functional
        stream = taken if self.embedding is None else functional.embedding(taken, self.embedding)
        for number, layer in enumerate(self.layers):
            stream = self._layer(stream, layer, self._caches[number] if cached else None)
        if self.head is None:
            return stream
        return functional.linear(stream if self._trained else stream[:, -1], self.head)

    def _layer(
        self, stream: Tensor, layer: Mapping[str, Tensor], cache: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        functional, dims = self.torch.nn.functional, self.dims
        batch, count, _ = stream.shape
        normed = functional.rms_norm(stream, (dims.hidden,), layer["norm"])
        parts = functional.linear(normed, layer["qkv"]).split(self._split, dim=-1)
        query, key, value = (one.view(batch, count, -1, dims.head_dim).transpose(1, 2) for one in parts)
        if cache is not None:
            key, value = cache
        found = functional.scaled_dot_product_attention(
            query, key, value, is_causal=cache is None and count > 1, enable_gqa=dims.heads != dims.kv_heads
        )
        found = found.transpose(1, 2).reshape(batch, count, -1)
        stream = stream + functional.linear(found, layer["out"])
        normed = functional.rms_norm(stream, (dims.hidden,), layer["norm2"])
        inner = functional.linear(normed, layer["up"])
        if dims.matrices == 3:
            gate, linear = inner.chunk(2, dim=-1)
            inner = functional.silu(gate) * linear
        else:
            inner = functional.gelu(inner)
        return stream + functional.linear(inner, layer["down"])


def loss_of(torch: Torch, scores: Tensor) -> Tensor:
    """Return a loss of scores against the first token of the vocabulary everywhere."""
    flat = scores.reshape(-1, scores.shape[-1])
    target = torch.zeros(flat.shape[0], dtype=torch.long, device=flat.device)
    return torch.nn.functional.cross_entropy(flat.float(), target)
