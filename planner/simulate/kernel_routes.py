"""The routes of a trace over arrays, compiled by numba: which links are spare, and the steps over the others.

Paths lie one after another in ``links``; that of flow ``i`` from ``first[i]`` until before ``first[i + 1]``.
"""

from __future__ import annotations

from planner.simulate.fluid import FloatArray, IntArray
from planner.simulate.kernel_heaps import compiled
from planner.simulate.layout import Records
from planner.simulate.thinning import Mask


@compiled
def meet(
    links: IntArray, first: IntArray, flow: int, seen: IntArray, first_flow: IntArray, beside: Mask
) -> bool:
    """Take account of the path of a flow, see `find_spare`; return whether it crosses no link twice."""
    for i in range(first[flow], first[flow + 1]):
        if seen[links[i]] == flow:
            return False
        seen[links[i]] = flow
        if first_flow[links[i]] < 0:
            first_flow[links[i]] = flow
    for i in range(first[flow], first[flow + 1]):
        start = first[first_flow[links[i]]]
        for k in range(first[first_flow[links[i]] + 1] - start):
            if seen[links[start + k]] != flow:
                beside[links[i], k] = False
    return True


@compiled
def find_spare(
    links: IntArray,
    first: IntArray,
    rates: FloatArray,
    seen: IntArray,
    first_flow: IntArray,
    beside: Mask,
    spare: Mask,
) -> None:
    """Mark the links that some other one makes superfluous, as `planner.simulate.thinning` defines it.

    Parameters
    ----------
    seen, first_flow
        By link, -1: the flow that was last seen on it, and the first one.
    beside
        By link and place on the path of its first flow, true: whether that link is on all paths of this one.
    spare
        By link, false: the result.
    """
    for flow in range(first.size - 1):
        if not meet(links, first, flow, seen, first_flow, beside):
            return
    for link in range(rates.size):
        if first_flow[link] < 0:
            continue
        start = first[first_flow[link]]
        for k in range(first[first_flow[link] + 1] - start):
            other = links[start + k]
            tighter = rates[other] < rates[link] or (rates[other] == rates[link] and other < link)
            spare[link] |= beside[link, k] and tighter


@compiled
def lay_out(
    links: IntArray,
    first: IntArray,
    spare: Mask,
    latency: FloatArray,
    wait: FloatArray,
    at: IntArray,
    steps: Records,
    num_hops: IntArray,
    room: IntArray,
) -> int:
    """Write the steps over links that are not spare, one per flow and link; return how many there are.

    Parameters
    ----------
    wait
        By flow, s: grows by the latency of the path.
    at
        By link, -1: its latest step.
    num_hops, room
        By flow and by link, zero: how many steps there are.
    """
    count = 0
    for flow in range(first.size - 1):
        begin = count
        for i in range(first[flow], first[flow + 1]):
            link = links[i]
            wait[flow] += latency[link]
            if spare[link]:
                continue
            if at[link] >= begin:
                steps[at[link]].weight += 1.0
                continue
            step = steps[count]
            step.row, step.weight = link, 1.0
            at[link] = count
            room[link] += 1
            count += 1
        num_hops[flow] = count - begin
    return count
