"""The smallest cluster for a load as tables, rows and figures; a plot draws on the axes that it is given."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from planner import units
from planner.report.names import DASH
from planner.report.palette import HUES
from planner.report.rows import Row
from planner.report.summary import Summary, Table
from planner.study.recommend import STEP, By, Capacity, Cluster, Limit, Recommendation, kind_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURES: dict[By, str] = {"gpus": "GPUs", "nodes": "nodes", "cost": "USD/h"}
LEAST: dict[By, str] = {"gpus": "the fewest GPUs", "nodes": "the fewest nodes", "cost": "the least cost"}


def recommendation_rows(found: Recommendation) -> list[Row]:
    """Return a row per cluster and load that was looked at; times in s."""
    limits = list(dict.fromkeys((one.job, one.name) for point in found.points for one in point.limits))
    best = {load: found.choices(load)[:1] for load in found.loads}
    rows: list[Row] = []
    for point in sorted(found.points, key=lambda one: (one.load, one.cluster.size(found.by))):
        cluster = point.cluster
        row: Row = {
            "load": point.load,
            "cluster": cluster.name,
            "nodes": cluster.nodes,
            "gpus": cluster.gpus,
            "price_usd_per_hour": cluster.price,
            "verdict": point.verdict,
            "surely": point.sure,
            "recommended": point in best.get(point.load, []),
        }
        seen = {(one.job, one.name): one for one in point.limits}
        for job, name in limits:
            limit = seen.get((job, name))
            row |= {
                f"{job}.{name}": limit.value if limit else None,
                f"{job}.{name}_low": limit.low if limit and isfinite(limit.low) else None,
                f"{job}.{name}_high": limit.high if limit and isfinite(limit.high) else None,
            }
        rows.append({**row, "decision": point.decision, "reason": point.reason})
    return rows


def recommendation_json(found: Recommendation) -> dict[str, object]:
    """Return a recommendation as plain JSON data."""
    return {
        "workload": found.workload,
        "by": found.by,
        "blocks": [block.name for block in found.blocks],
        "loads": [_answer(found, load) for load in found.loads],
        "capacity": [
            {"cluster": one.cluster.name, "carries": one.carries, "fails": one.fails}
            for one in found.capacities()
        ],
        "rows": recommendation_rows(found),
    }


def _answer(found: Recommendation, load: float) -> Row:
    if not found.choices(load):
        return {"load": load, "recommended": None, "looked_at": len(found.at(load))}
    best, other = found.best(load), found.runner_up(load)
    return {
        "load": load,
        "recommended": best.cluster.name,
        "nodes": best.cluster.nodes,
        "gpus": best.cluster.gpus,
        "price_usd_per_hour": best.cluster.price,
        "surely": best.sure,
        "proven": found.proven(load),
        "smaller_refused": len(found.smaller(load)),
        "runner_up": other.cluster.name if other else None,
        "loss": found.loss(load),
    }


def recommendation_summary(found: Recommendation) -> Summary:
    """Return the answer for each load, what was looked at, and how much each cluster carries."""
    answers = tuple(_answer_row(found, load) for load in found.loads)
    measure = MEASURES[found.by]
    tables = [
        Table(
            f"Smallest cluster by {measure}",
            ("load", "cluster", "GPUs", "USD/h", "nearest limit, 95 % interval", "runner-up", "loss"),
            answers,
        )
    ]
    if len(found.loads) > 1:
        rows = tuple(_capacity_row(one) for one in found.capacities())
        tables.append(Table("Capacity", ("cluster", "carries", "not"), rows))
    looked = tuple(
        (f"{point.load:g} x", point.cluster.name, point.verdict, _limit(point.worst), point.reason)
        for load in found.loads
        for point in found.at(load)
    )
    columns = ("load", "cluster", "verdict", "nearest limit", "why not")
    tables.append(Table("Looked at", columns, looked))
    return Summary(found.workload, sentence(found, found.loads[0]), tuple(tables), tuple(_notes(found)))


def sentence(found: Recommendation, load: float) -> str:
    """Return what is recommended for a load and how far that is proven."""
    if not found.choices(load):
        return f"None of the {len(found.at(load))} clusters holds the limits at {load:g} times the load."
    best, smaller = found.best(load), found.smaller(load)
    which = f"{best.cluster.name} ({_sizes(best.cluster)})"
    head = f"{which} is the cluster of {LEAST[found.by]} for {load:g} x the load"
    left = [point.cluster.name for point in smaller if point.verdict == "open"]
    if left:
        return f"{head} that was found; not refused for certain: {', '.join(left)}."
    if not smaller:
        return f"{head}: no candidate is smaller."
    number = "the only smaller one" if len(smaller) == 1 else f"each of the {len(smaller)} smaller ones"
    return f"{head}: {number} was refused, on paper or by simulating every strategy that could hold."


def _notes(found: Recommendation) -> list[str]:
    kinds = "clusters of one block and mixtures" if found.mixed else "clusters of one block"
    notes = [f"Candidates: {kinds}, each with all of its nodes; {len(found.points)} were looked at."]
    notes += [f"At most {block.most} x {block.name}: {block.note}." for block in found.blocks if block.note]
    narrow = [load for load in found.loads if found.choices(load) and not found.best(load).sure]
    if narrow:
        which = ", ".join(f"{load:g} x" for load in narrow)
        notes.append(f"The 95 % interval reaches over a limit at {which}; more --requests narrow it.")
    return notes


def _sizes(cluster: Cluster) -> str:
    price = "" if cluster.price is None else f", {cluster.price:,.2f} USD/h"
    return f"{cluster.gpus} GPUs{price}"


def _answer_row(found: Recommendation, load: float) -> tuple[str, ...]:
    if not found.choices(load):
        return f"{load:g} x", "none", DASH, DASH, DASH, DASH, DASH
    best, other, loss = found.best(load), found.runner_up(load), found.loss(load)
    price = DASH if best.cluster.price is None else f"{best.cluster.price:,.2f}"
    return (
        f"{load:g} x",
        best.cluster.name,
        str(best.cluster.gpus),
        price,
        _limit(best.worst),
        other.cluster.name if other else DASH,
        DASH if loss is None else f"+{loss:.0%}" if loss else "equal",
    )


def _capacity_row(one: Capacity) -> tuple[str, ...]:
    carries = DASH if one.carries is None else f"{one.carries:g} x"
    return one.cluster.name, carries, DASH if one.fails is None else f"{one.fails:g} x"


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return DASH
    value, most = units.show(limit.value, "s"), units.show(limit.limit, "s")
    if not (isfinite(limit.low) and isfinite(limit.high)) or limit.low == limit.high:
        return f"{limit.name} {value} of {most}"
    return f"{limit.name} {value} of {most} ({units.show(limit.low, 's')} to {units.show(limit.high, 's')})"


def plot_capacity(ax: Axes, found: Recommendation) -> None:
    """Draw the size that each block needs over the load.

    Lines run as far as a size was seen to carry the load, dotted ones on to the load that it was seen not to
    carry; dots are the loads asked about, hollow where an interval reaches over a limit.
    """
    kinds: dict[str, list[Capacity]] = {}
    for one in found.capacities():
        if one.carries is not None:
            kinds.setdefault(kind_of(one.cluster), []).append(one)
    spread = 0.01 * max(
        (one.cluster.size(found.by)[0] for line in kinds.values() for one in line), default=1.0
    )
    for number, (name, line) in enumerate(kinds.items()):
        colour, start, lift = HUES[number % len(HUES)], 0.0, spread * number  # lines of equal size stay apart
        for one in sorted(line, key=lambda capacity: capacity.cluster.size(found.by)):
            size, carries = one.cluster.size(found.by)[0] + lift, one.carries or 0.0
            if carries <= start:
                continue
            ax.plot([start, carries], [size, size], color=colour, linewidth=2)
            if one.fails is not None:
                ax.plot([carries, one.fails], [size, size], ":", color=colour, linewidth=2)
            start = carries
        points = [p for load in found.loads for p in found.choices(load) if kind_of(p.cluster) == name]
        for point in points:
            at = point.load, point.cluster.size(found.by)[0] + lift
            ax.plot(*at, "o", color=colour, mfc=colour if point.sure else "white")
        ax.plot([], [], "o-", color=colour, label=name)
    ax.set_ylim(bottom=0)
    ax.set_xlim(left=0)
    ax.set_xlabel("load, times that of the workload")
    ax.set_ylabel(f"{MEASURES[found.by]} needed")
    if kinds:
        ax.legend(fontsize=8, loc="upper left")


def plot_limits(ax: Axes, found: Recommendation) -> None:
    """Draw each simulated figure of the recommended clusters over its limit, with its 95 % interval."""
    best = [found.best(load) for load in found.loads if found.choices(load)]
    names = list(dict.fromkeys((one.job, one.name) for point in best for one in point.limits))
    many = len({job for job, _ in names}) > 1
    for number, key in enumerate(names):
        seen = [(p.load, one) for p in best for one in p.limits if (one.job, one.name) == key]
        above = [one.high - one.value if isfinite(one.high) else 0.0 for _, one in seen]
        spread = [
            [100.0 * (one.value - one.low) / one.limit for _, one in seen],
            [100.0 * up / one.limit for up, (_, one) in zip(above, seen, strict=True)],
        ]
        at = [load * (1.0 + 0.008 * number) for load, _ in seen]
        label, colour = ".".join(key) if many else key[1], HUES[number % len(HUES)]
        ratios = [100.0 * one.ratio for _, one in seen]
        ax.errorbar(at, ratios, yerr=spread, fmt="o", capsize=3, color=colour, label=label)
    before = None
    for point in best:
        if point.cluster.name != before:
            ax.annotate(point.cluster.name, (point.load, 104.0), fontsize=8, ha="center")
        before = point.cluster.name
    ax.axhline(100.0, color="#777777", linestyle=":", linewidth=1)
    ax.margins(x=0.12)
    ax.set_ylim(0.0, 115.0)
    ax.set_xlabel("load, times that of the workload")
    ax.set_ylabel(
        "simulated 99th percentile, % of its limit" if STEP not in {n for _, n in names} else "% of limit"
    )
    if names:
        ax.legend(fontsize=8, loc="lower right")


def plot_sizes(ax: Axes, found: Recommendation, load: float) -> None:
    """Draw the smallest cluster of each kind that holds a load, smallest on top."""
    choices = found.choices(load)
    sizes = [point.cluster.size(found.by)[0] for point in choices]
    colours = ["#9cc3ea" if place == 0 else "#d0d8e2" for place in range(len(choices))]
    ax.barh(range(len(choices)), sizes, color=colours, height=0.5)
    for place, point in enumerate(choices):
        ax.annotate(f" {_limit(point.worst)}", (0.0, place), va="center", fontsize=8)
    ax.set_yticks(range(len(choices)), [point.cluster.name for point in choices])
    ax.set_ylim(max(len(choices), 3) - 0.5, -0.5)
    ax.set_xlabel(f"{MEASURES[found.by]}, with the limit that is nearest")


def recommendation_figures(found: Recommendation) -> dict[str, Figure]:
    """Return the figures of a recommendation by name."""
    from matplotlib.figure import Figure

    made: dict[str, Figure] = {}

    def axes(name: str, heading: str) -> Axes:
        made[name] = Figure(figsize=(8, 4.5), layout="constrained")
        ax: Axes = made[name].subplots()
        ax.set_title(heading)
        return ax

    held = [load for load in found.loads if found.choices(load)]
    if held and len(found.loads) > 1:
        plot_capacity(axes("capacity", f"{found.workload}: cluster needed over the load"), found)
    if held:
        plot_sizes(axes("sizes", f"{found.workload}: smallest clusters at {held[0]:g} x"), found, held[0])
        plot_limits(axes("limits", f"{found.workload}: simulated limits, 95 % intervals"), found)
    return made
