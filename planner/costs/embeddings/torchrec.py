"""Cost and storage of embedding shards as TorchRec's sharding planner counts them.

The formulas are those of ``torchrec/distributed/planner`` (BSD-3-Clause, version 1.8.0): two flat levels of
bandwidth, no contention, costs additive over the shards of a rank. They are kept apart from the project's own
model so that plans can be compared on the public planner's terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.costs.embeddings.caches import MissCurve
from planner.costs.embeddings.shards import (
    KERNELS,
    KINDS,
    FloatArray,
    IntArray,
    ShardPrices,
    Shards,
    TableColumns,
)
from planner.workload.tables import EmbeddingTable, Optimizer

INDEX_BYTES = 8.0
BATCHED_COPY = 2.455
"""Cost of copying a byte between the layouts of a row-wise output, in bytes read."""
ELEMENT_WISE = 9.22
"""Cost of a byte of data-parallel gradient in element-wise kernels, in bytes read."""
WEIGHTED = 1.1
CACHE_STATE = (4.0, 16.0)
"""Bytes of cache state per row: always, and per cached row."""
UVM_SLOWDOWN = 10.0


@dataclass(frozen=True)
class FlatCluster:
    """Two levels of bandwidth, bytes/s, and memory per rank, bytes."""

    world_size: int
    local_size: int
    hbm_capacity: int
    host_capacity: int
    hbm: float
    host_link: float
    intra_host: float
    inter_host: float

    @property
    def exchange(self) -> float:
        """Bandwidth that an all-to-all is priced with, bytes/s."""
        return self.intra_host if self.world_size <= self.local_size else self.inter_host


@dataclass(frozen=True)
class AccessStatistics:
    """Distinct rows that a global batch looks up, and the share of lookups that a cache misses."""

    distinct: float
    misses: MissCurve


@dataclass(frozen=True)
class TorchRecCosts:
    """The public planner's cost model.

    Attributes
    ----------
    local_batch
        Samples per rank.
    prefetch
        Whether the pipeline prefetches cached rows, so that their lookup runs at the rate of GPU memory.
    statistics
        By table name; without them a cache costs no prefetch time.
    """

    tables: Sequence[EmbeddingTable]
    cluster: FlatCluster
    local_batch: float
    optimizer: Optimizer = "none"
    weighted: bool = False
    prefetch: bool = False
    training: bool = True
    statistics: dict[str, AccessStatistics] = field(default_factory=dict)

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.cluster.world_size

    @property
    def local_size(self) -> int:
        """Ranks on each host."""
        return self.cluster.local_size

    @property
    def classes(self) -> IntArray:
        """Class of every rank: the public planner knows only one."""
        return np.zeros(self.world_size, dtype=np.int64)

    @property
    def groups(self) -> IntArray:
        """Shared resources of every rank: none."""
        return np.zeros((0, self.world_size), dtype=np.int64)

    def price(self, shards: Shards) -> ShardPrices:
        """Return times and bytes of shards; every shard of an option costs the same, an empty one too."""
        columns, index = TableColumns.of(self.tables), shards.table
        element, pooling = columns.element[index], columns.pooling[index]
        rates = self._kernel_rates(shards)
        traffic = self._traffic(shards, pooling, element)
        block = self._is(shards, "table_wise", "column_wise", "table_column_wise")
        penalty = np.where(shards.dim < 64, 1.75, np.where(shards.dim < 128, 1.15, 1.0))
        lookup = traffic.inputs + traffic.lookups + traffic.outputs
        fwd_compute = lookup * np.where(block, penalty, 1.0) / rates * (WEIGHTED if self.weighted else 1.0)
        fwd_comms, bwd_comms = self._exchange(shards, traffic.outputs, rates, columns.rows[index] * element)
        backward = 1.0 if self.training else 0.0
        hbm, host = self._storage(shards, traffic, element)
        return ShardPrices(
            fwd_compute,
            fwd_comms,
            2.0 * fwd_compute * backward,
            bwd_comms * backward,
            self._prefetch(shards, element),
            hbm,
            host,
        )

    def _is(self, shards: Shards, *names: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.isin(shards.kind, [place for place, kind in enumerate(KINDS) if kind in names])

    def _kernel_rates(self, shards: Shards) -> FloatArray:
        """Return the rate at which each shard's kernel reads rows, bytes/s."""
        hbm, link, share = self.cluster.hbm, self.cluster.host_link, shards.load_factor
        cached = (share * hbm + (1.0 - share) * link) / UVM_SLOWDOWN
        by_kernel = {
            "dense": np.full_like(share, hbm / 2.0),
            "fused": np.full_like(share, hbm),
            "fused_uvm": np.full_like(share, link / UVM_SLOWDOWN),
            "fused_uvm_caching": np.full_like(share, hbm) if self.prefetch else cached,
        }
        return np.asarray(np.choose(shards.kernel, [by_kernel[name] for name in KERNELS]))

    def _traffic(self, shards: Shards, pooling: FloatArray, element: FloatArray) -> _Traffic:
        world, local, batch = self.world_size, self.local_size, self.local_batch
        on_host = self._is(shards, "table_row_wise", "grid_shard")
        whole = self._is(shards, "table_wise", "column_wise", "table_column_wise")
        spread = np.where(whole, world, np.where(on_host, world / local, 1.0))
        width = np.where(whole, np.maximum(shards.dim, 32), shards.dim)
        gathered = np.where(self._is(shards, "data_parallel"), 1.0, world)
        return _Traffic(
            np.ceil(INDEX_BYTES * batch * pooling * spread),
            batch * pooling * spread * width * element,
            batch * np.minimum(1.0, pooling) * gathered * shards.dim * element,
        )

    def _exchange(
        self, shards: Shards, outputs: FloatArray, rates: FloatArray, column: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the times of the forward and backward exchanges, s; ``column`` is bytes of a column."""
        cluster, world, local = self.cluster, self.world_size, self.local_size
        flat = outputs / cluster.exchange
        between = outputs / local / cluster.inter_host if world > local else 0.0
        on_host = outputs / cluster.intra_host + between
        copied = BATCHED_COPY * outputs / rates
        hosts = min(world / local, 2.0)
        reduce = column * shards.dim * (2.0 * hosts - 1.0) / hosts / (cluster.inter_host * local)
        reduce = reduce * (2.0 if world > 2 * local else 1.0) + ELEMENT_WISE * column * shards.dim / rates
        forward = {"data_parallel": np.zeros_like(flat), "table_row_wise": on_host, "grid_shard": on_host}
        backward = {
            "data_parallel": reduce,
            "row_wise": flat + copied,
            "table_row_wise": on_host + copied,
            "grid_shard": on_host + copied,
        }
        pick = [
            np.choose(shards.kind, [ways.get(kind, flat) for kind in KINDS]) for ways in (forward, backward)
        ]
        return np.asarray(pick[0]), np.asarray(pick[1])

    def _prefetch(self, shards: Shards, element: FloatArray) -> FloatArray:
        """Return the time to fetch missed rows into the cache, s."""
        seconds = np.zeros(len(shards.table))
        share = {
            "row_wise": self.world_size,
            "table_row_wise": self.local_size,
            "grid_shard": self.local_size,
        }
        for place in np.flatnonzero(shards.kernel == KERNELS.index("fused_uvm_caching")):
            known = self.statistics.get(self.tables[shards.table[place]].name)
            if known is not None:
                missed = known.misses.at(float(shards.load_factor[place])) * known.distinct
                size = missed * shards.dim[place] * element[place]
                seconds[place] = size / self.cluster.host_link / share.get(KINDS[shards.kind[place]], 1)
        return seconds

    def _storage(self, shards: Shards, traffic: _Traffic, element: FloatArray) -> tuple[IntArray, IntArray]:
        """Return the bytes in GPU memory and in host memory."""
        weights = np.ceil(shards.rows * shards.dim * element)
        state = np.ceil(weights * self._optimizer_share(shards)) if self.training else np.zeros_like(weights)
        buffers = np.where(shards.rows > 0, traffic.inputs + np.ceil(traffic.outputs), 0.0)
        hosted = np.isin(shards.kernel, [KERNELS.index("fused_uvm"), KERNELS.index("fused_uvm_caching")])
        cached = shards.kernel == KERNELS.index("fused_uvm_caching")
        always, each = CACHE_STATE
        cache = self._cached_bytes(shards) + shards.rows * (always + each * shards.load_factor)
        in_hbm = np.where(hosted, np.where(cached, cache, 0.0), weights + state)
        in_host = np.where(hosted, weights + state, 0.0)
        return np.ceil(in_hbm + buffers).astype(np.int64), in_host.astype(np.int64)

    def _cached_bytes(self, shards: Shards) -> FloatArray:
        """Return the bytes that caches hold: rounded for the whole table, then cut among its shards."""
        found = np.zeros(len(shards.table))
        share = self._optimizer_share(shards) if self.training else np.zeros(len(shards.table))
        for place in np.flatnonzero(shards.kernel == KERNELS.index("fused_uvm_caching")):
            table = self.tables[shards.table[place]]
            size = table.size * (1.0 + float(share[place]))
            whole = round(size * float(shards.load_factor[place]))
            part = int(shards.rows[place]) * int(shards.dim[place])
            found[place] = -(-whole * part // (table.rows * table.dim))
        return found

    def _optimizer_share(self, shards: Shards) -> FloatArray:
        """Return bytes of optimizer state per byte of weights."""
        shares = {"none": 0.0, "sgd": 0.0, "adagrad": 1.0, "adam": 2.0}
        if self.optimizer == "rowwise-adagrad":
            return 1.0 / shards.dim
        return np.full(len(shards.dim), shares[self.optimizer])


@dataclass(frozen=True)
class _Traffic:
    """Bytes per iteration: indices in, rows read, pooled rows out."""

    inputs: FloatArray
    lookups: FloatArray
    outputs: FloatArray
