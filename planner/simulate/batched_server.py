"""Instances of a model before one dynamic batcher, driven by SimPy."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import simpy

from planner.simulate.alarm import LAST, Alarm
from planner.simulate.batcher import Batcher, BatcherPolicy, Decision

Executor: TypeAlias = Callable[[int, Callable[[], None]], None]
"""An instance of a model: begins with a batch of some size, and calls something at its end."""


def timed(env: simpy.Environment, service: Callable[[int], float]) -> Executor:
    """Return an instance of which the time per batch, s, depends on nothing but its size."""

    def execute(size: int, then: Callable[[], None]) -> None:
        pause = env.timeout(service(size))
        assert pause.callbacks is not None
        pause.callbacks.append(lambda _: then())

    return execute


class Answer(NamedTuple):
    """What became of a request; times in s.

    Attributes
    ----------
    accepted
        Whether it was executed; otherwise the queue was full or its time ran out, at ``answered``.
    sent, answered
        When its batch began, and when its answer left.
    batch
        Number of the batch in order of sending; -1 without one.
    held
        Time that it waited although an instance was free: for a fuller batch.
    """

    accepted: bool
    sent: float
    answered: float
    batch: int
    held: float = 0.0


class _Ticket:
    __slots__ = ("done", "finished", "held", "name", "sent", "size")

    def __init__(self, env: simpy.Environment, name: str, size: int, held: float) -> None:
        self.done = simpy.Event(env)
        self.name, self.size, self.sent, self.finished, self.held = name, size, math.nan, -1, held


class Batch(NamedTuple):
    """A batch that was sent: when, s, the names of its requests, and their sizes together."""

    time: float
    names: tuple[str, ...]
    size: int


class BatchedServer:
    """Instances of a model that execute the batches of one batcher.

    Parameters
    ----------
    env
        Clock.
    policy
        Settings of the batcher.
    instances
        What executes batches, one at a time each; of those that are free the one idle for longest.

    Attributes
    ----------
    batches
        All batches in order of sending.

    Notes
    -----
    Everything that happens at one time happens before the decision at that time: requests that arrive
    together can share a batch.
    """

    def __init__(self, env: simpy.Environment, policy: BatcherPolicy, instances: Sequence[Executor]) -> None:
        self.env, self.policy, self.batcher = env, policy, Batcher(policy)
        self.batches: list[Batch] = []
        self._free = deque(instances)
        self._order: deque[_Ticket] = deque()
        self._deciding = False
        self._wake = math.inf
        self._freed, self._idle = env.now, 0.0  # since when an instance is free, s, and for how long before

    def submit(
        self, name: str = "", *, size: int = 1, priority: int = 0, timeout: float = 0.0
    ) -> simpy.Event:
        """Queue a request; the event succeeds with its `Answer`. Parameters as in `Batcher.enqueue`."""
        ticket = _Ticket(self.env, name, size, self._idle_until_now())
        if self.batcher.enqueue(self.env.now, ticket, size=size, priority=priority, timeout=timeout):
            self._decide_last()
        else:
            self._refuse(ticket)
        return ticket.done

    def _decide_last(self) -> None:
        if not self._deciding:
            self._deciding = True
            Alarm(self.env, self._decide, 0.0, LAST)

    def _decide(self, _: simpy.Event) -> None:
        self._deciding = False
        if self._free:
            self._set_alarm(self._send_all())
        else:
            self._set_alarm(self._carry_out(self.batcher.expire(self.env.now)))

    def _send_all(self) -> float:
        """Send batches while there are some and instances for them; return when to ask again, s."""
        while True:
            decision = self.batcher.decide(self.env.now)
            wake = self._carry_out(decision)
            if not decision.batch or not self._free:
                return wake

    def _carry_out(self, decision: Decision) -> float:
        for ticket in decision.rejected:
            assert isinstance(ticket, _Ticket)
            self._refuse(ticket)
        tickets = [ticket for ticket in decision.batch if isinstance(ticket, _Ticket)]
        if tickets:
            self._execute(tickets)
        return decision.wake

    def _execute(self, tickets: list[_Ticket]) -> None:
        number, idle = len(self.batches), self._idle_until_now()
        size = sum(ticket.size for ticket in tickets)
        self.batches.append(Batch(self.env.now, tuple(ticket.name for ticket in tickets), size))
        for ticket in tickets:
            ticket.sent, ticket.held = self.env.now, idle - ticket.held
        if self.policy.preserve_ordering:
            self._order.extend(tickets)
        instance = self._free.popleft()
        if not self._free:
            self._idle = idle
        instance(size, partial(self._finish, tickets, number, instance))

    def _idle_until_now(self) -> float:
        """Return for how long an instance has been free until now, s."""
        return self._idle + (self.env.now - self._freed if self._free else 0.0)

    def _finish(self, tickets: list[_Ticket], number: int, instance: Executor) -> None:
        if not self._free:
            self._freed = self.env.now
        self._free.append(instance)
        for ticket in tickets:
            ticket.finished = number
        leaving: list[_Ticket] = tickets
        if self.policy.preserve_ordering:
            leaving = []
            while self._order and self._order[0].finished >= 0:
                leaving.append(self._order.popleft())
        for ticket in leaving:
            answer = Answer(True, ticket.sent, self.env.now, ticket.finished, ticket.held)
            ticket.done.succeed(answer)
        self._decide_last()

    def _refuse(self, ticket: _Ticket) -> None:
        ticket.done.succeed(Answer(False, math.nan, self.env.now, -1))

    def _set_alarm(self, wake: float) -> None:
        """Decide again at a time, s, unless an earlier alarm is pending."""
        if wake < self._wake:
            self._wake = wake
            Alarm(self.env, partial(self._ring, wake), max(wake - self.env.now, 0.0), simpy.events.NORMAL)

    def _ring(self, wake: float, _: simpy.Event) -> None:
        if wake == self._wake:
            self._wake = math.inf
        self._decide_last()
