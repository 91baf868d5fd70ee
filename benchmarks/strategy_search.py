"""All training strategies with proof: ``python -m benchmarks.strategy_search [--json OUT] [--only CASE]``.

Each case is searched in a process of its own, for its peak memory. ``configurations`` counts the legal
strategies that the proof covers, before their placements: degrees and switches, not layer splits or rank
orders. CPU seconds are those of enumeration, pricing, visits and proof.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from planner import __version__
from planner.placement import TrainingProblem, make_problem
from planner.solve.budget import Budget
from planner.solve.degrees import configurations, strategies
from planner.solve.training import TrainingSearch, search_training
from planner.study.inputs import Sources, load_documents
from planner.workload import Degrees, TrainingJob

PLAIN = Degrees(
    cp=[1],
    ep=[1],
    sharding=["none", "optimizer"],
    sequence_parallel=[False],
    recompute=["none", "selective", "full"],
)
OFFLOAD = Degrees(offload=["none", "optimizer", "activations", "weights"])
MOST_WALL_SECONDS = 300.0
PRICED = 200_000
"""Strategies that are priced, without any search, to measure the rate of evaluation."""


@dataclass(frozen=True)
class Case:
    """A job on a cluster, and the limits: CPU seconds and bytes."""

    topology: str
    workload: str
    degrees: Degrees
    seconds: float
    most_bytes: float = float("inf")


CASES = {
    "gpt3-plain": Case("dgx-a100-x64", "gpt3-175b-training", PLAIN, 2.0),
    "gpt3-all": Case("dgx-a100-x64", "gpt3-175b-training", Degrees(), 60.0),
    "gpt3-offload": Case("dgx-a100-x64", "gpt3-175b-training", OFFLOAD, 60.0),
    "llama3-405b": Case("dgx-h100-x2048", "llama3-405b-training", Degrees(), 30.0, 2 * 2.0**30),
    "deepseek-v3": Case("dgx-h800-x256", "deepseek-v3-training", Degrees(), 30.0),
}
"""``gpt3-offload`` has no limit of its own; it is held to that of the space without offload."""


@dataclass(frozen=True)
class Row:
    """One search; ``evaluated_per_cpu_second`` is the rate of pricing alone, time and memory with a bound."""

    case: str
    configurations: int
    cpu_seconds: float
    configurations_per_cpu_second: float
    evaluated_per_cpu_second: float
    visited: int
    peak_mib: float
    status: str
    gap: float
    step_time: float
    within: bool


def problem_of(case: Case) -> TrainingProblem:
    """Return the problem of a case."""
    documents = load_documents(Sources(case.topology, case.workload))
    resolved = documents.workload.jobs[0]
    assert isinstance(resolved.job, TrainingJob)
    job = resolved.job.model_copy(update={"degrees": case.degrees})
    problem = make_problem(job, resolved.model, documents.topology, documents.calibration)
    assert isinstance(problem, TrainingProblem)
    return problem


def search_case(name: str) -> Row:
    """Search one case; in this process."""
    case = CASES[name]
    problem = problem_of(case)
    started = time.process_time()
    search = search_training(problem, Budget(seconds=MOST_WALL_SECONDS))
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    count = configurations(problem, strategies(problem))
    gap = 1.0 - search.bound / search.incumbent if search.best else float("inf")
    return Row(
        name, count, seconds, count / seconds, evaluation_rate(problem), search.visited, peak / 2**20,
        "optimal" if gap <= 1e-6 else "feasible", max(gap, 0.0), search.incumbent,
        gap <= 1e-6 and seconds <= case.seconds and peak <= case.most_bytes,
    )  # fmt: skip


def evaluation_rate(problem: TrainingProblem) -> float:
    """Return how many strategies, each with a way to span the machine, are priced in a CPU second."""
    many = strategies(problem)
    search = TrainingSearch(problem, Budget(seconds=MOST_WALL_SECONDS))
    some = search.fitting(many.take(np.arange(0, len(many), max(1, len(many) // PRICED))))
    started = time.process_time()
    search.evaluate(some)
    return search.evaluated / (time.process_time() - started)


def table(rows: list[Row]) -> str:
    """Return the rows as a text table."""
    head = f"{'case':14}{'configurations':>15}{'CPU s':>8}{'per CPU s':>12}{'priced per CPU s':>18}"
    lines = [head + f"{'MiB':>7}  {'status':10}{'gap':>8}{'step s':>9}"]
    lines += [
        f"{row.case:14}{row.configurations:15,}{row.cpu_seconds:8.2f}{row.configurations_per_cpu_second:12,.0f}"
        f"{row.evaluated_per_cpu_second:18,.0f}{row.peak_mib:7.0f}  {row.status:10}{row.gap:8.2%}"
        f"{row.step_time:9.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Search the cases, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--only", choices=sorted(CASES), action="append", help="search only this case")
    arguments = parser.parse_args()
    names = [name for name in CASES if not arguments.only or name in arguments.only]
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        rows = list(pool.map(search_case, names))
    sys.stdout.write(table(rows) + "\n")
    within = sum(row.within for row in rows)
    if arguments.json is not None:
        document = {
            "benchmark": "strategy_search",
            "version": __version__,
            "rows": [asdict(row) for row in rows],
            "summary": {"cases": len(rows), "within_limits": within},
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{within} of {len(rows)} proven within their limits\n")
    raise SystemExit(0 if within == len(rows) else 1)


if __name__ == "__main__":
    main()
