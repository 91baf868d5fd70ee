"""A solved fleet as one plan: every job on the very GPUs and slices that it got, ready for manifests."""

from __future__ import annotations

from dataclasses import replace

from planner import __version__
from planner.errors import InfeasibleError, PlanError
from planner.placement import (
    JobPlan,
    Objective,
    Plan,
    ServingPlan,
    ServingProblem,
    Solver,
    Strategy,
    TrainingPlan,
    make_problem,
)
from planner.placement.fleet import Assignment, device_of
from planner.placement.pools import AGGREGATED
from planner.placement.slices import plain_profiles, slice_device
from planner.schema import compress
from planner.solve import Budget
from planner.solve.services import service_plan
from planner.solve.serving import place_service
from planner.study.fleet import OPTIMAL, Fleet, Worth
from planner.study.inputs import Documents, Sources
from planner.workload import ResolvedJob, ServingJob

HOST_SECONDS = 10.0
"""Time to choose the NUMA domains of one service's transfers, s."""


def fleet_plan(documents: Documents, fleet: Fleet, budget: Budget, sources: Sources | None = None) -> Plan:
    """Return the plan of all jobs of a fleet that have a place.

    It stands for the placement alone: loads of links, rejected alternatives and simple rules are those of
    the fleet and stay out of it, and ``assumed_share`` is its upper limit of 1.

    Raises
    ------
    PlanError
        If no job has a place, or one has parts that a plan cannot say yet.
    """
    worth, solution = Worth(documents, budget), fleet.solution
    jobs = [
        _placed(worth, fleet, resolved, solution.placement[resolved.job.name])
        for resolved in documents.workload.jobs
        if resolved.job.name in solution.placement
    ]
    if not jobs:
        raise PlanError("no job of the fleet has a place, so that there is nothing to run")
    proven = solution.gap <= OPTIMAL
    return Plan(
        schema_="plan/1",
        name=documents.plan_name,
        inputs=documents.references(sources),
        solver=Solver(
            planner=__version__, engine="fleet", seed=budget.seed, time_limit=budget.seconds,
            seconds=budget.elapsed, candidates=sum(len(job.choices) for job in fleet.problem.jobs), visited=0,
        ),
        status="optimal" if proven else "feasible",
        proof="The bound is that of the fleet: weighted mean cost of its jobs.",
        objective=Objective(name="fleet_cost", value=solution.cost, unit="1"),
        bound=solution.bound,
        gap=solution.gap,
        jobs=jobs,
        assumed_share=1.0,
    )  # fmt: skip


def _placed(worth: Worth, fleet: Fleet, resolved: ResolvedJob, assignment: Assignment) -> JobPlan:
    job = resolved.job
    if isinstance(job, ServingJob):
        return _service(worth, resolved, job, assignment)
    alone = fleet.plans[job.name]
    if not isinstance(alone, TrainingPlan):
        raise PlanError(f"job {job.name!r}: a {alone.kind} plan of a fleet has no manifests")
    shape = assignment.shape
    _, names = worth.part(shape.machine, shape.gpus, shape.parts)
    own = [f"{part.node}/{gpu}" for part in assignment.parts for gpu in part.gpus]
    moved = dict(zip(names, own, strict=True))
    devices = compress([moved[gpu] for gpu in alone.ranks()])
    return alone.model_copy(update={"name": job.name, "devices": devices})


def _service(worth: Worth, resolved: ResolvedJob, job: ServingJob, assignment: Assignment) -> ServingPlan:
    """Return a service with a replica on each of its parts, priced as the fleet priced it.

    Raises
    ------
    PlanError
        If it has CPU stages or pools: their cores are counted in a fleet but not numbered.
    """
    pools = job.degrees.pools
    if job.before or job.after or (pools is not None and AGGREGATED not in pools):
        raise PlanError(
            f"job {job.name!r}: a fleet counts the cores of CPU stages and the GPUs of pools, but does not "
            "say which; run 'planner solve' for the job on a topology of its nodes to get manifests"
        )
    groups = [[f"{part.node}/{gpu}" for gpu in part.gpus] for part in assignment.parts]
    problem = _problem(worth, resolved, job, assignment, groups)
    shape = assignment.shape
    placed = place_service(problem, Strategy(tp=shape.gpus, dp=shape.parts), groups, Budget(HOST_SECONDS))
    if placed is None:
        raise InfeasibleError(f"job {job.name!r}: no NUMA domain of its nodes can hand data to its GPUs")
    return service_plan(problem, placed).model_copy(update={"mig": shape.profile})


def _problem(
    worth: Worth, resolved: ResolvedJob, job: ServingJob, assignment: Assignment, groups: list[list[str]]
) -> ServingProblem:
    """Return the problem of a service on its own GPUs, each as large as the slice that it has of it."""
    topology = worth.machines[assignment.shape.machine]
    used = {gpu for group in groups for gpu in group}
    gpus = [gpu for gpu in topology.gpus if gpu in used]
    aimed = job.model_copy(update={"objective": "p99_latency"})
    problem = make_problem(aimed, resolved.model, topology, worth.documents.calibration, gpus)
    if assignment.shape.profile is None:
        return problem
    device = device_of(topology.nodes[0])
    cut = slice_device(device, plain_profiles(device)[assignment.shape.profile])
    return replace(problem, device=cut)
