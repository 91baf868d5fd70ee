"""Judge the network model: finish time of every flow against an independent flow-level simulator.

``python -m benchmarks.flow_oracle FOLDER [--json OUT] [--simgrid]`` replays every trace of FOLDER, plain or
gzip-compressed, prints one table and writes the figures. CPU time is that of the replay alone, after one tiny
replay that loads what is compiled; that of the reference simulator is read from the table in the folder's
README, where there is one. With ``--simgrid`` SimGrid runs beside each replay: its CPU time is taken instead,
and its finish times where a trace records none. Short replays of both are repeated; the least time counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import planner
from benchmarks import simgrid
from planner.errors import PlannerError
from planner.simulate import FlowTrace, LinkSpec, TracedFlow, load_trace, replay
from planner.simulate.fluid import FloatArray

SHORT, REPEATS = 0.1, 5
"""CPU time below which a replay is repeated, s, and how often it is run then."""


@dataclass(frozen=True)
class Scenario:
    """One replayed trace.

    Attributes
    ----------
    case
        File name.
    num_flows
        Flows in the trace.
    max_error
        Largest relative difference of a finish time; 1 when the replay failed.
    makespan, reference_makespan
        Last finish, s; None when unknown.
    cpu, reference_cpu
        CPU time, s; None when unknown.
    failure
        Why there is no replay; empty when there is one.
    """

    case: str
    num_flows: int
    max_error: float
    makespan: float | None
    reference_makespan: float | None
    cpu: float | None
    reference_cpu: float | None
    failure: str = ""


def judge(path: Path, reference_cpu: float | None, program: Path | None = None) -> Scenario:
    """Replay one trace and compare it with its recorded finish times, or with those of SimGrid's program."""
    try:
        trace = load_trace(path)
        finish, cpu = _timed(trace)
        beside = _beside(program, trace) if program else None
    except PlannerError as failure:
        return Scenario(path.name, 0, 1.0, None, None, None, reference_cpu, str(failure))
    recorded = [flow.finish for flow in trace.flows]
    if beside is not None:
        reference_cpu = beside.cpu
        recorded = beside.finish.tolist() if None in recorded else recorded
    if not recorded or None in recorded:
        unknown = "the trace records no finish times"
        return Scenario(path.name, len(recorded), 1.0, None, None, cpu, reference_cpu, unknown)
    truth = np.array(recorded, dtype=np.float64)
    error = np.abs(finish - truth) / np.where(truth > 0.0, truth, 1.0)
    return Scenario(
        path.name,
        len(truth),
        float(error.max()),
        float(finish.max()),
        float(truth.max()),
        cpu,
        reference_cpu,
    )


def _timed(trace: FlowTrace) -> tuple[FloatArray, float]:
    """Return the finish times and the CPU time of a replay, the least of some where it is short, s."""
    taken: list[float] = []
    while not taken or (len(taken) < REPEATS and taken[0] < SHORT):
        started = time.process_time()
        finish = replay(trace).finish
        taken.append(time.process_time() - started)
    return finish, min(taken)


def _beside(program: Path, trace: FlowTrace) -> simgrid.Outcome:
    """Return what SimGrid finds, with its least CPU time, s."""
    outcomes = [simgrid.replay(program, trace)]
    while len(outcomes) < REPEATS and outcomes[0].cpu < SHORT:
        outcomes.append(simgrid.replay(program, trace))
    return min(outcomes, key=lambda outcome: outcome.cpu)


def run(folder: Path, *, with_simgrid: bool = False) -> list[Scenario]:
    """Judge every trace of a folder."""
    paths = sorted(path for path in folder.iterdir() if path.name.endswith((".json", ".json.gz")))
    if not paths:
        raise PlannerError(f"{folder} holds no trace (*.json, *.json.gz)")
    _warm_up()
    cpus = oracle_cpus(folder / "README.md")
    with tempfile.TemporaryDirectory() as place:
        program = simgrid.build(Path(place)) if with_simgrid else None
        return [judge(path, cpus.get(path.name), program) for path in paths]


def oracle_cpus(readme: Path) -> dict[str, float]:
    """Return the reference simulator's CPU time, s, per file name, from the README's table."""
    cpus: dict[str, float] = {}
    column = -1
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "file":
            column = next((place for place, cell in enumerate(cells) if "CPU" in cell), -1)
        elif 0 < column < len(cells) and cells[0].endswith((".json", ".json.gz")):
            cpus[cells[0]] = float(cells[column])
    return cpus


def report(scenarios: Iterable[Scenario]) -> dict[str, Any]:
    """Return the figures as a document."""
    scenarios = list(scenarios)
    rows = []
    for scenario in scenarios:
        for metric, value, reference in (
            ("max_rel_error", scenario.max_error, 0.0),
            ("makespan_s", scenario.makespan, scenario.reference_makespan),
            ("cpu_seconds", scenario.cpu, scenario.reference_cpu),
        ):
            row = {"case": scenario.case, "metric": metric, "value": value, "reference": reference}
            rows.append(
                row
                | {"flows": scenario.num_flows}
                | ({"failure": scenario.failure} if scenario.failure else {})
            )
    flows, cpu = sum(s.num_flows for s in scenarios), sum(s.cpu or 0.0 for s in scenarios)
    known = [s.reference_cpu for s in scenarios if s.reference_cpu is not None]
    summary = {
        "scenarios": len(scenarios),
        "flows": flows,
        "failed": sum(bool(s.failure) for s in scenarios),
        "max_rel_error": max(s.max_error for s in scenarios),
        "cpu_seconds": cpu,
        "flows_per_cpu_second": flows / cpu if cpu > 0.0 else None,
        "oracle_cpu_seconds": sum(known) if len(known) == len(scenarios) else None,
    }
    return {"benchmark": "flow_oracle", "version": planner.__version__, "rows": rows, "summary": summary}


def table(scenarios: Iterable[Scenario]) -> str:
    """Return the figures as text, one scenario a line."""
    lines = [
        f"{'case':44} {'flows':>6} {'max error':>10} {'CPU s':>8} {'oracle CPU s':>12} {'flows/CPU s':>11}"
    ]
    for s in scenarios:
        cpu = "-" if s.cpu is None else f"{s.cpu:.3f}"
        oracle = "-" if s.reference_cpu is None else f"{s.reference_cpu:.3f}"
        pace = f"{s.num_flows / s.cpu:.0f}" if s.cpu else "-"
        figures = f"{s.num_flows:6} {s.max_error:10.1e} {cpu:>8} {oracle:>12} {pace:>11}"
        lines.append(f"{s.case:44} {figures}  {s.failure}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.flow_oracle", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of traces")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--simgrid", action="store_true", help="run SimGrid beside, where it is installed")
    options = parser.parse_args(arguments)
    if options.simgrid and not simgrid.is_installed():
        parser.error("SimGrid is not installed: apt-get install libsimgrid-dev g++")
    scenarios = run(options.folder, with_simgrid=options.simgrid)
    document = report(scenarios)
    print(table(scenarios))
    summary = document["summary"]
    print(
        f"{summary['scenarios']} scenarios, {summary['flows']} flows, "
        f"max relative error {summary['max_rel_error']:.1e}, {summary['cpu_seconds']:.2f} CPU s"
    )
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _warm_up() -> None:
    """Load or compile the solver, which is no part of any scenario."""
    flows = tuple(TracedFlow(0.0, 0.0, 1.0 + index, (0,)) for index in range(3))
    replay(FlowTrace("warm-up", (LinkSpec("link", 1.0),), flows))


if __name__ == "__main__":
    main()
