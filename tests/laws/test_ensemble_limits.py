"""What is reported feasible of random ensembles holds its limits in simulation, after any number of cuts."""

from __future__ import annotations

from planner.errors import InfeasibleError, SimulationError
from planner.placement import EnsemblePlan, EnsembleProblem, design_of
from planner.simulate.ensemble import simulate_ensemble
from planner.solve.budget import Budget
from planner.solve.cuts import EnsembleCut, marks_of
from planner.solve.ensemble import solve_ensemble
from tests.solve.ensemble.small import random_problem

INSTANCES = 8
MOST_CUTS = 12


def broken_limits(problem: EnsembleProblem, plan: EnsemblePlan) -> list[tuple[str, float]] | None:
    """Return the classes whose limits a simulation breaks, by what ratio; ``None`` where they pile up."""
    try:
        seen = simulate_ensemble(problem, plan, requests=2500).job.latency
    except SimulationError:
        return None
    return [
        (request.name, seen[request.name].p99 / said.latency_p99)
        for request, said in zip(problem.classes, plan.prediction.classes, strict=True)
        if request.slo.latency_p99 is not None and seen[request.name].p99 > request.slo.latency_p99
    ]


def cuts_needed(problem: EnsembleProblem) -> int | None:
    """Return how many designs were cut before one held; ``None`` where none is left, or none was there."""
    cuts: list[EnsembleCut] = []
    while len(cuts) < MOST_CUTS:
        try:
            plan = solve_ensemble(problem, Budget(seconds=20.0), explain=False, cuts=cuts).plan
        except InfeasibleError:
            return None
        assert isinstance(plan, EnsemblePlan)
        broken = broken_limits(problem, plan)
        if broken == []:
            return len(cuts)
        cuts.append(EnsembleCut(marks_of(design_of(problem, plan)), tuple(broken or ()), "a test"))
    raise AssertionError(f"no design held its limits after {MOST_CUTS} cuts")


def test_limits_of_random_ensembles_hold_in_simulation() -> None:
    """Of eight ensembles with limits most hold at once, and none is given up while a design is left."""
    limited = [
        problem
        for problem in map(random_problem, range(1, 40))
        if any(request.slo.latency_p99 is not None for request in problem.classes)
    ]
    found = [cuts_needed(problem) for problem in limited[:INSTANCES]]
    assert sum(count == 0 for count in found) >= INSTANCES / 2
