"""All flows of a trace in one compiled loop; see `planner.simulate.kernels`."""

from __future__ import annotations

import numpy as np

from planner.simulate.kernel_flows import take_due
from planner.simulate.kernel_heaps import compiled, pop, sift_up
from planner.simulate.kernels import update
from planner.simulate.layout import NUM_QUEUED, Records, State, Trace


@compiled
def release(t: Trace, number: int, now: float) -> None:
    """Queue a flow of a trace, for none of those before it is missing."""
    t.begin[number] = max(t.start[number], now) + t.wait[number]
    t.queue[t.counts[NUM_QUEUED]] = number
    t.place[number] = t.counts[NUM_QUEUED]
    t.counts[NUM_QUEUED] += 1
    sift_up(t.begin, t.queue, t.place, t.place[number])


@compiled
def arrive(t: Trace, number: int, now: float) -> None:
    """Note the end of a flow of a trace, and release those that waited for it only."""
    t.finish[number] = now
    for i in range(t.first_dependent[number], t.first_dependent[number + 1]):
        other = t.dependents[i]
        t.blockers[other] -= 1
        if t.blockers[other] == 0:
            release(t, other, now)


@compiled
def run_trace(s: State, t: Trace, changes: Records) -> None:
    """Send all flows of a trace; what begins and ends at one time is one event."""
    none = t.dependents[:0]
    for flow in range(t.start.size):
        if t.blockers[flow] == 0:
            release(t, flow, 0.0)
    while True:
        now = t.begin[t.queue[0]] if t.counts[NUM_QUEUED] else np.inf
        if s.queue.size:
            now = min(now, s.first_finish[s.queue[0]])
        if now == np.inf:
            break
        now_or_so = now + 4.0 * np.spacing(now)
        num_left, num_came = take_due(s, now, now_or_so, t.leaving), 0
        for i in range(num_left):
            arrive(t, t.leaving[i], now)
        while t.counts[NUM_QUEUED] and t.begin[t.queue[0]] <= now:
            flow = pop(t.begin, t.queue, t.place, t.counts[NUM_QUEUED])
            t.counts[NUM_QUEUED] -= 1
            if s.flows[flow].num_hops and s.flows[flow].remaining > 0.0:
                t.arriving[num_came] = flow
                num_came += 1
            else:
                arrive(t, flow, now)
        update(s, now, t.arriving[:num_came], t.leaving[:num_left], none, changes, 0)
