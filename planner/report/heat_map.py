"""Heat map of links over time: a strip per link, or per links that look alike, coloured by load."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from planner import units
from planner.report import wording
from planner.report.charts import ticks
from planner.report.names import count, fold, stem
from planner.report.palette import load_step
from planner.report.svg import element, percent, title

if TYPE_CHECKING:
    from markupsafe import Markup

    from planner.simulate.result import LinkUse, SimulationResult

MOST_ROWS = 24
CELLS = 96
"""Strips, and intervals of time of each: so much can the map grow at most, whatever was simulated."""
IDLE = "u0"
LAST_MARK = 0.9
"""Share of the axis up to which the text of a mark has room."""


@dataclass(frozen=True)
class HeatRow:
    """A strip: one link, or several of names that differ in their numbers alone and the same cells."""

    name: str
    many: int
    strip: Markup
    mean: str


@dataclass(frozen=True)
class HeatMap:
    """Strips under one time axis.

    Attributes
    ----------
    ticks
        Position, as a CSS percentage, and text of the marks of the axis.
    notes
        How to read it, and what was left out.
    """

    rows: tuple[HeatRow, ...]
    ticks: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def heat_map(simulation: SimulationResult | None) -> HeatMap | None:
    """Return the use of the busiest links over time; ``None`` where no link was ever in use."""
    if simulation is None or not simulation.horizon > 0.0:
        return None
    end = simulation.horizon
    alike: dict[tuple[object, ...], list[LinkUse]] = {}
    for link in sorted(simulation.links, key=lambda each: (-each.mean, each.source, each.target)):
        cells = tuple(load_step(float(use)) for use in mean_use(link, end))
        if any(step != IDLE for step in cells):
            alike.setdefault((stem(link.source), stem(link.target), link.kind, cells), []).append(link)
    if not alike:
        return None
    rows = tuple(_row(links, end) for links in list(alike.values())[:MOST_ROWS])
    notes = [f"Each cell is the mean use of a link over {units.show(end / CELLS, 's')}."]
    if len(alike) > MOST_ROWS:
        notes.append(f"The busiest {MOST_ROWS} of {count(len(alike), 'kind')} of links.")
    marks = tuple((percent(at / end), units.show(at, "s")) for at in ticks(end) if at <= LAST_MARK * end)
    return HeatMap(rows, marks, tuple(notes))


def mean_use(link: LinkUse, end: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the mean use of a link in each of `CELLS` equal intervals until ``end``, s."""
    if not link.series:
        return np.full(CELLS, link.mean)
    times, uses = np.asarray(sorted(link.series)).T
    times = np.append(times, max(end, float(times[-1])))
    integral = np.concatenate(([0.0], np.cumsum(uses * np.diff(times))))
    edges = np.linspace(0.0, end, CELLS + 1)
    means: np.ndarray[tuple[int], np.dtype[np.float64]] = np.diff(np.interp(edges, times, integral))
    return means * CELLS / end


def _row(links: list[LinkUse], end: float) -> HeatRow:
    first = links[0]
    uses = mean_use(first, end)
    name = (
        f"{fold([link.source for link in links], most=1)} → {fold([link.target for link in links], most=1)}"
    )
    top = int(np.argmax(uses))
    said = (
        f"{first.source} → {first.target}: mean use {wording.share(first.mean)}, highest "
        f"{wording.share(float(uses[top]))} at {units.show(top * end / CELLS, 's')}, at 95 % or above for "
        f"{wording.share(first.saturated)} of the time"
    )
    return HeatRow(name, len(links), _strip(uses, said), wording.share(first.mean))


def _strip(uses: np.ndarray[tuple[int], np.dtype[np.float64]], said: str) -> Markup:
    """Return a strip of cells, those of one colour in a row as one; idle ones are the ground."""
    cells, left = [], 0
    for step, run in groupby(load_step(float(use)) for use in uses):
        width = len(list(run))
        if step != IDLE:
            cells.append(
                element(
                    "rect", x=percent(left / CELLS), width=percent(width / CELLS), y=0, height="100%",
                    class_=f"fill-{step}",
                )
            )  # fmt: skip
        left += width
    return element("svg", title(said), *cells, class_="heat", role="img", aria_label=said)
