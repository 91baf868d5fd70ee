"""Kinds of cells, layers of stages and micro-batches of replicas for one strategy, exact under its spans."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from planner.placement.mixed import MixedTrainingProblem
from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import Expression, add_up
from planner.solve.mixed.space import Rows, slots, stage_room

IntArray = NDArray[np.int64]
FEW = 32
"""Most micro-batches of a replica that are told apart value by value."""
TICKS = 1e9
"""Time quantum: one nanosecond; times round down, so that the optimum of the model is a bound."""


@dataclass(frozen=True)
class Cells:
    """A choice for one strategy.

    Attributes
    ----------
    kinds : ndarray, shape (pp, dp)
    seconds, bound
        Step time under the strategy's spans, rounded down by the quantum, and its proven lower bound, s.
    """

    kinds: IntArray
    layers: tuple[int, ...]
    micro_batches: tuple[int, ...]
    seconds: float
    bound: float


@dataclass(frozen=True)
class StageTable:
    """What a stage takes by kind, affine in its layers: ``base + each * layers``, s; shapes (kinds, pp)."""

    each: NDArray[np.float64]
    base: NDArray[np.float64]
    sync_each: NDArray[np.float64]
    sync_base: NDArray[np.float64]
    update_each: NDArray[np.float64]
    update_base: NDArray[np.float64]
    share: NDArray[np.float64]
    overlap: NDArray[np.float64]
    room: NDArray[np.float64]


def stage_table(problem: MixedTrainingProblem, rows: Rows, row: int) -> StageTable:
    """Return the stage times of one row."""
    one = rows.take(np.asarray([row]))
    stages = int(one.many.pp[0])

    def affine(prefix: str, base: list[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        each = np.asarray([[float(getattr(cost, f"{prefix}dense")[0])] * stages for cost in one.costs])
        fixed = np.asarray([[value] * stages for value in base])
        fixed[:, 0] += [float(getattr(cost, f"{prefix}first")[0]) for cost in one.costs]
        fixed[:, -1] += [float(getattr(cost, f"{prefix}last")[0]) for cost in one.costs]
        return each, fixed

    each, base = affine("", [float(cost.hop[0]) for cost in one.costs])
    sync_each, sync_base = affine("sync_", [float(cost.sync_alpha[0]) for cost in one.costs])
    update_each, update_base = affine("update_", [0.0] * len(one.costs))
    share = np.asarray([float(cost.backward_share[0]) for cost in one.costs])
    overlap = np.asarray([float(cost.overlap) for cost in one.costs])
    room = np.stack([array[0] for array in stage_room(problem, one.many, one.costs)])
    return StageTable(
        each, base, sync_each, sync_base, update_each, update_base, share, overlap, room[:, :stages]
    )


# -- one stage ---------------------------------------------------------------------------------------------


def replica_options(problem: MixedTrainingProblem, rows: Rows, row: int) -> list[Cells]:
    """Return every split of the replicas over kinds with its best micro-batches, no pipeline, best first."""
    table, total = stage_table(problem, rows, row), problem.model.layers
    many = rows.many
    dp, micro_batches = int(many.dp[row]), problem.job.global_batch // int(many.micro_batch[row])
    room = slots(problem, int(many.tp[row] * many.cp[row]))
    fits = [least if table.room[kind, 0] >= total else 0 for kind, least in enumerate(room)]
    times = table.each[:, 0] * total + table.base[:, 0]
    sync = table.sync_each[:, 0] * total + table.sync_base[:, 0]
    update = table.update_each[:, 0] * total + table.update_base[:, 0]
    found: list[Cells] = []
    for counts in _counts(dp, fits):
        used = [kind for kind, count in enumerate(counts) if count]
        worst = max(sync[kind] for kind in used)
        tail = max(
            max((1.0 - table.overlap[k]) * worst, worst - table.share[k] * times[k]) + update[k] for k in used
        )
        kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
        shares = _spread(micro_batches, [float(times[kind]) for kind in kinds])
        seconds = max(share * float(times[kind]) for share, kind in zip(shares, kinds, strict=True)) + tail
        found.append(Cells(np.asarray([kinds]), (total,), tuple(shares), seconds, seconds))
    return sorted(found, key=lambda cells: cells.seconds)


def _counts(total: int, limits: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield every way to split ``total`` under limits."""
    if len(limits) == 1:
        if total <= limits[0]:
            yield (total,)
        return
    for first in range(min(total, limits[0]) + 1):
        for rest in _counts(total - first, limits[1:]):
            yield (first, *rest)


def _spread(total: int, times: list[float]) -> list[int]:
    """Return how many of ``total`` equal pieces each server takes, one at least, so that all end early."""
    rate = sum(1.0 / time for time in times)
    shares = [max(1, int(total / rate / time * (1 - 1e-12))) for time in times]
    left = total - sum(shares)
    while left < 0:
        server = max((s for s in range(len(times)) if shares[s] > 1), key=lambda s: shares[s] * times[s])
        shares[server] -= 1
        left += 1
    queue = [
        ((share + 1) * time, server) for server, (share, time) in enumerate(zip(shares, times, strict=True))
    ]
    heapq.heapify(queue)
    for _ in range(left):
        _, server = queue[0]
        shares[server] += 1
        heapq.heapreplace(queue, ((shares[server] + 1) * times[server], server))
    return shares


# -- pipelines ---------------------------------------------------------------------------------------------


class CellModel:
    """CP-SAT: a kind for every cell, layers for every stage, micro-batches for every replica."""

    def __init__(self, problem: MixedTrainingProblem, rows: Rows, row: int, limit: float) -> None:
        self.problem, self.table = problem, stage_table(problem, rows, row)
        many = rows.many
        self.stages, self.replicas = int(many.pp[row]), int(many.dp[row])
        self.total = problem.model.layers
        self.count = problem.job.global_batch // int(many.micro_batch[row])
        self.few = self.count - self.replicas < FEW
        self.limit = round(min(limit, self._worst()) * TICKS)
        self.model = cp_model.CpModel()
        self._decide(slots(problem, int(many.tp[row] * many.cp[row])))
        self._fill_pipelines()
        self._end_with_tails()
        self.model.add(self.longest + self.tail <= self.limit)
        self.model.minimize(self.longest + self.tail)

    def _worst(self) -> float:
        """Return a step time that no choice exceeds, s: everything on one cell of the slowest kind, twice."""
        table = self.table
        pairs = (
            (table.each, table.base, self.count),
            (table.sync_each, table.sync_base, 1),
            (table.update_each, table.update_base, 1),
        )
        return 2.0 * sum(
            times * float(self.total * each.max() + self.stages * base.max()) for each, base, times in pairs
        )

    def _decide(self, room: list[int]) -> None:
        model, kinds = self.model, range(len(self.problem.kinds))
        most = self.total - self.stages + 1
        self.layers = [model.new_int_var(1, most, f"layers[{s}]") for s in range(self.stages)]
        model.add(add_up(self.layers) == self.total)
        self.on = {
            (s, d, k): model.new_bool_var(f"on[{s},{d},{k}]")
            for s in range(self.stages) for d in range(self.replicas) for k in kinds
        }  # fmt: skip
        for s in range(self.stages):
            for d in range(self.replicas):
                model.add_exactly_one(self.on[s, d, k] for k in kinds)
        for k in kinds:
            model.add(
                add_up(self.on[s, d, k] for s in range(self.stages) for d in range(self.replicas)) <= room[k]
            )
        most_batches = self.count - self.replicas + 1
        self.batches = [model.new_int_var(1, most_batches, f"batches[{d}]") for d in range(self.replicas)]
        model.add(add_up(self.batches) == self.count)
        for first, second in zip(self.batches, self.batches[1:], strict=False):
            model.add(first <= second)
        self.present = {
            (s, k): model.new_bool_var(f"present[{s},{k}]") for s in range(self.stages) for k in kinds
        }
        for (s, d, k), on in self.on.items():
            model.add_implication(on, self.present[s, k])
            if d == 0:
                fits = int(self.table.room[k, s])
                if fits < 1:
                    model.add(self.present[s, k] == 0)
                elif fits < most:
                    model.add(self.layers[s] <= fits).only_enforce_if(self.present[s, k])

    def _affine(self, each: float, base: float, stage: int) -> Expression:
        return int(each * TICKS) * self.layers[stage] + int(base * TICKS)

    def _fill_pipelines(self) -> None:
        """``longest >= (m - 1) * slowest + sum`` for every replica."""
        model, table = self.model, self.table
        self.longest = model.new_int_var(0, self.limit, "longest")
        for d in range(self.replicas):
            slowest = model.new_int_var(0, self.limit, f"slowest[{d}]")
            times = []
            for s in range(self.stages):
                time = model.new_int_var(0, self.limit, f"time[{s},{d}]")
                for k in range(len(self.problem.kinds)):
                    value = self._affine(float(table.each[k, s]), float(table.base[k, s]), s)
                    model.add(time >= value).only_enforce_if(self.on[s, d, k])
                model.add(slowest >= time)
                times.append(time)
            self._hold_back(d, slowest, add_up(times))

    def _hold_back(self, replica: int, slowest: cp_model.IntVar, once: Expression) -> None:
        """``longest >= (m - 1) * slowest + once``; value by value where there are few, which is faster."""
        model, batches = self.model, self.batches[replica]
        most = self.count - self.replicas + 1
        if not self.few:
            product = model.new_int_var(0, self.limit, f"product[{replica}]")
            model.add_multiplication_equality(product, [batches - 1, slowest])
            model.add(self.longest >= product + once)
            return
        chosen = [model.new_bool_var(f"batches[{replica}]={value}") for value in range(1, most + 1)]
        model.add_exactly_one(chosen)
        model.add(batches == add_up((place + 1) * on for place, on in enumerate(chosen)))
        for place, on in enumerate(chosen):
            model.add(self.longest >= place * slowest + once).only_enforce_if(on)

    def _end_with_tails(self) -> None:
        model, table = self.model, self.table
        self.tail = model.new_int_var(0, self.limit, "tail")
        kinds = range(len(self.problem.kinds))
        for s in range(self.stages):
            for own in kinds:
                for other in kinds:
                    for factor, window in ((1.0 - table.overlap[own], 0.0), (1.0, table.share[own])):
                        each = factor * table.sync_each[other, s] - window * table.each[own, s]
                        base = factor * table.sync_base[other, s] - window * table.base[own, s]
                        each += table.update_each[own, s]
                        base += table.update_base[own, s]
                        value = int(np.floor(each * TICKS)) * self.layers[s] + int(np.floor(base * TICKS))
                        both = {self.present[s, own], self.present[s, other]}
                        model.add(self.tail >= value).only_enforce_if(*both)

    def forbid(self, kinds: IntArray) -> None:
        """Exclude one assignment of kinds."""
        chosen = [self.on[s, d, int(kinds[s, d])] for s in range(self.stages) for d in range(self.replicas)]
        self.model.add_bool_or(~on for on in chosen)

    def solve(self, budget: Budget) -> tuple[Cells | None, float]:
        """Return the best choice, ``None`` where none is within the limit, and a lower bound, s."""
        solver, status = run_model(self.model, budget, linearization=2 if self.few else 1)
        if status == cp_model.INFEASIBLE:
            return None, float("inf")
        bound = max(solver.best_objective_bound, 0.0) / TICKS
        if status == cp_model.UNKNOWN:
            return None, bound
        kinds = np.asarray([
            [
                next(k for k in range(len(self.problem.kinds)) if solver.boolean_value(self.on[s, d, k]))
                for d in range(self.replicas)
            ]
            for s in range(self.stages)
        ])  # fmt: skip
        layers = tuple(solver.value(variable) for variable in self.layers)
        batches = tuple(solver.value(variable) for variable in self.batches)
        return Cells(kinds, layers, batches, solver.objective_value / TICKS, bound), bound
