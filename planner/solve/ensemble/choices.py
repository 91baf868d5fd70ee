"""Which column serves what on GPUs, and which pools serve the stages on host cores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from planner.placement.ensemble_design import Key
from planner.placement.ensemble_problem import EnsembleProblem
from planner.solve.ensemble.columns import Column
from planner.solve.ensemble.pools import PoolOption
from planner.solve.expressions import Expression, add_up

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


class Choices:
    """Booleans ``use[column]`` and ``pool[option]``: every class is served at every stage exactly once."""

    def __init__(
        self,
        model: cp_model.CpModel,
        problem: EnsembleProblem,
        columns: Sequence[Column],
        options: Sequence[PoolOption],
    ) -> None:
        self.model, self.problem = model, problem
        self.columns, self.options = columns, options
        self.use = [model.new_bool_var(f"use[{index}]") for index in range(len(columns))]
        self.pool = [model.new_bool_var(f"pool[{index}]") for index in range(len(options))]
        self._serving: dict[Key, list[int]] = defaultdict(list)
        for index, column in enumerate(columns):
            for key in column.keys:
                self._serving[key].append(index)
        self._pools: dict[int, list[int]] = defaultdict(list)
        for index, option in enumerate(options):
            self._pools[option.stage].append(index)
        self.on_gpu = [self._serve(stage) for stage in range(len(problem.stages))]
        self._lits: dict[tuple[object, ...], Expression] = {}

    @property
    def keys(self) -> list[Key]:
        """Every stage and class."""
        many = range(len(self.problem.classes))
        return [(stage, request) for stage in range(len(self.problem.stages)) for request in many]

    def _serve(self, stage: int) -> cp_model.IntVar:
        on_gpu = self.model.new_bool_var(f"gpu[{stage}]")
        own = [self.pool[index] for index in self._pools[stage]]
        self.model.add(add_up(own) + on_gpu == 1)
        for request in range(len(self.problem.classes)):
            self.model.add(add_up(self.use[index] for index in self._serving[stage, request]) == on_gpu)
        return on_gpu

    def columns_of(self, key: Key) -> list[tuple[int, Column]]:
        """Return the columns that serve a class at a stage, with their numbers."""
        return [(index, self.columns[index]) for index in self._serving[key]]

    def options_of(self, stage: int) -> list[tuple[int, PoolOption]]:
        """Return the pools of a stage, with their numbers."""
        return [(index, self.options[index]) for index in self._pools[stage]]

    def time(self, key: Key, what: Callable[[Column | PoolOption], tuple[int, ...]]) -> Expression:
        """Return a figure of a class at a stage: its mean or its variance."""
        stage, request = key
        found: list[Expression] = [
            what(column)[column.keys.index(key)] * self.use[index] for index, column in self.columns_of(key)
        ]
        found += [what(option)[request] * self.pool[index] for index, option in self.options_of(stage)]
        return add_up(found)

    def chosen(self, key: Key, which: Callable[[Column], bool], name: tuple[object, ...]) -> Expression:
        """Return whether a class is served at a stage by a column of some kind: a sum of booleans, 0 or 1."""
        if name not in self._lits:
            self._lits[name] = add_up(
                self.use[index] for index, column in self.columns_of(key) if which(column)
            )
        return self._lits[name]

    def together(self, left: Key, right: Key) -> Expression:
        """Return whether one column serves both: their data stay on its units."""
        return self.chosen(left, lambda column: right in column.keys, ("together", left, right))

    def whole(self, key: Key) -> Expression:
        """Return whether whole GPUs serve a class at a stage."""
        return self.chosen(key, lambda column: column.profile is None, ("whole", key))
