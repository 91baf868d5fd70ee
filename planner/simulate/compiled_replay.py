"""Replay of a trace in one compiled loop, without a simulator's calendar: nothing else happens meanwhile."""

from __future__ import annotations

import numpy as np

from planner.simulate import kernels, layout
from planner.simulate.fluid import FloatArray, IntArray
from planner.simulate.links import FlowTrace
from planner.simulate.thinning import Hops, hops_of, spare_links


def finish_times(trace: FlowTrace) -> FloatArray:
    """Return when each flow of a trace finishes, s; NaN for those that never start."""
    flows, count = trace.flows, len(trace.flows)
    rates = np.array([link.rate for link in trace.links], dtype=np.float64)
    latency = np.array([link.latency for link in trace.links], dtype=np.float64)
    hops = hops_of([flow.path for flow in flows])
    delay = np.array([flow.delay for flow in flows], dtype=np.float64)
    first, dependents, blockers = _dependents(trace)
    known = layout.Trace(
        start=np.array([flow.start for flow in flows], dtype=np.float64),
        wait=delay + hops.sums(latency[hops.links]),
        begin=np.zeros(count),
        finish=np.full(count, np.nan),
        blockers=blockers,
        first_dependent=first,
        dependents=dependents,
        queue=np.zeros(count, dtype=np.int64),
        place=np.zeros(count, dtype=np.int64),
        arriving=np.zeros(count, dtype=np.int64),
        leaving=np.zeros(count, dtype=np.int64),
        counts=np.zeros(3, dtype=np.int64),
    )
    needed = hops.chosen(~spare_links(hops, rates)[hops.links])
    state = _state(rates, needed, np.array([flow.size for flow in flows], dtype=np.float64))
    kernels.run_trace(state, known, np.zeros(len(rates), layout.CHANGE))
    return known.finish


def _state(rates: FloatArray, hops: Hops, sizes: FloatArray) -> layout.State:
    """Return the state before the first flow; the steps of each follow those of the one before."""
    lengths, steps = hops.lengths, np.zeros(len(hops.links), layout.STEP)
    steps["row"], steps["weight"] = hops.links, 1.0
    if len(steps):
        lengths, steps = _merged(lengths, steps, hops.owner * len(rates) + hops.links)
    state = layout.new_state(layout.new_rows(rates.tolist()), len(sizes), int(lengths.max(initial=1)))
    flows = state.flows
    flows["cap"], flows["alone"], flows["remaining"] = np.inf, np.inf, sizes
    flows["new_rate"], flows["limit"], flows["new_limit"] = -1.0, -1, -1
    flows["first_step"], flows["num_hops"] = np.cumsum(lengths) - lengths, lengths
    return state._replace(steps=steps)


def _merged(lengths: IntArray, steps: layout.Records, keys: IntArray) -> tuple[IntArray, layout.Records]:
    """Make one step of those in which a flow crosses the same link; ``keys`` tell flow and link."""
    found, first, weight = np.unique(keys, return_index=True, return_counts=True)
    if len(found) == len(keys):
        return lengths, steps
    owner = np.repeat(np.arange(len(lengths)), lengths)[first]
    steps = steps[first]
    steps["weight"] = weight
    return np.bincount(owner, minlength=len(lengths)), steps


def _dependents(trace: FlowTrace) -> tuple[IntArray, IntArray, IntArray]:
    """Return where the dependents of each flow begin, all of them in order, and how many each waits for."""
    count = len(trace.flows)
    pairs = [(earlier, later) for later, flow in enumerate(trace.flows) for earlier in set(flow.after)]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    table = table[np.argsort(table[:, 0], kind="stable")]
    first = np.searchsorted(table[:, 0], np.arange(count + 1))
    return first, np.ascontiguousarray(table[:, 1]), np.bincount(table[:, 1], minlength=count)
