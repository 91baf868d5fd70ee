"""The solver of `planner.simulate.fairness` over arrays, compiled by numba; same algorithm, same answers.

Imported only where numba is installed. Numba looks for changes only in the module of the function that is
called before it uses what it compiled earlier: whoever changes a module of kernels has to change a line in
those that use it, too.
"""

from __future__ import annotations

import numpy as np

from planner.simulate.fairness import ROUNDING
from planner.simulate.fluid import SAME_RATE, IntArray
from planner.simulate.kernel_flows import account, lacks_room, link, refresh, set_finish, unlink
from planner.simulate.kernel_heaps import compiled, pop, sift_down, sift_up
from planner.simulate.layout import (
    GAINED,
    IN_SOLVE,
    NUM_GAINED,
    NUM_LEVELS,
    NUM_MOVING,
    NUM_TOUCHED,
    OUT_OF_IT,
    Records,
    State,
)


@compiled
def touch(s: State, number: int) -> None:
    """Let a row take part in this solve."""
    row = s.rows[number]
    if row.touched:
        return
    row.touched, row.outside = IN_SOLVE, row.total
    row.weight, row.num_members, row.members_held = 0.0, 0, 0
    row.used, row.demand, row.open, row.level, row.peak = 0.0, 0.0, 0, -1.0, 0.0
    s.touched[s.counts[NUM_TOUCHED]] = number
    s.counts[NUM_TOUCHED] += 1


@compiled
def share_of(s: State, number: int) -> float:
    """Return the rate at which a row is full if its moving flows rise; -1 when it is full without any."""
    row = s.rows[number]
    free = row.capacity - row.outside - row.used
    if row.open:
        return float(max(free, 0.0) / row.demand)
    return -1.0 if free <= ROUNDING * row.capacity else np.inf


@compiled
def next_level(s: State, number: int) -> float:
    """Return the rate at which a row fills up, or from which on those that it holds back may gain."""
    row = s.rows[number]
    held = row.slowest_held if row.num_held > row.members_held else np.inf
    return min(share_of(s, number), held) if row.open else held


@compiled
def queue_level(s: State, item: int, level: float) -> None:
    """Queue a row, or a capped flow, at a level, or at a lower one than before."""
    s.levels[item] = level
    if s.level_place[item] < 0:
        s.items[s.counts[NUM_LEVELS]] = item
        s.level_place[item] = s.counts[NUM_LEVELS]
        s.counts[NUM_LEVELS] += 1
    sift_up(s.levels, s.items, s.level_place, s.level_place[item])


@compiled
def drop_level(s: State) -> None:
    """Take the first row or capped flow out of the queue."""
    pop(s.levels, s.items, s.level_place, s.counts[NUM_LEVELS])
    s.counts[NUM_LEVELS] -= 1


@compiled
def join(s: State, width: int, number: int) -> None:
    """Let a flow move in this solve."""
    flow = s.flows[number]
    if flow.moving:
        return
    flow.moving, flow.new_rate = 1, -1.0
    s.moving[s.counts[NUM_MOVING]] = number
    s.counts[NUM_MOVING] += 1
    if flow.limit >= 0:
        touch(s, s.hops[flow.limit].row)
        s.rows[s.hops[flow.limit].row].members_held += 1
    if flow.cap < np.inf:
        queue_level(s, s.rows.size + number, flow.cap)
    for i in range(number * width, number * width + flow.num_hops):
        hop = s.hops[i]
        touch(s, hop.row)
        row = s.rows[hop.row]
        row.num_members += 1
        row.open += 1
        row.weight += hop.weight
        row.demand += hop.weight
        row.outside = row.outside - hop.weight * flow.rate if row.num_members < row.num_flows else 0.0
        if row.touched == IN_SOLVE:
            row.touched = GAINED
            s.gained[s.counts[NUM_GAINED]] = hop.row
            s.counts[NUM_GAINED] += 1


@compiled
def queue_gained(s: State) -> None:
    """Queue the rows that flows have joined on at their present levels."""
    for i in range(s.counts[NUM_GAINED]):
        number = s.gained[i]
        s.rows[number].touched = IN_SOLVE
        level = next_level(s, number)
        if s.level_place[number] < 0 or level < s.levels[number]:
            queue_level(s, number, level)
    s.counts[NUM_GAINED] = 0


@compiled
def freeze(s: State, width: int, number: int, rate: float, limit: int) -> None:
    """Fix the new rate of a flow."""
    flow = s.flows[number]
    flow.new_rate, flow.new_limit = rate, limit
    for i in range(number * width, number * width + flow.num_hops):
        hop = s.hops[i]
        row = s.rows[hop.row]
        row.used += hop.weight * rate
        row.demand -= hop.weight
        row.peak = rate
        row.open -= 1


@compiled
def freeze_row(s: State, width: int, number: int) -> None:
    """Freeze the moving flows of a row that is full."""
    row = s.rows[number]
    if not row.open:
        return
    row.level = share = share_of(s, number)
    for k in range(row.first, row.first + row.num_flows):
        entry = s.entries[k]
        if s.flows[entry.flow].new_rate < 0.0:
            freeze(s, width, entry.flow, share, entry.hop)
            if row.open == 0:
                break


@compiled
def join_at(s: State, width: int, number: int) -> bool:
    """Let standing flows of a row move that its level now concerns; return whether there were any.

    They are those that are faster than others may be on the full row, or those that it holds back no longer.
    """
    row, before = s.rows[number], s.counts[NUM_MOVING]
    share = share_of(s, number)
    too_fast = share * (1.0 + ROUNDING) if share >= 0.0 else np.inf
    gain = row.num_held > row.members_held and share > row.slowest_held * (1.0 + ROUNDING)
    if gain or row.fastest > too_fast:
        row.fastest = 0.0
        for k in range(row.first, row.first + row.num_flows):
            entry = s.entries[k]
            flow = s.flows[entry.flow]
            if flow.moving:
                continue
            if flow.rate > too_fast or (gain and flow.limit == entry.hop):
                join(s, width, entry.flow)
            else:
                row.fastest = max(row.fastest, flow.rate)
    return bool(s.counts[NUM_MOVING] > before)


@compiled
def fill(s: State, width: int) -> None:
    """Raise the rates of all moving flows together, freezing those that meet a full row or their cap.

    Levels are visited from the lowest up. Whoever joins on the way was at least as fast as the present level,
    so that what is frozen below it stays right.
    """
    queue_gained(s)
    while s.counts[NUM_LEVELS]:
        item = s.items[0]
        if item >= s.rows.size:
            drop_level(s)
            flow = item - s.rows.size
            if s.flows[flow].new_rate < 0.0:
                freeze(s, width, flow, s.flows[flow].cap, -1)
            continue
        level = next_level(s, item)
        if level == np.inf:  # all of its flows are frozen, and it holds nobody back
            drop_level(s)
            continue
        if level > s.levels[item]:  # the row got more room per flow since it was queued
            s.levels[item] = level
            sift_down(s.levels, s.items, s.level_place, s.counts[NUM_LEVELS], 0)
            if s.items[0] != item:
                continue
        if join_at(s, width, item):
            queue_gained(s)
        else:
            drop_level(s)
            freeze_row(s, width, item)


@compiled
def restart(s: State) -> None:
    """Begin again to fill the rows, with all flows that move by now."""
    queue_gained(s)
    while s.counts[NUM_LEVELS]:
        drop_level(s)
    for i in range(s.counts[NUM_MOVING]):
        flow = s.flows[s.moving[i]]
        flow.new_rate = -1.0
        if flow.cap < np.inf:
            queue_level(s, s.rows.size + s.moving[i], flow.cap)
    for i in range(s.counts[NUM_TOUCHED]):
        row = s.rows[s.touched[i]]
        row.used, row.demand, row.open, row.level, row.peak = 0.0, row.weight, row.num_members, -1.0, 0.0
        queue_level(s, s.touched[i], next_level(s, s.touched[i]))


@compiled
def join_disturbed(s: State, width: int) -> bool:
    """Let standing flows move whose rate cannot stay: too fast for a full row, or no longer held back."""
    before = s.counts[NUM_MOVING]
    for i in range(s.counts[NUM_TOUCHED]):
        row = s.rows[s.touched[i]]
        if row.num_members == 0 or row.num_members == row.num_flows:
            continue
        full = row.capacity - row.outside - row.used <= ROUNDING * row.capacity
        too_fast = row.level * (1.0 + ROUNDING) if row.level >= 0.0 else np.inf
        held = row.peak * (1.0 - ROUNDING) if full else np.inf
        if row.fastest <= too_fast and (row.num_held == row.members_held or row.slowest_held >= held):
            continue
        row.fastest = 0.0
        for k in range(row.first, row.first + row.num_flows):
            entry = s.entries[k]
            flow = s.flows[entry.flow]
            if flow.moving:
                continue
            if flow.rate > too_fast or (flow.limit == entry.hop and flow.rate < held):
                join(s, width, entry.flow)
            else:
                row.fastest = max(row.fastest, flow.rate)
    return bool(s.counts[NUM_MOVING] > before)


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
    set_finish(s, number, now + flow.remaining / flow.rate if flow.rate > 0.0 else np.inf)


@compiled
def settle(s: State, now: float, changes: Records, num_changes: int) -> int:
    """Apply the new rates, append changed loads to ``changes`` and return how many it holds."""
    for i in range(s.counts[NUM_TOUCHED]):
        row = s.rows[s.touched[i]]
        row.touched = OUT_OF_IT
        if row.num_members:
            row.fastest = row.peak if row.num_members == row.num_flows else max(row.fastest, row.peak)
        if row.level >= 0.0:
            alone = row.num_held == row.members_held
            row.slowest_held = row.level if alone else min(row.slowest_held, row.level)
        row.total = row.outside + row.used
        load = row.capacity if row.capacity - row.total <= ROUNDING * row.capacity else row.total
        if load != row.load:
            row.load = load
            change = changes[num_changes]
            change.time, change.row, change.load = now, s.touched[i], load
            num_changes += 1
    for i in range(s.counts[NUM_MOVING]):
        s.flows[s.moving[i]].moving = 0
        move(s, s.moving[i], now)
    refresh(s)
    return num_changes


@compiled
def join_everyone(s: State, width: int, number: int) -> None:
    """Let all flows of a row move."""
    row = s.rows[number]
    for k in range(row.first, row.first + row.num_flows):
        join(s, width, s.entries[k].flow)


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
    """Solve for the rates from ``now`` on; return how many ``changes`` of load are logged.

    It does nothing, and returns -1, where the list of flows of some row is too short.
    """
    if lacks_room(s, arriving):
        return -1
    width = s.hops.size // s.flows.size
    s.counts[NUM_MOVING] = s.counts[NUM_TOUCHED] = s.counts[NUM_LEVELS] = 0
    for flow in leaving:
        unlink(s, width, flow)
    for flow in leaving:
        for i in range(flow * width, flow * width + s.flows[flow].num_hops):
            number = s.hops[i].row
            touch(s, number)
            if s.rows[number].num_held:
                queue_level(s, number, s.rows[number].slowest_held)
    for flow in arriving:
        s.began[flow] = s.flows[flow].since = now
        link(s, width, flow)
        join(s, width, flow)
    for row in resized:
        join_everyone(s, width, row)
    fill(s, width)
    while join_disturbed(s, width):  # only where rounding hid something
        restart(s)
        fill(s, width)
    return settle(s, now, changes, num_changes)
