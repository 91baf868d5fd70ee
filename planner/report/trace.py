"""A simulation as a trace for Perfetto and ``chrome://tracing``.

References
----------
.. [1] "Trace Event Format", Google, 2016: complete events ``X``, counters ``C``, metadata ``M``; times in us.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from planner.report.names import natural
from planner.simulate.result import JobSimulation, LinkUse, SimulationResult, TimelineSpan

Event = dict[str, object]
MICROSECONDS = 1e6


def chrome_trace(simulation: SimulationResult) -> dict[str, object]:
    """Return the timelines of all jobs and the use of links as Trace Event JSON data.

    Each job is a process and each track a thread; spans of a track that overlap get threads of their own,
    because a viewer shows only nested slices on one thread. Counters give link use in per cent.
    """
    events: list[Event] = []
    for index, job in enumerate(simulation.jobs):
        events += _job_events(job, index + 1)
    links = [link for link in simulation.links if link.series]
    if links:
        pid = len(simulation.jobs) + 1
        events.append(_named("process_name", pid, 0, "link use, %"))
        for link in links:
            events += _counter(link, pid, simulation.horizon)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "plan": simulation.plan,
            "plan_digest": simulation.plan_digest,
            "seed": simulation.seed,
        },
    }


def _named(what: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _job_events(job: JobSimulation, pid: int) -> Iterator[Event]:
    yield _named("process_name", pid, 0, job.name)
    tracks: dict[str, list[TimelineSpan]] = defaultdict(list)
    for span in job.timeline:
        tracks[span.track].append(span)
    tid = 0
    for track in sorted(tracks, key=natural):
        for lane, spans in enumerate(lanes(tracks[track])):
            tid += 1
            yield _named("thread_name", pid, tid, track if lane == 0 else f"{track} ({lane + 1})")
            yield {
                "ph": "M",
                "name": "thread_sort_index",
                "pid": pid,
                "tid": tid,
                "args": {"sort_index": tid},
            }
            yield from (_slice(span, pid, tid) for span in spans)


def _slice(span: TimelineSpan, pid: int, tid: int) -> Event:
    start, end = _instant(span.start), _instant(span.end)
    duration = round(max(0.0, end - start), 3)
    where = {"pid": pid, "tid": tid}
    return {"ph": "X", "name": span.name, "cat": span.category, **where, "ts": start, "dur": duration}


def _instant(seconds: float) -> float:
    """Return a time in us, to the nanosecond that viewers resolve."""
    return round(max(0.0, seconds) * MICROSECONDS, 3)


def lanes(spans: Iterable[TimelineSpan]) -> Sequence[Sequence[TimelineSpan]]:
    """Return spans spread over as few lanes as needed so that none overlap in a lane, in order of start."""
    result: list[list[TimelineSpan]] = []
    for span in sorted(spans, key=lambda each: (each.start, each.end)):
        lane = next((lane for lane in result if lane[-1].end <= span.start), None)
        if lane is None:
            result.append(lane := [])
        lane.append(span)
    return result


def _counter(link: LinkUse, pid: int, horizon: float) -> Iterator[Event]:
    name = f"{link.source} → {link.target}"
    points = sorted(link.series)
    if points[-1][0] < horizon:
        points.append((horizon, points[-1][1]))
    for time, utilisation in points:
        yield {
            "ph": "C", "name": name, "pid": pid, "tid": 0, "ts": _instant(time),
            "args": {"use": 100.0 * utilisation},
        }  # fmt: skip
