"""Shapes of models, and the shipped ones."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from planner.schema import load, presets
from planner.workload import Experts, ModelDocument, Transformer, model_presets

PUBLISHED = {
    "llama3-8b": 8.03e9,
    "llama3-70b": 70.6e9,
    "llama3-405b": 405.9e9,
    "qwen3-32b": 32.8e9,
    "mixtral-8x7b": 46.7e9,
    "deepseek-v3": 671e9,
    "gpt3-175b": 174.6e9,
    "qwen2.5-vl-7b": 8.29e9,
    "minimax-m2.5": 229e9,
    "llama2-7b": 6.74e9,
    "llama2-70b": 69e9,
    "mistral-7b": 7.24e9,
    "gpt-j-6b": 6.05e9,
    "mixtral-8x22b": 140.6e9,
    "qwen3-8b": 8.19e9,
    "qwen3-14b": 14.8e9,
    "qwen3-30b-a3b": 30.5e9,
    "qwen3-235b-a22b": 235e9,
    "llama4-scout": 107.8e9,
    "gpt-oss-120b": 116.8e9,
    "gpt-oss-20b": 20.9e9,
    "kimi-k2": 1026e9,
    "glm-4.7": 355e9,
    "glm-5": 744e9,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_those_published(name: str) -> None:
    """The dimensions of each shipped model give its published size within one per cent."""
    assert model_presets()[name].num_parameters == pytest.approx(PUBLISHED[name], rel=0.01)


def test_every_shipped_model_is_known_and_has_a_source() -> None:
    """No model is shipped that the table of sizes lacks, and each says where its shape is from."""
    document = load(presets.folder("workloads") / "models.yaml", ModelDocument)
    assert {model.name for model in document.models} == set(PUBLISHED)
    assert {model.source for model in document.models} == set(document.sources)


def test_active_parameters_of_deepseek_v3() -> None:
    """A token of DeepSeek-V3 meets 37 billion parameters, as its authors state."""
    model = model_presets()["deepseek-v3"]
    assert model.experts is not None
    idle = (model.experts.num_experts - model.experts.top_k) * model.expert_parameters
    active = model.num_parameters - idle * (model.layers - model.dense_layers)
    assert active == pytest.approx(37e9, rel=0.03)


def test_latent_attention_caches_little() -> None:
    """DeepSeek-V3 caches 576 elements per token and layer where plain attention would need 49,152."""
    model = model_presets()["deepseek-v3"]
    assert model.kv_width == 576
    assert model.model_copy(update={"latent": None}).kv_width == 2 * 128 * 192


def test_grouped_queries_shrink_the_cache() -> None:
    """Eight key/value heads of 128 make 2,048 elements."""
    assert model_presets()["llama3-70b"].kv_width == 2048


def test_one_image_of_the_vision_preset_becomes_a_thousand_tokens() -> None:
    """896 x 896 pixels are 64 x 64 patches, merged four by four into 1,024 tokens."""
    tower = model_presets()["qwen2.5-vl-7b"].vision
    assert tower is not None
    assert (tower.patches, tower.tokens) == ((896 // 14) ** 2, (896 // 28) ** 2)


def _tiny(**changes: object) -> Transformer:
    dims = {"layers": 2, "hidden": 8, "ffn": 16, "heads": 4, "kv_heads": 2, "head_dim": 2, "vocab": 10}
    return Transformer.model_validate({"name": "tiny", **dims, **changes})


def test_parameters_of_a_tiny_model_by_hand() -> None:
    """Two layers of attention 8 x 2 x (8 + 4) and MLP 3 x 8 x 16, an embedding and a head of 10 x 8."""
    assert _tiny().num_parameters == 2 * (8 * 2 * 12 + 3 * 8 * 16) + 2 * 80
    assert _tiny(gated=False, tied_embeddings=True).num_parameters == 2 * (8 * 2 * 12 + 2 * 8 * 16) + 80
    assert _tiny(learned_positions=5).num_parameters == _tiny().num_parameters + 40


def test_parameters_of_a_tiny_mixture_by_hand() -> None:
    """One dense layer, then one with a router, three experts of width 4 and a shared one of width 6."""
    experts = {"num_experts": 3, "top_k": 1, "ffn": 4, "shared_ffn": 6, "first_dense": 1}
    dense, moe = 3 * 8 * 16, 3 * (3 * 8 * 4) + 3 * 8 * 6 + 8 * 3
    assert _tiny(experts=experts).num_parameters == 2 * 8 * 2 * 12 + dense + moe + 2 * 80


def test_impossible_shapes_are_refused() -> None:
    """Heads must divide, experts must be reachable, and some layer must have them."""
    with pytest.raises(ValidationError, match="must be a multiple of kv_heads"):
        _tiny(kv_heads=3)
    with pytest.raises(ValidationError, match="only 2 experts"):
        Experts(num_experts=2, top_k=3, ffn=4)
    with pytest.raises(ValidationError, match="leaves no layer with experts"):
        _tiny(experts={"num_experts": 2, "top_k": 1, "ffn": 4, "first_dense": 2})
