"""Interrupts during a solve: the first ends the search and keeps its plan, the second ends the program."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NOTE = b"planner: stopping; the best plan so far will be written (interrupt again to end at once)\n"


@dataclass
class Interrupts:
    """What was asked for since the start.

    Attributes
    ----------
    waiting
        Whether the first interrupt is only noted: the search looks for it by itself, and what is being
        written is nearly done.
    asked
        Whether there was an interrupt.
    note
        What the first interrupt says on standard error.
    """

    waiting: bool = True
    asked: bool = False
    note: bytes = NOTE

    def stopped(self) -> bool:
        """Whether the search was told to stop."""
        return self.asked

    def receive(self, number: int, frame: object) -> None:
        """Handle a signal.

        Raises
        ------
        KeyboardInterrupt
            If this is the second one, or nobody waits for it.
        """
        again, self.asked = self.asked, True
        if again or not self.waiting:
            raise KeyboardInterrupt
        os.write(2, self.note)  # a handler must not use buffered streams


@contextmanager
def interrupts(note: bytes = NOTE) -> Iterator[Interrupts]:
    """Yield the state that SIGINT and SIGTERM change meanwhile; ``note`` is what the first one says."""
    state = Interrupts(note=note)
    if threading.current_thread() is not threading.main_thread():
        yield state  # only the main thread may handle signals
        return
    old = {number: signal.signal(number, state.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
