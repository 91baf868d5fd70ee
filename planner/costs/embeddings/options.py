"""Every way to shard each table, priced: the search space of a solver, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.costs.embeddings.shards import (
    KERNELS,
    KINDS,
    ON_EVERY_RANK,
    ON_ONE_HOST,
    EmbeddingCosts,
    FloatArray,
    IntArray,
    Kernel,
    ShardingKind,
    ShardPrices,
    Shards,
)
from planner.workload.tables import EmbeddingTable

ALL_RANKS, ONE_HOST, ANY_RANK = 0, 1, 2
"""Where a block may go: a part on every rank, a part on every rank of one host, whole on one rank."""


@dataclass(frozen=True)
class OptionSpace:
    """Which options each table has.

    Attributes
    ----------
    min_partition
        Least columns of a shard. The one width offered is the smallest divisor of the table's columns that
        is a multiple of 4 and not below it, as in TorchRec.
    free_widths
        Whether every multiple of 16 columns is offered as well, the last shard being narrower where it
        does not divide the table.
    load_factors
        Shares of the rows that a cache may hold.
    uneven_rows
        Whether a row-wise table may be cut unevenly, so that it fills the room that ranks have left.
    """

    kinds: tuple[ShardingKind, ...] = (
        "data_parallel",
        "table_wise",
        "column_wise",
        "row_wise",
        "table_row_wise",
    )
    kernels: tuple[Kernel, ...] = ("dense", "fused")
    min_partition: int = 128
    free_widths: bool = False
    load_factors: tuple[float, ...] = (0.2,)
    uneven_rows: bool = False

    def widths(self, table: EmbeddingTable, kind: ShardingKind) -> list[int]:
        """Return the widths of column blocks that a kind of sharding may use."""
        if kind not in ("column_wise", "table_column_wise", "grid_shard"):
            return [table.dim]
        widths = {block_width(table.dim, self.min_partition)}
        if self.free_widths:
            widths.update(range(16, table.dim, 16))
        return sorted(widths, reverse=True)


def block_width(dim: int, least: int) -> int:
    """Return the smallest divisor of ``dim`` that is a multiple of 4 and at least ``least``, else ``dim``."""
    return next((width for width in range(-(-max(least, 4) // 4) * 4, dim, 4) if dim % width == 0), dim)


@dataclass(frozen=True)
class Option:
    """One way to shard a table: cut into ``blocks`` of columns, each of which goes to one place."""

    table: int
    kind: ShardingKind
    kernel: Kernel
    load_factor: float
    blocks: tuple[int, ...]
    uneven: bool = False

    @property
    def scope(self) -> int:
        """Where a block may go."""
        if self.kind in ON_EVERY_RANK:
            return ALL_RANKS
        return ONE_HOST if self.kind in ON_ONE_HOST else ANY_RANK


@dataclass(frozen=True)
class PricedOptions:
    """Options and their blocks; equal blocks of an option are one group.

    Attributes
    ----------
    options
        All options, table by table.
    table, scope : ndarray, shape (options,)
        Index of the table and where its blocks go.
    group_option, group_count, group_dim : ndarray, shape (groups,)
        The option, the number of equal blocks, and their columns.
    group_cost : ndarray, shape (groups,)
        Least time that one block adds to each rank that holds a part of it, s.
    group_home : ndarray, shape (groups, classes)
        The same on a rank of each class.
    group_shared : ndarray, shape (groups, classes, kinds)
        Time of it during which shared resources of the rank are busy, s.
    group_parts : ndarray, shape (groups, 3)
        How many parts of the block are full, partly filled and empty; they lie on ranks in this order.
    group_rows, group_hbm, group_host : ndarray, shape (groups, 3)
        Rows and bytes of such a part in GPU memory and in host memory.
    """

    options: tuple[Option, ...]
    table: IntArray
    scope: IntArray
    group_option: IntArray
    group_count: IntArray
    group_dim: IntArray
    group_cost: FloatArray
    group_parts: IntArray
    group_rows: IntArray
    group_hbm: IntArray
    group_host: IntArray
    group_home: FloatArray
    group_shared: FloatArray

    def sum_groups(self, values: FloatArray) -> FloatArray:
        """Return, for each option, the sum of a figure over its blocks."""
        weights = values * self.group_count
        sums = np.bincount(self.group_option, weights=weights, minlength=len(self.options))
        return np.asarray(sums, dtype=np.float64)

    def max_groups(self, values: FloatArray) -> FloatArray:
        """Return, for each option, the largest figure of its blocks."""
        largest = np.zeros(len(self.options))
        np.maximum.at(largest, self.group_option, values)
        return largest


def enumerate_options(tables: Sequence[EmbeddingTable], space: OptionSpace) -> Iterator[Option]:
    """Yield every option of every table; kinds that come to the same thing are yielded once each."""
    for index, table in enumerate(tables):
        for kind in space.kinds:
            kernels = ("dense",) if kind == "data_parallel" else [k for k in space.kernels if k != "dense"]
            for kernel in kernels:
                if kernel not in space.kernels:
                    continue
                factors = space.load_factors if kernel == "fused_uvm_caching" else (0.0,)
                for width in space.widths(table, kind):
                    blocks = cut(table.dim, width)
                    for factor in factors:
                        yield Option(index, kind, kernel, factor, blocks)
                        if kind == "row_wise" and space.uneven_rows and kernel == "fused":
                            yield Option(index, kind, kernel, factor, blocks, uneven=True)


def cut(whole: int, part: int) -> tuple[int, ...]:
    """Return a length cut into parts, the last one shorter where they do not divide it."""
    full, rest = divmod(whole, part)
    return (part,) * full + ((rest,) if rest else ())


def row_parts(rows: int, parts: int) -> tuple[int, ...]:
    """Return an even cut of rows into a number of parts, of which the last may be smaller or empty."""
    height = -(-rows // parts)
    return tuple(min(height, max(0, rows - place * height)) for place in range(parts))


def price_options(costs: EmbeddingCosts, options: Sequence[Option]) -> PricedOptions:
    """Return the options with the cost and bytes of their blocks."""
    groups = [
        (index, dim, option.blocks.count(dim))
        for index, option in enumerate(options)
        for dim in dict.fromkeys(option.blocks)
    ]
    num_parts = {ALL_RANKS: costs.world_size, ONE_HOST: costs.local_size, ANY_RANK: 1}
    counts, rows = [], []
    for index, _, _ in groups:
        whole = costs.tables[options[index].table].rows
        parts = num_parts[options[index].scope] if options[index].kind != "data_parallel" else 1
        height = -(-whole // parts)
        full, partial = divmod(whole, height)
        counts.append((full, int(partial > 0), parts - full - int(partial > 0)))
        rows.append((height, partial, 0))
        if options[index].kind == "data_parallel":
            counts[-1] = (costs.world_size, 0, 0)
    which = np.array([index for index, _, _ in groups], dtype=np.int64)
    dims = np.array([dim for _, dim, _ in groups], dtype=np.int64)
    heights = np.array(rows, dtype=np.int64).reshape(-1, 3)
    shards = [_shards(options, which, dims, heights[:, place]) for place in range(3)]
    priced = [costs.price(part) for part in shards]
    home, shared = _by_class(costs, shards[0], priced[0])
    return PricedOptions(
        tuple(options),
        np.array([option.table for option in options], dtype=np.int64),
        np.array([option.scope for option in options], dtype=np.int64),
        which,
        np.array([count for _, _, count in groups], dtype=np.int64),
        dims,
        home.min(axis=1),
        np.array(counts, dtype=np.int64).reshape(-1, 3),
        heights,
        np.stack([prices.hbm for prices in priced], axis=1),
        np.stack([prices.host for prices in priced], axis=1),
        home,
        shared,
    )


def _by_class(costs: EmbeddingCosts, shards: Shards, first: ShardPrices) -> tuple[FloatArray, FloatArray]:
    """Return the times of shards on a rank of each class, in all and on shared resources, s."""
    home, shared = [], []
    for number in range(int(costs.classes.max()) + 1):
        place = np.full(len(shards.table), number, dtype=np.int64)
        prices = costs.price(replace(shards, place=place)) if number else first
        home.append(prices.total)
        nothing = np.zeros((len(shards.table), len(costs.groups)))
        shared.append(nothing if prices.shared is None else prices.shared)
    return np.stack(home, axis=1), np.stack(shared, axis=1)


def _shards(options: Sequence[Option], which: IntArray, dims: IntArray, rows: IntArray) -> Shards:
    chosen = [options[index] for index in which]
    return Shards(
        np.array([option.table for option in chosen], dtype=np.int64),
        np.array([KINDS.index(option.kind) for option in chosen], dtype=np.int64),
        np.array([KERNELS.index(option.kernel) for option in chosen], dtype=np.int64),
        rows,
        dims,
        np.array([option.load_factor for option in chosen], dtype=np.float64),
    )
