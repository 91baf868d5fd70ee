"""Figures and tables of what-if studies; every plot draws on the axes that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from planner.errors import StudyError
from planner.report.palette import HUES
from planner.report.rows import Row
from planner.study.whatif import Outcome, StudyDocument, changes, crossings, pareto_front, swings
from planner.study.whatif.paths import split_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return one flat row per outcome: parameters, status, decisions, metrics; the same columns in each."""
    metrics = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    return [
        {
            **outcome.labels,
            "status": outcome.status,
            "decision": outcome.decided,
            **{_column(name, outcome): outcome.metrics.get(name) for name in metrics},
            "message": outcome.message,
        }
        for outcome in outcomes
    ]


def _column(metric: str, outcome: Outcome) -> str:
    """Return the column of a metric, told apart from a parameter of the same name."""
    return f"predicted_{metric}" if metric in outcome.labels else metric


def default_metric(study: StudyDocument, outcomes: Sequence[Outcome]) -> str:
    """Return the metric that figures show: the first that the study asks for, else the best known one."""
    known = {name for outcome in outcomes for name in outcome.metrics}
    for name in (*study.metrics, "simulated_latency_p99", "simulated_step_time", "objective"):
        if name in known:
            return name
    raise StudyError(f"no scenario has any of the metrics {', '.join(study.metrics) or 'objective'}")


def axis_label(metric: str) -> str:
    """Return the name of a metric with its unit."""
    name = metric.removeprefix("simulated_").split(".")[-1]
    if name.startswith(("ttft", "tpot", "latency", "step_time")):
        return f"{metric} (s)"
    return f"{metric} (USD/h)" if name == "price_per_hour" else metric


def plot_line(ax: Axes, study: StudyDocument, outcomes: Sequence[Outcome], metric: str) -> None:
    """Draw a metric over the first parameter, a line per combination of the others.

    Dotted lines mark where the plan changes, crosses where one line overtakes another.
    """
    title = study.vary[0].title
    lines: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        rest = tuple(value for name, value in outcome.labels.items() if name != title)
        lines.setdefault(rest if study.combine == "cross" else (), []).append(outcome)
    ticks = list(dict.fromkeys(outcome.labels[title] for outcome in outcomes))
    places, unit = _places(ticks)
    for number, (rest, line) in enumerate(lines.items()):
        known = [outcome for outcome in line if metric in outcome.metrics]
        at = [places[outcome.labels[title]] for outcome in known]
        colour = HUES[number % len(HUES)]
        label = ", ".join(rest) or None
        ax.plot(at, [outcome.metrics[metric] for outcome in known], "o-", color=colour, label=label)
    drawn = 0
    for change in changes(study, outcomes):
        if change.parameter == title and drawn < 12:
            middle = (places[change.low] + places[change.high]) / 2
            ax.axvline(middle, color="#777777", linestyle=":", linewidth=1, zorder=0)
            drawn += 1
    for crossing in crossings(study, outcomes, metric):
        ax.plot(crossing.at, crossing.value, "x", color="black", markersize=9, zorder=5)
    if unit is None:
        ax.set_xticks(list(places.values()), ticks, rotation=30, ha="right")
    ax.set_xlabel(f"{title} ({unit})" if unit else title)
    ax.set_ylabel(axis_label(metric))
    if len(lines) > 1:
        ax.legend(fontsize=8)


def _places(ticks: Sequence[str]) -> tuple[dict[str, float], str | None]:
    """Return where the values stand on an axis, and their unit; one by one where they are no numbers."""
    try:
        split = [split_quantity(tick) for tick in ticks]
    except ValueError:
        split = []
    if split and len({unit for _, unit in split}) == 1:
        return {tick: number for tick, (number, _) in zip(ticks, split, strict=True)}, split[0][1]
    return {tick: float(place) for place, tick in enumerate(ticks)}, None


def plot_tornado(ax: Axes, study: StudyDocument, outcomes: Sequence[Outcome], metric: str) -> None:
    """Draw how far each parameter alone moves a metric from that of the first scenario, widest on top."""
    found = swings(study, outcomes, metric)
    for place, swing in enumerate(reversed(found)):
        ax.barh(place, swing.at_low - swing.base, left=swing.base, color=HUES[0])
        ax.barh(place, swing.at_high - swing.base, left=swing.base, color=HUES[1])
        for text, at, side in ((swing.low, swing.at_low, "right"), (swing.high, swing.at_high, "left")):
            ax.annotate(f" {text} ", (at, place), ha=side, va="center", fontsize=8)
    ax.set_yticks(range(len(found)), [swing.parameter for swing in reversed(found)])
    ends = [end for swing in found for end in (swing.at_low, swing.at_high)]
    room = 0.15 * (max(ends) - min(ends)) if ends else 0.0
    if room:
        ax.set_xlim(min(ends) - room, max(ends) + room)
    ax.set_xlabel(axis_label(metric))


def plot_heat(ax: Axes, study: StudyDocument, outcomes: Sequence[Outcome], metric: str) -> None:
    """Draw a metric over the first two parameters as a heat map; blank where there is no plan."""
    across, up = study.vary[0].title, study.vary[1].title
    columns = list(dict.fromkeys(outcome.labels[across] for outcome in outcomes))
    lines = list(dict.fromkeys(outcome.labels[up] for outcome in outcomes))
    grid = np.full((len(lines), len(columns)), np.nan)
    for outcome in reversed(outcomes):  # of scenarios that differ in a third parameter the first is shown
        if metric in outcome.metrics:
            place = lines.index(outcome.labels[up]), columns.index(outcome.labels[across])
            grid[place] = outcome.metrics[metric]
    image = ax.imshow(grid, origin="lower", aspect="auto", cmap="viridis_r")
    ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    ax.set_yticks(range(len(lines)), lines)
    ax.set_xlabel(across)
    ax.set_ylabel(up)
    ax.figure.colorbar(image, ax=ax, label=axis_label(metric))


def plot_pareto(ax: Axes, outcomes: Sequence[Outcome], first: str, second: str) -> None:
    """Draw two metrics against one another, and the front of what nothing beats in both."""
    known = [outcome for outcome in outcomes if first in outcome.metrics and second in outcome.metrics]
    ax.scatter(
        [outcome.metrics[first] for outcome in known],
        [outcome.metrics[second] for outcome in known],
        color="#777777",
        label="scenarios",
    )
    front = pareto_front(known, first, second)
    ax.step(
        [outcome.metrics[first] for outcome in front],
        [outcome.metrics[second] for outcome in front],
        "o-",
        where="post",
        color=HUES[1],
        label="not dominated",
    )
    ax.set_xlabel(axis_label(first))
    ax.set_ylabel(axis_label(second))
    ax.legend(fontsize=8)


def figures(study: StudyDocument, outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """Return the figures of a study by name: what its parameters allow."""
    from matplotlib.figure import Figure

    if not any(outcome.metrics for outcome in outcomes):
        return {}
    metric = default_metric(study, outcomes)
    made: dict[str, Figure] = {}

    def axes(name: str, heading: str) -> Axes:
        made[name] = Figure(figsize=(8, 4.5), layout="constrained")
        ax: Axes = made[name].subplots()
        ax.set_title(heading)
        return ax

    plot_line(
        axes("line", f"{study.name}: dotted lines mark where the plan changes"), study, outcomes, metric
    )
    if study.combine == "cross" and len(study.vary) > 1:
        plot_heat(axes("heat", study.name), study, outcomes, metric)
        plot_tornado(axes("tornado", f"{study.name}: one parameter at a time"), study, outcomes, metric)
    costs = {name for outcome in outcomes for name in outcome.metrics}
    cost = "price_per_hour" if "price_per_hour" in costs else "gpus"
    if len({outcome.metrics.get(cost) for outcome in outcomes}) > 1:
        plot_pareto(axes("pareto", study.name), outcomes, cost, metric)
    return made
