"""Simple rules for a fleet: first fit, best fit, greedy; what a plan is compared with."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count

from planner.placement.fleet import (
    Assignment,
    Choice,
    FleetJob,
    FleetProblem,
    Part,
    Shape,
    cores_of,
    device_of,
)
from planner.placement.slices import Cut, cutting, plain_profiles
from planner.topology import Node


class Room:
    """What is left of a node.

    Attributes
    ----------
    cut
        Profiles on every GPU that is cut, in the order in which they came.
    """

    def __init__(self, node: Node) -> None:
        self.node, self.device = node, device_of(node)
        self.free = [gpu.name for gpu in node.machine.gpus]
        self.cut: dict[str, list[str]] = {}
        self.cores = cores_of(node)
        self.jobs: list[str] = []

    def fits(self, choice: Choice) -> str | None:
        """Return the GPU (or the first of the GPUs) for a part, ``None`` where there is none."""
        if choice.cores > self.cores:
            return None
        if choice.shape.profile is None:
            return self.free[0] if len(self.free) >= choice.shape.gpus else None
        for gpu, profiles in self.cut.items():
            if cutting(self.device, dict(Counter([*profiles, choice.shape.profile]))) is not None:
                return gpu
        return self.free[-1] if self.free else None

    def take(self, job: str, choice: Choice, gpu: str) -> tuple[str, ...]:
        """Give a part away and return its GPUs."""
        self.cores -= choice.cores
        self.jobs.append(job)
        if choice.shape.profile is None:
            own, self.free = tuple(self.free[: choice.shape.gpus]), self.free[choice.shape.gpus :]
            return own
        if gpu in self.free:
            self.free.remove(gpu)
        self.cut.setdefault(gpu, []).append(choice.shape.profile)
        return (gpu,)

    def give_back(self, job: str, choice: Choice, gpus: tuple[str, ...]) -> None:
        """Undo :meth:`take`."""
        self.cores += choice.cores
        self.jobs.remove(job)
        if choice.shape.profile is None:
            self.free = [*gpus, *self.free]
            return
        self.cut[gpus[0]].remove(choice.shape.profile)
        if not self.cut[gpus[0]]:
            del self.cut[gpus[0]]
            self.free.append(gpus[0])


Order = Callable[[list[Room]], list[Room]]


class Rooms:
    """What is left of a cluster, and who has what."""

    def __init__(self, problem: FleetProblem, order: Order = lambda rooms: rooms) -> None:
        self.problem, self.order, self.sizes = problem, order, sizes(problem)
        self.of = {machine: [Room(node) for node in nodes] for machine, nodes in problem.nodes_of.items()}
        self.given: dict[str, tuple[Choice, list[tuple[Room, tuple[str, ...]]]]] = {}

    def place(self, job: FleetJob, choice: Choice) -> bool:
        """Place all parts of a job, or none."""
        own: list[tuple[Room, tuple[str, ...]]] = []
        for _ in range(choice.shape.parts):
            for room in self.order(self.of.get(choice.shape.machine, [])):
                if self._barred(job, room):
                    continue
                gpu = room.fits(choice)
                if gpu is not None:
                    own.append((room, room.take(job.name, choice, gpu)))
                    break
            else:
                for room, gpus in reversed(own):
                    room.give_back(job.name, choice, gpus)
                return False
        self.given[job.name] = choice, own
        return True

    def _barred(self, job: FleetJob, room: Room) -> bool:
        if job.parted and job.name in room.jobs:
            return True
        return any(frozenset((job.name, other)) in self.problem.enemies for other in room.jobs)

    def remove(self, job: FleetJob) -> None:
        """Take a job away."""
        choice, own = self.given.pop(job.name)
        for room, gpus in reversed(own):
            room.give_back(job.name, choice, gpus)

    def placement(self) -> dict[str, Assignment]:
        """Return who has what, slices at the places where they start."""
        starts: dict[tuple[str, str], list[Cut]] = {}
        for rooms in self.of.values():
            for room in rooms:
                for gpu, profiles in room.cut.items():
                    starts[room.node.name, gpu] = cutting(room.device, dict(Counter(profiles))) or []
        found: dict[str, Assignment] = {}
        for name, (choice, own) in self.given.items():
            parts = []
            for room, gpus in own:
                cut = None
                if choice.shape.profile is not None:
                    waiting = starts[room.node.name, gpus[0]]
                    cut = next(one for one in waiting if one.profile == choice.shape.profile)
                    waiting.remove(cut)
                parts.append(Part(room.node.name, gpus, cut))
            found[name] = Assignment(choice.shape, tuple(parts))
        return found


def sizes(problem: FleetProblem) -> dict[Shape, float]:
    """Return how many GPUs every shape takes, a slice counting by the larger of its shares."""
    found: dict[Shape, float] = {}
    for shape in {choice.shape for job in problem.jobs for choice in job.choices}:
        each = float(shape.gpus)
        if shape.profile is not None:
            device = device_of(problem.nodes_of[shape.machine][0])
            profile = plain_profiles(device)[shape.profile]
            each = max(profile.compute, profile.memory)
        found[shape] = each * shape.parts
    return found


def by_weight(problem: FleetProblem) -> list[FleetJob]:
    """Return the jobs by falling priority."""
    return sorted(problem.jobs, key=lambda job: -job.weight)


def first_fit(problem: FleetProblem) -> dict[str, Assignment]:
    """Give every job, by priority, its smallest choice, on the first node that has room."""
    rooms = Rooms(problem)
    for job in by_weight(problem):
        _smallest(rooms, job)
    return rooms.placement()


def best_fit(problem: FleetProblem) -> dict[str, Assignment]:
    """Give every job, by priority, its smallest choice, on the fullest node that has room."""
    return _packed(problem).placement()


def _packed(problem: FleetProblem) -> Rooms:
    rooms = Rooms(problem, _fullest)
    for job in by_weight(problem):
        _smallest(rooms, job)
    return rooms


def greedy(problem: FleetProblem) -> dict[str, Assignment]:
    """Begin with best fit, then again and again grant the change that gains most per GPU."""
    rooms = _packed(problem)
    queue: list[tuple[float, int, str, Choice, Choice]] = []
    number = count()

    def offer(name: str) -> None:
        job, now = problem.by_name[name], rooms.given[name][0]
        for choice in job.choices:
            gain = job.weight * (now.cost - choice.cost)
            more = max(rooms.sizes[choice.shape] - rooms.sizes[now.shape], 1e-3)
            if gain > 1e-12:
                heapq.heappush(queue, (-gain / more, next(number), name, now, choice))

    for name in list(rooms.given):
        offer(name)
    while queue:
        _, _, name, before, choice = heapq.heappop(queue)
        job, now = problem.by_name[name], rooms.given[name][0]
        if now != before:
            continue
        rooms.remove(job)
        if rooms.place(job, choice):
            offer(name)
        else:
            rooms.place(job, now)
    return rooms.placement()


def _smallest(rooms: Rooms, job: FleetJob) -> bool:
    order = sorted(job.choices, key=lambda choice: (rooms.sizes[choice.shape], choice.cost))
    return any(rooms.place(job, choice) for choice in order)


def _fullest(rooms: list[Room]) -> list[Room]:
    return sorted(rooms, key=lambda room: len(room.free))
