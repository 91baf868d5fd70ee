"""Requests pass through host and model as the plan says, and the figures say how long that takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import SimulationError
from planner.placement import judge_serving, serving_model
from planner.simulate import simulate_serving
from planner.simulate.batching import Replica
from planner.simulate.iterations import IterationTimes, Piece
from planner.simulate.measures import falls_behind, sectioned_percentile, steady_window
from planner.simulate.requests import draw_requests, read_trace
from planner.simulate.routing import Policy, make_routing
from planner.simulate.sequence import Limits, Request
from planner.workload import Lengths, Slo
from tests.simulate.cases import cluster, serving_plan, serving_problem
from tests.simulate.stepping import Arrival, PlainTimes, step_through


def run_replica(arrivals: Sequence[Arrival], limits: Limits, times: PlainTimes) -> list[tuple[float, float]]:
    """Return when the first and the last token of each request are out, s."""
    env = simpy.Environment()
    replica = Replica(env, "replica", times, limits)
    ends: list[tuple[float, float]] = [(0.0, 0.0)] * len(arrivals)

    def come(index: int, arrival: Arrival) -> simpy.events.ProcessGenerator:
        yield env.timeout(arrival.time)
        request = Request(env, arrival.prompt, arrival.prompt, arrival.output)
        replica.submit(request)
        yield request.done
        ends[index] = request.first, env.now

    for index, arrival in enumerate(arrivals):
        env.process(come(index, arrival))
    env.run()
    return ends


def apart(arrivals: list[Arrival]) -> list[Arrival]:
    """Return the same requests at times that coincide with no other one and with no end of an iteration."""
    return [
        replace(arrival, time=arrival.time + 1e-4 * math.sqrt(2 + index))
        for index, arrival in enumerate(arrivals)
    ]


ARRIVALS = st.lists(
    st.builds(Arrival, st.floats(0.0, 30.0), st.integers(1, 400), st.integers(1, 30)), min_size=1, max_size=12
).map(apart)


@given(
    ARRIVALS,
    st.builds(
        Limits,
        st.integers(1, 5),
        st.integers(20, 300),
        st.integers(448, 1000),
        overlapped=st.booleans(),
        block_size=st.sampled_from([1, 7, 16]),
    ),
    st.sampled_from([0.0, 0.003]),
    st.sampled_from([0.0, 1e-4]),
)
def test_batching_agrees_with_a_loop_over_every_sequence(
    arrivals: list[Arrival], limits: Limits, per_sequence: float, per_context: float
) -> None:
    """Jumping from event to event gives the same first and last tokens as stepping through all iterations."""
    times = PlainTimes(per_sequence, per_context)
    fast, slow = run_replica(arrivals, limits, times), step_through(arrivals, limits, times)
    assert np.asarray(fast) == pytest.approx(np.asarray(slow), rel=1e-9)


def test_a_prompt_interrupts_decoding_at_the_end_of_a_step() -> None:
    """A request that comes during the second decode step starts after it and decodes along."""
    ends = run_replica([Arrival(0.0, 100, 9), Arrival(1.3, 100, 1)], Limits(8, 1000, 10_000), PlainTimes())
    assert ends[1][0] == pytest.approx(1.5 + 1.0 + 0.01)
    assert ends[0][1] == pytest.approx(1.5 + 1.01 + 5 * 0.25)


def test_long_prompts_are_computed_in_pieces() -> None:
    """With 50 tokens per iteration, a prompt of 120 takes three, and a later short one shares the third."""
    ends = run_replica([Arrival(0.0, 120, 1), Arrival(0.6, 20, 1)], Limits(8, 50, 10_000), PlainTimes())
    assert np.asarray(ends) == pytest.approx(np.full((2, 2), 1.4))


def test_full_batch_and_full_cache_make_requests_wait_in_order() -> None:
    """A request that does not fit waits for the one before it, and one behind it may not overtake."""
    arrivals = [Arrival(0.0, 100, 5), Arrival(0.1, 100, 1), Arrival(0.2, 10, 1)]
    by_batch = run_replica(arrivals, Limits(1, 1000, 10_000), PlainTimes())
    by_cache = run_replica(arrivals, Limits(8, 1000, 112), PlainTimes())
    assert by_batch[1][0] == by_cache[1][0] == pytest.approx(2.0 + 1.0)
    assert by_batch[2][0] == pytest.approx(3.1)
    assert by_cache[2][0] == pytest.approx(3.1)


def test_an_idle_replica_waits_for_its_window() -> None:
    """Two requests within the window of the first start together when it ends."""
    arrivals = [Arrival(1.0, 100, 1), Arrival(1.2, 100, 1)]
    ends = run_replica(arrivals, Limits(8, 1000, 10_000, window=0.5), PlainTimes())
    assert [first for first, _ in ends] == pytest.approx([3.5, 3.5])
    full = run_replica(arrivals, Limits(2, 1000, 10_000, window=0.5), PlainTimes())
    assert [first for first, _ in full] == pytest.approx([3.2, 3.2])


def test_requests_of_the_same_moment_start_together() -> None:
    """Two prompts that come at once to an idle replica are computed in one iteration."""
    ends = run_replica([Arrival(1.0, 100, 1), Arrival(1.0, 50, 1)], Limits(8, 1000, 10_000), PlainTimes())
    assert [first for first, _ in ends] == pytest.approx([2.5, 2.5])


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


def test_random_numbers_are_shared_between_what_ifs() -> None:
    """Another rate stretches the same arrivals and leaves every length as it was."""
    topology = cluster(1, 2)
    slow, fast = (draw_requests(serving_problem(topology, rate=rate), 500, 3, 10**6) for rate in (10.0, 20.0))
    assert fast.arrivals == pytest.approx(slow.arrivals / 2.0)
    assert np.array_equal(fast.outputs, slow.outputs)
    assert np.array_equal(fast.prompts, slow.prompts)
    other = draw_requests(serving_problem(topology), 500, 4, 10**6)
    assert not np.array_equal(other.outputs, slow.outputs)


@pytest.mark.parametrize(("process", "cv"), [("poisson", 1.0), ("gamma", 2.5), ("deterministic", 0.0)])
def test_arrivals_and_lengths_have_their_mean_and_variation(process: str, cv: float) -> None:
    """Gaps between arrivals and lengths follow the stated mean and coefficient of variation."""
    extra: dict[str, Any] = {"cv": cv} if process == "gamma" else {}
    problem = serving_problem(
        cluster(1, 2),
        rate=8.0,
        prompt=Lengths(mean=900, cv=0.8),
        output=Lengths(mean=90),
        process=process,
        **extra,
    )
    drawn = draw_requests(problem, 40_000, 1, 10**6)
    gaps = np.diff(drawn.arrivals)
    assert gaps.mean() == pytest.approx(1 / 8.0, rel=0.04)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.06)
    assert drawn.prompts.mean() == pytest.approx(900, rel=0.02)
    assert drawn.prompts.std() / drawn.prompts.mean() == pytest.approx(0.8, rel=0.04)
    assert set(drawn.outputs) == {90}


def test_a_trace_is_read_and_stretched_to_the_offered_rate(tmp_path: Path) -> None:
    """Lengths come from the file in order of time, gaps keep their proportions."""
    path = tmp_path / "trace.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n4,30,3\n0,10,1\n1,20,2\n")
    problem = serving_problem(cluster(1, 2), rate=1.0, process="trace", trace="trace.csv")
    drawn = draw_requests(problem, 10, 0, 10**6, path)
    assert drawn.arrivals == pytest.approx([0.0, 0.5, 2.0])
    assert drawn.prompts.tolist() == [10, 20, 30]
    assert drawn.outputs.tolist() == [1, 2, 3]
    record = simulate_serving(problem, serving_plan(problem), trace=path).job
    assert record.latency["latency"].count >= 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("arrived_at,num_prefill_tokens\n1,2\n", ":1: no column num_decode_tokens"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n1,2,3\n1,x,3\n", ":3: not three numbers"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\ninf,2,3\n", ":2: the time"),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n", "no requests"),
    ],
)
def test_a_broken_trace_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    """Missing columns, values that are no numbers and an empty trace are errors with a place."""
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(SimulationError, match=complaint):
        read_trace(path, 10)


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


def test_overlapped_scheduling_lets_a_prompt_miss_the_step_under_way() -> None:
    """What comes during a step is in the step after the next, for the next is already put together."""
    arrivals = [Arrival(0.0, 100, 9), Arrival(0.5, 100, 1)]
    plain = run_replica(arrivals, Limits(8, 1000, 10_000), PlainTimes())
    overlapped = run_replica(arrivals, Limits(8, 1000, 10_000, overlapped=True), PlainTimes())
    assert plain[1][0] == pytest.approx(1.0 + 1.01)
    assert overlapped[1][0] == pytest.approx(1.0 + 0.25 + 1.01)


def test_a_sequence_without_blocks_computes_its_tokens_again() -> None:
    """Two that together outgrow the cache: the later one loses its blocks and waits for the first to end."""
    env = simpy.Environment()
    replica = Replica(env, "replica", PlainTimes(), Limits(8, 1000, 256))
    requests = [Request(env, 100, 100, 60) for _ in range(2)]
    for request in requests:
        replica.submit(request)
    env.run()
    assert [request.preemptions for request in requests] == [0, 1]
    assert replica.preemptions == 1
    assert replica.tokens == 120


def test_a_prefix_in_the_cache_is_not_computed_again() -> None:
    """A prompt whose first 96 tokens an earlier one has left computes 4, unless prefixes are not kept."""
    for keeps, expected in ((True, 0.04), (False, 1.0)):
        env = simpy.Environment()
        replica = Replica(env, "replica", PlainTimes(), Limits(8, 1000, 1024, keeps_prefixes=keeps))
        first = Request(env, 100, 100, 1)
        replica.submit(first)
        env.run()
        second = Request(env, 100, 100, 1, donor=first, shared=96)
        begin = env.now
        replica.submit(second)
        env.run()
        assert second.first - begin == pytest.approx(expected)


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
