"""Arrays that hold the state of a `CompiledFluid`: records of flows, rows and hops, known by number.

Each flow has the same number of hops of its own, one for each row on its route; the hops on one row are a
doubly linked list.
"""

from __future__ import annotations

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

    ``finish``, ``queue`` and ``place`` are a heap of finish times; ``levels``, ``level_queue`` and
    ``level_place`` one of filling levels, whose items are rows and then, numbered on, capped flows.
    """

    flows: Records
    rows: Records
    hops: Records
    steps: Records
    finish: FloatArray
    queue: IntArray
    place: IntArray
    levels: FloatArray
    level_queue: IntArray
    level_place: IntArray
    moving: IntArray
    touched: IntArray
    counts: IntArray
