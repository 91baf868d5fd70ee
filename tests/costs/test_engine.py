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
