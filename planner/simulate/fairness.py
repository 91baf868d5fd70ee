"""Max-min fair rates, kept exact by re-solving only the flows that an event can move.

Rates are max-min fair when every flow has a saturated row on which no flow is faster, or runs at its own
cap [1]_. After an event the solver raises the rates of a small set of moving flows on the capacity that the
others leave. It visits levels from the lowest up: where a row is full, its moving flows freeze, and standing
ones that are faster join them first; where a row holds standing flows back that now could gain, those join.
Whoever joins was at least as fast as the present level, so that what is frozen below it stays right, and each
flow moves once. Rows are capacities shared by flows: directions of links, and duplex groups.

References
----------
.. [1] D. Bertsekas, R. Gallager, "Data Networks", 2nd ed., Prentice Hall, 1992, section 6.5.2.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

ROUNDING = 1e-12
"""Relative difference below which two rates, or a load and a capacity, count as equal."""


class Row:
    """One capacity that flows share, bytes/s, with the scratch figures of a running solve."""

    __slots__ = (
        "capacity",
        "demand",
        "fastest",
        "flows",
        "gained",
        "index",
        "level",
        "load",
        "members",
        "open",
        "outside",
        "peak",
        "queued",
        "slowest_held",
        "total",
        "touched",
        "used",
        "weight",
    )

    def __init__(self, index: int, capacity: float) -> None:
        self.index, self.capacity, self.load = index, capacity, 0.0
        self.flows: dict[Flow, float] = {}  # with the bytes of capacity that each byte of the flow takes
        self.touched = self.gained = False  # gained: flows have joined since the row was queued
        self.members: list[Flow] = []  # moving flows
        self.outside = self.used = 0.0  # load of the standing flows, and of the frozen moving ones, bytes/s
        self.weight = self.demand = 0.0  # of the moving flows, and of those not yet frozen
        self.level = -1.0  # rate at which this row froze moving flows; -1 when it froze none
        self.queued = math.inf  # level at which it is looked at next
        self.peak = 0.0  # fastest moving flow, bytes/s
        self.open = 0  # moving flows not yet frozen
        self.total = 0.0  # of all rates as they were last, bytes/s
        self.fastest = 0.0  # no standing flow is faster, bytes/s
        self.slowest_held = math.inf  # no standing flow that the row holds back is slower, bytes/s

    def share(self) -> float:
        """Return the rate at which the row is full if its moving flows rise; -1 when it is full without."""
        free = self.capacity - self.outside - self.used
        if self.open:
            return max(free, 0.0) / self.demand
        return -1.0 if free <= ROUNDING * self.capacity else math.inf

    def next_level(self) -> float:
        """Return the rate at which the row is full, or from which on those that it holds back may gain."""
        if not self.open:
            return self.slowest_held
        share = max(self.capacity - self.outside - self.used, 0.0) / self.demand
        return share if share < self.slowest_held else self.slowest_held


class Flow:
    """Bytes on the way over several rows at once; rates in bytes/s, times in s."""

    __slots__ = (
        "alone",
        "began",
        "cap",
        "finish",
        "limit",
        "moving",
        "new_limit",
        "new_rate",
        "order",
        "rate",
        "remaining",
        "since",
        "token",
        "uses",
        "waits",
    )

    def __init__(
        self,
        token: object,
        order: int,
        uses: Sequence[tuple[Row, float]],
        size: float,
        cap: float,
        alone: float,
    ) -> None:
        self.token, self.order, self.uses = token, order, uses
        self.remaining, self.cap, self.alone = size, cap, alone
        self.rate = self.began = self.since = 0.0
        self.finish = math.inf
        self.limit: Row | None = None  # the row that holds the flow back; None when its own cap does
        self.moving = False
        self.new_rate = -1.0
        self.new_limit: Row | None = None
        self.waits: dict[int, float] = {}


class FairShares:
    """Max-min fair rates of flows that share the rows.

    Parameters
    ----------
    capacity
        Capacity of each row, bytes/s.
    """

    def __init__(self, capacity: Sequence[float]) -> None:
        self.rows = [Row(index, rate) for index, rate in enumerate(capacity)]
        self._moving: list[Flow] = []
        self._touched: list[Row] = []
        self._gained: list[Row] = []
        self._heap: list[tuple[float, int]] = []  # levels of rows, and of capped flows at -1 - their place

    def solve(
        self, arriving: Sequence[Flow], leaving: Sequence[Flow], resized: Iterable[Row] = ()
    ) -> tuple[list[Flow], list[Row]]:
        """Return the flows that got a ``new_rate`` and ``new_limit``, and the rows whose load changed.

        Parameters
        ----------
        arriving, leaving
            Flows that begin and end now.
        resized
            Rows whose capacity was changed since the last solve.
        """
        if len(arriving) + len(leaving) == 1 and not resized:
            changed = self._enter_alone(arriving[0]) if arriving else self._leave_alone(leaving[0])
            if changed is not None:
                return list(arriving), changed
        self._moving, self._touched, self._gained, self._heap = [], [], [], []
        self._remove(leaving)
        for flow in arriving:
            for row, weight in flow.uses:
                row.flows[flow] = weight
            self._join(flow)
        for row in resized:
            for flow in row.flows:
                self._join(flow)
        self._fill()
        while joining := self._disturbed():  # only where rounding hid something
            for flow in joining:
                self._join(flow)
            self._restart()
            self._fill()
        return self._settle()

    def _enter_alone(self, flow: Flow) -> list[Row] | None:
        """Give a flow that meets no other on its rows all that it can use; ``None`` when it meets one."""
        rate, limit = flow.cap, None
        for row, weight in flow.uses:
            if row.flows:
                return None
            share = row.capacity / weight
            if share < rate or (share == rate and limit is None):
                rate, limit = share, row
        flow.new_rate, flow.new_limit = rate, limit
        for row, weight in flow.uses:
            row.flows[flow] = weight
            free = row.capacity - weight * rate
            row.total = row.capacity - free
            row.load = row.total if free > ROUNDING * row.capacity else row.capacity
            row.fastest = rate
            row.slowest_held = rate if row is limit else math.inf
        return [row for row, _ in flow.uses]

    def _leave_alone(self, flow: Flow) -> list[Row] | None:
        """Let a flow go that leaves no other on its rows; ``None`` when one stays."""
        if any(len(row.flows) > 1 for row, _ in flow.uses):
            return None
        for row, _ in flow.uses:
            del row.flows[flow]
            row.load = row.total = row.fastest = 0.0
        return [row for row, _ in flow.uses]

    def _remove(self, leaving: Sequence[Flow]) -> None:
        for flow in leaving:
            for row, weight in flow.uses:
                del row.flows[flow]
                row.total = row.total - weight * flow.rate if row.flows else 0.0
        for flow in leaving:
            for row, _ in flow.uses:
                self._touch(row)
                self._gain(row)

    def _touch(self, row: Row) -> None:
        if not row.touched:
            row.touched = True
            row.members = []
            row.weight = row.demand = row.used = row.peak = 0.0
            row.level, row.open, row.queued = -1.0, 0, math.inf
            row.outside = row.total
            self._touched.append(row)

    def _gain(self, row: Row) -> None:
        if not row.gained:
            row.gained = True
            self._gained.append(row)

    def _join(self, flow: Flow) -> None:
        if flow.moving:
            return
        flow.moving, flow.new_rate = True, -1.0
        self._moving.append(flow)
        if flow.cap < math.inf:
            heapq.heappush(self._heap, (flow.cap, -len(self._moving)))
        for row, weight in flow.uses:
            if not row.touched:
                self._touch(row)
            if not row.gained:
                row.gained = True
                self._gained.append(row)
            row.members.append(flow)
            row.open += 1
            row.weight += weight
            row.demand += weight
            if len(row.members) == len(row.flows):
                row.outside, row.slowest_held = 0.0, math.inf
            else:
                row.outside -= weight * flow.rate

    def _queue(self) -> None:
        """Queue the rows that flows have joined on, or left, at their present levels."""
        for row in self._gained:
            row.gained = False
            level = row.next_level()
            if level < row.queued:
                row.queued = level
                heapq.heappush(self._heap, (level, row.index))
        self._gained = []

    def _fill(self) -> None:
        """Raise the rates of all moving flows together, freezing those that meet a full row or their cap."""
        self._queue()
        heap = self._heap
        while heap:
            queued, index = heap[0]
            if index < 0:
                heapq.heappop(heap)
                flow = self._moving[-1 - index]
                if flow.new_rate < 0.0:
                    _freeze(flow, flow.cap, None)
                continue
            row = self.rows[index]
            level = row.next_level() if queued == row.queued else math.inf
            if level > queued:  # nothing to do any more, or more room per flow than when it was queued
                if level == math.inf:
                    heapq.heappop(heap)
                else:
                    heapq.heapreplace(heap, (level, index))
                if queued == row.queued:
                    row.queued = level
            elif joining := _concerned(row):
                for flow in joining:
                    self._join(flow)
                self._queue()
            elif row.next_level() <= queued:
                heapq.heappop(heap)
                row.queued = math.inf
                _freeze_row(row)

    def _restart(self) -> None:
        """Begin again to fill the rows, with all flows that move by now."""
        self._heap = []
        for place, flow in enumerate(self._moving):
            flow.new_rate = -1.0
            if flow.cap < math.inf:
                heapq.heappush(self._heap, (flow.cap, -1 - place))
        for row in self._touched:
            row.used, row.demand, row.open, row.level, row.peak = 0.0, row.weight, len(row.members), -1.0, 0.0
            row.queued = math.inf
            self._gain(row)

    def _disturbed(self) -> list[Flow]:
        """Return standing flows whose rate cannot stay: too fast for a full row, or no longer held back."""
        joining: list[Flow] = []
        for row in self._touched:
            if not row.members or len(row.members) == len(row.flows):
                continue
            too_fast = row.level * (1.0 + ROUNDING) if row.level >= 0.0 else math.inf
            full = row.capacity - row.outside - row.used <= ROUNDING * row.capacity
            held = row.peak * (1.0 - ROUNDING) if full else math.inf
            if row.fastest > too_fast or row.slowest_held < held:
                joining += _disturbed_on(row, too_fast, held)
        return joining

    def _settle(self) -> tuple[list[Flow], list[Row]]:
        changed = []
        for row in self._touched:
            row.touched = False
            members = len(row.members)
            if members:
                everyone = members == len(row.flows)
                row.fastest = row.peak if everyone else max(row.fastest, row.peak)
                if everyone:
                    row.slowest_held = math.inf
                if row.level >= 0.0:
                    row.slowest_held = min(row.slowest_held, row.level)
            row.total = row.outside + row.used
            load = row.capacity if row.capacity - row.total <= ROUNDING * row.capacity else row.total
            if load != row.load:
                row.load = load
                changed.append(row)
        for flow in self._moving:
            flow.moving = False
        return self._moving, changed


def _freeze(flow: Flow, rate: float, limit: Row | None) -> None:
    flow.new_rate, flow.new_limit = rate, limit
    for row, weight in flow.uses:
        row.used += weight * rate
        row.demand -= weight
        row.open -= 1
        row.peak = rate


def _freeze_row(row: Row) -> None:
    """Freeze the moving flows of a row that is full."""
    if row.open:
        row.level = share = row.share()
        for flow in row.members:
            if flow.new_rate < 0.0:
                _freeze(flow, share, row)


def _concerned(row: Row) -> list[Flow]:
    """Return the standing flows of a row that its level concerns.

    They are those that are faster than others may be on the full row, or those that it holds back no longer.
    """
    share = row.share()
    too_fast = share * (1.0 + ROUNDING) if share >= 0.0 else math.inf
    gain = row.slowest_held < math.inf and share > row.slowest_held * (1.0 + ROUNDING)
    return _disturbed_on(row, too_fast, math.inf if gain else 0.0) if gain or row.fastest > too_fast else []


def _disturbed_on(row: Row, too_fast: float, held: float) -> list[Flow]:
    """Return the standing flows of a row that are too fast, or held back and slower than ``held``."""
    joining = []
    fastest, slowest_held = 0.0, math.inf
    for flow in row.flows:
        if flow.moving:
            continue
        here = flow.limit is row
        if flow.rate > too_fast or (here and flow.rate < held):
            joining.append(flow)
            continue
        fastest = max(fastest, flow.rate)
        if here:
            slowest_held = min(slowest_held, flow.rate)
    row.fastest, row.slowest_held = fastest, slowest_held
    return joining
