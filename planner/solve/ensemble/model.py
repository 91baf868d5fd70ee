"""The CP-SAT model of an ensemble: every decision at once, latencies as the judge counts them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from math import lcm, sqrt

from ortools.sat.python import cp_model

from planner.placement.ensemble_design import Design, Group, Pools
from planner.placement.ensemble_judge import FINE, MILLI, TAIL_MILLI
from planner.placement.ensemble_problem import SHARES, TICK, EnsembleProblem
from planner.solve.cuts import EnsembleCut, Mark, marks_of
from planner.solve.ensemble.choices import Choices
from planner.solve.ensemble.columns import Column
from planner.solve.ensemble.memory import HostMemory
from planner.solve.ensemble.places import Places
from planner.solve.ensemble.pools import PoolOption
from planner.solve.ensemble.relax import Plane
from planner.solve.ensemble.ways import Ways
from planner.solve.expressions import Expression, add_up

MOST_TICKS = 10**8
"""Longest percentile that a model counts with, ticks."""


def class_weights(problem: EnsembleProblem) -> list[int]:
    """Return the weights of the classes as whole numbers."""
    exact = [Fraction(request.weight).limit_denominator(1000) for request in problem.classes]
    scale = lcm(*(each.denominator for each in exact))
    return [max(1, int(each * scale)) for each in exact]


def as_stated(problem: EnsembleProblem, objective: float) -> float:
    """Return an objective of the model as a plan states it: s, or GPUs."""
    if problem.job.objective == "gpus":
        return objective
    return objective / sum(class_weights(problem)) / FINE * TICK


def limit_of(problem: EnsembleProblem, request: int) -> int | None:
    """Return the limit of a class's 99th percentile, in ``TICK / FINE``."""
    limit = problem.classes[request].slo.latency_p99
    return None if limit is None else int(limit / TICK * FINE * (1 + 1e-12))


def _deviations(weight: float, each: Column | PoolOption) -> tuple[int, ...]:
    """Return the weighted deviations of a choice in thousandths of a tick, rounded down."""
    return tuple(int(MILLI * weight * sqrt(variance)) for variance in each.variance)


def column_mark(column: Column) -> Mark:
    """Return what identifies a column whatever it is placed on."""
    return column.tenants, column.profile, column.count


def pool_mark(option: PoolOption) -> Mark:
    """Return what identifies pools wherever they are."""
    return option.stage, option.workers, option.count


class EnsembleModel:
    """Choose columns and pools, place them, carry the data; the weighted percentiles are least."""

    def __init__(
        self,
        problem: EnsembleProblem,
        columns: Sequence[Column],
        options: Sequence[PoolOption],
        planes: Sequence[Plane] = (),
        cuts: Sequence[EnsembleCut] = (),
    ) -> None:
        self.problem, self.model = problem, cp_model.CpModel()
        self.choices = Choices(self.model, problem, columns, options)
        self.places = Places(self.choices)
        self.ways = Ways(self.choices, self.places)
        HostMemory(self.choices, self.places, self.ways)
        self.spread: dict[tuple[int, tuple[int, ...]], cp_model.IntVar] = {}
        self.tails = [self._tail(request) for request in range(len(problem.classes))]
        for plane in planes:
            self._support(plane)
        for cut in cuts:
            self._leave_out(cut)
        self._minimise()

    def _tail(self, request: int) -> cp_model.IntVar:
        """Return the 99th percentile of a class: above that of every path."""
        limit = limit_of(self.problem, request)
        most = MOST_TICKS * FINE if limit is None else min(limit, MOST_TICKS * FINE)
        tail = self.model.new_int_var(0, most, f"tail[{request}]")
        index = {(way.source, way.target): place for place, way in enumerate(self.problem.ways)}
        for path in self.problem.model.paths:
            moves = [index[pair] for pair in pairwise((None, *path, None))]
            keys = [(stage, request) for stage in path]
            mean = SHARES * add_up(self.choices.time(key, lambda each: each.mean) for key in keys)
            mean += add_up(self.ways.fine[place, request] for place in moves)
            variance = add_up(self.choices.time(key, lambda each: each.variance) for key in keys)
            spread = self._root(variance, most // (SHARES * TAIL_MILLI), f"{path},{request}")
            self.model.add(tail >= MILLI * mean + SHARES * TAIL_MILLI * spread)
            self.spread[request, path] = spread
        return tail

    def _support(self, plane: Plane) -> None:
        """Hold the deviation of a path above a plane, which its square already implies."""
        parts: Expression = 0
        for stage, weight in zip(plane.path, plane.weights, strict=True):
            deviations = partial(_deviations, weight)
            parts = parts + self.choices.time((stage, plane.request), deviations)
        self.model.add(MILLI * self.spread[plane.request, plane.path] >= parts)

    def _root(self, variance: Expression, most: int, name: str) -> cp_model.IntVar:
        """Return a whole number whose square is not below a variance."""
        root = self.model.new_int_var(0, most, f"root[{name}]")
        square = self.model.new_int_var(0, most**2, f"square[{name}]")
        self.model.add_multiplication_equality(square, [root, root])
        self.model.add(square >= variance)
        return root

    def _minimise(self) -> None:
        if self.problem.job.objective == "gpus":
            self.model.minimize(add_up(self.places.gpus_used))
            return
        weights = class_weights(self.problem)
        self.model.minimize(add_up(weight * tail for weight, tail in zip(weights, self.tails, strict=True)))

    def _leave_out(self, cut: EnsembleCut) -> None:
        """Leave out a design, wherever it would be placed."""
        choices = self.choices
        uses = zip(choices.columns, choices.use, strict=True)
        pools = zip(choices.options, choices.pool, strict=True)
        wanted: list[Expression] = [use for column, use in uses if column_mark(column) in cut.marks]
        wanted += [pool for option, pool in pools if pool_mark(option) in cut.marks]
        if len(wanted) >= len(cut.marks):
            self.model.add(add_up(wanted) <= len(cut.marks) - 1)

    def hint(self, design: Design) -> None:
        """Begin with a known design."""
        marks, choices, places = marks_of(design), self.choices, self.places
        for column, use in zip(choices.columns, choices.use, strict=True):
            self.model.add_hint(use, column_mark(column) in marks)
        for option, pool in zip(choices.options, choices.pool, strict=True):
            self.model.add_hint(pool, pool_mark(option) in marks)
        lots = {(min(g.keys), g.profile, g.count): g.units for g in design.groups}
        for lot, row in places.units.items():
            for units, value in zip(row, lots.get(lot, [0] * len(row)), strict=True):
                self.model.add_hint(units, value)
        for pools in design.pools:
            for domain, here in enumerate(places.here.get(pools.stage, [])):
                self.model.add_hint(here, domain in pools.domains)

    def extract(self, solver: cp_model.CpSolver) -> Design:
        """Return the decisions of a solution."""
        choices, places = self.choices, self.places
        pools = [
            Pools(
                option.stage, option.workers,
                tuple(d for d, here in enumerate(places.here[option.stage]) if solver.boolean_value(here)),
            )
            for index, option in enumerate(choices.options)
            if solver.boolean_value(choices.pool[index])
        ]  # fmt: skip
        groups = []
        for index, column in enumerate(choices.columns):
            if solver.boolean_value(choices.use[index]):
                row = places.units[column.leader, column.profile, column.count]
                units = tuple(solver.value(each) for each in row)
                groups.append(Group(column.tenants, column.profile, units))
        modes = {key: mode for (key, mode, _), x in self.ways.modes.items() if solver.boolean_value(x)}
        return Design(tuple(pools), tuple(sorted(groups, key=lambda group: group.keys)), modes)
