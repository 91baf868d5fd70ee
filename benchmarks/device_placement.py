"""Judge the placement of operator graphs: objective, bound and time against what is known.

``python -m benchmarks.device_placement FOLDER [--json OUT]`` solves every graph of FOLDER/throughput-inputs,
with contiguous stages and freely, and every graph of FOLDER/latency-inputs. Known values are read from
FOLDER/values.json, where there is one. Times are in the unit of the files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import planner
from planner.errors import PlannerError
from planner.placement.operators import Kind, broken_rules, operator_problem
from planner.solve.budget import Budget
from planner.solve.operators import solve_operators
from planner.workload.operator_files import read_operators

ROUNDING = 5.01e-5
"""Half a unit of the last digit of the known values."""


@dataclass(frozen=True)
class Limits:
    """Wall time, s, for each kind of objective, the workers of the solver, and its seed."""

    contiguous: float = 10.0
    free: float = 60.0
    latency: float = 120.0
    workers: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Known:
    """What is known of an instance: the best value, a proven bound, and whether the value is an optimum."""

    value: float | None = None
    bound: float | None = None
    optimal: bool = False


@dataclass(frozen=True)
class Row:
    """One solved objective of one instance; ``value`` and ``bound`` are None where there is no plan."""

    instance: str
    kind: Kind
    value: float | None
    bound: float | None
    seconds: float
    cpu_seconds: float
    known: Known
    failure: str = ""

    @property
    def proven(self) -> bool:
        """Whether the plan is proven to be the best."""
        return self.value is not None and self.bound is not None and self.bound >= self.value * (1 - 2e-6)

    @property
    def as_good(self) -> bool:
        """Whether the value is at least as good as the known one, to the digits that are known."""
        return self.value is not None and (
            self.known.value is None or self.value <= self.known.value + ROUNDING
        )

    @property
    def bound_as_high(self) -> bool:
        """Whether the bound is at least as high as the known one, to the digits that are known."""
        return self.bound is not None and (
            self.known.bound is None or self.bound >= self.known.bound - ROUNDING
        )

    @property
    def wrong(self) -> bool:
        """Whether the row has no plan, a bound above a value, or a value below a known optimum."""
        if self.value is None or self.bound is None or self.bound > self.value * (1 + 1e-9):
            return True
        if self.known.value is None:
            return False
        too_high = self.bound > self.known.value + ROUNDING
        return too_high or (self.known.optimal and self.value < self.known.value - ROUNDING)


def judge(path: Path, kind: Kind, known: Known, limits: Limits) -> Row:
    """Solve one objective of one instance and have its plan confirmed."""
    instance = f"{path.parent.name}/{path.stem}"
    problem = operator_problem(read_operators(path), kind)
    seconds = {"contiguous": limits.contiguous, "free": limits.free, "latency": limits.latency}[kind]
    started, cpu = time.perf_counter(), time.process_time()
    try:
        found = solve_operators(problem, Budget(seconds, limits.seed, workers=limits.workers))
    except PlannerError as error:
        spent = time.perf_counter() - started, time.process_time() - cpu
        return Row(instance, kind, None, None, *spent, known, str(error))
    spent = time.perf_counter() - started, time.process_time() - cpu
    broken = broken_rules(problem, found.assignment)
    return Row(instance, kind, None if broken else found.value, found.bound, *spent, known, "; ".join(broken))


def run(folder: Path, limits: Limits, only: str = "") -> Iterator[Row]:
    """Judge every instance of a folder whose name holds ``only``."""
    values = _known_values(folder / "values.json")
    paths = [
        path for part in ("throughput", "latency") for path in sorted(folder.glob(f"{part}-inputs/**/*.json"))
    ]
    if not paths:
        raise PlannerError(f"{folder} holds no graph (throughput-inputs/**/*.json, latency-inputs/**/*.json)")
    for path in paths:
        part = "latency" if "latency-inputs" in path.parts else "throughput"
        kinds: tuple[Kind, ...] = ("latency",) if part == "latency" else ("contiguous", "free")
        stated = values.get(part, {}).get(f"{path.parent.name}/{path.stem}", {})
        for kind in kinds:
            if only in f"{path.parent.name}/{path.stem}:{kind}":
                yield judge(path, kind, known_of(kind, stated), limits)


def known_of(kind: Kind, stated: dict[str, Any]) -> Known:
    """Return what the table of values states of one objective."""
    if kind == "contiguous":
        return Known(stated.get("contiguous_optimum"), stated.get("contiguous_optimum"), optimal=True)
    if kind == "free":
        proven = bool(stated.get("noncontiguous_proven"))
        return Known(stated.get("noncontiguous_best"), stated.get("noncontiguous_bound"), proven)
    return Known(stated.get("best_found"), stated.get("lower_bound"), bool(stated.get("proven")))


def _known_values(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def summary(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the figures over all rows."""
    by_kind: dict[str, list[Row]] = {"contiguous": [], "free": [], "latency": []}
    for row in rows:
        by_kind[row.kind].append(row)
    everyone = [row for group in by_kind.values() for row in group]
    return {
        "contiguous_proven": sum(row.proven and row.as_good for row in by_kind["contiguous"]),
        "contiguous_total": len(by_kind["contiguous"]),
        "contiguous_slowest_s": max((row.seconds for row in by_kind["contiguous"]), default=0.0),
        "free_at_least_as_good": sum(row.as_good for row in by_kind["free"]),
        "free_total": len(by_kind["free"]),
        "free_bound_as_high": sum(row.bound_as_high for row in by_kind["free"]),
        "free_proven": sum(row.proven for row in by_kind["free"]),
        "free_worst_excess": _worst_excess(by_kind["free"]),
        "latency_at_least_as_good": sum(row.as_good for row in by_kind["latency"]),
        "latency_total": len(by_kind["latency"]),
        "latency_worst_excess": _worst_excess(by_kind["latency"]),
        "wrong": sum(row.wrong for row in everyone),
        "seconds": sum(row.seconds for row in everyone),
        "cpu_seconds": sum(row.cpu_seconds for row in everyone),
    }


def _worst_excess(rows: Iterable[Row]) -> float:
    """Return how much, as a share, the worst value is above the known one; 1 where there is no value."""
    excess = [1.0 if r.value is None else r.value / r.known.value - 1.0 for r in rows if r.known.value]
    return max(excess, default=0.0)


def report(rows: list[Row]) -> dict[str, Any]:
    """Return the figures as a document."""
    lines = [
        {
            "case": f"{row.instance}:{row.kind}",
            "metric": "objective",
            "instance": row.instance,
            "kind": row.kind,
            "value": row.value,
            "bound": row.bound,
            "proven": row.proven,
            "seconds": row.seconds,
            "cpu_seconds": row.cpu_seconds,
            "reference": row.known.value,
            "known_value": row.known.value,
            "known_bound": row.known.bound,
            "wrong": row.wrong,
        }
        | ({"failure": row.failure} if row.failure else {})
        for row in rows
    ]
    return {
        "benchmark": "device_placement",
        "version": planner.__version__,
        "rows": lines,
        "summary": summary(rows),
    }


HEADER = (
    f"{'instance':38} {'kind':10} {'value':>11} {'bound':>11} {'known':>11} {'known bound':>11} "
    f"{'s':>7} {'CPU s':>7}"
)


def line(row: Row) -> str:
    """Return one row of the table."""
    numbers = (row.value, row.bound, row.known.value, row.known.bound)
    cells = " ".join(f"{'-' if number is None else format(number, '.4f'):>11}" for number in numbers)
    marks = "proven" if row.proven else "" if row.as_good else "worse"
    text = f"{row.instance:38} {row.kind:10} {cells} {row.seconds:7.2f} {row.cpu_seconds:7.2f}"
    return f"{text} {marks} {'WRONG' if row.wrong else ''} {row.failure}".rstrip()


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.device_placement", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with throughput-inputs and latency-inputs")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--limit-contiguous", type=float, default=10.0, help="seconds for each contiguous plan"
    )
    parser.add_argument("--limit-free", type=float, default=60.0, help="seconds for each free assignment")
    parser.add_argument("--limit-latency", type=float, default=120.0, help="seconds for each latency plan")
    parser.add_argument("--only", default="", help="solve only what holds this text in INSTANCE:KIND")
    parser.add_argument("--workers", type=int, default=2, help="workers of the solver")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    options = parser.parse_args(arguments)
    limits = Limits(
        options.limit_contiguous, options.limit_free, options.limit_latency, options.workers, options.seed
    )
    rows = []
    print(HEADER)
    for row in run(options.folder, limits, options.only):
        rows.append(row)
        print(line(row), flush=True)
    document = report(rows)
    for name, figure in document["summary"].items():
        print(f"{name}: {figure:.6g}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
