"""Pools for prompts and for answers under an offered rate: queues, batches, and the cache that moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs.collectives import send
from planner.costs.pools import cache_move, decode_pool, pooled, prefill_pool
from planner.costs.serving_records import context_tokens
from tests.costs.cases import FABRIC, preset
from tests.costs.test_serving import chat, served

MODEL = preset("llama3-8b")
ONE = np.asarray([1])


@given(st.floats(0.1, 20.0), st.sampled_from([1, 2, 4]))
def test_prompts_keep_a_pool_busy_for_their_share_of_the_time(rate: float, replicas: int) -> None:
    """Prompts alone: rate x prompt time over the replicas; the first token waits for nothing else."""
    job = chat(rate)
    model = served(job, 4, replicas=replicas)
    pool = prefill_pool(model)
    assert pool.busy[0] == pytest.approx(rate / replicas * model.prefill_time(500.0)[0])
    assert bool(pool.feasible[0]) == (pool.busy[0] < 1.0)
    if pool.feasible[0]:
        assert pool.ttft[0] <= served(job, 4, replicas=replicas).costs().ttft_mean[0]


@given(st.floats(0.1, 20.0), st.sampled_from([1, 2, 4]))
def test_answers_decode_in_the_batch_of_their_own_step_time(rate: float, replicas: int) -> None:
    """b = rate x output x D(b) (Little), and no prompt stretches a step."""
    job = chat(rate)
    model = served(job, 4, replicas=replicas)
    pool, both = decode_pool(model), model.costs()
    if not pool.feasible[0]:
        return
    step = model.decode_time(np.maximum(pool.batch, 1.0), context_tokens(job, MODEL))[0]
    assert pool.batch[0] == pytest.approx(rate / replicas * 100.0 * step, rel=1e-6)
    assert pool.step[0] == pytest.approx(step)
    assert pool.step[0] <= both.tpot_mean[0] * (1 + 1e-9)


def test_a_cache_moves_over_the_level_that_joins_the_pools() -> None:
    """In light load: the bytes of the busier end at the rate of that level; a farther level is no faster."""
    job = chat(0.001)
    prefill, decode = prefill_pool(served(job, 2)), decode_pool(served(job, 4))
    size = 500.0 * served(job, 4).kv_per_token()[0]
    moves = []
    for level in (0, 1):
        seconds, busy = cache_move(job, prefill, decode, level * ONE, FABRIC)
        sent = size * 4 / 2  # two GPUs send what four receive
        assert seconds[0] == pytest.approx(send(level * ONE, FABRIC).time(np.asarray([sent]))[0], rel=1e-3)
        assert 0.0 < busy[0] < 1e-3
        moves.append(seconds[0])
    assert moves[0] < moves[1]


@given(st.floats(0.1, 10.0), st.floats(1.01, 3.0))
def test_more_traffic_never_improves_latency(rate: float, factor: float) -> None:
    """Means and tails of two pools rise with the offered rate."""
    found = []
    for offered in (rate, rate * factor):
        job = chat(offered)
        found.append(pooled(job, prefill_pool(served(job, 2)), decode_pool(served(job, 4)), ONE, FABRIC))
    low, high = found
    if high.feasible[0]:
        assert low.feasible[0]
        for name in ("latency_mean", "latency_p99", "ttft_p99", "tpot_mean", "tpot_p99", "batch"):
            assert getattr(low, name)[0] <= getattr(high, name)[0] * (1 + 1e-9), name


def test_tails_are_never_below_means() -> None:
    """The 99th percentile is at least the mean, for constant lengths too."""
    for cv in (0.0, 0.5, 2.0):
        job = chat(3.0, cv=cv)
        costs = pooled(job, prefill_pool(served(job, 2)), decode_pool(served(job, 4)), 0 * ONE, FABRIC)
        assert costs.latency_p99[0] >= costs.latency_mean[0]
        assert costs.ttft_p99[0] >= costs.ttft_mean[0]
        assert costs.tpot_p99[0] >= costs.tpot_mean[0]
