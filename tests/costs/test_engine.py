"""Steps of inference engines: what they consist of, and how they scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import load_calibration
from planner.costs.closed_loop import ClosedLoop, Load, Policy, capacity
from planner.costs.engine import EngineDegrees, Precisions, StepModel, Tuning
from planner.costs.engine_links import usual_links
from planner.costs.engine_products import products_of_token
from planner.costs.kernels import kernels
from planner.costs.pools import Pools
from planner.topology import find_device
from tests.costs.cases import preset

CALIBRATION = load_calibration()
DEVICE = find_device("h100-sxm-80")
KERNELS = kernels(DEVICE, CALIBRATION)
TUNING, POLICY = Tuning.of(CALIBRATION, "vllm"), Policy.of(CALIBRATION, "vllm")


def degrees(tp: float = 1, adp: float = 1, moe_tp: float = 1, ep: float = 1) -> EngineDegrees:
    return EngineDegrees(*(np.asarray([float(one)]) for one in (tp, 1, adp, moe_tp, ep)))


def steps(name: str, split: EngineDegrees, precisions: Precisions | None = None) -> StepModel:
    links = usual_links(DEVICE, "vllm", CALIBRATION)
    return StepModel(preset(name), split, precisions or Precisions(), KERNELS, links)


def loop(clients: float, *, prompt: float = 1024, output: float = 256, held: float = 1e9) -> ClosedLoop:
    load = Load(*(np.asarray([float(one)]) for one in (prompt, output, clients)))
    return ClosedLoop(steps("llama3-8b", degrees()), load, np.asarray([held]), chunk=8192.0)


def test_a_decode_step_reads_all_weights_and_caches() -> None:
    """Llama 3 8B with 64 sequences of 4,096 tokens takes at least its bytes over the memory rate."""
    step = steps("llama3-8b", degrees()).parts(0, 0, 0, 64, 4096).time(TUNING)
    moved = 7.5e9 * 2 + 64 * 4096 * 131072
    assert moved / DEVICE.memory_bandwidth.value <= step[0] <= 2 * moved / DEVICE.memory_bandwidth.value


@given(st.integers(1, 256), st.integers(1, 256), st.sampled_from(["llama3-8b", "deepseek-v3"]))
def test_more_sequences_never_make_a_step_much_faster(few: int, more: int, name: str) -> None:
    """A step grows with its batch, but for the seams between measured kernels (10 %)."""
    split = degrees(8, 1, 1, 8) if name == "deepseek-v3" else degrees()
    model = steps(name, split)
    small, large = (model.parts(0, 0, 0, count, 1000).time(TUNING)[0] for count in (few, few + more))
    assert small <= 1.1 * large


def test_narrow_experts_are_read_faster() -> None:
    """FP8 experts halve what a decode step of a mixture reads."""
    split = degrees(8, 1, 8, 1)
    wide, narrow = (
        steps("minimax-m2.5", split, Precisions("bf16", experts)).parts(0, 0, 0, 64, 1000)
        for experts in ("bf16", "fp8")
    )
    ratio = (narrow.expert_small + narrow.expert_large) / (wide.expert_small + wide.expert_large)
    assert 0.35 < ratio[0] < 0.9


def test_attention_copies_do_not_repeat_the_latent_cache() -> None:
    """Eight attention copies read an eighth of the latent caches that eight tensor ranks read each."""
    whole = steps("deepseek-v3", degrees(8, 1, 1, 8)).parts(0, 0, 0, 256, 8000)
    copies = steps("deepseek-v3", degrees(1, 8, 1, 8)).parts(0, 0, 0, 32, 8000)
    assert copies.attention[0] < 0.7 * whole.attention[0]
    assert copies.sequences[0] == whole.sequences[0] == 256


def test_a_step_with_prompts_is_never_faster_than_the_host_launches_it() -> None:
    """One token of a prompt costs at least the eager time of all layers."""
    one = steps("llama3-8b", degrees()).parts(1, 1, 0, 0, 1).time(TUNING)
    assert one[0] >= 32 * TUNING.eager


@given(st.integers(1, 200))
def test_work_is_conserved(clients: int) -> None:
    """TTFT plus all tokens is the cycle of a client: throughput in is throughput out."""
    one = loop(clients)
    seen = one.solve(TUNING, POLICY)
    parts = one.parts(seen.batch)
    decode, both = parts.time(TUNING)
    added = (both - decode) * POLICY.interference
    cycle = clients * added[0] + 256 * decode[0]
    assert seen.ttft[0] + 255 * seen.tpot[0] >= 0.8 * cycle


def test_clients_beyond_memory_wait_for_a_place() -> None:
    """With room for 16 of 32 clients the first token waits for about one cycle, and TPOT is that of 16."""
    full, free = loop(32, held=16).solve(TUNING, POLICY), loop(16).solve(TUNING, POLICY)
    assert full.tpot[0] == pytest.approx(free.tpot[0], rel=0.01)
    assert full.ttft[0] - free.ttft[0] == pytest.approx(free.ttft[0] + 255 * free.tpot[0], rel=0.05)


def test_lockstep_moves_time_from_tokens_to_the_first_one() -> None:
    """Clients that ask together wait longer for the first token and less for the others."""
    apart, together = (loop(64).solve(TUNING, POLICY, lockstep=how) for how in (False, True))
    assert together.ttft[0] > apart.ttft[0]
    assert together.tpot[0] < apart.tpot[0]


def test_cache_blocks_of_llama3_8b_by_hand() -> None:
    """80 GiB less 16.06 GB of weights hold 524 sequences of 1,000 tokens, 63 blocks of 16 tokens each."""
    held = capacity(
        preset("llama3-8b"), degrees(), Precisions(), 85.9e9, np.asarray([1000.0]),
        share=1.0, reserved=0.0, block=16.0,
    )  # fmt: skip
    blocks = (85.9e9 - 16.06e9) // (131072 * 16)
    assert held[0] == pytest.approx(blocks // 63, abs=1)


def test_a_second_prefill_worker_shortens_the_queue() -> None:
    """More prefill workers never lengthen the time to first token."""
    one = loop(64)
    pools = [
        Pools(one, one, np.asarray([count]), np.asarray([1.0]), 45e9).latency(TUNING, POLICY)
        for count in (1.0, 2.0)
    ]
    assert pools[1].ttft[0] < pools[0].ttft[0]


@given(
    st.sampled_from(["llama3-8b", "minimax-m2.5", "deepseek-v3"]),
    st.sampled_from([Precisions(), Precisions("fp8", "fp8"), Precisions("fp8", "fp4"), Precisions("int4")]),
    st.integers(1, 3000),
    st.integers(1, 300),
)
def test_products_at_once_cost_what_they_cost_one_by_one(
    name: str, precisions: Precisions, chunk: int, batch: int
) -> None:
    """Grouping the products of a step by data type changes no time."""
    split = degrees(1, 8, 1, 8) if name == "deepseek-v3" else degrees(2, 1, 2, 1)
    model = steps(name, split, precisions)
    tokens, heads = np.asarray([float(chunk + batch)]), np.asarray([1.0 + batch])
    together = model.parts(1, chunk, 0, batch, 1000)
    touched = model._touched(tokens)
    dense = routed = 0.0
    for group in products_of_token(model.model, split, precisions):
        for place in range(len(group.rows)):
            rows = heads if group.head and place == 0 else group.rows[place] * tokens
            count = touched if place >= group.routed else np.ones(1)
            one = model._product(group.dtype, rows, count, group.n[place], group.k[place])
            seconds = float((group.count[place] * one)[0])
            dense, routed = (dense, routed + seconds) if place >= group.routed else (dense + seconds, routed)
    attention = model.model.layers * model.prompt_attention(
        np.ones(1), np.asarray([float(chunk)]), np.zeros(1)
    )
    assert together.large[0] + together.small[0] - attention[0] == pytest.approx(dense, rel=1e-10)
    assert together.expert_large[0] + together.expert_small[0] == pytest.approx(routed, rel=1e-12)


@given(st.integers(1, 400), st.integers(1, 400))
def test_widths_together_are_widths_apart(few: int, many: int) -> None:
    """Plain and speculative steps solved together end at the same figures as each alone."""
    load = Load(*(np.asarray([float(a), float(b)]) for a, b in ((900, 1500), (200, 300), (few, many))))
    split = EngineDegrees(*(np.asarray([float(one)] * 2) for one in (1, 1, 8, 1, 8)))
    model, held = steps("deepseek-v3", split), np.full(2, 1e9)
    whole = ClosedLoop(model, load, held, chunk=8192.0, width=np.asarray([[1.0], [4.0]])).solve(
        TUNING, POLICY
    )
    for place, width in enumerate((1.0, 4.0)):
        alone = ClosedLoop(model, load, held, chunk=8192.0, width=width).solve(TUNING, POLICY)
        assert whole.ttft[place] == pytest.approx(alone.ttft, rel=1e-12)
        assert whole.tpot[place] == pytest.approx(alone.tpot, rel=1e-12)
