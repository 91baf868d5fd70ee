"""Requests pass through host and model as the plan says, and the figures say how long that takes."""

from __future__ import annotations

import numpy as np
import pytest

from planner.errors import SimulationError
from planner.placement import Strategy, judge_serving, serving_model
from planner.simulate import simulate_serving
from planner.simulate.iterations import IterationTimes, Piece
from planner.simulate.measures import falls_behind, sectioned_percentile, steady_window
from planner.simulate.routing import Policy, make_routing
from planner.workload import Experts, Lengths, Slo
from tests.simulate.cases import MODEL, cluster, serving_plan, serving_problem


def test_iteration_times_are_those_of_the_cost_model() -> None:
    """A fresh prompt, and a decode step, take what the cost model says, for every size and context."""
    problem = serving_problem(cluster(1, 4))
    plan = serving_plan(problem, tp=2)
    model = serving_model(problem, plan.strategy, plan.gpus())
    times = IterationTimes(problem, model, 64, 4096)
    for tokens in (1, 37, 512, 4000):
        assert times.mixed([Piece(0, tokens)], 0, 0.0)[0] == pytest.approx(model.prefill_time(tokens)[0])
    for batch, context in ((1, 10.0), (7, 900.0), (64, 5000.0)):
        line = times.decode(batch, context)
        assert line.base + line.slope * context == pytest.approx(model.decode_time(batch, context)[0])


def test_pieces_of_a_long_prompt_cost_what_the_engine_model_says() -> None:
    """Later pieces attend to the earlier ones: each costs a step of the model after as many cached tokens."""
    problem = serving_problem(cluster(1, 4))
    plan = serving_plan(problem)
    model = serving_model(problem, plan.strategy, plan.gpus())
    times = IterationTimes(problem, model, 64, 8192)
    whole = times.mixed([Piece(0, 8000)], 0, 0.0)[0]
    starts = range(0, 8000, 2000)
    pieces = [times.mixed([Piece(start, start + 2000)], 0, 0.0)[0] for start in starts]
    assert pieces == pytest.approx(
        [float(model.prefill_time(2000.0, start)[0]) for start in starts], rel=0.05
    )
    assert whole <= sum(pieces)
    assert pieces == sorted(pieces)
    two = times.mixed([Piece(0, 4000), Piece(0, 4000)], 0, 0.0)[0]
    assert two < whole


def test_a_served_job_behaves_as_predicted_and_its_parts_add_up() -> None:
    """At moderate load means are near the cost model's, intervals hold their percentiles, parts add up."""
    problem = serving_problem(cluster(1, 4), rate=60.0, slo=Slo(ttft_p99=0.5, latency_p99=2.0))
    plan = serving_plan(problem)
    outcome = simulate_serving(problem, plan, requests=3000)
    job, judged = outcome.job, judge_serving(problem, plan.strategy, plan.replicas)
    assert job.latency["tpot"].mean == pytest.approx(float(judged.model.tpot_mean[0]), rel=0.05)
    whole = job.latency["latency"]
    assert whole.mean == pytest.approx(float(judged.model.latency_mean[0]) + job.split["cpu"], rel=0.1)
    assert sum(job.split.values()) == pytest.approx(whole.mean)
    for low, high, value in ((*whole.p50_interval, whole.p50), (*whole.p99_interval, whole.p99)):
        assert low <= value <= high
    assert job.slo_met is True
    assert job.throughput == pytest.approx(60.0 * 60.0, rel=0.05)
    assert job.utilisation["replica-0 tokenise"] == pytest.approx(60.0 * 0.004 / 2, rel=0.1)
    assert job.latency_cdf[0][1] == 0.0 and job.latency_cdf[-1][1] == 1.0
    assert len(job.timeline) <= 4000
    assert {span.category for span in job.timeline} == {"cpu", "copy", "prefill", "decode"}


def test_limits_that_do_not_hold_are_reported() -> None:
    """A p99 latency above its limit makes the verdict false; a job without limits has none."""
    topology = cluster(1, 2)
    tight = serving_problem(topology, slo=Slo(latency_p99=0.001))
    assert simulate_serving(tight, serving_plan(tight), requests=400).job.slo_met is False
    free = serving_problem(topology)
    assert simulate_serving(free, serving_plan(free), requests=400).job.slo_met is None


def test_host_links_carry_exactly_what_was_copied() -> None:
    """Each request moves its inputs once over the host link, and the socket link when the stage is remote."""
    problem = serving_problem(cluster(1, 2), rate=50.0)
    plan = serving_plan(problem, numa="cpu1")
    outcome = simulate_serving(problem, plan, requests=500)
    carried = {(link.source, link.target): link.carried for link in outcome.links}
    for hop in (("node-0/cpu1", "node-0/cpu0"), ("node-0/cpu0", "node-0/gpu0")):
        assert carried[hop] == pytest.approx(500 * 2e6)
    assert carried["node-0/gpu0", "node-0/cpu0"] == pytest.approx(500 * 1e6)


def test_requests_go_to_the_replica_with_the_fewest() -> None:
    """Four replicas share the load evenly and wait less than one of them would."""
    topology = cluster(1, 4)
    problem = serving_problem(topology, rate=100.0)
    one = simulate_serving(problem, serving_plan(problem), requests=1500).job
    four = simulate_serving(problem, serving_plan(problem, replicas=4), requests=1500).job
    busy = [four.utilisation[f"replica-{index} gpu"] for index in range(4)]
    assert max(busy) < 1.15 * min(busy)
    assert four.latency["latency"].mean < one.latency["latency"].mean


@pytest.mark.parametrize("policy", ["round-robin", "least-outstanding", "by-size"])
def test_every_routing_policy_serves_all_requests(policy: Policy) -> None:
    """All replicas work under each policy, and the bytes on the host links do not depend on it."""
    problem = serving_problem(cluster(1, 4), rate=60.0)
    outcome = simulate_serving(problem, serving_plan(problem, replicas=4), requests=600, routing=policy)
    assert all(outcome.job.utilisation[f"replica-{index} gpu"] > 0.0 for index in range(4))
    copied = sum(link.carried for link in outcome.links if (link.source, link.target)[1] == "node-0/cpu0")
    assert copied == pytest.approx(600 * 1e6)


def test_routing_policies_choose_as_they_say() -> None:
    """In turn; to the fewest; short prompts, half of all tokens, to the first half of the replicas."""
    turns = make_routing("round-robin", 0, [1] * 5, 3)
    assert [turns.choose(index, 1, [9, 0, 0]) for index in range(5)] == [0, 1, 2, 0, 1]
    assert make_routing("least-outstanding", 0, [1], 3).choose(0, 1, [2, 1, 2]) == 1
    sized = make_routing("by-size", 0, [10, 10, 10, 30], 3)
    assert [sized.choose(0, tokens, [5, 4, 0]) for tokens in (10, 31)] == [1, 2]
    with pytest.raises(SimulationError, match="two replicas"):
        make_routing("by-size", 0, [1], 1)


def test_tensor_traffic_shows_on_the_gpu_links() -> None:
    """With two tensor ranks the links between GPUs carry bytes in proportion to the tokens."""
    problem = serving_problem(cluster(1, 2))
    outcome = simulate_serving(problem, serving_plan(problem, tp=2), requests=300)
    assert any(link.kind == "nvlink" and link.mean > 0.0 for link in outcome.links)


@pytest.mark.parametrize(("rate", "cores", "what"), [(900.0, 4, "the model"), (600.0, 1, "the CPU stages")])
def test_a_plan_that_cannot_keep_up_is_refused(rate: float, cores: int, what: str) -> None:
    """Waits that grow for ever end in an error that says where, and the run ends."""
    long = Lengths(mean=400, cv=0.5)
    problem = serving_problem(
        cluster(1, 2), rate=rate, output=long if what == "the model" else Lengths(mean=2)
    )
    with pytest.raises(SimulationError, match=f"cannot keep up with {rate:g} requests/s.*{what}"):
        simulate_serving(problem, serving_plan(problem, cores=cores), requests=2500)


def test_high_but_bearable_load_is_no_overload() -> None:
    """A queue that empties now and then is stable, even at 90 % load."""
    stream = np.random.default_rng(5)
    waits, wait = [], 0.0
    for gap in stream.exponential(1 / 0.9, size=4000):
        wait = max(wait + 1.0 - gap, 0.0)
        waits.append(wait)
    assert not falls_behind(np.asarray(waits))
    assert falls_behind(np.asarray(waits) + 0.05 * np.arange(4000))


def test_a_request_too_large_for_the_cache_is_refused() -> None:
    """A mean request beyond the whole cache is an error, not an endless wait."""
    problem = serving_problem(cluster(1, 2), prompt=Lengths(mean=5e6))
    with pytest.raises(SimulationError, match="cache of a replica holds"):
        simulate_serving(problem, serving_plan(problem), requests=10)


def test_a_missing_pool_is_refused() -> None:
    """A plan without a worker for a CPU stage cannot be simulated."""
    problem = serving_problem(cluster(1, 2))
    with pytest.raises(SimulationError, match="no worker for the CPU stage 'tokenise'"):
        simulate_serving(problem, serving_plan(problem, cores=0), requests=10)


def test_a_pipeline_delays_results_but_not_the_next_prompt() -> None:
    """With two stages the replica is free after half of a prompt's time, the token out after all of it."""
    problem = serving_problem(cluster(1, 2))
    plan = serving_plan(problem, pp=2)
    model = serving_model(problem, plan.strategy, plan.gpus())
    busy, lag = IterationTimes(problem, model, 8, 4096).mixed([Piece(0, 1000)], 0, 0.0)
    assert busy == pytest.approx(lag)
    assert busy + lag == pytest.approx(float(model.prefill_time(1000)[0]))
    job = simulate_serving(problem, plan, requests=300).job
    assert job.latency["ttft"].mean > lag


def test_warm_up_and_cool_down_do_not_count() -> None:
    """A transient at the beginning and the last arrivals are left out of the figures."""
    arrivals = np.arange(1000.0)
    latencies = np.where(np.arange(1000) < 100, 60.0, 30.0)
    window = steady_window(arrivals, latencies)
    assert 100 <= window.begin <= 105
    assert window.end == pytest.approx(1000 - 60, abs=2)


def test_intervals_of_percentiles_cover_the_truth() -> None:
    """About 95 % of the sectioned intervals of an autocorrelated series hold the true median and p95."""
    covered = {50.0: 0, 95.0: 0}
    truth = {50.0: 0.0, 95.0: 1.6449}
    for seed in range(120):
        noise = np.random.default_rng(seed).standard_normal(4000)
        series = np.empty(4000)
        value = noise[0]
        for index, step in enumerate(noise):
            value = 0.7 * value + (1 - 0.49) ** 0.5 * step
            series[index] = value
        for q in covered:
            interval = sectioned_percentile(series, q)
            covered[q] += interval.low <= truth[q] <= interval.high
    assert all(0.88 <= count / 120 <= 1.0 for count in covered.values())


def test_copies_of_attention_take_the_time_of_the_cost_model() -> None:
    """In light load a prompt computed by one copy of two, and the steps after it, last as predicted."""
    experts = Experts(num_experts=8, top_k=2, ffn=1024, shared_ffn=0, first_dense=0)
    problem = serving_problem(
        cluster(1, 4),
        rate=0.5,
        prompt=Lengths(mean=2000, cv=0.0),
        output=Lengths(mean=50, cv=0.0),
        stages=False,
        model=MODEL.model_copy(update={"experts": experts}),
        process="deterministic",
    )
    plan = serving_plan(problem, tp=4)
    plan = plan.model_copy(update={"strategy": Strategy(tp=4, ep=4, adp=2)})
    model = serving_model(problem, plan.strategy, plan.gpus())
    outcome = simulate_serving(problem, plan, requests=40)
    assert outcome.job.split["prefill"] == pytest.approx(float(model.prefill_time(2000.0)[0]), rel=1e-6)
    step = float(model.decode_time(1.0, 2025.0)[0])
    assert outcome.job.latency["tpot"].mean == pytest.approx(step, rel=0.02)


def test_prompts_on_several_copies_share_a_step() -> None:
    """Two equal prompts on two copies take the time of a step with both, four that of two on each."""
    experts = Experts(num_experts=8, top_k=2, ffn=1024, shared_ffn=0, first_dense=0)
    problem = serving_problem(cluster(1, 4), model=MODEL.model_copy(update={"experts": experts}))
    plan = serving_plan(problem, tp=4).model_copy(update={"strategy": Strategy(tp=4, ep=4, adp=2)})
    model = serving_model(problem, plan.strategy, plan.gpus())
    times = IterationTimes(problem, model, 64, 8192)
    pieces = [Piece(0, 1000)] * 2
    both = float(model.prefill_time(1000.0, copies=2.0)[0])
    assert times.mixed(pieces, 0, 0.0)[0] == pytest.approx(both)
    assert times.mixed(pieces * 2, 0, 0.0)[0] < 2.0 * both * 1.05
