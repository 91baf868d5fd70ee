"""Events on the hot path, without the detours that SimPy makes for the general case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy
from simpy.events import EventPriority

LAST = EventPriority(2)
"""Priority of events that come after everything else at their time."""


class Alarm(simpy.Event):
    """An event that happens by itself after ``delay`` s and calls one function."""

    def __init__(
        self,
        env: simpy.Environment,
        call: Callable[[simpy.Event], None],
        delay: float,
        priority: EventPriority,
    ) -> None:
        self.env, self.callbacks = env, [call]
        self._ok, self._value = True, None
        env.schedule(self, priority, delay)


class Signal(simpy.Event):
    """An event that can happen inside another one, without a turn of its own."""

    def happen(self, value: Any) -> None:
        """Succeed now; what waits for it goes on at once: call this as the last thing in an event."""
        callbacks = self.callbacks
        assert callbacks is not None, "an event happens once"
        self._ok, self._value = True, value
        self.callbacks = None  # type: ignore[assignment]
        for call in callbacks:
            call(self)
