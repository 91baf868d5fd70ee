"""Time of a process without the turns of other programs: Linux counts how long a thread waited for a core."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Time on a core, time waiting for one, both ns, and turns (Linux, sched-stats.rst)."""


def waited() -> float:
    """Return how long this thread has waited for a core so far, s; 0 where the kernel does not tell."""
    try:
        return int(SCHEDSTAT.read_text(encoding="ascii").split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


class Turns:
    """A stopwatch that knows both: the time that passed, and how much of it others had the core."""

    def __init__(self) -> None:
        self._waited, self._start = waited(), perf_counter()

    def read(self) -> tuple[float, float]:
        """Return the time since the start and what of it went by waiting for a core, s."""
        passed = perf_counter() - self._start
        return passed, min(max(waited() - self._waited, 0.0), passed)

    def own(self) -> float:
        """Return the time since the start without what went by waiting for a core, s."""
        passed, lost = self.read()
        return passed - lost
