"""Multimodal serving at a high load: which measure of the plan lowers the 99th percentile, and by how much.

``python -m benchmarks.hybrid_study [--load X] [--gpus N] [--seeds N] [--json OUT] [--figure OUT]`` solves
`multimodal-ensemble` on some GPUs of a DGX H100 at some times its rates, and simulates its plan beside a
naive design: host stages on one socket, pageable copies, one priority and one instance of a stage on every
GPU for all classes, one batch size, no CUDA graphs. Each measure is added to the naive design alone, and
taken from the plan alone; all see the same requests.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice, zip_longest
from pathlib import Path
from statistics import fmean

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
from planner.topology import Topology, load_topology
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
LOAD, GPUS = 2.0, 2


@dataclass(frozen=True)
class Setting:
    """How often the rates of the workload, on how many GPUs, and how it is simulated."""

    load: float
    gpus: int
    requests: int
    seeds: int


@dataclass(frozen=True)
class Row:
    """A simulated design.

    Attributes
    ----------
    latency
        Median, 95th and 99th percentile by class, s, means over the seeds.
    spread
        Least and greatest 99th percentile of a seed by class, s.
    utilisation
        Busy part of the GPUs.
    failed
        Why there are no figures.
    """

    case: str
    measures: list[str]
    latency: dict[str, list[float]] = field(default_factory=dict)
    spread: dict[str, list[float]] = field(default_factory=dict)
    utilisation: float | None = None
    failed: str | None = None


def problem_at(setting: Setting, *, graphs: bool = True) -> EnsembleProblem:
    """Return the study at some times its rates, on as many GPUs, the sockets by turns."""
    found = load_workload("multimodal-ensemble").jobs[0]
    assert isinstance(found.job, EnsembleJob)
    classes = [each.model_copy(update={"rate": setting.load * each.rate}) for each in found.job.classes]
    job = found.job.model_copy(update={"classes": classes, "cuda_graphs": graphs})
    topology = load_topology("dgx-h100")
    problem = make_problem(job, found.model, topology, load_calibration(), _by_turns(topology, setting.gpus))
    assert isinstance(problem, EnsembleProblem)
    return problem


def _by_turns(topology: Topology, count: int) -> list[str]:
    """Return some GPUs of the first node, one of each NUMA domain after the other."""
    node = topology.nodes[0]
    domains = [[gpu for gpu in node.machine.gpus if gpu.numa == domain.name] for domain in node.machine.numa]
    turns = (gpu for row in zip_longest(*domains) for gpu in row if gpu is not None)
    return [f"{node.name}/{gpu.name}" for gpu in islice(turns, count)]


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


def simulated(setting: Setting, case: str, best: Design, measures: frozenset[str]) -> Row:
    """Return the figures of a design, means over the seeds; that it cannot keep up is one of them."""
    problem = problem_at(setting, graphs="graphs" in measures)
    design = designed(problem, best, measures)
    names = [name for name in MEASURES if name in measures]
    if not Judged(problem, design).stable:
        return Row(case, names, failed="a GPU or a pool is too busy")
    plan = ensemble_plan(problem, design)
    try:
        jobs = [
            simulate_ensemble(problem, plan, seed=seed, requests=setting.requests).job
            for seed in range(setting.seeds)
        ]
    except SimulationError as error:
        return Row(case, names, failed=str(error))
    busy = fmean(sum(job.utilisation.values()) / problem.num_gpus for job in jobs)
    seen = {name: [job.latency[name] for job in jobs] for name in jobs[0].latency}
    latency = {
        name: [fmean(getattr(each, part) for each in own) for part in ("p50", "p95", "p99")]
        for name, own in seen.items()
    }
    spread = {
        name: [min(each.p99 for each in own), max(each.p99 for each in own)] for name, own in seen.items()
    }
    return Row(case, names, latency, spread, busy)


def rows(setting: Setting) -> Iterator[Row]:
    """Yield the naive design, the plan, and each measure alone and left out."""
    problem = problem_at(setting)
    plan = solve_ensemble(problem, Budget(seconds=30.0, workers=WORKERS), explain=False).plan
    assert isinstance(plan, EnsemblePlan)
    best, every = design_of(problem, plan), frozenset(MEASURES)
    yield simulated(setting, "naive", best, frozenset())
    yield simulated(setting, "plan", best, every)
    for name, text in MEASURES.items():
        yield simulated(setting, f"naive + {text}", best, frozenset({name}))
    for name, text in MEASURES.items():
        yield simulated(setting, f"plan - {text}", best, every - {name})


def draw(found: list[Row], file: Path) -> None:
    """Draw the 99th percentile of the first class: each measure added to the naive design, and left out."""
    from matplotlib import pyplot as plt

    shown = [row for row in found if row.latency]
    first = next(iter(shown[0].latency))
    values = [1e3 * row.latency[first][2] for row in shown]
    low, high = ([1e3 * row.spread[first][end] for row in shown] for end in (0, 1))
    errors = [
        [value - least for value, least in zip(values, low, strict=True)],
        [most - value for value, most in zip(values, high, strict=True)],
    ]
    colours = ["#b2423a" if row.case.startswith("naive") else "#2b6a99" for row in shown]
    figure, axes = plt.subplots(figsize=(7.5, 0.38 * len(shown) + 0.9), layout="constrained")
    axes.barh([row.case for row in shown], values, color=colours, xerr=errors, ecolor="#555", capsize=2)
    for place, value in enumerate(high):
        axes.annotate(f"{values[place]:.0f}", (value, place), (4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel(f"p99 of {first} requests, ms (mean, range of seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=float, default=LOAD, help="times the rates of the workload")
    parser.add_argument("--gpus", type=int, default=GPUS)
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    setting = Setting(arguments.load, arguments.gpus, arguments.requests, arguments.seeds)
    found = []
    for row in rows(setting):
        figures = "  ".join(
            f"{name} {' '.join(f'{1e3 * value:7.2f}' for value in own)}" for name, own in row.latency.items()
        )
        busy = "" if row.utilisation is None else f"GPUs {row.utilisation:.1%}"
        print(f"{row.case:42} {figures} {busy}{row.failed or ''}", flush=True)
        found.append(row)
    if arguments.json is not None:
        document = {
            "benchmark": "hybrid_study", "version": __version__, "setting": asdict(setting),
            "rows": [asdict(row) for row in found],
        }  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.figure is not None:
        draw(found, arguments.figure)


if __name__ == "__main__":
    main()
