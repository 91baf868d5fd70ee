"""Max-min fair rates, kept exact by re-solving only the flows that an event can move.

Rates are max-min fair when every flow has a saturated row on which no flow is faster, or runs at its own
cap [1]_. After an event the solver water-fills a small set of moving flows on the capacity that the others
leave, then lets a standing flow join the set wherever that condition would break, until none would: the
result is the exact allocation, whatever the set was. Rows are capacities shared by flows: directions of
links, and duplex groups.

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
        "free",
        "index",
        "level",
        "load",
        "members",
        "open",
        "outside",
        "peak",
        "slowest_held",
        "total",
        "touched",
        "weight",
    )

    def __init__(self, index: int, capacity: float) -> None:
        self.index, self.capacity, self.load = index, capacity, 0.0
        self.flows: dict[Flow, float] = {}  # with the bytes of capacity that each byte of the flow takes
        self.touched = False
        self.members: list[Flow] = []  # moving flows
        self.outside = self.weight = 0.0  # load of the standing flows, bytes/s; weight of the moving ones
        self.free = self.demand = 0.0  # what is left, and the weights not yet frozen, while the rows fill
        self.level = -1.0  # rate at which this row froze moving flows; -1 when it froze none
        self.peak = 0.0  # fastest moving flow, bytes/s
        self.open = 0  # moving flows not yet frozen
        self.total = 0.0  # of all rates as they were last, bytes/s
        self.fastest = 0.0  # no standing flow is faster, bytes/s
        self.slowest_held = math.inf  # no standing flow that the row holds back is slower, bytes/s


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
        self._moving, self._touched = [], []
        self._remove(leaving)
        for flow in arriving:
            for row, weight in flow.uses:
                row.flows[flow] = weight
            self._join(flow)
        for row in resized:
            for flow in row.flows:
                self._join(flow)
        while True:
            self._fill()
            joining = self._disturbed()
            if not joining:
                break
            for flow in joining:
                self._join(flow)
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
                for other in row.flows:
                    if other.limit is row:
                        self._join(other)

    def _touch(self, row: Row) -> None:
        if not row.touched:
            row.touched = True
            row.members = []
            row.weight = 0.0
            row.outside = row.total
            self._touched.append(row)

    def _join(self, flow: Flow) -> None:
        if flow.moving:
            return
        flow.moving = True
        self._moving.append(flow)
        for row, weight in flow.uses:
            if not row.touched:
                self._touch(row)
            row.members.append(flow)
            row.weight += weight
            row.outside -= weight * flow.rate

    def _fill(self) -> None:
        """Raise the rates of all moving flows together, freezing those that meet a full row or their cap."""
        heap: list[tuple[float, int]] = []
        for row in self._touched:
            members = len(row.members)
            row.level, row.peak, row.demand, row.open = -1.0, 0.0, row.weight, members
            if members == len(row.flows):
                row.outside = 0.0
            row.free = max(row.capacity - row.outside, 0.0)
            if members:
                heap.append((row.free / row.demand, row.index))
        for place, flow in enumerate(self._moving):
            flow.new_rate = -1.0
            if flow.cap < math.inf:
                heap.append((flow.cap, -1 - place))
        heapq.heapify(heap)
        left = len(self._moving)
        while left:
            left -= self._freeze_next(heap)

    def _freeze_next(self, heap: list[tuple[float, int]]) -> int:
        """Freeze the flows at the next level and return how many there were."""
        level, index = heap[0]
        if index < 0:
            heapq.heappop(heap)
            flow = self._moving[-1 - index]
            if flow.new_rate >= 0.0:
                return 0
            _freeze(flow, flow.cap, None)
            return 1
        row = self.rows[index]
        if not row.open:
            heapq.heappop(heap)
            return 0
        share = max(row.free, 0.0) / row.demand
        if share > level and len(heap) > 1 and (share, index) > min(heap[1:3]):
            heapq.heapreplace(heap, (share, index))  # the row has gained room per flow since
            return 0
        heapq.heappop(heap)
        row.level, count = share, row.open
        for flow in row.members:
            if flow.new_rate < 0.0:
                _freeze(flow, share, row)
        return count

    def _disturbed(self) -> list[Flow]:
        """Return standing flows whose rate cannot stay: too fast for a full row, or no longer held back."""
        joining: list[Flow] = []
        for row in self._touched:
            if not row.members or len(row.members) == len(row.flows):
                continue
            too_fast = row.level * (1.0 + ROUNDING) if row.level >= 0.0 else math.inf
            held = row.peak * (1.0 - ROUNDING) if row.free <= ROUNDING * row.capacity else math.inf
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
            row.total = row.capacity - row.free
            load = row.capacity if row.free <= ROUNDING * row.capacity else row.total
            if load != row.load:
                row.load = load
                changed.append(row)
        for flow in self._moving:
            flow.moving = False
        return self._moving, changed


def _freeze(flow: Flow, rate: float, limit: Row | None) -> None:
    flow.new_rate, flow.new_limit = rate, limit
    for row, weight in flow.uses:
        row.free -= weight * rate
        row.demand -= weight
        row.open -= 1
        row.peak = rate


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
