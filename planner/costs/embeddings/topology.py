"""Cost of embedding shards on a real machine: routes, shared links, host memory, caches, distinct rows.

An iteration goes through phases that all ranks enter together: indices are exchanged, rows are looked up,
pooled outputs are exchanged, gradients come back the same way and rows are updated. A rank is as late as its
own kernels and the links that it uses, whoever else loads these: see `EmbeddingCosts`. The form is the
project's own; memory is counted as the public planner does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.embeddings.caches import PROFILE, Popularity, popularity
from planner.costs.embeddings.machine import EmbeddingMachine, SharedPath
from planner.costs.embeddings.shards import (
    KERNELS,
    KINDS,
    FloatArray,
    IntArray,
    Kernel,
    ShardPrices,
    Shards,
    TableColumns,
)
from planner.costs.embeddings.torchrec import INDEX_BYTES, FlatCluster, TorchRecCosts
from planner.workload.tables import EmbeddingTable, Optimizer

SECTOR = 32.0
"""Smallest access to GPU memory, bytes."""
SORT_BYTES = 128.0
"""Bytes that sorting one index moves before rows are updated: four radix passes over 16 bytes, read and
written."""
DENSE_PASSES = 5.0
"""Passes over a replicated table in an iteration: its gradient is cleared, filled and read, weights read and
written."""
STATES = {"none": 0.0, "sgd": 0.0, "adagrad": 1.0, "adam": 2.0}
PATHS = ("exchange", "inside", "outside", "fetch", "store")


@dataclass(frozen=True)
class Demand:
    """What shards ask of their rank in an iteration; all arrays have the shape (n,).

    Attributes
    ----------
    lookup, update
        Bytes moved in GPU memory, forward and backward.
    forward, backward
        Bytes that the rank exchanges with all others.
    reduced, gradient
        Bytes before a reduction over the ranks of the host and then between hosts: of partial sums, forward
        and backward, and of the gradient of a replicated table.
    read, prefetched, updated
        Bytes of host memory that lookups read, that a cache is filled with (and in training evicts as many),
        and that updates read and write.
    """

    lookup: FloatArray
    update: FloatArray
    forward: FloatArray
    backward: FloatArray
    reduced: FloatArray
    gradient: FloatArray
    read: FloatArray
    prefetched: FloatArray
    updated: FloatArray


@dataclass(frozen=True)
class TopologyCosts:
    """The project's own cost model.

    Attributes
    ----------
    local_batch
        Samples per rank.
    profile
        Lookups per row that the choice of cached rows rests on.
    """

    tables: Sequence[EmbeddingTable]
    machine: EmbeddingMachine
    local_batch: float
    optimizer: Optimizer = "none"
    training: bool = True
    profile: float = PROFILE

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.machine.num_ranks

    @property
    def local_size(self) -> int:
        """Ranks on each host."""
        return self.machine.local_size

    @cached_property
    def classes(self) -> IntArray:
        """Class of every rank: ranks of a class have the same rates."""
        machine = self.machine
        rates = [machine.gather, machine.line, *(self._path(name).seconds for name in PATHS)]
        table = np.array([[f"{value:.9e}" for value in column] for column in rates]).T
        rows = [tuple(row) for row in table.tolist()]
        numbers = {row: place for place, row in enumerate(dict.fromkeys(rows))}
        return np.array([numbers[row] for row in rows], dtype=np.int64)

    @cached_property
    def groups(self) -> IntArray:
        """Shared resources of every rank, those apart that no two ranks share."""
        found = list(dict.fromkeys(tuple(self._path(name).group.tolist()) for name in self._shared_paths))
        return np.array(found, dtype=np.int64).reshape(-1, self.world_size)

    def price(self, shards: Shards) -> ShardPrices:
        """Return times and bytes of shards; every shard of an option costs the same, an empty one too."""
        first = np.array([int(np.argmax(self.classes == place)) for place in range(self.classes.max() + 1)])
        rank = first[shards.place if shards.place is not None else np.zeros_like(shards.table)]
        demand, training = self.demand(shards, self.machine.line[rank]), float(self.training)
        gather = self.machine.gather[rank]
        seconds = {name: self._path(name).seconds[rank] for name in PATHS}
        world, local = self.world_size, self.local_size
        hosts = world // local
        away = (local - 1) / local * seconds["inside"], (hosts - 1) / world * seconds["outside"]
        moved = {
            "exchange": (demand.forward + training * demand.backward) * seconds["exchange"],
            "inside": ((1.0 + training) * demand.reduced + 2.0 * training * demand.gradient) * away[0],
            "outside": ((1.0 + training) * demand.reduced + 2.0 * training * demand.gradient) * away[1],
            "fetch": (demand.read + demand.prefetched + training * demand.updated) * seconds["fetch"],
            "store": training * (demand.prefetched + demand.updated) * seconds["store"],
        }
        reduced = demand.reduced * (away[0] + away[1])
        summed = demand.gradient * 2.0 * (away[0] + away[1])
        flat = self._flat.price(shards)
        return ShardPrices(
            demand.lookup / gather + demand.read * seconds["fetch"],
            demand.forward * seconds["exchange"] + reduced,
            training * (demand.update / gather + demand.updated * (seconds["fetch"] + seconds["store"])),
            training * (demand.backward * seconds["exchange"] + reduced + summed),
            demand.prefetched * (seconds["fetch"] + training * seconds["store"]),
            flat.hbm,
            flat.host,
            self._on_shared(moved, len(shards.table)),
        )

    def demand(self, shards: Shards, line: FloatArray) -> Demand:
        """Return what shards ask of their ranks; ``line`` is the smallest access to host memory, bytes."""
        columns, index = TableColumns.of(self.tables), shards.table
        element, dim = columns.element[index], shards.dim.astype(np.float64)
        whole, copied, on_host = self._kinds(shards)
        world, local = float(self.world_size), float(self.local_size)
        share = np.select([whole, on_host, copied], [1.0, 1.0 / local, 1.0], 1.0 / world)
        samples = np.where(copied, self.local_batch, self.local_batch * world)
        lookups = samples * columns.pooling[index] * share
        distinct = self._per_table(index, samples * columns.pooling[index]) * share
        outputs = samples * dim * element
        vector, row = dim * element, np.ceil(dim * element / SECTOR) * SECTOR
        host_row = np.ceil(vector / line) * line
        hosted, cached = self._kernel(shards, "fused_uvm"), self._kernel(shards, "fused_uvm_caching")
        state = self._state_bytes(row)
        rows_here, state_here = np.where(hosted, 0.0, row), np.where(hosted, 0.0, state)
        update = lookups * (SORT_BYTES + vector) + distinct * 2.0 * (rows_here + state_here)
        dense = columns.rows[index] * row * DENSE_PASSES + lookups * vector
        indices = INDEX_BYTES * lookups * (world - 1.0) / world
        pooled = np.where(whole | ~(copied | on_host), outputs * (world - 1.0) / world, 0.0)
        missed = self._missed(shards, samples * columns.pooling[index]) * share
        return Demand(
            lookups * (INDEX_BYTES + rows_here) + outputs,
            np.where(copied, dense, update),
            np.where(copied, 0.0, indices) + pooled,
            pooled,
            np.where(on_host, outputs, 0.0),
            np.where(copied, columns.rows[index] * vector, 0.0),
            np.where(hosted, lookups * host_row, 0.0),
            np.where(cached, missed * (host_row + self._state_bytes(host_row)), 0.0),
            np.where(hosted, distinct * (host_row + state), 0.0),
        )

    @cached_property
    def _shared_paths(self) -> tuple[str, ...]:
        return tuple(name for name in PATHS if len(np.unique(self._path(name).group)) < self.world_size)

    def _path(self, name: str) -> SharedPath:
        path: SharedPath = getattr(self.machine, name)
        return path

    def _on_shared(self, moved: dict[str, FloatArray], count: int) -> FloatArray:
        """Return the time on each kind of shared resource, shape (n, kinds), s."""
        kinds = [tuple(row) for row in self.groups.tolist()]
        shared = np.zeros((count, len(kinds)))
        for name in self._shared_paths:
            shared[:, kinds.index(tuple(self._path(name).group.tolist()))] += moved[name]
        return shared

    def _kinds(self, shards: Shards) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which shards see whole rows of all samples, are copies, and are cut over a host."""
        names = np.array(KINDS, dtype=object)[shards.kind]
        whole = np.isin(names, ("table_wise", "column_wise", "table_column_wise"))
        return whole, names == "data_parallel", np.isin(names, ("table_row_wise", "grid_shard"))

    def _kernel(self, shards: Shards, name: Kernel) -> np.ndarray:
        return np.asarray(shards.kernel == KERNELS.index(name))

    def _state_bytes(self, row: FloatArray) -> FloatArray:
        """Return the bytes of optimizer state that lie beside a row of so many bytes."""
        if self.optimizer == "rowwise-adagrad":
            return np.full_like(row, SECTOR)
        return STATES[self.optimizer] * row

    @cached_property
    def _laws(self) -> tuple[Popularity, ...]:
        return tuple(popularity(table) for table in self.tables)

    @cached_property
    def _counted(self) -> dict[tuple[int, float, float], float]:
        return {}

    def _per_table(self, index: IntArray, lookups: FloatArray, held: FloatArray | None = None) -> FloatArray:
        """Return distinct rows among lookups, without those that a cache of a share of the rows holds."""
        shares = np.full(len(index), -1.0) if held is None else held
        found = np.empty(len(index))
        for place, key in enumerate(zip(index.tolist(), lookups.tolist(), shares.tolist(), strict=True)):
            if key not in self._counted:
                law, (_, number, share) = self._laws[key[0]], key
                self._counted[key] = (
                    law.distinct(number) if share < 0.0 else law.distinct_misses(number, share, self.profile)
                )
            found[place] = self._counted[key]
        return found

    def _missed(self, shards: Shards, lookups: FloatArray) -> FloatArray:
        """Return the distinct rows of a batch that caches do not hold; 0 for tables without a cache."""
        cached = self._kernel(shards, "fused_uvm_caching")
        found = np.zeros(len(shards.table))
        found[cached] = self._per_table(
            shards.table[cached], lookups[cached], shards.load_factor[cached].astype(np.float64)
        )
        return found

    @cached_property
    def _flat(self) -> TorchRecCosts:
        """The public planner's account of memory; its rates play no part in that."""
        cluster = FlatCluster(self.world_size, self.local_size, 0, 0, 1.0, 1.0, 1.0, 1.0)
        return TorchRecCosts(self.tables, cluster, self.local_batch, self.optimizer, training=self.training)
