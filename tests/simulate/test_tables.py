"""A simulated iteration of embedding tables against the sums of the cost model and closed forms."""

import numpy as np
import pytest

from planner.costs import load_calibration
from planner.costs.embeddings import TopologyCosts, embedding_machine, row_parts
from planner.placement.tables import TablePlacement
from planner.simulate.tables import Seats, SimulatedIteration, simulate_tables
from planner.topology import Router, load_topology
from planner.workload.tables import EmbeddingTable

CALIBRATION = load_calibration()
TABLES = [
    EmbeddingTable(name="a", rows=50_000_000, dim=128, pooling=20.0, skew=1.05),
    EmbeddingTable(name="b", rows=1_000_000, dim=64, pooling=5.0, skew=0.9),
]


def seats(name: str) -> Seats:
    topology = load_topology(name)
    numa = {
        f"{node.name}/{gpu.name}": f"{node.name}/{gpu.numa}"
        for node in topology.nodes
        for gpu in node.machine.gpus
    }
    return Seats(Router(topology), topology.gpus, [numa[gpu] for gpu in topology.gpus], CALIBRATION)


def costs_on(place: Seats, *, training: bool = True) -> TopologyCosts:
    local = len(place.router.topology.nodes[0].machine.gpus)
    machine = embedding_machine(place.router, place.gpus, place.domains, local, CALIBRATION)
    return TopologyCosts(TABLES, machine, 8192.0, "rowwise-adagrad", training)


def by_rows(table: EmbeddingTable, ranks: int, kernel: str, factor: float = 0.0) -> TablePlacement:
    return TablePlacement.model_validate(
        {
            "table": table.name, "kind": "row_wise", "kernel": kernel, "load_factor": factor,
            "columns": (table.dim,), "rows": row_parts(table.rows, ranks), "ranks": tuple(range(ranks)),
        }
    )  # fmt: skip


def whole(table: EmbeddingTable, rank: int, kernel: str = "fused") -> TablePlacement:
    return TablePlacement.model_validate(
        {
            "table": table.name, "kind": "table_wise", "kernel": kernel,
            "columns": (table.dim,), "rows": (table.rows,), "ranks": (rank,),
        }
    )  # fmt: skip


def priced(costs: TopologyCosts, placements: list[TablePlacement]) -> float:
    """Return the busiest rank of the cost model, s."""
    from planner.costs.embeddings import OptionSpace
    from planner.placement.tables import TableProblem, table_loads

    ranks = costs.world_size
    problem = TableProblem(costs, OptionSpace(), (10**12,) * ranks, (0,) * ranks, (10**13,))
    return float(table_loads(problem, placements).seconds.max())


@pytest.mark.parametrize("name", ["dgx-a100", "dgx-h100", "gh200-quad", "riscv-nvlink-fusion", "pcie-4090x8"])
@pytest.mark.parametrize(
    ("kernel", "factor"), [("fused", 0.0), ("fused_uvm", 0.0), ("fused_uvm_caching", 0.1)]
)
def test_an_even_placement_takes_what_the_cost_model_says(name: str, kernel: str, factor: float) -> None:
    """With all ranks alike, the simulation takes the price plus latencies."""
    place = seats(name)
    costs = costs_on(place)
    placements = [by_rows(table, costs.world_size, kernel, factor) for table in TABLES]
    found = simulate_tables(costs, placements, place)
    assert found.seconds >= priced(costs, placements) * 0.99
    assert found.seconds <= priced(costs, placements) * (1.6 if name == "pcie-4090x8" else 1.05) + 1e-4


def test_one_rank_is_a_closed_form() -> None:
    """A single GPU exchanges nothing: the iteration is the sum of its kernels and the dense part."""
    place = seats("gh200-single")
    costs = costs_on(place)
    placements = [whole(table, 0) for table in TABLES]
    found = simulate_tables(costs, placements, place, 1e-3)
    assert found.seconds == pytest.approx(priced(costs, placements) + 1e-3, rel=1e-9)
    assert found.busy[0] == pytest.approx(found.seconds)


def _uneven(*, prefetch: bool) -> SimulatedIteration:
    place = seats("dgx-h100")
    costs = costs_on(place)
    placements = [by_rows(TABLES[0], 8, "fused_uvm_caching", 0.02), whole(TABLES[1], 3)]
    return simulate_tables(costs, placements, place, 5e-3, prefetch=prefetch)


def test_prefetching_hides_the_cache_behind_the_rest() -> None:
    """Rows for the next batch move while this one is computed: never slower, here faster."""
    waiting, ahead = _uneven(prefetch=False), _uneven(prefetch=True)
    assert ahead.seconds < waiting.seconds


def test_serving_has_no_gradients() -> None:
    """An iteration of inference ends with the dense part."""
    place = seats("dgx-h100")
    placements = [by_rows(TABLES[0], 8, "fused"), whole(TABLES[1], 3)]
    train = simulate_tables(costs_on(place), placements, place, 1e-3)
    serve = simulate_tables(costs_on(place, training=False), placements, place, 1e-3)
    assert serve.seconds < train.seconds
    assert "update" not in serve.finish
    assert serve.finish["dense"] == pytest.approx(serve.seconds)


def test_ranks_that_share_a_host_link_wait_for_each_other() -> None:
    """Tables in host memory on the two GPUs of one PCIe switch take longer than on two switches."""
    place = seats("dgx-a100")
    costs = costs_on(place)
    twins = [whole(TABLES[0], 0, "fused_uvm"), whole(TABLES[1], 1, "fused_uvm")]
    apart = [whole(TABLES[0], 0, "fused_uvm"), whole(TABLES[1], 2, "fused_uvm")]
    near, far = (simulate_tables(costs, placements, place) for placements in (twins, apart))
    assert near.seconds > far.seconds * 1.02
    assert priced(costs, twins) > priced(costs, apart) * 1.02


def test_no_link_is_used_beyond_its_rate() -> None:
    """Every link's use lies between nothing and all of it, and the ranks' busy time within the iteration."""
    found = _uneven(prefetch=True)
    assert found.links
    assert all(0.0 <= link.mean <= link.peak <= 1.0 for link in found.links)
    assert (found.busy <= found.seconds * (1 + 1e-9)).all()
    assert np.isclose(found.finish["end"], found.seconds)
