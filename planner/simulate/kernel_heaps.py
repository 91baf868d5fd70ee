"""Heaps for the compiled solver, and how its functions are compiled.

Imported only where numba is installed. Nothing here allocates, so that no references have to be counted; that
alone makes the solver twice as fast. All functions are inlined: a call would copy the state of the solver,
which is more than a hundred words long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from planner.simulate.fluid import FloatArray, IntArray

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function on its first call, or load what an earlier run compiled."""
    result: Function
    options = {"error_model": "numpy", "_nrt": False, "forceinline": True}
    try:
        result = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        result = numba.njit(**options)(function)
    return result


@compiled
def precedes(keys: FloatArray, one: int, other: int) -> bool:
    """Return whether an item comes before another: by key, and by number among equals."""
    return bool(keys[one] < keys[other] or (keys[one] == keys[other] and one < other))


@compiled
def sift_up(keys: FloatArray, queue: IntArray, place: IntArray, at: int) -> None:
    """Move the item at position ``at`` of a heap up to where it belongs."""
    item = queue[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not precedes(keys, item, queue[parent]):
            break
        queue[at] = queue[parent]
        place[queue[at]] = at
        at = parent
    queue[at] = item
    place[item] = at


@compiled
def sift_down(keys: FloatArray, queue: IntArray, place: IntArray, size: int, at: int) -> None:
    """Move the item at position ``at`` of a heap down to where it belongs."""
    item = queue[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and precedes(keys, queue[child + 1], queue[child]):
            child += 1
        if not precedes(keys, queue[child], item):
            break
        queue[at] = queue[child]
        place[queue[at]] = at
        at = child
    queue[at] = item
    place[item] = at


@compiled
def pop(keys: FloatArray, queue: IntArray, place: IntArray, size: int) -> int:
    """Take the first item out of a heap of ``size`` items."""
    item = queue[0]
    place[item] = -1
    if size > 1:
        queue[0] = queue[size - 1]
        sift_down(keys, queue, place, size - 1, 0)
    return int(item)
