"""The part of a plan that places the tables of a recommender."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.costs.embeddings import Kernel, ShardingKind
from planner.placement.records import Binding, StageMemory
from planner.schema import Bytes, Name, Record, Seconds, expand
from planner.workload.tables import Tier


class PlacedTable(Record):
    """Where one table lies.

    Attributes
    ----------
    tier
        ``gpu``: rows in GPU memory; ``cached``: in host memory, the share ``cache_share`` of them also in
        GPU memory; ``host``: in host memory.
    columns, rows
        Widths of the column blocks and heights of the row parts that each of them is cut into.
    ranks
        Rank of each shard, block by block and part by part; for ``data_parallel`` all ranks hold the table.
    gpu_bytes, host_bytes
        Of all shards, optimizer state and buffers included.
    seconds
        Busiest rank's time for this table in one iteration.
    """

    table: str
    sharding: ShardingKind
    tier: Tier
    kernel: Kernel
    cache_share: float = Field(default=0.0, ge=0, le=1)
    columns: list[int]
    rows: list[int]
    ranks: list[int]
    gpu_bytes: Bytes
    host_bytes: Bytes
    seconds: Seconds


class HostMemory(Record):
    """Bytes of tables in a NUMA domain ``NODE/NUMA``, and the room there."""

    numa: str
    used: Bytes
    capacity: Bytes


class RecommenderPrediction(Record):
    """Predicted times of one iteration.

    Attributes
    ----------
    embedding_time
        Of the busiest rank, its lookups and exchanges one after the other.
    dense_time
        Of the dense part with the sum of its gradients, before or after the embeddings.
    breakdown
        Of the busiest rank and the dense part; adds up to ``iteration_time``.
    rank_seconds
        Embedding time of every rank.
    """

    embedding_time: Seconds
    dense_time: Seconds
    iteration_time: Seconds
    samples_per_second: float
    breakdown: dict[str, Seconds]
    rank_seconds: list[Seconds]


class RecommenderPlan(Record):
    """Placement of a recommender: its tables over ranks and tiers, the dense part on every rank.

    Attributes
    ----------
    devices
        GPUs ``NODE/GPU`` in rank order, node by node, ranges folded.
    costs
        Model that priced the tables.
    """

    kind: Literal["recommender"] = "recommender"
    name: Name
    model: str
    costs: str
    devices: list[str]
    tables: list[PlacedTable]
    host_memory: list[HostMemory] = Field(default_factory=list)
    bindings: list[Binding] = Field(default_factory=list)
    memory: list[StageMemory]
    prediction: RecommenderPrediction

    def ranks(self) -> list[str]:
        """Return the GPU of every rank."""
        return [name for item in self.devices for name in expand(item)]

    def gpus(self) -> list[str]:
        """Return the GPUs of all ranks."""
        return self.ranks()
