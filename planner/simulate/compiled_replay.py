"""Replay of a trace in one compiled loop, without a simulator's calendar: nothing else happens meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from planner.simulate import kernel_routes, kernel_trace, layout
from planner.simulate.fluid import FloatArray, IntArray
from planner.simulate.links import FlowTrace


def finish_times(trace: FlowTrace) -> FloatArray:
    """Return when each flow of a trace finishes, s; NaN for those that never start."""
    count = len(trace.flows)
    if not count:
        return np.zeros(0)
    start, delay, sizes, paths, after, _ = zip(*trace.flows, strict=True)
    wait = np.array(delay, dtype=np.float64)
    state = _state(trace, paths, wait)
    state.flows["remaining"] = sizes
    first, dependents, blockers = _dependents(after)
    known = layout.Trace(
        start=np.array(start, dtype=np.float64),
        wait=wait,
        begin=np.zeros(count),
        finish=np.full(count, np.nan),
        blockers=blockers,
        first_dependent=first,
        dependents=dependents,
        queue=np.zeros(count, dtype=np.int64),
        place=np.zeros(count, dtype=np.int64),
        arriving=np.zeros(count, dtype=np.int64),
        leaving=np.zeros(count, dtype=np.int64),
        counts=np.zeros(1, dtype=np.int64),
    )
    kernel_trace.run_trace(state, known, np.zeros(len(trace.links), layout.CHANGE))
    return known.finish


def _state(trace: FlowTrace, paths: Sequence[tuple[int, ...]], wait: FloatArray) -> layout.State:
    """Return the state before the first flow, and add the latency of each path, s, to ``wait``."""
    count, num_links = len(paths), len(trace.links)
    rates = np.array([link.rate for link in trace.links], dtype=np.float64)
    latency = np.array([link.latency for link in trace.links], dtype=np.float64)
    links, first = _joined(paths)
    width = int(np.diff(first).max())
    spare = np.zeros(num_links, dtype=np.bool_)
    marks = np.full((3, num_links), -1)
    beside = np.ones((num_links, width), dtype=np.bool_)
    kernel_routes.find_spare(links, first, rates, marks[0], marks[1], beside, spare)
    steps = np.zeros(len(links), layout.STEP)
    num_hops, room = np.zeros(count, dtype=np.int64), np.zeros(num_links, dtype=np.int64)
    kernel_routes.lay_out(links, first, spare, latency, wait, marks[2], steps, num_hops, room)
    state = layout.new_state(layout.new_rows(rates, room), count, max(int(num_hops.max()), 1))
    flows = state.flows
    flows["cap"] = flows["alone"] = np.inf
    flows["new_rate"], flows["limit"], flows["new_limit"] = -1.0, -1, -1
    flows["first_step"], flows["num_hops"] = np.cumsum(num_hops) - num_hops, num_hops
    return state._replace(steps=steps)


def _joined(lists: Sequence[tuple[int, ...]]) -> tuple[IntArray, IntArray]:
    """Return all numbers one after another, and where those of each list begin, and the last ones end."""
    first = np.zeros(len(lists) + 1, dtype=np.int64)
    first[1:] = np.cumsum(np.fromiter(map(len, lists), dtype=np.int64, count=len(lists)))
    return np.fromiter(itertools.chain.from_iterable(lists), dtype=np.int64, count=int(first[-1])), first


def _dependents(after: Sequence[tuple[int, ...]]) -> tuple[IntArray, IntArray, IntArray]:
    """Return where the dependents of each flow begin, all of them in order, and how many each waits for."""
    earlier, first = _joined(after)
    blockers = np.diff(first)
    if not len(earlier):
        return np.zeros(len(after) + 1, dtype=np.int64), earlier, blockers
    later = np.repeat(np.arange(len(after)), blockers)
    bounds = np.zeros(len(after) + 1, dtype=np.int64)
    bounds[1:] = np.cumsum(np.bincount(earlier, minlength=len(after)))
    return bounds, later[np.argsort(earlier, kind="stable")], blockers
