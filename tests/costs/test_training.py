from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import JobShape, Spans, StageCosts, load_calibration, stage_costs
from planner.costs.kernels import kernels
from planner.costs.pipeline import split_kinds, step_time
from planner.costs.products import attention_products, mlp_products
from planner.costs.stacks import stack_coefficients
from planner.topology import find_device
from tests.costs.cases import FABRIC, KERNELS, candidates, packed, preset, stage

SPREAD = 1.0 + load_calibration().number("fragmentation")
TOKENS = 2048
STACK = stack_coefficients(load_calibration(), None, KERNELS.device.architecture)


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


def test_products_run_three_times_and_fused_attention_three_and_a_half() -> None:
    """Forward, gradients of inputs and of weights: times of the kernels with the factors of the stack."""
    model = preset("llama3-8b")
    parts = stage(model, {}).breakdown
    products = [*attention_products(model, TOKENS, 1), *mlp_products(model, TOKENS, 1)]
    forward = sum(float(KERNELS.gemm(one.m, one.n, one.k, "bf16")) for one in products)
    assert parts["dense_gemm"][0] == pytest.approx(3 * STACK.gemm * forward)
    core = KERNELS.prefill_attention(1, TOKENS, 0, model.heads, model.kv_heads, model.head_dim)
    assert parts["dense_attention"][0] == pytest.approx(3.5 * STACK.attention * float(core))


def test_a_layer_takes_at_least_what_device_and_what_host_need() -> None:
    """Device and host work at the same time: the longer one counts, and a little where both are equal."""
    costs = stage(preset("llama3-8b"), {}, {"micro_batch": 4})
    parts = {name: value for name, value in costs.breakdown.items() if name.startswith("dense")}
    device = sum(value for name, value in parts.items() if name != "dense_host")
    host = 2 * float(STACK.host)
    assert (costs.dense >= np.maximum(device, host)).all()
    assert (costs.dense <= 2 ** (1 / 8) * np.maximum(device, host) * (1 + 1e-12)).all()


def test_full_recomputation_costs_another_forward_pass() -> None:
    """It adds a third of the products' time and what the forward pass spends on the rest."""
    parts = stage(preset("llama3-8b"), {"recompute": 2}).breakdown
    forward = parts["dense_gemm"] / 3 + parts["dense_attention"] / 3.5 + parts["dense_memory"] / 3
    assert parts["dense_recompute"] == pytest.approx(forward)


def test_narrow_types_pay_for_conversion() -> None:
    """8-bit products are faster, but inputs are converted for them; 16-bit ones convert nothing."""
    wide, narrow = (stage(preset("llama3-8b"), {}, dtype=dtype).breakdown for dtype in ("bf16", "fp8"))
    assert narrow["dense_gemm"][0] < wide["dense_gemm"][0]
    assert narrow["dense_memory"][0] > wide["dense_memory"][0]


def test_full_recomputation_repeats_the_tensor_communication_of_the_forward_pass() -> None:
    """Four messages without recomputation, six with it."""
    parts = stage(preset("llama3-8b"), {"tp": 8}, {"tp": 8, "recompute": 2}).breakdown
    assert parts["dense_tp"][0] == pytest.approx(parts["dense_tp"][1])
    compute = parts["dense_gemm"] / 3 + parts["dense_attention"] / 3.5 + parts["dense_memory"] / 3
    assert parts["dense_recompute"][1] == pytest.approx(compute[1] + parts["dense_tp"][1] / 2)


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
    """The same strategies on H200 instead of A100: compute falls, communication keeps its time."""
    many = candidates(*STRATEGIES)
    shape = JobShape(preset("llama3-8b"), 2048, 64, True, 2.0)
    calibration = load_calibration()
    before, after = (
        stage_costs(shape, many, packed(many), kernels(find_device(name), calibration), FABRIC, calibration)
        for name in ("a100-sxm-80", "h200-sxm")
    )
    assert (after.dense < before.dense).all()
    assert after.breakdown["dense_tp"] == pytest.approx(before.breakdown["dense_tp"])


def test_selective_recomputation_by_operation_keeps_half_of_the_products() -> None:
    """torchtitan keeps the input, attention and every second product, and runs the others again."""
    model = preset("llama3-8b")
    costs = stage(model, {"recompute": 1}, stack="torchtitan")
    outputs = 2 * model.hidden + (model.heads + 2 * model.kv_heads) * model.head_dim + 2 * model.ffn
    kept = model.hidden + model.heads * model.head_dim + outputs / 2
    assert costs.kept_dense[0] / SPREAD == pytest.approx(2 * TOKENS * kept)
    assert costs.breakdown["dense_recompute"][0] >= costs.breakdown["dense_gemm"][0] / 6
