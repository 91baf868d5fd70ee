"""An iteration of a recommender: exchanges, lookups, dense part and updates on the links of the machine."""

from __future__ import annotations

from planner.placement import RecommenderPlan, RecommenderProblem
from planner.placement.recommender import placement_of
from planner.simulate.outcome import JobOutcome, both_ends
from planner.simulate.result import JobSimulation
from planner.simulate.tables import Seats, SimulatedIteration, simulate_tables
from planner.topology import Router


def simulate_recommender(
    problem: RecommenderProblem, plan: RecommenderPlan, router: Router | None = None
) -> JobOutcome:
    """Simulate one iteration, whatever cost model the plan was made under."""
    found = simulated_iteration(problem, plan, router)
    names = plan.ranks()
    busy = {name: float(time) / found.seconds for name, time in zip(names, found.busy, strict=True)}
    job = JobSimulation(
        name=plan.name,
        kind="recommender",
        step_time=found.seconds,
        critical_path=found.seconds,
        bubble=1.0 - sum(busy.values()) / len(busy),
        throughput=problem.job.global_batch / found.seconds,
        split=dict(found.finish),
        utilisation=busy,
        timeline=both_ends(found.spans),
    )
    return JobOutcome(job, found.links, found.seconds)


def simulated_iteration(
    problem: RecommenderProblem, plan: RecommenderPlan, router: Router | None = None
) -> SimulatedIteration:
    """Return the outcome of one iteration of a plan."""
    domains = [problem.domain_of(gpu) for gpu in problem.ranks]
    seats = Seats(router or Router(problem.topology), problem.ranks, domains, problem.calibration)
    placements = [placement_of(table) for table in plan.tables]
    return simulate_tables(problem.topology_costs, placements, seats, problem.dense_seconds)
