"""Servers of a machine that keep their own busy time and queue: copy engines, CPU cores.

Work is a duration in s, or a function that starts it and returns the event of its end, such as a transfer
over a `Network`; it is called when the server is free. Nothing here preempts, and copies are served in order
of arrival whatever their stream; kernels are in `planner.simulate.compute`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import simpy
from simpy.events import NORMAL

from planner.simulate.alarm import Alarm

Work: TypeAlias = float | Callable[[], simpy.Event]
Steps: TypeAlias = Generator[simpy.Event, Any, "Span"]


class Span(NamedTuple):
    """Work done: its name and when it was served, s."""

    name: str
    start: float
    end: float


class Gauge:
    """A count over time: its value now, its highest, and its integral in count x s."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env, self._since, self._integral = env, env.now, 0.0
        self.value = self.peak = 0

    def add(self, change: int) -> None:
        """Raise or lower the count."""
        now, value = self._env.now, self.value
        if value:
            self._integral += value * (now - self._since)
        self._since = now
        self.value = value = value + change
        if value > self.peak:
            self.peak = value

    @property
    def integral(self) -> float:
        """Integral of the count until now."""
        return self._integral + self.value * (self._env.now - self._since)


class Server:
    """One queue before ``num_servers`` equal servers.

    Parameters
    ----------
    env
        Clock.
    name
        For reports.
    num_servers
        How many pieces of work are served at once.
    by_priority
        Serve the lowest priority number first, equals in order of arrival; otherwise all in order of arrival.
    trace
        Where to note each piece of work when it ends.

    Attributes
    ----------
    served
        Pieces of work done.
    in_service, queue
        How many are served and how many wait, over time.
    """

    def __init__(
        self,
        env: simpy.Environment,
        name: str,
        *,
        num_servers: int = 1,
        by_priority: bool = False,
        trace: list[Span] | None = None,
    ) -> None:
        self.env, self.name, self.trace, self.served = env, name, trace, 0
        self.in_service, self.queue = Gauge(env), Gauge(env)
        self._free, self._by_priority = num_servers, by_priority
        self._turns: list[tuple[int, int, Callable[[], object]]] = []
        self._order = 0

    @property
    def busy(self) -> float:
        """Time that the servers have worked until now, summed over servers, s."""
        return self.in_service.integral

    @property
    def waiting(self) -> float:
        """Time that work has waited until now, summed over pieces, s."""
        return self.queue.integral

    def run(self, name: str, work: Work, priority: int = 0) -> Steps:
        """Wait for a server and do one piece of work; a SimPy process, or part of one by ``yield from``."""
        if self._free:
            self._free -= 1
        else:
            yield from self._wait(priority if self._by_priority else 0)
        self.in_service.add(1)
        start = self.env.now
        try:
            yield work() if callable(work) else self.env.timeout(work)
        finally:
            self.in_service.add(-1)
            self._hand_on()
        return self._note(name, start)

    def submit(self, name: str, work: Work, then: Callable[[], None]) -> None:
        """Do one piece of work when a server is free and call ``then`` at its end: `run` without a process.

        It counts as priority 0 and cannot be interrupted.
        """
        if self._free:
            self._free -= 1
            self._serve(name, work, then)
        else:
            self._order += 1
            turn: Callable[[], object] = partial(self._take_turn, name, work, then)
            heapq.heappush(self._turns, (0, self._order, turn))
            self.queue.add(1)

    def _take_turn(self, name: str, work: Work, then: Callable[[], None]) -> None:
        self.queue.add(-1)
        self._serve(name, work, then)

    def _serve(self, name: str, work: Work, then: Callable[[], None]) -> None:
        self.in_service.add(1)
        end = partial(self._end, name, self.env.now, then)
        if callable(work):
            done = work()
            assert done.callbacks is not None
            done.callbacks.append(end)
        else:
            Alarm(self.env, end, work, NORMAL)

    def _end(self, name: str, start: float, then: Callable[[], None], _: simpy.Event) -> None:
        self.in_service.add(-1)
        self._hand_on()
        self._note(name, start)
        then()

    def _note(self, name: str, start: float) -> Span:
        """Count a piece of work that has just ended."""
        span = Span(name, start, self.env.now)
        self.served += 1
        if self.trace is not None:
            self.trace.append(span)
        return span

    def _wait(self, priority: int) -> Generator[simpy.Event, Any, None]:
        """Wait for a turn; the server that becomes free then is taken already."""
        self._order += 1
        order, turn = self._order, self.env.event()
        heapq.heappush(self._turns, (priority, order, turn.succeed))
        self.queue.add(1)
        try:
            yield turn
        except BaseException:
            if turn.triggered:
                self._hand_on()
            else:
                self._turns = [entry for entry in self._turns if entry[1] != order]
                heapq.heapify(self._turns)
            raise
        finally:
            self.queue.add(-1)

    def _hand_on(self) -> None:
        """Give a free server to the first in the queue."""
        if self._turns:
            heapq.heappop(self._turns)[2]()
        else:
            self._free += 1


class CopyEngine(Server):
    """Copy engines of a GPU before one queue: transfers in order of arrival; stream priorities do not count.

    Parameters
    ----------
    env, name, trace
        As for `Server`.
    num_engines
        How many transfers run at once.
    """

    def __init__(
        self, env: simpy.Environment, name: str, *, num_engines: int = 1, trace: list[Span] | None = None
    ) -> None:
        super().__init__(env, name, num_servers=num_engines, trace=trace)


class CorePool(Server):
    """CPU cores before one queue.

    Parameters
    ----------
    env, name, by_priority, trace
        As for `Server`.
    num_cores
        How many pieces of work run at once.
    """

    def __init__(
        self,
        env: simpy.Environment,
        name: str,
        num_cores: int,
        *,
        by_priority: bool = False,
        trace: list[Span] | None = None,
    ) -> None:
        super().__init__(env, name, num_servers=num_cores, by_priority=by_priority, trace=trace)
