"""Shapes of models: transformers, dense or mixture-of-experts, with an optional vision tower."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from planner.schema import Document, Name, Record


class LatentAttention(Record):
    """Dimensions of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Attributes
    ----------
    q_rank, kv_rank
        Widths of the compressed query and of the compressed keys and values; ``q_rank`` 0 means that
        queries are not compressed.
    nope_dim, rope_dim, value_dim
        Per-head widths of the key part without and with rotary position, and of the value.
    """

    q_rank: int = Field(default=0, ge=0)
    kv_rank: int = Field(ge=1)
    nope_dim: int = Field(ge=1)
    rope_dim: int = Field(ge=0)
    value_dim: int = Field(ge=1)

    @property
    def attention_dim(self) -> float:
        """Width of a head of plain attention with as many operations: keys and values differ in width."""
        return (self.nope_dim + self.rope_dim + self.value_dim) / 2.0


class Experts(Record):
    """Mixture-of-experts layers.

    Attributes
    ----------
    num_experts, top_k
        Routed experts per layer, and how many each token visits.
    ffn
        Inner width of one expert.
    shared_ffn
        Inner width of the shared expert that every token visits; 0 for none.
    first_dense
        Number of leading layers with a dense MLP instead.
    latent
        Width to which tokens are compressed before they go to the routed experts; 0 for none.
    """

    num_experts: int = Field(ge=2)
    top_k: int = Field(ge=1)
    ffn: int = Field(ge=1)
    shared_ffn: int = Field(default=0, ge=0)
    first_dense: int = Field(default=0, ge=0)
    latent: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _top_k_within(self) -> Experts:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k is {self.top_k} but there are only {self.num_experts} experts")
        return self


class StateSpace(Record):
    """State-space mixers (Mamba-2, arXiv 2405.21060) of a hybrid model, counted per layer of the model.

    A layer is one MLP or one set of experts; the mixers before it are a mean over the model.

    Attributes
    ----------
    heads, head_dim, state, groups
        Dimensions of a mixer.
    per_layer, attention_per_layer
        State-space and attention mixers over layers.
    """

    heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    state: int = Field(ge=1)
    groups: int = Field(ge=1)
    per_layer: float = Field(gt=0)
    attention_per_layer: float = Field(ge=0)

    @property
    def inner(self) -> int:
        """Inner width."""
        return self.heads * self.head_dim

    @property
    def projected(self) -> int:
        """Width of the input projection: gate, values, input and output matrices, steps."""
        return 2 * self.inner + 2 * self.groups * self.state + self.heads


class VisionTower(Record):
    """An image encoder whose outputs become tokens of the language model.

    Attributes
    ----------
    patches
        Patches that the encoder sees per image.
    tokens
        Tokens that one image adds to the prompt after merging.
    """

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    heads: int = Field(ge=1)
    ffn: int = Field(ge=1)
    patches: int = Field(ge=1)
    tokens: int = Field(ge=1)


class Transformer(Record):
    """The shape of a decoder-only transformer.

    Attributes
    ----------
    hidden, ffn
        Widths of the residual stream and of the (dense) MLP.
    heads, kv_heads, head_dim
        Query heads, key/value heads (fewer: grouped-query; one: multi-query), width of a head.
    gated
        Whether the MLP has three matrices (SwiGLU) rather than two.
    learned_positions
        Rows of a learned position table, 0 with rotary positions.
    """

    name: Name
    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    ffn: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    vocab: int = Field(ge=1)
    gated: bool = True
    tied_embeddings: bool = False
    learned_positions: int = Field(default=0, ge=0)
    latent: LatentAttention | None = None
    experts: Experts | None = None
    state_space: StateSpace | None = None
    vision: VisionTower | None = None
    source: str | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> Transformer:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.experts is not None and self.experts.first_dense >= self.layers:
            raise ValueError(f"first_dense ({self.experts.first_dense}) leaves no layer with experts")
        return self

    @property
    def dense_layers(self) -> int:
        """Number of layers with a dense MLP."""
        return self.layers if self.experts is None else self.experts.first_dense

    @property
    def attention_parameters(self) -> int:
        """Parameters of the attention block of one layer; of a hybrid model, of its mixers."""
        if self.state_space is not None:
            mixer = self.hidden * (self.state_space.projected + self.state_space.inner)
            plain = self._attention_block * self.state_space.attention_per_layer
            return round(plain + mixer * self.state_space.per_layer)
        return self._attention_block

    @property
    def attention_share(self) -> float:
        """Attention blocks per layer: 1 but for hybrid models."""
        return 1.0 if self.state_space is None else self.state_space.attention_per_layer

    @property
    def _attention_block(self) -> int:
        if self.latent is None:
            return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        latent = self.latent
        query_width = self.heads * (latent.nope_dim + latent.rope_dim)
        query = (
            self.hidden * latent.q_rank + latent.q_rank * query_width
            if latent.q_rank
            else self.hidden * query_width
        )
        down = self.hidden * (latent.kv_rank + latent.rope_dim)
        up = latent.kv_rank * self.heads * (latent.nope_dim + latent.value_dim)
        return query + down + up + self.heads * latent.value_dim * self.hidden

    @property
    def mlp_matrices(self) -> int:
        """Matrices of one MLP: 3 when gated, else 2."""
        return 3 if self.gated else 2

    @property
    def dense_mlp_parameters(self) -> int:
        """Parameters of the MLP of one dense layer."""
        return self.mlp_matrices * self.hidden * self.ffn

    @property
    def expert_parameters(self) -> int:
        """Parameters of one routed expert, 0 for a dense model."""
        if self.experts is None:
            return 0
        return self.mlp_matrices * (self.experts.latent or self.hidden) * self.experts.ffn

    @property
    def shared_mlp_parameters(self) -> int:
        """Parameters of router, shared expert and compression of one layer, 0 for a dense model."""
        if self.experts is None:
            return 0
        shared = self.mlp_matrices * self.experts.shared_ffn + self.experts.num_experts
        return self.hidden * (shared + 2 * self.experts.latent)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token (and learned position) embedding."""
        return (self.vocab + self.learned_positions) * self.hidden

    @property
    def head_parameters(self) -> int:
        """Parameters of the output projection (also computed with when tied)."""
        return self.vocab * self.hidden

    @property
    def layers_share(self) -> float:
        """Share of the active parameters that sits in the layers rather than in the output head."""
        active = self.layers * self.attention_parameters + self.dense_layers * self.dense_mlp_parameters
        if self.experts is not None:
            per_layer = self.shared_mlp_parameters + self.experts.top_k * self.expert_parameters
            active += (self.layers - self.dense_layers) * per_layer
        return active / (active + self.head_parameters)

    @property
    def vision_parameters(self) -> int:
        """Parameters of the vision tower, 0 without one."""
        if self.vision is None:
            return 0
        tower = self.vision
        return tower.layers * (4 * tower.hidden**2 + 2 * tower.hidden * tower.ffn)

    @property
    def num_parameters(self) -> int:
        """All parameters, norms left out."""
        moe = self.layers - self.dense_layers
        per_moe = self.shared_mlp_parameters + (
            self.experts.num_experts * self.expert_parameters if self.experts else 0
        )
        blocks = (
            self.layers * self.attention_parameters
            + self.dense_layers * self.dense_mlp_parameters
            + moe * per_moe
        )
        head = 0 if self.tied_embeddings else self.head_parameters
        return blocks + self.embedding_parameters + head + self.vision_parameters

    @property
    def kv_width(self) -> int:
        """Elements that one token adds to the key-value cache of one layer.

        Latent attention stores the compressed vector and the rotary key (DeepSeek-V2, section 2.1.3).
        """
        if self.latent is not None:
            return self.latent.kv_rank + self.latent.rope_dim
        return round(2 * self.kv_heads * self.head_dim * self.attention_share)


class ModelDocument(Document):
    """Document ``models/1``: model shapes by name."""

    kind: ClassVar[str] = "models"
    version: ClassVar[int] = 1
    sources: dict[str, str] = Field(default_factory=dict)
    models: list[Transformer]


Precision = Literal["bf16", "fp16", "fp8", "fp4", "int8", "fp32"]
BYTES_PER_ELEMENT: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
}
