"""Use of the drawn links in each interval of the simulated time, for the slider over the map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from planner import units
from planner.report.heat_map import CELLS, mean_use
from planner.report.palette import LOAD_LIMITS, load_step

if TYPE_CHECKING:
    from planner.simulate.result import LinkUse, SimulationResult

Ends = tuple[str, str]
ROUNDING = 1e-9
"""Keeps a use that is a whole per cent but for rounding at that per cent."""


class Moments:
    """Series of the links that pictures ask for; links of the same series share one.

    Parameters
    ----------
    simulation
        What the simulator saw; without it no link has a series.
    """

    def __init__(self, simulation: SimulationResult | None) -> None:
        self._end = simulation.horizon if simulation is not None else 0.0
        self._links: Mapping[Ends, LinkUse] = (
            {(link.source, link.target): link for link in simulation.links}
            if simulation is not None and self._end > 0.0
            else {}
        )
        self._numbers: dict[tuple[int, ...], int] = {}

    def series(self, links: Iterable[Ends]) -> int | None:
        """Return the number of the series of the busiest of some links; ``None`` where none was simulated."""
        means = [mean_use(self._links[ends], self._end) for ends in links if ends in self._links]
        if not means:
            return None
        shares = np.floor(100.0 * np.max(means, axis=0) + ROUNDING).astype(int)
        return self._numbers.setdefault(tuple(shares.tolist()), len(self._numbers))

    @property
    def data(self) -> dict[str, Any] | None:
        """What the script of the page needs, once all pictures are drawn; ``None`` where no colour changes.

        Steps of colour begin at ``limits``, per cent; ``edges`` are the ends of the intervals, in words, and
        ``series`` the uses, per cent.
        """
        if not any(len({load_step(use / 100) for use in series}) > 1 for series in self._numbers):
            return None
        limits = [round(100 * limit) for limit in LOAD_LIMITS]
        edges = [units.show(float(at), "s") for at in np.linspace(0.0, self._end, CELLS + 1)]
        return {"limits": limits, "edges": edges, "series": [list(each) for each in self._numbers]}
