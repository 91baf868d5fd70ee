"""Where embedding tables lie: the problem, the plan, and the judge, which knows nothing of any solver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from planner.costs.embeddings import KERNELS, KINDS, EmbeddingCosts, Kernel, OptionSpace, ShardingKind, Shards
from planner.costs.embeddings.shards import FloatArray, IntArray, rank_seconds
from planner.schema import Record
from planner.workload.tables import EmbeddingTable

TOLERANCE = 1e-9
"""Relative difference between a stated cost and the judge's that rounding explains."""


@dataclass(frozen=True)
class TableProblem:
    """Tables, ranks, their memory, and a cost model; ranks are numbered host by host.

    Attributes
    ----------
    gpu_memory
        Bytes for embeddings on each rank.
    domain
        NUMA domain (or other pool of host memory) of each rank.
    host_memory
        Bytes for embeddings in each domain.
    """

    costs: EmbeddingCosts
    space: OptionSpace
    gpu_memory: tuple[int, ...]
    domain: tuple[int, ...]
    host_memory: tuple[int, ...]

    def __post_init__(self) -> None:
        ranks, local = self.costs.world_size, self.costs.local_size
        if len(self.gpu_memory) != ranks or len(self.domain) != ranks:
            raise ValueError(f"memory or domains of {ranks} ranks are missing")
        if ranks % local or not set(self.domain) <= set(range(len(self.host_memory))):
            raise ValueError("hosts must be equal and every domain must have memory")

    @property
    def tables(self) -> Sequence[EmbeddingTable]:
        """The tables to place."""
        return self.costs.tables


class TablePlacement(Record):
    """One table, cut into column blocks, each cut into parts of rows.

    Attributes
    ----------
    columns, rows
        Widths of the blocks and heights of the parts; a part may be empty.
    ranks
        The rank of each shard, block by block and part by part; for ``data_parallel`` all ranks, each of
        which holds the whole table.
    load_factor
        Share of the rows that a cache in GPU memory holds.
    """

    table: str
    kind: ShardingKind
    kernel: Kernel
    load_factor: float = Field(default=0.0, ge=0, le=1)
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    ranks: tuple[int, ...]

    @property
    def num_shards(self) -> int:
        """Number of shards, copies of a replicated table included."""
        parts = len(self.columns) * len(self.rows)
        return parts * len(self.ranks) if self.kind == "data_parallel" else parts

    def shards(self) -> Iterator[tuple[int, int, int]]:
        """Yield rank, rows and columns of every shard."""
        if self.kind == "data_parallel":
            yield from ((rank, self.rows[0], self.columns[0]) for rank in self.ranks)
            return
        ranks = iter(self.ranks)
        for width in self.columns:
            for height in self.rows:
                yield next(ranks), height, width


class TablePlan(Record):
    """Placements of all tables, the cost of the busiest rank, s, and a proven lower bound of it."""

    placements: tuple[TablePlacement, ...]
    cost: float
    bound: float
    status: Literal["optimal", "feasible"]

    @property
    def gap(self) -> float:
        """How far the cost can be above the optimum, as a ratio of the bound."""
        return self.cost / self.bound - 1.0 if self.bound > 0.0 else float("inf")


@dataclass(frozen=True)
class TableLoads:
    """What a plan puts on ranks and domains: time, s, and bytes in GPU and host memory."""

    seconds: FloatArray
    gpu_bytes: IntArray
    host_bytes: IntArray


def table_loads(problem: TableProblem, placements: Sequence[TablePlacement]) -> TableLoads:
    """Return the load of every rank and domain, recomputed shard by shard."""
    index = {table.name: place for place, table in enumerate(problem.tables)}
    rows = [
        (index[p.table], KINDS.index(p.kind), KERNELS.index(p.kernel), height, width, rank, p.load_factor)
        for p in placements
        for rank, height, width in p.shards()
    ]
    numbers = np.array([row[:6] for row in rows], dtype=np.int64).reshape(-1, 6)
    factors = np.array([row[6] for row in rows], dtype=np.float64)
    table, kind, kernel, height, width, rank = numbers.T
    prices = problem.costs.price(
        Shards(table, kind, kernel, height, width, factors, problem.costs.classes[rank])
    )
    seconds = rank_seconds(problem.costs, rank, prices)
    gpu_bytes = np.zeros(problem.costs.world_size, dtype=np.int64)
    host_bytes = np.zeros(len(problem.host_memory), dtype=np.int64)
    np.add.at(gpu_bytes, rank, prices.hbm)
    np.add.at(host_bytes, np.asarray(problem.domain, dtype=np.int64)[rank], prices.host)
    return TableLoads(seconds, gpu_bytes, host_bytes)


def check_tables(problem: TableProblem, plan: TablePlan) -> list[str]:
    """Return every rule that a plan breaks, as sentences; empty when it is legal."""
    found = list(_cover_problems(problem, plan.placements))
    if found:
        return found
    loads = table_loads(problem, plan.placements)
    for name, used, rooms in (
        ("rank", loads.gpu_bytes, problem.gpu_memory),
        ("domain", loads.host_bytes, problem.host_memory),
    ):
        for place, (need, room) in enumerate(zip(used.tolist(), rooms, strict=True)):
            if need > room:
                found.append(f"{name} {place} holds {need} bytes and has {room}")
    cost = float(loads.seconds.max())
    if abs(cost - plan.cost) > TOLERANCE * cost:
        found.append(f"a cost of {plan.cost:.9g} s is stated, the judge finds {cost:.9g} s")
    if plan.bound > plan.cost * (1.0 + TOLERANCE):
        found.append(f"the bound {plan.bound:.9g} s exceeds the cost {plan.cost:.9g} s")
    if plan.status == "optimal" and plan.gap > 1e-4:
        found.append(f"the plan is called optimal with a gap of {plan.gap:.2%}")
    return found


def _cover_problems(problem: TableProblem, placements: Sequence[TablePlacement]) -> Iterator[str]:
    tables = {table.name: table for table in problem.tables}
    times = Counter(placement.table for placement in placements)
    for name in tables:
        if times[name] != 1:
            yield f"table {name!r} is placed {times[name]} times"
    for placement in placements:
        if placement.table not in tables:
            yield f"table {placement.table!r} is not one of the problem"
            continue
        for fault in _shape_problems(problem, tables[placement.table], placement):
            yield f"table {placement.table!r}: {fault}"


def _shape_problems(problem: TableProblem, table: EmbeddingTable, p: TablePlacement) -> Iterator[str]:
    """Yield what is wrong with the cut of one table and the ranks of its shards."""
    if sum(p.columns) != table.dim or min(p.columns, default=0) < 1:
        yield f"columns {p.columns} do not make up {table.dim}"
    if sum(p.rows) != table.rows or min(p.rows, default=-1) < 0:
        yield f"{sum(p.rows)} of {table.rows} rows are placed"
    if not all(0 <= rank < problem.costs.world_size for rank in p.ranks):
        yield "a rank does not exist"
    elif len(p.ranks) != p.num_shards:
        yield f"{len(p.ranks)} ranks for {p.num_shards} shards"
    elif (fault := _kind_problem(problem, p)) is not None:
        yield fault
    if (p.kernel == "dense") != (p.kind == "data_parallel"):
        yield f"kernel {p.kernel} for a {p.kind} table"


def _kind_problem(problem: TableProblem, p: TablePlacement) -> str | None:
    """Return why the shards do not lie as the kind of sharding says."""
    world, local = problem.costs.world_size, problem.costs.local_size
    everyone = tuple(range(world))
    if p.kind in ("data_parallel", "row_wise"):
        parts = 1 if p.kind == "data_parallel" else world
        legal = p.ranks == everyone and len(p.columns) == 1 and len(p.rows) == parts
        return None if legal else f"a {p.kind} table lies on all ranks in order"
    if p.kind in ("table_wise", "column_wise", "table_column_wise"):
        if len(p.rows) != 1 or (p.kind == "table_wise" and len(p.columns) != 1):
            return f"a {p.kind} table is not cut like this"
        hosts = {rank // local for rank in p.ranks}
        return "its shards lie on several hosts" if p.kind == "table_column_wise" and len(hosts) > 1 else None
    if len(p.rows) != local or (p.kind == "table_row_wise" and len(p.columns) != 1):
        return f"a {p.kind} table is not cut like this"
    for start in range(0, len(p.ranks), local):
        first = p.ranks[start]
        if first % local or p.ranks[start : start + local] != tuple(range(first, first + local)):
            return "the parts of a block lie on the ranks of one host in order"
    return None
