"""``planner solve``, ``planner simulate`` and ``planner replay``."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from planner.cli.group import common_options, wants_json
from planner.cli.output import print_json, print_summary, progress_bar
from planner.report import bundle_files, chrome_trace, plan_summary, summary_json, write_folder
from planner.schema import dump_yaml, plain, write_text_atomic
from planner.simulate import simulate_plan
from planner.solve import Budget
from planner.study import Sources, Study, load_study, solve_files

QUICK_REQUESTS = 2000
PLAN = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("solve")
@click.argument("topology")
@click.argument("workload")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder to write; default out/PLAN-NAME.")
@click.option("--force", is_flag=True, help="Replace the folder if it exists.")
@click.option("--time-limit", default=60.0, show_default=True, type=click.FloatRange(min=0.1), help="Solver budget in seconds.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of solver and simulation.")
@click.option("--calibration", default="default", show_default=True, help="Coefficients: a file or a preset.")
@click.option("--simulate/--no-simulate", default=True, show_default=True, help="Simulate the plan briefly.")
@common_options
@click.pass_context
def solve_command(
    ctx: click.Context,
    topology: str,
    workload: str,
    output: Path | None,
    force: bool,
    time_limit: float,
    seed: int,
    calibration: str,
    simulate: bool,
) -> None:
    """Place WORKLOAD on TOPOLOGY: each is a file or the name of a preset.

    Prints the plan with its proof and leaves plan.yaml, k8s/, launch/, report.html and summary.json in a
    folder. Ctrl-C ends the search and keeps the best plan found.

    \b
    planner solve hgx-h200 llama3-70b-serving -o out
    planner solve my-cluster.yaml my-job.yaml --time-limit 120 --json
    """
    with progress_bar("solving") as progress, interruptible() as stopped:
        budget = Budget(seconds=time_limit, seed=seed, stopped=stopped.is_set, progress=progress)
        study = solve_files(Sources(topology, workload, calibration), budget)
    folder = output or Path("out") / study.plan.name
    result = simulate_plan(study.problems, study.plan, seed=seed, requests=QUICK_REQUESTS) if simulate else None
    write_folder(folder, bundle_files(study, result, folder / "plan.yaml"), force=force)
    if stopped.is_set():
        click.echo("planner: interrupted; this is the best plan found so far", err=True)
    if wants_json(ctx):
        print_json(summary_json(study.plan, result, folder / "plan.yaml"))
        return
    print_summary(plan_summary(study.plan, result))
    click.echo(f"Written to {folder}/: plan.yaml, report.html, summary.json, k8s/, launch/")


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that the first interrupt sets; a second one ends the program at once."""
    event = threading.Event()

    def handler(number: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


@click.command("simulate")
@click.argument("plan", type=PLAN)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of all random streams.")
@click.option("--requests", default=10000, show_default=True, type=click.IntRange(min=100), help="Requests to simulate (serving).")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the result (YAML).")
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Where to write a trace for Perfetto (JSON).")
@click.option("--topology", help="The topology, if it moved.")
@click.option("--workload", help="The workload, if it moved.")
@click.option("--force", is_flag=True, help="Accept inputs that changed since the plan was made.")
@common_options
@click.pass_context
def simulate_command(
    ctx: click.Context,
    plan: Path,
    seed: int,
    requests: int,
    output: Path | None,
    trace: Path | None,
    topology: str | None,
    workload: str | None,
    force: bool,
) -> None:
    """Simulate PLAN: step time or latency percentiles, link saturation, a trace.

    \b
    planner simulate out/plan.yaml --requests 20000 --trace trace.json
    """
    study = load_study(plan, topology=topology, workload=workload, force=force)
    result = simulate_plan(study.problems, study.plan, seed=seed, requests=requests)
    if output is not None:
        write_text_atomic(output, dump_yaml(result))
    if trace is not None:
        write_text_atomic(trace, json.dumps(chrome_trace(result)))
    if wants_json(ctx):
        print_json(plain(result))
        return
    _show(study, result)


def _show(study: Study, result: object) -> None:
    from planner.simulate.result import SimulationResult

    assert isinstance(result, SimulationResult)
    print_summary(plan_summary(study.plan, result))


@click.command("replay")
@click.argument("flows", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@common_options
@click.pass_context
def replay_command(ctx: click.Context, flows: Path) -> None:
    """Replay the flow trace FLOWS (JSON, or gzip of it) and print when each flow ends.

    \b
    planner replay trace.json.gz --json
    """
    from planner.simulate.replay import replay_file

    outcome = replay_file(flows)
    if wants_json(ctx):
        print_json({"flows": len(outcome), "finish_s": [float(value) for value in outcome]})
        return
    for number, value in enumerate(outcome):
        click.echo(f"{number}\t{float(value):.9g}")
