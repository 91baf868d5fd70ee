"""The proven least load of contiguous plans whose stages may be on several accelerators.

Random topological orders, each cut at best over all numbers of copies, give a plan; CP-SAT then looks for a
better one, as for stages on one accelerator (`contiguous`), with a boolean for each number of copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from planner.placement.operators import CPU, OperatorProblem
from planner.placement.replicas import Copies, replicated_load
from planner.solve.budget import Budget
from planner.solve.expressions import Expression, add_up
from planner.solve.operators.chains import Machine, random_order, segment_loads
from planner.solve.operators.contiguous import Stages, machine_of
from planner.solve.operators.reduce import Floats, Reduced, reduce
from planner.solve.operators.scaled import Scaled, run, scale, weigh
from planner.solve.operators.sides import cpu_relief

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

_DEPTHS = (0.0, 0.5, 1.0, 0.9)
_ORDERS = 16
_MARGIN = 1e-6
_UNITS = 10**8
"""Units of the best load that is known."""


@dataclass(frozen=True)
class Replicated:
    """A plan with copies of its stages, its load, s, and a proven lower bound, s."""

    assignment: tuple[int, ...]
    copies: Copies
    value: float
    bound: float


def solve_replicated(problem: OperatorProblem, budget: Budget) -> Replicated:
    """Return the best plan within the budget, with its bound; no assignment where none was found."""
    reduced, machine = reduce(problem), machine_of(problem)
    weights = group_weights(problem, reduced)
    best = Replicated((), (), np.inf, 0.0)
    rng = np.random.default_rng(budget.seed)
    for number in range(_ORDERS):
        order = random_order(reduced, rng, _DEPTHS[number % len(_DEPTHS)])
        stages, copies, value = best_cut(reduced, order, machine, weights / problem.sync_rate)
        if value < best.value:
            best = Replicated(reduced.spread(stages), copies, value, 0.0)
        if budget.over:
            break
    if best.value == 0.0:
        return best
    ceiling = best.value if best.assignment else _ceiling(problem)
    model = _CopiedStages(
        reduced,
        machine,
        _scaled(reduced, ceiling, machine.num_accelerators),
        weights / problem.sync_rate,
        proper=bool(best.assignment),
    )
    solver, status = run(model.model, budget, budget.left, model.scaled.quantum)
    if status == "INFEASIBLE":
        bound = best.value * (1 - _MARGIN) if best.assignment else np.inf
        return Replicated(best.assignment, best.copies, best.value, bound)
    bound = model.scaled.seconds(max(0.0, solver.best_objective_bound))
    if status in ("OPTIMAL", "FEASIBLE"):
        devices, copies = model.extract(solver)
        assignment = reduced.spread(devices)
        return Replicated(assignment, copies, replicated_load(problem, assignment, copies), bound)
    return Replicated(best.assignment, best.copies, best.value, bound)


def _scaled(reduced: Reduced, ceiling: float, copies: int) -> Scaled:
    """Return whole numbers that hold times of up to ``copies`` times a reachable load without a cut."""
    most = max(1, copies)
    return replace(scale(reduced, most * ceiling, most * _UNITS), limit=_UNITS)


def _ceiling(problem: OperatorProblem) -> float:
    runs = sum(op.longest for op in problem.graph.operators)
    return runs + sum(op.transfer_time for op in problem.graph.operators) + 1e-9


def group_weights(problem: OperatorProblem, reduced: Reduced) -> Floats:
    """Return the bytes of gradients of each group."""
    found = np.zeros(reduced.num_groups)
    for group, op in zip(reduced.group_of, problem.graph.operators, strict=True):
        found[group] += op.weights
    return found


def best_cut(
    reduced: Reduced, order: Sequence[int], machine: Machine, sync: Floats
) -> tuple[list[int], Copies, float]:
    """Return stage of each group, copies of each stage and load of the best cut of an order into stages.

    Parameters
    ----------
    sync : ndarray, shape (groups,)
        Time to send the gradients of each group once, s.
    """
    alone, cpu = segment_loads(reduced, order, machine.memory)
    spent = np.concatenate(([0.0], np.cumsum(sync[list(order)])))
    sums = np.maximum(spent[None, :] - spent[:, None], 0.0)
    most = machine.num_accelerators
    loads = {r: (alone + 2.0 * (r - 1) / r * sums) / r for r in range(1, most + 1)}
    start = np.full(len(order) + 1, np.inf)
    start[0] = 0.0
    rows = {(0, False): start}
    moves: dict[tuple[int, bool], list[tuple[int, int]]] = {}
    for used in range(most + 1):
        for with_cpu in (False, True)[: 1 + machine.has_cpu]:
            ways = [(r, rows[used - r, with_cpu], loads[r]) for r in range(1, used + 1)]
            if with_cpu:
                ways.append((0, rows[used, False], cpu))
            if ways:
                rows[used, with_cpu], moves[used, with_cpu] = _extended(ways)
    state = min(rows, key=lambda each: (float(rows[each][-1]), each))
    return _traced(moves, order, state, float(rows[state][-1]))


def _extended(ways: list[tuple[int, Floats, Floats]]) -> tuple[Floats, list[tuple[int, int]]]:
    """Return the best load up to each position, and for each the copies and start of the last stage."""
    through = np.stack([np.maximum(row[:, None], loads) for _, row, loads in ways])
    flat = through.reshape(-1, through.shape[2])
    best = flat.argmin(axis=0)
    values: Floats = flat[best, np.arange(flat.shape[1])]
    length = through.shape[1]
    return values, [(ways[int(place) // length][0], int(place) % length) for place in best]


def _traced(
    moves: dict[tuple[int, bool], list[tuple[int, int]]],
    order: Sequence[int],
    state: tuple[int, bool],
    value: float,
) -> tuple[list[int], Copies, float]:
    """Return the stages of a cut, accelerators numbered along them; stages that hold nothing are left out."""
    parts: list[tuple[int, list[int]]] = []
    end = len(order)
    while state in moves and np.isfinite(value):
        copies, start = moves[state][end]
        parts.append((copies, list(order[start:end])))
        end, state = start, (state[0] - copies, state[1] and copies > 0)
    devices = [CPU] * len(order)
    kept: list[int] = []
    for copies, groups in reversed(parts):
        if copies and groups:
            for group in groups:
                devices[group] = len(kept)
            kept.append(copies)
    return devices, tuple(kept), value


class _CopiedStages(Stages):
    """The CP-SAT model: of each stage also how many accelerators it is on; 0 where it holds nothing."""

    def __init__(
        self, reduced: Reduced, machine: Machine, scaled: Scaled, sync: Floats, *, proper: bool
    ) -> None:
        self.copies: list[list[cp_model.IntVar]] = []
        self.sync = [int(value) for value in np.floor(sync / scaled.quantum)]
        super().__init__(reduced, machine, scaled, proper=proper)
        used = [count * x for row in self.copies for count, x in enumerate(row) if count]
        self.model.add(add_up(used) <= machine.num_accelerators)
        self.model.add(self.busiest >= int(self._floor() / scaled.quantum))
        for stage in range(self.count - 1):
            ahead = [self.copies[stage + 1][0], *self.by_cpu[stage + 1 : stage + 2]]
            self.model.add_bool_or([~self.copies[stage][0], *ahead])

    def _windows(self) -> tuple[list[int], list[int]]:
        """Return the first and the last stage of each group: any, as one stage may take all accelerators."""
        groups = self.reduced.num_groups
        return [0] * groups, [self.count - 1] * groups

    def _floor(self) -> float:
        """Return a load, s, that no plan is below: all work spread evenly, the CPU's best share taken off."""
        work = self.reduced.accelerator
        finite = np.isfinite(work)
        total, many = float(work[finite].sum()), self.machine.num_accelerators
        if not self.machine.has_cpu:
            return total / many if many else 0.0
        low, high = 0.0, self.scaled.seconds(self.scaled.limit)
        for _ in range(40):
            middle = 0.5 * (low + high)
            relief = cpu_relief(work, self.reduced.cpu, middle)
            low, high = (low, middle) if many * middle + relief >= total else (middle, high)
        return low

    def _limit_stage(self, stage: int) -> None:
        scaled, groups = self.scaled, range(self.reduced.num_groups)
        at = [self._at(group, stage) for group in groups]
        many = self.machine.num_accelerators
        copies = [self.model.new_bool_var("") for _ in range(many + 1)]
        self.copies.append(copies)
        by_cpu = [self.by_cpu[stage]] if self.machine.has_cpu else []
        self.model.add_exactly_one([*copies, *by_cpu])
        load: Expression = weigh([scaled.accelerator[g] for g in groups], at) + self._transfers(stage)
        sent = weigh(self.sync, at)
        self.model.add(add_up(at) == 0).only_enforce_if(copies[0])
        for count in range(1, many + 1):
            limit = count * count * self.busiest
            self.model.add(count * load + 2 * (count - 1) * sent <= limit).only_enforce_if(copies[count])
        if float(self.reduced.size.sum()) > self.machine.memory:
            held = weigh([scaled.size[g] for g in groups], at)
            for chosen in copies[1:]:
                self.model.add(held <= int(self.machine.memory)).only_enforce_if(chosen)
        if by_cpu:
            spent = weigh([scaled.cpu[g] for g in groups], at)
            self.model.add(spent <= self.busiest).only_enforce_if(by_cpu[0])

    def extract(self, solver: cp_model.CpSolver) -> tuple[list[int], Copies]:
        """Return the stage of each group, the CPU apart, and the copies of each stage."""
        stages = [sum(1 - solver.value(value) for value in row) for row in self.until]
        number: dict[int, int] = {}
        copies: list[int] = []
        for stage, row in enumerate(self.copies):
            count = next((count for count, x in enumerate(row) if solver.boolean_value(x)), 0)
            if count:
                number[stage] = len(copies)
                copies.append(count)
        return [number.get(stage, CPU) for stage in stages], tuple(copies)
