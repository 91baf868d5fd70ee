"""What knowing the topology is worth: ``python -m benchmarks.topology_pays [--json OUT] [--only TEXT]``.

Training jobs on nodes of shipped machines below a fat tree whose uplinks carry a share of what the nodes
send, and on the shipped oversubscribed cluster. The plan is compared with the topology-blind one: the same
degrees and layers, ranks dealt over the nodes in turn, judged legal. Both steps are simulated on all links.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from planner import __version__
from planner.costs import load_calibration
from planner.placement import (
    Objective,
    Plan,
    Problems,
    TrainingPlan,
    TrainingProblem,
    check,
    judge_training,
    memory_records,
    prediction,
)
from planner.schema import compress, loads
from planner.simulate import simulate_plan
from planner.solve import Budget
from planner.solve.baselines import dealt_order
from planner.study import Documents, solve
from planner.topology import Topology, TopologyDocument, load_topology
from planner.topology import resolve as resolve_topology
from planner.workload import WorkloadDocument
from planner.workload import resolve as resolve_workload

CLUSTER = """
schema: topology/1
name: {machine}-x{nodes}-by-{factor}
machines:
- {{name: {machine}, preset: {machine}}}
nodes:
- {{name: "node-[0-{last}]", machine: {machine}}}
fabric:
  layout:
    shape: fat-tree
    kind: infiniband
    nodes_per_leaf: 2
    oversubscription: {factor}
    hop_latency: 600 ns
"""
JOB = """
schema: workload/1
name: {model}
jobs:
- kind: training
  name: train
  model: {model}
  sequence: 4096
  global_batch: 128
  degrees: {{cp: [1], virtual: [1, 2], micro_batch: [1, 2, 4]}}
"""
MACHINES = ("dgx-h100", "dgx-a100", "aws-p5")
MODELS = ("llama3-8b", "qwen3-14b", "mixtral-8x7b")
FACTORS = (2, 4, 8)
NODES = 4
SHIPPED = ("dgx-h100-x16-oversubscribed", "llama3-70b")
SECONDS = 20.0
LEAST_MEDIAN = 0.15


@dataclass(frozen=True)
class Row:
    """One case; times of a simulated step, s.

    Attributes
    ----------
    gain
        By how much the plan's step is shorter than the blind one, a ratio of the blind one.
    predicted_gain
        The same of the predicted steps.
    """

    topology: str
    model: str
    degrees: str
    status: str
    plan_seconds: float
    blind_seconds: float
    gain: float
    predicted_gain: float


def cases(only: str) -> Iterator[tuple[Topology, str]]:
    """Yield the clusters with the models, those whose name holds a text."""
    for machine in MACHINES:
        for factor in FACTORS:
            text = CLUSTER.format(machine=machine, nodes=NODES, last=NODES - 1, factor=factor)
            for model in MODELS:
                if only in f"{machine}-x{NODES}-by-{factor} {model}":
                    yield resolve_topology(loads(text.lstrip(), TopologyDocument)), model
    if only in " ".join(SHIPPED):
        yield load_topology(SHIPPED[0]), SHIPPED[1]


def compare(topology: Topology, model: str) -> Row:
    """Solve one case and simulate its plan and the topology-blind one."""
    workload = resolve_workload(loads(JOB.format(model=model).lstrip(), WorkloadDocument))
    documents = Documents(topology, workload, load_calibration())
    study = solve(documents, Budget(seconds=SECONDS))
    job = study.plan.jobs[0]
    problem = study.problems[job.name]
    assert isinstance(job, TrainingPlan)
    assert isinstance(problem, TrainingProblem)
    blind = blind_plan(problem, study.plan, job)
    seconds, other = (step_seconds(study.problems, plan) for plan in (study.plan, blind))
    s = job.strategy
    return Row(
        topology.name, model, f"tp {s.tp}, pp {s.pp}, dp {s.dp}, ep {s.ep}", study.plan.status, seconds,
        other, 1.0 - seconds / other, 1.0 - study.plan.objective.value / blind.objective.value,
    )  # fmt: skip


def blind_plan(problem: TrainingProblem, plan: Plan, job: TrainingPlan) -> Plan:
    """Return the plan with its ranks dealt over the innermost domains in turn, legal by the judge."""
    devices = [problem.hierarchy.gpus[gpu] for gpu in dealt_order(problem, job.ranks())]
    outcome = judge_training(problem, job.strategy, job.layers, devices, job.recompute_layers)
    dealt = job.model_copy(
        update={
            "devices": compress(devices),
            "memory": memory_records(problem, outcome),
            "prediction": prediction(problem, job.strategy, outcome),
        }
    )
    objective = Objective(name="step_time", value=outcome.step_time, unit="s")
    blind = plan.model_copy(update={"jobs": [dealt], "objective": objective})
    broken = check({job.name: problem}, blind)
    assert not broken, broken
    return blind


def step_seconds(problems: Problems, plan: Plan) -> float:
    """Return the simulated step time of a plan with one training job, s."""
    seconds = simulate_plan(problems, plan).jobs[0].step_time
    assert seconds is not None
    return seconds


def summary(rows: list[Row]) -> dict[str, float]:
    """Return how often the plan is worse, and its gains."""
    gains = [row.gain for row in rows]
    return {
        "cases": len(rows),
        "worse": sum(gain < -1e-9 for gain in gains),
        "median_gain": statistics.median(gains),
        "least_gain": min(gains),
        "largest_gain": max(gains),
        "cpu_seconds": resource.getrusage(resource.RUSAGE_SELF).ru_utime,
    }


def main() -> None:
    """Run the cases, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    arguments = parser.parse_args()
    rows = []
    for topology, model in cases(arguments.only):
        row = compare(topology, model)
        rows.append(row)
        sys.stdout.write(
            f"{row.topology:30}{row.model:14}{row.degrees:28}{row.plan_seconds:9.3f} s "
            f"{row.blind_seconds:9.3f} s {row.gain:7.1%} (predicted {row.predicted_gain:.1%})\n"
        )
        sys.stdout.flush()
    found = summary(rows)
    if arguments.json is not None:
        document = {
            "benchmark": "topology_pays", "version": __version__, "rows": [asdict(row) for row in rows],
            "summary": found,
        }  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{found['cases']} cases, {found['worse']} worse than blind, median gain {found['median_gain']:.1%}\n"
    )
    raise SystemExit(0 if not found["worse"] and found["median_gain"] >= LEAST_MEDIAN else 1)


if __name__ == "__main__":
    main()
