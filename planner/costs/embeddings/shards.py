"""Shards of embedding tables as arrays: what a cost model prices, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from planner.workload.tables import EmbeddingTable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ShardingKind = Literal[
    "data_parallel",
    "table_wise",
    "column_wise",
    "table_column_wise",
    "row_wise",
    "table_row_wise",
    "grid_shard",
]
Kernel = Literal["dense", "fused", "fused_uvm", "fused_uvm_caching"]
KINDS: tuple[ShardingKind, ...] = get_args(ShardingKind)
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
ON_EVERY_RANK: frozenset[ShardingKind] = frozenset({"data_parallel", "row_wise"})
ON_ONE_HOST: frozenset[ShardingKind] = frozenset({"table_row_wise", "grid_shard"})
"""Kinds that cut rows over the ranks of a host; a grid does so for each of its column blocks."""


@dataclass(frozen=True)
class Shards:
    """Shards to be priced; all arrays have the shape (n,).

    Attributes
    ----------
    table
        Index of the table.
    kind, kernel
        Positions in `KINDS` and `KERNELS`.
    rows, dim
        Rows and columns that the shard holds.
    load_factor
        Share of the rows that a cache in GPU memory holds; used by ``fused_uvm_caching`` only.
    place
        Class of the rank that holds the shard, see `EmbeddingCosts.classes`; absent: class 0.
    """

    table: IntArray
    kind: IntArray
    kernel: IntArray
    rows: IntArray
    dim: IntArray
    load_factor: FloatArray
    place: IntArray | None = None


@dataclass(frozen=True)
class ShardPrices:
    """Times, s, and bytes of shards; arrays have the shape (n,) where nothing else is said.

    Attributes
    ----------
    shared : ndarray, shape (n, kinds)
        The part of the time that a shard keeps each shared resource of its rank busy, and so is felt by all
        ranks that use it; absent: nothing is shared.
    """

    fwd_compute: FloatArray
    fwd_comms: FloatArray
    bwd_compute: FloatArray
    bwd_comms: FloatArray
    prefetch: FloatArray
    hbm: IntArray
    host: IntArray
    shared: FloatArray | None = None

    @property
    def own(self) -> FloatArray:
        """Time of a shard per iteration that its own rank alone feels, s."""
        return self.total if self.shared is None else self.total - self.shared.sum(axis=1)

    @property
    def total(self) -> FloatArray:
        """Time that a shard adds to its own rank per iteration, s."""
        forward = self.fwd_compute + self.fwd_comms
        return forward + self.bwd_compute + self.bwd_comms + self.prefetch


class EmbeddingCosts(Protocol):
    """What a solver and a judge ask of a cost model.

    The time of a rank is the sum of what its own shards take and of what all shards keep the resources busy
    that the rank shares with others.
    """

    @property
    def tables(self) -> Sequence[EmbeddingTable]:
        """The tables, in the order of the indices."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""

    @property
    def local_size(self) -> int:
        """Ranks on each host."""

    @property
    def classes(self) -> IntArray:
        """Class of every rank, shape (ranks,): ranks of a class price a shard alike."""

    @property
    def groups(self) -> IntArray:
        """Number of the shared resource of each kind that every rank uses, shape (kinds, ranks)."""

    def price(self, shards: Shards) -> ShardPrices:
        """Return times and bytes of shards."""


def rank_seconds(costs: EmbeddingCosts, ranks: IntArray, prices: ShardPrices) -> FloatArray:
    """Return the time of every rank, s, from the rank and the price of every shard."""
    seconds = np.bincount(ranks, weights=prices.own, minlength=costs.world_size)
    if prices.shared is not None:
        for kind, group in enumerate(costs.groups):
            seconds = seconds + np.bincount(group[ranks], prices.shared[:, kind], group.max() + 1)[group]
    return np.asarray(seconds, dtype=np.float64)


@dataclass(frozen=True)
class TableColumns:
    """The tables as arrays of the shape (tables,)."""

    rows: FloatArray
    dim: FloatArray
    pooling: FloatArray
    element: FloatArray

    @classmethod
    def of(cls, tables: Sequence[EmbeddingTable]) -> TableColumns:
        """Return the columns of a sequence of tables."""
        return cls(
            np.array([table.rows for table in tables], dtype=np.float64),
            np.array([table.dim for table in tables], dtype=np.float64),
            np.array([table.pooling for table in tables], dtype=np.float64),
            np.array([table.element for table in tables], dtype=np.float64),
        )
