"""The pace of a host: how long two small works take just now, one bound by arithmetic, one by memory.

Cores of a host become quicker and slower by tens of percent within seconds and minutes: clocks, neighbours
on a shared core, other machines on the same hardware. What was measured at another time is compared at the
same pace.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from planner.calibrate.run.backend import Work, core_time
from planner.calibrate.torch_here import Torch

if TYPE_CHECKING:
    from planner.calibrate.samples import Samples

ROWS, EDGE, PRODUCTS = 128, 256, 4
"""A product whose factors stay in a cache: about half a millisecond of a core."""
NUMBERS = 1 << 22
"""Numbers that are added up: 16 MiB, more than a core's caches."""
PAUSE = 0.05
"""Least time between two pulses, s."""
NEAR = 2.0
"""How far around a measurement pulses tell its pace, s."""
FEWEST = 5
"""Pulses below which a pace says nothing."""
PACE = "pace"
"""Coefficient of a calibration: the pace at which its samples were taken, s."""


class Pace:
    """Pulses of a host, taken between measurements."""

    def __init__(self, torch: Torch) -> None:
        factor, weights = torch.rand(ROWS, EDGE), torch.rand(EDGE, EDGE)
        vector = torch.rand(NUMBERS)
        self._works: tuple[Work, Work] = (lambda: torch.mm(factor, weights), lambda: vector.sum())
        self._pulses: list[tuple[float, float, float]] = []
        self._visits: list[tuple[str, float, float]] = []
        self.take()
        self._pulses.clear()  # the first finds caches and libraries cold

    def take(self) -> None:
        """Take a pulse, some two milliseconds, unless the last is quite new."""
        now = monotonic()
        if not self._pulses or now - self._pulses[-1][0] > PAUSE:
            product, total = self._works
            self._pulses.append((now, core_time(product, PRODUCTS), core_time(total, 1)))

    def visited(self, item: str, start: float) -> None:
        """Note that an item was measured from ``start`` until now."""
        self._visits.append((item, start, monotonic()))

    def told(self, samples: Samples) -> Samples:
        """Return samples with the pace of every item measured meanwhile, and that of the whole run."""
        if len(self._pulses) < FEWEST:
            return samples
        pulses = np.asarray(self._pulses)
        paces: dict[str, list[float]] = {}
        for item, start, end in self._visits:
            paces.setdefault(item, []).append(_near(pulses, start, end))
        items = [
            one.model_copy(update={"pace": _rounded(float(np.exp(np.mean(np.log(paces[one.item])))))})
            if one.item in paces
            else one
            for one in samples.items
        ]
        count, old = len(pulses), samples.pulses
        weighed = count * math.log(_middle(pulses)) + (old * math.log(samples.pace) if old else 0.0)
        pace = _rounded(math.exp(weighed / (count + old)))
        return samples.model_copy(update={"items": items, "pace": pace, "pulses": count + old})


def _near(pulses: np.ndarray, start: float, end: float) -> float:
    """Return the pace around a time, from the nearest pulses where few lie in reach."""
    times = pulses[:, 0]
    far = np.maximum(np.maximum(start - times, times - end), 0.0)
    reach = max(NEAR, float(np.sort(far)[FEWEST - 1]))
    return _middle(pulses[far <= reach])


def _middle(pulses: np.ndarray) -> float:
    """Return the geometric mean of the medians of both works, s."""
    product, total = np.maximum(np.median(pulses[:, 1:], axis=0), 1e-9)
    return math.sqrt(float(product) * float(total))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
