"""The dynamic batcher forms the batches that Triton's rules demand, at the times that they demand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import SimulationError
from planner.simulate.batched_server import Answer, BatchedServer, timed
from planner.simulate.batcher import Batcher, BatcherPolicy, QueuePolicy
from tests.simulate.batcher_traces import TRACES, Trace

REQUEST = re.compile(r"(\w)@([\d.]+)(?:x(\d+))?(?:p(\d+))?(?:t([\d.]+))?")


def run(trace: Trace) -> tuple[str, str]:
    """Return the batches and the refusals of a trace, written as in the trace."""
    env = simpy.Environment()
    server = BatchedServer(
        env, BatcherPolicy(**trace.settings), [timed(env, lambda _: trace.service)] * trace.instances
    )
    refused: list[str] = []

    def come(name: str, time: float, size: int, level: int, timeout: float) -> simpy.events.ProcessGenerator:
        yield env.timeout(time)
        answer = yield server.submit(name, size=size, priority=level, timeout=timeout)
        if not answer.accepted:
            refused.append(f"{answer.answered:g}:{name}")

    for word in trace.arrivals.split():
        match = REQUEST.fullmatch(word)
        assert match is not None
        name, time, size, level, timeout = match.groups()
        env.process(come(name, float(time), int(size or 1), int(level or 0), float(timeout or 0.0)))
    env.run()
    batches = " ".join(f"{batch.time:g}:{''.join(batch.names)}" for batch in server.batches)
    return batches, " ".join(refused)


def test_the_suite_is_large_enough() -> None:
    """At least forty different runs are scripted."""
    assert len({trace.claim for trace in TRACES}) >= 40


@pytest.mark.parametrize("trace", TRACES, ids=[trace.claim for trace in TRACES])
def test_batches_and_times_are_those_of_the_rules(trace: Trace) -> None:
    """Composition and time of every batch, and every refusal, are as worked out by hand."""
    assert run(trace) == (trace.batches, trace.refused)


def answers(policy: BatcherPolicy, sizes: Sequence[int]) -> list[Answer]:
    """Return the answers to requests 1 s apart on two instances, where a batch takes 10 s per item."""
    env = simpy.Environment()
    server = BatchedServer(env, policy, [timed(env, lambda size: 10.0 * size)] * 2)
    events = []

    def come() -> simpy.events.ProcessGenerator:
        for size in sizes:
            events.append(server.submit(size=size))
            yield env.timeout(1.0)

    env.process(come())
    env.run()
    found = [event.value for event in events]
    return [answer for answer in found if isinstance(answer, Answer)]


def test_ordered_answers_wait_for_earlier_ones() -> None:
    """A short batch on the second instance answers at once, or after the long one before it."""
    free = answers(BatcherPolicy(4), [4, 1])
    ordered = answers(BatcherPolicy(4, preserve_ordering=True), [4, 1])
    assert [answer.answered for answer in free] == [40.0, 11.0]
    assert [answer.answered for answer in ordered] == [40.0, 40.0]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), min_size=1, max_size=25),
    st.sets(st.integers(1, 6), max_size=3),
    st.sampled_from([0.0, 2.5, 7.5]),
    st.integers(1, 2),
)
def test_every_request_is_served_once_in_order_and_in_time(
    arrivals: list[tuple[int, int]], preferred: set[int], delay: float, instances: int
) -> None:
    """Without levels batches keep the order and the maximum, and hold nobody beyond delay and service."""
    env = simpy.Environment()
    policy = BatcherPolicy(6, preferred=tuple(preferred), max_delay=delay)
    server = BatchedServer(env, policy, [timed(env, lambda _: 4.0)] * instances)
    order = sorted(range(len(arrivals)), key=lambda index: arrivals[index][0])

    def come() -> simpy.events.ProcessGenerator:
        for index in order:
            yield env.timeout(arrivals[index][0] - env.now)
            server.submit(str(index), size=arrivals[index][1])

    env.process(come())
    env.run()
    served = [name for batch in server.batches for name in batch.names]
    assert served == [str(index) for index in order]
    for batch in server.batches:
        assert sum(arrivals[int(name)][1] for name in batch.names) <= 6
    busy_until = [-math.inf] * instances
    for batch in server.batches:
        free = min(busy_until)
        assert batch.time <= max(free, arrivals[int(batch.names[0])][0] + delay) + 1e-9
        busy_until[busy_until.index(free)] = batch.time + 4.0


def test_impossible_settings_and_sizes_are_refused() -> None:
    """Preferred sizes beyond the maximum, a default level that does not exist and oversized requests fail."""
    with pytest.raises(SimulationError, match="preferred"):
        BatcherPolicy(4, preferred=(8,))
    with pytest.raises(SimulationError, match="default_priority"):
        BatcherPolicy(4, priority_levels=2)
    with pytest.raises(SimulationError, match="max_delay"):
        BatcherPolicy(4, max_delay=-1.0)
    with pytest.raises(SimulationError, match="batch size 5"):
        Batcher(BatcherPolicy(4)).enqueue(0.0, "a", size=5)
    assert QueuePolicy(default_timeout=3.0).timeout(1.0) == 3.0
