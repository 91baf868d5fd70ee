"""The timeline of a simulation: one row per track, clipped to a readable window, tiny spans merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from planner import units
from planner.report.charts import ticks
from planner.report.names import count, natural
from planner.report.palette import Swatch
from planner.report.svg import element, percent, shorten, title
from planner.report.wording import sentence
from planner.simulate.result import JobSimulation, TimelineSpan

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_TRACKS = 24
MOST_SPANS = 3000
WINDOW_SPANS = 900
_BINS = 600
_ROW = 26
_BESIDE = frozenset({"communication", "copy"})
FloatArray = NDArray[np.float64]
Laned = Sequence[tuple[TimelineSpan, bool]]

LONG_SILENCE = 0.1
"""Share of a timeline without any span that is worth a note."""


@dataclass(frozen=True)
class Track:
    """One row: its name and its spans as SVG, in per cent of the window's width."""

    name: str
    svg: Markup


@dataclass(frozen=True)
class Timeline:
    """Rows under one time axis.

    Attributes
    ----------
    ticks
        Position, as a CSS percentage, and text of the marks of the axis.
    notes
        What was left out.
    """

    tracks: tuple[Track, ...]
    ticks: tuple[tuple[str, str], ...]
    legend: tuple[Swatch, ...]
    notes: tuple[str, ...]
    label: str


def timeline(job: JobSimulation) -> Timeline | None:
    """Return the timeline of a job, or ``None`` where the simulation kept none."""
    spans = [span for span in job.timeline if span.end > span.start and span.category != "idle"]
    if not spans:
        return None
    tracks: dict[str, list[TimelineSpan]] = defaultdict(list)
    for span in spans:
        tracks[span.track].append(span)
    names = sorted(tracks, key=natural)
    notes = []
    if len(names) > MOST_TRACKS:
        notes.append(f"{MOST_TRACKS} of {count(len(names), 'track')} shown")
        names = names[:MOST_TRACKS]
    start, end = _window([span for name in names for span in tracks[name]], clip=job.kind == "serving")
    whole = max(span.end for span in spans)
    if (start, end) != (min(span.start for span in spans), whole):
        shown_time, all_time = units.show(end - start, "s"), units.show(whole, "s")
        notes.append(f"{shown_time} out of {all_time} shown, from {units.show(start, 's')}")
    silence = unseen(spans)
    if silence is not None and job.kind == "training":
        first, last = (units.show(at, "s") for at in silence)
        notes.append(f"the simulation kept no spans from {first} to {last}: work there goes on as before it")
    shown = {name: [s for s in tracks[name] if s.end > start and s.start < end] for name in names}
    merge = sum(map(len, shown.values())) > MOST_SPANS
    if merge:
        notes.append(
            "short spans are merged: colour is what fills most of an interval, height how much of it"
        )
    draw = _merged if merge else _exact
    rows = tuple(Track(name, _row(name, list(draw(_beside(shown[name]), start, end)))) for name in names)
    kinds = dict.fromkeys(span.category for each in shown.values() for span in each)
    marks = tuple((percent((at - start) / (end - start)), units.show(at, "s")) for at in _marks(start, end))
    label = f"Timeline of {job.name}: {count(len(names), 'track')} over {units.show(end - start, 's')}"
    return Timeline(
        rows, marks, tuple(Swatch(f"t-{kind}", kind) for kind in kinds), tuple(map(sentence, notes)), label
    )


def unseen(spans: Sequence[TimelineSpan]) -> tuple[float, float] | None:
    """Return the longest time that no span of any computing track begins in, where it is long."""
    starts = np.sort(np.asarray([span.start for span in spans if span.category not in _BESIDE]))
    if len(starts) < 2:
        return None
    longest = int(np.argmax(np.diff(starts)))
    first, last = float(starts[longest]), float(starts[longest + 1])
    whole = max(span.end for span in spans)
    return (first, last) if last - first > LONG_SILENCE * whole else None


def _window(spans: Sequence[TimelineSpan], *, clip: bool) -> tuple[float, float]:
    """Return the time to show: everything, or a part from the middle when there is too much of it."""
    first, last = min(span.start for span in spans), max(span.end for span in spans)
    if not clip or len(spans) <= WINDOW_SPANS:
        return first, last
    starts = np.sort(np.asarray([span.start for span in spans]))
    low = (len(starts) - WINDOW_SPANS) // 2
    return float(starts[low]), float(starts[low + WINDOW_SPANS - 1])


def _marks(start: float, end: float) -> list[float]:
    """Return round times to mark on the axis, none so near the end that its text would not fit."""
    step = ([*ticks(end - start, 7), end - start])[1]
    first = int(np.ceil(start / step - 1e-9))
    return [step * index for index in range(first, first + 9) if step * index <= end - 0.07 * (end - start)]


def _beside(spans: Sequence[TimelineSpan]) -> list[tuple[TimelineSpan, bool]]:
    """Tell which spans to draw as a thin lane: transfers on a track that also computes."""
    mixed = len({span.category in _BESIDE for span in spans}) > 1
    return [(span, mixed and span.category in _BESIDE) for span in spans]


def _row(name: str, bars: list[Markup]) -> Markup:
    label = f"{name}: {count(len(bars), 'span')}"
    return element("svg", *bars, class_="track", role="img", aria_label=label, height=_ROW)


def _exact(spans: Laned, start: float, end: float) -> Iterator[Markup]:
    width = end - start
    for span, beside in spans:
        left, right = max(span.start, start), min(span.end, end)
        long, begun = units.show(span.end - span.start, "s"), units.show(span.start, "s")
        text = f"{span.name}: {span.category}, {long} from {begun}"
        yield _bar(span.category, (left - start) / width, (right - left) / width, text, beside, span.name)


def _bar(
    category: str, left: float, width: float, text: str, beside: bool, name: str = "", height: float = 1.0
) -> Markup:
    tall = (7.0 if beside else 22.0) * height
    y = (19.0 if beside else 2.0) + (0.0 if beside else 22.0 - tall)
    rect = element(
        "rect", title(text), x=percent(left), width=percent(max(width, 0.0006)), y=y, height=tall,
        rx=2.0 if width > 0.01 else None, class_=f"t-{category}",
    )  # fmt: skip
    room = int(width * 900 / 7.0)
    if not name or beside or room < 2 or (len(name) > room and room < 6):
        return rect
    words = element("text", shorten(name, room), x=percent(left + width / 2), y=17.0, class_="span-name")
    return element("g", rect, words)


def _merged(spans: Laned, start: float, end: float) -> Iterator[Markup]:
    """Yield bars over a fixed number of intervals, one lane for work and one for communication."""
    for beside in (False, True):
        lane = [span for span, thin in spans if thin == beside]
        if lane:
            yield from _binned(lane, start, end, beside)


def _binned(spans: Sequence[TimelineSpan], start: float, end: float, beside: bool) -> Iterator[Markup]:
    kinds = list(dict.fromkeys(span.category for span in spans))
    busy = np.stack([_busy([s for s in spans if s.category == kind], start, end) for kind in kinds])
    best, filled = busy.argmax(axis=0), np.minimum(busy.sum(axis=0), 1.0)
    level = np.where(filled > 0, np.maximum(np.round(filled * 8), 1.0) / 8, 0.0)
    first = 0
    for index in range(1, _BINS + 1):
        if index < _BINS and best[index] == best[first] and level[index] == level[first]:
            continue
        if level[first] > 0:
            share = float(filled[first:index].mean())
            begun = units.show(start + first / _BINS * (end - start), "s")
            text = f"mostly {kinds[best[first]]}, {share:.0%} busy, from {begun}"
            yield _bar(
                kinds[best[first]],
                first / _BINS,
                (index - first) / _BINS,
                text,
                beside,
                height=float(level[first]),
            )
        first = index


def _busy(spans: Sequence[TimelineSpan], start: float, end: float) -> FloatArray:
    """Return the busy share of each interval, from the running sum of busy time at its edges."""
    edges = np.linspace(start, end, _BINS + 1)
    covered = _elapsed(edges, [span.start for span in spans]) - _elapsed(edges, [span.end for span in spans])
    return np.diff(covered) / ((end - start) / _BINS)


def _elapsed(edges: FloatArray, times: Sequence[float]) -> FloatArray:
    """Return at each edge the time since every earlier one of ``times``, added up, s."""
    ordered = np.sort(np.asarray(times))
    earlier = np.searchsorted(ordered, edges)
    sums: FloatArray = np.concatenate([[0.0], np.cumsum(ordered)])
    elapsed: FloatArray = earlier * edges - sums[earlier]
    return elapsed
