"""Arrays that hold the state of a `CompiledFluid`: records of flows, rows and hops, known by number.

Each flow has the same number of hops of its own, one for each row on its route. The flows on a row are a
stretch of one long list, in no order. What the solver reads of a flow fits into one line of the cache, and so
do four hops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from planner.simulate.fluid import FloatArray, IntArray

Records = npt.NDArray[Any]

FLOW = np.dtype(
    [
        ("rate", "f8"),
        ("new_rate", "f8"),  # negative while the flow rises with the level of a running solve
        ("cap", "f8"),
        ("alone", "f8"),
        ("remaining", "f8"),
        ("since", "f8"),
        ("first_step", "i4"),  # of its route in the table of steps
        ("limit", "i4"),  # the hop that holds it back; -1 when its own cap does
        ("new_limit", "i4"),
        ("num_hops", "i2"),
        ("moving", "i2"),
    ]
)
ROW = np.dtype(
    [
        ("capacity", "f8"),  # the first line of the cache is what a flow reads that joins or is frozen
        ("outside", "f8"),  # load of the standing flows
        ("used", "f8"),  # load of the moving flows that are frozen
        ("weight", "f8"),  # of the moving flows together
        ("demand", "f8"),  # weight of the moving flows not yet frozen
        ("peak", "f8"),  # fastest moving flow
        ("num_flows", "i4"),
        ("num_members", "i4"),  # moving flows
        ("open", "i4"),  # moving flows not yet frozen
        ("touched", "i4"),
        ("load", "f8"),
        ("level", "f8"),  # rate at which the row froze moving flows; -1 when it froze none
        ("fastest", "f8"),  # no standing flow is faster
        ("total", "f8"),  # of all rates as they were last
        ("slowest_held", "f8"),  # of the flows that the row holds back, if it holds any
        ("waiting", "f8"),
        ("first", "i4"),  # entry in the list of flows
        ("room", "i4"),  # entries
        ("num_held", "i4"),  # flows that the row holds back
        ("members_held", "i4"),  # moving flows that the row held back
    ]
)
HOP = np.dtype([("weight", "f8"), ("row", "i4"), ("place", "i4")])  # place among the entries of its row
ENTRY = np.dtype([("flow", "i4"), ("hop", "i4")])
STEP = np.dtype([("row", "i8"), ("weight", "f8")])
CHANGE = np.dtype([("time", "f8"), ("row", "i8"), ("load", "f8")])

OUT_OF_IT, IN_SOLVE, GAINED = 0, 1, 2
"""States of ``touched`` of a row: flows that joined on it since it was queued are the last one."""
NUM_MOVING, NUM_TOUCHED, NUM_LEVELS, NUM_STALE, NUM_GAINED = 0, 1, 2, 3, 4
NUM_QUEUED = 0
"""Places in the counts of a state, and in those of a trace."""
BLOCK = 32
"""Flows of which the queue of finish times knows the first only."""
CACHE_LINE = 64
"""Bytes; a multiple of it where lines are shorter."""


class State(NamedTuple):
    """All arrays of a fluid.

    ``first_finish``, ``queue`` and ``place`` are a heap of blocks of flows by their first ``finish``;
    ``stale`` lists the blocks where that may have changed, ``is_stale`` marks them. ``levels``, ``items`` and
    ``level_place`` are a heap of filling levels, whose items are rows and then, numbered on, capped flows.
    ``lost`` holds by hop the time lost there, s, ``began`` by flow when its bytes began to flow, s, and
    ``gained`` the rows on which flows have joined since they were queued.
    """

    flows: Records
    rows: Records
    hops: Records
    entries: Records
    steps: Records
    lost: FloatArray
    began: FloatArray
    finish: FloatArray
    first_finish: FloatArray
    queue: IntArray
    place: IntArray
    stale: IntArray
    is_stale: IntArray
    levels: FloatArray
    items: IntArray
    level_place: IntArray
    moving: IntArray
    touched: IntArray
    gained: IntArray
    counts: IntArray


class Trace(NamedTuple):
    """Flows that are known beforehand, by number; ``begin``, ``queue`` and ``place`` are a heap of begins.

    ``wait`` is what passes between release and begin, s; ``dependents`` of a flow are from its
    ``first_dependent`` to that of the next; ``blockers`` counts what a flow still waits for.
    """

    start: FloatArray
    wait: FloatArray
    begin: FloatArray
    finish: FloatArray
    blockers: IntArray
    first_dependent: IntArray
    dependents: IntArray
    queue: IntArray
    place: IntArray
    arriving: IntArray
    leaving: IntArray
    counts: IntArray


def new_state(rows: Records, num_flows: int, width: int) -> State:
    """Return the state of some rows, with room for flows of at most ``width`` hops."""
    num_levels = len(rows) + num_flows
    num_blocks = -(-num_flows // BLOCK)
    return State(
        flows=_lined_up(num_flows, FLOW),
        rows=rows,
        hops=_lined_up(num_flows * width, HOP),
        entries=np.zeros(int(rows["room"].sum()), ENTRY),
        steps=np.zeros(0, STEP),
        lost=np.zeros(num_flows * width),
        began=np.zeros(num_flows),
        finish=np.full(num_blocks * BLOCK, np.inf),
        first_finish=np.full(num_blocks, np.inf),
        queue=np.arange(num_blocks),
        place=np.arange(num_blocks),
        stale=np.zeros(num_blocks, dtype=np.int64),
        is_stale=np.zeros(num_blocks, dtype=np.int64),
        levels=np.zeros(num_levels),
        items=np.zeros(num_levels, dtype=np.int64),
        level_place=np.full(num_levels, -1),
        moving=np.zeros(num_flows, dtype=np.int64),
        touched=np.zeros(len(rows), dtype=np.int64),
        gained=np.zeros(len(rows), dtype=np.int64),
        counts=np.zeros(5, dtype=np.int64),
    )


def new_rows(capacity: Sequence[float] | FloatArray, room: int | IntArray) -> Records:
    """Return idle rows of some capacities, bytes/s, each with room for a number of flows."""
    rows = _lined_up(len(capacity), ROW)
    rows["capacity"], rows["room"] = capacity, room
    rows["first"] = np.cumsum(rows["room"]) - rows["room"]
    return rows


def _lined_up(count: int, kind: np.dtype[np.void]) -> Records:
    """Return zeros that begin with a line of the cache, so that records of a line's size lie in one."""
    spread = np.zeros(count * kind.itemsize + CACHE_LINE, dtype=np.uint8)
    skipped = -spread.ctypes.data % CACHE_LINE
    return spread[skipped : skipped + count * kind.itemsize].view(kind)
