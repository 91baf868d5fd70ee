"""A fleet, and offers at a price, as tables for the terminal and as rows for other programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from planner import units
from planner.placement import ServingPlan, TrainingPlan
from planner.placement.fleet import Part
from planner.report import wording
from planner.report.rows import Row
from planner.report.summary import Summary, Table
from planner.schema import compress
from planner.study.fleet import OPTIMAL, Fleet
from planner.study.pareto import Offer

NONE = "-"


def fleet_rows(fleet: Fleet) -> list[Row]:
    """Return a row per part of every job, in the order of the workload; a job without a place has one.

    ``value_s`` is the job's own objective, ``cost`` that over the best that it could get.
    """
    rows: list[Row] = []
    for job in fleet.problem.jobs:
        assignment = fleet.solution.placement.get(job.name)
        row: Row = {"job": job.name, "weight": job.weight, "placed": assignment is not None}
        if assignment is None:
            rows.append(row | _part_row(None) | {"value_s": None, "cost": fleet.problem.unplaced})
            continue
        choice = job.choice(assignment.shape)
        said = {} if choice is None else {"value_s": choice.value, "cost": choice.cost}
        rows += [row | _part_row(part) | said for part in assignment.parts]
    return rows


def _part_row(part: Part | None) -> Row:
    if part is None:
        return {"node": None, "gpus": None, "slice": None, "slice_start": None}
    cut = part.cut
    return {
        "node": part.node,
        "gpus": " ".join(compress(list(part.gpus))),
        "slice": cut.profile if cut else None,
        "slice_start": cut.start if cut else None,
    }


def fleet_summary(name: str, fleet: Fleet) -> Summary:
    """Return who gets what, how good it is proven to be, and what simple rules reach."""
    solution, jobs = fleet.solution, fleet.problem.jobs
    unplaced = unplaced_jobs(fleet)
    status = f"{len(solution.placement)} of {len(jobs)} jobs placed"
    if unplaced:
        status += "; no place for " + ", ".join(unplaced)
    result = (
        ("status", status),
        ("cost", f"{solution.cost:.4f}"),
        ("bound", f"{solution.bound:.4f}"),
        ("gap", wording.share(solution.gap)),
    )
    note = (
        "Cost: weighted mean of each job's objective over the best that it could get; "
        f"{fleet.problem.unplaced:g} for a job without a place."
    )
    rules = tuple(
        (rule, f"{cost:.4f}", wording.ratio_text(cost / solution.cost))
        for rule, cost in solution.baselines.items()
    )
    tables = (
        Table("Result", ("", ""), result, (note,)),
        Table("Simple rules", ("rule", "cost", "relative"), rules),
        Table("Jobs", ("job", "weight", "gets", "where", "alone there", "cost"), _job_rows(fleet)),
    )
    return Summary(name, f"{status}.", tables)


def unplaced_jobs(fleet: Fleet) -> list[str]:
    """Return the names of the jobs without a place."""
    return [job.name for job in fleet.problem.jobs if job.name not in fleet.solution.placement]


def _job_rows(fleet: Fleet) -> tuple[tuple[str, ...], ...]:
    rows = []
    for job in fleet.problem.jobs:
        assignment = fleet.solution.placement.get(job.name)
        choice = None if assignment is None else job.choice(assignment.shape)
        if assignment is None or choice is None:
            rows.append((job.name, f"{job.weight:g}", "no place", NONE, NONE, f"{fleet.problem.unplaced:g}"))
            continue
        where = Counter(map(_place, assignment.parts))
        places = ", ".join(place if count == 1 else f"{count} x {place}" for place, count in where.items())
        value = units.show(choice.value, "s")
        rows.append((job.name, f"{job.weight:g}", str(choice.shape), places, value, f"{choice.cost:.3f}"))
    return tuple(rows)


def _place(part: Part) -> str:
    at = "" if part.cut is None else f" at slice {part.cut.start}"
    return f"{part.node}/{' '.join(compress(list(part.gpus)))}{at}"


def fleet_json(name: str, fleet: Fleet) -> Row:
    """Return a fleet as plain JSON data."""
    solution = fleet.solution
    return {
        "name": name,
        "status": "optimal" if solution.gap <= OPTIMAL else "feasible",
        "jobs": len(fleet.problem.jobs),
        "unplaced": unplaced_jobs(fleet),
        "cost": solution.cost,
        "bound": solution.bound,
        "gap": solution.gap,
        "baselines": solution.baselines,
        "rows": fleet_rows(fleet),
    }


def offer_rows(found: Sequence[Offer], front: Sequence[Offer]) -> list[Row]:
    """Return a row per offer: price, what it gives, and whether nothing beats it on both."""
    return [
        {
            "machine": offer.machine,
            "nodes": offer.nodes,
            "price_usd_per_hour": offer.price,
            "value_s": offer.value,
            "usd_per_value": offer.per_step,
            "on_front": offer in front,
            "strategy": _strategy(offer),
        }
        for offer in found
    ]


def _strategy(offer: Offer) -> str:
    plan = offer.plan
    if isinstance(plan, ServingPlan):
        return wording.served_by(plan)
    return wording.degrees(plan.strategy) if isinstance(plan, TrainingPlan) else ""


def offers_summary(
    name: str, found: Sequence[Offer], front: Sequence[Offer], chosen: Mapping[str, Offer]
) -> Summary:
    """Return the offers, cheapest first, and what was asked for of them, by the words that asked."""
    rows = tuple(
        (
            offer.machine, str(offer.nodes), f"{offer.price:,.2f}", units.show(offer.value, "s"),
            f"{offer.per_step:.4g}", "yes" if offer in front else "", _strategy(offer),
        )
        for offer in found
    )  # fmt: skip
    columns = ("machine", "nodes", "USD/h", "time", "USD per time", "on the front", "strategy")
    notes = tuple(
        f"{asked}: {offer.nodes} x {offer.machine} at {offer.price:,.2f} USD/h, "
        f"{units.show(offer.value, 's')}."
        for asked, offer in chosen.items()
    )
    sentence = f"{len(front)} of {len(found)} offers are beaten by none in both price and time."
    return Summary(name, sentence, (Table("Offers", columns, rows),), notes)
