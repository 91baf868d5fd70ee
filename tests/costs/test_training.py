from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import Spans, StageCosts, load_calibration
from planner.costs.pipeline import split_kinds, step_time
from tests.costs.cases import RATES, candidates, packed, preset, stage

SPREAD = 1.0 + load_calibration().number("fragmentation")
TOKENS = 2048


def test_activations_of_gpt3_are_those_of_the_published_formula() -> None:
    """34 s b h bytes per layer less 2 for masks of dropout, 5 a s^2 b for scores (Korthikanti, eq. 1)."""
    model = preset("gpt3-175b")
    fused = stage(model, {}).kept_dense[0] / SPREAD
    assert fused == pytest.approx((34 - 2) * TOKENS * model.hidden)
    plain = stage(model, {}, flash=False).kept_dense[0] / SPREAD
    assert plain - fused == pytest.approx(5 * model.heads * TOKENS**2)


def test_sequence_parallelism_divides_what_tensor_parallelism_leaves_whole() -> None:
    """32 s b h / t with sequence parallelism; without it 8 s b h (norms and inputs) stay whole."""
    model = preset("gpt3-175b")
    kept = stage(model, {"tp": 8}, {"tp": 8, "sequence_parallel": 1}).kept_dense / SPREAD
    assert kept == pytest.approx([TOKENS * model.hidden * size for size in (8 + 24 / 8, 32 / 8)])


def test_selective_recomputation_drops_the_scores_and_full_keeps_the_input() -> None:
    """Without a fused kernel, selective keeps 32 s b h; full keeps 2 s b h."""
    model = preset("gpt3-175b")
    kept = stage(model, {"recompute": 1}, {"recompute": 2}, flash=False).kept_dense / SPREAD
    assert kept == pytest.approx([32 * TOKENS * model.hidden, 2 * TOKENS * model.hidden])


@pytest.mark.parametrize(
    ("sharding", "per_parameter"), [(0, 18.0), (1, 6 + 12 / 8), (2, 2 + 16 / 8), (3, 18 / 8)]
)
def test_states_take_eighteen_bytes_less_what_is_sharded(sharding: int, per_parameter: float) -> None:
    """2 weights + 4 gradients + 12 Adam, each divided by 8 replicas from its level of ZeRO on."""
    model = preset("llama3-8b")
    costs = stage(model, {"dp": 8, "sharding": sharding})
    parameters = model.attention_parameters + model.dense_mlp_parameters
    assert costs.static_dense[0] == pytest.approx(parameters * per_parameter)
    assert costs.static_first[0] == pytest.approx(model.vocab * model.hidden * per_parameter)


def test_the_whole_model_is_counted_once() -> None:
    """Layers and both ends of DeepSeek-V3 and of Llama 3 8B hold all parameters, 18 bytes each."""
    for name in ("llama3-8b", "deepseek-v3"):
        model = preset(name)
        costs = stage(model, {})
        layers = np.asarray([model.layers])
        dense, moe = split_kinds(layers, model.dense_layers)
        total = costs.static_dense[0] * dense[0] + costs.static_moe[0] * moe[0]
        total += costs.static_first[0] + costs.static_last[0]
        assert total == pytest.approx(18.0 * model.num_parameters)


def test_a_tied_head_takes_memory_of_its_own_only_on_another_stage() -> None:
    """One stage keeps the shared matrix once; with two stages both ends need a copy."""
    tied = preset("llama3-8b").model_copy(update={"tied_embeddings": True})
    costs = stage(tied, {}, {"pp": 2})
    assert costs.static_last[0] == 0.0
    assert costs.static_last[1] == pytest.approx(18.0 * tied.head_parameters)


def test_matrix_products_take_six_operations_per_parameter_and_token() -> None:
    """Forward 2, backward 4, over the rate of large products; attention 3.5 times its forward core."""
    model = preset("llama3-8b")
    parts = stage(model, {}).breakdown
    parameters = model.attention_parameters + model.dense_mlp_parameters
    assert parts["dense_gemm"][0] == pytest.approx(6 * TOKENS * parameters / RATES.matmul)
    core = 2 * TOKENS * (TOKENS / 2) * 2 * model.heads * model.head_dim
    assert parts["dense_attention"][0] == pytest.approx(3.5 * core / RATES.attention)


def test_full_recomputation_costs_another_forward_pass() -> None:
    """It adds a third of the products' time and what the forward pass spends on the rest."""
    parts = stage(preset("llama3-8b"), {"recompute": 2}).breakdown
    forward = parts["dense_gemm"] / 3 + parts["dense_attention"] / 3.5 + parts["dense_memory"] / 3
    assert parts["dense_recompute"] == pytest.approx(forward)


def test_tensor_parallelism_moves_four_messages_per_layer_with_or_without_sequence_parallelism() -> None:
    """An all-reduce moves as many bytes as a reduce-scatter and an all-gather: only launches differ."""
    parts = stage(preset("llama3-8b"), {"tp": 8}, {"tp": 8, "sequence_parallel": 1}).breakdown["dense_tp"]
    assert parts[1] - parts[0] == pytest.approx(4 * 5e-6, abs=1e-7)


STRATEGIES = [
    {"tp": 8, "dp": 4, "sequence_parallel": 1}, {"tp": 2, "pp": 4, "dp": 2, "virtual": 2, "recompute": 1},
    {"dp": 16, "sharding": 3, "micro_batch": 2}, {"cp": 4, "dp": 2, "sharding": 1}, {"pp": 8, "recompute": 2},
]  # fmt: skip


@pytest.mark.parametrize("name", ["llama3-8b", "mixtral-8x7b"])
def test_many_strategies_at_once_equal_one_by_one(name: str) -> None:
    """Vectorised evaluation changes no number of any field."""
    model = preset(name)
    together = stage(model, *STRATEGIES)
    for index, strategy in enumerate(STRATEGIES):
        alone, taken = stage(model, strategy), together.take(np.asarray([index]))
        for field in fields(StageCosts):
            left, right = getattr(alone, field.name), getattr(taken, field.name)
            if isinstance(left, np.ndarray):
                assert left == pytest.approx(right, rel=1e-12), field.name


@given(st.sampled_from(STRATEGIES), st.data())
def test_a_step_never_slows_when_groups_share_more(strategy: dict[str, int], data: st.DataObject) -> None:
    """More members of any group in a node never lengthen the step, however layers are split."""
    many, model = candidates(strategy), preset("mixtral-8x7b")
    whole = packed(many)
    near, far = {}, {}
    for name in ("tp", "cp", "data", "expert", "expert_data"):
        group = int(getattr(whole, name)[0, 1])
        low = data.draw(st.integers(1, group))
        near[name] = np.asarray([[float(data.draw(st.integers(low, group))), float(group)]])
        far[name] = np.asarray([[float(low), float(group)]])
    hop = data.draw(st.integers(0, 1))
    stages = strategy.get("pp", 1)
    split = [strategy.get("virtual", 1)] * (stages - 1)
    layers = np.asarray([*split, model.layers - sum(split)])
    seconds = []
    for spans in (Spans(**near, pipeline=np.asarray([0])), Spans(**far, pipeline=np.asarray([hop]))):
        costs = stage(model, strategy, spans=spans)
        seconds.append(step_time(costs, 0, strategy.get("virtual", 1), *split_kinds(layers, 0)))
    assert seconds[0] <= seconds[1] * (1 + 1e-9)


def test_a_faster_device_never_lengthens_a_stage() -> None:
    """Twice the rates halve compute; communication keeps its time."""
    from planner.costs import JobShape, stage_costs
    from tests.costs.cases import FABRIC

    many = candidates(*STRATEGIES)
    shape = JobShape(preset("llama3-8b"), 2048, 64, True, 2.0)
    faster = replace(RATES, matmul=2 * RATES.matmul, attention=2 * RATES.attention, memory=2 * RATES.memory)
    before, after = (
        stage_costs(shape, many, packed(many), rates, FABRIC, load_calibration()) for rates in (RATES, faster)
    )
    assert (after.dense < before.dense).all()
    assert after.breakdown["dense_tp"] == pytest.approx(before.breakdown["dense_tp"])
