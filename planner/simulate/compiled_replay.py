"""Replay of a trace in one compiled loop, without a simulator's calendar: nothing else happens meanwhile."""

from __future__ import annotations

import numpy as np

from planner.simulate import kernels, layout
from planner.simulate.fluid import FloatArray, IntArray
from planner.simulate.links import FlowTrace


def finish_times(trace: FlowTrace) -> FloatArray:
    """Return when each flow of a trace finishes, s; NaN for those that never start."""
    flows = trace.flows
    count = len(flows)
    latency = [link.latency for link in trace.links]
    steps, routes = _routes([flow.path for flow in flows])
    rows = layout.new_rows([link.rate for link in trace.links])
    state = layout.new_state(rows, count, max((length for _, length in routes.values()), default=1))
    state = state._replace(steps=steps)
    state.flows["cap"] = state.flows["alone"] = np.inf
    state.flows["rate"] = 0.0
    state.flows["new_rate"], state.flows["limit"], state.flows["new_limit"] = -1.0, -1, -1
    state.flows["remaining"] = [flow.size for flow in flows]
    spans = np.array([routes[flow.path] for flow in flows], dtype=np.int64).reshape(count, 2)
    state.flows["first_step"], state.flows["num_hops"] = spans[:, 0], spans[:, 1]
    delays = {path: sum([latency[link] for link in path]) for path in routes}
    first, dependents, blockers = _dependents(trace)
    numbers = np.zeros((4, count), dtype=np.int64)
    known = layout.Trace(
        start=np.array([flow.start for flow in flows], dtype=np.float64),
        wait=np.array([flow.delay + delays[flow.path] for flow in flows], dtype=np.float64),
        begin=np.zeros(count),
        finish=np.full(count, np.nan),
        blockers=blockers,
        first_dependent=first,
        dependents=dependents,
        queue=numbers[0],
        place=numbers[1],
        arriving=numbers[2],
        leaving=numbers[3],
        counts=np.zeros(3, dtype=np.int64),
    )
    kernels.run_trace(state, known, np.zeros(len(rows), layout.CHANGE))
    return known.finish


def _routes(paths: list[tuple[int, ...]]) -> tuple[layout.Records, dict[tuple[int, ...], tuple[int, int]]]:
    """Return the table of steps, and for each path its first step there and how many it has."""
    found: dict[tuple[int, ...], tuple[int, int]] = {}
    steps: list[tuple[int, float]] = []
    for path in paths:
        if path not in found:
            own = {link: float(path.count(link)) for link in path}
            found[path] = len(steps), len(own)
            steps += own.items()
    return np.array(steps, layout.STEP), found


def _dependents(trace: FlowTrace) -> tuple[IntArray, IntArray, IntArray]:
    """Return where the dependents of each flow begin, all of them in order, and how many each waits for."""
    pairs = [(earlier, later) for later, flow in enumerate(trace.flows) for earlier in set(flow.after)]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    table = table[np.argsort(table[:, 0], kind="stable")]
    count = len(trace.flows)
    first = np.searchsorted(table[:, 0], np.arange(count + 1))
    return first, np.ascontiguousarray(table[:, 1]), np.bincount(table[:, 1], minlength=count)
