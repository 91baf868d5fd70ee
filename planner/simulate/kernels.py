"""The solver of `planner.simulate.fairness` over arrays, compiled by numba; same algorithm, same answers.

Imported only where numba is installed. Numba looks for changes only in the module of the function that is
called before it uses what it compiled earlier: whoever changes the heaps has to change a line here, too.
"""

from __future__ import annotations

import numpy as np

from planner.simulate.fairness import ROUNDING
from planner.simulate.fluid import SAME_RATE, SAME_TIME, IntArray
from planner.simulate.kernel_heaps import compiled, pop, sift_down, sift_up, sink
from planner.simulate.layout import NUM_MOVING, NUM_QUEUED, NUM_TOUCHED, Records, State, Trace


@compiled
def put_first(s: State, at: int) -> None:
    """Put a hop at the head of the list of its row."""
    hop = s.hops[at]
    row = s.rows[hop.row]
    hop.next, hop.previous = row.head, -1
    if row.head >= 0:
        s.hops[row.head].previous = at
    row.head = at


@compiled
def take_out(s: State, at: int) -> None:
    """Take a hop off the list of its row."""
    hop = s.hops[at]
    if hop.previous >= 0:
        s.hops[hop.previous].next = hop.next
    else:
        s.rows[hop.row].head = hop.next
    if hop.next >= 0:
        s.hops[hop.next].previous = hop.previous


@compiled
def link(s: State, width: int, number: int) -> None:
    """Put a flow on its rows."""
    flow = s.flows[number]
    for k in range(flow.num_hops):
        step = s.steps[flow.first_step + k]
        hop = s.hops[number * width + k]
        hop.row, hop.weight, hop.flow, hop.lost = step.row, step.weight, number, 0.0
        put_first(s, number * width + k)
        s.rows[step.row].num_flows += 1


@compiled
def unlink(s: State, width: int, number: int) -> None:
    """Take a flow off its rows."""
    flow = s.flows[number]
    for i in range(number * width, number * width + flow.num_hops):
        hop = s.hops[i]
        row = s.rows[hop.row]
        take_out(s, i)
        row.num_flows -= 1
        row.total -= hop.weight * flow.rate
        if row.num_flows == 0:
            row.total = row.fastest = 0.0
    if flow.limit >= 0:
        s.rows[s.hops[flow.limit].row].num_held -= 1


@compiled
def touch(s: State, number: int) -> None:
    """Let a row take part in this solve."""
    row = s.rows[number]
    if row.touched:
        return
    row.touched, row.outside = 1, row.total
    row.weight, row.num_members, row.members_held = 0.0, 0, 0
    s.touched[s.counts[NUM_TOUCHED]] = number
    s.counts[NUM_TOUCHED] += 1


@compiled
def join(s: State, width: int, number: int) -> None:
    """Let a flow move in this solve; on its rows the moving flows come first."""
    flow = s.flows[number]
    if flow.moving:
        return
    flow.moving = 1
    s.moving[s.counts[NUM_MOVING]] = number
    s.counts[NUM_MOVING] += 1
    for i in range(number * width, number * width + flow.num_hops):
        hop = s.hops[i]
        touch(s, hop.row)
        row = s.rows[hop.row]
        if row.head != i:
            take_out(s, i)
            put_first(s, i)
        row.num_members += 1
        row.weight += hop.weight
        row.outside -= hop.weight * flow.rate
    if flow.limit >= 0:
        s.rows[s.hops[flow.limit].row].members_held += 1


@compiled
def freeze(s: State, width: int, number: int, rate: float, limit: int) -> None:
    """Fix the new rate of a flow."""
    flow = s.flows[number]
    flow.new_rate, flow.new_limit = rate, limit
    for i in range(number * width, number * width + flow.num_hops):
        hop = s.hops[i]
        row = s.rows[hop.row]
        row.free -= hop.weight * rate
        row.demand -= hop.weight
        row.peak = rate
        row.open -= 1


@compiled
def queue_levels(s: State) -> int:
    """Queue every touched row at its fair share and every capped flow at its cap; return how many."""
    size = 0
    for i in range(s.counts[NUM_TOUCHED]):
        row = s.rows[s.touched[i]]
        row.level, row.peak = -1.0, 0.0
        row.demand, row.open = row.weight, row.num_members
        if row.num_members == row.num_flows:
            row.outside = 0.0
        row.free = max(row.capacity - row.outside, 0.0)
        if row.num_members:
            s.levels[size], s.items[size] = row.free / row.demand, s.touched[i]
            size += 1
    for i in range(s.counts[NUM_MOVING]):
        flow = s.flows[s.moving[i]]
        flow.new_rate = -1.0
        if flow.cap < np.inf:
            s.levels[size], s.items[size] = flow.cap, s.rows.size + s.moving[i]
            size += 1
    for i in range(size // 2 - 1, -1, -1):
        sink(s.levels, s.items, size, i)
    return size


@compiled
def freeze_row(s: State, width: int, number: int, share: float) -> int:
    """Freeze the moving flows of a full row and return how many there were."""
    row = s.rows[number]
    row.level, count, at = share, row.open, row.head
    while row.open > 0:
        flow = s.hops[at].flow
        if s.flows[flow].moving and s.flows[flow].new_rate < 0.0:
            freeze(s, width, flow, share, at)
        at = s.hops[at].next
    return int(count)


@compiled
def fill(s: State, width: int) -> None:
    """Raise the rates of all moving flows together, freezing those that meet a full row or their cap."""
    size, left = queue_levels(s), s.counts[NUM_MOVING]
    while left:
        item = s.items[0]
        if item >= s.rows.size:
            flow = item - s.rows.size
            if s.flows[flow].new_rate < 0.0:
                freeze(s, width, flow, s.flows[flow].cap, -1)
                left -= 1
        elif s.rows[item].open > 0:
            row = s.rows[item]
            share = max(row.free, 0.0) / row.demand
            if share > s.levels[0]:  # the row got more room per flow since it was queued
                s.levels[0] = share
                sink(s.levels, s.items, size, 0)
                if s.items[0] != item:
                    continue
            left -= freeze_row(s, width, item, share)
        size -= 1
        s.levels[0], s.items[0] = s.levels[size], s.items[size]
        sink(s.levels, s.items, size, 0)


@compiled
def join_disturbed(s: State, width: int) -> bool:
    """Let standing flows move whose rate cannot stay: too fast for a full row, or no longer held back."""
    before = s.counts[NUM_MOVING]
    for i in range(s.counts[NUM_TOUCHED]):
        row = s.rows[s.touched[i]]
        if row.num_members == 0 or row.num_members == row.num_flows:
            continue
        too_fast = row.level * (1.0 + ROUNDING) if row.level >= 0.0 else np.inf
        held = row.peak * (1.0 - ROUNDING) if row.free <= ROUNDING * row.capacity else np.inf
        if row.fastest <= too_fast and (row.num_held == row.members_held or row.slowest_held >= held):
            continue
        row.fastest, at = 0.0, row.head
        while at >= 0:
            hop, here = s.hops[at], at
            flow, at = s.flows[hop.flow], hop.next
            if flow.moving:
                continue
            if flow.rate > too_fast or (flow.limit == here and flow.rate < held):
                join(s, width, hop.flow)
            else:
                row.fastest = max(row.fastest, flow.rate)
    return bool(s.counts[NUM_MOVING] > before)


@compiled
def account(s: State, number: int, now: float) -> None:
    """Bring the remaining bytes, and the time lost to the limiting row, up to ``now``."""
    flow = s.flows[number]
    elapsed = now - flow.since
    if elapsed <= 0.0:
        return
    flow.since = now
    flow.remaining = max(flow.remaining - flow.rate * elapsed, 0.0)
    if flow.limit >= 0 and flow.rate < flow.alone:
        s.hops[flow.limit].lost += elapsed * (1.0 - flow.rate / flow.alone)


@compiled
def move(s: State, number: int, now: float) -> None:
    """Give a flow its new rate from ``now`` on."""
    flow = s.flows[number]
    same = abs(flow.new_rate - flow.rate) <= SAME_RATE * flow.rate and flow.since < now
    if same and flow.limit == flow.new_limit:
        return
    account(s, number, now)
    if flow.limit >= 0:
        s.rows[s.hops[flow.limit].row].num_held -= 1
    if flow.new_limit >= 0:
        s.rows[s.hops[flow.new_limit].row].num_held += 1
    flow.limit = flow.new_limit
    if same:
        return
    flow.rate = flow.new_rate
    s.finish[number] = now + flow.remaining / flow.rate if flow.rate > 0.0 else np.inf
    if s.place[number] < 0:
        s.queue[s.counts[NUM_QUEUED]] = number
        s.place[number] = s.counts[NUM_QUEUED]
        s.counts[NUM_QUEUED] += 1
    sift_up(s.finish, s.queue, s.place, s.place[number])
    sift_down(s.finish, s.queue, s.place, s.counts[NUM_QUEUED], s.place[number])


@compiled
def settle(s: State, now: float, changes: Records, num_changes: int) -> int:
    """Apply the new rates, append changed loads to ``changes`` and return how many it holds."""
    for i in range(s.counts[NUM_TOUCHED]):
        row = s.rows[s.touched[i]]
        row.touched = 0
        if row.num_members:
            row.fastest = row.peak if row.num_members == row.num_flows else max(row.fastest, row.peak)
        if row.level >= 0.0:
            alone = row.num_held == row.members_held
            row.slowest_held = row.level if alone else min(row.slowest_held, row.level)
        row.total = row.capacity - row.free
        load = row.capacity if row.free <= ROUNDING * row.capacity else row.total
        if load != row.load:
            row.load = load
            change = changes[num_changes]
            change.time, change.row, change.load = now, s.touched[i], load
            num_changes += 1
    for i in range(s.counts[NUM_MOVING]):
        s.flows[s.moving[i]].moving = 0
        move(s, s.moving[i], now)
    return num_changes


@compiled
def join_held(s: State, width: int, number: int, everyone: bool) -> None:
    """Let the flows move that a row holds back, or everyone on it."""
    at = s.rows[number].head
    while at >= 0:
        hop = s.hops[at]
        if everyone or s.flows[hop.flow].limit == at:
            join(s, width, hop.flow)
        at = hop.next


@compiled
def update(
    s: State,
    now: float,
    arriving: IntArray,
    leaving: IntArray,
    resized: IntArray,
    changes: Records,
    num_changes: int,
) -> int:
    """Solve for the rates from ``now`` on; return how many ``changes`` of load are logged."""
    width = s.hops.size // s.flows.size
    s.counts[NUM_MOVING] = s.counts[NUM_TOUCHED] = 0
    for flow in leaving:
        unlink(s, width, flow)
    for flow in leaving:
        for i in range(flow * width, flow * width + s.flows[flow].num_hops):
            touch(s, s.hops[i].row)
            join_held(s, width, s.hops[i].row, False)
    for flow in arriving:
        s.flows[flow].began = s.flows[flow].since = now
        link(s, width, flow)
        join(s, width, flow)
    for row in resized:
        join_held(s, width, row, True)
    fill(s, width)
    while join_disturbed(s, width):
        fill(s, width)
    return settle(s, now, changes, num_changes)


@compiled
def take_due(s: State, now: float, now_or_so: float, ended: IntArray) -> int:
    """Take out the flows that have drained by ``now``; put them into ``ended`` and return how many."""
    width = s.hops.size // s.flows.size
    num_ended = 0
    while s.counts[NUM_QUEUED] > 0:
        flow = s.queue[0]
        if s.finish[flow] == np.inf or s.finish[flow] > now_or_so + SAME_TIME * (now - s.flows[flow].began):
            break
        pop(s.finish, s.queue, s.place, s.counts[NUM_QUEUED])
        s.counts[NUM_QUEUED] -= 1
        account(s, flow, now)
        for i in range(flow * width, flow * width + s.flows[flow].num_hops):
            s.rows[s.hops[i].row].waiting += s.hops[i].lost
        ended[num_ended] = flow
        num_ended += 1
    return num_ended


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
        if s.counts[NUM_QUEUED]:
            now = min(now, s.finish[s.queue[0]])
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
