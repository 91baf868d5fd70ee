import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from planner.costs import ServingCandidates, ServingModel, ServingSpans, load_calibration
from planner.costs.serving_records import context_tokens, lognormal_p99, serving_rates
from planner.topology import find_device
from planner.workload import Lengths, ModelReference, ServingJob, Traffic
from tests.costs.cases import FABRIC, preset

RATES = serving_rates(find_device("h100-sxm-80"), "bf16", load_calibration())


def chat(rate: float, prompt: float = 500.0, output: float = 100.0, cv: float = 0.5) -> ServingJob:
    traffic = Traffic(rate=rate, prompt=Lengths(mean=prompt, cv=cv), output=Lengths(mean=output, cv=cv))
    reference = ModelReference(preset="llama3-8b")
    return ServingJob(kind="serving", name="chat", model=reference, traffic=traffic)


def served(job: ServingJob, *tensor: int, replicas: int = 1) -> ServingModel:
    tp = np.asarray(tensor, dtype=np.int64)
    one = np.ones_like(tp)
    many = ServingCandidates(np.full_like(tp, replicas), tp, one, one, one)
    members = np.stack([tp, tp], axis=1).astype(float)
    spans = ServingSpans(members, members, np.zeros_like(tp))
    return ServingModel(job, preset("llama3-8b"), many, spans, RATES, FABRIC, load_calibration())


@given(st.floats(1, 1e4), st.floats(0.01, 3))
def test_tail_of_a_log_normal_law(mean: float, cv: float) -> None:
    """The 99th percentile agrees with SciPy's law of the same mean and variation."""
    sigma = np.sqrt(np.log1p(cv**2))
    law = stats.lognorm(s=sigma, scale=mean / np.sqrt(1 + cv**2))
    assert law.mean() == pytest.approx(mean)
    assert lognormal_p99(mean, cv) == pytest.approx(law.ppf(0.99), rel=1e-9)


@given(st.floats(0.1, 20), st.sampled_from([1, 2, 4, 8]))
def test_steady_batch_is_what_little_says_of_its_own_step_time(rate: float, tensor: int) -> None:
    """b = rate x output x TPOT(b), with TPOT stretched by the share that prefills take."""
    job = chat(rate)
    model = served(job, tensor)
    costs = model.costs()
    if not np.isfinite(costs.batch[0]):
        assert not costs.feasible[0]
        return
    step = model.decode_time(np.maximum(costs.batch, 1.0), context_tokens(job, preset("llama3-8b")))
    tpot = step / (1.0 - rate * model.added_time(500.0))
    assert costs.batch[0] == pytest.approx(rate * 100.0 * tpot[0], rel=1e-6)
    assert costs.tpot_mean[0] == pytest.approx(tpot[0])


def test_decoding_one_sequence_reads_every_weight_once() -> None:
    """At batch 1 the step takes at least the bytes of all weights over the device's memory rate."""
    model = served(chat(1.0), 1)
    read = (preset("llama3-8b").num_parameters - preset("llama3-8b").embedding_parameters) * 2.0
    seconds = model.decode_time(1.0, 1.0)[0]
    peak = find_device("h100-sxm-80").memory_bandwidth.value
    assert read / peak <= seconds <= 2.0 * read / peak


def test_weights_and_cache_of_llama3_8b_by_hand() -> None:
    """8.03 G parameters of 2 bytes; 32 layers x 2 x 8 heads x 128 x 2 bytes per token; halved by tp 2."""
    model = served(chat(1.0), 1, 2)
    assert model.weights() == pytest.approx([16.06e9, 8.03e9], rel=1e-3)
    assert model.kv_per_token() == pytest.approx([131072, 65536])


def test_a_key_value_head_is_never_divided() -> None:
    """16 tensor ranks share 8 heads: two keep the same one."""
    model = served(chat(1.0), 8, 16)
    assert model.kv_per_token()[0] == model.kv_per_token()[1]


@given(st.floats(0.1, 5), st.floats(1.01, 4))
def test_more_traffic_never_improves_latency(rate: float, factor: float) -> None:
    """Mean and tail latency rise with the offered rate."""
    low, high = served(chat(rate), 4).costs(), served(chat(rate * factor), 4).costs()
    if high.feasible[0]:
        assert low.feasible[0]
        for name in ("latency_mean", "latency_p99", "ttft_p99", "tpot_p99", "batch"):
            assert getattr(low, name)[0] <= getattr(high, name)[0] * (1 + 1e-9), name


def test_many_strategies_at_once_equal_one_by_one() -> None:
    """Vectorised evaluation changes no number."""
    together = served(chat(3.0), 1, 2, 4, 8).costs()
    for index, tensor in enumerate((1, 2, 4, 8)):
        alone = served(chat(3.0), tensor).costs()
        assert alone.latency_p99[0] == pytest.approx(together.latency_p99[index], rel=1e-12)
        assert alone.max_batch[0] == together.max_batch[index]


def test_tails_are_never_below_means() -> None:
    """The 99th percentile is at least the mean, for constant lengths too."""
    for cv in (0.0, 0.5, 2.0):
        costs = served(chat(3.0, cv=cv), 4).costs()
        assert costs.latency_p99[0] >= costs.latency_mean[0]
        assert costs.ttft_p99[0] >= costs.ttft_mean[0]
        assert costs.tpot_p99[0] >= costs.tpot_mean[0]
