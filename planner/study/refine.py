"""Simulate a plan, cut off what the simulation refutes, and solve again until every simulated limit holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from planner import units
from planner.errors import InfeasibleError, NoPlanError, SimulationError
from planner.placement import (
    EnsemblePlan,
    EnsembleProblem,
    JobPlan,
    ServingPlan,
    ServingProblem,
    SimulatedLimit,
    design_of,
)
from planner.placement.mixed import AnyProblem
from planner.simulate.result import JobSimulation, SimulationResult
from planner.solve import Budget
from planner.solve.cuts import AnyCut, Cut, EnsembleCut, marks_of
from planner.study.inputs import Study

Simulate = Callable[[Study], SimulationResult | None]
"""Simulates the plan of a study; ``None`` when it was interrupted."""
Again = Callable[[tuple[AnyCut, ...]], Study]
"""Solves once more with some strategies or designs left out."""

LIMITS = {"latency_p99": "latency", "ttft_p99": "ttft", "tpot_p99": "tpot"}


@dataclass(frozen=True)
class Refined:
    """A plan with what its simulation found.

    Attributes
    ----------
    result
        ``None`` when the simulation was interrupted or requests waited ever longer.
    cuts
        Strategies or designs that were left out on the way.
    """

    study: Study
    result: SimulationResult | None
    cuts: tuple[AnyCut, ...] = ()

    @property
    def excess(self) -> float:
        """By what ratio the worst simulated limit is exceeded, not above 0 where all hold."""
        return max((limit.excess for limit in self.study.plan.simulated), default=0.0)


def refine(study: Study, simulate: Simulate, budget: Budget, again: Again | None = None) -> Refined:
    """Return a plan whose simulated limits hold, or the least excess that the budget allowed.

    A strategy whose best placement the simulation refutes is left out of the next solve. Each is simulated by
    itself: nothing is inferred from one strategy about another. Designs of an ensemble are left out likewise,
    and the next ones hold the limits with the margin by which the simulation exceeded the prediction, where
    any design does.

    Parameters
    ----------
    study
        The first plan.
    again
        Solves once more; a plan that breaks a limit is only marked where it is absent.

    Raises
    ------
    InfeasibleError
        If every strategy that holds the limits on paper breaks them in simulation.
    SimulationError
        If a service without limits cannot keep up with its rate.
    """
    latest = best = simulated(study, simulate)
    cuts: tuple[AnyCut, ...] = ()
    while again is not None and latest.excess > 0.0:
        cuts = (*cuts, _cut(latest))
        if budget.over:
            break
        try:
            latest = replace(simulated(again(cuts), simulate), cuts=cuts)
        except InfeasibleError as error:
            raise _nothing_left(best, cuts) from error
        except NoPlanError:
            break
        if latest.result is None and not latest.study.plan.simulated:
            break  # interrupted: what was simulated before is kept
        best = min(latest, best, key=lambda each: max(each.excess, 0.0))
    return best


def simulated(study: Study, simulate: Simulate) -> Refined:
    """Return a study marked with what the simulation says of its limits.

    A plan that breaks one is no longer ``optimal``, and its proof says by how much.

    Raises
    ------
    SimulationError
        If requests of a service without limits wait ever longer.
    """
    limited = any(map(_is_limited, study.problems.values()))
    try:
        result = simulate(study)
    except SimulationError as error:
        if not limited or len(study.plan.jobs) > 1:
            raise
        return Refined(_marked(study, None, f"In simulation {error}"), None)
    if result is None or not limited:
        return Refined(study, result)
    marked = _marked(study, result, "")
    return Refined(marked, result.model_copy(update={"plan_digest": marked.plan.content_digest}))


def _marked(study: Study, result: SimulationResult | None, overload: str) -> Study:
    """Return a study whose plan carries its limits as simulated, and says which of them are broken."""
    seen = {job.name: job for job in result.jobs} if result is not None else {}
    limits = [
        limit
        for job in study.plan.jobs
        for problem in [study.problems[job.name]]
        for limit in _limits(problem, job, seen.get(job.name))
    ]
    changed: dict[str, object] = {"simulated": limits}
    broken = [limit for limit in limits if limit.excess > 0.0]
    if broken:
        said = overload or f"In simulation {'; '.join(map(_broken, broken))}"
        changed |= {"status": "feasible", "proof": f"{said}. On paper: {study.plan.proof}"}
    return replace(study, plan=study.plan.model_copy(update=changed))


def _is_limited(problem: AnyProblem) -> bool:
    """Whether a job has limits that a simulation can break."""
    if isinstance(problem, EnsembleProblem):
        return any(request.slo.latency_p99 is not None for request in problem.classes)
    return isinstance(problem, ServingProblem) and any(limit is not None for _, limit in problem.job.slo)


def _limits(problem: AnyProblem, plan: JobPlan, seen: JobSimulation | None) -> Iterator[SimulatedLimit]:
    """Yield the limits of a job with what the simulation found, ``None`` where it found no steady state."""
    if isinstance(problem, EnsembleProblem) and isinstance(plan, EnsemblePlan):
        yield from _class_limits(problem, plan, seen)
    if not isinstance(problem, ServingProblem) or not isinstance(plan, ServingPlan):
        return
    for name, metric in LIMITS.items():
        limit = getattr(problem.job.slo, name)
        if limit is None or (seen is not None and metric not in seen.latency):
            continue
        yield SimulatedLimit(
            job=plan.name, name=name, limit=limit, predicted=getattr(plan.prediction, name),
            simulated=None if seen is None else seen.latency[metric].p99,
        )  # fmt: skip


def _class_limits(
    problem: EnsembleProblem, plan: EnsemblePlan, seen: JobSimulation | None
) -> Iterator[SimulatedLimit]:
    said = {each.name: each.latency_p99 for each in plan.prediction.classes}
    for request in problem.classes:
        limit = request.slo.latency_p99
        if limit is not None and (seen is None or request.name in seen.latency):
            yield SimulatedLimit(
                job=plan.name, name=f"latency_p99 of {request.name}", limit=limit,
                predicted=said[request.name],
                simulated=None if seen is None else seen.latency[request.name].p99,
            )  # fmt: skip


def _broken(limit: SimulatedLimit) -> str:
    if limit.simulated is None:
        return f"{limit.job} cannot keep up with its rate"
    shown, most = units.show(limit.simulated, "s"), units.show(limit.limit, "s")
    return f"{limit.name} of {limit.job} is {shown}, {limit.excess:.1%} above its limit of {most}"


def _cut(refuted: Refined) -> AnyCut:
    """Return the cut that leaves out the strategy or the design of a refuted plan of one service."""
    plan = refuted.study.plan.jobs[0]
    problem = refuted.study.problems[plan.name]
    limits = refuted.study.plan.simulated
    worst = max(limits, key=lambda limit: limit.excess)
    if isinstance(plan, EnsemblePlan) and isinstance(problem, EnsembleProblem):
        seen = [limit for limit in limits if limit.excess > 0.0 and limit.simulated is not None]
        margins = tuple(
            (limit.name.removeprefix("latency_p99 of "), (limit.simulated or 0.0) / limit.predicted)
            for limit in seen
        )
        return EnsembleCut(marks_of(design_of(problem, plan)), margins, _broken(worst))
    assert isinstance(plan, ServingPlan)
    assert isinstance(problem, ServingProblem)
    prefill = None if plan.prefill is None else plan.prefill.strategy
    return Cut(problem.device.name, plan.strategy, _broken(worst), prefill)


def _nothing_left(best: Refined, cuts: tuple[AnyCut, ...]) -> InfeasibleError:
    """Return the error for a service of which the simulation refutes every strategy."""
    name, limits = best.study.plan.jobs[0].name, best.study.plan.simulated
    broken = [limit for limit in limits if limit.excess > 0.0]
    number = f"each of the {len(cuts)} strategies" if len(cuts) > 1 else "the only strategy"
    text = f"job {name!r}: {number} that can hold the limits on paper breaks one in simulation; the nearest: "
    if best.excess == float("inf"):
        remedy = "lower the rate, or give more GPUs or cores"
    else:
        needed = ", ".join(f"{each.name} to {units.show(each.simulated or 0.0, 's')}" for each in broken)
        remedy = f"raise {needed}, give more GPUs or cores, or keep the plan with --no-simulate"
    return InfeasibleError(text + "; ".join(map(_broken, broken)), [limit.name for limit in broken], remedy)
