"""Speed of the serving simulation: requests of recorded traces per CPU second, on one replica.

``python -m benchmarks.serving_speed FOLDER [--json OUT]`` replays every trace of FOLDER that has the columns
of the Azure traces. One replica of Llama 3 70B on eight H100 serves it at its recorded rate, with CPU stages,
copies over the host links, percentiles and the use of all links. Only the simulation is timed, not the plan.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from benchmarks.accuracy import Report
from planner.costs import load_calibration
from planner.errors import PlannerError
from planner.placement import ServingPlan, ServingProblem
from planner.placement.problem import make_problem
from planner.simulate import simulate_serving
from planner.simulate.requests import TRACE_COLUMNS, read_trace
from planner.solve import Budget, solve_job
from planner.topology import load_topology
from planner.workload import Degrees, Lengths, ServingJob, load_workload

TOPOLOGY, WORKLOAD = "dgx-h100", "llama3-70b-serving"
MUST, AIM = 4000.0, 20_000.0
"""Requests per CPU second."""
REPEATS = 3


def one_replica(trace: Path) -> tuple[ServingProblem, ServingPlan, int]:
    """Return a plan of one replica for the lengths and rate of a trace, and how many requests it has."""
    arrivals, prompts, outputs = read_trace(trace, 10**9)
    resolved = load_workload(WORKLOAD).jobs[0]
    job = resolved.job
    if not isinstance(job, ServingJob):
        raise PlannerError(f"{WORKLOAD} does not serve")
    lengths = [
        Lengths(mean=float(sizes.mean()), cv=float(sizes.std() / sizes.mean()))
        for sizes in (prompts, outputs)
    ]
    traffic = job.traffic.model_copy(
        update={
            "process": "trace", "trace": str(trace), "prompt": lengths[0], "output": lengths[1],
            "rate": (len(arrivals) - 1) / float(arrivals[-1] - arrivals[0]),
        }
    )  # fmt: skip
    alone = Degrees(tp=[8], pp=[1], replicas=[1])
    job = job.model_copy(update={"traffic": traffic, "degrees": alone})
    problem = make_problem(job, resolved.model, load_topology(TOPOLOGY), load_calibration())
    solution = solve_job(problem, Budget(), explain=False)
    if not isinstance(problem, ServingProblem) or not isinstance(solution.plan, ServingPlan):
        raise PlannerError("no serving plan came out")
    return problem, solution.plan, len(arrivals)


def report_into(report: Report, folder: Path) -> None:
    """Add the speed on every trace of a folder: the best of some repetitions."""
    speeds = []
    for trace in sorted(folder.glob("*.csv")):
        with trace.open(encoding="utf-8", newline="") as stream:
            if not set(TRACE_COLUMNS) <= set(next(csv.reader(stream), [])):
                continue
        problem, plan, count = one_replica(trace)
        taken = []
        for _ in range(REPEATS):
            started = time.process_time()
            job = simulate_serving(problem, plan, requests=count, trace=trace).job
            taken.append(time.process_time() - started)
        speeds.append(count / min(taken))
        p99 = {name: found.p99 for name, found in job.latency.items()}
        report.add(trace.name, "requests_per_cpu_second", speeds[-1], AIM, must=MUST, requests=count, p99=p99)
    if not speeds:
        raise PlannerError(f"{folder} holds no trace with the columns {', '.join(TRACE_COLUMNS)}")
    report.summary |= {"requests_per_cpu_second": float(np.min(speeds)), "must": MUST, "aim": AIM}


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving_speed", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of traces")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    report = Report("serving_speed")
    report_into(report, options.folder)
    for row in report.rows:
        print(f"{row['case']:44} {row['value']:10.0f} requests per CPU second (must {row['must']:.0f})")
    report.write(options.json)


if __name__ == "__main__":
    main()
