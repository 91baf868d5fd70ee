"""Embedding tables: caches, lookups over tiers, and what a shard costs under interchangeable models."""

from planner.costs.embeddings.caches import PROFILE, MissCurve, Popularity, measured, popularity, reused, zipf
from planner.costs.embeddings.lookups import LookupRates, fit_lookups
from planner.costs.embeddings.machine import EmbeddingMachine, SharedPath, embedding_machine
from planner.costs.embeddings.options import (
    ALL_RANKS,
    ANY_RANK,
    ONE_HOST,
    Option,
    OptionSpace,
    PricedOptions,
    block_width,
    enumerate_options,
    price_options,
    row_parts,
)
from planner.costs.embeddings.shards import (
    KERNELS,
    KINDS,
    EmbeddingCosts,
    Kernel,
    ShardingKind,
    ShardPrices,
    Shards,
    rank_seconds,
)
from planner.costs.embeddings.topology import TopologyCosts
from planner.costs.embeddings.torchrec import AccessStatistics, FlatCluster, TorchRecCosts

__all__ = [
    "ALL_RANKS",
    "ANY_RANK",
    "KERNELS",
    "KINDS",
    "ONE_HOST",
    "PROFILE",
    "AccessStatistics",
    "EmbeddingCosts",
    "EmbeddingMachine",
    "FlatCluster",
    "Kernel",
    "LookupRates",
    "MissCurve",
    "Option",
    "OptionSpace",
    "Popularity",
    "PricedOptions",
    "ShardPrices",
    "ShardingKind",
    "Shards",
    "SharedPath",
    "TopologyCosts",
    "TorchRecCosts",
    "block_width",
    "embedding_machine",
    "enumerate_options",
    "fit_lookups",
    "measured",
    "popularity",
    "price_options",
    "rank_seconds",
    "reused",
    "row_parts",
    "zipf",
]
