"""Shapes of models from the ``config.json`` that Hugging Face keeps beside the weights.

Only the numbers in the file are read; no code is fetched or run. Where a field is absent, the default of the
configuration class of its ``model_type`` in the transformers library counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.errors import WorkloadError, nearest
from planner.workload.hf_fields import Fields, read_json
from planner.workload.models import Experts, LatentAttention, Transformer, VisionTower

IMAGE_SIDE = 896
"""Width and height of the image that a vision tower is described for, pixels: configurations state none."""


@dataclass(frozen=True)
class Defaults:
    """What the configuration class of a model type takes for absent fields.

    Attributes
    ----------
    kv_heads
        Key/value heads; as many as query heads when ``None``.
    head_dim
        Width of a head; the hidden width divided by the heads when ``None``.
    """

    kv_heads: int | None = None
    head_dim: int | None = None
    tied: bool = False


def _decoder(fields: Fields, defaults: Defaults, **more: Any) -> dict[str, Any]:
    """Return the dimensions of a decoder with rotary positions and a gated MLP."""
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    stated = "num_key_value_heads" in fields.data
    return {
        "layers": fields.count("num_hidden_layers"),
        "hidden": hidden,
        "ffn": fields.count("intermediate_size"),
        "heads": heads,
        "kv_heads": fields.count("num_key_value_heads", heads if stated else defaults.kv_heads or heads),
        "head_dim": fields.count("head_dim", defaults.head_dim or max(1, hidden // heads)),
        "vocab": fields.count("vocab_size"),
        "tied_embeddings": fields.flag("tie_word_embeddings", defaults.tied),
        **more,
    }


def _mixtral(fields: Fields, defaults: Defaults) -> dict[str, Any]:
    experts = Experts(
        num_experts=fields.count("num_local_experts", 8),
        top_k=fields.count("num_experts_per_tok", 2),
        ffn=fields.count("intermediate_size"),
    )
    return _decoder(fields, defaults, experts=experts)


def _qwen_moe(fields: Fields, defaults: Defaults) -> dict[str, Any]:
    if fields.count("decoder_sparse_step", 1) != 1:
        raise fields.error("decoder_sparse_step", "only models with experts in every layer can be described")
    dense = fields.data.get("mlp_only_layers") or []
    if not isinstance(dense, list) or dense != list(range(len(dense))):
        raise fields.error("mlp_only_layers", "only leading dense layers can be described")
    experts = Experts(
        num_experts=fields.count("num_experts"),
        top_k=fields.count("num_experts_per_tok"),
        ffn=fields.count("moe_intermediate_size"),
        shared_ffn=fields.count("shared_expert_intermediate_size", 0, least=0),
        first_dense=len(dense),
    )
    return _decoder(fields, defaults, experts=experts)


def _deepseek(fields: Fields, defaults: Defaults) -> dict[str, Any]:
    if fields.count("moe_layer_freq", 1) != 1:
        raise fields.error("moe_layer_freq", "only models with experts in every later layer can be described")
    latent = LatentAttention(
        q_rank=fields.count("q_lora_rank", 0, least=0),
        kv_rank=fields.count("kv_lora_rank"),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim", least=0),
        value_dim=fields.count("v_head_dim"),
    )
    experts = None
    if fields.data.get("n_routed_experts") is not None:
        ffn = fields.count("moe_intermediate_size")
        experts = Experts(
            num_experts=fields.count("n_routed_experts"),
            top_k=fields.count("num_experts_per_tok"),
            ffn=ffn,
            shared_ffn=fields.count("n_shared_experts", 0, least=0) * ffn,
            first_dense=fields.count("first_k_dense_replace", 0, least=0),
        )
    heads = {"kv_heads": fields.count("num_attention_heads"), "head_dim": latent.nope_dim + latent.rope_dim}
    return {**_decoder(fields, defaults, latent=latent, experts=experts), **heads}


def _gpt2(fields: Fields, defaults: Defaults) -> dict[str, Any]:
    hidden, heads = fields.count("n_embd"), fields.count("n_head")
    return {
        "layers": fields.count("n_layer"),
        "hidden": hidden,
        "ffn": fields.count("n_inner", 4 * hidden),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": max(1, hidden // heads),
        "vocab": fields.count("vocab_size"),
        "gated": False,
        "tied_embeddings": fields.flag("tie_word_embeddings", defaults.tied),
        "learned_positions": fields.count("n_positions", 1024),
    }


def _opt(fields: Fields, defaults: Defaults) -> dict[str, Any]:
    hidden = fields.count("hidden_size")
    if fields.count("word_embed_proj_dim", hidden) != hidden:
        raise fields.error("word_embed_proj_dim", "embeddings of another width cannot be described")
    renamed = Fields(fields.path, {**fields.data, "intermediate_size": fields.count("ffn_dim")})
    positions = fields.count("max_position_embeddings", 2048) + 2  # the table starts at row 2
    return _decoder(renamed, defaults, gated=False, learned_positions=positions)


def _gpt_neox(fields: Fields, defaults: Defaults) -> dict[str, Any]:
    return _decoder(fields, defaults, gated=False)


def _qwen_vl(fields: Fields, defaults: Defaults) -> dict[str, Any]:
    """Read the text part, nested or not, and the vision tower."""
    text = fields.inner("text_config") or fields
    vision = fields.inner("vision_config")
    if vision is None:
        raise fields.error("vision_config", "missing field")
    tied = fields.flag("tie_word_embeddings", defaults.tied)
    return _decoder(text, Defaults(defaults.kv_heads, defaults.head_dim, tied), vision=_tower(vision))


def _tower(vision: Fields) -> VisionTower:
    """Return the tower of Qwen2-VL (``embed_dim`` and ``mlp_ratio``) or of Qwen2.5-VL (gated MLP).

    A gated MLP has three matrices; it is described by two that hold as many parameters.
    """
    if "embed_dim" in vision.data:
        hidden = vision.count("embed_dim")
        ffn = hidden * vision.count("mlp_ratio", 4)
    else:
        hidden = vision.count("hidden_size")
        ffn = vision.count("intermediate_size") * 3 // 2
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    side = max(merge, IMAGE_SIDE // patch // merge * merge)
    return VisionTower(
        layers=vision.count("depth", 32),
        hidden=hidden,
        heads=vision.count("num_heads", 16),
        ffn=max(1, ffn),
        patches=side**2,
        tokens=(side // merge) ** 2,
    )


_READERS: dict[str, tuple[Callable[[Fields, Defaults], dict[str, Any]], Defaults]] = {
    "llama": (_decoder, Defaults()),
    "mistral": (_decoder, Defaults(kv_heads=8)),
    "phi3": (_decoder, Defaults()),
    "qwen2": (_decoder, Defaults(kv_heads=32)),
    "qwen3": (_decoder, Defaults(kv_heads=32, head_dim=128)),
    "gemma": (_decoder, Defaults(kv_heads=16, head_dim=256, tied=True)),
    "gemma2": (_decoder, Defaults(kv_heads=4, head_dim=256, tied=True)),
    "mixtral": (_mixtral, Defaults(kv_heads=8)),
    "qwen2_moe": (_qwen_moe, Defaults(kv_heads=16)),
    "qwen3_moe": (_qwen_moe, Defaults(kv_heads=4)),
    "deepseek_v2": (_deepseek, Defaults()),
    "deepseek_v3": (_deepseek, Defaults()),
    "gpt2": (_gpt2, Defaults(tied=True)),
    "gpt_neox": (_gpt_neox, Defaults()),
    "opt": (_opt, Defaults(tied=True)),
    "qwen2_vl": (_qwen_vl, Defaults(kv_heads=32)),
    "qwen2_5_vl": (_qwen_vl, Defaults(kv_heads=32)),
}
SUPPORTED = tuple(_READERS)
"""Values of ``model_type`` that can be read."""


def read_config(path: Path) -> Transformer:
    """Return the shape of the model that a Hugging Face ``config.json`` describes.

    Raises
    ------
    WorkloadError
        If the file cannot be read, is not JSON, lacks a field, or is of a model type that is not known; the
        message names the file and the field.
    """
    fields = Fields(path, read_json(path))
    kind = fields.data.get("model_type")
    if not isinstance(kind, str):
        raise fields.error("model_type", f"missing field; it names one of {', '.join(SUPPORTED)}")
    if kind not in _READERS:
        close = nearest(kind, SUPPORTED)
        hint = f"did you mean {close!r}? " if close else ""
        raise fields.error("model_type", f"unknown type {kind!r:.80}; {hint}known: {', '.join(SUPPORTED)}")
    reader, defaults = _READERS[kind]
    try:
        return Transformer(name=_name(path), source=f"{path.name} of type {kind}", **reader(fields, defaults))
    except ValidationError as error:
        raise WorkloadError(f"{path}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def _name(path: Path) -> str:
    """Return a name for the model: that of the file, or of its folder when the file is called ``config``."""
    whole = path.absolute()
    name = whole.parent.name if whole.stem == "config" else whole.stem
    return re.sub(r"[^A-Za-z0-9._:-]+", "-", name).strip("-._:")[:100] or "model"
