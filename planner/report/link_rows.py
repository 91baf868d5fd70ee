"""The busiest links as rows of a table; links that are alike, by symmetry, share a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner import units
from planner.placement.plan import Plan
from planner.report import wording
from planner.report.charts import sparkline
from planner.report.links import BusyLink, busiest_links
from planner.report.names import fold, stem
from planner.report.palette import load_step
from planner.report.svg import NOTHING, percent
from planner.simulate.result import SimulationResult

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_ROWS = 12


@dataclass(frozen=True)
class LinkRow:
    """A row: one link, or several that differ in the numbers of their names alone.

    Attributes
    ----------
    many
        How many links; the bar, the waiting and the line over time are of the busiest of them.
    """

    ends: tuple[str, str]
    many: int
    kind: str
    rate: str
    use: str
    step: str
    width: str
    peak: str
    saturated: str
    waiting: str
    line: Markup


def link_rows(plan: Plan, simulation: SimulationResult | None) -> list[LinkRow]:
    """Return the busiest links, busiest first, those alike in one row."""
    alike: dict[tuple[str, ...], list[BusyLink]] = {}
    for link in busiest_links(plan, simulation, None):
        alike.setdefault(_key(link), []).append(link)
    end = simulation.horizon if simulation is not None else 0.0
    return [_row(links, end) for links in list(alike.values())[:MOST_ROWS]]


def _key(link: BusyLink) -> tuple[str, ...]:
    """Return what links that share a row have in common."""
    rate = units.show(link.rate, "bytes/s")
    return (
        stem(link.source),
        stem(link.target),
        link.kind,
        rate,
        wording.share(link.utilisation),
        *_seen(link),
    )


def _seen(link: BusyLink) -> tuple[str, str]:
    seen = link.simulated
    return ("", "") if seen is None else (wording.share(seen.peak), wording.share(seen.saturated))


def _row(links: Sequence[BusyLink], end: float) -> LinkRow:
    first, seen = links[0], links[0].simulated
    ends = fold([link.source for link in links], most=1), fold([link.target for link in links], most=1)
    peak, saturated = _seen(first)
    name = f"use of {first.source} → {first.target} over time"
    return LinkRow(
        ends, len(links), wording.link_kind(first.kind), units.show(first.rate, "bytes/s"),
        wording.share(first.utilisation), load_step(first.utilisation), percent(min(first.utilisation, 1.0)),
        peak, saturated, "" if seen is None else units.show(seen.waiting, "s"),
        NOTHING if seen is None else sparkline(seen.series, end, name),
    )  # fmt: skip
