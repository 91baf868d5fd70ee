"""Time, interruption and progress of a solve."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[str, int, float, float], None]
"""Called with the phase, the number of candidates visited, the bound and the incumbent."""


def silent(phase: str, visited: int, bound: float, incumbent: float) -> None:
    """Report nothing."""


def never() -> bool:
    """Report that nobody asked to stop."""
    return False


@dataclass(frozen=True)
class Budget:
    """How long a solve may take, its seed, and who may interrupt or watch it.

    Attributes
    ----------
    seconds
        Wall time from the creation of the budget.
    stopped
        Polled between candidates; when it returns ``True`` the best plan so far is returned.
    """

    seconds: float = 60.0
    seed: int = 0
    stopped: Callable[[], bool] = never
    progress: Progress = silent
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left, not below zero."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def over(self) -> bool:
        """Whether to stop now."""
        return self.left <= 0.0 or self.stopped()
