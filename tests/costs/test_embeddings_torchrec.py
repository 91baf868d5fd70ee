"""The public planner's cost model against its own figures and by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.embedding_sharding import read_case
from planner.costs.embeddings import (
    KERNELS,
    KINDS,
    FlatCluster,
    Kernel,
    OptionSpace,
    ShardingKind,
    Shards,
    TorchRecCosts,
    block_width,
    enumerate_options,
    price_options,
    row_parts,
)
from planner.workload.tables import EmbeddingTable

PARTS = ("fwd_compute", "fwd_comms", "bwd_compute", "bwd_comms", "prefetch")
CLUSTER = FlatCluster(16, 8, 10**9, 10**9, 1e12, 3e10, 6e11, 1.25e10)


def tables(**changes: float) -> list[EmbeddingTable]:
    return [EmbeddingTable(name="a", rows=1000, dim=128, pooling=4.0).model_copy(update=changes)]


def one(kind: ShardingKind, kernel: Kernel, rows: int, dim: int = 128, factor: float = 0.0) -> Shards:
    table, place, how = np.array([0]), np.array([KINDS.index(kind)]), np.array([KERNELS.index(kernel)])
    return Shards(table, place, how, np.array([rows]), np.array([dim]), np.array([factor]))


def test_a_table_wise_shard_by_hand() -> None:
    """Lookup at the rate of GPU memory, outputs over the network, backward compute twice forward."""
    prices = TorchRecCosts(tables(), CLUSTER, 64.0).price(one("table_wise", "fused", 1000))
    lookups, outputs, indices = 64 * 4 * 16 * 512, 64 * 16 * 512, 64 * 4 * 16 * 8
    assert prices.fwd_compute[0] == pytest.approx((lookups + outputs + indices) / 1e12)
    assert prices.bwd_compute[0] == pytest.approx(2 * prices.fwd_compute[0])
    assert prices.fwd_comms[0] == prices.bwd_comms[0] == pytest.approx(outputs / 1.25e10)
    assert prices.hbm[0] == 1000 * 512 + outputs + indices
    assert prices.host[0] == 0


def test_inference_has_no_backward_pass_and_no_optimizer() -> None:
    """Serving costs the forward part only and holds no optimizer state."""
    shard = one("table_wise", "fused", 1000)
    train = TorchRecCosts(tables(), CLUSTER, 64.0, "adam").price(shard)
    serve = TorchRecCosts(tables(), CLUSTER, 64.0, "adam", training=False).price(shard)
    assert serve.total[0] == pytest.approx(train.fwd_compute[0] + train.fwd_comms[0])
    assert train.hbm[0] - serve.hbm[0] == 2 * 1000 * 512


def test_an_optimizer_adds_its_state() -> None:
    """Row-wise Adagrad keeps one element per row, Adam two per weight."""
    shard = one("table_wise", "fused", 1000)
    sizes = {
        name: int(TorchRecCosts(tables(), CLUSTER, 64.0, name).price(shard).hbm[0])
        for name in ("none", "rowwise-adagrad", "adam")
    }
    assert sizes["rowwise-adagrad"] - sizes["none"] == 4 * 1000
    assert sizes["adam"] - sizes["none"] == 8 * 1000 * 128


def test_an_empty_shard_costs_time_but_no_memory() -> None:
    """The last row shard of a small table may be empty: it holds nothing and is counted like the others."""
    costs = TorchRecCosts(tables(), CLUSTER, 64.0)
    full, empty = costs.price(one("row_wise", "fused", 63)), costs.price(one("row_wise", "fused", 0))
    assert empty.hbm[0] == 0
    assert empty.total[0] == full.total[0]


@pytest.mark.parametrize(
    ("dim", "least", "width"), [(128, 128, 128), (128, 64, 64), (96, 32, 32), (100, 16, 20)]
)
def test_the_width_of_column_shards(dim: int, least: int, width: int) -> None:
    """The smallest divisor that is a multiple of 4 and not below the least width."""
    assert block_width(dim, least) == width


def test_rows_are_cut_evenly_with_a_short_or_empty_end() -> None:
    """Ten rows over eight ranks are five pairs and three empty parts."""
    assert row_parts(10, 8) == (2, 2, 2, 2, 2, 0, 0, 0)


def test_options_count_every_part_of_every_block() -> None:
    """Rows over all parts and columns over all blocks of an option make up the table."""
    costs = TorchRecCosts(tables(rows=10), CLUSTER, 64.0)
    priced = price_options(costs, list(enumerate_options(costs.tables, OptionSpace(free_widths=True))))
    covered = (priced.group_parts * priced.group_rows).sum(axis=1) * priced.group_dim
    cells = priced.sum_groups(covered.astype(float))
    copies = np.array([16 if option.kind == "data_parallel" else 1 for option in priced.options])
    assert cells == pytest.approx(1280.0 * copies)


@pytest.mark.reference
def test_every_recorded_option_is_reproduced(shared_data: Path) -> None:
    """Cost within 1e-6 and exact bytes of the first and the last shard of every recorded option."""
    folders = [path.parent for path in (shared_data / "embedding-tables").glob("cases/*/options.csv")]
    assert len(folders) >= 6
    for folder in folders:
        costs = read_case(folder).problem.costs
        assert isinstance(costs, TorchRecCosts)
        with (folder / "options.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        index = {table.name: place for place, table in enumerate(costs.tables)}
        for end in ("first", "last"):
            shards = Shards(
                np.array([index[row["table"]] for row in rows]),
                np.array([KINDS.index(row["sharding_type"]) for row in rows]),
                np.array([KERNELS.index(row["kernel"]) for row in rows]),
                np.array([int(row[f"shard_rows_{end}"]) for row in rows]),
                np.array([int(row["shard_dim"]) for row in rows]),
                np.full(len(rows), 0.1 if costs.prefetch else 0.2),
            )
            prices = costs.price(shards)
            recorded = np.array([float(row["shard_cost_ms"]) for row in rows]) / 1e3
            assert np.abs(prices.total / recorded - 1.0).max() < 1e-6, folder.name
            assert prices.hbm.tolist() == [int(row[f"hbm_{end}"]) for row in rows], folder.name
            assert prices.host.tolist() == [int(row[f"ddr_{end}"]) for row in rows], folder.name
            for part in PARTS:
                truth = np.array([float(row[part]) for row in rows]) / 1e3
                assert getattr(prices, part) == pytest.approx(truth, rel=1e-5, abs=1e-15), (folder.name, part)
