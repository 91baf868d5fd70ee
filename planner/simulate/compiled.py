"""`Fluid` on the compiled kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from planner.simulate import kernel_flows, kernels, layout
from planner.simulate.fluid import Ended, FloatArray, IntArray, LoadLog

_NONE = np.zeros(0, dtype=np.int64)


class CompiledFluid:
    """The flows of one priority class, in arrays that grow by doubling.

    Parameters
    ----------
    capacity
        Capacity of each row, bytes/s.
    record
        Whether to keep the log of loads and the waiting times.
    """

    def __init__(self, capacity: Sequence[float], record: bool) -> None:
        self._record = record
        self._routes: list[tuple[int, int, float]] = []  # first step, number of steps, uncontended rate
        self._num_steps = 0
        self._tokens: list[object] = []
        self._orders: list[int] = []  # of start, by slot
        self._order = 0
        self._vacant: list[int] = []
        self._arriving: list[int] = []
        self._leaving: list[int] = []
        self._width = 4
        self._state = layout.new_state(layout.new_rows(capacity, 4), 0, self._width)
        self._grow_flows(64)
        self._chunks: list[layout.Records] = []
        self._changes = np.zeros(max(4 * len(capacity), 1 << 12), layout.CHANGE)
        self._num_changes = self._before = 0  # changes logged, now and before the last update

    def add_route(self, rows: Sequence[int], weights: Sequence[float], alone: float) -> int:
        """Register a route; see `Fluid.add_route`."""
        first, self._num_steps = self._num_steps, self._num_steps + len(rows)
        steps = self._state.steps
        if self._num_steps > len(steps):
            steps = np.concatenate([steps, np.zeros(self._num_steps, layout.STEP)])
            self._state = self._state._replace(steps=steps)
        steps["row"][first : self._num_steps] = rows
        steps["weight"][first : self._num_steps] = weights
        if len(rows) > self._width:
            self._widen(len(rows))
        self._routes.append((first, len(rows), alone))
        return len(self._routes) - 1

    def start(self, token: object, route: int, size: float, cap: float) -> None:
        """Queue a flow for the next update; see `Fluid.start`."""
        if not self._vacant:
            self._grow_flows(len(self._tokens))
        slot = self._vacant.pop()
        first, num_hops, alone = self._routes[route]
        self._order += 1
        self._tokens[slot], self._orders[slot] = token, self._order
        alone = min(alone, cap)
        self._state.flows[slot] = (0.0, -1.0, cap, alone, size, 0.0, first, -1, -1, num_hops, 0)
        self._arriving.append(slot)

    def due(self, now: float) -> list[Ended]:
        """Take out drained flows; see `Fluid.due`."""
        ended = self._scratch
        count = kernel_flows.take_due(self._state, now, now + 4.0 * math.ulp(now), ended)
        slots = sorted(ended[:count].tolist(), key=self._orders.__getitem__)
        self._leaving += slots
        return [self._end(slot) for slot in slots]

    def update(self, now: float, resized: Iterable[int] = ()) -> None:
        """Solve for the rates from ``now`` on; see `Fluid.update`."""
        if not self._record:
            self._num_changes = 0
        else:
            self._make_room(len(self._state.rows))
        self._before = self._num_changes
        found = self._solved(now, resized)
        if found < 0:
            self._lengthen_lists()
            found = self._solved(now, resized)
        self._num_changes = found
        self._vacant += self._leaving
        self._arriving, self._leaving = [], []

    def _solved(self, now: float, resized: Iterable[int]) -> int:
        """Return how many changes of load are logged then, or -1 if some row has too little room."""
        found: int = kernels.update(
            self._state,
            now,
            _slots(self._arriving),
            _slots(self._leaving),
            _slots(list(resized)),
            self._changes,
            self._before,
        )
        return found

    def changed(self) -> Sequence[int]:
        """Return the rows that changed; see `Fluid.changed`."""
        rows: list[int] = self._changes["row"][self._before : self._num_changes].tolist()
        return rows

    def next_finish(self) -> float:
        """Return the next finish time; see `Fluid.next_finish`."""
        state = self._state
        return float(state.first_finish[state.queue[0]])

    def load(self, row: int) -> float:
        """Return the present load of a row; see `Fluid.load`."""
        return float(self._state.rows["load"][row])

    def resize(self, row: int, capacity: float) -> None:
        """Set the capacity of a row; see `Fluid.resize`."""
        self._state.rows["capacity"][row] = capacity

    def note(self, time: float, row: int, load: float) -> None:
        """Log a load; see `Fluid.note`."""
        self._make_room(1)
        self._changes[self._num_changes] = (time, row, load)
        self._num_changes += 1

    def log(self) -> LoadLog:
        """Return all changes of load; see `Fluid.log`."""
        last = self._changes[: self._num_changes if self._record else 0]
        changes = np.concatenate([*self._chunks, last])
        return LoadLog(changes["time"].copy(), changes["row"].copy(), changes["load"].copy())

    def waiting(self) -> FloatArray:
        """Return the time lost per row; see `Fluid.waiting`."""
        waiting: FloatArray = self._state.rows["waiting"] * float(self._record)
        return waiting

    def _make_room(self, more: int) -> None:
        """Make room for more changes of load."""
        if self._num_changes + more > len(self._changes):
            self._chunks.append(self._changes[: self._num_changes])
            self._changes, self._num_changes = np.empty_like(self._changes), 0

    def _end(self, slot: int) -> Ended:
        first, state = slot * self._width, self._state
        waits = {}
        if self._record:
            own = slice(first, first + int(state.flows["num_hops"][slot]))
            lost = zip(state.hops["row"][own].tolist(), state.lost[own].tolist(), strict=True)
            waits = {row: time for row, time in lost if time > 0.0}
        if waits:
            return Ended(self._tokens[slot], max(waits, key=waits.__getitem__), waits)
        limit = state.flows["limit"][slot]
        return Ended(self._tokens[slot], -1 if limit < 0 else int(state.hops["row"][limit]), waits)

    def _grow_flows(self, more: int) -> None:
        old = len(self._tokens)
        self._tokens += [None] * more
        self._orders += [0] * more
        self._vacant += range(old + more - 1, old - 1, -1)
        state = self._state
        self._state = layout.new_state(state.rows, old + more, self._width)
        self._scratch = np.zeros(old + more, dtype=np.int64)
        self._state.flows[:old], self._state.began[:old] = state.flows, state.began
        self._state.hops[: old * self._width], self._state.lost[: old * self._width] = state.hops, state.lost
        self._state.finish[: len(state.finish)] = state.finish
        first = self._state.finish.reshape(-1, layout.BLOCK).min(axis=1)
        order = np.argsort(first, kind="stable")
        self._state.place[order] = np.arange(len(order))
        self._state = self._state._replace(
            steps=state.steps, entries=state.entries, first_finish=first, queue=order
        )

    def _lengthen_lists(self) -> None:
        """Make room for the arriving flows, and as many again, on their rows."""
        state, rows = self._state, self._state.rows
        coming = [self._rows_of(slot) for slot in self._arriving]
        needed = rows["num_flows"] + np.bincount(np.concatenate(coming), minlength=len(rows))
        old = rows["first"].copy()
        rows["room"] = np.where(needed > rows["room"], 2 * needed, rows["room"])
        rows["first"] = np.cumsum(rows["room"]) - rows["room"]
        entries = np.zeros(int(rows["room"].sum()), layout.ENTRY)
        owner = np.repeat(np.arange(len(rows)), rows["num_flows"])
        place = np.arange(len(owner)) - (np.cumsum(rows["num_flows"]) - rows["num_flows"])[owner]
        entries[rows["first"][owner] + place] = state.entries[old[owner] + place]
        self._state = state._replace(entries=entries)

    def _rows_of(self, slot: int) -> IntArray:
        """Return the rows that a flow crosses."""
        first, num_hops = self._state.flows["first_step"][slot], self._state.flows["num_hops"][slot]
        rows: IntArray = self._state.steps["row"][first : first + num_hops]
        return rows

    def _widen(self, width: int) -> None:
        """Make room for longer routes; the hops are renumbered."""
        state, old = self._state, self._width
        hops, lost = np.zeros((len(self._tokens), width), layout.HOP), np.zeros((len(self._tokens), width))
        hops[:, :old], lost[:, :old] = state.hops.reshape(-1, old), state.lost.reshape(-1, old)
        for numbers in (state.entries["hop"], state.flows["limit"]):
            known = numbers >= 0
            numbers[known] = numbers[known] // old * width + numbers[known] % old
        self._width, self._state = width, state._replace(hops=hops.reshape(-1), lost=lost.reshape(-1))


def _slots(numbers: list[int]) -> IntArray:
    return np.array(numbers, dtype=np.int64) if numbers else _NONE
