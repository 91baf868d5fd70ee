"""The project's own model of embedding shards: by hand, on shipped machines, and how links are shared."""

import numpy as np
import pytest

from planner.costs import load_calibration
from planner.costs.embeddings import (
    KERNELS,
    KINDS,
    EmbeddingMachine,
    Kernel,
    ShardingKind,
    Shards,
    SharedPath,
    TopologyCosts,
    embedding_machine,
    popularity,
    rank_seconds,
)
from planner.topology import Router, load_topology
from planner.workload.tables import EmbeddingTable

TABLE = EmbeddingTable(name="a", rows=100_000, dim=128, pooling=4.0, skew=1.1)
ROW = 512.0


def path(group: list[int], rate: float) -> SharedPath:
    return SharedPath(np.array(group), np.full(len(group), 1.0 / rate))


def machine(nic: int = 1, host: int = 1, fast: float = 1.0) -> EmbeddingMachine:
    """Return four ranks on two hosts; ``nic`` and ``host`` ranks share a port and a host link."""
    gather = np.array([fast, fast, 1.0, 1.0]) * 1e12
    ports, links = [rank // nic for rank in range(4)], [rank // host for rank in range(4)]
    alone = path([0, 1, 2, 3], 3e11)
    hosts = path(links, 2e10)
    return EmbeddingMachine(
        2, gather, path(ports, 2e10), alone, path(ports, 2e10), hosts, hosts, np.full(4, 64.0)
    )


def shard(kind: ShardingKind, kernel: Kernel, rows: int = 100_000, factor: float = 0.0) -> Shards:
    table, place, how, height, width = (
        np.array([value]) for value in (0, KINDS.index(kind), KERNELS.index(kernel), rows, 128)
    )
    return Shards(table, place, how, height, width, np.array([factor]), np.array([0]))


def test_a_table_wise_shard_by_hand() -> None:
    """Indices and pooled rows cross the port, lookups read whole rows, updates touch distinct rows."""
    costs = TopologyCosts([TABLE], machine(), 64.0, "rowwise-adagrad")
    prices = costs.price(shard("table_wise", "fused"))
    lookups, outputs = 64 * 4 * 4.0, 64 * 4 * ROW
    distinct = popularity(TABLE).distinct(lookups)
    assert prices.fwd_compute[0] == pytest.approx((lookups * (8 + ROW) + outputs) / 1e12)
    assert prices.fwd_comms[0] == pytest.approx(0.75 * (8 * lookups + outputs) / 2e10)
    assert prices.bwd_comms[0] == pytest.approx(0.75 * outputs / 2e10)
    assert prices.bwd_compute[0] == pytest.approx((lookups * (128 + ROW) + 2 * distinct * (ROW + 32)) / 1e12)
    assert distinct < lookups
    assert prices.prefetch[0] == 0.0


def test_a_cache_fetches_the_distinct_rows_that_it_lacks() -> None:
    """Rows in the cache are not fetched, a row that is looked up twice is fetched once."""
    costs = TopologyCosts([TABLE], machine(), 64.0, training=False)
    prefetch = [
        float(costs.price(shard("table_wise", "fused_uvm_caching", factor=share)).prefetch[0])
        for share in (0.01, 0.1, 0.5)
    ]
    everything = popularity(TABLE).distinct(64 * 4 * 4.0) * ROW / 2e10
    assert prefetch == sorted(prefetch, reverse=True)
    assert 0.0 < prefetch[-1] < prefetch[0] < everything


def test_rows_read_in_place_cost_the_host_link() -> None:
    """Every lookup of a table in host memory crosses the link, whatever the cache."""
    costs = TopologyCosts([TABLE], machine(), 64.0, training=False)
    prices = costs.price(shard("table_wise", "fused_uvm"))
    assert prices.fwd_compute[0] > 64 * 4 * 4.0 * ROW / 2e10


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shared_is_part_of_the_price(kind: ShardingKind) -> None:
    """A rank alone on its host pays the same as one that shares the port: only its neighbour differs."""
    kernel: Kernel = "dense" if kind == "data_parallel" else "fused_uvm"
    alone = TopologyCosts([TABLE], machine(), 64.0, "adam").price(shard(kind, kernel))
    costs = TopologyCosts([TABLE], machine(nic=2, host=2), 64.0, "adam")
    together = costs.price(shard(kind, kernel))
    assert together.shared is not None
    assert together.total[0] == pytest.approx(alone.total[0])
    assert 0.0 < together.shared[0].sum() <= together.total[0]
    seconds = rank_seconds(costs, np.array([0]), together)
    assert seconds[0] == pytest.approx(together.total[0])
    assert seconds[1] == pytest.approx(together.shared[0].sum())
    assert (seconds[2:] == 0.0).all()


def test_faster_ranks_are_a_class_of_their_own() -> None:
    """A shard takes less time on a rank with faster memory, and the model says which ranks those are."""
    costs = TopologyCosts([TABLE], machine(fast=2.0), 64.0)
    assert costs.classes.tolist() == [0, 0, 1, 1]
    one = shard("table_wise", "fused")
    slow = Shards(one.table, one.kind, one.kernel, one.rows, one.dim, one.load_factor, np.array([1]))
    assert costs.price(one).fwd_compute[0] == pytest.approx(costs.price(slow).fwd_compute[0] / 2)


def _of(name: str) -> EmbeddingMachine:
    topology = load_topology(name)
    domains, gpus = [], topology.gpus
    for gpu in gpus:
        node, part = gpu.split("/")
        numa = next(each.numa for each in topology.node_of[node].machine.gpus if each.name == part)
        domains.append(f"{node}/{numa}")
    local = len(topology.nodes[0].machine.gpus)
    return embedding_machine(Router(topology), gpus, domains, local, load_calibration())


@pytest.mark.parametrize(
    ("name", "sharing", "low", "high"), [("dgx-a100", 2, 7.2e9, 8.8e9), ("dgx1-v100", 2, 3.2e9, 4.2e9)]
)
def test_random_rows_over_pcie_reach_what_was_measured(
    name: str, sharing: int, low: float, high: float
) -> None:
    """Two GPUs of a PCIe switch share its link: 8 GB/s a GPU on DGX A100, 3.4 to 4 on DGX-1 (UGache)."""
    fetch = _of(name).fetch
    assert (np.bincount(fetch.group) == sharing).all()
    assert (1.0 / fetch.seconds / sharing > low).all()
    assert (1.0 / fetch.seconds / sharing < high).all()


def test_an_oversubscribed_leaf_is_shared_by_its_ranks() -> None:
    """With uplinks for a quarter of the ports, all 32 ranks below a leaf wait for the same resource."""
    outside = _of("dgx-h100-x16-oversubscribed").outside
    assert (np.bincount(outside.group) == 32).all()
    assert 1.0 / outside.seconds[0] / 32 == pytest.approx(15e9, rel=0.1)


def test_coherent_links_fetch_rows_faster_than_pcie() -> None:
    """A GPU of a GH200 gets random rows of host memory several times as fast as one of a DGX H100."""
    assert _of("gh200-quad").fetch.seconds[0] < _of("dgx-h100").fetch.seconds[0] / 4
