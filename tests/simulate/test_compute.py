"""Kernels of several streams on one GPU: urgent first, in turns among equals, none preempted."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from typing import NamedTuple

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import SimulationError
from planner.simulate import ComputeStream, GpuCompute, Span


class Launch(NamedTuple):
    """Equal kernels that a stream gets at a time, s."""

    time: float
    stream: int
    kernel: float
    kernels: int


def simulated(priorities: list[int], launches: list[Launch]) -> tuple[list[Span], float]:
    """Return what ended when, and the busy time, by `GpuCompute`."""
    env = simpy.Environment()
    trace: list[Span] = []
    gpu = GpuCompute(env, "gpu", trace=trace)
    streams = [gpu.stream(str(number), priority) for number, priority in enumerate(priorities)]

    def come() -> simpy.events.ProcessGenerator:
        for number, launch in enumerate(launches):
            yield env.timeout(launch.time - env.now)
            seconds = launch.kernel * launch.kernels
            streams[launch.stream].submit(str(number), seconds, lambda _: None, launch.kernels)

    env.process(come())
    env.run()
    return trace, gpu.busy


def kernel_by_kernel(priorities: list[int], launches: list[Launch]) -> list[Span]:
    """Return what ended when, by the rules told one kernel at a time."""
    queues: list[deque[list[float]]] = [deque() for _ in priorities]  # number, kernels left, start
    ready: list[tuple[float, int]] = []  # since when, stream
    coming, now, found = deque(enumerate(launches)), 0.0, []
    while coming or ready:
        if not ready:
            now = max(now, coming[0][1].time)
        while coming and coming[0][1].time <= now:
            number, launch = coming.popleft()
            if not queues[launch.stream]:
                ready.append((launch.time, launch.stream))
            queues[launch.stream].append([number, launch.kernels, math.nan])
        stream = min(ready, key=lambda entry: (priorities[entry[1]], entry[0]))[1]
        ready = [entry for entry in ready if entry[1] != stream]
        work = queues[stream][0]
        work[2] = now if math.isnan(work[2]) else work[2]
        end = now + launches[int(work[0])].kernel
        while coming and coming[0][1].time <= end:
            number, launch = coming.popleft()
            if not queues[launch.stream]:
                ready.append((launch.time, launch.stream))
            queues[launch.stream].append([number, launch.kernels, math.nan])
        now, work[1] = end, work[1] - 1
        if work[1] == 0:
            found.append(Span(str(int(work[0])), work[2], now))
            queues[stream].popleft()
        if queues[stream]:
            ready.append((now, stream))
    return found


@given(
    st.lists(st.sampled_from([-1, 0, 0, 5]), min_size=1, max_size=4),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(1, 4), st.integers(1, 6)), max_size=12
    ),
)
def test_turns_in_closed_form_are_those_of_kernel_by_kernel(
    priorities: list[int], drawn: list[tuple[int, int, int, int]]
) -> None:
    """Ends and first starts are those of a simulation that takes every kernel by itself."""
    drawn = sorted(drawn)
    launches = [
        Launch(time + 0.001 * (number + 1), stream % len(priorities), float(kernel), kernels)
        for number, (time, stream, kernel, kernels) in enumerate(drawn)
    ]
    trace, busy = simulated(priorities, launches)
    expected = kernel_by_kernel(priorities, launches)
    assert [span.name for span in trace] == [span.name for span in expected]
    for one, other in zip(trace, expected, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=1e-6)
    assert busy == pytest.approx(sum(launch.kernel * launch.kernels for launch in launches))


def test_nothing_comes_between_the_kernels_of_an_urgent_batch() -> None:
    """A bulk kernel waits until all kernels of the urgent batch have run, as the next is ready at once."""
    env = simpy.Environment()
    trace: list[Span] = []
    gpu = GpuCompute(env, "gpu", trace=trace)
    bulk, urgent = gpu.stream("bulk"), gpu.stream("urgent", -1)
    for index in range(2):
        bulk.launch(f"bulk-{index}", 4.0)

    def later() -> simpy.events.ProcessGenerator:
        yield env.timeout(1.0)
        for index in range(3):
            urgent.launch(f"urgent-{index}", 1.0)

    env.process(later())
    env.run()
    assert [(span.name, span.start) for span in trace] == [
        ("bulk-0", 0.0), ("urgent-0", 4.0), ("urgent-1", 5.0), ("urgent-2", 6.0), ("bulk-1", 7.0),
    ]  # fmt: skip


def test_a_batch_of_many_kernels_lets_an_urgent_one_in_after_the_kernel_that_runs() -> None:
    """The urgent batch waits for the rest of one kernel of ten, the long batch for the urgent one."""
    env = simpy.Environment()
    ended: dict[str, Span] = {}
    gpu = GpuCompute(env, "gpu")
    bulk, urgent = gpu.stream("bulk"), gpu.stream("urgent", -1)
    submit(bulk, "bulk", 10.0, 10, ended)

    def later() -> simpy.events.ProcessGenerator:
        yield env.timeout(3.25)
        submit(urgent, "urgent", 2.0, 4, ended)

    env.process(later())
    env.run()
    assert ended["urgent"] == Span("urgent", 4.0, 6.0)
    assert ended["bulk"] == Span("bulk", 0.0, 12.0)
    assert (gpu.busy, bulk.busy, urgent.busy) == (12.0, 10.0, 2.0)


def test_equal_streams_take_turns() -> None:
    """Two batches of equal kernels end one kernel apart, each after about twice its own time."""
    env = simpy.Environment()
    ended: dict[str, Span] = {}
    gpu = GpuCompute(env, "gpu")
    for name in ("a", "b"):
        submit(gpu.stream(name), name, 4.0, 8, ended)
    env.run()
    assert [(span.start, span.end) for span in ended.values()] == [(0.0, 7.5), (0.5, 8.0)]
    assert all(one.end < other.end for one, other in pairwise(ended.values()))


def test_work_without_kernels_is_refused() -> None:
    """No kernels, and a time below zero, are errors."""
    gpu = GpuCompute(simpy.Environment(), "gpu")
    for seconds, kernels in ((1.0, 0), (-1.0, 1)):
        with pytest.raises(SimulationError, match="at least one kernel"):
            gpu.stream("a").submit("a", seconds, lambda _: None, kernels)


def submit(stream: ComputeStream, name: str, seconds: float, kernels: int, ended: dict[str, Span]) -> None:
    """Queue work that notes its end."""

    def note(span: Span) -> None:
        ended[name] = span

    stream.submit(name, seconds, note, kernels)
