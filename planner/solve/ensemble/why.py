"""Why an ensemble is placed as it is: for each decision the best design that decides it otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from planner import units
from planner.placement import Decision, EnsembleProblem
from planner.placement.ensemble import ensemble_plan
from planner.placement.ensemble_check import ensemble_problems
from planner.placement.ensemble_design import Design, Group, Key, Pools, Tenant
from planner.placement.ensemble_judge import Judged
from planner.placement.ensemble_records import runner_up, weighted_tail
from planner.solve.budget import Budget
from planner.solve.ensemble.columns import Column
from planner.solve.ensemble.pools import PoolOption
from planner.solve.ensemble.search import Found, short_search

BRIEF = 1.0
"""Seconds for the best design that decides one thing otherwise."""
MOST_DOMAIN_SETS = 100
"""Most sets of NUMA domains that are judged for the pools of a stage."""


@dataclass(frozen=True)
class Question:
    """A decision, and what is left to choose from where it is made otherwise."""

    decision: str
    chosen: str
    alternative: str
    columns: Sequence[Column]
    options: Sequence[PoolOption]


def decisions(
    problem: EnsembleProblem,
    columns: Sequence[Column],
    options: Sequence[PoolOption],
    found: Found,
    budget: Budget,
) -> list[Decision]:
    """Return every decision with the alternative that lost and by how much, closest first."""
    assert found.design is not None
    answers = [*_modes(problem, found.design), *_domains(problem, found.design)]
    for question in _questions(problem, columns, options, found.design):
        if budget.stopped():
            break
        answers.append(_answer(problem, question, found, budget))
    return sorted(answers, key=lambda item: float("inf") if item.loss is None else item.loss)


def _answer(problem: EnsembleProblem, question: Question, found: Found, budget: Budget) -> Decision:
    allowed = budget.part(min(BRIEF, max(budget.left, 0.3)))
    other = short_search(problem, question.columns, question.options, allowed)
    loss, reason = None, "nothing else holds the limits"
    if other.design is not None:
        loss, reason = max(0.0, other.objective / found.objective - 1.0), "the best found without it"
    elif other.bound < float("inf"):
        reason = "a short search without it found no plan"
    return Decision(
        decision=question.decision, chosen=question.chosen, alternative=question.alternative,
        loss=loss, reason=reason,
    )  # fmt: skip


def _questions(
    problem: EnsembleProblem, columns: Sequence[Column], options: Sequence[PoolOption], design: Design
) -> Iterator[Question]:
    pooled = {pools.stage for pools in design.pools}
    for index, stage in enumerate(problem.stages):
        if len(stage.sides) == 2:
            kept = [column for column in columns if index not in {key[0] for key in column.keys}]
            rest = [option for option in options if option.stage != index]
            if index in pooled:
                yield Question(f"{stage.name}: side", "host cores", "GPU", columns, rest)
            else:
                yield Question(f"{stage.name}: side", "GPU", "host cores", kept, options)
    for group in design.groups:
        yield from _group_questions(problem, columns, options, group)
    yield from _whole_questions(columns, options, design)
    for pools in design.pools:
        size = (pools.stage, len(pools.domains), pools.workers)
        rest = [each for each in options if (each.stage, each.count, each.workers) != size]
        chosen = f"{len(pools.domains)} of {pools.workers} workers"
        name = problem.stages[pools.stage].name
        yield Question(f"{name}: pools", chosen, "another number or size", columns, rest)


def _group_questions(
    problem: EnsembleProblem, columns: Sequence[Column], options: Sequence[PoolOption], group: Group
) -> Iterator[Question]:
    names = " + ".join(_name(problem, tenant) for tenant in group.tenants)
    keys = set(group.keys)
    unit = "whole GPUs" if group.profile is None else f"slices {group.profile}"
    if len(problem.profiles) > 1:
        kept = [each for each in columns if not (set(each.keys) == keys and each.profile == group.profile)]
        yield Question(f"{names}: unit", unit, "another unit or partner", kept, options)
    kept = [each for each in columns if not (set(each.keys) == keys and each.count == group.count)]
    yield Question(
        f"{names}: instances", str(group.count), "another number, or other partners", kept, options
    )
    for tenant in group.tenants:
        if len(problem.classes) > 1:
            yield _routing(problem, columns, options, tenant)
        text = f"{tenant.batch} in {units.show(tenant.window, 's')}"
        kept = [each for each in columns if not any(_same_batch(own, tenant) for own in each.tenants)]
        yield Question(f"{_name(problem, tenant)}: batch", text, "another batch or window", kept, options)


def _routing(
    problem: EnsembleProblem, columns: Sequence[Column], options: Sequence[PoolOption], tenant: Tenant
) -> Question:
    own = set(tenant.keys)
    kept = [each for each in columns if not any(set(other.keys) == own for other in each.tenants)]
    shared = len(tenant.classes) == len(problem.classes)
    chosen = "one queue for all classes" if shared else "instances of their own"
    other = "instances by class" if shared else "with other classes"
    return Question(f"{_name(problem, tenant)}: routing", chosen, other, kept, options)


def _whole_questions(
    columns: Sequence[Column], options: Sequence[PoolOption], design: Design
) -> Iterator[Question]:
    if any(tenant.high for group in design.groups for tenant in group.tenants):
        kept = [each for each in columns if not any(tenant.high for tenant in each.tenants)]
        yield Question("stream priority", "high for some", "none", kept, options)
    if any(len(group.tenants) > 1 for group in design.groups):
        kept = [each for each in columns if len(each.tenants) == 1]
        yield Question("sharing", "several instances on a unit", "a unit for each", kept, options)
    if any(group.profile is not None for group in design.groups):
        kept = [each for each in columns if each.profile is None]
        yield Question("MIG", "some GPUs cut", "whole GPUs", kept, options)
    elif any(each.profile is not None for each in columns):
        kept = [each for each in columns if each.profile is not None]
        yield Question("MIG", "whole GPUs", "all GPUs cut", kept, options)


def _same_batch(left: Tenant, right: Tenant) -> bool:
    same = left.keys == right.keys
    return same and (left.batch, left.window > 0.0) == (right.batch, right.window > 0.0)


def _name(problem: EnsembleProblem, tenant: Tenant) -> str:
    classes = ", ".join(problem.classes[one].name for one in tenant.classes)
    whole = len(tenant.classes) == len(problem.classes)
    name = problem.stages[tenant.stage].name
    return name if whole else f"{name} of {classes}"


def _modes(problem: EnsembleProblem, design: Design) -> Iterator[Decision]:
    """Yield the memory mode of every copy with its runner-up, priced by the judge."""
    judged = Judged(problem, design)
    own = weighted_tail(judged)
    for key, moved in judged.ways.items():
        if moved.carrier != "host-copy":
            continue
        other = runner_up(judged, key, moved)
        if other is not None:
            changed = replace(design, modes={**design.modes, key: other[0]})
            loss = weighted_tail(Judged(problem, changed)) / own - 1.0
            yield Decision(
                decision=_way(problem, key), chosen=design.modes[key], alternative=other[0],
                loss=max(0.0, loss),
                reason=f"{units.show(other[1], 's')} instead of {units.show(moved.seconds, 's')} per request",
            )  # fmt: skip


def _domains(problem: EnsembleProblem, design: Design) -> Iterator[Decision]:
    """Yield the NUMA domains of the pools of every stage with the best others that are legal."""
    own = weighted_tail(Judged(problem, design))
    for place, pools in enumerate(design.pools):
        moved = [replace(pools, domains=domains) for domains in _elsewhere(problem, pools)]
        designs = [
            replace(design, pools=(*design.pools[:place], each, *design.pools[place + 1 :])) for each in moved
        ]
        judged = sorted(filter(_stable, (Judged(problem, other) for other in designs)), key=weighted_tail)
        legal = (
            each
            for each in judged
            if not any(ensemble_problems(problem, ensemble_plan(problem, each.design)))
        )
        best = next(legal, None)
        chosen = _domain_names(problem, pools)
        name = f"{problem.stages[pools.stage].name}: NUMA domains"
        if best is not None:
            yield Decision(
                decision=name, chosen=chosen, alternative=_domain_names(problem, best.design.pools[place]),
                loss=max(0.0, weighted_tail(best) / own - 1.0), reason="all else as it is",
            )  # fmt: skip
        elif moved:
            reason = "all else as it is, no others hold the limits with the cores that are left"
            yield Decision(decision=name, chosen=chosen, alternative="others", loss=None, reason=reason)


def _elsewhere(problem: EnsembleProblem, pools: Pools) -> Iterator[tuple[int, ...]]:
    """Yield other sets of as many domains of the same kinds, the first of them where there are many."""
    every = combinations(range(len(problem.domains)), len(pools.domains))
    kinds = _kinds(problem, pools.domains)
    others = (each for each in every if each != pools.domains and _kinds(problem, each) == kinds)
    return islice(others, MOST_DOMAIN_SETS)


def _kinds(problem: EnsembleProblem, domains: Sequence[int]) -> list[int]:
    return sorted(problem.domains[index].kind for index in domains)


def _stable(judged: Judged) -> bool:
    return judged.stable


def _domain_names(problem: EnsembleProblem, pools: Pools) -> str:
    return ", ".join(problem.domains[index].name for index in pools.domains)


def _way(problem: EnsembleProblem, key: Key) -> str:
    way, request = problem.ways[key[0]], problem.classes[key[1]]
    ends = ["requests" if way.source is None else problem.stages[way.source].name]
    ends.append("answers" if way.target is None else problem.stages[way.target].name)
    return f"{' to '.join(ends)}, {request.name}: memory mode"
