"""When huge embedding tables should lie partly on GPUs and partly in host memory.

``python -m benchmarks.recommender_study [--json OUT]`` places recommenders of several sizes and skews on
machines that differ in the link to host memory, in five ways, simulates an iteration of each on the links of
the machine and prints throughput and cost beside each other:

* ``mixed``: rows on the GPUs, cached there, or in host memory, as the topology model finds best;
* ``host``: all tables in host memory, read in place;
* ``cache``: all tables in host memory behind one cache share for all;
* ``blind``: as the public planner's flat model finds best, on the same machine;
* ``more``: the fewest nodes on which all tables fit GPU memory.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path

from planner.costs import Calibration, load_calibration
from planner.errors import InfeasibleError
from planner.placement import RecommenderProblem, make_problem
from planner.placement.tables import TablePlacement, TablePlan, check_tables, table_loads
from planner.simulate.tables import Seats, simulate_tables
from planner.solve.budget import Budget
from planner.solve.tables import Effort, solve_tables
from planner.topology import Router, Topology, load_topology, resolve
from planner.workload import EmbeddingTable, RecommenderJob

SEARCH = Effort(gap=1e-2, rounds=2, tries=500, proof=0.3, repair=0.1)
CACHE_SHARES = [0.01, 0.03, 0.1, 0.3]
BATCH = 65536
TABLES = ((1, 0.5), (2, 0.3), (5, 0.15), (16, 0.05))
"""Numbers of tables and their shares of all rows together: few hold most, as in published table sets."""
POOLING = (4.0, 10.0, 20.0, 5.0)


@dataclass(frozen=True)
class Site:
    """A machine to place on: name, topology, GPUs that the mixed plan may use, sizes to try.

    Attributes
    ----------
    ratios
        Bytes of all tables over the memory of so many GPUs; the host memory beside them holds the largest.
    """

    name: str
    topology: Topology
    gpus: int
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """One size and skew on one site.

    Attributes
    ----------
    ratio
        Bytes of all tables over the GPU memory of the site's GPUs.
    """

    site: Site
    ratio: float
    skew: float
    mode: str = "training"


@dataclass(frozen=True)
class Row:
    """One way to place a cell; times in s.

    Attributes
    ----------
    cost
        GPU seconds for a million samples: the price of a sample where a GPU with its part of the host costs
        the same in every way.
    flat, topology
        Time of the embeddings under the two cost models.
    simulated, prefetched
        Simulated iteration, and with caches filled for the next batch meanwhile.
    """

    site: str
    mode: str
    ratio: float
    skew: float
    way: str
    gpus: int
    flat: float
    topology: float
    simulated: float
    prefetched: float
    throughput: float
    cost: float
    on_gpu: float
    gap: float


def with_host_link(name: str, rate: float | None) -> Topology:
    """Return a machine whose coherent links to hosts are PCIe of a rate, bytes/s; unchanged for none."""
    whole = load_topology(name)
    if rate is None:
        return whole
    document = whole.document
    machines = []
    for machine in document.machines:
        links = []
        for link in machine.links:
            if link.kind == "nvlink-c2c":
                figure = link.bandwidth.model_copy(update={"value": rate})
                link = link.model_copy(
                    update={"kind": "pcie", "bandwidth": figure, "reverse_bandwidth": figure, "duplex": None,
                            "coherent": False}
                )  # fmt: skip
            links.append(link)
        machines.append(machine.model_copy(update={"links": links}))
    return resolve(document.model_copy(update={"machines": machines, "name": f"{document.name}-pcie"}))


def sites() -> list[Site]:
    """Return the machines of the study: one tray of four GPUs each, all with the same GPUs and NVLink."""
    return [
        Site("PCIe 5 x16", with_host_link("gb200-nvl72", 55.4e9), 4, (1.1,)),
        Site("C2C, GB200", load_topology("gb200-nvl72"), 4, (1.1,)),
        Site("C2C, Fusion RISC-V", load_topology("riscv-nvlink-fusion"), 4, (1.1, 2.0)),
        Site("PCIe 5, RISC-V", with_host_link("riscv-nvlink-fusion", 55.4e9), 4, (1.1, 2.0)),
        Site("PCIe 5, DGX H100", load_topology("dgx-h100-x8"), 8, (1.1, 2.0)),
    ]


def tables_of(total: float, skew: float) -> list[EmbeddingTable]:
    """Return tables of about ``total`` bytes: few hold most of the rows."""
    found = []
    for (count, share), pooling in zip(TABLES, POOLING, strict=True):
        rows = max(64, round(total * share / count / 512.0))
        found += [
            EmbeddingTable(name=f"{rows}-{place}", rows=rows, dim=128, pooling=pooling, skew=skew)
            for place in range(count)
        ]
    return found


def problem_of(cell: Cell, way: str, gpus: int) -> RecommenderProblem:
    """Return the problem of one way to place a cell."""
    tiers = {"host": ["host"], "more": ["gpu"], "cache": ["cached"]}.get(way, ["gpu", "cached", "host"])
    device = cell.site.topology.device(cell.site.topology.gpus[0])
    job = RecommenderJob.model_validate(
        {
            "kind": "recommender", "name": way, "tables": tables_of(
                cell.ratio * cell.site.gpus * device.memory.value, cell.skew
            ),
            "dense": {"flops": 1e8, "parameters": 3e7}, "global_batch": BATCH, "mode": cell.mode,
            "optimizer": "rowwise-adagrad", "costs": "torchrec" if way == "blind" else "topology",
            "tiers": tiers, "cache_shares": CACHE_SHARES, "budget": {"gpus": gpus},
        }
    )  # fmt: skip
    assert not isinstance(job.tables, str)
    made = make_problem(job, tuple(job.tables), cell.site.topology, _calibration())
    assert isinstance(made, RecommenderProblem)
    return made


@cache
def _calibration() -> Calibration:
    return load_calibration()


def place(cell: Cell, way: str) -> tuple[RecommenderProblem, TablePlan] | None:
    """Return a plan, or nothing where the tables fit in no way."""
    gpus = cell.site.gpus
    while gpus <= len(cell.site.topology.gpus):
        problem = problem_of(cell, way, gpus)
        try:
            found = solve_tables(problem.table_problem, Budget(seconds=120.0), SEARCH)
        except InfeasibleError:
            if way != "more":
                return None
            gpus += cell.site.gpus
            continue
        assert not check_tables(problem.table_problem, found)
        return problem, found
    return None


def judge(cell: Cell, way: str) -> Row | None:
    """Place, price under both models, simulate."""
    found = place(cell, way)
    if found is None:
        return None
    problem, plan = found
    flat, own, simulated, prefetched = measures(problem, plan.placements)
    gpus = len(problem.ranks)
    held = sum(
        table.size
        for table, placed in zip(problem.model, plan.placements, strict=True)
        if placed.kernel in ("dense", "fused")
    )
    return Row(
        cell.site.name, cell.mode, cell.ratio, cell.skew, way, gpus, flat, own, simulated, prefetched,
        BATCH / simulated, gpus * simulated / BATCH * 1e6, held / sum(t.size for t in problem.model),
        plan.gap,
    )  # fmt: skip


def measures(
    problem: RecommenderProblem, placements: Sequence[TablePlacement]
) -> tuple[float, float, float, float]:
    """Return the embeddings' time under the flat and the topology model, and two simulated iterations, s."""
    prices = []
    for costs in ("torchrec", "topology"):
        job = problem.job.model_copy(update={"costs": costs})
        inner = replace(problem, job=job).table_problem
        prices.append(float(table_loads(inner, placements).seconds.max()))
    domains = [problem.domain_of(gpu) for gpu in problem.ranks]
    seats = Seats(Router(problem.topology), problem.ranks, domains, problem.calibration)
    runs = [
        simulate_tables(problem.topology_costs, placements, seats, problem.dense_seconds, prefetch=ahead)
        for ahead in (False, True)
    ]
    return prices[0], prices[1], runs[0].seconds, runs[1].seconds


WAYS = ("mixed", "host", "cache", "blind", "more")


def run(cells: Iterable[Cell]) -> Iterator[Row]:
    """Yield all ways of all cells."""
    for cell in cells:
        for way in WAYS:
            row = judge(cell, way)
            if row is not None:
                yield row


def grid(*, quick: bool = False) -> list[Cell]:
    """Return the cells of the study."""
    places = sites()[:3] if quick else sites()
    skews = (1.05,) if quick else (0.6, 1.05, 1.2)
    return [
        Cell(site, ratio, skew)
        for site in places
        for ratio in (site.ratios[:1] if quick else site.ratios)
        for skew in skews
    ]


@dataclass(frozen=True)
class Claim:
    """What mixing brings in one cell: throughput over another way, and cost saved, as ratios."""

    site: str
    ratio: float
    skew: float
    against: str
    speedup: float
    saving: float


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Compare the mixed plan of every cell with each other way."""
    by_cell = {(row.site, row.mode, row.ratio, row.skew, row.way): row for row in rows}
    found = []
    for row in rows:
        mixed = by_cell.get((row.site, row.mode, row.ratio, row.skew, "mixed"))
        if mixed is not None and row.way != "mixed":
            found.append(
                Claim(
                    row.site, row.ratio, row.skew, row.way,
                    mixed.throughput / row.throughput, 1.0 - mixed.cost / row.cost,
                )
            )  # fmt: skip
    return found


@dataclass(frozen=True)
class Flips:
    """Pairs of ways of one cell that a cost model orders unlike the simulation."""

    pairs: int
    flat: int
    topology: int


def flips(rows: Sequence[Row], least: float = 0.02) -> Flips:
    """Count pairs on the same GPUs whose simulated times differ by ``least`` and that a model has reversed.

    Both models are asked for the time of the embeddings; the dense part is the same in a pair.
    """
    pairs = flat = topology = 0
    for left, right in combinations(rows, 2):
        same = (left.site, left.mode, left.ratio, left.skew, left.gpus) == (
            right.site, right.mode, right.ratio, right.skew, right.gpus,
        )  # fmt: skip
        if not same or abs(math.log(left.simulated / right.simulated)) < math.log1p(least):
            continue
        pairs += 1
        first = left.simulated < right.simulated
        flat += (left.flat < right.flat) != first
        topology += (left.topology < right.topology) != first
    return Flips(pairs, flat, topology)


def table(rows: Iterable[Row]) -> str:
    """Return the figures as text."""
    lines = [
        f"{'site':20} {'size':>5} {'skew':>5} {'way':6} {'GPUs':>4} {'ms':>9} {'prefetch':>9} "
        f"{'model ms':>9} {'flat ms':>9} {'Msample/s':>9} {'GPU s/M':>8} {'on GPU':>6}"
    ]
    lines += [
        f"{row.site:20} {row.ratio:5.1f} {row.skew:5.2f} {row.way:6} {row.gpus:4d} "
        f"{row.simulated * 1e3:9.3f} "
        f"{row.prefetched * 1e3:9.3f} {row.topology * 1e3:9.3f} {row.flat * 1e3:9.3f} "
        f"{row.throughput / 1e6:9.2f} {row.cost:8.3f} {row.on_gpu:6.1%}"
        for row in rows
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.recommender_study", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="one size and skew on three machines")
    options = parser.parse_args(arguments)
    rows = []
    print(table(()))
    for row in run(grid(quick=options.quick)):
        rows.append(row)
        print(table([row]).splitlines()[-1], flush=True)
    for claim in claims(rows):
        print(
            f"{claim.site:20} {claim.ratio:5.1f} {claim.skew:5.2f} mixed against {claim.against:6} "
            f"{claim.speedup:6.2f}x throughput, cost {-claim.saving:+.0%}"
        )
    print(f"ranking: {flips(rows)}")
    if options.json:
        document = {"rows": [asdict(row) for row in rows], "claims": [asdict(each) for each in claims(rows)]}
        options.json.write_text(
            json.dumps(document | {"flips": asdict(flips(rows))}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
