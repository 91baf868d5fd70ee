"""Judge the placement of embedding tables against the recorded plans of a public planner.

``python -m benchmarks.embedding_sharding FOLDER [--json OUT]`` places the tables of every case below FOLDER
under the public planner's own cost model, passes each plan to the judge, prints one table and writes the
figures. ``--wide`` also places them with free column widths.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import planner
from planner.costs.embeddings import AccessStatistics, FlatCluster, MissCurve, OptionSpace, TorchRecCosts
from planner.errors import PlannerError
from planner.placement.tables import TablePlan, TableProblem, check_tables
from planner.solve.budget import Budget
from planner.solve.tables import Effort, solve_tables
from planner.workload.tables import read_tables

GIB = float(2**30)
MISS = "miss_rate_at_"
SAME = 1e-6
"""Relative difference that the rounding of recorded costs explains."""


@dataclass(frozen=True)
class Case:
    """One case: its problem, and the costs that the reference reached, s."""

    name: str
    problem: TableProblem
    default: float | None
    best: float | None


@dataclass(frozen=True)
class Row:
    """One placed case; times in s."""

    case: Case
    plan: TablePlan | None
    cpu: float
    wide: TablePlan | None = None
    wide_cpu: float = 0.0
    failure: str = ""


def read_case(folder: Path, *, wide: bool = False) -> Case:
    """Read a case of the documented form."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    if case.get("pooled") is False:
        raise PlannerError(f"{folder}: only pooled tables are priced")
    machine = case["topology"]
    room = int(machine["hbm_cap_bytes"] * (1.0 - machine.get("hbm_reserved_fraction", 0.0)))
    cluster = FlatCluster(
        machine["world_size"],
        machine["local_world_size"],
        room,
        machine["ddr_cap_bytes_per_rank"],
        machine["hbm_mem_bw_GiB_s"] * GIB,
        machine["hbm_to_ddr_mem_bw_GiB_s"] * GIB,
        machine["intra_host_bw_GiB_s"] * GIB,
        machine["inter_host_bw_GiB_s"] * GIB,
    )
    dtype = case.get("dtype", "fp32")
    tables = [table.model_copy(update={"dtype": dtype}) for table in read_tables(folder / "tables.csv")]
    statistics = _read_statistics(folder / "cache_stats.csv")
    factors = tuple(next(iter(statistics.values())).misses.share.tolist()) if statistics else (0.2,)
    costs = TorchRecCosts(
        tables,
        cluster,
        case["local_batch"],
        case.get("optimizer", "none"),
        bool(case.get("weighted", False)),
        prefetch=bool(case.get("offload", False)),
        statistics=statistics,
    )
    space = OptionSpace(
        kernels=("dense", "fused")
        if case.get("hbm_kernels_only")
        else ("dense", "fused", "fused_uvm", "fused_uvm_caching"),
        min_partition=case.get("cw_min_partition", 128),
        free_widths=wide,
        load_factors=factors,
    )
    ranks = cluster.world_size
    pools = (cluster.host_capacity,) * ranks
    problem = TableProblem(costs, space, (room,) * ranks, tuple(range(ranks)), pools)
    return Case(folder.name, problem, *_recorded(folder / "reference_results.json"))


def _read_statistics(path: Path) -> dict[str, AccessStatistics]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {}
    for row in rows:
        points = sorted(
            (float(key.removeprefix(MISS)), float(row[key])) for key in row if key.startswith(MISS)
        )
        shares, misses = np.array(points).T
        distinct = float(row["expected_unique_lookups_per_global_batch"])
        found[row["table"]] = AccessStatistics(distinct, MissCurve(shares, misses))
    return found


def _recorded(path: Path) -> tuple[float | None, float | None]:
    """Return the cost of the public planner's default mode and of its best one, emulated runs included."""
    if not path.is_file():
        return None, None
    modes = json.loads(path.read_text(encoding="utf-8")).get("torchrec_planner", {})
    costs: dict[str, float] = {}
    for mode, result in modes.items():
        ways = [result, *(part for part in result.values() if isinstance(part, dict))]
        found = [way["max_rank_cost_ms"] / 1e3 for way in ways if way.get("max_rank_cost_ms")]
        if found:
            costs[mode] = min(found)
    return costs.get("default"), min(costs.values(), default=None)


def judge(folder: Path, *, wide: bool = False, seed: int = 0) -> Row:
    """Place the tables of one case; a plan that the judge refuses is a failure."""
    case = read_case(folder)
    plan, cpu, failure = _place(case, seed)
    if not wide or failure:
        return Row(case, plan, cpu, failure=failure)
    wider, wide_cpu, failure = _place(read_case(folder, wide=True), seed)
    return Row(case, plan, cpu, wider, wide_cpu, failure)


def _place(case: Case, seed: int) -> tuple[TablePlan | None, float, str]:
    started = time.process_time()
    try:
        plan = solve_tables(case.problem, Budget(seconds=600.0, seed=seed), Effort())
    except PlannerError as failure:
        return None, time.process_time() - started, str(failure)
    cpu = time.process_time() - started
    problems = check_tables(case.problem, plan)
    return (None, cpu, problems[0]) if problems else (plan, cpu, "")


def run(folder: Path, *, wide: bool = False, only: str = "", seed: int = 0) -> list[Row]:
    """Judge every case of a folder, whose cases may lie in ``cases/``."""
    paths = sorted(path.parent for path in folder.glob("**/case.json") if only in path.parent.name)
    if not paths:
        raise PlannerError(f"{folder} holds no case (NAME/case.json)")
    return [judge(path, wide=wide, seed=seed) for path in paths]


def report(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the figures as a document."""
    rows = list(rows)
    ratios: dict[str, list[float]] = {"default": [], "best": []}
    worse = []
    for row in rows:
        for name, reference in (("default", row.case.default), ("best", row.case.best)):
            if reference is not None and row.plan is not None:
                ratios[name].append(reference / row.plan.cost)
        best = row.case.best
        if row.plan is None or (best is not None and row.plan.cost > best * (1.0 + SAME)):
            worse.append(row.case.name)
    summary = {
        "cases": len(rows),
        "failed": sum(bool(row.failure) for row in rows),
        "geomean_vs_default": _geomean(ratios["default"]),
        "geomean_vs_best": _geomean(ratios["best"]),
        "worse_than_best": worse,
        "max_gap": max((row.plan.gap for row in rows if row.plan is not None), default=None),
        "cpu_seconds": sum(row.cpu + row.wide_cpu for row in rows),
    }
    document = {"benchmark": "embedding_sharding", "version": planner.__version__}
    return document | {"rows": [_figures(row) for row in rows], "summary": summary}


def _figures(row: Row) -> dict[str, Any]:
    plan = row.plan
    figures: dict[str, Any] = {
        "case": row.case.name,
        "cost_ms": plan.cost * 1e3 if plan else None,
        "bound_ms": plan.bound * 1e3 if plan else None,
        "gap": plan.gap if plan else None,
        "status": plan.status if plan else None,
        "cpu_seconds": row.cpu,
        "reference": {
            "default": row.case.default * 1e3 if row.case.default is not None else None,
            "best": row.case.best * 1e3 if row.case.best is not None else None,
        },
    }
    if row.wide is not None:
        wide = row.wide
        figures["wide"] = {
            "cost_ms": wide.cost * 1e3,
            "bound_ms": wide.bound * 1e3,
            "gap": wide.gap,
            "cpu_seconds": row.wide_cpu,
        }
    return figures | ({"failure": row.failure} if row.failure else {})


def _geomean(ratios: list[float]) -> float | None:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def table(rows: Iterable[Row]) -> str:
    """Return the figures as text, one case a line."""
    head = f"{'case':30} {'cost ms':>10} {'bound ms':>10} {'gap':>8} {'CPU s':>7} {'default':>9} {'best':>9}"
    lines = [f"{head} {'wide ms':>9} {'wide gap':>8} {'CPU s':>7}"]
    for row in rows:
        plan, wide = row.plan, row.wide
        parts = [f"{row.case.name:30}"]
        parts.append(
            f"{plan.cost * 1e3:10.4f} {plan.bound * 1e3:10.4f} {plan.gap:8.3%}" if plan else f"{'-':>30}"
        )
        parts.append(f"{row.cpu:7.2f}")
        parts.extend(
            f"{cost * 1e3:9.4f}" if cost else f"{'-':>9}" for cost in (row.case.default, row.case.best)
        )
        parts.append(f"{wide.cost * 1e3:9.4f} {wide.gap:8.3%} {row.wide_cpu:7.2f}" if wide else "")
        lines.append(f"{' '.join(parts)} {row.failure}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.embedding_sharding", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="folder of cases")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--wide", action="store_true", help="place with free column widths as well")
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    options = parser.parse_args(arguments)
    rows = run(options.folder, wide=options.wide, only=options.only, seed=options.seed)
    document = report(rows)
    print(table(rows))
    summary = document["summary"]
    print(
        f"{summary['cases']} cases, worse than the best reference on {len(summary['worse_than_best'])}, "
        f"{summary['cpu_seconds']:.1f} CPU s"
    )
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
