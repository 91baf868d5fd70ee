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

from planner.errors import SimulationError
from planner.simulate.fluid import FloatArray
from planner.simulate.links import FlowRecord, LinkSpec
from planner.simulate.network import Network
from planner.simulate.utilisation import Utilisation


@dataclass(frozen=True)
class TracedFlow:
    """One flow of a trace.

    Attributes
    ----------
    start
        Earliest release, s.
    delay
        Compute or launch time between release and the first byte, besides the latency of the path, s.
    size
        Bytes.
    path
        Link indices in order.
    after
        Indices of the flows that must have finished.
    finish
        Recorded finish time to compare with, s; None when the trace has none.
    """

    start: float
    delay: float
    size: float
    path: tuple[int, ...]
    after: tuple[int, ...] = ()
    finish: float | None = None


@dataclass(frozen=True)
class FlowTrace:
    """Links, and the flows to send over them."""

    name: str
    links: tuple[LinkSpec, ...]
    flows: tuple[TracedFlow, ...]


@dataclass(frozen=True, eq=False)
class Replay:
    """Outcome of a replay.

    Attributes
    ----------
    finish : ndarray, shape (flows,)
        Finish time of each flow, s.
    records
        Record of each flow; its ``start`` is when the flow was sent, after its delay.
    utilisation
        Load of the links; None when it was not recorded.
    """

    finish: FloatArray
    records: tuple[FlowRecord, ...]
    utilisation: Utilisation | None


def replay(trace: FlowTrace, *, record: bool = False) -> Replay:
    """Send the flows of a trace over its links.

    Parameters
    ----------
    trace
        What to send.
    record
        Whether to keep the utilisation of the links and the waits of the flows.

    Raises
    ------
    SimulationError
        If some flows never start because they wait for one another.
    """
    run = _Run(trace, record)
    run.env.run()
    return run.result()


class _Run:
    """The flows of a trace, released as those before them finish."""

    def __init__(self, trace: FlowTrace, record: bool) -> None:
        self.env = simpy.Environment()
        self._network = Network(self.env, trace.links, record=record)
        self._flows = trace.flows
        self._records: list[FlowRecord | None] = [None] * len(trace.flows)
        self._blockers = [len(set(flow.after)) for flow in trace.flows]
        self._dependents: list[list[int]] = [[] for _ in trace.flows]
        for index, flow in enumerate(trace.flows):
            for earlier in set(flow.after):
                self._dependents[earlier].append(index)
        for index, flow in enumerate(trace.flows):
            if not flow.after:
                self._release(index)

    def result(self) -> Replay:
        records = [record for record in self._records if record is not None]
        if len(records) < len(self._records):
            stuck = [index for index, record in enumerate(self._records) if record is None]
            raise SimulationError(f"{_listed(stuck)} never start: they wait for one another; break the cycle")
        finish = np.array([record.finish for record in records])
        return Replay(finish, tuple(records), self._network.utilisation() if self._network.record else None)

    def _release(self, index: int) -> None:
        flow = self._flows[index]
        wait = max(flow.start - self.env.now, 0.0) + flow.delay
        if wait > 0.0:
            self.env.timeout(wait).callbacks.append(partial(self._send, index))
        else:
            self._send(index)

    def _send(self, index: int, _: simpy.Event | None = None) -> None:
        flow = self._flows[index]
        done = self._network.send(flow.path, flow.size, tag=str(index))
        done.callbacks.append(partial(self._finish, index))

    def _finish(self, index: int, done: simpy.Event) -> None:
        self._records[index] = done.value
        for dependent in self._dependents[index]:
            self._blockers[dependent] -= 1
            if self._blockers[dependent] == 0:
                self._release(dependent)


def _listed(flows: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(str(flow) for flow in flows[:most])
    more = f" and {len(flows) - most} more" if len(flows) > most else ""
    return f"flows {shown}{more}"
