"""Training on two kinds of GPUs at once: ``python -m benchmarks.mixed_gpus [--json OUT]``.

A 70B model on 4 DGX A100 and 4 DGX H100, compared with the best plan on each half alone and with the best
even split over all GPUs. The plan passes the judge; the limit is 60 s and a gap of 2 %.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from planner.costs import load_calibration
from planner.placement.mixed import check_mixed, judge_mixed, make_mixed_problem
from planner.placement.mixed_plan import mixed_plan
from planner.simulate.mixed import simulate_mixed
from planner.solve import Budget
from planner.solve.mixed import even_placement, one_kind, search_mixed
from planner.solve.mixed.space import mixed_strategies, price
from planner.topology import load_topology
from planner.workload import TrainingJob, Transformer, load_workload

TOPOLOGY, WORKLOAD = "dgx-a100-x4-h100-x4", "llama3-70b-training"
SECONDS, MOST_GAP = 60.0, 0.02


@dataclass(frozen=True)
class Row:
    """What was found and proven; seconds a step unless said otherwise.

    Attributes
    ----------
    alone
        Best step time on the nodes of each kind alone.
    even
        Best step time on all GPUs with layers and micro-batches split evenly.
    simulated
        Step time of the plan in simulation.
    """

    topology: str
    workload: str
    step_time: float
    simulated: float
    bound: float
    gap: float
    strategy: dict[str, object]
    layers: list[int]
    micro_batches: list[int]
    kinds: list[list[str]]
    alone: dict[str, float | None]
    even: float | None
    evaluated: int
    visited: int
    solve_seconds: float
    cpu_seconds: float
    within: bool


def run(topology: str, workload: str) -> Row:
    """Solve one case and its baselines."""
    resolved = load_workload(workload).jobs[0]
    job, model = resolved.job, resolved.model
    if not isinstance(job, TrainingJob) or not isinstance(model, Transformer):
        raise TypeError(f"{workload} is not the training of a transformer")
    problem = make_mixed_problem(job, model, load_topology(topology), load_calibration())
    started, before = time.monotonic(), time.process_time()
    solution = search_mixed(problem, Budget(seconds=SECONDS))
    seconds, cpu = time.monotonic() - started, time.process_time() - before
    placement = solution.placement
    if placement is None:
        raise RuntimeError(f"no plan within {SECONDS:g} s")
    broken = check_mixed(problem, placement, solution.seconds)
    if broken:
        raise RuntimeError("; ".join(broken))
    names = [kind.device.name for kind in problem.kinds]
    cells = judge_mixed(problem, placement).kinds
    alone = {
        name: None if found is None else found.value
        for number, name in enumerate(names)
        for found in [one_kind(problem, number, Budget(seconds=SECONDS))]
    }
    simulated = simulate_mixed(problem, mixed_plan(problem, placement)).horizon
    even = even_placement(problem, price(problem, mixed_strategies(problem)))
    best = min(value for value in (*alone.values(), even and even[1]) if value is not None)
    return Row(
        topology, workload, solution.seconds, simulated, solution.bound, solution.gap,
        placement.strategy.model_dump(exclude_defaults=True), list(placement.layers),
        list(placement.micro_batches), [[names[kind] for kind in row] for row in cells], alone,
        even and even[1], solution.evaluated, solution.visited, seconds, cpu,
        solution.gap <= MOST_GAP and seconds <= SECONDS and solution.seconds <= best,
    )  # fmt: skip


def main() -> None:
    """Run the case and print what it gives."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("topology", nargs="?", default=TOPOLOGY)
    parser.add_argument("workload", nargs="?", default=WORKLOAD)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    row = run(options.topology, options.workload)
    for name, value in asdict(row).items():
        print(f"{name}: {value}")
    if options.json:
        options.json.write_text(json.dumps(asdict(row), indent=1) + "\n")


if __name__ == "__main__":
    main()
