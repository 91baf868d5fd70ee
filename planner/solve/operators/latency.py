"""The least finish time of one sample: chains of accelerator calls and CPU runs, then moves of groups.

The best cut of a topological order is found by dynamic programming as if everything ran one after the other;
annealing on the exact finish time then uses what may run side by side.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.placement.operators import CPU, OperatorProblem, broken_rules, latency
from planner.solve.budget import Budget
from planner.solve.operators.anneal import Placed
from planner.solve.operators.calls import best_calls
from planner.solve.operators.chains import random_order
from planner.solve.operators.contiguous import Found, machine_of
from planner.solve.operators.path import path_bound
from planner.solve.operators.reduce import reduce

_DEPTHS = (0.0, 0.5, 1.0, 0.9)
_ROUND = 4000
"""Most moves of one annealing round."""
_PATIENCE = 24
"""Rounds without an improvement after which the search gives up."""


def solve_latency(problem: OperatorProblem, budget: Budget) -> Found:
    """Return the best plan within the budget, with its bound; the search is serial."""
    bound = path_bound(problem)
    starts = _chain_starts(problem, budget, 48)
    if not starts:
        return Found((), np.inf, bound)
    search = _Moves(problem, budget.seed)
    best = starts[0]
    idle, number = 0, 0
    while not budget.over and idle < _PATIENCE and best.value > bound * (1 + 1e-9):
        start = best if number % 3 else starts[(number // 3) % len(starts)]
        heat = (0.0005, 0.003, 0.01)[number % 3]
        value, assignment = search.anneal(start.assignment, heat, budget)
        idle += 1
        if value < best.value * (1 - 1e-9) and not broken_rules(problem, assignment):
            best, idle = Found(assignment, latency(problem, assignment), bound), 0
            budget.progress("operators", number, bound, best.value)
        number += 1
    return Found(best.assignment, best.value, bound)


def _chain_starts(problem: OperatorProblem, budget: Budget, orders: int) -> list[Found]:
    """Return some distinct legal plans from random orders, the best first."""
    reduced, machine = reduce(problem), machine_of(problem)
    rng = np.random.default_rng(budget.seed)
    found: dict[tuple[int, ...], float] = {}
    for number in range(orders):
        if budget.over and found:
            break
        devices = best_calls(reduced, random_order(reduced, rng, _DEPTHS[number % len(_DEPTHS)]), machine)
        if devices is not None:
            assignment = reduced.spread(devices)
            if not broken_rules(problem, assignment):
                found[assignment] = latency(problem, assignment)
    plans = sorted(found.items(), key=lambda item: item[1])
    return [Found(assignment, value, 0.0) for assignment, value in plans[:6]]


@dataclass(frozen=True)
class _Wiring:
    """The operators of each group and the edges of each operator, as plain lists for speed."""

    members: list[list[int]]
    after: list[tuple[int, ...]]
    cpu: list[float]


class _Moves:
    """Annealing of the exact finish time by moving connected groups between devices."""

    def __init__(self, problem: OperatorProblem, seed: int) -> None:
        self.problem, self.reduced, self.machine = problem, reduce(problem), machine_of(problem)
        self.random = random.Random(seed)
        members: list[list[int]] = [[] for _ in range(self.reduced.num_groups)]
        for index, group in enumerate(self.reduced.group_of):
            members[group].append(index)
        graph = problem.graph
        self.wiring = _Wiring(members, list(graph.successors), [op.cpu_time for op in graph.operators])
        near: list[set[int]] = [set() for _ in members]
        for source, target in self.reduced.edges:
            near[source].add(target)
            near[target].add(source)
        self.near = [sorted(groups) for groups in near]

    def anneal(self, assignment: Sequence[int], heat: float, budget: Budget) -> tuple[float, tuple[int, ...]]:
        """Return the best plan of one round: finish time, s, and the device of each operator."""
        cpu = self.machine.num_accelerators
        devices = [cpu if device == CPU else device for device in self.reduced.gather(assignment)]
        placed = Placed(self.reduced, self.machine, devices)
        now = best = self.finish(placed)
        best_devices = list(placed.device)
        moves = min(_ROUND, 40 * self.reduced.num_groups)
        for step in range(moves):
            if step % 64 == 0 and budget.over:
                break
            moved = self._move(placed)
            if not moved:
                continue
            value = self.finish(placed)
            warmth = max(heat * best * (1.0 - step / moves), 1e-12)
            if value <= now or (value < math.inf and self.random.random() < math.exp((now - value) / warmth)):
                now = value
                if now < best:
                    best, best_devices = now, list(placed.device)
            else:
                for group, home in reversed(moved):
                    _shift(placed, group, home)
        final = [CPU if device == cpu else device for device in best_devices]
        return best, self.reduced.spread(final)

    def _move(self, placed: Placed) -> list[tuple[int, int]]:
        """Move some connected groups of one device to another; return where they were, if that can be."""
        draw = self.random
        first = draw.randrange(self.reduced.num_groups)
        home = placed.device[first]
        neighbours = [placed.device[other] for other in self.near[first] if placed.device[other] != home]
        usable = self.machine.num_accelerators + self.machine.has_cpu
        target = draw.choice(neighbours) if neighbours and draw.random() < 0.7 else draw.randrange(usable)
        if target == home:
            return []
        size = 1 if draw.random() < 0.5 else draw.randrange(2, 24)
        bunch, reached = [first], {first}
        for group in bunch:
            for other in self.near[group]:
                if len(bunch) < size and other not in reached and placed.device[other] == home:
                    reached.add(other)
                    bunch.append(other)
        times = placed.work[target]
        if placed.held[target] + sum(placed.size[group] for group in bunch) > placed.room[target]:
            return []
        if any(math.isinf(times[group]) for group in bunch):
            return []
        for group in bunch:
            _shift(placed, group, target)
        return [(group, home) for group in bunch]

    def finish(self, placed: Placed) -> float:
        """Return the finish time, s, of one sample; infinite where accelerators wait for one another.

        A unit is an operator on the CPU, or an accelerator, numbered behind the operators.
        """
        cpu, after, group_of = placed.cpu_device, self.wiring.after, self.reduced.group_of
        num = len(group_of)
        devices = placed.device
        unit = [index if devices[g] == cpu else num + devices[g] for index, g in enumerate(group_of)]
        inside: dict[int, list[int]] = {}
        waits = [0] * (num + cpu)
        for source, home in enumerate(unit):
            inside.setdefault(home, []).append(source)
            for target in after[source]:
                if unit[target] != home:
                    waits[unit[target]] += 1
        ready = [here for here in inside if not waits[here]]
        start = [0.0] * (num + cpu)
        last = 0.0
        for here in ready:
            end = start[here] + (self.wiring.cpu[here] if here < num else placed.load[here - num])
            last = max(last, end)
            for other in [unit[target] for index in inside[here] for target in after[index]]:
                if other != here:
                    waits[other] -= 1
                    start[other] = max(start[other], end)
                    if not waits[other]:
                        ready.append(other)
        return last if len(ready) == len(inside) else math.inf


def _shift(placed: Placed, group: int, device: int) -> None:
    fall = placed.fall(group)
    placed.take(group, fall)
    placed.put(group, device, placed.rise(group, device))
