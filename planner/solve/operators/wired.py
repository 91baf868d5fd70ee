"""The least load of plans whose outputs take real routes, with the load of every link.

With the fastest route for every output the problem is the one of transfers through host memory, which no plan
beats: its bound is valid here and its plan is a start. CP-SAT then decides on the routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ortools.sat.python import cp_model

from planner.placement.operators import CPU, OperatorProblem, broken_rules, max_load
from planner.placement.wires import Wires
from planner.solve.budget import Budget
from planner.solve.expressions import Expression, add_up
from planner.solve.operators.contiguous import Found, solve_contiguous
from planner.solve.operators.free import solve_free
from planner.solve.operators.reduce import Reduced, reduce
from planner.solve.operators.scaled import run

MOST_MOVES = 60_000
"""Most pairs of an output and a route that the model decides on."""
_RESOLUTION = 10**8
_SHARE = 0.4
"""Share of the time for the plan and the bound from the fastest routes."""


def solve_wired(problem: OperatorProblem, budget: Budget) -> Found:
    """Return the best plan within the budget, with its bound."""
    assert problem.wires is not None
    solve = solve_contiguous if problem.kind == "contiguous" else solve_free
    found = solve(relaxed(problem, problem.wires), budget.part(_SHARE * budget.left))
    if not found.assignment and np.isinf(found.bound):
        return found
    start, value = found.assignment, np.inf
    if start and not broken_rules(problem, start):
        start = exchanged(problem, start, budget)
        value = max_load(problem, start)
    if value <= found.bound * (1 + 1e-9):
        return Found(start, value, found.bound)
    model = _Routes(problem, reduce(problem), value if np.isfinite(value) else _ceiling(problem))
    if model.size > MOST_MOVES:
        return Found(start, value, found.bound)
    model.build(start)
    solver, status = run(model.model, budget, budget.left, model.quantum)
    bound = max(found.bound, model.quantum * max(0.0, solver.best_objective_bound))
    if status == "INFEASIBLE":
        return Found(start, value, value * (1 - 1e-7) if start else np.inf)
    if status in ("OPTIMAL", "FEASIBLE"):
        assignment = model.assignment(solver)
        reached = max_load(problem, assignment)
        if reached < value:
            start, value = assignment, reached
    return Found(start, value, bound)


def relaxed(problem: OperatorProblem, wires: Wires) -> OperatorProblem:
    """Return the problem in which every output takes the fastest route there is, once on either side."""
    operators = tuple(
        replace(op, transfer_time=min((wires.seconds(index, pair) for pair in wires.pace), default=0.0))
        for index, op in enumerate(problem.graph.operators)
    )
    return replace(problem, graph=replace(problem.graph, operators=operators), wires=None)


def exchanged(problem: OperatorProblem, assignment: Sequence[int], budget: Budget) -> tuple[int, ...]:
    """Return an assignment whose devices have swapped places as long as that helps."""
    best, value = tuple(assignment), max_load(problem, assignment)
    improved = True
    while improved and not budget.over:
        improved = False
        for one in range(problem.num_accelerators):
            for other in range(one + 1, problem.num_accelerators):
                swap = {one: other, other: one}
                trial = tuple(swap.get(device, device) for device in best)
                reached = max_load(problem, trial)
                if reached < value * (1 - 1e-9):
                    best, value, improved = trial, reached, True
    return best


def _ceiling(problem: OperatorProblem) -> float:
    """Return a load, s, that no device or link of any plan exceeds."""
    wires, devices = problem.wires, problem.num_accelerators + 1
    assert wires is not None
    runs = sum(op.longest for op in problem.graph.operators)
    slowest = max([*wires.pace.values(), *wires.link_pace], default=0.0)
    late = max(wires.latency.values(), default=0.0)
    return runs + sum(late + size * slowest for size in wires.outputs) * devices * devices + 1e-9


class _Routes:
    """The CP-SAT model: where each group is, and which output takes which route."""

    def __init__(self, problem: OperatorProblem, reduced: Reduced, limit: float) -> None:
        self.problem, self.reduced = problem, reduced
        assert problem.wires is not None
        self.wires = problem.wires
        self.devices = [*range(problem.num_accelerators), *([CPU] if problem.has_cpu else [])]
        self.quantum = limit / _RESOLUTION
        self.model = cp_model.CpModel()
        self.readers = {
            source: sorted({reduced.group_of[t] for t in targets} - {reduced.group_of[source]})
            for source, targets in enumerate(problem.graph.successors)
        }

    @property
    def size(self) -> int:
        """Pairs of an output and a route."""
        return sum(map(bool, self.readers.values())) * len(self.devices) ** 2

    def build(self, start: Sequence[int]) -> None:
        """Make variables and constraints."""
        model, groups = self.model, range(self.reduced.num_groups)
        self.at = [{device: model.new_bool_var("") for device in self.devices} for _ in groups]
        self.busiest = model.new_int_var(0, _RESOLUTION, "")
        loads: dict[int, list[Expression]] = {device: [] for device in self.devices}
        links: dict[int, list[Expression]] = {}
        hint = self.reduced.gather(start) if start else None
        for group in groups:
            model.add_exactly_one(self.at[group].values())
            for device, here in self.at[group].items():
                times = self.reduced.cpu if device == CPU else self.reduced.accelerator
                if not np.isfinite(times[group]):
                    model.add(here == 0)
                    continue
                loads[device].append(self._units(float(times[group])) * here)
                if hint is not None:
                    model.add_hint(here, hint[group] == device)
        self._route(loads, links)
        for terms in (*loads.values(), *links.values()):
            model.add(add_up(terms) <= self.busiest)
        self._fit()
        if self.problem.kind == "contiguous":
            self._keep_order()
        model.minimize(self.busiest)

    def _route(self, loads: dict[int, list[Expression]], links: dict[int, list[Expression]]) -> None:
        """Add what each output costs the ends and the links of each route."""
        for source, readers in self.readers.items():
            for reader_pair, moved in self._moves(source, readers):
                cost = self._units(self.wires.seconds(source, reader_pair))
                for end in reader_pair:
                    loads[end].append(cost * moved)
                for link in self.wires.hops[reader_pair]:
                    busy = self._units(self.wires.outputs[source] * self.wires.link_pace[link])
                    links.setdefault(link, []).append(busy * moved)

    def _units(self, seconds: float) -> int:
        return int(min(seconds / self.quantum, 4.0 * _RESOLUTION))

    def _moves(self, source: int, readers: Sequence[int]) -> list[tuple[tuple[int, int], cp_model.IntVar]]:
        found = []
        home = self.at[self.reduced.group_of[source]]
        for here in self.devices:
            for there in self.devices:
                if here == there or not readers:
                    continue
                moved = self.model.new_bool_var("")
                for reader in readers:
                    self.model.add_bool_or([~home[here], ~self.at[reader][there], moved])
                found.append(((here, there), moved))
        return found

    def _fit(self) -> None:
        for device in self.devices:
            if device != CPU:
                held = [int(size) * row[device] for size, row in zip(self.reduced.size, self.at, strict=True)]
                self.model.add(add_up(held) <= int(self.problem.memory))

    def _keep_order(self) -> None:
        """Let devices have an order in which stages never decrease along the edges."""
        place = {device: self.model.new_int_var(0, len(self.devices) - 1, "") for device in self.devices}
        for one in self.devices:
            for other in self.devices:
                if one != other:
                    before = self.model.new_bool_var("")
                    self.model.add(place[one] + 1 <= place[other]).only_enforce_if(before)
                    for source, target in self.reduced.edges:
                        apart = [~self.at[source][one], ~self.at[target][other], before]
                        self.model.add_bool_or(apart)

    def assignment(self, solver: cp_model.CpSolver) -> tuple[int, ...]:
        """Return the device of each operator."""
        devices = [
            next(device for device, here in row.items() if solver.boolean_value(here)) for row in self.at
        ]
        return self.reduced.spread(devices)
