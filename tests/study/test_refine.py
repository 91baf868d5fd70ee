"""Solve, simulate, cut, solve again: what is reported feasible holds its limits in simulation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import InfeasibleError, SimulationError
from planner.placement import ServingPlan, ServingProblem, Strategy
from planner.simulate import simulate_plan
from planner.simulate.result import SimulationResult
from planner.solve import Budget
from planner.solve.cuts import Cut
from planner.solve.serving import serving_strategies
from planner.study import Documents, Study, Wishes, solve
from planner.study.refine import Again, Refined, refine, simulated
from tests.study.services import random_service, service

REQUESTS = 500
SPACE = ("{mean: 500, cv: 0.5}", "{mean: 80, cv: 0.5}")


def brief(study: Study) -> SimulationResult:
    """Simulate the plan of a study."""
    return simulate_plan(study.problems, study.plan, requests=REQUESTS)


def solver(documents: Documents) -> Again:
    """Return how the documents are solved with some strategies left out."""
    return lambda cuts: solve(documents, Budget(20.0), None, Wishes(cuts=cuts))


def refined(documents: Documents) -> Refined:
    """Return the refined plan of some documents."""
    again = solver(documents)
    return refine(again(()), brief, Budget(60.0), again)


def holds(study: Study) -> bool:
    """Whether a simulation of the plan, run anew, holds the limits."""
    return all(job.slo_met for job in brief(study).jobs)


def outcomes(seeds: range) -> list[int | None]:
    """Return the cuts that each random service needed, ``None`` where none of its strategies is left."""
    found: list[int | None] = []
    for documents in filter(None, map(random_service, seeds)):
        try:
            best = refined(documents)
        except InfeasibleError:
            found.append(None)
            continue
        assert holds(best.study)
        found.append(len(best.cuts))
    return found


def test_plans_of_random_services_hold_their_limits_in_simulation() -> None:
    """Of eight services whatever is reported to have a plan meets its limits when simulated anew."""
    found = outcomes(range(8))
    assert sum(cuts is not None for cuts in found) >= 4


@pytest.mark.slow
def test_plans_of_fifty_random_services_hold_their_limits_in_simulation() -> None:
    """The same of fifty services, among which some need cuts and some have no plan."""
    found = outcomes(range(8, 70))
    assert len(found) >= 50
    assert sum(cuts is not None for cuts in found) >= 35
    assert any(found)


def limited(limit: str, aim: str = "gpus") -> Documents:
    """Return a service on two GPUs under a limit."""
    return service(2, 16, 30.0, *SPACE, limit, aim)


def refuting(*losers: Strategy, factor: float = 2.0) -> tuple[list[Strategy], object]:
    """Return what is simulated, and a simulation that stretches the latencies of some strategies."""
    asked: list[Strategy] = []

    def simulate(study: Study) -> SimulationResult:
        plan, result = study.plan.jobs[0], brief(study)
        assert isinstance(plan, ServingPlan)
        asked.append(plan.strategy)
        if plan.strategy not in losers:
            return result
        job = result.jobs[0]
        slow = {
            name: seen.model_copy(update={"p99": seen.p99 * factor}) for name, seen in job.latency.items()
        }
        return result.model_copy(update={"jobs": [job.model_copy(update={"latency": slow})]})

    return asked, simulate


def test_the_best_strategy_that_no_simulation_refutes_is_chosen() -> None:
    """Solved with every strategy alone, the best whose simulation holds is that of the loop."""
    documents = limited("{latency_p99: 800 ms}")
    again, free = solver(documents), solver(documents)(())
    problem = next(iter(free.problems.values()))
    assert isinstance(problem, ServingProblem)
    everything = serving_strategies(problem)
    losers = {free.plan.jobs[0].strategy}  # type: ignore[union-attr]
    _, simulate = refuting(*losers, factor=100.0)
    best = refine(free, simulate, Budget(60.0), again)  # type: ignore[arg-type]
    values = []
    for one in everything:
        try:
            study = again(tuple(Cut(problem.device.name, s, "") for s in everything if s != one))
        except InfeasibleError:
            continue
        if one not in losers and holds(study):
            values.append(study.plan.objective.value)
    assert best.study.plan.objective.value == min(values)
    assert len(best.cuts) >= 1
    assert "left out, as their simulation breaks a limit: tp" in best.study.plan.proof
    assert best.study.plan.jobs[0].strategy not in losers  # type: ignore[union-attr]
    assert all(decision.loss is None or decision.loss >= -1e-9 for decision in best.study.plan.why)


def test_a_plan_carries_both_figures_of_its_limits() -> None:
    """Beside the limit stand the prediction of the plan and the percentile of the simulation."""
    best = refined(limited("{latency_p99: 10 s, tpot_p99: 1 s}"))
    limits = {limit.name: limit for limit in best.study.plan.simulated}
    assert set(limits) == {"latency_p99", "tpot_p99"}
    assert best.result is not None
    assert limits["latency_p99"].simulated == best.result.jobs[0].latency["latency"].p99
    assert limits["latency_p99"].predicted == best.study.plan.jobs[0].prediction.latency_p99  # type: ignore[union-attr]
    assert best.result.plan_digest == best.study.plan.content_digest
    assert best.study.plan.status == "optimal"


def test_a_plan_that_breaks_a_limit_when_time_is_over_is_not_called_optimal() -> None:
    """It is feasible on paper, and says what the simulation found and by how much."""
    documents = limited("{latency_p99: 10 s}")
    free = solver(documents)(())
    assert free.plan.status == "optimal"
    p99 = brief(free).jobs[0].latency["latency"].p99
    factor = 12.5 / p99
    _, simulate = refuting(free.plan.jobs[0].strategy, factor=factor)  # type: ignore[union-attr]
    kept = refine(free, simulate, Budget(0.0), solver(documents))  # type: ignore[arg-type]
    assert kept.study.plan.status == "feasible"
    assert kept.excess == pytest.approx(0.25)
    assert "latency_p99 of chat is 12.5 s, 25.0% above its limit of 10.0 s" in kept.study.plan.proof


def test_where_nothing_is_left_the_nearest_plan_is_named() -> None:
    """The error counts the strategies, and says what limit would do."""
    documents = limited("{latency_p99: 10 s}")
    free = solver(documents)(())
    problem = next(iter(free.problems.values()))
    assert isinstance(problem, ServingProblem)
    asked, simulate = refuting(*serving_strategies(problem), factor=1e4)
    with pytest.raises(InfeasibleError, match=r"breaks one in simulation.*raise latency_p99 to"):
        refine(free, simulate, Budget(60.0), solver(documents))  # type: ignore[arg-type]
    assert len(asked) == len(set(asked)) > 1


def test_requests_that_wait_ever_longer_refute_a_plan_with_limits_alone() -> None:
    """With a limit the plan is marked; without one the simulation's own error stands."""

    def overloaded(_: Study) -> SimulationResult:
        raise SimulationError("job 'chat': the plan cannot keep up")

    kept = simulated(solver(limited("{latency_p99: 10 s}"))(()), overloaded)
    assert (kept.study.plan.status, kept.result, kept.excess) == ("feasible", None, float("inf"))
    assert "cannot keep up" in kept.study.plan.proof
    with pytest.raises(SimulationError):
        simulated(solver(limited("{}"))(()), overloaded)


def test_an_interrupted_simulation_leaves_the_plan_as_it_was() -> None:
    """Nothing is cut and nothing is marked."""
    study = solver(limited("{latency_p99: 10 s}"))(())
    best = refine(study, lambda _: None, Budget(60.0), solver(limited("{}")))
    assert best == replace(best, study=study, result=None, cuts=())
