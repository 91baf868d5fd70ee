"""The multiprocessors of a GPU, or of a MIG slice: kernels of several streams, one kernel at a time.

Of the kernels that are ready the most urgent one runs, equals in the order in which they became ready; a
kernel is ready when the one before it in its stream has ended. A running kernel is never preempted [1]_. All
that happens at one time counts before the choice at that time: the next kernel of an urgent stream is ready
the moment the one before it ends, so no other stream comes between.

Work is a number of equal kernels. While the set of busy streams stays as it is they take turns in a fixed
rotation, so the time when the first of them is done is known; only that is an event, not every kernel.

References
----------
.. [1] NVIDIA CUDA Driver API, ``cuStreamCreateWithPriority``: priorities are hints, affect compute kernels
   only, and "do not preempt already-running work".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import simpy
from simpy.events import NORMAL

from planner.errors import SimulationError
from planner.simulate.alarm import LAST, Alarm
from planner.simulate.engines import Span

ROUNDING = 1e-6
"""Share of a kernel's time within which two times are one."""


@dataclass(slots=True)
class _Work:
    """Equal kernels of ``kernel`` s, of which ``left`` are still to be done; the first began at ``start``."""

    name: str
    kernel: float
    kernels: int
    left: int
    then: Callable[[Span], None]
    start: float = -1.0

    def count(self, kernels: int, began: float) -> None:
        """Count kernels as done, the first of them begun at a time, s."""
        self.left -= kernels
        if self.start < 0.0:
            self.start = began


class ComputeStream:
    """Kernels that run in the order of their launch on the compute of one GPU.

    Parameters
    ----------
    gpu
        Where the kernels run.
    name
        For reports.
    priority
        Urgency of the stream's kernels against those of other streams; lower is more urgent, as in CUDA.

    Attributes
    ----------
    busy
        Time of the work that is done, s.
    """

    def __init__(self, gpu: GpuCompute, name: str, priority: int = 0) -> None:
        self.gpu, self.name, self.priority, self.busy = gpu, name, priority, 0.0
        self._works: deque[_Work] = deque()

    def submit(self, name: str, seconds: float, then: Callable[[Span], None], kernels: int = 1) -> None:
        """Queue work behind that launched before, and call ``then`` at its end.

        Parameters
        ----------
        seconds
            Time of all kernels together, s.
        kernels
            How many equal kernels it consists of.
        """
        if not (seconds >= 0.0 and kernels >= 1):
            raise SimulationError(f"work {name!r} needs at least one kernel, and a time that is not negative")
        self._works.append(_Work(name, seconds / kernels, kernels, kernels, then))
        if len(self._works) == 1:
            self.gpu.enter(self)

    def launch(self, name: str, seconds: float) -> simpy.Event:
        """Queue one kernel; the event returned is its end, with its `Span`."""
        done = simpy.Event(self.gpu.env)

        def succeed(span: Span) -> None:
            done.succeed(span)

        self.submit(name, seconds, succeed)
        return done

    @property
    def current(self) -> _Work:
        """The work whose kernels are next."""
        return self._works[0]

    @property
    def idle(self) -> bool:
        """Whether nothing is queued."""
        return not self._works

    def finish(self, began: float) -> _Work:
        """Take out the current work, whose last kernel began at a time, s."""
        work = self._works.popleft()
        work.count(1, began)
        self.busy += work.kernel * work.kernels
        return work


class GpuCompute:
    """One kernel at a time, urgent streams first.

    Parameters
    ----------
    env
        Clock.
    name
        For reports.
    trace
        Where to note each piece of work when it ends.
    """

    def __init__(self, env: simpy.Environment, name: str, *, trace: list[Span] | None = None) -> None:
        self.env, self.name, self.trace = env, name, trace
        self._levels: dict[int, deque[ComputeStream]] = {}
        self._running: deque[ComputeStream] | None = None
        self._since = 0.0  # when the kernel of the first stream of the running level began, s
        self._total, self._busy_since = 0.0, 0.0
        self._alarm: simpy.Event | None = None
        self._deciding = False

    @property
    def busy(self) -> float:
        """Time with a kernel running until now, s."""
        return self._total + (0.0 if self._running is None else self.env.now - self._busy_since)

    def stream(self, name: str, priority: int = 0) -> ComputeStream:
        """Return a new stream; lower priority numbers are more urgent, as in CUDA."""
        return ComputeStream(self, name, priority)

    def enter(self, stream: ComputeStream) -> None:
        """Let a stream that has work take part; called by the stream."""
        matters = self._running is not None and stream.priority <= self._running[0].priority
        if matters:
            self._advance()
        self._level(stream.priority).append(stream)
        if matters:
            self._arm()
        elif self._running is None:
            self._decide_last()

    def _level(self, priority: int) -> deque[ComputeStream]:
        if priority not in self._levels:
            self._levels[priority] = deque()
            self._levels = dict(sorted(self._levels.items()))
        return self._levels[priority]

    def _decide_last(self) -> None:
        if not self._deciding:
            self._deciding = True
            Alarm(self.env, self._decide, 0.0, LAST)

    def _decide(self, _: simpy.Event) -> None:
        self._deciding = False
        self._running = next((level for level in self._levels.values() if level), None)
        if self._running is not None:
            self._since = self._busy_since = self.env.now
            self._arm()

    def _advance(self) -> None:
        """Count the kernels that have ended by now, all but the last one of a piece of work."""
        rotation = self._running
        assert rotation is not None
        cycle = sum(stream.current.kernel for stream in rotation)
        rounds = min(stream.current.left for stream in rotation) - 1
        if cycle > 0.0:
            rounds = max(min(rounds, int((self.env.now - self._since) / cycle)), 0)
        if rounds:
            at = self._since
            for stream in rotation:
                stream.current.count(rounds, at)
                at += stream.current.kernel
            self._since += rounds * cycle
        while rotation[0].current.left > 1 and self._ended(rotation[0].current):
            stream = rotation.popleft()
            stream.current.count(1, self._since)
            self._since += stream.current.kernel
            rotation.append(stream)

    def _ended(self, work: _Work) -> bool:
        """Whether the kernel that runs has ended by now."""
        return self._since + work.kernel <= self.env.now + ROUNDING * work.kernel

    def _arm(self) -> None:
        """Wake up when a piece of work ends or, for a more urgent stream, when the kernel that runs ends."""
        rotation = self._running
        assert rotation is not None
        first = rotation[0].current
        if any(level for priority, level in self._levels.items() if priority < rotation[0].priority):
            begun = self.env.now - self._since > ROUNDING * first.kernel
            at = self._since + first.kernel if begun else self.env.now
        else:
            kernels = [stream.current.kernel for stream in rotation]
            left = [stream.current.left for stream in rotation]
            least = min(left)
            at = self._since + (least - 1) * sum(kernels) + sum(kernels[: left.index(least) + 1])
        self._alarm = Alarm(self.env, self._ring, max(at - self.env.now, 0.0), NORMAL)

    def _ring(self, alarm: simpy.Event) -> None:
        """Stop, hand out work that is done, and choose again once all else at this time has happened."""
        rotation = self._running
        if alarm is not self._alarm or rotation is None:
            return
        self._advance()
        self._total += self.env.now - self._busy_since
        self._alarm = self._running = None
        self._decide_last()
        if self._ended(rotation[0].current) and rotation[0].current.left == 1:
            stream = rotation.popleft()
            work = stream.finish(self._since)
            if not stream.idle:
                rotation.append(stream)
            self._note(work)

    def _note(self, work: _Work) -> None:
        span = Span(work.name, work.start, self.env.now)
        if self.trace is not None:
            self.trace.append(span)
        work.then(span)
