"""``planner simulate`` and ``planner replay``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from planner.cli.group import common_options, examples, moved_inputs, verbosity, wants_json
from planner.cli.output import print_json, print_summary, print_table, progress, stdout_console
from planner.cli.places import check_file
from planner.report import Table, chrome_trace, request_table, simulation_summary
from planner.schema import dump_yaml, load, write_text_atomic
from planner.study import load_study

if TYPE_CHECKING:
    from planner.simulate.measures import RequestRecords

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
SERIES = {"jobs": {"__all__": {"timeline", "latency_cdf"}}, "links": {"__all__": {"series"}}}
"""What is too long to print: it is in the files of ``--output`` and ``--trace``."""
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "simulate", epilog=examples("planner simulate out/plan.yaml --requests 20000 --trace trace.json")
)
@click.argument("plan", type=EXISTING)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of all random streams."
)
@click.option(
    "--requests",
    default=10000,
    show_default=True,
    type=click.IntRange(min=100),
    help="Requests to simulate (serving).",
)
@click.option(
    "--schedule",
    default="plan",
    show_default=True,
    type=click.Choice(["plan", "zero-bubble"]),
    help="Pipeline schedule (training): the plan's, or ZB-H1 with split backward passes.",
)
@click.option("--scenario", type=EXISTING, help="Stragglers, slow links and failures (training; scenario/1).")
@click.option("-o", "--output", type=FILE, help="Where to write the result (YAML).")
@click.option("--trace", type=FILE, help="Where to write a trace for Perfetto (JSON).")
@click.option("--requests-table", type=FILE, help="Where to write every request (CSV; serving).")
@click.option("--force", is_flag=True, help="Accept inputs that changed since the plan; replace files.")
@moved_inputs
@common_options
@click.pass_context
def simulate_command(
    ctx: click.Context,
    plan: Path,
    seed: int,
    requests: int,
    schedule: Literal["plan", "zero-bubble"],
    scenario: Path | None,
    output: Path | None,
    trace: Path | None,
    requests_table: Path | None,
    force: bool,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Simulate PLAN: step time or latency percentiles, link saturation, a trace."""
    from planner.simulate import Scenario, simulate_plan

    check_file(output, force=force)
    check_file(trace, force=force)
    check_file(requests_table, force=force)
    happening = None if scenario is None else load(scenario, Scenario)
    study = load_study(plan, topology=topology, workload=workload, calibration=calibration, force=force)
    records: dict[str, RequestRecords] = {}
    with progress("simulating", verbosity(ctx)):
        result = simulate_plan(
            study.problems,
            study.plan,
            seed=seed,
            requests=requests,
            schedule=schedule,
            scenario=happening,
            collect=records.__setitem__,
        )
    if output is not None:
        write_text_atomic(output, dump_yaml(result))
    if trace is not None:
        write_text_atomic(trace, json.dumps(chrome_trace(result)))
    if requests_table is not None:
        write_text_atomic(requests_table, request_table(records))
    if wants_json(ctx):
        print_json(result.model_dump(by_alias=True, exclude=SERIES))
        return
    print_summary(simulation_summary(study.plan, result), verbosity(ctx))


@click.command("replay", epilog=examples("planner replay trace.json.gz --json"))
@click.argument("flows", type=EXISTING)
@common_options
@click.pass_context
def replay_command(ctx: click.Context, flows: Path) -> None:
    """Replay the flow trace FLOWS (JSON, or gzip of it) and print when each flow ends."""
    from planner.simulate import load_trace, replay

    finish = [float(value) for value in replay(load_trace(flows)).finish]
    if wants_json(ctx):
        print_json({"flows": len(finish), "finish_s": finish})
        return
    rows = tuple((str(number), f"{value:.9g}") for number, value in enumerate(finish))
    print_table(stdout_console(), Table("", ("flow", "finish, s"), rows))
