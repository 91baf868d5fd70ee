"""Engines serve in their order and count their own time."""

from itertools import pairwise

import pytest
import simpy

from planner.simulate import CopyEngine, CorePool, GpuCompute, LinkSpec, Network, Span


def test_a_copy_engine_serves_in_order_of_arrival_whatever_the_priority() -> None:
    """Three copies run back to back in the order they came; busy and waiting time follow."""
    env = simpy.Environment()
    trace: list[Span] = []
    engine = CopyEngine(env, "gpu0/copy0", trace=trace)
    for name, priority in (("a", 0), ("b", 5), ("c", -5)):
        env.process(engine.run(name, 2.0, priority))
    env.run()
    assert trace == [Span("a", 0.0, 2.0), Span("b", 2.0, 4.0), Span("c", 4.0, 6.0)]
    assert (engine.busy, engine.waiting, engine.served, engine.queue.peak) == (6.0, 6.0, 3, 2)


def test_an_urgent_stream_waits_for_the_running_kernel_only() -> None:
    """Priority acts between kernels: an urgent one overtakes those waiting but does not preempt."""
    env = simpy.Environment()
    trace: list[Span] = []
    gpu = GpuCompute(env, "gpu0", trace=trace)
    bulk, urgent = gpu.stream("bulk"), gpu.stream("urgent", priority=-1)

    def arrive() -> simpy.events.ProcessGenerator:
        for name in ("bulk-0", "bulk-1", "bulk-2"):
            bulk.launch(name, 4.0)
        yield env.timeout(5.0)
        span = yield urgent.launch("urgent-0", 1.0)
        assert span == Span("urgent-0", 8.0, 9.0)

    env.process(arrive())
    env.run()
    assert [span.name for span in trace] == ["bulk-0", "bulk-1", "urgent-0", "bulk-2"]
    assert gpu.busy == 13.0


def test_kernels_of_one_stream_never_overlap_or_overtake() -> None:
    """A stream keeps its launch order even when the GPU is free and other streams come between."""
    env = simpy.Environment()
    trace: list[Span] = []
    gpu = GpuCompute(env, "gpu0", trace=trace)
    first, second = gpu.stream("first"), gpu.stream("second")
    for index in range(3):
        first.launch(f"first-{index}", 1.0)
        second.launch(f"second-{index}", 1.0)
    env.run()
    for stream in ("first", "second"):
        names = [span.name for span in trace if span.name.startswith(stream)]
        assert names == [f"{stream}-{index}" for index in range(3)]
    assert all(before.end <= after.start for before, after in pairwise(trace))


def test_a_kernel_queues_only_when_the_one_before_it_has_ended() -> None:
    """A stream with many kernels launched ahead does not shut out an equal stream that launched after it."""
    env = simpy.Environment()
    trace: list[Span] = []
    gpu = GpuCompute(env, "gpu0", trace=trace)
    long, short = gpu.stream("long"), gpu.stream("short")
    for index in range(3):
        long.launch(f"long-{index}", 1.0)
    short.launch("short-0", 1.0)
    env.run()
    assert [span.name for span in trace] == ["long-0", "short-0", "long-1", "long-2"]


def test_a_pool_uses_all_its_cores() -> None:
    """Two cores serve four pieces in two rounds, and an urgent piece goes first when the pool is told so."""
    env = simpy.Environment()
    trace: list[Span] = []
    pool = CorePool(env, "numa0", 2, by_priority=True, trace=trace)
    for name, priority in (("a", 0), ("b", 0), ("c", 0), ("d", -1), ("e", 0)):
        env.process(pool.run(name, 1.0, priority))
    env.run()
    assert [span.name for span in trace] == ["a", "b", "d", "c", "e"]
    assert (env.now, pool.busy, pool.waiting) == (3.0, 5.0, 1.0 + 1.0 + 2.0)


def test_work_may_be_a_transfer_that_holds_the_engine() -> None:
    """A copy engine stays busy exactly as long as its transfer takes on the shared link."""
    env = simpy.Environment()
    network = Network(env, [LinkSpec("pcie", 10.0)], compiled=False)
    engine = CopyEngine(env, "copy0")
    env.process(engine.run("a", lambda: network.send((0,), 20.0)))
    env.process(engine.run("b", lambda: network.send((0,), 10.0)))
    network.send((0,), 20.0)
    env.run()
    # 0-4 s: a and the other share; 4-5 s: b alone.
    assert engine.busy == pytest.approx(5.0)
    assert engine.served == 2


def test_busy_time_counts_work_in_progress() -> None:
    """Busy and waiting time are right at any moment, not only when work has ended."""
    env = simpy.Environment()
    pool = CorePool(env, "numa0", 1)
    env.process(pool.run("a", 4.0))
    env.process(pool.run("b", 4.0))
    env.run(until=3.0)
    assert (pool.busy, pool.waiting, pool.in_service.value, pool.queue.value) == (3.0, 3.0, 1, 1)


def test_an_interrupted_piece_of_work_frees_its_server() -> None:
    """Interrupting queued or running work leaves no server taken and no ghost in the queue."""
    env = simpy.Environment()
    trace: list[Span] = []
    pool = CorePool(env, "numa0", 1, trace=trace)

    def guarded(name: str) -> simpy.events.ProcessGenerator:
        try:
            yield from pool.run(name, 10.0)
        except simpy.Interrupt:
            return

    running, queued = env.process(guarded("running")), env.process(guarded("queued"))
    env.process(pool.run("last", 1.0))
    env.run(until=1.0)
    queued.interrupt()
    running.interrupt()
    env.run()
    assert trace == [Span("last", 1.0, 2.0)]
    assert (pool.busy, pool.served, pool.queue.value, pool.in_service.value) == (2.0, 1, 0, 0)


def test_a_realtime_and_a_batch_service_share_a_gpu_by_hand() -> None:
    """Urgent kernels overtake waiting kernels of the batch, never its running one, and its copies not at all.

    Three batches copy 4 s each from 0 s on and then run three kernels of 3 s; a realtime request comes at
    5 s, copies 1.5 s and runs one kernel of 1 s.
    """
    env = simpy.Environment()
    kernels: list[Span] = []
    copies: list[Span] = []
    gpu = GpuCompute(env, "gpu0", trace=kernels)
    copier = CopyEngine(env, "copy0", trace=copies)
    batch, realtime = gpu.stream("batch"), gpu.stream("realtime", priority=-5)

    def work(name: str) -> simpy.events.ProcessGenerator:
        yield env.process(copier.run(f"{name} in", 4.0))
        for index in range(3):
            batch.launch(f"{name}-{index}", 3.0)

    def request() -> simpy.events.ProcessGenerator:
        yield env.timeout(5.0)
        yield env.process(copier.run("urgent in", 1.5, priority=-5))
        realtime.launch("urgent-0", 1.0)

    for process in (work("a"), work("b"), work("c"), request()):
        env.process(process)
    env.run()
    # Copies in order of arrival: c came at 0 s, so it goes before the urgent one.
    assert [(span.name, span.start, span.end) for span in copies] == [
        ("a in", 0.0, 4.0), ("b in", 4.0, 8.0), ("c in", 8.0, 12.0), ("urgent in", 12.0, 13.5),
    ]  # fmt: skip
    # When the urgent kernel is ready, at 13.5 s, b-0 runs (13-16) and b-1 follows in its stream only at 16 s.
    assert [(span.name, span.start, span.end) for span in kernels[:6]] == [
        ("a-0", 4.0, 7.0), ("a-1", 7.0, 10.0), ("a-2", 10.0, 13.0), ("b-0", 13.0, 16.0),
        ("urgent-0", 16.0, 17.0), ("b-1", 17.0, 20.0),
    ]  # fmt: skip
    assert (copier.waiting, gpu.busy) == (4.0 + 8.0 + 7.0, 9 * 3.0 + 1.0)


def test_work_without_a_process_is_served_like_work_of_one() -> None:
    """Calls and processes wait in one queue, and busy time, waiting time and spans are the same."""
    env = simpy.Environment()
    trace: list[Span] = []
    pool = CorePool(env, "numa0", 1, trace=trace)
    ended: list[float] = []
    pool.submit("a", 2.0, lambda: ended.append(env.now))
    env.process(pool.run("b", 1.0))
    env.run(until=0.5)
    pool.submit("c", lambda: env.timeout(3.0), lambda: ended.append(env.now))
    env.run()
    assert trace == [Span("a", 0.0, 2.0), Span("b", 2.0, 3.0), Span("c", 3.0, 6.0)]
    assert ended == [2.0, 6.0]
    assert (pool.busy, pool.waiting, pool.served) == (6.0, 2.0 + 2.5, 3)
