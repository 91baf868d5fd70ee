"""How many of each class of equal jobs get which shape: CP-SAT over counts, a relaxation without nodes.

Nodes of a machine are interchangeable, and so are equal jobs; what remains is the number of GPUs, of whole
nodes, and of GPUs cut in each way. Its optimum bounds every placement from below.
"""

from __future__ import annotations

from dataclasses import dataclass

from ortools.sat.python import cp_model

from planner.placement.fleet import Choice, FleetJob, FleetProblem, Shape, cores_of, device_of
from planner.placement.slices import patterns
from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import Expression, add_up

SCALE = 1_000_000
LEAST = 0.1
"""Shortest limit of a solve, s."""
GAP = 1e-4
"""Relative gap at which the shapes are good enough."""


@dataclass(frozen=True)
class JobClass:
    """Jobs that the relaxation cannot tell apart."""

    jobs: tuple[FleetJob, ...]
    weight: float
    choices: tuple[Choice, ...]


def job_classes(problem: FleetProblem) -> list[JobClass]:
    """Return the jobs by class, in order of first appearance."""
    found: dict[tuple[float, tuple[Choice, ...], bool], list[FleetJob]] = {}
    for job in problem.jobs:
        found.setdefault((job.weight, job.choices, job.parted), []).append(job)
    return [JobClass(tuple(jobs), key[0], key[1]) for key, jobs in found.items()]


class ClassModel:
    """Counts of jobs by class and shape, and of GPUs by machine and cut."""

    def __init__(self, problem: FleetProblem) -> None:
        self.problem, self.classes = problem, job_classes(problem)
        self.model = cp_model.CpModel()
        self.counts: list[list[cp_model.IntVar]] = []
        self.left: list[cp_model.IntVar] = []
        for number, one in enumerate(self.classes):
            most = len(one.jobs)
            row = [self.model.new_int_var(0, most, f"count[{number},{c.shape}]") for c in one.choices]
            none = self.model.new_int_var(0, most, f"unplaced[{number}]")
            self.model.add(add_up(row) + none == most)
            self.counts.append(row)
            self.left.append(none)
        for machine in problem.nodes_of:
            self._fit_on(machine)
        self.model.minimize(self._cost())

    def _uses(self, machine: str) -> list[tuple[Choice, cp_model.IntVar, JobClass]]:
        return [
            (choice, count, one)
            for one, row in zip(self.classes, self.counts, strict=True)
            for choice, count in zip(one.choices, row, strict=True)
            if choice.shape.machine == machine
        ]

    def _fit_on(self, machine: str) -> None:
        nodes = self.problem.nodes_of[machine]
        size = len(nodes[0].machine.gpus)
        uses = self._uses(machine)
        cut: list[cp_model.IntVar] = []
        if any(choice.shape.profile for choice, _, _ in uses):
            ways = patterns(device_of(nodes[0]))
            cut = [self.model.new_int_var(0, size * len(nodes), f"cut[{machine},{way}]") for way in ways]
            for profile in {name for way in ways for name in way}:
                wanted = add_up(c.shape.parts * n for c, n, _ in uses if c.shape.profile == profile)
                made = add_up(way.get(profile, 0) * on for way, on in zip(ways, cut, strict=True))
                self.model.add(wanted <= made)
        whole = [(c, n) for c, n, _ in uses if c.shape.profile is None]
        taken = add_up(c.shape.gpus * c.shape.parts * n for c, n in whole)
        self.model.add(taken + add_up(cut) <= size * len(nodes))
        for gpus in sorted({c.shape.gpus for c, _ in whole if c.shape.gpus > size // 2}):
            large = add_up(c.shape.parts * n for c, n in whole if c.shape.gpus >= gpus)
            self.model.add(large <= len(nodes))
        room = sum(cores_of(node) for node in nodes)
        self.model.add(add_up(c.cores * c.shape.parts * n for c, n, _ in uses) <= room)
        for choice, count, one in uses:
            if one.jobs[0].parted and choice.shape.parts > len(nodes):
                self.model.add(count == 0)

    def _cost(self) -> Expression:
        cost: list[Expression] = []
        for one, row, none in zip(self.classes, self.counts, self.left, strict=True):
            cost += [
                int(one.weight * choice.cost * SCALE) * count
                for choice, count in zip(one.choices, row, strict=True)
            ]
            cost.append(int(one.weight * self.problem.unplaced * SCALE) * none)
        return add_up(cost)

    def solve(self, budget: Budget, seconds: float) -> tuple[dict[str, Shape], float]:
        """Return the shape of every placed job and a lower bound of the mean cost."""
        solver, status = run_model(self.model, budget, seconds=seconds, least=LEAST, gap=GAP)
        bound = max(solver.best_objective_bound, 0.0) / SCALE / self.problem.total_weight
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return {}, bound
        shapes: dict[str, Shape] = {}
        for one, row in zip(self.classes, self.counts, strict=True):
            waiting = list(one.jobs)
            for choice, count in zip(one.choices, row, strict=True):
                for _ in range(solver.value(count)):
                    shapes[waiting.pop(0).name] = choice.shape
        return shapes, bound
