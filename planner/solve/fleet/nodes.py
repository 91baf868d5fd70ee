"""Which node every part of a job is on: CP-SAT with cuts of GPUs, cores, spread and anti-affinity."""

from __future__ import annotations

from collections import defaultdict

from ortools.sat.python import cp_model

from planner.placement.fleet import (
    Assignment,
    FleetJob,
    FleetProblem,
    Part,
    Shape,
    cores_of,
    device_of,
)
from planner.placement.slices import cutting, patterns
from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import Expression, add_up
from planner.solve.fleet.classes import LEAST, SCALE
from planner.topology import Node


class NodeModel:
    """Parts of every job by node; shapes fixed, or chosen among all with a hint."""

    def __init__(
        self, problem: FleetProblem, shapes: dict[str, Shape], *, fixed: bool, hint: dict[str, Assignment]
    ) -> None:
        self.problem, self.model = problem, cp_model.CpModel()
        self.pick: dict[tuple[str, Shape], cp_model.IntVar] = {}
        self.parts: dict[tuple[str, Shape, str], cp_model.IntVar] = {}
        self.cuts: dict[str, list[tuple[dict[str, int], cp_model.IntVar]]] = {}
        for job in problem.jobs:
            chosen = shapes.get(job.name)
            options = [c.shape for c in job.choices if not fixed or c.shape == chosen]
            self._choose(job, options, must=fixed and chosen is not None)
        for machine, nodes in problem.nodes_of.items():
            for node in nodes:
                self._fit_on(machine, node)
        self._keep_apart()
        self._hint(hint)
        if not fixed:
            self.model.minimize(self._cost())

    def _choose(self, job: FleetJob, options: list[Shape], *, must: bool) -> None:
        picks = []
        for shape in options:
            pick = self.model.new_bool_var(f"{job.name}[{shape}]")
            self.pick[job.name, shape] = pick
            picks.append(pick)
            most = 1 if job.parted else shape.parts
            here = [
                self.model.new_int_var(0, most, f"{job.name}[{shape},{node.name}]")
                for node in self.problem.nodes_of.get(shape.machine, [])
            ]
            for node, count in zip(self.problem.nodes_of.get(shape.machine, []), here, strict=True):
                self.parts[job.name, shape, node.name] = count
            self.model.add(add_up(here) == shape.parts * pick)
        self.model.add(add_up(picks) == 1 if must else add_up(picks) <= 1) if picks else None

    def _fit_on(self, machine: str, node: Node) -> None:
        here = [
            (self.problem.by_name[name], shape, count)
            for (name, shape, place), count in self.parts.items()
            if place == node.name
        ]
        size = len(node.machine.gpus)
        cut: list[tuple[dict[str, int], cp_model.IntVar]] = []
        if any(shape.profile for _, shape, _ in here):
            cut = [
                (way, self.model.new_int_var(0, size, f"cut[{node.name},{way}]"))
                for way in patterns(device_of(node))
            ]
            for profile in sorted({name for way, _ in cut for name in way}):
                wanted = add_up(count for _, shape, count in here if shape.profile == profile)
                self.model.add(wanted <= add_up(way.get(profile, 0) * on for way, on in cut))
        self.cuts[node.name] = cut
        taken = add_up(shape.gpus * count for _, shape, count in here if shape.profile is None)
        self.model.add(taken + add_up(on for _, on in cut) <= size)
        cores: list[Expression] = []
        for job, shape, count in here:
            choice = job.choice(shape)
            cores.append((choice.cores if choice else 0) * count)
        self.model.add(add_up(cores) <= cores_of(node))

    def _keep_apart(self) -> None:
        if not self.problem.enemies:
            return
        on: dict[tuple[str, str], cp_model.IntVar] = {}
        named = {name for pair in self.problem.enemies for name in pair}
        by_place: dict[tuple[str, str], list[cp_model.IntVar]] = defaultdict(list)
        for (name, _, node), count in self.parts.items():
            if name in named:
                by_place[name, node].append(count)
        for key, counts in by_place.items():
            on[key] = self.model.new_bool_var(f"on[{key}]")
            for count in counts:
                self.model.add(count == 0).only_enforce_if(~on[key])
        for pair in self.problem.enemies:
            first, second = sorted(pair)
            for node in self.problem.topology.node_of:
                both = [on[name, node] for name in (first, second) if (name, node) in on]
                if len(both) == 2:
                    self.model.add_at_most_one(both)

    def _hint(self, hint: dict[str, Assignment]) -> None:
        for (name, shape), pick in self.pick.items():
            if name in hint:
                self.model.add_hint(pick, hint[name].shape == shape)
        for (name, shape, node), count in self.parts.items():
            if name in hint:
                same = hint[name].shape == shape
                self.model.add_hint(count, sum(part.node == node for part in hint[name].parts) if same else 0)

    def _cost(self) -> Expression:
        cost: list[Expression] = []
        for job in self.problem.jobs:
            none = int(job.weight * self.problem.unplaced * SCALE)
            cost.append(none)
            for choice in job.choices:
                value = int(job.weight * choice.cost * SCALE)
                cost.append((value - none) * self.pick[job.name, choice.shape])
        return add_up(cost)

    def solve(self, budget: Budget, seconds: float) -> tuple[dict[str, Assignment] | None, float]:
        """Return a placement, ``None`` where none was found, and a lower bound of the mean cost."""
        solver, status = run_model(self.model, budget, seconds=seconds, least=LEAST)
        bound = max(solver.best_objective_bound, 0.0) / SCALE / self.problem.total_weight
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None, float("inf") if status == cp_model.INFEASIBLE else bound
        return self._extract(solver), bound

    def _extract(self, solver: cp_model.CpSolver) -> dict[str, Assignment]:
        parts: dict[str, list[Part]] = defaultdict(list)
        shapes: dict[str, Shape] = {}
        for nodes in self.problem.nodes_of.values():
            for node in nodes:
                here = {
                    (name, shape): solver.value(count)
                    for (name, shape, place), count in self.parts.items()
                    if place == node.name and solver.value(count)
                }
                cut = [way for way, on in self.cuts[node.name] for _ in range(solver.value(on))]
                for name, shape, part in deal(node, here, cut):
                    parts[name].append(part)
                    shapes[name] = shape
        return {name: Assignment(shapes[name], tuple(own)) for name, own in parts.items()}


def deal(
    node: Node, wanted: dict[tuple[str, Shape], int], cut: list[dict[str, int]]
) -> list[tuple[str, Shape, Part]]:
    """Return the GPUs of one node for the parts on it: whole GPUs from the first, slices from the last."""
    names = [gpu.name for gpu in node.machine.gpus]
    found: list[tuple[str, Shape, Part]] = []
    whole = [
        (name, shape) for (name, shape), count in wanted.items() if not shape.profile for _ in range(count)
    ]
    for name, shape in sorted(whole, key=lambda item: (-item[1].gpus, item[0])):
        own, names = tuple(names[: shape.gpus]), names[shape.gpus :]
        found.append((name, shape, Part(node.name, own)))
    slices: dict[str, list[tuple[str, Shape]]] = defaultdict(list)
    for (name, shape), count in wanted.items():
        if shape.profile:
            slices[shape.profile] += [(name, shape)] * count
    for way in cut:
        counts = {profile: min(most, len(slices[profile])) for profile, most in way.items()}
        cuts = cutting(device_of(node), counts)
        assert cuts is not None, "part of a pattern fits where the pattern fits"
        if not cuts:
            continue
        gpu = names.pop()
        for one in cuts:
            name, shape = slices[one.profile].pop()
            found.append((name, shape, Part(node.name, (gpu,), one)))
    return found
