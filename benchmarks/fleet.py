"""Many jobs on one cluster: ``python -m benchmarks.fleet [--json OUT] [--only NAME]``.

``nodes``: 20 training and serving jobs on 8 DGX A100 and 8 DGX H100. ``slices``: 200 small services on 64
H100 with MIG. Both are drawn with a fixed seed. Every placement passes the judge; the objective is the
weighted mean of each job's own objective over the best that it could get, 100 for a job that is not placed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from planner.costs import load_calibration
from planner.solve import Budget
from planner.study.fleet import plan_fleet
from planner.study.inputs import Documents
from planner.topology import load_topology
from planner.workload import (
    AnyJob,
    Degrees,
    Lengths,
    ModelReference,
    ResolvedJob,
    ServingJob,
    Sharing,
    Slo,
    Traffic,
    TrainingJob,
    Transformer,
    Workload,
    WorkloadDocument,
    model_presets,
)

Spread = Literal["node", "none"]
SECONDS = 60.0
MOST_GAP = {"nodes": 0.02, "slices": 0.05}
SMALL = {
    "llama-3.2-1b": Transformer(
        name="llama-3.2-1b", layers=16, hidden=2048, ffn=8192, heads=32, kv_heads=8, head_dim=64,
        vocab=128256, tied_embeddings=True,
    ),
    "llama-3.2-3b": Transformer(
        name="llama-3.2-3b", layers=28, hidden=3072, ffn=8192, heads=24, kv_heads=8, head_dim=128,
        vocab=128256, tied_embeddings=True,
    ),
}  # fmt: skip
"""Dimensions recalled from the config.json of each model, not checked."""


@dataclass(frozen=True)
class Row:
    """One case: what was found, proven, and what simple rules reach."""

    case: str
    jobs: int
    placed: int
    cost: float
    bound: float
    gap: float
    baselines: dict[str, float]
    shares_priced: int
    wall_seconds: float
    cpu_seconds: float
    within: bool


def transformer(name: str) -> Transformer:
    """Return a model by name."""
    return SMALL[name] if name in SMALL else model_presets()[name]


def service(
    name: str, model: str, rate: float, prompt: float, output: float, slo: Slo, sharing: Sharing
) -> ServingJob:
    """Return a service with log-normal lengths."""
    traffic = Traffic(rate=rate, prompt=Lengths(mean=prompt, cv=0.8), output=Lengths(mean=output, cv=0.8))
    dims = transformer(model)
    return ServingJob(
        kind="serving", name=name, model=ModelReference(dims=dims), traffic=traffic, slo=slo, sharing=sharing,
        degrees=Degrees(replicas=[1], pp=[1]),
    )  # fmt: skip


def training(name: str, model: str, batch: int, sharing: Sharing) -> TrainingJob:
    """Return a training job with the usual degrees."""
    degrees = Degrees(
        tp=[1, 2, 4, 8], pp=[1, 2, 4, 8], cp=[1], virtual=[1], micro_batch=[1, 2, 4],
        sharding=["optimizer", "parameters", "none"],
    )  # fmt: skip
    return TrainingJob(
        kind="training", name=name, model=ModelReference(dims=transformer(model)), sequence=4096,
        global_batch=batch, degrees=degrees, sharing=sharing,
    )  # fmt: skip


def twenty_jobs() -> tuple[str, list[AnyJob]]:
    """Return 8 training jobs and 12 services for two kinds of nodes."""
    draw = random.Random(7)
    jobs: list[AnyJob] = []
    for number, (model, batch) in enumerate(
        [("llama3-8b", 64), ("llama3-8b", 64), ("llama3-8b", 256), ("mistral-7b", 128), ("qwen3-14b", 64),
         ("qwen3-14b", 128), ("qwen3-32b", 128), ("llama3-70b", 128)]
    ):  # fmt: skip
        sharing = Sharing(weight=draw.choice([1.0, 2.0, 4.0]))
        jobs.append(training(f"train-{number}", model, batch, sharing))
    for number in range(12):
        model, rate = draw.choice(
            [
                ("llama3-8b", 4.0),
                ("llama3-8b", 16.0),
                ("qwen3-14b", 4.0),
                ("qwen3-32b", 4.0),
                ("llama3-70b", 2.0),
            ]
        )
        apart = [f"serve-{number - 1}"] if number % 4 == 3 else []
        spread: Spread = "node" if number % 3 == 0 else "none"
        sharing = Sharing(weight=draw.choice([1.0, 2.0, 4.0]), anti_affinity=apart, spread=spread)
        slo = Slo(ttft_p99=4.0, tpot_p99=0.1)
        jobs.append(service(f"serve-{number}", model, rate, 800.0, 200.0, slo, sharing))
    return "dgx-a100-x8-h100-x8", jobs


def small_services() -> tuple[str, list[AnyJob]]:
    """Return 200 small services for 64 GPUs that can be cut."""
    draw = random.Random(11)
    jobs: list[AnyJob] = []
    for number in range(200):
        model = draw.choice(["llama-3.2-1b", "llama-3.2-3b", "qwen3-8b", "mistral-7b"])
        rate = draw.choice([0.2, 0.5, 1.0, 2.0, 4.0])
        prompt, output = draw.choice([(200.0, 50.0), (500.0, 100.0), (1000.0, 150.0)])
        slo = Slo(ttft_p99=draw.choice([1.0, 3.0]), tpot_p99=draw.choice([0.05, 0.1]))
        apart = [f"service-{number - 1}"] if number % 20 == 19 else []
        spread: Spread = "node" if number % 10 == 0 else "none"
        sharing = Sharing(weight=draw.choice([1.0, 1.0, 3.0]), anti_affinity=apart, spread=spread)
        jobs.append(service(f"service-{number}", model, rate, prompt, output, slo, sharing))
    return "dgx-h100-x8", jobs


CASES: dict[str, Callable[[], tuple[str, list[AnyJob]]]] = {
    "nodes": twenty_jobs,
    "slices": small_services,
}


def documents_of(topology: str, jobs: list[AnyJob], name: str = "some") -> Documents:
    """Return jobs whose models are given by their dimensions, on a cluster."""
    document = WorkloadDocument(schema_="workload/1", name=name, jobs=jobs)
    resolved = tuple(
        ResolvedJob(job, job.model.dims)
        for job in jobs
        if isinstance(job, TrainingJob | ServingJob) and job.model.dims is not None
    )
    return Documents(load_topology(topology), Workload(document, resolved, ""), load_calibration())


def run(case: str) -> Row:
    """Place the jobs of one case."""
    started, before = time.monotonic(), time.process_time()
    topology, jobs = CASES[case]()
    fleet = plan_fleet(documents_of(topology, jobs, case), Budget(seconds=SECONDS))
    priced = sum(len(job.choices) for job in fleet.problem.jobs)
    solution, wall = fleet.solution, time.monotonic() - started
    return Row(
        case, len(jobs), len(solution.placement), solution.cost, solution.bound, solution.gap,
        solution.baselines, priced, wall, time.process_time() - before,
        solution.gap <= MOST_GAP[case] and wall <= SECONDS,
    )  # fmt: skip


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=sorted(CASES), action="append")
    options = parser.parse_args()
    rows = [run(case) for case in options.only or CASES]
    for row in rows:
        rules = ", ".join(f"{name} {value:.4f}" for name, value in row.baselines.items())
        print(
            f"{row.case}: {row.placed} of {row.jobs} placed, cost {row.cost:.4f}, bound {row.bound:.4f}, "
            f"gap {100 * row.gap:.2f} %, {rules}; {row.wall_seconds:.1f} s, {row.cpu_seconds:.1f} CPU s"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    summary = {"rows": [asdict(row) for row in rows], "peak_bytes": peak}
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
