"""From the loads of a simulated network to the records of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.simulate.cabling import Cable
from planner.simulate.fluid import FloatArray
from planner.simulate.result import LinkUse
from planner.simulate.utilisation import SATURATED, Utilisation

MOST_POINTS = 200
MOST_LINKS = 200


@dataclass(frozen=True)
class Load:
    """Load of a link over time, as shares of its rate: each value holds from its time to the next."""

    times: FloatArray
    shares: FloatArray
    end: float

    def mean(self) -> float:
        """Return the mean over time."""
        return float(self.shares @ self._durations()) / self.end if self.end > 0.0 else 0.0

    def peak(self) -> float:
        """Return the highest value that lasts."""
        return float(np.max(self.shares, where=self._durations() > 0.0, initial=0.0))

    def saturated(self) -> float:
        """Return the share of time at 95 % or above."""
        full = self._durations()[self.shares >= SATURATED]
        return float(full.sum()) / self.end if self.end > 0.0 else 0.0

    def series(self) -> list[tuple[float, float]]:
        """Return the breakpoints, or the means of equal intervals where there are too many of them."""
        times, shares = self.times, self.shares
        if len(times) > MOST_POINTS:
            edges = np.linspace(0.0, self.end, MOST_POINTS + 1)
            integral = np.concatenate(([0.0], np.cumsum(shares * self._durations())))
            shares = np.diff(np.interp(edges, np.append(times, self.end), integral)) / np.diff(edges)
            times = edges[:-1]
        return list(zip(times.tolist(), shares.tolist(), strict=True))

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
    """Return the use of every wanted link.

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
    found = []
    for link, cable in enumerate(cables):
        extra = background.get(link, 0.0)
        if not wanted(cable) or (link not in row_of and extra == 0.0) or seconds <= 0.0:
            continue
        row = row_of.get(link)
        key = (row, extra)
        if key not in known:
            known[key] = _load(utilisation, row, extra / seconds / cable.rate)
        found.append(_record(cable, known[key], 0.0 if row is None else waiting.get(row, 0.0)))
    return found


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
    mean = min(load.mean(), 1.0)
    return LinkUse(
        source=cable.source, target=cable.target, kind=cable.kind, rate=cable.rate,
        carried=mean * cable.rate * load.end, mean=mean, peak=min(load.peak(), 1.0),
        saturated=min(load.saturated(), 1.0), waiting=waiting, series=load.series(),
    )  # fmt: skip


def busiest(links: Sequence[LinkUse], most: int = MOST_LINKS) -> list[LinkUse]:
    """Return the busiest links, busiest first, ties by name."""
    return sorted(links, key=lambda link: (-link.mean, link.source, link.target))[:most]
