"""Replay of a flow trace on its own links, to see when each flow finishes.

A flow is released at its start time, or when the last flow it depends on has finished if that is later. It
waits its delay and the latency of its path, and then drains while sharing its links max-min fairly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import simpy
from simpy.events import NORMAL

from planner.errors import SimulationError
from planner.simulate.alarm import Alarm
from planner.simulate.fluid import FloatArray
from planner.simulate.links import FlowTrace
from planner.simulate.network import Network, is_compiled
from planner.simulate.thinning import hops_of, spare_links
from planner.simulate.utilisation import Utilisation


@dataclass(frozen=True, eq=False)
class Replay:
    """Outcome of a replay.

    Attributes
    ----------
    finish : ndarray, shape (flows,)
        Finish time of each flow, s.
    utilisation
        Load of the links; None when it was not recorded.
    """

    finish: FloatArray
    utilisation: Utilisation | None


def replay(trace: FlowTrace, *, record: bool = False, compiled: bool | None = None) -> Replay:
    """Send the flows of a trace over its links.

    Parameters
    ----------
    trace
        What to send.
    record
        Whether to keep the utilisation of the links.
    compiled
        Whether to use the solver compiled by numba, as for a `Network`; without a record the whole replay is
        compiled.

    Raises
    ------
    SimulationError
        If some flows never start because they wait for one another.
    """
    if not record and is_compiled(compiled):
        from planner.simulate.compiled_replay import (
            finish_times,  # here, as numba is optional, slow to import
        )

        finish, utilisation = finish_times(trace), None
    else:
        run = _Run(trace, record, compiled)
        run.env.run()
        finish = run.finish
        utilisation = run.network.utilisation() if record else None
    stuck = np.flatnonzero(np.isnan(finish)).tolist()
    if stuck:
        raise SimulationError(f"{_listed(stuck)} never start: they wait for one another; break the cycle")
    return Replay(finish, utilisation)


class _Run:
    """The flows of a trace, released as those before them finish."""

    def __init__(self, trace: FlowTrace, record: bool, compiled: bool | None) -> None:
        self.env = simpy.Environment()
        self.network = Network(self.env, trace.links, record=record, compiled=compiled)
        self.finish: FloatArray = np.full(len(trace.flows), np.nan)
        self._flows, self._ways = trace.flows, _ways(trace, thin=not record)
        self._blockers = [len(set(flow.after)) for flow in trace.flows]
        self._dependents: list[list[int]] = [[] for _ in trace.flows]
        for index, flow in enumerate(trace.flows):
            for earlier in set(flow.after):
                self._dependents[earlier].append(index)
        for index, flow in enumerate(trace.flows):
            if not flow.after:
                self._release(index)

    def _release(self, index: int) -> None:
        flow = self._flows[index]
        wait = max(flow.start - self.env.now, 0.0)
        if wait > 0.0:
            Alarm(self.env, partial(self._send, index), wait, NORMAL)
        else:
            self._send(index)

    def _send(self, index: int, _: simpy.Event | None = None) -> None:
        flow = self._flows[index]
        path, latency = self._ways[flow.path]
        done = self.network.send(path, flow.size, delay=flow.delay + latency)
        assert done.callbacks is not None
        done.callbacks.append(partial(self._end, index))

    def _end(self, index: int, _: simpy.Event) -> None:
        self.finish[index] = self.env.now
        for dependent in self._dependents[index]:
            self._blockers[dependent] -= 1
            if self._blockers[dependent] == 0:
                self._release(dependent)


def _ways(trace: FlowTrace, *, thin: bool) -> dict[tuple[int, ...], tuple[tuple[int, ...], float]]:
    """Return of each path the links that are needed, and the latency of those left out, s."""
    paths = list(dict.fromkeys([flow.path for flow in trace.flows]))
    spare = [False] * len(trace.links)
    if thin:
        spare = spare_links(hops_of(paths), np.array([link.rate for link in trace.links])).tolist()
    found = {}
    for path in paths:
        kept = tuple([link for link in path if not spare[link]])
        found[path] = kept, sum([trace.links[link].latency for link in path if spare[link]])
    return found


def _listed(flows: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(str(flow) for flow in flows[:most])
    more = f" and {len(flows) - most} more" if len(flows) > most else ""
    return f"flows {shown}{more}"
