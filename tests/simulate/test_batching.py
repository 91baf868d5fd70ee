"""One replica batches by the rules, as a loop over every sequence and every step does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from planner.simulate.batching import Replica
from planner.simulate.sequence import Limits, Request
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
