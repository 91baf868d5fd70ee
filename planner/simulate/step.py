"""A step of a replica: what it computes, how long it takes, and how often it repeats."""

from __future__ import annotations

import math

from planner.simulate.iterations import Piece, StepTimes
from planner.simulate.sequence import Request


class Step:
    """Pieces of prompts and one token for each sequence of a batch; or several decode steps that are alike.

    Attributes
    ----------
    batch, context
        Sequences that decode, and their mean number of cached tokens.
    budget
        Tokens that are not spent yet.
    preempted
        Whether a sequence lost its blocks when the step was put together.
    pieces, complete, ending
        Parts of prompts, prompts that are complete with it, requests that have all of their tokens after it.
    count, begin
        How many steps it stands for, and when it began, s.
    longest
        Steps for which `elapsed` holds.
    lag
        How much later its results come out, s.
    """

    __slots__ = (
        "batch",
        "begin",
        "budget",
        "complete",
        "context",
        "count",
        "ending",
        "first",
        "growth",
        "lag",
        "longest",
        "pieces",
        "preempted",
    )

    def __init__(self, batch: int, budget: int, context: float, preempted: bool) -> None:
        self.batch, self.budget, self.context, self.preempted = batch, budget, context, preempted
        self.pieces: list[Piece] = []
        self.complete: list[Request] = []
        self.ending: list[Request] = []
        self.count = self.longest = 1
        self.begin = math.nan
        self.first = self.growth = self.lag = 0.0

    @property
    def lasting(self) -> bool:
        """Whether the step after it can be the same."""
        return not (self.pieces or self.ending or self.preempted)

    def time(self, times: StepTimes) -> None:
        """Find out how long it takes."""
        if self.pieces:
            self.first, self.lag = times.mixed(self.pieces, self.batch, self.context)
            return
        line = times.decode(self.batch, self.context)
        self.first, self.growth = line.base + line.slope * self.context, line.slope
        self.longest = int(min(line.until - self.context, 1e9)) + 1

    def elapsed(self, count: int) -> float:
        """Return the time that its first ``count`` repetitions take, s."""
        return count * self.first + self.growth * count * (count - 1) / 2.0

    def finished_by(self, time: float) -> int:
        """Return the least number of repetitions, at least 1, that last until ``time``, s, or beyond."""
        target = time - self.begin
        low, high = 1, self.count
        while low < high:
            middle = (low + high) // 2
            if self.elapsed(middle) >= target:
                high = middle
            else:
                low = middle + 1
        return low

    def title(self) -> str:
        """Return what a timeline calls it."""
        if not self.pieces:
            return f"{self.count} x batch {self.batch}"
        return f"{sum(piece.end - piece.start for piece in self.pieces)} tokens + batch {self.batch}"
