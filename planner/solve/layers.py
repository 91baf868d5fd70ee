"""Split the layers of a model unevenly over pipeline stages: CP-SAT, exact under the step-time formula."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from planner.costs import StageCosts
from planner.costs.pipeline import host_memory, in_flight, split_kinds, stage_memory, step_time
from planner.placement import Strategy, TrainingProblem
from planner.placement.recompute import fewest_repeated, repeat_choices
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

    Without layers nothing was found in time, and the step time is infinite. ``again`` are the layers that
    each stage repeats under block recompute, empty without it.
    """

    layers: list[int]
    seconds: float
    bound: float
    again: tuple[int, ...] = ()


class LayerModel:
    """Choose ``layers[s]``, and how many of them are repeated, so that the step is shortest and all fits."""

    def __init__(self, problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int) -> None:
        self.problem, self.strategy, self.costs, self.row = problem, strategy, costs, row
        self.model = cp_model.CpModel()
        total, stages = problem.model.layers, strategy.pp
        self.layers = [self.model.new_int_var(strategy.virtual, total, f"layers[{s}]") for s in range(stages)]
        self.model.add(add_up(self.layers) == total)
        self.dense = self._dense_parts()
        self.repeats = self._repeats()
        self.again = [self._repeated_parts(s) for s in range(stages)]
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

    def _repeats(self) -> list[Expression]:
        """Return the layers of every stage that block recompute repeats: as many of each of its chunks."""
        if self.strategy.recompute != "block":
            return [0] * len(self.layers)
        total, choices = self.problem.model.layers, repeat_choices(self.problem)
        if self.strategy.virtual == 1 and len(choices) > total:
            found = [self.model.new_int_var(0, total, f"again[{s}]") for s in range(len(self.layers))]
            for repeats, count in zip(found, self.layers, strict=True):
                self.model.add(repeats <= count)
            return list(found)
        values = cp_model.Domain.from_values(choices.tolist())
        parts: list[Expression] = []
        for stage, count in enumerate(self.layers):
            each = self.model.new_int_var_from_domain(values, f"again_of_chunk[{stage}]")
            parts.append(self._least(f"again[{stage}]", count, self.strategy.virtual * each, total))
        return parts

    def _repeated_parts(self, stage: int) -> tuple[Expression, Expression]:
        """Return the dense and the expert layers that are repeated: the first ones of a stage."""
        leading, total = self.problem.model.dense_layers, self.problem.model.layers
        repeats = self.repeats[stage]
        dense: Expression = 0
        if leading == total:
            dense = repeats
        elif leading and self.strategy.recompute == "block":
            dense = self._least(f"again_dense[{stage}]", repeats, self.dense[stage], leading)
        return dense, repeats - dense

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
        return _as_split(problem, strategy, costs, row, [problem.model.layers])
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
    again = [solver.value(repeats) for repeats in layered.repeats]
    split = _as_split(problem, strategy, costs, row, found, again)
    if status == cp_model.OPTIMAL or split is None:
        return split
    return replace(split, bound=min(split.seconds, bound))


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


def _as_split(
    problem: TrainingProblem, strategy: Strategy, costs: StageCosts, row: int, layers: list[int],
    again: list[int] | None = None,
) -> Split | None:  # fmt: skip
    """Return a split with its exact step time, ``None`` where it does not fit.

    The layers that it repeats are the given ones or the fewest, whichever takes less.
    """
    dense, moe = split_kinds(np.asarray(layers, dtype=np.int64), problem.model.dense_layers)
    flight = in_flight(strategy.pp, strategy.virtual, int(costs.num_micro_batches[row]))
    if (host_memory(costs, row, dense, moe, flight) > problem.shape.host.memory).any():
        return None
    choices = [fewest_repeated(problem, strategy, costs, row, dense, moe)]
    if again is not None:
        choices.append(np.asarray(again, dtype=np.int64))
    found: Split | None = None
    for choice in choices:
        total = np.asarray(sum(stage_memory(costs, row, dense, moe, flight, choice).values()))
        seconds = step_time(costs, row, strategy.virtual, dense, moe, choice)
        if (total <= problem.capacity).all() and (found is None or seconds < found.seconds):
            block = strategy.recompute == "block"
            found = Split(layers, seconds, seconds, tuple(choice.tolist()) if block else ())
    return found
