"""Flows as a fluid: remaining bytes, predicted finish times and a log of loads, on top of fair rates."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from planner.simulate.fairness import FairShares, Flow, Row

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SAME_RATE = 1e-14
"""Relative change of a rate that is left alone: rounding, not an event."""
SAME_TIME = 1e-12
"""Flows due within this share of their own duration end together."""


class Ended(NamedTuple):
    """A flow that has drained: its token, the row that held it back most (-1: none), and s waited per row."""

    token: object
    bottleneck: int
    waits: dict[int, float]


class LoadLog(NamedTuple):
    """Changes of load in order of time: when, s, on which row, and to what, bytes/s."""

    times: FloatArray
    rows: IntArray
    loads: FloatArray


class Fluid(Protocol):
    """The flows of one priority class; the network drives it, in order of time."""

    def add_route(self, rows: Sequence[int], weights: Sequence[float], alone: float) -> int:
        """Register a route: its rows, the capacity each byte takes there, its uncontended rate, bytes/s."""

    def start(self, token: object, route: int, size: float, cap: float) -> None:
        """Let ``size`` bytes begin at the next update, no faster than ``cap`` bytes/s."""

    def due(self, now: float) -> list[Ended]:
        """Take out the flows that have drained by ``now``, s, in order of start; call `update` afterwards."""

    def update(self, now: float, resized: Iterable[int] = ()) -> None:
        """Bring all rates up to date."""

    def changed(self) -> Sequence[int]:
        """Return the rows whose load the last update changed."""

    def next_finish(self) -> float:
        """Return when the next flow drains at the present rates, s; infinite when none does."""

    def load(self, row: int) -> float:
        """Return the present load of a row, bytes/s."""

    def resize(self, row: int, capacity: float) -> None:
        """Set the capacity of a row, bytes/s; pass the row to the next update as resized."""

    def note(self, time: float, row: int, load: float) -> None:
        """Log the load, bytes/s, of a row that no flow here is on; by row in order of time, s."""

    def log(self) -> LoadLog:
        """Return all changes of load so far; empty when not recording."""

    def waiting(self) -> FloatArray:
        """Return per row the time, s, that ended flows lost to it; zero when not recording."""


class PlainFluid:
    """`Fluid` in plain Python.

    Parameters
    ----------
    capacity
        Capacity of each row, bytes/s.
    record
        Whether to keep the log of loads and the waiting times.
    """

    def __init__(self, capacity: Sequence[float], record: bool) -> None:
        self._shares, self._record = FairShares(capacity), record
        self._routes: list[tuple[tuple[tuple[Row, float], ...], float]] = []
        self._arriving: list[Flow] = []
        self._leaving: list[Flow] = []
        self._changed: list[Row] = []
        self._finishes: list[tuple[float, int, Flow]] = []  # entries of changed flows stay until they surface
        self._num_flows = self._order = 0
        self._times, self._rows, self._loads = array("d"), array("q"), array("d")
        self._waiting = [0.0] * len(self._shares.rows)

    def add_route(self, rows: Sequence[int], weights: Sequence[float], alone: float) -> int:
        """Register a route; see `Fluid.add_route`."""
        uses = tuple((self._shares.rows[row], weight) for row, weight in zip(rows, weights, strict=True))
        self._routes.append((uses, alone))
        return len(self._routes) - 1

    def start(self, token: object, route: int, size: float, cap: float) -> None:
        """Queue a flow for the next update; see `Fluid.start`."""
        uses, alone = self._routes[route]
        self._order += 1
        self._arriving.append(Flow(token, self._order, uses, size, cap, min(alone, cap)))

    def due(self, now: float) -> list[Ended]:
        """Take out drained flows; see `Fluid.due`."""
        flows = []
        now_or_so = now + 4.0 * math.ulp(now)
        while (finish := self.next_finish()) < math.inf:
            flow = self._finishes[0][2]
            if finish > now_or_so + SAME_TIME * (now - flow.began):
                break
            heapq.heappop(self._finishes)
            self._account(flow, now)
            flow.finish = -math.inf
            flows.append(flow)
        flows.sort(key=lambda flow: flow.order)
        return [self._end(flow) for flow in flows]

    def update(self, now: float, resized: Iterable[int] = ()) -> None:
        """Solve for the rates from ``now`` on; see `Fluid.update`."""
        for flow in self._arriving:
            flow.began = flow.since = now
        self._num_flows += len(self._arriving) - len(self._leaving)
        resized_rows = [self._shares.rows[index] for index in resized] if resized else []
        flows, self._changed = self._shares.solve(self._arriving, self._leaving, resized_rows)
        self._arriving, self._leaving = [], []
        for flow in flows:
            self._move(flow, now)
        if self._record:
            for row in self._changed:
                self.note(now, row.index, row.load)
        if len(self._finishes) > 4 * self._num_flows + 64:
            self._finishes = [entry for entry in self._finishes if entry[0] == entry[2].finish]
            heapq.heapify(self._finishes)

    def changed(self) -> Sequence[int]:
        """Return the rows that changed; see `Fluid.changed`."""
        return [row.index for row in self._changed]

    def next_finish(self) -> float:
        """Return the next finish time; see `Fluid.next_finish`."""
        finishes = self._finishes
        while finishes and finishes[0][0] != finishes[0][2].finish:
            heapq.heappop(finishes)
        return finishes[0][0] if finishes else math.inf

    def load(self, row: int) -> float:
        """Return the present load of a row; see `Fluid.load`."""
        return self._shares.rows[row].load

    def resize(self, row: int, capacity: float) -> None:
        """Set the capacity of a row; see `Fluid.resize`."""
        self._shares.rows[row].capacity = capacity

    def note(self, time: float, row: int, load: float) -> None:
        """Log a load; see `Fluid.note`."""
        self._times.append(time)
        self._rows.append(row)
        self._loads.append(load)

    def log(self) -> LoadLog:
        """Return all changes of load; see `Fluid.log`."""
        return LoadLog(np.array(self._times), np.array(self._rows, dtype=np.int64), np.array(self._loads))

    def waiting(self) -> FloatArray:
        """Return the time lost per row; see `Fluid.waiting`."""
        return np.array(self._waiting)

    def _move(self, flow: Flow, now: float) -> None:
        """Give a flow its new rate from ``now`` on."""
        rate, limit = flow.new_rate, flow.new_limit
        if abs(rate - flow.rate) <= SAME_RATE * flow.rate and flow.since < now:
            if limit is not flow.limit:
                self._account(flow, now)
                flow.limit = limit
            return
        self._account(flow, now)
        flow.rate, flow.limit = rate, limit
        flow.finish = math.inf
        if rate > 0.0:
            flow.finish = now + flow.remaining / rate
            heapq.heappush(self._finishes, (flow.finish, flow.order, flow))

    def _account(self, flow: Flow, now: float) -> None:
        """Bring the remaining bytes, and the time lost to the limiting row, up to ``now``."""
        elapsed = now - flow.since
        if elapsed <= 0.0:
            return
        flow.since = now
        flow.remaining = max(flow.remaining - flow.rate * elapsed, 0.0)
        if self._record and flow.limit is not None and flow.rate < flow.alone:
            row = flow.limit.index
            flow.waits[row] = flow.waits.get(row, 0.0) + elapsed * (1.0 - flow.rate / flow.alone)

    def _end(self, flow: Flow) -> Ended:
        self._leaving.append(flow)
        waits = flow.waits
        for row, lost in waits.items():
            self._waiting[row] += lost
        if waits:
            return Ended(flow.token, max(waits, key=waits.__getitem__), waits)
        return Ended(flow.token, -1 if flow.limit is None else flow.limit.index, waits)
