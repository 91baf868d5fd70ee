"""Instances of a model before one dynamic batcher, driven by SimPy."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import simpy

from planner.simulate.alarm import LAST, Alarm
from planner.simulate.batcher import Batcher, BatcherPolicy, Decision


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
    """

    accepted: bool
    sent: float
    answered: float
    batch: int


class _Ticket:
    __slots__ = ("done", "finished", "name", "sent", "size")

    def __init__(self, env: simpy.Environment, name: str, size: int) -> None:
        self.done = simpy.Event(env)
        self.name, self.size, self.sent, self.finished = name, size, math.nan, -1


class Batch(NamedTuple):
    """A batch that was sent: when, s, and the names of its requests."""

    time: float
    names: tuple[str, ...]


class BatchedServer:
    """Equal instances of a model that execute the batches of one batcher.

    Parameters
    ----------
    env
        Clock.
    policy
        Settings of the batcher.
    service
        Time, s, that a batch of some size takes.
    num_instances
        How many batches are executed at once.

    Attributes
    ----------
    batches
        All batches in order of sending.
    busy
        Time that instances have worked, summed, s, of batches already sent.

    Notes
    -----
    Everything that happens at one time happens before the decision at that time: requests that arrive
    together can share a batch.
    """

    def __init__(
        self,
        env: simpy.Environment,
        policy: BatcherPolicy,
        service: Callable[[int], float],
        num_instances: int = 1,
    ) -> None:
        self.env, self.policy, self.batcher = env, policy, Batcher(policy)
        self.batches: list[Batch] = []
        self.busy = 0.0
        self._service, self._free = service, num_instances
        self._order: deque[_Ticket] = deque()
        self._deciding = False
        self._wake = math.inf

    def submit(
        self, name: str = "", *, size: int = 1, priority: int = 0, timeout: float = 0.0
    ) -> simpy.Event:
        """Queue a request; the event succeeds with its `Answer`. Parameters as in `Batcher.enqueue`."""
        ticket = _Ticket(self.env, name, size)
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
        number = len(self.batches)
        self.batches.append(Batch(self.env.now, tuple(ticket.name for ticket in tickets)))
        for ticket in tickets:
            ticket.sent = self.env.now
        if self.policy.preserve_ordering:
            self._order.extend(tickets)
        self._free -= 1
        seconds = self._service(sum(ticket.size for ticket in tickets))
        self.busy += seconds
        pause = self.env.timeout(seconds)
        assert pause.callbacks is not None
        pause.callbacks.append(partial(self._finish, tickets, number))

    def _finish(self, tickets: list[_Ticket], number: int, _: simpy.Event) -> None:
        self._free += 1
        for ticket in tickets:
            ticket.finished = number
        leaving: list[_Ticket] = tickets
        if self.policy.preserve_ordering:
            leaving = []
            while self._order and self._order[0].finished >= 0:
                leaving.append(self._order.popleft())
        for ticket in leaving:
            ticket.done.succeed(Answer(True, ticket.sent, self.env.now, ticket.finished))
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
