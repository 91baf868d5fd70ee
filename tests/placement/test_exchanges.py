"""What an iteration of a recommender moves: closed forms of the bytes, and flows that match them."""

import numpy as np
import pytest

from planner.costs import load_calibration
from planner.costs.embeddings import Kernel, ShardingKind, row_parts
from planner.placement import RecommenderProblem, make_problem
from planner.placement.exchanges import Iteration, iteration, recommender_flows
from planner.placement.recommender import recommender_plan
from planner.placement.tables import TablePlacement
from planner.topology import load_topology
from planner.workload import EmbeddingTable, RecommenderJob

TABLE = EmbeddingTable(name="t", rows=100_000, dim=64, pooling=5.0, skew=1.0)
BATCH, RANKS, ROW = 8000, 8, 256.0


def problem() -> RecommenderProblem:
    job = RecommenderJob(kind="recommender", name="r", tables=[TABLE], global_batch=BATCH)
    made = make_problem(job, (TABLE,), load_topology("dgx-h100"), load_calibration())
    assert isinstance(made, RecommenderProblem)
    return made


def placed(kind: ShardingKind, kernel: Kernel = "fused") -> TablePlacement:
    everywhere = kind != "table_wise"
    parts = 1 if kind in ("table_wise", "data_parallel") else RANKS
    ranks = tuple(range(RANKS)) if everywhere else (2,)
    return TablePlacement(
        table="t", kind=kind, kernel=kernel, columns=(64,), rows=row_parts(100_000, parts), ranks=ranks
    )


def work(kind: ShardingKind, kernel: Kernel = "fused") -> Iteration:
    return iteration(problem().topology_costs, [placed(kind, kernel)])


def test_a_whole_table_takes_all_indices_and_sends_all_rows() -> None:
    """Seven eighths of the lookups come from other ranks, and as much of the pooled rows goes to them."""
    found = work("table_wise")
    assert found.indices[:, 2].sum() == pytest.approx(8 * 5 * BATCH * 7 / 8)
    assert found.pooled[2].sum() == pytest.approx(ROW * BATCH * 7 / 8)
    assert np.delete(found.pooled, 2, axis=0).sum() == 0.0


def test_rows_on_all_ranks_share_the_indices_but_not_the_partial_sums() -> None:
    """Each rank answers every sample of the others with a partial sum."""
    found = work("row_wise")
    assert found.indices.sum() == pytest.approx(8 * 5 * BATCH * 7 / 8)
    assert found.pooled.sum(axis=1) == pytest.approx(np.full(RANKS, ROW * BATCH * 7 / 8))


def test_a_replicated_table_exchanges_gradients_only() -> None:
    """Nothing is looked up elsewhere; every rank reduces a gradient as large as the table."""
    found = work("data_parallel", "dense")
    assert found.indices.sum() == found.pooled.sum() == 0.0
    assert found.gradient == pytest.approx(np.full(RANKS, TABLE.size))


@pytest.mark.parametrize(
    ("kind", "kernel", "causes"),
    [
        ("table_wise", "fused", {"ep"}),
        ("row_wise", "fused_uvm", {"ep", "host"}),
        ("data_parallel", "dense", {"data"}),
    ],
)
def test_flows_carry_what_is_exchanged(kind: ShardingKind, kernel: Kernel, causes: set[str]) -> None:
    """Forward and backward bytes between GPUs appear once, host memory where tables lie there."""
    whole = problem()
    plan = recommender_plan(whole, [placed(kind, kernel)])
    flows = list(recommender_flows(whole, plan))
    assert {flow.cause for flow in flows} == causes
    found = work(kind, kernel)
    between = sum(flow.size for flow in flows if flow.cause == "ep")
    assert between == pytest.approx(found.indices.sum() + 2 * found.pooled.sum())
    reads = sum(flow.size for flow in flows if flow.cause == "host" and flow.target in whole.ranks)
    assert reads == pytest.approx(found.read.sum() + found.updated.sum())
