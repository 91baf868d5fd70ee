"""From the loads of a simulated network to the records of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.simulate.cabling import Cable
from planner.simulate.fluid import FloatArray
from planner.simulate.result import LinkUse
from planner.simulate.utilisation import SATURATED, Utilisation

MOST_POINTS = 200
MOST_LINKS = 200


@dataclass(frozen=True)
class Load:
    """Load of a link over time, as shares of its rate: each value holds from its time to the next.

    ``end`` is that of the whole time, s.
    """

    times: FloatArray
    shares: FloatArray
    end: float

    @cached_property
    def mean(self) -> float:
        """Mean over time."""
        return min(float((self.shares * self._durations).sum()) / self.end, 1.0)

    @cached_property
    def peak(self) -> float:
        """Highest value that lasts."""
        return float(np.max(self.shares, where=self._durations > 0.0, initial=0.0))

    @cached_property
    def saturated(self) -> float:
        """Share of the time at 95 % or above."""
        return min(float(self._durations[self.shares >= SATURATED].sum()) / self.end, 1.0)

    @cached_property
    def series(self) -> list[tuple[float, float]]:
        """Breakpoints, or the means of equal intervals where there are too many of them."""
        times, shares = self.times, self.shares
        if len(times) > MOST_POINTS:
            edges = np.linspace(0.0, self.end, MOST_POINTS + 1)
            integral = np.concatenate(([0.0], np.cumsum(shares * self._durations)))
            shares = np.diff(np.interp(edges, np.append(times, self.end), integral)) / np.diff(edges)
            times = edges[:-1]
        return list(zip(times.tolist(), np.minimum(shares, 1.0).tolist(), strict=True))

    @cached_property
    def _durations(self) -> FloatArray:
        return np.diff(np.append(self.times, self.end))


def link_uses(
    cables: Sequence[Cable],
    members: Sequence[Sequence[int]],
    utilisation: Utilisation,
    waiting: Mapping[int, float],
    background: Mapping[int, float],
    wanted: Callable[[Cable], bool],
) -> list[LinkUse]:
    """Return the use of the busiest wanted links, busiest first.

    Parameters
    ----------
    members
        Links that each row of the network stands for.
    waiting
        Time that transfers lost by row, s.
    background
        Bytes by link that were carried without being simulated; they count as spread evenly over the time.
    """
    seconds = utilisation.end - utilisation.start
    row_of = {link: row for row, links in enumerate(members) for link in links}
    known: dict[tuple[int | None, float], Load] = {}
    found: list[tuple[Cable, Load, float]] = []
    for link, cable in enumerate(cables):
        row, extra = row_of.get(link), background.get(link, 0.0)
        if seconds <= 0.0 or not wanted(cable) or (row is None and extra == 0.0):
            continue
        share = extra / seconds / cable.rate
        if (row, share) not in known:
            known[row, share] = _load(utilisation, row, share)
        found.append((cable, known[row, share], 0.0 if row is None else waiting.get(row, 0.0)))
    found.sort(key=lambda item: (-item[1].mean, item[0].source, item[0].target))
    return [_record(*item) for item in found[:MOST_LINKS]]


def _load(utilisation: Utilisation, row: int | None, constant: float) -> Load:
    times, shares = np.zeros(1), np.zeros(1)
    if row is not None:
        steps, loads = utilisation.steps(row)
        times = np.append(times, steps - utilisation.start)
        shares = np.append(shares, loads / utilisation.capacity[row])
        if len(steps) and times[1] == 0.0:
            times, shares = times[1:], shares[1:]
    return Load(times, np.minimum(shares + constant, 1.0), utilisation.end - utilisation.start)


def _record(cable: Cable, load: Load, waiting: float) -> LinkUse:
    return LinkUse(
        source=cable.source, target=cable.target, kind=cable.kind, rate=cable.rate,
        carried=load.mean * cable.rate * load.end, mean=load.mean, peak=load.peak,
        saturated=load.saturated, waiting=waiting, series=load.series,
    )  # fmt: skip


def busiest(links: Sequence[LinkUse]) -> list[LinkUse]:
    """Return the busiest links, busiest first, ties by name."""
    return sorted(links, key=lambda link: (-link.mean, link.source, link.target))[:MOST_LINKS]
