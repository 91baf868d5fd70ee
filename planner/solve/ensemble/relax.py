r"""Linear relaxation of the choice of columns and pools: a bound, and what each of them costs at least.

The deviation of a path is the length of the vector :math:`\sigma` of the deviations of its stages, which are
linear in the choices, and :math:`\lVert \sigma \rVert \ge a \cdot \sigma` for every unit vector :math:`a`
(Cauchy and Schwarz). Such planes are added where the relaxation breaks them (J. E. Kelley, "The cutting-plane
method for solving convex programs", 1960); the exact model gets them too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from ortools.linear_solver import pywraplp

from planner.costs.ensemble import TAIL
from planner.placement.ensemble_design import Key
from planner.placement.ensemble_problem import TICK, EnsembleProblem
from planner.placement.slices import patterns
from planner.solve.ensemble.columns import Column
from planner.solve.ensemble.pools import PoolOption

FloatArray = NDArray[np.float64]
ROUNDS = 40
CLOSE = 1e-3
"""Relative violation of a cone below which no plane is added."""
SAFETY = 1e-6
"""Relative allowance for the tolerance of the linear solver."""


@dataclass(frozen=True)
class Plane:
    """A lower bound of the deviation of a path: the weights of the deviations of its stages."""

    request: int
    path: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Relaxed:
    """A solution of the relaxation.

    Attributes
    ----------
    value
        Lower bound of the objective: weighted percentiles in ticks, or GPUs; infinite where nothing fits.
    use, pool : ndarray
        Reduced costs: a plan with a column or with a pool has at least ``value`` plus its reduced cost.
    planes
        Planes that the relaxation needed.
    """

    value: float
    use: FloatArray
    pool: FloatArray
    planes: tuple[Plane, ...]


class Relaxation:
    """Minimise the objective over fractional columns and pools, places left aside."""

    def __init__(
        self,
        problem: EnsembleProblem,
        columns: Sequence[Column],
        options: Sequence[PoolOption],
        weights: Sequence[int],
        gpus: float | None = None,
    ) -> None:
        self.problem, self.columns, self.options = problem, columns, options
        self.gpus = float(problem.num_gpus) if gpus is None else gpus
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        self.use = [self.solver.NumVar(0.0, 1.0, "") for _ in columns]
        self.pool = [self.solver.NumVar(0.0, 1.0, "") for _ in options]
        self._serve()
        in_use = self._fit_gpus()
        self._fit_cores()
        self.spread: dict[tuple[int, tuple[int, ...]], pywraplp.Variable] = {}
        self._terms: dict[Key, list[tuple[pywraplp.Variable, float]]] = self._deviations()
        tails = [self._tail(request) for request in range(len(problem.classes))]
        objective = self.solver.Objective()
        objective.SetMinimization()
        if problem.job.objective == "gpus":
            for variable, factor in in_use:
                objective.SetCoefficient(variable, factor)
        else:
            for weight, tail in zip(weights, tails, strict=True):
                objective.SetCoefficient(tail, float(weight))

    def _row(self, low: float, high: float, terms: Sequence[tuple[pywraplp.Variable, float]]) -> None:
        row = self.solver.Constraint(low, high)
        total: dict[int, float] = defaultdict(float)
        for variable, factor in terms:
            total[variable.index()] += factor
            row.SetCoefficient(variable, total[variable.index()])

    def _serve(self) -> None:
        serving: dict[Key, list[tuple[pywraplp.Variable, float]]] = defaultdict(list)
        for column, use in zip(self.columns, self.use, strict=True):
            for key in column.keys:
                serving[key].append((use, 1.0))
        for stage in range(len(self.problem.stages)):
            own = [
                (y, 1.0) for option, y in zip(self.options, self.pool, strict=True) if option.stage == stage
            ]
            for request in range(len(self.problem.classes)):
                self._row(1.0, 1.0, [*serving[stage, request], *own])

    def _fit_gpus(self) -> list[tuple[pywraplp.Variable, float]]:
        """Fit the units on the GPUs; return the terms of the number of GPUs in use."""
        ways = patterns(self.problem.device) if len(self.problem.profiles) > 1 else []
        most = self.gpus
        cuts = [self.solver.NumVar(0.0, most, "") for _ in ways]
        units: dict[str | None, list[tuple[pywraplp.Variable, float]]] = defaultdict(list)
        for column, use in zip(self.columns, self.use, strict=True):
            units[column.profile].append((use, float(column.count)))
        for profile in self.problem.profiles:
            if profile is not None:
                room = [(cut, -float(way.get(profile, 0))) for way, cut in zip(ways, cuts, strict=True)]
                self._row(-np.inf, 0.0, [*units[profile], *room])
        used = [*units[None], *((cut, 1.0) for cut in cuts)]
        self._row(-np.inf, most, used)
        return used

    def _fit_cores(self) -> None:
        for kind in {domain.kind for domain in self.problem.domains}:
            room = sum(domain.cores for domain in self.problem.domains if domain.kind == kind)
            terms = [
                (y, float(option.count * option.cores))
                for option, y in zip(self.options, self.pool, strict=True)
                if option.kind == kind
            ]
            self._row(-np.inf, float(room), terms)

    def _deviations(self) -> dict[Key, list[tuple[pywraplp.Variable, float]]]:
        found: dict[Key, list[tuple[pywraplp.Variable, float]]] = defaultdict(list)
        for column, use in zip(self.columns, self.use, strict=True):
            for key, variance in zip(column.keys, column.variance, strict=True):
                found[key].append((use, sqrt(variance)))
        for option, pool in zip(self.options, self.pool, strict=True):
            for request, variance in enumerate(option.variance):
                found[option.stage, request].append((pool, sqrt(variance)))
        return found

    def _tail(self, request: int) -> pywraplp.Variable:
        limit = self.problem.classes[request].slo.latency_p99
        tail = self.solver.NumVar(0.0, np.inf if limit is None else limit / TICK, "")
        means = self._means(request)
        for path in self.problem.model.paths:
            spread = self.solver.NumVar(0.0, np.inf, "")
            self.spread[request, path] = spread
            terms = [(tail, 1.0), (spread, -TAIL)]
            terms += [(variable, -mean) for stage in path for variable, mean in means[stage]]
            fixed, stays = self._moves(request, path)
            terms += [(use, credit) for use, credit in stays]
            self._row(fixed, np.inf, terms)
        return tail

    def _means(self, request: int) -> dict[int, list[tuple[pywraplp.Variable, float]]]:
        found: dict[int, list[tuple[pywraplp.Variable, float]]] = defaultdict(list)
        for column, use in zip(self.columns, self.use, strict=True):
            for key, mean in zip(column.keys, column.mean, strict=True):
                if key[1] == request:
                    found[key[0]].append((use, float(mean)))
        for option, pool in zip(self.options, self.pool, strict=True):
            found[option.stage].append((pool, float(option.mean[request])))
        return found

    def _moves(
        self, request: int, path: tuple[int, ...]
    ) -> tuple[float, list[tuple[pywraplp.Variable, float]]]:
        """Return the least ticks of the moves along a path, and what columns save that make one needless."""
        problem, prices, fixed = self.problem, self.problem.prices, 0.0
        ends: dict[tuple[int, int], float] = {}
        for left, right in pairwise((None, *path, None)):
            way = next(each for each in problem.ways if (each.source, each.target) == (left, right))
            size = problem.size(way, problem.classes[request])
            sides = [("cpu",) if stage is None else problem.stages[stage].sides for stage in (left, right)]
            if sides == [("gpu",), ("gpu",)]:
                assert left is not None
                assert right is not None
                direct = prices.peer_copy(size)
                least = float(min(prices.staged_copy(size)[0], *(direct or (np.inf,))[:1]))
                fixed, ends[left, right] = fixed + least, least
            elif ("gpu",) in sides and ("cpu",) in sides:
                options = prices.host_copy(size, "out" if sides[0] == ("gpu",) else "in")
                fixed += min(levels[0] for levels in options.values())
        stays = [
            (use, saved)
            for column, use in zip(self.columns, self.use, strict=True)
            for (left, right), saved in ends.items()
            if (left, request) in column.keys and (right, request) in column.keys
        ]
        return fixed, stays

    def solve(self) -> Relaxed:
        """Return the bound with all planes that it needs."""
        planes: list[Plane] = []
        for request, path in self.spread:
            self._add(Plane(request, path, tuple(1.0 / sqrt(len(path)) for _ in path)), planes)
        for _ in range(ROUNDS):
            if self.solver.Solve() != pywraplp.Solver.OPTIMAL:
                nothing = np.zeros(0)
                return Relaxed(float("inf"), nothing, nothing, tuple(planes))
            if not self._separate(planes):
                break
        value = self.solver.Objective().Value() * (1.0 - SAFETY)
        use, pool = (np.array([x.reduced_cost() for x in row]) for row in (self.use, self.pool))
        return Relaxed(value, use, pool, tuple(planes))

    def _separate(self, planes: list[Plane]) -> bool:
        """Add a plane to every path whose deviation is too small; return whether there was one."""
        found = []
        for (request, path), spread in self.spread.items():
            parts = [
                sum(variable.solution_value() * each for variable, each in self._terms[stage, request])
                for stage in path
            ]
            length = sqrt(sum(part * part for part in parts))
            if length > spread.solution_value() * (1.0 + CLOSE) + CLOSE:
                found.append(Plane(request, path, tuple(part / length for part in parts)))
        for plane in found:
            self._add(plane, planes)
        return bool(found)

    def _add(self, plane: Plane, planes: list[Plane]) -> None:
        spread = self.spread[plane.request, plane.path]
        terms = [
            (variable, -weight * each)
            for stage, weight in zip(plane.path, plane.weights, strict=True)
            for variable, each in self._terms[stage, plane.request]
        ]
        self._row(0.0, np.inf, [(spread, 1.0), *terms])
        planes.append(plane)
