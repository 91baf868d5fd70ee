"""Multimodal serving at a high load: which measure of the plan lowers the 99th percentile, and by how much.

``python -m benchmarks.hybrid_study [--load X] [--requests N] [--json OUT]`` solves `multimodal-ensemble` on
a DGX H100 at some times its rates, and simulates its plan beside a naive design: host stages on one socket,
pageable copies, one priority and one instance of a stage on every GPU for all classes, one batch size, no
CUDA graphs. Each measure is added to the naive design alone, and taken from the plan alone; all see the same
requests.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

from planner import __version__
from planner.costs import MemoryMode, load_calibration
from planner.errors import SimulationError
from planner.placement import EnsemblePlan, EnsembleProblem, design_of, make_problem
from planner.placement.ensemble import ensemble_plan
from planner.placement.ensemble_design import Design, Group, Key, Pools, Tenant
from planner.placement.ensemble_judge import Judged
from planner.simulate.ensemble import simulate_ensemble
from planner.solve.budget import Budget
from planner.solve.ensemble import solve_ensemble
from planner.topology import load_topology
from planner.workload import EnsembleJob, load_workload

MEASURES = {
    "domains": "host stages next to their GPUs",
    "pinned": "pinned memory",
    "graphs": "CUDA graphs",
    "apart": "GPUs by stage and class",
    "priority": "streams by class, with priority",
    "batching": "batch sizes and windows",
}
FIXED_BATCH, FIXED_WINDOW = 16, 5e-3
"""Of the naive design, for every stage: the album's size, and a usual delay, s."""
WORKERS = 2


@dataclass(frozen=True)
class Row:
    """A simulated design: percentiles by class, s, and the busy part of the GPUs; ``failed`` says why not."""

    case: str
    measures: list[str]
    latency: dict[str, list[float]]
    utilisation: float | None
    failed: str | None = None


def problem_at(load: float, *, graphs: bool = True) -> EnsembleProblem:
    """Return the study at some times its rates."""
    found = load_workload("multimodal-ensemble").jobs[0]
    assert isinstance(found.job, EnsembleJob)
    classes = [each.model_copy(update={"rate": load * each.rate}) for each in found.job.classes]
    job = found.job.model_copy(update={"classes": classes, "cuda_graphs": graphs})
    problem = make_problem(job, found.model, load_topology("dgx-h100"), load_calibration())
    assert isinstance(problem, EnsembleProblem)
    return problem


def designed(problem: EnsembleProblem, best: Design, measures: frozenset[str]) -> Design:
    """Return the naive design with some measures of the best one."""
    groups = best.groups if "apart" in measures else (_everywhere(problem, best),)
    return Design(
        best.pools if "domains" in measures else _one_socket(problem, best),
        tuple(replace(each, tenants=_tenants(each.tenants, measures)) for each in groups),
        _modes(problem, best, measures, groups),
    )


def _everywhere(problem: EnsembleProblem, best: Design) -> Group:
    """Return one group of all GPUs with all tenants."""
    tenants = tuple(tenant for group in best.groups for tenant in group.tenants)
    return Group(tenants, None, tuple(len(domain.gpus) for domain in problem.domains))


def _one_socket(problem: EnsembleProblem, best: Design) -> tuple[Pools, ...]:
    """Return the pools with all their workers in the first domain, as far as its cores go."""
    wanted = [pools.workers * len(pools.domains) for pools in best.pools]
    scale = min(1.0, problem.domains[0].cores / sum(wanted))
    return tuple(
        replace(pools, workers=max(1, int(scale * many)), domains=(0,))
        for pools, many in zip(best.pools, wanted, strict=True)
    )


def _tenants(tenants: tuple[Tenant, ...], measures: frozenset[str]) -> tuple[Tenant, ...]:
    """Return tenants without what the measures do: one of each stage, one priority, one batch size."""
    if "priority" not in measures:
        tenants = tuple(_joined(list(own)) for _, own in groupby(_ordered(tenants), lambda each: each.stage))
    if "batching" not in measures:
        tenants = tuple(replace(each, batch=FIXED_BATCH, window=FIXED_WINDOW) for each in tenants)
    return tenants


def _ordered(tenants: tuple[Tenant, ...]) -> list[Tenant]:
    return sorted(tenants, key=lambda each: each.stage)


def _joined(tenants: list[Tenant]) -> Tenant:
    classes = tuple(sorted(one for tenant in tenants for one in tenant.classes))
    batch, window = max(each.batch for each in tenants), min(each.window for each in tenants)
    return Tenant(tenants[0].stage, classes, batch, window)


def _modes(
    problem: EnsembleProblem, best: Design, measures: frozenset[str], groups: tuple[Group, ...]
) -> dict[Key, MemoryMode]:
    """Return the memory mode of every copy between a host and a GPU stage."""
    on_gpu = {key for group in groups for key in group.keys}
    found: dict[Key, MemoryMode] = {}
    for index, way in enumerate(problem.ways):
        for request in range(len(problem.classes)):
            ends = [stage is not None and (stage, request) in on_gpu for stage in (way.source, way.target)]
            if ends[0] != ends[1]:
                pinned = best.modes.get((index, request), "pinned-copy")
                found[index, request] = pinned if "pinned" in measures else "pageable-copy"
    return found


def simulated(case: str, load: float, best: Design, measures: frozenset[str], requests: int) -> Row:
    """Return the figures of a design; that it cannot keep up is one of them."""
    problem = problem_at(load, graphs="graphs" in measures)
    design = designed(problem, best, measures)
    names = [name for name in MEASURES if name in measures]
    if not Judged(problem, design).stable:
        return Row(case, names, {}, None, "a GPU or a pool is too busy")
    plan = ensemble_plan(problem, design)
    try:
        job = simulate_ensemble(problem, plan, requests=requests).job
    except SimulationError as error:
        return Row(case, names, {}, None, str(error))
    busy = sum(job.utilisation.values()) / problem.num_gpus
    latency = {name: [each.p50, each.p95, each.p99] for name, each in job.latency.items()}
    return Row(case, names, latency, busy)


def rows(load: float, requests: int) -> Iterator[Row]:
    """Yield the naive design, the plan, and each measure alone and left out."""
    problem = problem_at(load)
    plan = solve_ensemble(problem, Budget(seconds=30.0, workers=WORKERS), explain=False).plan
    assert isinstance(plan, EnsemblePlan)
    best, every = design_of(problem, plan), frozenset(MEASURES)
    yield simulated("naive", load, best, frozenset(), requests)
    yield simulated("plan", load, best, every, requests)
    for name, text in MEASURES.items():
        yield simulated(f"naive + {text}", load, best, frozenset({name}), requests)
    for name, text in MEASURES.items():
        yield simulated(f"plan - {text}", load, best, every - {name}, requests)


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=float, default=6.5, help="times the rates of the workload")
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = []
    for row in rows(arguments.load, arguments.requests):
        figures = "  ".join(
            f"{name} {' '.join(f'{1e3 * value:7.2f}' for value in own)}" for name, own in row.latency.items()
        )
        busy = "" if row.utilisation is None else f"GPUs {row.utilisation:.1%}"
        print(f"{row.case:42} {figures} {busy}{row.failed or ''}", flush=True)
        found.append(row)
    if arguments.json is not None:
        document = {
            "benchmark": "hybrid_study", "version": __version__, "load": arguments.load,
            "requests": arguments.requests, "rows": [asdict(row) for row in found],
        }  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
