"""Flows on their rows, and when they end, over arrays; compiled by numba, see `planner.simulate.kernels`."""

from __future__ import annotations

import numpy as np

from planner.simulate.fluid import SAME_TIME, IntArray
from planner.simulate.kernel_heaps import compiled, sift_down, sift_up
from planner.simulate.layout import BLOCK, NUM_STALE, State


@compiled
def link(s: State, width: int, number: int) -> None:
    """Put a flow on its rows."""
    flow = s.flows[number]
    for k in range(flow.num_hops):
        step, i = s.steps[flow.first_step + k], number * width + k
        row, hop = s.rows[step.row], s.hops[i]
        hop.row, hop.weight, hop.place, s.lost[i] = step.row, step.weight, row.num_flows, 0.0
        entry = s.entries[row.first + row.num_flows]
        entry.flow, entry.hop = number, i
        row.num_flows += 1


@compiled
def unlink(s: State, width: int, number: int) -> None:
    """Take a flow off its rows."""
    flow = s.flows[number]
    for i in range(number * width, number * width + flow.num_hops):
        hop = s.hops[i]
        row = s.rows[hop.row]
        row.num_flows -= 1
        last, entry = s.entries[row.first + row.num_flows], s.entries[row.first + hop.place]
        entry.flow, entry.hop = last.flow, last.hop
        s.hops[last.hop].place = hop.place
        row.total -= hop.weight * flow.rate
        if row.num_flows == 0:
            row.total = row.fastest = 0.0
    if flow.limit >= 0:
        s.rows[s.hops[flow.limit].row].num_held -= 1


@compiled
def lacks_room(s: State, arriving: IntArray) -> bool:
    """Return whether the list of some row is too short for the flows that come."""
    lacks = False
    for flow in arriving:
        for k in range(s.flows[flow].first_step, s.flows[flow].first_step + s.flows[flow].num_hops):
            row = s.rows[s.steps[k].row]
            row.num_flows += 1
            lacks = lacks or row.num_flows > row.room
    for flow in arriving:
        for k in range(s.flows[flow].first_step, s.flows[flow].first_step + s.flows[flow].num_hops):
            s.rows[s.steps[k].row].num_flows -= 1
    return lacks


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
        s.lost[flow.limit] += elapsed * (1.0 - flow.rate / flow.alone)


@compiled
def set_finish(s: State, number: int, time: float) -> None:
    """Note when a flow ends; `refresh` brings the queue up to date."""
    s.finish[number] = time
    block = number // BLOCK
    if not s.is_stale[block]:
        s.is_stale[block] = 1
        s.stale[s.counts[NUM_STALE]] = block
        s.counts[NUM_STALE] += 1


@compiled
def refresh(s: State) -> None:
    """Order the blocks whose finish times have changed."""
    for i in range(s.counts[NUM_STALE]):
        block = s.stale[i]
        s.is_stale[block] = 0
        first = np.inf
        for k in range(block * BLOCK, (block + 1) * BLOCK):
            first = min(first, s.finish[k])
        earlier = first < s.first_finish[block]
        s.first_finish[block] = first
        if earlier:
            sift_up(s.first_finish, s.queue, s.place, s.place[block])
        else:
            sift_down(s.first_finish, s.queue, s.place, s.queue.size, s.place[block])
    s.counts[NUM_STALE] = 0


@compiled
def first_ending(s: State) -> int:
    """Return the flow that ends first, if any does."""
    number = s.queue[0] * BLOCK
    while s.finish[number] != s.first_finish[s.queue[0]]:
        number += 1
    return int(number)


@compiled
def take_due(s: State, now: float, now_or_so: float, ended: IntArray) -> int:
    """Take out the flows that have drained by ``now``; put them into ``ended`` and return how many."""
    width = s.hops.size // s.flows.size
    num_ended = 0
    while s.queue.size and s.first_finish[s.queue[0]] < np.inf:
        flow = first_ending(s)
        if s.finish[flow] > now_or_so + SAME_TIME * (now - s.began[flow]):
            break
        set_finish(s, flow, np.inf)
        refresh(s)
        account(s, flow, now)
        for i in range(flow * width, flow * width + s.flows[flow].num_hops):
            s.rows[s.hops[i].row].waiting += s.lost[i]
        ended[num_ended] = flow
        num_ended += 1
    return num_ended
