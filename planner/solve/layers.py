"""Split the layers of a model unevenly over pipeline stages: CP-SAT, exact under the step-time formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from planner.costs import StageCosts
from planner.costs.pipeline import host_memory, in_flight, split_kinds, stage_memory, step_time
from planner.placement import Strategy, TrainingProblem
from planner.solve.bottleneck import may_beat
from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import Expression, add_up

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TICKS = 1e9
"""Time quantum: one nanosecond."""
BLOCK = 4096.0
"""Memory quantum, bytes: needs round up, room rounds down."""
ROUNDING = 1e-5
"""Relative difference that ticks may make to a step time."""


@dataclass(frozen=True)
class Split:
    """Layers per stage, the step time, s, and a proven lower bound of it.

    Without layers nothing was found in time, and the step time is infinite.
    """

    layers: list[int]
    seconds: float
    bound: float


class LayerModel:
    """Choose ``layers[s]`` so that the step is shortest and every stage fits."""

    def __init__(self, problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int) -> None:
        self.problem, self.strategy, self.costs, self.row = problem, strategy, costs, row
        self.model = cp_model.CpModel()
        total, stages = problem.model.layers, strategy.pp
        self.layers = [self.model.new_int_var(strategy.virtual, total, f"layers[{s}]") for s in range(stages)]
        self.model.add(add_up(self.layers) == total)
        self.dense = self._dense_parts()
        self.again = self._repeated_parts()
        self.times = [self._stage_time(s) for s in range(stages)]
        self._fit_in_memory()
        self._minimise_step()

    def _dense_parts(self) -> list[Expression]:
        """Return the dense layers of every stage: the leading ones, counted along the pipeline."""
        leading, total = self.problem.model.dense_layers, self.problem.model.layers
        if leading == 0:
            return [0] * len(self.layers)
        if leading == total:
            return list(self.layers)
        parts: list[Expression] = []
        before: Expression = 0
        ends: Expression = 0
        for stage, count in enumerate(self.layers):
            ends = ends + count
            upto = self.model.new_int_var(0, leading, f"dense_upto[{stage}]")
            self.model.add_min_equality(upto, [ends, leading])
            parts.append(upto - before)
            before = upto
        return parts

    def _repeated_parts(self) -> list[tuple[Expression, Expression]]:
        """Return the dense and expert layers of every stage that block recompute repeats: the first ones."""
        most, total = int(self.costs.again_layers[self.row]), self.problem.model.layers
        leading, found = self.problem.model.dense_layers, list[tuple[Expression, Expression]]()
        for stage, count in enumerate(self.layers):
            repeated: Expression = most
            if most > self.strategy.virtual:
                repeated = self._least(f"again[{stage}]", count, most, total)
            dense: Expression = 0
            if leading == total:
                dense = repeated
            elif leading and most:
                dense = self._least(f"again_dense[{stage}]", repeated, self.dense[stage], most)
            found.append((dense, repeated - dense))
        return found

    def _least(self, name: str, first: Expression, second: Expression, most: int) -> cp_model.IntVar:
        variable = self.model.new_int_var(0, most, name)
        self.model.add_min_equality(variable, [first, second])
        return variable

    def _stage_time(self, stage: int) -> Expression:
        time = self._affine("dense", "moe", "first", "last", stage, TICKS)
        dense, moe = self.again[stage]
        each = [float(part[self.row]) for part in (self.costs.again_dense, self.costs.again_moe)]
        return time + round(each[0] * TICKS) * dense + round(each[1] * TICKS) * moe

    def _affine(self, dense: str, moe: str, first: str, last: str, stage: int, scale: float) -> Expression:
        """Return ``dense * d + moe * e`` plus the ends of the pipeline, as an integer expression."""
        value = {
            name: round(float(getattr(self.costs, name)[self.row]) * scale)
            for name in (dense, moe, first, last)
        }
        expression = value[moe] * self.layers[stage] + (value[dense] - value[moe]) * self.dense[stage]
        if stage == 0:
            expression = expression + value[first]
        if stage == len(self.layers) - 1:
            expression = expression + value[last]
        return expression

    def _most(self, prefix: str) -> int:
        """Return the ticks that all layers and both ends take on a single stage."""
        parts = {
            name: float(getattr(self.costs, prefix + name)[self.row])
            for name in ("dense", "moe", "first", "last")
        }
        alpha = float(self.costs.sync_alpha[self.row]) if prefix == "sync_" else 0.0
        whole = (
            self.problem.model.layers * max(parts["dense"], parts["moe"])
            + parts["first"]
            + parts["last"]
            + alpha
        )
        if prefix == "":
            again = max(float(self.costs.again_dense[self.row]), float(self.costs.again_moe[self.row]))
            whole += self.problem.model.layers * again
        return round(whole * TICKS) + 1000

    def _fit_in_memory(self) -> None:
        costs, row = self.costs, self.row
        flight = in_flight(self.strategy.pp, self.strategy.virtual, int(costs.num_micro_batches[row]))
        for stage, held in enumerate(flight):
            need = {
                kind: _up(getattr(costs, f"static_{kind}")[row] + getattr(costs, f"kept_{kind}")[row] * held)
                for kind in ("dense", "moe")
            }
            room = self.problem.capacity - costs.static_base[row] - costs.peak_working[row]
            room -= costs.static_first[row] if stage == 0 else 0.0
            room -= costs.static_last[row] if stage == len(self.layers) - 1 else 0.0
            used = need["moe"] * self.layers[stage] + (need["dense"] - need["moe"]) * self.dense[stage]
            dense, moe = self.again[stage]
            saved = [int(getattr(costs, f"saved_{kind}")[row] * held // BLOCK) for kind in ("dense", "moe")]
            self.model.add(used - saved[0] * dense - saved[1] * moe <= int(room // BLOCK))
            self._fit_in_host(stage, held)

    def _fit_in_host(self, stage: int, held: float) -> None:
        costs, row = self.costs, self.row
        need = {
            kind: _up(getattr(costs, f"host_{kind}")[row] + getattr(costs, f"host_kept_{kind}")[row] * held)
            for kind in ("dense", "moe")
        }
        if not any(need.values()):
            return
        room = self.problem.shape.host.memory
        room -= costs.host_first[row] if stage == 0 else 0.0
        room -= costs.host_last[row] if stage == len(self.layers) - 1 else 0.0
        used = need["moe"] * self.layers[stage] + (need["dense"] - need["moe"]) * self.dense[stage]
        self.model.add(used <= int(room // BLOCK))

    def _minimise_step(self) -> None:
        """``virtual * step = (virtual * m - 1) * slowest + sum + virtual * tail`` in ticks."""
        costs, row, virtual = self.costs, self.row, self.strategy.virtual
        hop = round(float(costs.hop[row]) * TICKS)
        slowest = self.model.new_int_var(0, self._most("") + hop, "slowest")
        tail = self.model.new_int_var(0, self._most("sync_") + self._most("update_"), "tail")
        sync_scale = TICKS * (1.0 - costs.overlap * float(costs.hideable[row]))
        hidden = costs.backward_share[row]
        for stage, time in enumerate(self.times):
            self.model.add(slowest >= time + hop)
            update = self._affine("update_dense", "update_moe", "update_first", "update_last", stage, TICKS)
            names = ("sync_dense", "sync_moe", "sync_first", "sync_last", stage)
            alpha = float(costs.sync_alpha[row])
            self.model.add(tail >= self._affine(*names, sync_scale) + update + round(alpha * sync_scale))
            full = self._affine(*names, TICKS * 1000) + round(alpha * TICKS * 1000)
            window = round(hidden * 1000)
            self.model.add(1000 * tail >= full - window * (time + hop) + 1000 * update)
        whole = add_up(self.times) + hop * len(self.times)
        count = round(float(costs.num_micro_batches[row]))
        self.step = (virtual * count - 1) * slowest + whole + virtual * tail
        self.model.minimize(self.step)

    def require(self, seconds: float) -> None:
        """Ask for a step of at most some time, s, with a little more for rounding to ticks."""
        if seconds < float("inf"):
            ticks = seconds * (1 + ROUNDING) * TICKS * self.strategy.virtual
            self.model.add(self.step <= int(np.ceil(ticks)))


def _up(size: float) -> int:
    return int(np.ceil(size / BLOCK))


def best_split(
    problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int, budget: Budget,
    below: float = float("inf"),
) -> Split | None:  # fmt: skip
    """Return the best layer split, ``None`` where none fits, or none takes less than ``below``, s.

    A single stage needs no search. Where the time ends first, the bound is below the step time, and there
    may be no layers at all.
    """
    if strategy.pp == 1:
        layers = [problem.model.layers]
        return (
            _as_split(problem, strategy, costs, row, layers)
            if _fits(problem, strategy, costs, row, layers)
            else None
        )
    if not may_beat(problem, strategy, costs, row, below):
        return None
    layered = LayerModel(problem, strategy, costs, row)
    layered.require(below)
    hint = balanced(problem, strategy, costs, row)
    for variable, value in zip(layered.layers, hint, strict=True):
        layered.model.add_hint(variable, value)
    solver, status = run_model(layered.model, budget)
    if status == cp_model.INFEASIBLE:
        return None
    bound = solver.best_objective_bound / TICKS / strategy.virtual
    if status == cp_model.UNKNOWN:
        return Split([], float("inf"), max(bound, 0.0))
    found = [solver.value(variable) for variable in layered.layers]
    split = _as_split(problem, strategy, costs, row, found)
    if status == cp_model.OPTIMAL:
        return split
    return Split(split.layers, split.seconds, min(split.seconds, bound))


def balanced(problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int) -> list[int]:
    """Return a split that fills the least loaded stage first, memory left aside."""
    stages, total = strategy.pp, problem.model.layers
    per_layer = float(costs.moe[row] if problem.model.experts is not None else costs.dense[row])
    load = np.zeros(stages)
    load[0] += costs.first[row]
    load[-1] += costs.last[row]
    layers = np.full(stages, strategy.virtual)
    load += per_layer * strategy.virtual
    for _ in range(total - strategy.virtual * stages):
        stage = int(np.argmin(load))
        layers[stage] += 1
        load[stage] += per_layer
    return [int(count) for count in layers]


def _fits(
    problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int, layers: list[int]
) -> bool:
    dense, moe = split_kinds(np.asarray(layers, dtype=np.int64), problem.model.dense_layers)
    flight = in_flight(strategy.pp, strategy.virtual, int(costs.num_micro_batches[row]))
    total = np.asarray(sum(stage_memory(costs, row, dense, moe, flight).values()))
    host = host_memory(costs, row, dense, moe, flight)
    return bool((total <= problem.capacity).all() and (host <= problem.shape.host.memory).all())


def _as_split(
    problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int, layers: list[int]
) -> Split:
    dense, moe = split_kinds(np.asarray(layers, dtype=np.int64), problem.model.dense_layers)
    seconds = step_time(costs, row, strategy.virtual, dense, moe)
    return Split(layers, seconds, seconds)
