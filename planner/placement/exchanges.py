"""What the ranks of a recommender move and compute in one iteration, as matrices of bytes and times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.costs.embeddings import KERNELS, KINDS, Shards, TopologyCosts
from planner.costs.embeddings.shards import FloatArray, IntArray
from planner.placement.flows import Flow
from planner.placement.recommender import placement_of
from planner.placement.recommender_plan import RecommenderPlan
from planner.placement.recommender_problem import RecommenderProblem
from planner.placement.tables import TablePlacement


@dataclass(frozen=True)
class Iteration:
    """Work of one iteration.

    Attributes
    ----------
    indices, pooled, inside, outside : ndarray, shape (ranks, ranks)
        Bytes from each rank to each other: indices to the owners of rows, pooled rows back, and partial sums
        that are reduced on a host and then between hosts. Gradients take the last three the other way round.
    gradient : ndarray, shape (ranks,)
        Bytes of replicated tables that every rank reduces with all others.
    lookup, update : ndarray, shape (ranks,)
        Time of kernels on GPU memory, s.
    read, prefetched, updated : ndarray, shape (ranks,)
        Bytes of host memory: read by lookups, brought into caches (and evicted), read and written by updates.
    """

    indices: FloatArray
    pooled: FloatArray
    inside: FloatArray
    outside: FloatArray
    gradient: FloatArray
    lookup: FloatArray
    update: FloatArray
    read: FloatArray
    prefetched: FloatArray
    updated: FloatArray


def iteration(costs: TopologyCosts, placements: Sequence[TablePlacement]) -> Iteration:
    """Return the work of an iteration under a placement of all tables."""
    ranks, shards = _shards(costs, placements)
    demand = costs.demand(shards, costs.machine.line[ranks])
    world, local = costs.world_size, costs.local_size

    def per_rank(values: FloatArray) -> FloatArray:
        return np.bincount(ranks, values, world).astype(np.float64)

    everyone = np.ones((world, world)) - np.eye(world)
    host = np.arange(world) // local
    near = (host[:, None] == host) & (everyone > 0.0)
    twins = (np.arange(world)[:, None] % local == np.arange(world) % local) & (everyone > 0.0)
    reduced = per_rank(demand.reduced)
    away = max(world - 1, 1)
    return Iteration(
        indices=everyone * per_rank(demand.forward - demand.backward) / away,
        pooled=everyone * per_rank(demand.backward)[:, None] / away,
        inside=near * reduced[:, None] / local,
        outside=twins * reduced[:, None] / world,
        gradient=per_rank(demand.gradient),
        lookup=per_rank(demand.lookup) / costs.machine.gather,
        update=per_rank(demand.update) / costs.machine.gather,
        read=per_rank(demand.read),
        prefetched=per_rank(demand.prefetched),
        updated=per_rank(demand.updated),
    )


def _shards(costs: TopologyCosts, placements: Sequence[TablePlacement]) -> tuple[IntArray, Shards]:
    index = {table.name: place for place, table in enumerate(costs.tables)}
    rows = [
        (rank, index[p.table], KINDS.index(p.kind), KERNELS.index(p.kernel), height, width, p.load_factor)
        for p in placements
        for rank, height, width in p.shards()
    ]
    numbers = np.array([row[:6] for row in rows], dtype=np.int64).reshape(-1, 6)
    factors = np.array([row[6] for row in rows], dtype=np.float64)
    rank, table, kind, kernel, height, width = numbers.T
    return rank, Shards(table, kind, kernel, height, width, factors, costs.classes[rank])


def recommender_flows(problem: RecommenderProblem, plan: RecommenderPlan) -> Iterator[Flow]:
    """Yield what an iteration moves between GPUs and to and from host memory."""
    costs, gpus = problem.topology_costs, problem.ranks
    work = iteration(costs, [placement_of(table) for table in plan.tables])
    again = work.pooled.T + work.inside.T + work.outside.T if costs.training else 0.0
    moved = work.indices + work.pooled + work.inside + work.outside + again
    for source, target in np.argwhere(moved > 0.0).tolist():
        yield Flow(gpus[source], gpus[target], float(moved[source, target]), "ep")
    local = costs.local_size
    for rank, size in enumerate(work.gradient.tolist() if costs.training else ()):
        host, place = divmod(rank, local)
        beside, beyond = host * local + (place + 1) % local, (rank + local) % len(gpus)
        if beside != rank and size > 0.0:
            yield Flow(gpus[rank], gpus[beside], 2.0 * size * (local - 1) / local, "data")
        if beyond != rank and size > 0.0:
            share = 2.0 * size * (len(gpus) // local - 1) / len(gpus)
            yield Flow(gpus[rank], gpus[beyond], share, "data")
    back = work.prefetched + work.updated if costs.training else np.zeros(len(gpus))
    into = work.read + work.prefetched + (work.updated if costs.training else 0.0)
    for rank, gpu in enumerate(gpus):
        for start, end, size in (
            (problem.domain_of(gpu), gpu, into[rank]),
            (gpu, problem.domain_of(gpu), back[rank]),
        ):
            if size > 0.0:
                yield Flow(start, end, float(size), "host")
