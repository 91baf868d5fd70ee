"""What a simulation says of its bottlenecks: shares that add up to 100 %, and what the figures rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner import units
from planner.placement.plan import Plan
from planner.report import wording
from planner.report.names import count
from planner.report.summary import Summary, Table, plan_summary
from planner.simulate.result import JobSimulation, SimulationResult

MOST_LINKS = 5
_TENTHS = 1000
"""Tenths of a per cent in the whole."""


def simulation_summary(plan: Plan, simulation: SimulationResult) -> Summary:
    """Return the summary of a plan as simulated, with what its time goes into before its memory."""
    summary = plan_summary(plan, simulation)
    place = next(
        (place for place, table in enumerate(summary.tables) if table.title == "Memory per device"),
        len(summary.tables),
    )
    tables = (*summary.tables[:place], *causes_tables(simulation), *summary.tables[place:])
    return replace(summary, tables=tables, notes=(*summary.notes, run_note(simulation)))


def causes_tables(simulation: SimulationResult | None) -> tuple[Table, ...]:
    """Return where the time of each job goes, and which links hold transfers back, as far as is known."""
    if simulation is None:
        return ()
    several = len(simulation.jobs) > 1
    tables = [attribution_table(job, several=several) for job in simulation.jobs]
    return tuple(table for table in (*tables, waiting_table(simulation)) if table.rows)


def attribution_table(job: JobSimulation, *, several: bool = False) -> Table:
    """Return what the time of a step, or of a mean request, goes into, the largest part first."""
    parts = {wording.plain(name): value for name, value in job.attribution.items()}
    title = f"Where the simulated time of {job.name} goes" if several else "Where the simulated time goes"
    return Table(title, ("part", "share"), tuple(shares(parts).items()))


def waiting_table(simulation: SimulationResult, most: int = MOST_LINKS) -> Table:
    """Return the share of all time that transfers lost to other transfers by link, the worst first."""
    lost = {f"{link.source} → {link.target}": link.waiting for link in simulation.links if link.waiting > 0.0}
    worst = dict(sorted(lost.items(), key=lambda item: (-item[1], item[0]))[:most])
    rest = sum(lost.values()) - sum(worst.values())
    if len(lost) > most:
        worst[count(len(lost) - most, "other link")] = rest
    told = shares(worst)
    rows = tuple((name, units.show(worst[name], "s"), told[name]) for name in told)
    note = "Time that transfers lost because other transfers took part of the link."
    return Table("Waiting by link", ("link", "lost", "share"), rows, (note,) if rows else ())


def run_note(simulation: SimulationResult) -> str:
    """Return the seed, and the requests that do not count, in a sentence."""
    told = [f"simulated with seed {simulation.seed}"]
    for job in simulation.jobs:
        if job.warm_up is not None and job.cool_down is not None:
            kept = max((sample.count for sample in job.latency.values()), default=0)
            told.append(
                f"{job.name}: {count(kept, 'request')} counted, {job.warm_up:,} left out as warm-up (MSER-5) "
                f"and {job.cool_down:,} as cool-down"
            )
    return wording.sentence("; ".join(told))


def shares(parts: Mapping[str, float]) -> dict[str, str]:
    """Return parts of a whole as percentages to a tenth that add up to 100.0 %, the largest first.

    What rounding down leaves goes to the parts that it cut most.
    """
    whole = sum(parts.values())
    if not whole > 0.0:
        return {}
    exact = {name: _TENTHS * value / whole for name, value in parts.items()}
    tenths = {name: int(value) for name, value in exact.items()}
    left = _TENTHS - sum(tenths.values())
    for name in sorted(exact, key=lambda each: tenths[each] - exact[each])[:left]:
        tenths[name] += 1
    order = sorted(parts, key=lambda name: (-parts[name], name))
    return {name: f"{tenths[name] / 10:.1f} %" for name in order}
