"""Exact link utilisation over time, from the log of load changes; nothing is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.simulate.fluid import FloatArray, IntArray, LoadLog

SATURATED = 0.95
"""Share of the capacity from which a link counts as saturated."""


@dataclass(frozen=True, eq=False)
class Utilisation:
    """Load of every row of a network as a piecewise constant function of time.

    The steps of row ``r`` are ``times[first[r]:first[r + 1]]`` with the same slice of ``loads``: each load
    holds from its time to the next, the last to ``end``; before the first the row is idle.

    Attributes
    ----------
    names
        Links, then duplex groups.
    capacity : ndarray, shape (rows,)
        bytes/s.
    start, end
        The span of time that is covered, s.
    times, loads : ndarray, shape (steps,)
        s and bytes/s, row by row in order of time.
    first : ndarray, shape (rows + 1,)
        Where the steps of each row begin.
    waiting : ndarray, shape (rows,)
        Time that finished transfers lost to each row, s; see `FlowRecord.waits`.
    """

    names: tuple[str, ...]
    capacity: FloatArray
    start: float
    end: float
    times: FloatArray
    loads: FloatArray
    first: IntArray
    waiting: FloatArray

    def steps(self, row: int) -> tuple[FloatArray, FloatArray]:
        """Return the times, s, at which the load of a row changes, and the new loads, bytes/s."""
        span = slice(int(self.first[row]), int(self.first[row + 1]))
        return self.times[span], self.loads[span]

    @cached_property
    def carried(self) -> FloatArray:
        """Bytes carried by each row (for a group: bytes of its capacity taken), shape (rows,)."""
        return self._per_row(self._durations * self.loads)

    @cached_property
    def mean(self) -> FloatArray:
        """Mean utilisation over the span, shape (rows,); zero for an empty span."""
        span = self.end - self.start
        return self.carried / (self.capacity * span) if span > 0.0 else np.zeros(len(self.names))

    @cached_property
    def peak(self) -> FloatArray:
        """Highest utilisation, shape (rows,)."""
        peaks = np.zeros(len(self.names))
        np.maximum.at(peaks, self._row_of_step, np.where(self._durations > 0.0, self.loads, 0.0))
        return peaks / self.capacity

    @cached_property
    def saturated(self) -> FloatArray:
        """Share of the span at 95 % of the capacity or more, shape (rows,); zero for an empty span."""
        span = self.end - self.start
        full = self.loads >= SATURATED * self.capacity[self._row_of_step]
        return self._per_row(self._durations * full) / span if span > 0.0 else np.zeros(len(self.names))

    def binned(self, edges: FloatArray) -> FloatArray:
        """Return the mean utilisation of each row between consecutive edges, s: shape (rows, edges - 1)."""
        means = np.zeros((len(self.names), len(edges) - 1))
        for row, capacity in enumerate(self.capacity):
            times, loads = self.steps(row)
            if len(times):
                knots = np.append(times, max(self.end, times[-1]))
                integral = np.concatenate(([0.0], np.cumsum(loads * np.diff(knots))))
                means[row] = np.diff(np.interp(edges, knots, integral)) / (np.diff(edges) * capacity)
        return means

    @cached_property
    def _row_of_step(self) -> IntArray:
        return np.repeat(np.arange(len(self.names)), np.diff(self.first))

    @cached_property
    def _durations(self) -> FloatArray:
        until = np.append(self.times, self.end)[1:]
        until[self.first[1:][np.diff(self.first) > 0] - 1] = self.end
        return until - self.times

    def _per_row(self, values: FloatArray) -> FloatArray:
        return np.bincount(self._row_of_step, weights=values, minlength=len(self.names)).astype(np.float64)


def combine(logs: Sequence[LoadLog], num_rows: int) -> tuple[FloatArray, FloatArray, IntArray]:
    """Add up the loads of several priority classes.

    Parameters
    ----------
    logs
        Changes of load of each class, in order of time.
    num_rows
        Number of rows.

    Returns
    -------
    times, loads : ndarray, shape (steps,)
        Steps of the total load, s and bytes/s, row by row; one step per row and time.
    first : ndarray, shape (rows + 1,)
        Where the steps of each row begin.
    """
    sorted_logs = [_by_row(log) for log in logs]
    total = sorted_logs[0] if len(sorted_logs) == 1 else _summed(sorted_logs)
    last = np.ones(len(total.times), dtype=bool)  # of the changes of a row at one time
    last[:-1] = (np.diff(total.times) != 0.0) | (np.diff(total.rows) != 0)
    first = np.searchsorted(total.rows[last], np.arange(num_rows + 1))
    return total.times[last], total.loads[last], first


def _by_row(log: LoadLog) -> LoadLog:
    order = np.argsort(log.rows, kind="stable")
    return LoadLog(log.times[order], log.rows[order], log.loads[order])


def _summed(logs: Sequence[LoadLog]) -> LoadLog:
    """Turn the steps of each class into differences, merge them in time, and add them up again per row."""
    times = np.concatenate([log.times for log in logs])
    rows = np.concatenate([log.rows for log in logs])
    steps = np.concatenate([_differences(log) for log in logs])
    order = np.lexsort((times, rows))
    rows, total = rows[order], np.cumsum(steps[order])
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))
    before = np.repeat(np.where(firsts > 0, total[firsts - 1], 0.0), np.diff(np.append(firsts, len(rows))))
    return LoadLog(times[order], rows, np.maximum(total - before, 0.0))


def _differences(log: LoadLog) -> FloatArray:
    previous = np.concatenate(([0.0], log.loads[:-1]))
    previous[np.flatnonzero(np.diff(log.rows, prepend=-1))] = 0.0
    return log.loads - previous
