"""Strict priority between classes of flows: each class shares fairly what the classes before it leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planner.simulate.fairness import ROUNDING
from planner.simulate.fluid import Ended, FloatArray, Fluid, LoadLog


class PriorityStack:
    """One `Fluid` per priority class, the lowest number served first.

    Parameters
    ----------
    capacity
        Capacity of each row, bytes/s.
    make
        Makes the fluid of a new class from the capacity that is left to it.
    """

    def __init__(self, capacity: Sequence[float], make: Callable[[Sequence[float]], Fluid]) -> None:
        self._capacity, self._make = capacity, make
        self._classes: dict[int, Fluid] = {}
        self._order: list[Fluid] = []
        self.fluid(0)

    def fluid(self, priority: int) -> Fluid:
        """Return the flows of one class."""
        if priority not in self._classes:
            higher = [fluid for other, fluid in self._classes.items() if other < priority]
            left = [self._left(row, higher) for row in range(len(self._capacity))]
            self._classes[priority] = self._make(left)
            self._order = [self._classes[key] for key in sorted(self._classes)]
        return self._classes[priority]

    def due(self, now: float) -> list[Ended]:
        """Take out the flows that have drained by ``now``, s."""
        if len(self._order) == 1:
            return self._order[0].due(now)
        return [ended for fluid in self._order for ended in fluid.due(now)]

    def update(self, now: float) -> None:
        """Bring all rates up to date, class by class."""
        if len(self._order) == 1:
            self._order[0].update(now)
            return
        changed: dict[int, None] = {}
        for place, fluid in enumerate(self._order):
            for row in changed:
                fluid.resize(row, self._left(row, self._order[:place]))
            fluid.update(now, changed)
            if place + 1 < len(self._order):
                changed.update(dict.fromkeys(fluid.changed()))

    def next_finish(self) -> float:
        """Return when the next flow drains at the present rates, s; infinite when none does."""
        if len(self._order) == 1:
            return self._order[0].next_finish()
        return min([fluid.next_finish() for fluid in self._order])

    def logs(self) -> list[LoadLog]:
        """Return the changes of load of each class."""
        return [fluid.log() for fluid in self._order]

    def waiting(self) -> FloatArray:
        """Return per row the time, s, that ended flows of all classes lost to it."""
        waiting = np.zeros(len(self._capacity))
        for fluid in self._order:
            waiting += fluid.waiting()
        return waiting

    def _left(self, row: int, higher: Sequence[Fluid]) -> float:
        capacity = self._capacity[row]
        left = capacity - sum(fluid.load(row) for fluid in higher)
        return left if left > ROUNDING * capacity else 0.0
