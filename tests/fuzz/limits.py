"""Bounds of one reading: time by the processor's clock, memory by the operating system."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

MOST_SECONDS = 5.0
MOST_BYTES = 2**30


class HungError(BaseException):
    """A reader worked for more than `MOST_SECONDS`; no reader can swallow it."""


def _hung(signum: int, frame: FrameType | None) -> None:
    raise HungError


@contextmanager
def within_time() -> Iterator[None]:
    """Raise `HungError` when the work inside takes more than its processor time."""
    before = signal.signal(signal.SIGPROF, _hung)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def within_memory() -> Iterator[None]:
    """Let the process grow by at most `MOST_BYTES`; more is a `MemoryError`."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        size = int(stream.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
