"""What the simulation of one job hands to the result document."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from planner.simulate.measures import RequestRecords
from planner.simulate.result import JobSimulation, LinkUse, TimelineSpan

MOST_SPANS = 4000
Category = Literal["forward", "backward", "communication", "optimizer", "prefill", "decode", "cpu", "copy"]


@dataclass(frozen=True)
class JobOutcome:
    """A job's record, the use of the links under it, the time that was simulated, s, and its requests."""

    job: JobSimulation
    links: list[LinkUse]
    horizon: float
    requests: RequestRecords | None = None


class Busy(NamedTuple):
    """One busy interval of a track, s: a `TimelineSpan` before it is known whether it is kept."""

    start: float
    track: str
    end: float
    name: str
    category: Category


def beginning(spans: Iterable[Busy], most: int = MOST_SPANS) -> list[TimelineSpan]:
    """Return the first spans in order of time."""
    return [_span(busy) for busy in heapq.nsmallest(most, spans)]


def both_ends(spans: Sequence[Busy], most: int = MOST_SPANS) -> list[TimelineSpan]:
    """Return spans in order of time; of too many those of the beginning and of the end."""
    ordered = sorted(spans)
    if len(ordered) > most:
        ordered = ordered[: most - most // 2] + ordered[-(most // 2) :]
    return [_span(busy) for busy in ordered]


def _span(busy: Busy) -> TimelineSpan:
    return TimelineSpan.model_construct(  # checked by type, thousands of times
        track=busy.track, name=busy.name, category=busy.category, start=busy.start, end=busy.end
    )
