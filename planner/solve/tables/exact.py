"""CP-SAT model of the whole choice and placement: proofs on small cases, polish on parts of large ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ortools.sat.python import cp_model

from planner.solve.budget import Budget
from planner.solve.engine import run_model
from planner.solve.expressions import Expression, add_up
from planner.solve.tables.candidates import ALL_RANKS, ANY_RANK, ONE_HOST, Block, Candidates
from planner.solve.tables.packing import Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray

TICKS = 1 << 22
"""Ticks of the incumbent's cost; times are rounded down, so that the model's bound is one of the problem."""


@dataclass(frozen=True)
class Scope:
    """The part of the problem that a model decides.

    Attributes
    ----------
    options
        Options that each table may take; tables that are not named stay as they are.
    ranks, hosts
        Ranks that take blocks whole, and hosts all of whose ranks are among them.
    load, room, host_room
        Time already on each rank, s; bytes left on each rank and in each domain.
    loose
        Bytes that unevenly cut tables need somewhere on the ranks.
    """

    options: Mapping[int, Sequence[int]]
    ranks: Sequence[int]
    hosts: Sequence[int]
    load: NDArray[np.float64]
    room: NDArray[np.int64]
    host_room: NDArray[np.int64]
    loose: int = 0


@dataclass(frozen=True)
class ExactOutcome:
    """What CP-SAT found: option and places (rank or host per block) of each table, and a bound, s."""

    places: dict[int, tuple[int, list[int]]]
    bound: float
    proven: bool


class TableModel:
    """Choose options for tables and places for their blocks so that the busiest rank finishes first."""

    def __init__(self, found: Candidates, scope: Scope, incumbent: float) -> None:
        self.found, self.scope = found, scope
        self.tick = incumbent / TICKS
        self.model = cp_model.CpModel()
        self.chosen: dict[int, cp_model.IntVar] = {}
        self.on: dict[tuple[int, int, int], cp_model.IntVar] = {}
        self.groups: dict[int, list[tuple[Block, int]]] = {}
        self.shared: list[Expression] = []
        self.per_host: dict[int, list[Expression]] = {host: [] for host in scope.hosts}
        self.per_rank: dict[int, list[Expression]] = {rank: [] for rank in scope.ranks}
        self.bytes: dict[int, list[Expression]] = {rank: [] for rank in scope.ranks}
        self.hosted: dict[int, list[Expression]] = {d: [] for d in range(len(found.problem.host_memory))}
        self.loose: list[Expression] = []
        self.work: list[Expression] = []
        for options in scope.options.values():
            self._choose_one(options)
        self.busiest = self.model.new_int_var(0, TICKS, "busiest")
        self._load_ranks()
        self._fit_in_memory()
        self._count_large_blocks()
        self.model.minimize(self.busiest)

    def _ticks(self, seconds: float) -> int:
        return int(seconds / self.tick)

    def _choose_one(self, options: Sequence[int]) -> None:
        for option in options:
            self.chosen[option] = self.model.new_bool_var(f"x[{option}]")
            blocks = self.found.blocks(option)
            self.groups[option] = [(block, blocks.count(block)) for block in _distinct(blocks)]
            scope = int(self.found.priced.scope[option])
            place = {ALL_RANKS: self._everywhere, ONE_HOST: self._on_hosts, ANY_RANK: self._on_ranks}
            place[scope](option)
        self.model.add_exactly_one(self.chosen[option] for option in options)

    def _everywhere(self, option: int) -> None:
        x, block = self.chosen[option], self.groups[option][0][0]
        if self.found.spread.plain:
            self.shared.append(self._ticks(block.cost) * x)
            self.work.append(self._ticks(block.cost) * len(self.scope.ranks) * x)
        else:
            self._feel(block, range(self.found.num_ranks), x)
        if self.found.option(option).uneven:
            self.loose.append(int(block.hbm.sum()) * x)
            return
        for rank in self.scope.ranks:
            self._hold(rank, block, rank, x)

    def _on_hosts(self, option: int) -> None:
        local = self.found.problem.costs.local_size
        for number, (block, count) in enumerate(self.groups[option]):
            row: list[Expression] = []
            for host in self.scope.hosts:
                y = self.model.new_int_var(0, count, f"z[{option},{number},{host}]")
                self.on[option, number, host] = y
                row.append(y)
                if self.found.spread.plain:
                    self.per_host[host].append(self._ticks(block.cost) * y)
                else:
                    self._feel(block, range(host * local, (host + 1) * local), y)
                for part in range(local):
                    self._hold(host * local + part, block, part, y)
            self.model.add(add_up(row) == count * self.chosen[option])
            if self.found.spread.plain:
                self.work.append(self._ticks(block.cost) * local * count * self.chosen[option])

    def _on_ranks(self, option: int) -> None:
        for number, (block, count) in enumerate(self.groups[option]):
            row: list[Expression] = []
            for rank in self.scope.ranks:
                if int(block.hbm[0]) > int(self.scope.room[rank]):
                    continue
                y = self.model.new_int_var(0, count, f"y[{option},{number},{rank}]")
                self.on[option, number, rank] = y
                row.append(y)
                if self.found.spread.plain:
                    self.per_rank[rank].append(self._ticks(block.cost) * y)
                else:
                    self._feel(block, (rank,), y)
                self._hold(rank, block, 0, y)
            self.model.add(add_up(row) == count * self.chosen[option])
            if self.found.spread.plain:
                self.work.append(self._ticks(block.cost) * count * self.chosen[option])

    def _feel(self, block: Block, ranks: Sequence[int], variable: cp_model.IntVar) -> None:
        """Add what one part on each of some ranks takes to every rank that feels it."""
        load = self.found.spread.vector(block.home, block.shared, ranks)
        for rank in np.flatnonzero(load):
            self.per_rank[int(rank)].append(self._ticks(float(load[rank])) * variable)

    def _hold(self, rank: int, block: Block, part: int, variable: cp_model.IntVar) -> None:
        if block.hbm[part]:
            self.bytes[rank].append(int(block.hbm[part]) * variable)
        if block.host[part]:
            self.hosted[self.found.problem.domain[rank]].append(int(block.host[part]) * variable)

    def _load_ranks(self) -> None:
        local = self.found.problem.costs.local_size
        shared = self.model.new_int_var(0, TICKS, "shared")
        self.model.add(shared == add_up(self.shared))
        self._stack_largest(shared)
        hosts = {}
        for host, terms in self.per_host.items():
            hosts[host] = self.model.new_int_var(0, TICKS, f"host[{host}]")
            self.model.add(hosts[host] == add_up(terms))
        for rank, terms in self.per_rank.items():
            given = self._ticks(float(self.scope.load[rank]))
            more: Expression = hosts.get(rank // local, 0)
            self.model.add(given + shared + more + add_up(terms) <= self.busiest)
        if self.found.spread.plain:
            given = sum(self._ticks(float(self.scope.load[rank])) for rank in self.scope.ranks)
            self.model.add(given + add_up(self.work) <= len(self.scope.ranks) * self.busiest)

    def _stack_largest(self, shared: cp_model.IntVar) -> None:
        """Say for each table that its largest block lies on some rank on top of what all ranks share."""
        for options in self.scope.options.values():
            terms = [self._ticks(float(self.found.largest[o])) * self.chosen[o] for o in options]
            self.model.add(shared + add_up(terms) <= self.busiest)

    def _count_large_blocks(self) -> None:
        """Say that a rank takes at most ``k`` blocks that are longer than the incumbent over ``k + 1``."""
        for most in (1, 2, 3):
            limit = self.tick * TICKS / (most + 1)
            for rank in self.scope.ranks:
                large = [
                    y
                    for (option, number, place), y in self.on.items()
                    if place == rank
                    and self.found.priced.scope[option] == ANY_RANK
                    and self._cost_on(option, number, rank) > limit
                ]
                if len(large) > most:
                    self.model.add(add_up(large) <= most)

    def _cost_on(self, option: int, number: int, rank: int) -> float:
        block = self.groups[option][number][0]
        return float(block.home[self.found.spread.classes[rank]])

    def _fit_in_memory(self) -> None:
        for rank, terms in self.bytes.items():
            self.model.add(add_up(terms) <= int(self.scope.room[rank]))
        for domain, terms in self.hosted.items():
            if terms:
                self.model.add(add_up(terms) <= int(self.scope.host_room[domain]))
        if self.loose or self.scope.loose:
            everyone = [term for terms in self.bytes.values() for term in terms]
            room = sum(int(self.scope.room[rank]) for rank in self.scope.ranks)
            self.model.add(add_up(everyone) + add_up(self.loose) <= room - self.scope.loose)

    def hint(self, packing: Packing) -> None:
        """Start from a packing."""
        for option, x in self.chosen.items():
            taken = int(packing.choice[self.found.option(option).table]) == option
            self.model.add_hint(x, taken)
        for (option, number, place), y in self.on.items():
            self.model.add_hint(y, self._count(packing, option, number, place))

    def _count(self, packing: Packing, option: int, number: int, place: int) -> int:
        table = self.found.option(option).table
        if int(packing.choice[table]) != option:
            return 0
        block, blocks = self.groups[option][number][0], self.found.blocks(option)
        return sum(
            where == place and blocks[index].width == block.width
            for index, where in enumerate(packing.places(table))
        )

    def extract(self, solver: cp_model.CpSolver) -> dict[int, tuple[int, list[int]]]:
        """Return the option of every table and the place of each block, in the order of the blocks."""
        places: dict[int, tuple[int, list[int]]] = {}
        for option, x in self.chosen.items():
            if not solver.boolean_value(x):
                continue
            where: list[int] = []
            for number in range(len(self.groups[option])):
                for (owner, which, place), y in self.on.items():
                    if (owner, which) == (option, number):
                        where.extend([place] * solver.value(y))
            places[self.found.option(option).table] = (option, where)
        return places


def _distinct(blocks: Sequence[Block]) -> list[Block]:
    return list({block.width: block for block in blocks}.values())


def solve_exact(
    found: Candidates,
    scope: Scope,
    start: Packing | None,
    incumbent: float,
    budget: Budget,
    *,
    effort: float,
) -> ExactOutcome:
    """Search for a plan of at most ``incumbent`` seconds; ``effort`` is in CP-SAT's deterministic time."""
    tables = TableModel(found, scope, incumbent)
    if start is not None:
        tables.hint(start)
    solver, status = run_model(tables.model, budget, work=effort)
    if status == cp_model.INFEASIBLE:
        return ExactOutcome({}, incumbent, True)
    bound = max(solver.best_objective_bound, 0.0) * tables.tick
    if status == cp_model.UNKNOWN:
        return ExactOutcome({}, bound, False)
    return ExactOutcome(tables.extract(solver), bound, status == cp_model.OPTIMAL)
