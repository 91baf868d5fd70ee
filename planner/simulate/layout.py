"""Arrays that hold the state of a `CompiledFluid`: records of flows, rows and hops, known by number.

Each flow has the same number of hops of its own, one for each row on its route; the hops on one row are a
doubly linked list.
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
        ("new_rate", "f8"),
        ("cap", "f8"),
        ("alone", "f8"),
        ("remaining", "f8"),
        ("since", "f8"),
        ("began", "f8"),
        ("first_step", "i4"),  # of its route in the table of steps
        ("num_hops", "i4"),
        ("limit", "i4"),  # the hop that holds it back; -1 when its own cap does
        ("new_limit", "i4"),
        ("moving", "i8"),
    ]
)
ROW = np.dtype(
    [
        ("capacity", "f8"),
        ("load", "f8"),
        ("outside", "f8"),  # load of the standing flows
        ("weight", "f8"),  # of the moving flows together
        ("free", "f8"),  # what is left while the row fills
        ("demand", "f8"),  # weight of the moving flows not yet frozen
        ("level", "f8"),  # rate at which the row froze moving flows; -1 when it froze none
        ("peak", "f8"),  # fastest moving flow
        ("fastest", "f8"),  # no standing flow is faster
        ("total", "f8"),  # of all rates as they were last
        ("slowest_held", "f8"),  # of the flows that the row holds back, if it holds any
        ("waiting", "f8"),
        ("head", "i4"),  # first hop; -1 for none
        ("num_flows", "i4"),
        ("num_held", "i4"),  # flows that the row holds back
        ("num_members", "i4"),  # moving flows
        ("members_held", "i4"),  # moving flows that the row held back
        ("open", "i4"),  # moving flows not yet frozen
        ("touched", "i8"),
    ]
)
HOP = np.dtype(
    [("weight", "f8"), ("lost", "f8"), ("row", "i4"), ("flow", "i4"), ("next", "i4"), ("previous", "i4")]
)
STEP = np.dtype([("row", "i8"), ("weight", "f8")])
CHANGE = np.dtype([("time", "f8"), ("row", "i8"), ("load", "f8")])

NUM_MOVING, NUM_TOUCHED, NUM_QUEUED = 0, 1, 2


class State(NamedTuple):
    """All arrays of a fluid.

    ``finish``, ``queue`` and ``place`` are a heap of finish times; ``levels`` and ``items`` one of filling
    levels, whose items are rows and then, numbered on, capped flows.
    """

    flows: Records
    rows: Records
    hops: Records
    steps: Records
    finish: FloatArray
    queue: IntArray
    place: IntArray
    levels: FloatArray
    items: IntArray
    moving: IntArray
    touched: IntArray
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
    return State(
        flows=np.zeros(num_flows, FLOW),
        rows=rows,
        hops=np.zeros(num_flows * width, HOP),
        steps=np.zeros(0, STEP),
        finish=np.zeros(num_flows),
        queue=np.zeros(num_flows, dtype=np.int64),
        place=np.full(num_flows, -1),
        levels=np.zeros(num_levels),
        items=np.zeros(num_levels, dtype=np.int64),
        moving=np.zeros(num_flows, dtype=np.int64),
        touched=np.zeros(len(rows), dtype=np.int64),
        counts=np.zeros(3, dtype=np.int64),
    )


def new_rows(capacity: Sequence[float]) -> Records:
    """Return idle rows of some capacities, bytes/s."""
    rows = np.zeros(len(capacity), ROW)
    rows["capacity"], rows["head"] = capacity, -1
    return rows
