"""Many jobs on one cluster: what every share is worth to every job, and who gets which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product

import numpy as np

from planner.costs import ServingCandidates, ServingCosts, serving_costs
from planner.errors import InfeasibleError, NoPlanError, PlanError, WorkloadError
from planner.placement import (
    JobPlan,
    Problem,
    ServingPlan,
    ServingProblem,
    Strategy,
    TrainingProblem,
    check_job,
    make_problem,
    serving_spans,
)
from planner.placement.fleet import Choice, FleetJob, FleetProblem, Shape, check_fleet, device_of
from planner.placement.pools import AGGREGATED
from planner.placement.serving import degree_rules
from planner.placement.slices import plain_profiles, slice_device
from planner.solve import Budget, solve_job
from planner.solve.fleet import FleetSolution, solve_fleet
from planner.solve.jobs import training_plan
from planner.solve.training import search_training
from planner.study.inputs import Documents
from planner.topology import Topology
from planner.workload import ResolvedJob, ServingJob, TrainingJob, Transformer

PARTS = (1, 2, 3, 4)
"""Copies of a service that are considered."""
EVERY = 8
"""Numbers of GPUs of one node that are all considered; larger ones double."""
NODES = (2, 4, 8)
"""Numbers of whole nodes that a training job may get."""
OPTIMAL = 1e-6
"""Relative gap below which a placement counts as optimal."""


@dataclass(frozen=True)
class Alone:
    """What a share gives to a job: its objective, s, and the plan, made when asked for."""

    value: float
    plan: Callable[[], JobPlan]


@dataclass(frozen=True)
class Fleet:
    """A solved fleet.

    Attributes
    ----------
    plans
        The plan of each placed job on a cluster of its own of the same shape; a service on slices or on
        single GPUs has none, its figures follow from the shape alone.
    """

    problem: FleetProblem
    solution: FleetSolution
    plans: dict[str, JobPlan]


@dataclass
class Worth:
    """What shapes are worth to jobs; equal jobs and shapes are worked out once."""

    documents: Documents
    budget: Budget
    known: dict[tuple[str, Shape], Alone | None] = field(default_factory=dict)
    evaluated: int = 0
    _parts: dict[tuple[str, int, int], tuple[Topology, list[str]]] = field(default_factory=dict)
    _priced: dict[str, list[tuple[list[Shape], ServingCosts, float]]] = field(default_factory=dict)

    def choices(self, resolved: ResolvedJob) -> tuple[Choice, ...]:
        """Return every shape on which a job keeps its limits, with its cost relative to the best.

        Raises
        ------
        InfeasibleError
            If there is none.
        """
        job, model = resolved.job, resolved.model
        if not isinstance(model, Transformer) or not isinstance(job, TrainingJob | ServingJob):
            raise WorkloadError(f"job {job.name!r}: only jobs that run a transformer share a cluster")
        found = list(
            self._training(resolved) if isinstance(job, TrainingJob) else self._serving(resolved, job)
        )
        if not found:
            raise InfeasibleError(f"job {job.name!r} keeps its limits on no share of the cluster")
        best = min(value for _, value, _ in found)
        return tuple(Choice(shape, value, value / best, cores) for shape, value, cores in found)

    def _training(self, resolved: ResolvedJob) -> Iterator[tuple[Shape, float, int]]:
        for machine, nodes in self.machines.items():
            size = len(nodes.nodes[0].machine.gpus)
            shapes = [Shape(machine, gpus) for gpus in _numbers(size)]
            shapes += [Shape(machine, size, parts) for parts in NODES if parts <= len(nodes.nodes)]
            least = float("inf")
            for shape in shapes:
                solution = self.solution(resolved, shape)
                if solution is not None and solution.value < least:  # else GPUs stand idle there
                    least = solution.value
                    yield shape, solution.value, self._kept() * shape.gpus

    def _serving(self, resolved: ResolvedJob, job: ServingJob) -> Iterator[tuple[Shape, float, int]]:
        pools = job.degrees.pools
        if not job.before and not job.after and (pools is None or AGGREGATED in pools):
            yield from self._without_host(resolved, job)
            return
        parts = (1,) if job.traffic.process == "trace" else PARTS
        for machine, cluster in self.machines.items():
            size = len(cluster.nodes[0].machine.gpus)
            for gpus, count in product(_numbers(size), parts):
                shape = Shape(machine, gpus, count)
                alone = self.solution(resolved, shape) if gpus * count <= len(cluster.gpus) else None
                if alone is not None:
                    yield shape, alone.value, self._kept() * gpus + stage_cores(alone.plan())

    def _without_host(self, resolved: ResolvedJob, job: ServingJob) -> Iterator[tuple[Shape, float, int]]:
        """Price copies on slices and on tensor groups of a node by the formulas of serving."""
        key = job.model_dump_json(exclude={"name", "sharing", "slo"})
        if key not in self._priced:
            self._priced[key] = list(self._copies(resolved, job))
        for shapes, costs, room in self._priced[key]:
            within = costs.feasible & (costs.weights < room)
            for limit, value in (
                (job.slo.ttft_p99, costs.ttft_p99),
                (job.slo.tpot_p99, costs.tpot_p99),
                (job.slo.latency_p99, costs.latency_p99),
            ):
                within = within & (value <= (float("inf") if limit is None else limit))
            for row in np.flatnonzero(within):
                shape = shapes[row]
                yield shape, float(costs.latency_p99[row]), self._kept() * shape.gpus

    def _copies(
        self, resolved: ResolvedJob, job: ServingJob
    ) -> Iterator[tuple[list[Shape], ServingCosts, float]]:
        parts = (1,) if job.traffic.process == "trace" else PARTS
        for machine, cluster in self.machines.items():
            node = cluster.nodes[0]
            device = device_of(node)
            for profile, one in plain_profiles(device).items():
                whole = self.problem(resolved, Shape(machine, 1))
                assert isinstance(whole, ServingProblem)
                cut = replace(whole, job=job, device=slice_device(device, one))
                yield self._priced_copies(cut, [Shape(machine, 1, count, profile) for count in parts])
            for gpus in _numbers(len(node.machine.gpus)):
                problem = self.problem(resolved, Shape(machine, gpus))
                assert isinstance(problem, ServingProblem)
                if list(degree_rules(problem.model, Strategy(tp=gpus))):
                    continue
                fitting = [count for count in parts if gpus * count <= len(cluster.gpus)]
                shapes = [Shape(machine, gpus, count) for count in fitting]
                yield self._priced_copies(replace(problem, job=job), shapes)

    def _priced_copies(
        self, problem: ServingProblem, shapes: list[Shape]
    ) -> tuple[list[Shape], ServingCosts, float]:
        """Return how copies of a service fare, each one tensor group; requests are shared out evenly."""
        self.evaluated += len(shapes)
        width = shapes[0].gpus
        copies = np.asarray([shape.parts for shape in shapes], dtype=np.int64)
        one = np.ones_like(copies)
        spans = serving_spans(Strategy(tp=width), np.arange(width), problem.hierarchy)
        many = ServingCandidates(copies, width * one, one, one, one)
        rows = spans.take(np.zeros_like(one))
        costs = serving_costs(
            problem.job, problem.model, many, rows, problem.rates, problem.fabric, problem.calibration
        )
        return shapes, costs, problem.capacity

    def solution(self, resolved: ResolvedJob, shape: Shape) -> Alone | None:
        """Return the plan of one job alone on a share, ``None`` where it does not fit.

        Raises
        ------
        NoPlanError
            If the time ended before that was known.
        """
        key = resolved.job.model_dump_json(exclude={"name", "sharing"}), shape
        if key not in self.known:
            if self.budget.over:
                raise NoPlanError(f"not every share was priced within {self.budget.seconds:g} s")
            self.evaluated += 1
            self.known[key] = self._solve(self.problem(resolved, shape))
        return self.known[key]

    def _solve(self, problem: Problem) -> Alone | None:
        if isinstance(problem, TrainingProblem):
            search = search_training(problem, self.budget)
            if search.best is None:
                return None
            return Alone(search.best.seconds, partial(training_plan, problem, search.best))
        try:
            solution = solve_job(problem, self.budget, explain=False)
        except InfeasibleError:
            return None
        return Alone(solution.value, lambda: solution.plan)

    def problem(self, resolved: ResolvedJob, shape: Shape) -> Problem:
        """Return the problem of one part of a service, or of all parts of a training job."""
        job = resolved.job
        if isinstance(job, ServingJob):
            traffic = job.traffic.model_copy(update={"rate": job.traffic.rate / shape.parts})
            job = job.model_copy(update={"traffic": traffic, "objective": "p99_latency"})
        part, gpus = self.part(shape.machine, shape.gpus, shape.parts if isinstance(job, TrainingJob) else 1)
        return make_problem(job, resolved.model, part, self.documents.calibration, gpus)

    def together(self, resolved: ResolvedJob, machine: str, nodes: int) -> Alone | None:
        """Return the fastest plan of one job on some whole nodes, ``None`` where it does not fit.

        Raises
        ------
        NoPlanError
            If the time ended before that was known.
        """
        if self.budget.over:
            raise NoPlanError(f"not every number of nodes was tried within {self.budget.seconds:g} s")
        job = resolved.job
        if isinstance(job, ServingJob):
            job = job.model_copy(update={"objective": "p99_latency"})
        part, gpus = self.part(machine, len(self.machines[machine].nodes[0].machine.gpus), nodes)
        return self._solve(make_problem(job, resolved.model, part, self.documents.calibration, gpus))

    def part(self, machine: str, gpus: int, nodes: int) -> tuple[Topology, list[str]]:
        """Return some nodes of a machine as a cluster, and the first GPUs of each."""
        cluster, key = self.machines[machine], (machine, gpus, nodes)
        if key not in self._parts:
            fabric = cluster.fabric if nodes > 1 else None
            part = replace(cluster, nodes=cluster.nodes[:nodes], fabric=fabric)
            names = [gpu.name for gpu in cluster.nodes[0].machine.gpus[:gpus]]
            self._parts[key] = part, [f"{node.name}/{name}" for node in part.nodes for name in names]
        return self._parts[key]

    @cached_property
    def machines(self) -> dict[str, Topology]:
        """The nodes of each machine as a cluster of their own."""
        topology = self.documents.topology
        found: dict[str, Topology] = {}
        for machine in topology.machine_types:
            nodes = tuple(node for node in topology.nodes if node.machine.name == machine.name)
            if machine.gpus:
                found[machine.name] = replace(topology, nodes=nodes)
        return found

    def _kept(self) -> int:
        return int(self.documents.calibration.number("host_cores_per_gpu"))


def _numbers(size: int) -> list[int]:
    """Return every number of GPUs of a node up to `EVERY`, and beyond it 16, 32, ... up to all of them."""
    doubled = (2**power for power in range(size.bit_length()))
    return sorted({*range(1, min(size, EVERY) + 1), *(number for number in doubled if number <= size), size})


def stage_cores(plan: JobPlan) -> int:
    """Return the cores that the CPU stages of one copy of a service take."""
    replicas = plan.replicas if isinstance(plan, ServingPlan) else []
    return sum(stage.cores for replica in replicas for stage in replica.stages)


def fleet_problem(documents: Documents, budget: Budget) -> tuple[FleetProblem, Worth]:
    """Return the fleet of a workload, every share that a job may get worked out."""
    worth = Worth(documents, budget)
    jobs = tuple(_fleet_job(worth, resolved) for resolved in documents.workload.jobs)
    return FleetProblem(documents.topology, jobs), worth


def _fleet_job(worth: Worth, resolved: ResolvedJob) -> FleetJob:
    job = resolved.job
    if not isinstance(job, TrainingJob | ServingJob):
        raise WorkloadError(f"job {job.name!r}: only jobs that run a transformer share a cluster")
    sharing, apart = job.sharing, frozenset(job.sharing.anti_affinity)
    spread, whole = sharing.spread == "node", isinstance(job, TrainingJob)
    return FleetJob(job.name, sharing.weight, worth.choices(resolved), apart, spread, whole)


def plan_fleet(documents: Documents, budget: Budget) -> Fleet:
    """Return the best placement of all jobs of a workload on a cluster, checked by the judge.

    Raises
    ------
    InfeasibleError
        If some job keeps its limits on no share.
    PlanError
        If the judge finds a broken rule: a defect of the program.
    """
    problem, worth = fleet_problem(documents, budget)
    solution = solve_fleet(problem, budget)
    broken = check_fleet(problem, solution.placement, solution.cost)
    plans: dict[str, JobPlan] = {}
    for resolved in documents.workload.jobs:
        assignment = solution.placement.get(resolved.job.name)
        plain = resolved.job.model_dump_json(exclude={"name", "sharing"})
        alone = None if assignment is None else worth.known.get((plain, assignment.shape))
        if assignment is not None and alone is not None:
            plan = alone.plan()
            plans[resolved.job.name] = plan
            broken += check_job(worth.problem(resolved, assignment.shape), plan)
    if broken:
        raise PlanError("the placement breaks rules: " + "; ".join(broken))
    return Fleet(problem, solution, plans)
