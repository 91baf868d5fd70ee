"""The least load of free assignments, from the best contiguous plan on.

Annealing and re-solving few devices improve the plan. The full model carries what every accelerator must do
at least (`sides`), which lifts its bound from the start.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ortools.sat.python import cp_model

from planner.placement.operators import CPU, OperatorProblem, broken_rules, load, max_load
from planner.solve.budget import Budget
from planner.solve.expressions import Expression, add_up
from planner.solve.operators.anneal import anneal
from planner.solve.operators.chains import Machine
from planner.solve.operators.contiguous import Found, chain_plan, machine_of
from planner.solve.operators.prices import Contents
from planner.solve.operators.reduce import Reduced, followings, reduce
from planner.solve.operators.scaled import Scaled, parting, run, scale, weigh
from planner.solve.operators.sides import Share, least_share

_HEATS = (0.002, 0.02, 0.1)
_MOVES = 300_000
_MARGIN = 1e-6
_GAIN = 4e-5
"""Least relative gain of a bound that makes another try worth its time."""
_STEP = 0.35
"""How far above the bound the next limit lies, as a share of how far the last one did."""


def solve_free(problem: OperatorProblem, budget: Budget) -> Found:
    """Return the best assignment within the budget, with its bound."""
    start = chain_plan(replace(problem, kind="contiguous"), budget, 12)
    if not start.assignment:
        return _from_nothing(problem, budget)
    if start.value == 0.0:
        return start
    search = _Search(problem, budget, start)
    total = budget.left
    search.anneal(_HEATS, 0.06 * total)
    if search.full(0.35 * total):
        return search.found
    search.improve(0.17 * total)
    search.anneal(_HEATS[:1], 0.03 * total)
    search.raise_bound(0.25 * total)
    if not search.price(0.5 * budget.left):
        search.full(budget.left)
    return search.found


def _from_nothing(problem: OperatorProblem, budget: Budget) -> Found:
    """Search without a plan to start from, as memory leaves no contiguous one that is easily found."""
    ceiling = sum(op.longest + 2 * op.transfer_time for op in problem.graph.operators)
    reduced = reduce(problem)
    model = FreeModel(reduced, machine_of(problem), scale(reduced, ceiling + 1e-9), None)
    solver, status = run(model.model, budget, budget.left, model.scaled.quantum)
    if status == "INFEASIBLE":
        return Found((), np.inf, np.inf)
    bound = model.scaled.seconds(max(0.0, solver.best_objective_bound))
    if status not in ("OPTIMAL", "FEASIBLE"):
        return Found((), np.inf, bound)
    assignment = _spread(reduced, model.devices(solver), problem.num_accelerators)
    return Found(assignment, max_load(problem, assignment), bound)


def _spread(reduced: Reduced, devices: Sequence[int], cpu: int) -> tuple[int, ...]:
    return reduced.spread([CPU if device == cpu else device for device in devices])


class _Search:
    """The best plan and bound so far, and the ways to improve them."""

    def __init__(self, problem: OperatorProblem, budget: Budget, found: Found) -> None:
        self.problem, self.budget, self.found = problem, budget, found
        self.machine = machine_of(problem)
        self.random = random.Random(budget.seed)
        self.share: Share | None = None
        self._reduce()

    def _reduce(self) -> None:
        self.reduced = reduce(self.problem, self.found.value)
        cpu = self.machine.num_accelerators
        self.devices = [cpu if d == CPU else d for d in self.reduced.gather(self.found.assignment)]

    def _take(self, devices: Sequence[int]) -> bool:
        """Keep a plan if the judge finds it better and legal; return whether it is.

        Groups of the reduced graph hold together in every better plan, but perhaps not in the best one so
        far, so that a search which starts from that one may put a group where it cannot be.
        """
        assignment = _spread(self.reduced, devices, self.machine.num_accelerators)
        value = max_load(self.problem, assignment)
        if value >= self.found.value * (1 - 1e-9) or broken_rules(self.problem, assignment):
            return False
        self.found = Found(assignment, value, self.found.bound)
        self.devices = list(devices)
        self.budget.progress("operators", 0, self.found.bound, value)
        return True

    def anneal(self, heats: Sequence[float], seconds: float) -> None:
        """Move single groups."""
        end = self.budget.left - seconds
        for number, heat in enumerate(heats):
            _, devices = anneal(
                self.reduced,
                self.machine,
                self.devices,
                seed=self.budget.seed + number,
                moves=min(_MOVES, 1000 * self.reduced.num_groups),
                heat=heat,
                stopped=lambda: self.budget.over or self.budget.left < end,
            )
            self._take(devices)
        self._reduce()

    def improve(self, seconds: float) -> None:
        """Re-solve the busiest device with one or two others, until time or patience ends."""
        end, idle, number = self.budget.left - seconds, 0, 0
        accelerators = self.machine.num_accelerators
        while self.budget.left > max(end, 0.0) and not self.budget.over and idle < 4 * accelerators:
            loads = _loads(self.problem, self.found.assignment, accelerators)
            busiest = max(range(len(loads)), key=loads.__getitem__)
            others = [d for d in range(accelerators + self.machine.has_cpu) if d != busiest]
            chosen = [busiest, *self.random.sample(others, min(len(others), 1 + number % 2))]
            if self._resolve(chosen, min(4.0, self.budget.left - end)):
                idle = 0
            else:
                idle += 1
            number += 1

    def _resolve(self, chosen: Sequence[int], seconds: float) -> bool:
        part = Part(tuple(chosen), tuple(self.devices))
        model = FreeModel(self.reduced, self.machine, scale(self.reduced, self.found.value, 10**7), part)
        solver, status = run(model.model, self.budget, seconds, model.scaled.quantum)
        if status not in ("OPTIMAL", "FEASIBLE"):
            return False
        return self._take(model.devices(solver))

    def raise_bound(self, seconds: float) -> None:
        """Find what every accelerator does at least, and do so again for plans of ever lower limits.

        Whatever the limit, a plan keeps it and is not below the bound that then holds, or breaks it and is
        above the limit: the lesser of the two is a bound of all plans.
        """
        self._reduce()
        end, high, transfers = self.budget.left - seconds, self.found.value, 0.0
        limit, idle = high, 0
        while self.budget.left > max(end, 0.0) and not self.budget.over:
            share = least_share(
                reduce(self.problem, limit), self.machine, limit, self.budget, transfers=transfers,
                seconds=0.5 * (self.budget.left - end),
            )  # fmt: skip
            self.share = self.share or share
            idle = 0 if share.bound > self.found.bound * (1 + _GAIN) else idle + 1
            self.found = replace(self.found, bound=max(self.found.bound, min(share.bound, self.found.value)))
            if share.bound < limit * (1 - _MARGIN):
                high, transfers = limit, share.transfers
            if high - self.found.bound <= _MARGIN * high or idle == 2:
                return
            limit = self.found.bound + _STEP * (high - self.found.bound)

    def price(self, seconds: float) -> bool:
        """Raise the bound by prices of accelerator contents; return whether the plan is then proven."""
        self._reduce()
        contents = Contents(self.reduced, self.machine)
        for device in range(self.machine.num_accelerators):
            contents.add([group for group, place in enumerate(self.devices) if place == device])
        end, low, high = self.budget.left - seconds, self.found.bound, self.found.value * (1 - _MARGIN)
        limit, step, share = high, 0.05, 0.35
        while self.budget.left > end and not self.budget.over and limit - low > 1e-5 * high:
            if contents.excludes(limit, self.budget, share * (self.budget.left - end)):
                low = limit
                self.found = replace(self.found, bound=max(self.found.bound, limit))
                step *= 2.0 if limit < high else 1.0
            elif limit < high:
                step /= 2.0
            limit, share = low + min(step, 1.0) * (high - low), 0.5
        return self.found.bound >= self.found.value * (1 - 2 * _MARGIN)

    def full(self, seconds: float) -> bool:
        """Search all assignments; return whether the plan is then proven to be the best."""
        self._reduce()
        everything = Part(
            tuple(range(self.machine.num_accelerators + self.machine.has_cpu)), tuple(self.devices)
        )
        scaled = scale(self.reduced, self.found.value)
        model = FreeModel(self.reduced, self.machine, scaled, everything, self.share)
        solver, status = run(model.model, self.budget, seconds, scaled.quantum)
        if status in ("OPTIMAL", "FEASIBLE"):
            self._take(model.devices(solver))
        bound = scaled.seconds(max(0.0, solver.best_objective_bound)) if status != "UNKNOWN" else 0.0
        self.found = replace(self.found, bound=max(self.found.bound, min(bound, self.found.value)))
        return status == "OPTIMAL"


def _loads(problem: OperatorProblem, assignment: Sequence[int], accelerators: int) -> list[float]:
    """Return the load, s, of every accelerator and, last, of the CPU."""
    return [load(problem, assignment, device) for device in (*range(accelerators), CPU)]


@dataclass(frozen=True)
class Part:
    """Which devices a model may change, and the plan that it starts from; the CPU is the last device."""

    chosen: tuple[int, ...]
    devices: tuple[int, ...]


class FreeModel:
    """Put every group of some devices on one of them so that the busiest finishes first."""

    def __init__(
        self,
        reduced: Reduced,
        machine: Machine,
        scaled: Scaled,
        part: Part | None,
        share: Share | None = None,
    ) -> None:
        self.reduced, self.machine, self.scaled, self.share = reduced, machine, scaled, share
        self.model = cp_model.CpModel()
        self.cpu = machine.num_accelerators
        self.chosen = part.chosen if part else tuple(range(self.cpu + machine.has_cpu))
        self.start = list(part.devices) if part else None
        self.groups = [
            group
            for group in range(reduced.num_groups)
            if self.start is None or self.start[group] in self.chosen
        ]
        self.whole = len(self.groups) == reduced.num_groups and len(self.chosen) == self.cpu + machine.has_cpu
        self._name_devices_by_heaviest()
        self.on = {group: self._place(group) for group in self.groups}
        self._break_symmetry()
        self.busiest = self.model.new_int_var(0, scaled.limit, "")
        self.slack = float(reduced.size.sum()) <= machine.memory
        works = [self._limit_load(device) for device in self.chosen]
        if self.whole:
            self.model.add(add_up(works) == sum(scaled.accelerator))
        self._follow()
        self.model.minimize(self.busiest)

    def _name_devices_by_heaviest(self) -> None:
        """Give the start the numbering that the breaking of symmetry asks for."""
        self.heavy = sorted(self.groups, key=lambda group: (-self.scaled.accelerator[group], group))
        if self.start is None or not self.whole:
            return
        names: dict[int, int] = {}
        for group in self.heavy:
            if self.start[group] != self.cpu:
                names.setdefault(self.start[group], len(names))
        for device in range(self.cpu):
            names.setdefault(device, len(names))
        self.start = [device if device == self.cpu else names[device] for device in self.start]

    def _place(self, group: int) -> dict[int, cp_model.IntVar]:
        row = {device: self.model.new_bool_var("") for device in self.chosen}
        self.model.add_exactly_one(row.values())
        for device, variable in row.items():
            if self.start is not None:
                self.model.add_hint(variable, self.start[group] == device)
        return row

    def _break_symmetry(self) -> None:
        """Let the accelerators appear in order along the groups from the heaviest, as far as that pays."""
        if not self.whole:
            return
        for place, group in enumerate(self.heavy[:16]):
            for device in range(1, self.cpu):
                if device > place:
                    self.model.add(self.on[group][device] == 0)
                else:
                    earlier = [self.on[other][device - 1] for other in self.heavy[:place]]
                    self.model.add_bool_or(earlier).only_enforce_if(self.on[group][device])

    def _limit_load(self, device: int) -> Expression:
        """Bound the load of a device; return the accelerator time of the groups on it."""
        scaled, here = self.scaled, [self.on[group][device] for group in self.groups]
        work = weigh([scaled.accelerator[group] for group in self.groups], here)
        if device == self.cpu:
            self.model.add(weigh([scaled.cpu[group] for group in self.groups], here) <= self.busiest)
            return work
        cut = self._transfers(device)
        if self.whole and self.share is not None:
            done = self.model.new_int_var(self._floor(self.share.work), scaled.limit, "")
            paid = self.model.new_int_var(self._floor(self.share.transfers), scaled.limit, "")
            self.model.add(done == work)
            self.model.add(paid == cut)
            work, cut = done, paid
        self.model.add(work + cut <= self.busiest)
        if not self.slack:
            held = weigh([scaled.size[group] for group in self.groups], here)
            self.model.add(held <= int(self.machine.memory))
        return work

    def _floor(self, seconds: float) -> int:
        """Return a lower bound in units that also holds for sums of values rounded down."""
        terms = self.reduced.num_groups + len(self.reduced.pins)
        return max(0, int(seconds / self.scaled.quantum) - terms)

    def _transfers(self, device: int) -> Expression:
        costs, parted = [], []
        for pins, cost in zip(self.reduced.pins, self.scaled.costs, strict=True):
            inside = [self.on[group][device] for group in pins if group in self.on]
            if not cost or not inside:
                continue
            held = None if self.start is None else [self.start[group] == device for group in pins]
            if len(inside) == len(pins):
                parted.append(parting(self.model, inside, held))
            else:
                some = self.model.new_bool_var("")
                for variable in inside:
                    self.model.add_implication(variable, some)
                if held is not None:
                    self.model.add_hint(some, any(held))
                parted.append(some)
            costs.append(cost)
        return weigh(costs, parted)

    def _follow(self) -> None:
        for group, leader in followings(self.reduced, self.slack) if self.whole else ():
            for device in self.chosen:
                if device != self.cpu:
                    self.model.add_implication(self.on[leader][device], self.on[group][device])

    def devices(self, solver: cp_model.CpSolver) -> list[int]:
        """Return the device of each group in the solver's plan."""
        found = list(self.start) if self.start is not None else [0] * self.reduced.num_groups
        for group, row in self.on.items():
            found[group] = next(device for device, variable in row.items() if solver.boolean_value(variable))
        return found
