"""Solve an ensemble: the plan, the simple rules beside it, why each decision, or why nothing fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from planner.errors import InfeasibleError, NoPlanError
from planner.placement import Baseline, EnsembleProblem, ensemble_plan
from planner.solve.budget import Budget
from planner.solve.cuts import EnsembleCut
from planner.solve.ensemble.columns import Column, columns
from planner.solve.ensemble.infeasible import explain_ensemble
from planner.solve.ensemble.model import as_stated
from planner.solve.ensemble.polish import polished
from planner.solve.ensemble.pools import PoolOption, pool_options
from planner.solve.ensemble.search import Found, Search, search, short_search
from planner.solve.ensemble.why import decisions
from planner.solve.solution import JobSolution

BRIEF = 1.5
"""Seconds for what an alternative gives."""


@dataclass(frozen=True)
class Space:
    """A problem with all columns and pools that its stages may have."""

    problem: EnsembleProblem

    @cached_property
    def columns(self) -> list[Column]:
        """All columns."""
        return columns(self.problem)

    @cached_property
    def options(self) -> list[PoolOption]:
        """All pools."""
        return pool_options(self.problem)


def solve_ensemble(
    problem: EnsembleProblem, budget: Budget, *, explain: bool = True, cuts: Sequence[EnsembleCut] = ()
) -> JobSolution:
    """Return the best plan of an ensemble with its bound.

    Parameters
    ----------
    cuts
        Designs that are left out, and by how much what refuted them tightens the limits.

    Raises
    ------
    InfeasibleError
        If no design holds the limits; it names the constraints in conflict and the nearest change.
    NoPlanError
        If the budget ended before there was a plan.
    """
    space = Space(problem)
    held = Space(tightened(problem, cuts)) if cuts else space
    found = search(held.problem, held.columns, held.options, budget, cuts)
    if found.design is None and cuts and found.bound == float("inf"):
        found = search(problem, space.columns, space.options, budget, cuts)
    if found.design is None:
        if found.bound < float("inf"):
            text = f"job {problem.job.name!r}: no plan within {budget.seconds:g} s; give more time"
            raise NoPlanError(text, as_stated(problem, found.bound))
        if cuts:
            raise InfeasibleError(f"job {problem.job.name!r}: no design is left", remedy="")
        raise explain_ensemble(problem, space.columns, space.options)
    if cuts:  # what is left of the designs proves nothing about those that hold the limits on paper
        whole = Search(problem, space.columns, space.options).least
        found = replace(found, bound=min(found.bound, whole))
    elif found.design is not None:  # with cuts, a design with fewer workers may be one that is left out
        found = replace(found, design=polished(problem, found.design))
    return _solution(space, found, budget, explain=explain)


def _solution(space: Space, found: Found, budget: Budget, *, explain: bool) -> JobSolution:
    problem = space.problem
    assert found.design is not None
    gpus = problem.job.objective == "gpus"
    many = f"{len(space.columns):,} settings of shared and separate GPU units, {len(space.options)} pools"
    return JobSolution(
        ensemble_plan(problem, found.design),
        "gpus" if gpus else "p99_latency",
        "GPUs" if gpus else "s",
        as_stated(problem, found.objective),
        as_stated(problem, found.bound),
        len(space.columns),
        len(space.options),
        list(_baselines(space, found, budget)) if explain else [],
        decisions(problem, space.columns, space.options, found, budget) if explain else [],
        searched=many,
    )


def tightened(problem: EnsembleProblem, cuts: Sequence[EnsembleCut]) -> EnsembleProblem:
    """Return a problem whose limits allow for what simulations exceeded predictions by."""
    factors: dict[str, float] = {}
    for cut in cuts:
        for name, factor in cut.excess:
            factors[name] = max(factors.get(name, 1.0), factor)
    classes = [
        request
        if request.slo.latency_p99 is None or request.name not in factors
        else request.model_copy(
            update={
                "slo": request.slo.model_copy(
                    update={"latency_p99": request.slo.latency_p99 / factors[request.name]}
                )
            }
        )
        for request in problem.job.classes
    ]
    return replace(problem, job=problem.job.model_copy(update={"classes": classes}))


Rule = Callable[[Column], bool]


def _baselines(space: Space, found: Found, budget: Budget) -> Iterator[Baseline]:
    """Yield what simple rules give: one choice of all tenants alike, the rest still the best."""
    rules: dict[str, Rule] = {
        "whole GPUs, one stream each": lambda column: column.profile is None and len(column.tenants) == 1,
        "one queue for all classes": lambda column: all(
            len(tenant.classes) == len(space.problem.classes) for tenant in column.tenants
        ),
        "no stream priority, no slices": lambda column: (
            column.profile is None and not any(tenant.high for tenant in column.tenants)
        ),
    }
    for name, rule in rules.items():
        value = _under(space, [column for column in space.columns if rule(column)], budget)
        if value is None:
            yield Baseline(name=name, value=None, ratio=None, note="finds no plan that holds the limits")
        else:
            stated = as_stated(space.problem, value)
            ratio = value / found.objective if found.objective > 0.0 else None
            yield Baseline(name=name, value=stated, ratio=ratio, note="places and pools chosen best")


def _under(space: Space, kept: Sequence[Column], budget: Budget) -> float | None:
    """Return the objective of a short search over some columns."""
    other = short_search(space.problem, kept, space.options, budget.part(min(BRIEF, max(budget.left, 0.5))))
    return None if other.design is None else other.objective
