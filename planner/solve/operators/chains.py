"""The best cut of a given order of groups into consecutive stages, by dynamic programming on all segments."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray  # noqa: TC002

from planner.solve.operators.reduce import Floats, Reduced


@dataclass(frozen=True)
class Machine:
    """What the groups are placed on: identical accelerators of so many bytes, and perhaps a CPU."""

    num_accelerators: int
    memory: float
    has_cpu: bool


def segment_loads(reduced: Reduced, order: Sequence[int], memory: float) -> tuple[Floats, Floats]:
    """Return the load of every segment of an order, on an accelerator and on a CPU.

    Returns
    -------
    tuple of ndarray, shape (n + 1, n + 1)
        Entry ``[i, j]`` is the load, s, of the groups from position ``i`` up to ``j``, excluded; infinite
        where ``i > j`` or where an accelerator cannot hold or run the segment.
    """
    n = len(order)
    position = np.empty(n, dtype=np.int64)
    position[list(order)] = np.arange(n)
    parted = _parting_costs(reduced, position)
    size = np.concatenate(([0.0], np.cumsum(reduced.size[list(order)])))
    accelerator = parted + _differences(reduced.accelerator[list(order)])
    accelerator[size[None, :] - size[:, None] > memory * (1 + 1e-12)] = np.inf
    cpu = _differences(reduced.cpu[list(order)])
    below = np.tri(n + 1, k=-1, dtype=bool)
    accelerator[below] = np.inf
    cpu[below] = np.inf
    return accelerator, cpu


def _differences(values: Floats) -> Floats:
    """Return the sum of every segment; infinite values are counted apart, as they have no difference."""
    finite = np.concatenate(([0.0], np.cumsum(np.where(np.isfinite(values), values, 0.0))))
    bad = np.concatenate(([0], np.cumsum(~np.isfinite(values))))
    sums: Floats = np.maximum(finite[None, :] - finite[:, None], 0.0)
    sums[bad[None, :] != bad[:, None]] = np.inf
    return sums


def _parting_costs(reduced: Reduced, position: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
    """Return what each segment pays for the pin sets that it holds in part, by a sum over rectangles.

    A segment pays unless it lies between two neighbouring pins, before the first, behind the last, or
    over all.
    """
    n = len(position)
    corners = np.zeros((n + 2, n + 2))
    for pins, cost in zip(reduced.pins, reduced.costs, strict=True):
        places = np.sort(position[list(pins)])
        lows = np.concatenate(([0], places + 1))
        highs = np.concatenate((places, [n]))
        # lows <= i and j <= highs: holds none; i <= first and j > last: holds all
        np.add.at(corners, (lows, lows), -cost)
        np.add.at(corners, (highs + 1, lows), cost)
        np.add.at(corners, (lows, highs + 1), cost)
        np.add.at(corners, (highs + 1, highs + 1), -cost)
        corners[0, places[-1] + 1] -= cost
        corners[places[0] + 1, places[-1] + 1] += cost
    saved = np.cumsum(np.cumsum(corners, axis=0), axis=1)[: n + 1, : n + 1]
    return np.maximum(saved + float(reduced.costs.sum()), 0.0)


_State = tuple[int, bool]
"""Accelerators used so far, and whether the CPU is."""


@dataclass(frozen=True)
class _Row:
    """The best last segment that ends at each position: least busiest load, where it starts, whose it is."""

    value: Floats
    start: NDArray[np.intp]
    by_cpu: NDArray[np.bool_]


def best_chain(reduced: Reduced, order: Sequence[int], machine: Machine) -> tuple[float, list[int], int]:
    """Return the least busiest load over all cuts of an order into stages.

    Returns
    -------
    tuple
        Load, s; stage of each group; number of the CPU's stage.
    """
    accelerator, cpu = segment_loads(reduced, order, machine.memory)
    nothing = np.full(len(order) + 1, np.inf)
    nothing[0] = 0.0
    ends = np.arange(len(order) + 1)
    rows = {(0, False): _Row(nothing, ends, ends < 0)}
    for used in range(machine.num_accelerators + 1):
        for with_cpu in (False, True)[: 1 + machine.has_cpu]:
            options = []
            if used:
                options.append(_extend(rows[used - 1, with_cpu], accelerator, by_cpu=False))
            if with_cpu:
                options.append(_extend(rows[used, False], cpu, by_cpu=True))
            if options:
                rows[used, with_cpu] = _better(options)
    return _trace(rows, order, (machine.num_accelerators, machine.has_cpu))


def _extend(row: _Row, loads: Floats, *, by_cpu: bool) -> _Row:
    """Return the best plans that end with one more segment."""
    through = np.maximum(row.value[:, None], loads)
    start = np.argmin(through, axis=0)
    ends = np.arange(len(start))
    return _Row(through[start, ends], start, np.full(len(start), by_cpu))


def _better(options: list[_Row]) -> _Row:
    """Return the better of one or two rows, position by position."""
    first, last = options[0], options[-1]
    keep = first.value <= last.value
    return _Row(
        np.where(keep, first.value, last.value),
        np.where(keep, first.start, last.start),
        np.where(keep, first.by_cpu, last.by_cpu),
    )


def _trace(rows: dict[_State, _Row], order: Sequence[int], state: _State) -> tuple[float, list[int], int]:
    end, stage, cpu_stage = len(order), sum(state), -1
    value = float(rows[state].value[end])
    stages = [0] * len(order)
    while stage:
        row = rows[state]
        start, by_cpu = int(row.start[end]), bool(row.by_cpu[end])
        stage -= 1
        for group in order[start:end]:
            stages[group] = stage
        if by_cpu:
            cpu_stage = stage
        state = (state[0], False) if by_cpu else (state[0] - 1, state[1])
        end = start
    return value, stages, cpu_stage


def random_order(reduced: Reduced, rng: np.random.Generator, depth: float) -> list[int]:
    """Return a topological order, drawn at random.

    Parameters
    ----------
    depth
        Likelihood, 0 to 1, of going on behind the group placed last rather than anywhere.
    """
    after: list[list[int]] = [[] for _ in range(reduced.num_groups)]
    waiting = [0] * reduced.num_groups
    for source, target in reduced.edges:
        after[source].append(target)
        waiting[target] += 1
    draws = rng.random(2 * reduced.num_groups)
    ready = [(float(draws[group]), group) for group, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, group = heapq.heappop(ready)
        order.append(group)
        for target in after[group]:
            waiting[target] -= 1
            if waiting[target] == 0:
                late = draws[reduced.num_groups + target] < depth
                heapq.heappush(ready, (-len(order) if late else float(draws[target]), target))
    return order
