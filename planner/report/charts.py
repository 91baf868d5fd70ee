"""Charts: stacked bars, a cumulative distribution, small lines; colours are classes, text stays text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from planner import units
from planner.report.palette import HUES, Swatch
from planner.report.svg import NOTHING, element, group, number, percent, title
from planner.report.wording import plain

if TYPE_CHECKING:
    from markupsafe import Markup

Points = Sequence[tuple[float, float]]


def part_classes(names: Sequence[str]) -> dict[str, str]:
    """Return a colour class for each distinct part, in order of first appearance."""
    return {name: f"p{index % len(HUES)}" for index, name in enumerate(dict.fromkeys(names))}


def legend(classes: Mapping[str, str]) -> tuple[Swatch, ...]:
    """Return the entries of a legend."""
    return tuple(Swatch(class_, plain(name)) for name, class_ in classes.items())


def stacked_bar(
    parts: Mapping[str, float],
    classes: Mapping[str, str],
    full: float,
    unit: str,
    label: str,
    limit: float | None = None,
) -> Markup:
    """Return a horizontal bar of parts.

    Parameters
    ----------
    full
        Value at the right edge, in the unit of the parts.
    limit
        Value of a line that the bar should not cross.
    """
    rects, left = [], 0.0
    for name, value in parts.items():
        if value > 0 and full > 0:
            text = title(f"{plain(name)}: {units.show(value, unit)}")
            rects.append(
                element(
                    "rect",
                    text,
                    x=percent(left / full),
                    width=percent(value / full),
                    y=0,
                    height="100%",
                    class_=classes[name],
                )
            )
            left += value
    if limit is not None and full > 0:
        at = percent(limit / full)
        text = title(f"capacity: {units.show(limit, unit)}")
        rects.append(element("line", text, x1=at, x2=at, y1=0, y2="100%", class_="limit"))
    return element("svg", *rects, class_="bar", role="img", aria_label=label)


def sparkline(points: Points, end: float, label: str) -> Markup:
    """Return utilisation, 0 to 1, over time as a small filled step line."""
    if len(points) < 2 or end <= 0:
        return NOTHING
    steps = [f"M0 24V{number(24 - 22 * min(points[0][1], 1.0))}"]
    for time, value in points:
        steps.append(f"H{number(120 * min(time / end, 1.0))}V{number(24 - 22 * min(max(value, 0.0), 1.0))}")
    path = element("path", d="".join([*steps, "H120V24Z"]))
    return element(
        "svg", title(label), path, class_="spark", role="img", aria_label=label, viewBox="0 0 120 24",
        preserveAspectRatio="none",
    )  # fmt: skip


def ticks(end: float, most: int = 6) -> list[float]:
    """Return round values from 0 up to ``end``, at most ``most`` steps of 1, 2, 2.5 or 5."""
    if not end > 0 or math.isinf(end):
        return [0.0]
    rough = end / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if size * factor >= rough * (1 - 1e-9))
    return [step * index for index in range(int(end / step * (1 + 1e-9)) + 1)]


class CdfChart:
    """The cumulative distribution of a latency, with percentiles and a limit.

    Parameters
    ----------
    points
        Latency, s, and share of requests at or below it, in order.
    marks
        Percentiles by name, s.
    limit
        Latency that the 99th percentile must meet, s.
    other
        Points of a second distribution, drawn as a broken line.
    """

    WIDTH, HEIGHT = 560.0, 320.0
    LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 62.0, 34.0

    def __init__(
        self, points: Points, marks: Mapping[str, float], limit: float | None, other: Points = ()
    ) -> None:
        self.points, self.marks, self.limit, self.other = points, marks, limit, other
        drawn = [curve for curve in (points, other) if curve]
        tail = max([*marks.values(), *(next((x for x, y in c if y >= 0.995), c[-1][0]) for c in drawn)])
        shown = limit if limit is not None and limit <= 2.5 * tail else 0.0
        self.end = 1.05 * max(tail, shown) or 1.0

    def svg(self, label: str) -> Markup:
        """Return the chart as an inline image."""
        other = self._curve(self.other, "curve other") if self.other else NOTHING
        parts = [*self._grid(), other, self._curve(self.points, "curve"), *self._marks()]
        return element(
            "svg", *parts, class_="chart", role="img", aria_label=label,
            viewBox=f"0 0 {number(self.WIDTH)} {number(self.HEIGHT)}",
        )  # fmt: skip

    def _x(self, seconds: float) -> float:
        return self.LEFT + (self.WIDTH - self.LEFT - self.RIGHT) * min(seconds / self.end, 1.0)

    def _y(self, share: float) -> float:
        return self.TOP + (self.HEIGHT - self.TOP - self.BOTTOM) * (1 - share)

    def _grid(self) -> list[Markup]:
        right, bottom = self.WIDTH - self.RIGHT, self._y(0)
        parts = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = self._y(share)
            parts.append(element("line", x1=self.LEFT, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(
                element("text", f"{share:.0%}".replace("%", " %"), x=self.LEFT - 8, y=y + 4, class_="end")
            )
        for value in ticks(self.end):
            text = units.show(value, "s") if value else "0"
            parts.append(element("text", text, x=self._x(value), y=bottom + 20, class_="mid"))
        return parts

    def _curve(self, points: Points, class_: str) -> Markup:
        every = max(1, len(points) // 300)
        thinned = [*points[::every], points[-1]]
        steps = [f"M{number(self._x(thinned[0][0]))} {number(self._y(0))}"]
        for latency, share in thinned:
            if latency <= self.end:
                steps.append(f"H{number(self._x(latency))}V{number(self._y(share))}")
        if points[-1][0] <= self.end:
            steps.append(f"H{number(self.WIDTH - self.RIGHT)}")
        return element("path", d="".join(steps), class_=class_)

    def _marks(self) -> list[Markup]:
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        lines: list[tuple[str, float, str, float]] = [
            (f"{name} {units.show(value, 's')}", value, "mark", shares.get(name.split()[-1], 0.0))
            for name, value in self.marks.items()
        ]
        if self.limit is not None:
            beyond = self.limit > self.end
            text = f"limit {units.show(self.limit, 's')}" + (" →" if beyond else "")
            lines.append((text, min(self.limit, self.end), "limit", 1.0))
        rows = self._rows([(text, value) for text, value, _, _ in lines])
        return [self._mark(*line, row) for line, row in zip(lines, rows, strict=True)]

    def _rows(self, labels: Sequence[tuple[str, float]]) -> list[int]:
        """Return the row above the plot for each label such that none overlap in a row."""
        ends: list[float] = []
        rows = []
        for text, value in labels:
            x, width = self._x(value), 7.0 * len(text) + 12
            left = x - width if self._flips(x, width) else x
            row = next((index for index, end in enumerate(ends) if end <= left), len(ends))
            ends[row : row + 1] = [left + width]
            rows.append(row)
        return rows

    def _flips(self, x: float, width: float) -> bool:
        return x + width > self.WIDTH - self.RIGHT

    def _mark(self, text: str, value: float, class_: str, share: float, row: int) -> Markup:
        x, y = self._x(value), 14.0 + 16.0 * row
        flip = self._flips(x, 7.0 * len(text) + 12)
        words = element(
            "text", text, x=x - 5 if flip else x + 5, y=y, class_=f"{class_} {'end' if flip else 'start'}"
        )
        line = element("line", x1=x, x2=x, y1=y - 9, y2=self._y(0), class_=class_)
        dot = (
            element("circle", cx=x, cy=self._y(share), r=3.5, class_=class_) if class_ == "mark" else NOTHING
        )
        return group(line, dot, words)
