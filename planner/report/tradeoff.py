"""GPUs against time: the alternatives of a plan, those that nothing beats on both, and the plan itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner import units
from planner.placement import JobPlan, Plan
from planner.report import wording
from planner.report.charts import ticks
from planner.report.names import count
from planner.report.summary import Table
from planner.report.svg import element, group, number, title
from planner.study.alternatives import Alternative, front, time_of

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 560.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 20.0, 48.0
ROOM = 1.12
"""How far the axes go beyond the outermost points, as a ratio."""


@dataclass(frozen=True)
class TradeOff:
    """The figure of one job, and the same in words."""

    job: str
    chart: Markup
    table: Table
    note: str


def trade_offs(plan: Plan, found: Mapping[str, Sequence[Alternative]]) -> list[TradeOff]:
    """Return a figure for each job that has alternatives of several sizes."""
    return list(_trade_offs(plan, found))


def _trade_offs(plan: Plan, found: Mapping[str, Sequence[Alternative]]) -> Iterator[TradeOff]:
    for job in plan.jobs:
        others, seconds = found.get(job.name, ()), time_of(job)
        if len(others) < 2 or seconds is None:
            continue
        best = front(others)
        what = "step time" if job.kind == "training" else "p99 latency"
        alike = (
            " with the micro-batch, recompute and offloading of this plan" if job.kind == "training" else ""
        )
        note = (
            f"Circles: the least {what} of any strategy{alike} on so many GPUs, priced before placement. "
            "Filled ones: nothing is as fast on as few GPUs. Cross: this plan, placed."
        )
        rows = tuple(
            (str(one.gpus), units.show(one.seconds, "s"), _degrees(one), "yes" if one in best else "no")
            for one in others
        )
        table = Table(f"GPUs against {what}", ("GPUs", f"least {what}", "strategy", "on the front"), rows)
        yield TradeOff(job.name, Chart(job, seconds, others, best).svg(f"GPUs against {what}"), table, note)


def _degrees(one: Alternative) -> str:
    return wording.degrees(one.strategy)


class Chart:
    """The points of a job on two logarithmic axes."""

    def __init__(
        self, job: JobPlan, seconds: float, others: Sequence[Alternative], best: Sequence[Alternative]
    ) -> None:
        self.others, self.best = others, best
        self.own = float(len(set(job.gpus()))), seconds
        points = [self.own, *((float(one.gpus), one.seconds) for one in others)]
        self.x, self.y = (_span([point[axis] for point in points]) for axis in (0, 1))

    def svg(self, label: str) -> Markup:
        """Return the chart as an inline image."""
        parts = [*self._grid(), self._line(), *(self._dot(one) for one in self.others), self._cross()]
        fewest, most = self.best[0], self.best[-1]
        said = (
            f"{label}: from {units.show(fewest.seconds, 's')} on {count(fewest.gpus, 'GPU')} to "
            f"{units.show(most.seconds, 's')} on {count(most.gpus, 'GPU')}; this plan {self._own_text()}"
        )
        return element(
            "svg", *parts, class_="chart", role="img", aria_label=said,
            viewBox=f"0 0 {number(WIDTH)} {number(HEIGHT)}",
        )  # fmt: skip

    def _at(self, gpus: float, seconds: float) -> tuple[float, float]:
        across, up = _share(self.x, gpus), _share(self.y, seconds)
        return LEFT + (WIDTH - LEFT - RIGHT) * across, TOP + (HEIGHT - TOP - BOTTOM) * (1 - up)

    def _grid(self) -> Iterator[Markup]:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for seconds in log_ticks(*self.y):
            y = self._at(self.x[0], seconds)[1]
            yield element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid")
            yield element("text", units.show(seconds, "s"), x=LEFT - 8, y=y + 4, class_="end")
        for gpus in log_ticks(*self.x):
            if gpus == int(gpus):
                yield element(
                    "text", f"{int(gpus):,}", x=self._at(gpus, self.y[0])[0], y=bottom + 20, class_="mid"
                )
        yield element("text", "GPUs", x=(LEFT + right) / 2, y=bottom + 40, class_="mid")

    def _line(self) -> Markup:
        (x, y), *rest = [self._at(one.gpus, one.seconds) for one in self.best]
        steps = [f"M{number(x)} {number(y)}", *(f"H{number(x)}V{number(y)}" for x, y in rest)]
        return element("path", d="".join([*steps, f"H{number(WIDTH - RIGHT)}"]), class_="curve")

    def _dot(self, one: Alternative) -> Markup:
        x, y = self._at(one.gpus, one.seconds)
        text = f"{count(one.gpus, 'GPU')}: at least {units.show(one.seconds, 's')}, {_degrees(one)}"
        class_ = "mark full" if one in self.best else "mark other"
        return element("circle", title(text), cx=x, cy=y, r=4.5, class_=class_)

    def _own_text(self) -> str:
        return f"{units.show(self.own[1], 's')} on {count(int(self.own[0]), 'GPU')}"

    def _cross(self) -> Markup:
        x, y = self._at(*self.own)
        arms = f"M{number(x - 6)} {number(y - 6)}l12 12m0 -12l-12 12"
        flip = x > WIDTH / 2
        words = element(
            "text",
            "this plan",
            x=x - 10 if flip else x + 10,
            y=y - 8,
            class_=f"mark {'end' if flip else 'start'}",
        )
        return group(title(f"this plan: {self._own_text()}"), element("path", d=arms, class_="own"), words)


def _span(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / ROOM, max(values) * ROOM


def _share(ends: tuple[float, float], value: float) -> float:
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most ``most`` round values for a logarithmic axis."""
    for digits in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1,)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [digit * 10.0**power for power in decades for digit in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            break
    if len(found) < 3:  # much less than a decade
        found = [value for value in ticks(high) if value >= low]
    return found[:: -(-len(found) // most)] if found else [high]
