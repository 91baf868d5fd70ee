"""Attention data parallel: what copies of attention hold, and how long steps take that they share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import ServingCandidates, ServingModel, ServingSpans, load_calibration
from planner.costs.serving_records import serving_rates
from planner.topology import find_device
from planner.workload import Lengths, ModelReference, ServingJob, Traffic
from tests.costs.cases import FABRIC, preset

DEEPSEEK = preset("deepseek-v3")
RATES = serving_rates(find_device("h200-sxm"), "fp8", load_calibration())
COPIES = (1, 2, 4, 8)


def served(*copies: int, rate: float = 1.0, prompt: float = 4000.0) -> ServingModel:
    """Return DeepSeek-V3 on 8 GPUs with so many copies of attention."""
    adp = np.asarray(copies, dtype=np.int64)
    width = np.full_like(adp, 8)
    traffic = Traffic(rate=rate, prompt=Lengths(mean=prompt), output=Lengths(mean=500))
    job = ServingJob(
        kind="serving", name="chat", model=ModelReference(preset="deepseek-v3"), traffic=traffic,
        precision="fp8",
    )  # fmt: skip
    many = ServingCandidates(np.ones_like(adp), width, np.ones_like(adp), width, adp)
    whole = np.stack([width, width], axis=1).astype(float)
    own = whole / adp[:, None]
    spans = ServingSpans(whole, own, np.zeros_like(adp))
    return ServingModel(job, DEEPSEEK, many, spans, RATES, FABRIC, load_calibration())


def test_weights_of_attention_are_repeated_and_those_of_experts_are_not() -> None:
    """Each further division of attention by two adds what it had per GPU before, and experts stay."""
    weights = served(*COPIES).weights()
    model = DEEPSEEK
    shared = model.layers * model.attention_parameters + model.dense_layers * model.dense_mlp_parameters
    shared += (model.layers - model.dense_layers) * model.shared_mlp_parameters
    shared += model.embedding_parameters + model.head_parameters
    assert weights - weights[0] == pytest.approx([(adp - 1) * shared / 8.0 for adp in COPIES], rel=1e-9)


def test_copies_multiply_the_sequences_that_a_latent_cache_holds() -> None:
    """A latent cache is never divided by tensor parallelism; copies hold requests of their own."""
    model = served(*COPIES)
    assert model.kv_per_token() == pytest.approx(np.full(4, model.kv_per_token()[0]))
    most = model.max_batch()
    assert (np.diff(most) > 0).all()
    assert (most % np.asarray(COPIES) == 0).all()
    assert most[3] > 4.0 * most[0]


@given(st.sampled_from([500.0, 4000.0]))
def test_a_shared_step_is_cheaper_for_each_prompt(tokens: float) -> None:
    """Prompts on all copies take longer than one, and less than one after the other."""
    model = served(*COPIES)
    one, every = (
        model.prefill_time(tokens),
        model.prefill_time(tokens, copies=np.asarray(COPIES, dtype=float)),
    )
    assert every[0] == one[0]
    assert (every[1:] > one[1:]).all()
    assert (every[1:] < one[1:] * np.asarray(COPIES)[1:]).all()
    half = model.prefill_time(tokens, copies=(1.0 + np.asarray(COPIES)) / 2.0)
    assert half == pytest.approx((one + every) / 2.0, rel=1e-12)


@given(st.floats(0.01, 50.0))
def test_as_many_prompts_share_a_step_as_come_during_it(rate: float) -> None:
    """n = rate x P(n) wherever that is between one prompt and one for each copy."""
    model = served(2, 4, 8)
    together = model.prompts_of_a_step(np.full(3, rate), 4000.0)
    seconds = model.prefill_time(4000.0, copies=together)
    inside = (together > 1.0) & (together < np.asarray([2.0, 4.0, 8.0]))
    assert together[inside] == pytest.approx(rate * seconds[inside], rel=1e-9)
    assert (together[rate * seconds < 1.0] == 1.0).all()


@given(st.floats(0.05, 6.0), st.floats(1.01, 3.0))
def test_more_traffic_never_improves_latency(rate: float, factor: float) -> None:
    """Mean and tail latencies rise with the offered rate, however many copies share steps."""
    low, high = served(*COPIES, rate=rate).costs(), served(*COPIES, rate=rate * factor).costs()
    fine = high.feasible
    assert (low.feasible | ~fine).all()
    for name in ("latency_mean", "ttft_mean", "tpot_mean", "tpot_p99"):
        assert (getattr(low, name)[fine] <= getattr(high, name)[fine] * (1 + 1e-9)).all(), name
