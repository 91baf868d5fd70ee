"""The options worth choosing, as arrays that the relaxation, the packing and the exact model share."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from planner.costs.embeddings import (
    ALL_RANKS,
    ANY_RANK,
    ONE_HOST,
    Option,
    PricedOptions,
    enumerate_options,
    price_options,
)
from planner.errors import InfeasibleError
from planner.placement.tables import TableProblem
from planner.solve.tables.spread import Spread
from planner.units import show

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Part of an option that goes to one place.

    Attributes
    ----------
    cost
        Least time on each of its ranks, s.
    hbm, host
        Bytes per part.
    home, shared : ndarray, shapes (classes,) and (classes, kinds)
        Time on a rank of each class, s, and the part of it that is felt by all users of a shared resource.
    """

    cost: float
    hbm: IntArray
    host: IntArray
    width: int
    home: FloatArray
    shared: FloatArray


@dataclass(frozen=True)
class Candidates:
    """Options that no other option of the same table makes useless.

    Attributes
    ----------
    problem
        What is placed.
    priced
        The options with their blocks.
    of_table
        Positions of each table's options.
    spread
        What a block adds to which ranks.
    work, hbm, host : ndarray, shape (options,)
        Least weighted time, s, and bytes summed over all ranks.
    uniform : ndarray, shape (options,)
        Least time on every rank, s; 0 where blocks go to one rank or host.
    largest : ndarray, shape (options,)
        Least of the busiest rank under the largest block, s; 0 for options on every rank.
    """

    problem: TableProblem
    priced: PricedOptions
    spread: Spread
    of_table: tuple[IntArray, ...]
    work: FloatArray
    hbm: FloatArray
    host: FloatArray
    uniform: FloatArray
    largest: FloatArray

    @property
    def num_ranks(self) -> int:
        """Number of ranks."""
        return self.problem.costs.world_size

    def option(self, place: int) -> Option:
        """Return an option."""
        return self.priced.options[place]

    def blocks(self, place: int) -> list[Block]:
        """Return the blocks of an option, in the order of its columns."""
        priced = self.priced
        low, high = np.searchsorted(priced.group_option, [place, place + 1])
        found = []
        for group in range(low, high):
            parts = priced.group_parts[group]
            block = Block(
                float(priced.group_cost[group]),
                np.repeat(priced.group_hbm[group], parts),
                np.repeat(priced.group_host[group], parts),
                int(priced.group_dim[group]),
                priced.group_home[group],
                priced.group_shared[group],
            )
            found.extend([block] * int(priced.group_count[group]))
        return found


def candidates(problem: TableProblem) -> Candidates:
    """Enumerate and price the options of all tables, without those that cannot be part of a best plan.

    Raises
    ------
    InfeasibleError
        If no option of a table fits the memory of the ranks it needs.
    """
    options = list(enumerate_options(problem.tables, problem.space))
    priced = price_options(problem.costs, options)
    return _arrays(problem, select(priced, _useful(problem, priced)))


def select(priced: PricedOptions, keep: NDArray[np.bool_]) -> PricedOptions:
    """Return some of the options."""
    renumber = np.cumsum(keep) - 1
    groups = keep[priced.group_option]
    return replace(
        priced,
        options=tuple(option for option, kept in zip(priced.options, keep, strict=True) if kept),
        table=priced.table[keep],
        scope=priced.scope[keep],
        group_option=renumber[priced.group_option[groups]],
        group_count=priced.group_count[groups],
        group_dim=priced.group_dim[groups],
        group_cost=priced.group_cost[groups],
        group_parts=priced.group_parts[groups],
        group_rows=priced.group_rows[groups],
        group_hbm=priced.group_hbm[groups],
        group_host=priced.group_host[groups],
        group_home=priced.group_home[groups],
        group_shared=priced.group_shared[groups],
    )


def _arrays(problem: TableProblem, priced: PricedOptions) -> Candidates:
    spread = Spread(problem.costs)
    loads = spread.loads(priced)
    hbm = priced.sum_groups((priced.group_hbm * priced.group_parts).sum(axis=1).astype(np.float64))
    host = priced.sum_groups((priced.group_host * priced.group_parts).sum(axis=1).astype(np.float64))
    bounds = np.searchsorted(priced.table, np.arange(len(problem.tables) + 1))
    return Candidates(
        problem,
        priced,
        spread,
        tuple(np.arange(low, high) for low, high in pairwise(bounds.tolist())),
        loads.work,
        hbm,
        host,
        loads.uniform,
        loads.largest,
    )


def _useful(problem: TableProblem, priced: PricedOptions) -> NDArray[np.bool_]:
    """Return which options fit and are not beaten by another with as many blocks of the same scope."""
    fits = priced.max_groups((priced.group_hbm * (priced.group_parts > 0)).max(axis=1)) <= max(
        problem.gpu_memory
    )
    fits &= priced.max_groups((priced.group_host * (priced.group_parts > 0)).max(axis=1)) <= max(
        problem.host_memory, default=0
    )
    uneven = np.array([option.uneven for option in priced.options], dtype=bool)
    fits |= uneven & (
        priced.sum_groups((priced.group_hbm * priced.group_parts).sum(axis=1)) <= sum(problem.gpu_memory)
    )
    figures = np.stack(
        [
            priced.max_groups(priced.group_cost),
            priced.sum_groups(priced.group_cost),
            priced.max_groups(priced.group_hbm.max(axis=1)),
            priced.sum_groups((priced.group_host * priced.group_parts).sum(axis=1)),
            *_other_times(priced),
        ],
        axis=1,
    )
    rivals: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, option in enumerate(priced.options):
        if fits[place]:
            rivals[option.table, option.scope, option.blocks, option.uneven].append(place)
    keep = np.zeros(len(priced.options), dtype=bool)
    for places in rivals.values():
        kept: list[int] = []
        for place in sorted(places, key=lambda place: (*figures[place], place)):
            if not any((figures[other] <= figures[place]).all() for other in kept):
                kept.append(place)
        keep[kept] = True
    for index, table in enumerate(problem.tables):
        if not keep[priced.table == index].any():
            room = max(problem.gpu_memory)
            raise InfeasibleError(
                f"no option of table {table.name!r} ({show(table.size, 'bytes')}) fits",
                ["memory per rank"],
                f"the largest rank has {show(room, 'bytes')}; cut its rows, allow host memory, or add ranks",
            )
    return keep


def _other_times(priced: PricedOptions) -> list[FloatArray]:
    """Return the times in which options differ besides their least time: by class and shared resource."""
    columns = list(priced.group_home.T[1:]) + list(priced.group_shared.reshape(len(priced.group_cost), -1).T)
    return [figure(column) for column in columns for figure in (priced.max_groups, priced.sum_groups)]


__all__ = ["ALL_RANKS", "ANY_RANK", "ONE_HOST", "Block", "Candidates", "candidates", "select"]
