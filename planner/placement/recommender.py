"""Recommenders on a topology: the part of the plan, and its judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from planner import units
from planner.costs.embeddings import (
    KERNELS,
    KINDS,
    EmbeddingCosts,
    ShardPrices,
    Shards,
    rank_seconds,
)
from planner.costs.embeddings.shards import IntArray
from planner.placement.bindings import gpu_bindings
from planner.placement.recommender_plan import (
    HostMemory,
    PlacedTable,
    RecommenderPlan,
    RecommenderPrediction,
)
from planner.placement.recommender_problem import TIERS, RecommenderProblem
from planner.placement.records import StageMemory
from planner.placement.tables import TablePlacement, TablePlan, TableProblem, check_tables
from planner.schema import compress
from planner.workload import EmbeddingTable

SAME = 1e-6


def placement_of(table: PlacedTable) -> TablePlacement:
    """Return the placement that a plan states of one table."""
    return TablePlacement(
        table=table.table,
        kind=table.sharding,
        kernel=table.kernel,
        load_factor=table.cache_share,
        columns=tuple(table.columns),
        rows=tuple(table.rows),
        ranks=tuple(table.ranks),
    )


def recommender_plan(problem: RecommenderProblem, placements: Sequence[TablePlacement]) -> RecommenderPlan:
    """Return the plan record of a placement, with the judge's figures."""
    inner, ranks = problem.table_problem, problem.ranks
    priced = [_priced(inner, placement) for placement in placements]
    seconds, gpu = np.zeros(len(ranks)), np.zeros(len(ranks))
    costs = inner.costs
    parts = {name: np.zeros(len(ranks)) for name in PARTS}
    host = np.zeros(len(problem.domains))
    for rank_of, prices in priced:
        seconds += rank_seconds(costs, rank_of, prices)
        np.add.at(gpu, rank_of, prices.hbm)
        np.add.at(host, np.asarray(inner.domain)[rank_of], prices.host)
        for name, field in PARTS.items():
            np.add.at(parts[name], rank_of, getattr(prices, field))
    busiest = int(seconds.argmax())
    embedding, dense = float(seconds[busiest]), problem.dense_seconds
    breakdown = {name: float(values[busiest]) for name, values in parts.items() if values[busiest] > 0.0}
    waiting = embedding - sum(breakdown.values())
    if waiting > SAME * embedding:
        breakdown["other ranks on shared links"] = waiting
    if dense > 0.0:
        breakdown["dense"] = dense
    nodes = dict.fromkeys(rank.split("/", 1)[0] for rank in ranks)
    machines = {m.name: m for m in (problem.topology.node_of[node].machine for node in nodes)}
    return RecommenderPlan(
        name=problem.job.name,
        model=tables_name(problem.model),
        costs=problem.job.costs,
        devices=compress(list(ranks)),
        tables=[_placed(costs, p, *found) for p, found in zip(placements, priced, strict=True)],
        host_memory=[
            HostMemory(numa=domain, used=float(used), capacity=room)
            for domain, used, room in zip(problem.domains, host, problem.host_room, strict=True)
        ],
        bindings=[binding for machine in machines.values() for binding in gpu_bindings(machine)],
        memory=[_memory(problem, rank, float(used)) for rank, used in enumerate(gpu)],
        prediction=RecommenderPrediction(
            embedding_time=embedding,
            dense_time=dense,
            iteration_time=embedding + dense,
            samples_per_second=problem.job.global_batch / max(embedding + dense, 1e-30),
            breakdown=breakdown,
            rank_seconds=seconds.tolist(),
        ),
    )


PARTS = {
    "lookup": "fwd_compute",
    "exchange": "fwd_comms",
    "gradient of lookup": "bwd_compute",
    "gradient exchange": "bwd_comms",
    "prefetch into cache": "prefetch",
}
"""Parts of a rank's time and the prices that they come from."""


def tables_name(tables: Sequence[EmbeddingTable]) -> str:
    """Return what a plan calls a set of tables."""
    size = units.show(sum(table.size for table in tables), "bytes")
    return f"{len(tables)} table{'s' if len(tables) != 1 else ''} of {size}"


def _priced(
    inner: TableProblem, placement: TablePlacement
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ShardPrices]:
    """Return the rank and the price of every shard of a table."""
    index = next(place for place, table in enumerate(inner.tables) if table.name == placement.table)
    rank, height, width = np.array(list(placement.shards()), dtype=np.int64).T
    same = np.ones(len(rank), dtype=np.int64)
    shards = Shards(
        same * index,
        same * KINDS.index(placement.kind),
        same * KERNELS.index(placement.kernel),
        height,
        width,
        np.full(len(rank), placement.load_factor),
        inner.costs.classes[rank],
    )
    return rank, inner.costs.price(shards)


def _placed(
    costs: EmbeddingCosts, placement: TablePlacement, rank_of: IntArray, prices: ShardPrices
) -> PlacedTable:
    return PlacedTable(
        table=placement.table,
        sharding=placement.kind,
        tier=TIERS[placement.kernel],
        kernel=placement.kernel,
        cache_share=placement.load_factor,
        columns=list(placement.columns),
        rows=list(placement.rows),
        ranks=list(placement.ranks),
        gpu_bytes=float(prices.hbm.sum()),
        host_bytes=float(prices.host.sum()),
        seconds=float(rank_seconds(costs, rank_of, prices).max()),
    )


def _memory(problem: RecommenderProblem, rank: int, tables: float) -> StageMemory:
    parts = {"tables": tables} | ({"dense part": problem.dense_bytes} if problem.dense_bytes else {})
    return StageMemory(stage=rank, parts=parts, capacity=problem.capacities[rank])


def recommender_objective(problem: RecommenderProblem, plan: RecommenderPlan) -> float:
    """Return the embedding time, s, of a legal plan, recomputed."""
    return recommender_plan(problem, [placement_of(table) for table in plan.tables]).prediction.embedding_time


def recommender_problems(problem: RecommenderProblem, plan: RecommenderPlan) -> Iterator[str]:
    """Yield every rule that a plan breaks, and stated figures that differ from the judge's."""
    if tuple(plan.ranks()) != problem.ranks:
        yield f"{plan.name}: the ranks are not the {len(problem.ranks)} GPUs of the problem in order"
        return
    placements = tuple(placement_of(table) for table in plan.tables)
    for table in plan.tables:
        if TIERS[table.kernel] != table.tier:
            lies = f"is said to lie in tier {table.tier}, its kernel is {table.kernel}"
            yield f"{plan.name}: table {table.table!r} {lies}"
    stated = TablePlan(
        placements=placements, cost=plan.prediction.embedding_time, bound=0.0, status="feasible"
    )
    found = check_tables(problem.table_problem, stated)
    yield from (f"{plan.name}: {text}" for text in found)
    if found:
        return
    expected = recommender_plan(problem, placements)
    for said, true in zip(plan.memory, expected.memory, strict=False):
        if abs(said.total - true.total) > SAME * true.total or said.capacity != true.capacity:
            found_bytes = f"the judge finds {true.total:.6g}"
            yield f"{plan.name}: rank {true.stage} states {said.total:.6g} bytes, {found_bytes}"
    if len(plan.memory) != len(expected.memory):
        yield f"{plan.name}: memory is stated for {len(plan.memory)} of {len(expected.memory)} ranks"
    said_time, true_time = plan.prediction.iteration_time, expected.prediction.iteration_time
    if abs(said_time - true_time) > SAME * true_time:
        yield f"{plan.name}: an iteration of {said_time:.6g} s is stated, the judge finds {true_time:.6g} s"
