"""Time, interruption, progress and engine settings of a solve."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

Progress = Callable[[str, int, float, float], None]
"""Called with the phase, the number of candidates visited, the bound and the incumbent."""

VISIT = 2e-2
"""Work that placing a candidate counts for in a deterministic solve, s, beside what CP-SAT reports."""


def silent(phase: str, visited: int, bound: float, incumbent: float) -> None:
    """Report nothing."""


def never() -> bool:
    """Report that nobody asked to stop."""
    return False


@dataclass
class WorkClock:
    """A clock that only work moves: CP-SAT's deterministic time, and a fixed time for every candidate.

    It reads the same after the same steps on any machine under any load, so that a limit in its seconds
    ends a search at the same candidate every time.
    """

    spent: float = 0.0

    def __call__(self) -> float:
        """Return the work done, s."""
        return self.spent

    def charge(self, seconds: float) -> None:
        """Add work, s."""
        self.spent += seconds


@dataclass
class LastModel:
    """Keeps the CP-SAT model that was solved last, for export."""

    model: cp_model.CpModel | None = None


@dataclass(frozen=True)
class Budget:
    """How long a solve may take, its seed and engine settings, and who may interrupt or watch it.

    Attributes
    ----------
    seconds
        Wall time from the creation of the budget; work of a deterministic solve, see :class:`WorkClock`.
    stopped
        Polled between candidates; when it returns ``True`` the best plan so far is returned.
    workers
        Workers of CP-SAT.
    clock
        What tells the time.
    models
        Keeps the model that was solved last, if anybody wants it.
    """

    seconds: float = 60.0
    seed: int = 0
    stopped: Callable[[], bool] = never
    progress: Progress = silent
    workers: int = 1
    clock: Callable[[], float] = time.monotonic
    models: LastModel | None = None
    started: float = field(default=-1.0)

    def __post_init__(self) -> None:
        if self.started < 0.0:
            object.__setattr__(self, "started", self.clock())

    @property
    def left(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    @property
    def over(self) -> bool:
        """Whether to stop now."""
        return self.left <= 0.0 or self.stopped()

    @property
    def deterministic(self) -> bool:
        """Whether the limits count work instead of time."""
        return isinstance(self.clock, WorkClock)

    def part(self, seconds: float) -> Budget:
        """Return a budget of its own seconds from now, on the same clock, stopped and set up alike."""
        return replace(self, seconds=seconds, started=self.clock())

    def charge(self, seconds: float) -> None:
        """Count work, s; wall time passes by itself."""
        if isinstance(self.clock, WorkClock):
            self.clock.charge(seconds)


def counted(budget: Budget) -> Budget:
    """Return a deterministic budget: its seconds count work, and every candidate that is placed is work."""
    clock, shown = WorkClock(), budget.progress

    def progress(phase: str, visited: int, bound: float, incumbent: float) -> None:
        clock.charge(VISIT)
        shown(phase, visited, bound, incumbent)

    return replace(budget, clock=clock, started=0.0, progress=progress)
