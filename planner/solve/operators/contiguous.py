"""The proven least load of contiguous plans: stages along the graph, one of them perhaps the CPU's.

Random topological orders, each cut at best, give a plan. CP-SAT then looks for a better one, with a boolean
"the stage of this group is at most t" that falls along every edge; how much work must come before and after a
group says which stages it can have at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from ortools.sat.python import cp_model

from planner.placement.operators import CPU, OperatorProblem, max_load
from planner.solve.budget import Budget
from planner.solve.expressions import Expression
from planner.solve.operators.chains import Machine, best_chain, random_order
from planner.solve.operators.reduce import Reduced, reduce
from planner.solve.operators.scaled import Scaled, run, scale, weigh
from planner.solve.operators.sides import cpu_relief

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEPTHS = (0.0, 0.5, 1.0, 0.9)
_MARGIN = 1e-6
"""A plan must be better by this share to count as better; the proof is to that precision."""


@dataclass(frozen=True)
class Found:
    """An assignment of operators with its load, s, and a proven lower bound, s; ``value`` may be infinite."""

    assignment: tuple[int, ...]
    value: float
    bound: float


def machine_of(problem: OperatorProblem) -> Machine:
    """Return the machine of a problem."""
    return Machine(problem.num_accelerators, problem.memory, problem.has_cpu)


def chain_plan(problem: OperatorProblem, budget: Budget, orders: int) -> Found:
    """Return the best contiguous plan over some random topological orders."""
    reduced, machine = reduce(problem), machine_of(problem)
    rng = np.random.default_rng(budget.seed)
    best = Found((), np.inf, 0.0)
    for number in range(orders):
        value, stages, cpu_stage = best_chain(
            reduced, random_order(reduced, rng, _DEPTHS[number % len(_DEPTHS)]), machine
        )
        if value < best.value:
            best = Found(reduced.spread(stage_devices(stages, cpu_stage)), value, 0.0)
        if budget.over:
            break
    return best


def stage_devices(stages: list[int], cpu_stage: int) -> list[int]:
    """Return the device of each group: accelerators are numbered along the stages, without the CPU's."""
    return [CPU if s == cpu_stage else s - (0 <= cpu_stage < s) for s in stages]


def solve_contiguous(problem: OperatorProblem, budget: Budget) -> Found:
    """Return the best contiguous plan within the budget, with its bound."""
    start = chain_plan(problem, budget, 16)
    if not np.isfinite(start.value):
        start = Found((), _ceiling(problem), 0.0)
    if start.value == 0.0:
        return start
    reduced = reduce(problem, start.value)
    stages = Stages(reduced, machine_of(problem), scale(reduced, start.value), proper=bool(start.assignment))
    solver, status = run(stages.model, budget, budget.left, stages.scaled.quantum)
    if status == "INFEASIBLE" and not start.assignment:
        return Found((), np.inf, np.inf)
    if status == "INFEASIBLE":
        return Found(start.assignment, start.value, start.value * (1 - _MARGIN))
    bound = stages.scaled.seconds(max(0.0, solver.best_objective_bound))
    if status in ("OPTIMAL", "FEASIBLE"):
        assignment = reduced.spread(stages.devices(solver))
        return Found(assignment, max_load(problem, assignment), bound)
    return Found(start.assignment, start.value if start.assignment else np.inf, bound)


def _ceiling(problem: OperatorProblem) -> float:
    """Return a load, s, that no device of any plan exceeds."""
    runs = sum(op.longest for op in problem.graph.operators)
    return runs + sum(op.transfer_time for op in problem.graph.operators) + 1e-9


def least_stages(work: float, relief: float, limit: float) -> int:
    """Return how many stages, one of them perhaps a CPU's, do some work when none exceeds ``limit``."""
    count = 0
    while max(count * limit, (count - 1) * limit + relief if count else 0.0) < work * (1 - 1e-9):
        count += 1
    return count


def ancestors(reduced: Reduced) -> NDArray[np.bool_]:
    """Return which groups come before each group, itself included; shape (n, n)."""
    reach = np.eye(reduced.num_groups, dtype=bool)
    before: list[list[int]] = [[] for _ in range(reduced.num_groups)]
    for source, target in reduced.edges:
        before[target].append(source)
    for group in random_order(reduced, np.random.default_rng(0), 0.0):
        for other in before[group]:
            reach[group] |= reach[other]
    return reach


class Stages:
    """The CP-SAT model of a contiguous plan."""

    def __init__(self, reduced: Reduced, machine: Machine, scaled: Scaled, *, proper: bool) -> None:
        self.reduced, self.machine, self.scaled = reduced, machine, scaled
        self.model = cp_model.CpModel()
        self.count = machine.num_accelerators + machine.has_cpu
        self.first, self.last = self._windows()
        if any(first > last for first, last in zip(self.first, self.last, strict=True)):
            self.model.add_bool_or([])  # some group has no stage left: no plan is as good
        self.until = [self._until(group) for group in range(reduced.num_groups)]
        self.by_cpu = [self.model.new_bool_var("") for _ in range(self.count if machine.has_cpu else 0)]
        if machine.has_cpu:
            self.model.add_exactly_one(self.by_cpu)
        top = scaled.limit - int(scaled.limit * _MARGIN) if proper else scaled.limit
        self.busiest = self.model.new_int_var(0, top, "")
        self._keep_order()
        for stage in range(self.count):
            self._limit_stage(stage)
        self.model.minimize(self.busiest)

    def _windows(self) -> tuple[list[int], list[int]]:
        reach = ancestors(self.reduced)
        limit = self.scaled.seconds(self.scaled.limit)
        first = [self._needed(reach[group], limit) - 1 for group in range(self.reduced.num_groups)]
        last = [self.count - self._needed(reach[:, group], limit) for group in range(self.reduced.num_groups)]
        return first, last

    def _needed(self, chosen: NDArray[np.bool_], limit: float) -> int:
        work, cpu = self.reduced.accelerator[chosen], self.reduced.cpu[chosen]
        relief = 0.0
        if self.machine.has_cpu:
            relief = cpu_relief(work, cpu, limit)
            relief += float(np.isinf(work).any()) * limit
        finite = float(work[np.isfinite(work)].sum())
        return max(1, least_stages(finite, relief, limit))

    def _until(self, group: int) -> list[Expression]:
        """Return whether the stage of a group is at most t, for every t."""
        row: list[Expression] = []
        for stage in range(self.count):
            known = stage < self.first[group] or stage >= self.last[group]
            row.append(int(stage >= self.last[group]) if known else self.model.new_bool_var(""))
        for one, other in pairwise(row):
            if not isinstance(one, int) and not isinstance(other, int):
                self.model.add(one <= other)
        return row

    def _keep_order(self) -> None:
        for source, target in self.reduced.edges:
            for one, other in zip(self.until[source], self.until[target], strict=True):
                self.model.add(other <= one)

    def _at(self, group: int, stage: int) -> Expression:
        return self.until[group][stage] - (self.until[group][stage - 1] if stage else 0)

    def _may_be_at(self, group: int, stage: int) -> bool:
        return self.first[group] <= stage <= self.last[group]

    def _limit_stage(self, stage: int) -> None:
        scaled, here = self.scaled, [g for g in range(self.reduced.num_groups) if self._may_be_at(g, stage)]
        at = [self._at(group, stage) for group in here]
        load = weigh([scaled.accelerator[g] for g in here], at) + self._transfers(stage)
        on_accelerator = [~self.by_cpu[stage]] if self.machine.has_cpu else []
        self.model.add(load <= self.busiest).only_enforce_if(on_accelerator)
        if float(self.reduced.size.sum()) > self.machine.memory:
            held = weigh([scaled.size[g] for g in here], at)
            self.model.add(held <= int(self.machine.memory)).only_enforce_if(on_accelerator)
        if self.machine.has_cpu:
            spent = weigh([scaled.cpu[g] for g in here], at)
            self.model.add(spent <= self.busiest).only_enforce_if(self.by_cpu[stage])

    def _transfers(self, stage: int) -> Expression:
        costs, parted = [], []
        for pins, cost in zip(self.reduced.pins, self.scaled.costs, strict=True):
            if cost and any(self._may_be_at(group, stage) for group in pins):
                at = [self._at(group, stage) for group in pins]
                pays = self.model.new_bool_var("")
                for one, other in zip(at, [*at[1:], at[0]], strict=True):
                    self.model.add(pays >= one - other)
                costs.append(cost)
                parted.append(pays)
        return weigh(costs, parted)

    def devices(self, solver: cp_model.CpSolver) -> list[int]:
        """Return the device of each group in the solver's plan."""
        stages = [sum(1 - solver.value(value) for value in row) for row in self.until]
        cpu_stage = next((s for s, by_cpu in enumerate(self.by_cpu) if solver.boolean_value(by_cpu)), -1)
        return stage_devices(stages, cpu_stage)
