"""Weights and optimizer states on the host: NVLink-C2C against PCIe.

``python -m benchmarks.offload_study [--json OUT] [--only TEXT]`` trains models whose states exceed the memory
of the GPUs. The search chooses what lives in host memory, with all other degrees; the step is simulated layer
by layer, with every copy on the links of the machine, and beside it the same step with naive copies: from
pageable memory, one after the other with the kernels, all buffers in the domain of the first GPU. Each of the
three is also left out alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.offload_steps import VARIANTS, Simulation, Step
from benchmarks.offload_streams import streams
from benchmarks.recommender_study import with_host_link
from planner import __version__
from planner.costs import load_calibration
from planner.errors import InfeasibleError
from planner.placement import TrainingPlan, TrainingProblem
from planner.schema import loads
from planner.solve import Budget
from planner.study import Documents, Study, solve
from planner.topology import Topology, load_topology
from planner.workload import WorkloadDocument
from planner.workload import resolve as resolve_workload

JOB = """
schema: workload/1
name: {model}
jobs:
- kind: training
  name: train
  model: {model}
  sequence: 4096
  global_batch: {batch}
  degrees: {{pp: [1], cp: [1], virtual: [1], recompute_layers: [0], offload: [{offload}]}}
"""
WAYS = ("none", "optimizer", "activations", "weights")
SECONDS = 20.0
CHOSEN = "chosen by the search"


@dataclass(frozen=True)
class Site:
    """A machine with a model whose states exceed its GPUs' memory."""

    name: str
    topology: Topology
    model: str
    batch: int


@dataclass(frozen=True)
class Row:
    """One machine and one choice of what lives on the host, the search's own or another; steps in s."""

    site: str
    model: str
    chosen: bool
    offload: str
    degrees: str
    proven: bool
    predicted: float
    simulated: dict[str, float]

    @property
    def gain(self) -> float:
        """By how much the planned step is shorter than the naive one, a ratio of the naive one."""
        return 1.0 - self.simulated["planned"] / self.simulated["naive"]


def sites() -> Iterator[Site]:
    """Yield one hypothetical RISC-V host with three links, and shipped machines."""
    host = "riscv-nvlink-fusion"
    for name, rate in (("C2C", None), ("PCIe 5", 55.4e9), ("PCIe 4", 26.2e9)):
        yield Site(f"RISC-V Fusion host, {name}", with_host_link(host, rate), "qwen3-32b", 64)
    yield Site("4 x GH200, C2C", load_topology("gh200-quad"), "qwen3-32b", 64)
    yield Site("2 x GH200, C2C", load_topology("gh200-dual"), "qwen3-14b", 64)
    yield Site("RISC-V SG2044, PCIe 5", load_topology("riscv-sg2044-pcie5"), "qwen3-32b", 64)
    yield Site("DGX H100 (x86), PCIe 5", load_topology("dgx-h100"), "llama3-70b", 64)
    yield Site("DGX A100 (x86), PCIe 4", load_topology("dgx-a100"), "llama3-70b", 64)


def solved(site: Site, offload: str) -> Study:
    """Return the proven plan of a site when only one kind of thing, or any, may live on the host."""
    ways = ", ".join(WAYS) if offload == CHOSEN else offload
    text = JOB.format(model=site.model, batch=site.batch, offload=ways).lstrip()
    workload = resolve_workload(loads(text, WorkloadDocument))
    return solve(Documents(site.topology, workload, load_calibration()), Budget(seconds=SECONDS))


def row_of(site: Site, study: Study, *, chosen: bool) -> Row:
    """Return the simulated steps of a plan with every kind of copies."""
    job = study.plan.jobs[0]
    problem = study.problems[job.name]
    if not (isinstance(job, TrainingPlan) and isinstance(problem, TrainingProblem)):
        raise TypeError(f"{site.name}: no training plan")
    step, strategy = Step(problem, job), job.strategy
    times = {name: Simulation(step, copies).seconds() for name, copies in VARIANTS.items()}
    degrees = f"tp {strategy.tp} dp {strategy.dp} mb {strategy.micro_batch}, {strategy.recompute}"
    return Row(
        site.name, site.model, chosen, strategy.offload, f"{degrees}, sharded: {strategy.sharding}",
        study.plan.status == "optimal", job.prediction.step_time, times,
    )  # fmt: skip


def run(only: str = "") -> Iterator[Row | tuple[Site, str]]:
    """Yield a row per site for what the search chooses and for each choice alone, or why there is none."""
    for site in sites():
        if only not in f"{site.name} {site.model}":
            continue
        best = ""
        for offload in (CHOSEN, *WAYS):
            if offload == best:
                continue
            try:
                row = row_of(site, solved(site, offload), chosen=offload == CHOSEN)
            except InfeasibleError as error:
                yield replace(site, name=f"{site.name}: {offload}"), str(error).splitlines()[0]
                continue
            best = best or row.offload
            yield row


def shown(seconds: dict[str, float], factor: float = 1.0) -> str:
    """Return simulated times by their kind of copies."""
    return "  ".join(f"{name} {factor * value:7.2f}" for name, value in seconds.items())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--only", default="", help="sites or models whose names hold a text")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for one in run(arguments.only):
        if isinstance(one, tuple):
            sys.stdout.write(f"{one[0].name}: none fits ({one[1]})\n")
            continue
        rows.append(one)
        mark = "*" if one.chosen else " "
        sys.stdout.write(
            f"{one.site:28s} {one.model:10s} {mark} {one.offload:11s} predicted {one.predicted:7.2f} s  "
            f"{shown(one.simulated)}  gain {one.gain:4.0%}  {one.degrees}\n"
        )
        sys.stdout.flush()
    tokens = [one for one in streams() if arguments.only in one.site]
    for stream in tokens:
        sys.stdout.write(
            f"{stream.site:28s} token, {stream.streamed:4.0%} of layers fetched, best {stream.mode}: "
            f"predicted {1e3 * stream.predicted:7.1f} ms  {shown(stream.simulated, 1e3)}  "
            f"gain {stream.gain:4.0%}\n"
        )
    if arguments.json is not None:
        body = {
            "benchmark": "offload_study",
            "version": __version__,
            "rows": [asdict(row) for row in rows],
            "tokens": [asdict(one) for one in tokens],
        }
        arguments.json.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
