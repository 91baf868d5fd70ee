"""Placement of embedding tables against brute force, with bounds that hold and plans that pass the judge."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.embeddings import (
    EmbeddingMachine,
    FlatCluster,
    Kernel,
    Option,
    OptionSpace,
    SharedPath,
    TopologyCosts,
    TorchRecCosts,
    enumerate_options,
    row_parts,
)
from planner.errors import InfeasibleError
from planner.placement.tables import TablePlacement, TableProblem, check_tables, table_loads
from planner.solve.budget import Budget
from planner.solve.tables import Effort, fewest_ranks, lower_bound, solve_tables
from planner.workload.tables import EmbeddingTable

SPACE = OptionSpace(kinds=("data_parallel", "table_wise", "row_wise", "table_row_wise"))
EXACT = Effort(gap=0.0, rounds=2, tries=500, proof=5.0)


def problem(
    tables: list[EmbeddingTable], memory: int = 10**10, space: OptionSpace = SPACE, ranks: int = 4
) -> TableProblem:
    cluster = FlatCluster(ranks, 2, memory, 10**11, 1e12, 3e10, 6e11, 1.25e10)
    costs = TorchRecCosts(tables, cluster, 256.0)
    return TableProblem(costs, space, (memory,) * ranks, tuple(range(ranks)), (10**11,) * ranks)


def drawn(seed: int, count: int) -> list[EmbeddingTable]:
    rng = np.random.default_rng(seed)
    return [
        EmbeddingTable(
            name=f"t{place}",
            rows=int(np.exp(rng.normal(10.0, 2.5))) + 1,
            dim=int(rng.choice([16, 32, 64, 128])),
            pooling=round(float(np.exp(rng.normal(1.5, 1.2))), 1),
        )
        for place in range(count)
    ]


def placed(case: TableProblem, option: Option) -> Iterator[TablePlacement]:
    """Yield every way to place one option."""
    world, local = case.costs.world_size, case.costs.local_size
    table = case.tables[option.table]
    places: list[tuple[int, ...]]
    rows: tuple[int, ...]
    if option.kind == "data_parallel":
        places, rows = [tuple(range(world))], (table.rows,)
    elif option.kind == "row_wise":
        places, rows = [tuple(range(world))], row_parts(table.rows, world)
    elif option.kind == "table_row_wise":
        places = [tuple(range(first, first + local)) for first in range(0, world, local)]
        rows = row_parts(table.rows, local)
    else:
        places, rows = [(rank,) for rank in range(world)], (table.rows,)
    for ranks in places:
        yield TablePlacement(
            table=table.name,
            kind=option.kind,
            kernel=option.kernel,
            columns=(table.dim,),
            rows=rows,
            ranks=ranks,
        )


def best_by_trying_all(case: TableProblem) -> float:
    """Return the smallest busiest rank over all placements, infinite where none fits."""
    ways: list[list[TablePlacement]] = [[] for _ in case.tables]
    for option in enumerate_options(case.tables, case.space):
        ways[option.table].extend(placed(case, option))
    loads = [[table_loads(case, [way]) for way in mine] for mine in ways]
    best = float("inf")
    for combination in itertools.product(*loads):
        if (sum(load.gpu_bytes for load in combination) <= np.array(case.gpu_memory)).all():
            best = min(best, float(np.sum([load.seconds for load in combination], axis=0).max()))
    return best


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from([10**10, 3 * 10**7]))
def test_small_cases_reach_the_optimum(seed: int, memory: int) -> None:
    """Four tables on four ranks cost what trying every placement finds, and the bound says so."""
    case = problem(drawn(seed, 4), memory)
    truth = best_by_trying_all(case)
    if truth == float("inf"):
        with pytest.raises(InfeasibleError):
            solve_tables(case, effort=EXACT)
        return
    plan = solve_tables(case, effort=EXACT)
    assert check_tables(case, plan) == []
    assert plan.cost == pytest.approx(truth, rel=2e-5)
    assert plan.bound <= truth * (1.0 + 1e-9)
    assert plan.status == "optimal"


def test_a_larger_case_is_close_to_its_bound() -> None:
    """Sixty tables on sixteen ranks end within one percent of the proven bound."""
    case = problem(drawn(1, 60), ranks=16)
    plan = solve_tables(case, effort=Effort(gap=0.009, tries=1000, rounds=5, proof=1.0))
    assert check_tables(case, plan) == []
    assert plan.gap < 0.01


def test_a_seed_gives_one_plan() -> None:
    """The same seed and effort give the same plan."""
    case = problem(drawn(3, 12))
    effort = Effort(gap=0.0, rounds=3, tries=500, proof=0.2)
    plans = [solve_tables(case, Budget(seconds=300.0, seed=5), effort) for _ in range(2)]
    assert plans[0] == plans[1]


def test_free_widths_never_cost_more() -> None:
    """A case with more column widths to choose from has an optimum that is no worse."""
    tables = drawn(4, 5)
    kinds = (*SPACE.kinds, "column_wise")
    plans = []
    for free in (False, True):
        case = problem(tables, space=OptionSpace(kinds=kinds, free_widths=free))
        plans.append(solve_tables(case, effort=EXACT))
        assert check_tables(case, plans[-1]) == []
    assert plans[1].cost <= plans[0].cost * (1.0 + 1e-5)


def test_uneven_rows_use_the_room_of_unequal_ranks() -> None:
    """A table that no even cut fits is cut unevenly over ranks with different memory."""
    table = [EmbeddingTable(name="big", rows=1_000_000, dim=32, pooling=2.0)]
    cluster = FlatCluster(4, 2, 10**9, 10**9, 1e12, 3e10, 6e11, 1.25e10)
    rooms = (80_000_000, 20_000_000, 20_000_000, 20_000_000)

    def case(*, uneven: bool) -> TableProblem:
        space = OptionSpace(kinds=("row_wise",), uneven_rows=uneven)
        return TableProblem(TorchRecCosts(table, cluster, 64.0), space, rooms, (0, 1, 2, 3), (10**9,) * 4)

    with pytest.raises(InfeasibleError):
        solve_tables(case(uneven=False), effort=EXACT)
    plan = solve_tables(case(uneven=True), effort=EXACT)
    assert check_tables(case(uneven=True), plan) == []
    assert plan.placements[0].rows[0] > 500_000


def test_tables_that_fit_nowhere_are_named() -> None:
    """A table larger than all memory is refused by name, with what would help."""
    table = [EmbeddingTable(name="huge", rows=10**9, dim=128, pooling=1.0)]
    with pytest.raises(InfeasibleError, match="'huge'"):
        solve_tables(problem(table, 10**9), effort=EXACT)


def test_host_memory_takes_what_gpus_cannot_hold() -> None:
    """With kernels over host memory the same tables fit, and their bytes are counted there."""
    tables = [
        EmbeddingTable(name=f"t{place}", rows=10**6, dim=128, pooling=1.0 + place) for place in range(3)
    ]
    space = OptionSpace(kernels=("dense", "fused", "fused_uvm", "fused_uvm_caching"))
    case = problem(tables, 3 * 10**8, space)
    plan = solve_tables(case, effort=EXACT)
    assert check_tables(case, plan) == []
    assert table_loads(case, plan.placements).host_bytes.sum() > 0


def machine(ranks: int, sharing: int, fast: float) -> EmbeddingMachine:
    """Return ranks of which the first half has faster memory and ``sharing`` share a port and a host link."""
    place = np.arange(ranks)
    gather = np.where(place < ranks // 2, fast, 1.0) * 1e12

    def path(group: np.ndarray, rate: float) -> SharedPath:
        return SharedPath(group, np.full(ranks, 1.0 / rate))

    port, host = path(place // sharing, 2.5e10), path(place // sharing, 2e10)
    return EmbeddingMachine(2, gather, port, path(place, 3e11), port, host, host, np.full(ranks, 64.0))


def on_machine(seed: int, count: int, memory: int, sharing: int, fast: float, ranks: int = 4) -> TableProblem:
    kernels: tuple[Kernel, ...] = ("dense", "fused", "fused_uvm") if memory < 10**9 else ("dense", "fused")
    space = OptionSpace(kinds=SPACE.kinds, kernels=kernels)
    costs = TopologyCosts(drawn(seed, count), machine(ranks, sharing, fast), 256.0, "rowwise-adagrad")
    return TableProblem(costs, space, (memory,) * ranks, tuple(range(ranks)), (10**11,) * ranks)


@settings(max_examples=6)
@given(
    st.integers(0, 10**6),
    st.sampled_from([10**10, 3 * 10**7]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1.0, 3.0]),
)
def test_shared_links_and_unequal_ranks_reach_the_optimum(
    seed: int, memory: int, sharing: int, fast: float
) -> None:
    """Under the topology model three tables on four ranks cost what trying every placement finds."""
    case = on_machine(seed, 3, memory, sharing, fast)
    truth = best_by_trying_all(case)
    plan = solve_tables(case, effort=EXACT)
    assert check_tables(case, plan) == []
    assert plan.cost == pytest.approx(truth, rel=2e-5)
    assert plan.bound <= truth * (1.0 + 1e-9)
    assert lower_bound(case) <= truth * (1.0 + 1e-9)


def test_a_larger_case_with_shared_links_is_close_to_its_bound() -> None:
    """Forty tables on eight ranks that share ports in pairs end within two percent of the bound."""
    case = on_machine(1, 40, 10**10, 2, 1.0, ranks=8)
    plan = solve_tables(case, effort=Effort(gap=0.02, tries=1000, rounds=5, proof=1.0))
    assert check_tables(case, plan) == []
    assert plan.gap < 0.02


def test_the_fewest_ranks_that_keep_a_cost() -> None:
    """The plan keeps the cost, and every smaller number of ranks is shown to be too few."""
    tables = drawn(5, 8)

    def on(ranks: int) -> TableProblem:
        return problem(tables, ranks=ranks)

    limit = solve_tables(on(6), effort=EXACT).cost * 1.0001
    found = fewest_ranks(on, [2, 4, 6, 8], limit, effort=EXACT)
    assert found.plan is not None and found.ranks is not None
    assert found.plan.cost <= limit
    for ranks in (2, 4, 6):
        fits = solve_tables(on(ranks), effort=EXACT).cost <= limit
        assert fits == (ranks >= found.ranks)
    assert found.proven


def test_no_number_of_ranks_keeps_an_impossible_cost() -> None:
    """Where every number is refused by its bound, nothing is returned and that is proven."""
    found = fewest_ranks(lambda ranks: problem(drawn(5, 4), ranks=ranks), [2, 4], 1e-12, effort=EXACT)
    assert found.ranks is None
    assert found.proven
