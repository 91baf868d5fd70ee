"""Models from Hugging Face configurations, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import WorkloadError
from planner.workload import Transformer, model_presets, read_config
from planner.workload.hf_config import SUPPORTED

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "vocab_size": 100,
}
MOE = {
    **LLAMA, "model_type": "qwen3_moe", "num_key_value_heads": 4,
    "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
}  # fmt: skip
DEEPSEEK = {
    **LLAMA, "model_type": "deepseek_v3",
    "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    "n_routed_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 2,
    "first_k_dense_replace": 1,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 8, "vocab_size": 100, "n_positions": 256}


def _read(tmp_path: Path, config: dict[str, Any]) -> Transformer:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return read_config(path)


def _error(tmp_path: Path, config: dict[str, Any]) -> str:
    with pytest.raises(WorkloadError) as caught:
        _read(tmp_path, config)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")
    return str(caught.value).removeprefix(f"{tmp_path / 'config.json'}: ")


def test_absent_fields_take_the_defaults_of_the_library(tmp_path: Path) -> None:
    """Without key/value heads there are as many as queries; without a head width, hidden / heads."""
    model = _read(tmp_path, LLAMA)
    assert (model.kv_heads, model.head_dim, model.gated, model.tied_embeddings) == (8, 8, True, False)
    assert (model.layers, model.hidden, model.ffn, model.heads, model.vocab) == (3, 64, 160, 8, 100)


@pytest.mark.parametrize(
    ("kind", "kv_heads", "head_dim", "tied"),
    [
        ("mistral", 8, 8, False),
        ("phi3", 16, 8, False),
        ("qwen2", 32, 8, False),
        ("qwen3", 32, 128, False),
        ("gemma", 16, 256, True),
        ("gemma2", 4, 256, True),
    ],
)
def test_defaults_differ_by_type(tmp_path: Path, kind: str, kv_heads: int, head_dim: int, tied: bool) -> None:
    """Each configuration class has defaults of its own."""
    heads = 32 if kv_heads == 32 else 16
    config = {**LLAMA, "model_type": kind, "num_attention_heads": heads, "hidden_size": 8 * heads}
    model = _read(tmp_path, config)
    assert (model.kv_heads, model.head_dim, model.tied_embeddings) == (kv_heads, head_dim, tied)


def test_an_explicit_null_means_as_many_as_queries(tmp_path: Path) -> None:
    """Mistral's default of eight key/value heads holds for an absent field only."""
    config = {**LLAMA, "model_type": "mistral", "num_attention_heads": 16, "num_key_value_heads": None}
    assert _read(tmp_path, config).kv_heads == 16


def test_mixtral_experts_are_as_wide_as_its_mlp(tmp_path: Path) -> None:
    """All layers have experts of the stated width."""
    config = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    experts = _read(tmp_path, config).experts
    assert experts is not None
    assert (experts.num_experts, experts.top_k, experts.ffn, experts.first_dense) == (4, 2, 160, 0)


def test_qwen_mixtures(tmp_path: Path) -> None:
    """Leading dense layers and the shared expert are read; Qwen3 has no shared expert."""
    experts = _read(tmp_path, MOE).experts
    assert experts is not None
    assert (experts.num_experts, experts.top_k, experts.ffn, experts.shared_ffn) == (16, 2, 32, 0)
    shared = {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 48, "mlp_only_layers": [0]}
    older = _read(tmp_path, {**MOE, **shared}).experts
    assert older is not None
    assert (older.shared_ffn, older.first_dense) == (48, 1)


def test_deepseek_has_latent_attention_and_shared_experts(tmp_path: Path) -> None:
    """Ranks and head widths are read; two shared experts count as one twice as wide."""
    model = _read(tmp_path, DEEPSEEK)
    assert model.latent is not None and model.experts is not None
    assert (model.latent.q_rank, model.latent.kv_rank, model.kv_width) == (0, 16, 20)
    assert (model.head_dim, model.kv_heads) == (12, 8)
    assert (model.experts.shared_ffn, model.experts.first_dense) == (64, 1)
    assert _read(tmp_path, {**DEEPSEEK, "n_routed_experts": None}).experts is None


def test_the_published_deepseek_v3_gives_the_preset(tmp_path: Path) -> None:
    """The dimensions of the published configuration make the shipped model."""
    config = {
        "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
        "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280, "q_lora_rank": 1536,
        "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
        "n_shared_experts": 1, "first_k_dense_replace": 3, "moe_layer_freq": 1, "tie_word_embeddings": False,
    }  # fmt: skip
    own = {"name": "deepseek-v3", "source": "aic"}
    assert _read(tmp_path, config).model_copy(update=own) == model_presets()["deepseek-v3"]


def test_older_decoders_have_two_matrices_and_tied_embeddings(tmp_path: Path) -> None:
    """GPT-2 and OPT learn their positions; GPT-NeoX rotates and does not tie."""
    gpt2 = _read(tmp_path, GPT2)
    assert (gpt2.ffn, gpt2.gated, gpt2.tied_embeddings, gpt2.learned_positions) == (256, False, True, 256)
    opt = _read(tmp_path, {**LLAMA, "model_type": "opt", "ffn_dim": 96, "max_position_embeddings": 512})
    assert (opt.ffn, opt.gated, opt.tied_embeddings, opt.learned_positions) == (96, False, True, 514)
    neox = _read(tmp_path, {**LLAMA, "model_type": "gpt_neox"})
    assert (neox.gated, neox.tied_embeddings, neox.learned_positions) == (False, False, 0)


@pytest.mark.parametrize("nested", [False, True])
def test_vision_models_nest_their_text(tmp_path: Path, nested: bool) -> None:
    """Both layouts of Qwen2.5-VL give the same model: old files are flat, new ones have a text_config."""
    text = {key: value for key, value in LLAMA.items() if key != "model_type"} | {"num_key_value_heads": 4}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 60, "num_heads": 4, "patch_size": 14}
    body = {"text_config": text} if nested else text
    model = _read(tmp_path, {"model_type": "qwen2_5_vl", **body, "vision_config": vision})
    assert (model.hidden, model.kv_heads) == (64, 4)
    assert model.vision is not None
    assert (model.vision.ffn, model.vision.patches, model.vision.tokens) == (90, 4096, 1024)


def test_qwen2_vl_states_its_tower_in_other_words(tmp_path: Path) -> None:
    """Here hidden_size is the width of the language model and embed_dim that of the tower."""
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 4, "num_heads": 4}
    config = {**LLAMA, "model_type": "qwen2_vl", "num_key_value_heads": 8, "vision_config": vision}
    tower = _read(tmp_path, config).vision
    assert tower is not None
    assert (tower.hidden, tower.ffn, tower.layers) == (32, 128, 2)


def test_the_model_is_named_after_its_folder(tmp_path: Path) -> None:
    """A config.json has no name of its own; another file has."""
    folder = tmp_path / "Llama 3 (mine)"
    folder.mkdir()
    assert _read(folder, LLAMA).name == "Llama-3-mine"
    other = tmp_path / "llama3.json"
    other.write_text(json.dumps(LLAMA))
    assert read_config(other).name == "llama3"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "hidden_size: missing field"),
        (
            {"num_hidden_layers": "32"},
            "num_hidden_layers: must be a whole number from 1 to 1000000000, not '32'",
        ),
        ({"num_hidden_layers": True}, "num_hidden_layers: must be a whole number"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers: must be a whole number"),
        ({"vocab_size": 0}, "vocab_size: must be a whole number"),
        ({"vocab_size": 10**12}, "vocab_size: must be a whole number"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: must be true or false, not 'yes'"),
        ({"num_key_value_heads": 3}, "heads (8) must be a multiple of kv_heads (3)"),
        ({"model_type": "lama"}, "model_type: unknown type 'lama'; did you mean 'llama'?"),
        ({"model_type": "mamba9"}, "model_type: unknown type 'mamba9'"),
        ({"model_type": None}, "model_type: missing field; it names one of llama, "),
        ({"model_type": "qwen2_vl"}, "vision_config: missing field"),
        ({"model_type": "qwen2_vl", "vision_config": 3}, "vision_config: must be a mapping, not 3"),
        ({"model_type": "qwen2_vl", "vision_config": {}}, "vision_config.hidden_size: missing field"),
        (
            {"model_type": "opt", "ffn_dim": 9, "word_embed_proj_dim": 32},
            "word_embed_proj_dim: embeddings of",
        ),
    ],
)
def test_mistakes_name_the_file_and_the_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Whatever is wrong, the error says which field and what is expected there."""
    assert _error(tmp_path, {**LLAMA, **changes}).startswith(message)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**MOE, "decoder_sparse_step": 2}, "decoder_sparse_step: only models with experts in every layer"),
        ({**MOE, "mlp_only_layers": [2]}, "mlp_only_layers: only leading dense layers"),
        ({**MOE, "mlp_only_layers": True}, "mlp_only_layers: only leading dense layers"),
        ({**MOE, "mlp_only_layers": "x"}, "mlp_only_layers: only leading dense layers"),
        ({**MOE, "num_experts_per_tok": 17}, "top_k is 17 but there are only 16 experts"),
        ({**DEEPSEEK, "moe_layer_freq": 2}, "moe_layer_freq: only models with experts in every later layer"),
    ],
)
def test_shapes_that_cannot_be_described_are_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    """Better no plan than one for another model."""
    assert _error(tmp_path, config).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": "llama",}', ":1:24: not valid JSON"),
        (b"[1]", ": must be a mapping"),
        (b"", ":1:1: not valid JSON"),
        (b"\xff\xfe{", ": not valid JSON"),
        (b"[" * 100_000, ": not valid JSON"),
        (b" " * (2**20 + 1), ": larger than 1 MiB"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", ": not valid JSON"),
    ],
)
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Broken, hostile or huge files end in one clear error."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(WorkloadError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(WorkloadError, match=r"absent\.json: cannot be read"):
        read_config(tmp_path / "absent.json")


FIELDS = sorted(
    {*LLAMA, *MOE, *DEEPSEEK, *GPT2, "vision_config", "text_config", "ffn_dim", "mlp_only_layers"}
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.floats(0, 9),
    st.text(max_size=3),
    st.just({}),
    st.just([]),
)


@given(kind=st.sampled_from(SUPPORTED), changes=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_any_mapping_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, changes: dict[str, Any]
) -> None:
    """No configuration, however odd, ends in anything but a model or a WorkloadError."""
    path = tmp_path_factory.mktemp("any") / "config.json"
    path.write_text(json.dumps({**DEEPSEEK, **MOE, **GPT2, **changes, "model_type": kind}))
    try:
        assert read_config(path).num_parameters > 0
    except WorkloadError as error:
        assert str(path) in str(error)
