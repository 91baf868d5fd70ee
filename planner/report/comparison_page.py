"""The page of two plans side by side: A, the one before, and B, the one after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from planner import units
from planner.placement.plan import JobPlan
from planner.report import wording
from planner.report.charts import CdfChart, stacked_bar
from planner.report.comparison import Comparison, Figure, LinkChange, Side
from planner.report.names import DASH, MINUS, fold, stem
from planner.report.palette import load_step
from planner.report.sections import BarRow, Bars, compared_memory, time_bars
from planner.report.style import asset, chart_css, drawing_css
from planner.report.summary import Summary, Table, job_simulation
from planner.report.svg import percent
from planner.report.templating import template

MOST_LINKS = 24
_LEAST_CHANGE, _LEAST_POINTS = 0.0005, 0.0005
"""Below them a figure, or the use of a link, counts as the same."""
LETTERS = ("A", "B")


def render_comparison(comparison: Comparison) -> str:
    """Return the page as HTML: no scripts, styles, fonts or pictures from elsewhere."""
    sides = list(zip(LETTERS, (comparison.before, comparison.after), strict=True))
    jobs = comparison.jobs
    return template("comparison.html.j2").render(
        title=f"{comparison.before.plan.name} against {comparison.after.plan.name}",
        sides=[_card(letter, side) for letter, side in sides],
        verdict=verdict(comparison),
        inputs=_inputs(comparison),
        objective=_objective(comparison),
        decisions=_decisions(comparison),
        figures=[(figure, *_figure(figure)) for figure in comparison.figures],
        times=[(name, _times(comparison, old, new)) for name, old, new in jobs],
        latencies=[item for name, old, new in jobs for item in _latency(comparison, name, old, new)],
        memories=[(name, compared_memory(name, _by_letter(old, new))) for name, old, new in jobs],
        links=link_changes(comparison.links),
        css=Markup(asset("page.css") + drawing_css(1) + chart_css()),
    )  # fmt: skip


def comparison_summary(comparison: Comparison) -> Summary:
    """Return what differs as tables for the terminal."""
    changed = tuple(
        (each.job, each.name, each.before or DASH, each.after or DASH, each.reason)
        for each in comparison.decisions
        if each.changed
    )
    figures = tuple(
        (figure.job, figure.name, *_figure(figure)[:3])
        for figure in ((comparison.objective,) if comparison.objective else ()) + comparison.figures
    )
    links = tuple(
        (row.source, row.target, row.before, row.after, row.difference)
        for row in link_changes(comparison.links)
    )
    tables = (
        Table("What changed", ("job", "decision", *LETTERS, "why"), changed),
        Table("Figures", ("job", "figure", *LETTERS, "change"), figures),
        Table("Links", ("from", "to", *LETTERS, "difference"), links[:10]),
    )
    title = f"A {comparison.before.path}, B {comparison.after.path}"
    notes = tuple(f"The {name} differs." for name, same in comparison.inputs.items() if not same)
    return Summary(title, verdict(comparison), tuple(table for table in tables if table.rows), notes)


def verdict(comparison: Comparison) -> str:
    """Return in a sentence which plan is better, by how much, and how many decisions differ."""
    many = sum(each.changed for each in comparison.decisions)
    apart = "no decision differs" if not many else "one decision differs"
    if many > 1:
        apart = f"{many} decisions differ"
    goal = comparison.objective
    if goal is None or goal.change is None:
        return wording.sentence(f"The plans minimise different things; {apart}")
    if not goal.change:
        return wording.sentence(f"Equal in {goal.name}; {apart}")
    how = "lower" if goal.change < 0 else "higher"
    return wording.sentence(f"B has a {wording.share(abs(goal.change))} {how} {goal.name} than A; {apart}")


@dataclass(frozen=True)
class Card:
    """One of the plans at a glance."""

    letter: str
    name: str
    path: str
    sentence: str
    badge: str
    status: str
    objective: str
    how: str


def _card(letter: str, side: Side) -> Card:
    plan, goal = side.plan, side.plan.objective
    how = "with its simulation" if side.simulation is not None else "predictions alone"
    return Card(
        letter, plan.name, str(side.path), wording.plan_sentence(plan), plan.status,
        wording.status_text(plan),
        f"{wording.objective_name(goal)} {wording.objective_text(goal, goal.value)}", how,
    )  # fmt: skip


def _inputs(comparison: Comparison) -> list[tuple[str, str, str, bool]]:
    rows = []
    for name, same in comparison.inputs.items():
        old, new = (getattr(side.plan.inputs, name) for side in (comparison.before, comparison.after))
        before, after = (item.name if same else f"{item.name} ({_short(item.digest)})" for item in (old, new))
        rows.append((name, before, after, same))
    return rows


def _short(digest: str) -> str:
    return digest.rpartition(":")[2][:12]


def _objective(comparison: Comparison) -> Bars | None:
    """Return the objectives and their bounds as bars of one scale."""
    if comparison.objective is None:
        return None
    plans = comparison.before.plan, comparison.after.plan
    full = max(plan.objective.value for plan in plans)
    rows = [
        BarRow(
            f"{letter} {what}",
            stacked_bar({what: value}, {what: class_}, full, "1", f"{letter} {what}: {value:.4g}"),
            wording.objective_text(plan.objective, value),
        )
        for letter, plan in zip(LETTERS, plans, strict=True)
        for what, value, class_ in (("objective", plan.objective.value, "p0"), ("bound", plan.bound, "p8"))
    ]
    return Bars(comparison.objective.name, tuple(rows))


def _decisions(comparison: Comparison) -> tuple[Table, Table]:
    """Return the decisions that differ, and those that do not."""
    many = len({each.job for each in comparison.decisions}) > 1
    changed, kept = [], []
    for each in comparison.decisions:
        name = f"{each.job}: {each.name}" if many else each.name
        if each.changed:
            changed.append((name, each.before or DASH, each.after or DASH, each.reason))
        else:
            kept.append((name, each.before))
    return (
        Table("What changed", ("decision", *LETTERS, "why in B"), tuple(changed)),
        Table("What is the same", ("decision", "in both"), tuple(kept)),
    )


def _figure(figure: Figure) -> tuple[str, str, str, str]:
    """Return both values, the change and its CSS class."""
    texts = [DASH if value is None else _value(value, figure.unit) for value in (figure.before, figure.after)]
    change = figure.change
    if change is None:
        return texts[0], texts[1], "", ""
    if abs(change) < _LEAST_CHANGE:
        return texts[0], texts[1], "same", ""
    shown = f"{'+' if change > 0 else MINUS}{wording.share(abs(change))}"
    if figure.lower_is_better is None:
        return texts[0], texts[1], shown, ""
    good = "better" if (change < 0) == figure.lower_is_better else "worse"
    return texts[0], texts[1], f"{shown}, {good}", good


def _value(value: float, unit: str) -> str:
    if unit == "share":
        return wording.share(value)
    if unit != "1":
        return wording.shown(value, unit)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _by_letter(old: JobPlan | None, new: JobPlan | None) -> dict[str, JobPlan]:
    return {letter: job for letter, job in zip(LETTERS, (old, new), strict=True) if job is not None}


def _times(comparison: Comparison, old: JobPlan | None, new: JobPlan | None) -> Bars | None:
    sides = comparison.before, comparison.after
    bars = {}
    for letter, side, job in zip(LETTERS, sides, (old, new), strict=True):
        if job is None:
            continue
        bars[f"{letter} predicted"] = job.prediction.breakdown
        result = job_simulation(side.simulation, job.name)
        if result is not None and result.split:
            bars[f"{letter} simulated mean"] = result.split
    return time_bars(bars)


def _latency(
    comparison: Comparison, name: str, old: JobPlan | None, new: JobPlan | None
) -> Iterator[tuple[str, Markup]]:
    """Yield the latency distributions of both plans in one chart, where both were simulated."""
    if old is None or new is None:
        return
    before = job_simulation(comparison.before.simulation, old.name)
    after = job_simulation(comparison.after.simulation, new.name)
    if before is None or after is None or not (before.latency_cdf and after.latency_cdf):
        return
    marks = {
        f"{letter} p99": result.latency["latency"].p99
        for letter, result in zip(LETTERS, (before, after), strict=True)
        if "latency" in result.latency
    }
    words = ", ".join(f"{mark} {units.show(value, 's')}" for mark, value in marks.items())
    chart = CdfChart(after.latency_cdf, marks, None, before.latency_cdf)
    yield name, chart.svg(f"Latency distributions of A and B: {words}")


@dataclass(frozen=True)
class LinkRow:
    """Links that are alike, with their use in both plans in words, and as classes and widths of bars."""

    source: str
    target: str
    many: int
    before: str
    after: str
    difference: str
    meters: tuple[tuple[str, str], tuple[str, str]]


def link_changes(links: Sequence[LinkChange]) -> list[LinkRow]:
    """Return the links whose use differs most; those alike in name and use share a row."""
    alike: dict[tuple[str, ...], list[LinkChange]] = {}
    for link in links:
        if abs(link.difference) < _LEAST_POINTS:
            continue
        key = (stem(link.source), stem(link.target), _use(link.before), _use(link.after))
        alike.setdefault(key, []).append(link)
    return [_link_row(group) for group in list(alike.values())[:MOST_LINKS]]


def _link_row(group: Sequence[LinkChange]) -> LinkRow:
    first = group[0]
    points = 100 * first.difference
    sign = "+" if points >= 0 else MINUS
    return LinkRow(
        source=fold([link.source for link in group], most=1),
        target=fold([link.target for link in group], most=1),
        many=len(group),
        before=_use(first.before),
        after=_use(first.after),
        difference=f"{sign}{abs(points):.1f} points",
        meters=(_meter(first.before), _meter(first.after)),
    )


def _use(value: float | None) -> str:
    return DASH if value is None else wording.share(value)


def _meter(value: float | None) -> tuple[str, str]:
    return load_step(value), percent(min(value or 0.0, 1.0))
