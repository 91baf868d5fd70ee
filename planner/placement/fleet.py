"""Many jobs on one cluster: what each may get, and the judge of who gets which GPUs and slices.

A *part* is what a job has on one node: some whole GPUs, or one Multi-Instance GPU slice. A training job on
several parts takes whole nodes; a service on several parts runs one copy on each and shares its requests out
evenly. So only parts of one node share its cores and its host links, and no two jobs share a network port but
through the switches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from planner.placement.slices import Cut, cut_problems
from planner.topology import Device, Node, Topology


@dataclass(frozen=True, order=True)
class Shape:
    """What a job may get: so many parts, each of whole GPUs of a node, or a slice, on one kind of machine."""

    machine: str
    gpus: int
    parts: int = 1
    profile: str | None = None

    def __str__(self) -> str:
        each = self.profile or f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"
        return f"{self.parts} x {each} of {self.machine}"


@dataclass(frozen=True)
class Choice:
    """A shape with what it gives.

    Attributes
    ----------
    value
        The job's own objective, s.
    cost
        ``value`` over the best that any shape gives, at least 1.
    cores
        Host cores that each part needs.
    """

    shape: Shape
    value: float
    cost: float
    cores: int


@dataclass(frozen=True)
class FleetJob:
    """A job of a fleet.

    Attributes
    ----------
    weight
        Priority: weight in the objective.
    anti_affinity
        Jobs that may share no node with this one.
    spread
        Whether no two parts of the job may share a node.
    whole
        Whether parts on several nodes work as one (training), so that they need nodes of their own.
    """

    name: str
    weight: float
    choices: tuple[Choice, ...]
    anti_affinity: frozenset[str] = frozenset()
    spread: bool = False
    whole: bool = False

    @property
    def parted(self) -> bool:
        """Whether every part needs a node of its own."""
        return self.spread or self.whole

    def choice(self, shape: Shape) -> Choice | None:
        """Return the choice of a shape, ``None`` where the job may not get it."""
        return next((choice for choice in self.choices if choice.shape == shape), None)


@dataclass(frozen=True)
class Part:
    """One part of a job: its node and GPUs, and where on its GPU it lies if it is a slice."""

    node: str
    gpus: tuple[str, ...]
    cut: Cut | None = None


@dataclass(frozen=True)
class Assignment:
    """What a job gets."""

    shape: Shape
    parts: tuple[Part, ...]


Placement = Mapping[str, Assignment]
"""Assignments by job; a job that is not in it is not placed."""


@dataclass(frozen=True)
class FleetProblem:
    """Jobs to be placed on a cluster.

    Attributes
    ----------
    unplaced
        Cost of a job that is not placed.
    """

    topology: Topology
    jobs: tuple[FleetJob, ...]
    unplaced: float = 100.0

    @cached_property
    def by_name(self) -> dict[str, FleetJob]:
        """Jobs by name."""
        return {job.name: job for job in self.jobs}

    @cached_property
    def nodes_of(self) -> dict[str, list[Node]]:
        """Nodes by the machine that they are."""
        found: dict[str, list[Node]] = {}
        for node in self.topology.nodes:
            if node.machine.gpus:
                found.setdefault(node.machine.name, []).append(node)
        return found

    @cached_property
    def enemies(self) -> frozenset[frozenset[str]]:
        """Pairs of jobs that may share no node."""
        return frozenset(
            frozenset((job.name, other))
            for job in self.jobs
            for other in job.anti_affinity
            if other in self.by_name and other != job.name
        )

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return sum(job.weight for job in self.jobs)


def device_of(node: Node) -> Device:
    """Return the device of a node's first GPU; machines of a fleet have GPUs of one model each."""
    return node.machine.device_of(node.machine.gpus[0].name)


def cores_of(node: Node) -> int:
    """Return the cores of a node."""
    return sum(domain.cores for domain in node.machine.numa)


def fleet_cost(problem: FleetProblem, placement: Placement) -> float:
    """Return the weighted mean cost; the judge's objective."""
    total = 0.0
    for job in problem.jobs:
        assignment = placement.get(job.name)
        choice = None if assignment is None else job.choice(assignment.shape)
        total += job.weight * (problem.unplaced if choice is None else choice.cost)
    return total / problem.total_weight


def check_fleet(problem: FleetProblem, placement: Placement, cost: float) -> list[str]:
    """Return every rule that a placement breaks, and a stated cost that is not the judge's."""
    found = [f"unknown job {name!r}" for name in placement if name not in problem.by_name]
    if found:
        return found
    for name, assignment in placement.items():
        found.extend(
            f"{name}: {text}" for text in _shape_problems(problem, problem.by_name[name], assignment)
        )
    if found:
        return found
    found.extend(_gpu_problems(problem, placement))
    found.extend(_node_problems(problem, placement))
    judged = fleet_cost(problem, placement)
    if abs(judged - cost) > 1e-9 * judged:
        found.append(f"cost {cost:.9g} stated, the judge finds {judged:.9g}")
    return found


def _shape_problems(problem: FleetProblem, job: FleetJob, assignment: Assignment) -> Iterator[str]:
    shape, nodes = assignment.shape, problem.topology.node_of
    if job.choice(shape) is None:
        yield f"{shape} is none of its choices"
    if len(assignment.parts) != shape.parts:
        yield f"{len(assignment.parts)} parts placed, {shape.parts} in its shape"
    for part in assignment.parts:
        if part.node not in nodes or nodes[part.node].machine.name != shape.machine:
            yield f"{part.node} is not of machine {shape.machine}"
            continue
        own = {gpu.name for gpu in nodes[part.node].machine.gpus}
        if len(set(part.gpus) & own) != shape.gpus or len(part.gpus) != shape.gpus:
            yield f"{part.node} does not give it {shape.gpus} of its GPUs"
        if (part.cut.profile if part.cut else None) != shape.profile:
            yield f"{part.node} gives it {part.cut or 'whole GPUs'}, not {shape}"
    places = [part.node for part in assignment.parts]
    if job.parted and len(set(places)) != len(places):
        yield "two of its parts share a node"


def _gpu_problems(problem: FleetProblem, placement: Placement) -> Iterator[str]:
    whole: dict[tuple[str, str], list[str]] = defaultdict(list)
    cuts: dict[tuple[str, str], list[Cut]] = defaultdict(list)
    for name, assignment in placement.items():
        for part in assignment.parts:
            for gpu in part.gpus:
                if part.cut is None:
                    whole[part.node, gpu].append(name)
                else:
                    cuts[part.node, gpu].append(part.cut)
    for (node, gpu), names in whole.items():
        if len(names) > 1 or (node, gpu) in cuts:
            yield f"{node}/{gpu} is given whole to {names[0]} and to others"
    for (node, gpu), own in cuts.items():
        for text in cut_problems(problem.topology.node_of[node].machine.device_of(gpu), own):
            yield f"{node}/{gpu}: {text}"


def _node_problems(problem: FleetProblem, placement: Placement) -> Iterator[str]:
    cores: dict[str, int] = defaultdict(int)
    jobs: dict[str, set[str]] = defaultdict(set)
    for name, assignment in placement.items():
        choice = problem.by_name[name].choice(assignment.shape)
        for part in assignment.parts:
            cores[part.node] += choice.cores if choice else 0
            jobs[part.node].add(name)
    for node, count in cores.items():
        room = cores_of(problem.topology.node_of[node])
        if count > room:
            yield f"{node}: {count} cores given away, it has {room}"
    for node, names in jobs.items():
        for pair in problem.enemies:
            if pair <= names:
                yield f"{node}: {' and '.join(sorted(pair))} must not share a node"
