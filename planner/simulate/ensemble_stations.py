"""Where requests of an ensemble are worked on: pools of workers, instances of a GPU stage."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from simpy.events import NORMAL

from planner.simulate.alarm import Alarm
from planner.simulate.batched_server import Answer, Batch, BatchedServer
from planner.simulate.compute import GpuCompute
from planner.simulate.engines import Gauge, Span
from planner.simulate.ensemble_layout import InstanceSpec, PoolSpec, Work
from planner.simulate.outcome import MOST_SPANS, Busy

if TYPE_CHECKING:
    import simpy

Release = Callable[[], None]


class Worked(NamedTuple):
    """What a worker did to a request: how long it waited before and after, and was worked on, s.

    Attributes
    ----------
    release
        To be called once the next stage has the result.
    """

    waited: float
    served: float
    release: Release


class _Job(NamedTuple):
    came: float
    seconds: float
    blocking: bool
    taken: Callable[[], None]
    then: Callable[[Worked], None]


class Pool:
    """Workers before one queue, and buffers for results that the next stage has not taken yet.

    A worker that is done waits until there is a buffer for its result, or until the result has been taken
    where it is the one that brings it there, as in a copy from pageable memory.

    Attributes
    ----------
    under_way
        Requests that are here, buffers included.
    """

    def __init__(self, env: simpy.Environment, spec: PoolSpec) -> None:
        self.env, self.spec, self.under_way = env, spec, 0
        self.spans: list[Busy] = []
        self._working = Gauge(env)
        self._free, self._buffers = spec.workers, spec.buffers
        self._queue: deque[_Job] = deque()
        self._held: deque[tuple[_Job, float]] = deque()

    @property
    def busy(self) -> float:
        """Time that workers have worked or waited with a result until now, summed, s."""
        return self._working.integral

    def submit(
        self, seconds: float, taken: Callable[[], None], then: Callable[[Worked], None], *, blocking: bool
    ) -> None:
        """Queue a request.

        Parameters
        ----------
        seconds
            Time that a worker needs.
        taken
            Is called when a worker begins.
        then
            Is called at the end.
        blocking
            Whether the worker waits until the result has been taken, and needs no buffer for it.
        """
        self.under_way += 1
        self._queue.append(_Job(self.env.now, seconds, blocking, taken, then))
        self._begin()

    def _begin(self) -> None:
        while self._free and self._queue:
            job = self._queue.popleft()
            self._free -= 1
            self._working.add(1)
            job.taken()
            Alarm(self.env, partial(self._worked, job, self.env.now), job.seconds, NORMAL)

    def _worked(self, job: _Job, begun: float, _: simpy.Event) -> None:
        if len(self.spans) < MOST_SPANS:  # more are not shown
            self.spans.append(Busy(begun, self.spec.name, self.env.now, self.spec.stage, "cpu"))
        if job.blocking:
            job.then(Worked(begun - job.came, job.seconds, self._taken_from_worker))
        elif self._buffers:
            self._put(job, begun)
        else:
            self._held.append((job, begun))

    def _put(self, job: _Job, begun: float) -> None:
        """Put a result into a buffer; its worker is free."""
        self._buffers -= 1
        self._leave()
        waited = self.env.now - job.came - job.seconds
        job.then(Worked(waited, job.seconds, self._taken_from_buffer))

    def _taken_from_buffer(self) -> None:
        self.under_way -= 1
        self._buffers += 1
        if self._held:
            self._put(*self._held.popleft())

    def _taken_from_worker(self) -> None:
        self.under_way -= 1
        self._leave()

    def _leave(self) -> None:
        self._working.add(-1)
        self._free += 1
        self._begin()


class Served(NamedTuple):
    """How long a request waited for a fuller batch and otherwise, and its batch took by itself, s."""

    held: float
    waited: float
    computed: float


class Instance:
    """An instance of a GPU stage: Triton's batcher before one stream of kernels.

    Attributes
    ----------
    under_way
        Requests that are here.
    """

    def __init__(self, env: simpy.Environment, spec: InstanceSpec, gpu: GpuCompute) -> None:
        self.env, self.spec, self.under_way = env, spec, 0
        self.spans: list[Busy] = []
        self._stream = gpu.stream(spec.name, spec.priority)
        self.server = BatchedServer(env, spec.policy, [self._execute])
        self._works: list[Work] = []

    @property
    def busy(self) -> float:
        """Time of the kernels of batches done until now, s."""
        return self._stream.busy

    def submit(self, units: int, then: Callable[[Served], None]) -> None:
        """Queue a request; one of more units than a batch holds goes in parts, and is done when all are."""
        largest = self.spec.policy.max_batch
        count = -(-units // largest)
        sizes = [units // count + (part < units % count) for part in range(count)]
        left, came = [count], self.env.now
        self.under_way += 1

        def part_done(event: simpy.Event) -> None:
            left[0] -= 1
            if left[0]:
                return
            self.under_way -= 1
            answer = event.value
            assert isinstance(answer, Answer)
            computed = self._works[answer.batch].seconds
            then(Served(answer.held, self.env.now - came - answer.held - computed, computed))

        for size in sizes:
            done = self.server.submit(size=size)
            assert done.callbacks is not None
            done.callbacks.append(part_done)

    def _execute(self, size: int, then: Callable[[], None]) -> None:
        work = self.spec.work(size)
        self._works.append(work)

        def ended(span: Span) -> None:
            if len(self.spans) < MOST_SPANS:  # more are not shown
                self.spans.append(Busy(span.start, self.spec.name, span.end, f"{size} units", "forward"))
            then()

        self._stream.submit(self.spec.stage, work.seconds, ended, work.kernels)

    @property
    def batches(self) -> list[Batch]:
        """Batches executed, in order of time."""
        return self.server.batches
