"""The joint search over CPU stages, GPU sharing, slices, batching, routing and memory modes.

``python -m benchmarks.hybrid_search [--seconds N] [--json OUT]`` solves the pipeline of twelve stages on a
machine with 8 GPUs and 8 NUMA domains, slices allowed, and the multimodal ensemble on four hosts. It prints
objective, bound and gap, and the CPU time of the whole search; every plan passes the judge before it counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from planner import __version__
from planner.costs import load_calibration
from planner.placement import EnsemblePlan, EnsembleProblem, check_job, make_problem
from planner.solve.budget import Budget
from planner.solve.ensemble import solve_ensemble
from planner.topology import load_topology
from planner.workload import load_workload

STUDY = ("hybrid-study", "dgx-a100")
HOSTS = ("riscv-sg2044-pcie5", "riscv-nvlink-fusion", "dgx-h100", "gh200-dual")
WORKERS = 2
TARGET = 0.02


@dataclass(frozen=True)
class Row:
    """One solve: objective and bound, s; time of the CPUs and of the clock, s."""

    case: str
    stages: int
    gpus: int
    domains: int
    choices: int
    objective: float
    bound: float
    gap: float
    cpu_seconds: float
    seconds: float
    host_stages: str
    broken: int


def rows(limit: float) -> Iterator[Row]:
    """Yield a row per machine."""
    yield solved(*STUDY, limit)
    for host in HOSTS:
        yield solved("multimodal-ensemble", host, limit)


def solved(workload: str, topology: str, limit: float) -> Row:
    """Return the figures of one solve."""
    resolved = load_workload(workload).jobs[0]
    problem = make_problem(resolved.job, resolved.model, load_topology(topology), load_calibration())
    assert isinstance(problem, EnsembleProblem)
    clock, start = time.process_time(), time.monotonic()
    found = solve_ensemble(problem, Budget(seconds=limit, workers=WORKERS), explain=False)
    used, waited = time.process_time() - clock, time.monotonic() - start
    plan = found.plan
    assert isinstance(plan, EnsemblePlan)
    hosted = ", ".join(dict.fromkeys(pool.stage for pool in plan.pools))
    return Row(
        f"{workload} on {topology}", len(problem.stages), problem.num_gpus, len(problem.domains),
        found.evaluated, found.value, found.bound, found.gap, used, waited, hosted,
        len(check_job(problem, plan)),
    )  # fmt: skip


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of each search")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = list(rows(arguments.seconds))
    for row in found:
        print(
            f"{row.case:44} {row.choices:7,} choices  p99 {row.objective * 1e3:8.3f} ms  "
            f"bound {row.bound * 1e3:8.3f} ms  gap {row.gap:6.2%}  CPU {row.cpu_seconds:6.1f} s  "
            f"clock {row.seconds:6.1f} s  on the host: {row.host_stages}"
        )
    summary = {
        "worst_gap": max(row.gap for row in found),
        "within_target": sum(row.gap <= TARGET for row in found) / len(found),
        "broken_rules": sum(row.broken for row in found),
    }
    print(json.dumps(summary))
    if arguments.json is not None:
        document = {
            "benchmark": "hybrid_search", "version": __version__,
            "rows": [asdict(row) for row in found], "summary": summary,
        }  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
