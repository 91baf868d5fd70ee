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
    """

    table: IntArray
    kind: IntArray
    kernel: IntArray
    rows: IntArray
    dim: IntArray
    load_factor: FloatArray


@dataclass(frozen=True)
class ShardPrices:
    """Times, s, and bytes of shards; all arrays have the shape (n,)."""

    fwd_compute: FloatArray
    fwd_comms: FloatArray
    bwd_compute: FloatArray
    bwd_comms: FloatArray
    prefetch: FloatArray
    hbm: IntArray
    host: IntArray

    @property
    def total(self) -> FloatArray:
        """Time of a shard per iteration, s."""
        forward = self.fwd_compute + self.fwd_comms
        return forward + self.bwd_compute + self.bwd_comms + self.prefetch


class EmbeddingCosts(Protocol):
    """What a solver and a judge ask of a cost model."""

    @property
    def tables(self) -> Sequence[EmbeddingTable]:
        """The tables, in the order of the indices."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""

    @property
    def local_size(self) -> int:
        """Ranks on each host."""

    def price(self, shards: Shards) -> ShardPrices:
        """Return times and bytes of shards."""


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
