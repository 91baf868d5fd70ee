"""An order of groups cut at best into calls of accelerators and runs on the CPU, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from planner.placement.operators import CPU
from planner.solve.operators.chains import Machine, segment_loads
from planner.solve.operators.reduce import Floats, Reduced

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_calls(reduced: Reduced, order: Sequence[int], machine: Machine) -> list[int] | None:
    """Return the device of each group when an order is cut at best into accelerator calls and CPU runs.

    Returns ``None`` where accelerators lack the memory and there is no CPU.
    """
    accelerator, _ = segment_loads(reduced, order, machine.memory)
    least, calls = cut(accelerator, cpu_runs(reduced, order, machine), machine.num_accelerators)
    if not np.isfinite(least):
        return None
    devices = [CPU] * len(order)
    for device, (start, end) in enumerate(calls):
        for group in order[start:end]:
            devices[group] = device
    return devices


def cut(accelerator: Floats, runs: Floats, num_accelerators: int) -> tuple[float, list[tuple[int, int]]]:
    """Return the least time, s, of an order cut into calls and runs, and where each call starts and ends.

    Parameters
    ----------
    accelerator, runs : ndarray, shape (n + 1, n + 1)
        What positions ``i`` up to ``j``, excluded, take as one call, and on the CPU, s.
    """
    ends = np.arange(len(runs))
    best = runs[0]
    origins: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for _ in range(num_accelerators):
        called = best[:, None] + accelerator
        call = np.argmin(called, axis=0)
        ran = called[call, ends][:, None] + runs
        run = np.argmin(ran, axis=0)
        best = ran[run, ends]
        origins.append((call, run))
    calls, end = [], len(runs) - 1
    for call, run in reversed(origins):
        middle = int(run[end])
        end = int(call[middle])
        calls.append((end, middle))
    return float(best[-1]), calls[::-1]


def cpu_runs(reduced: Reduced, order: Sequence[int], machine: Machine) -> Floats:
    """Return the longest path, s, of CPU times inside every segment of an order.

    Without a CPU only empty runs are possible.
    """
    n = len(order)
    runs = np.full((n + 1, n + 1), np.inf)
    np.fill_diagonal(runs, 0.0)
    if not machine.has_cpu:
        return runs
    position = {group: place for place, group in enumerate(order)}
    before: list[list[int]] = [[] for _ in range(n)]
    for source, target in reduced.edges:
        before[position[target]].append(position[source])
    finish = np.zeros((n, n))
    longest = np.zeros(n)
    for end, group in enumerate(order):
        row = np.zeros(n)
        for place in before[end]:
            row[: place + 1] = np.maximum(row[: place + 1], finish[place, : place + 1])
        finish[end] = row + reduced.cpu[group]
        longest[: end + 1] = np.maximum(longest[: end + 1], finish[end, : end + 1])
        runs[: end + 1, end + 1] = longest[: end + 1]
    return runs
