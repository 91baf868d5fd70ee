"""``planner fleet`` and ``planner pareto``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from planner.cli.group import common_options, examples, verbosity, wants_json
from planner.cli.options import calibration_option, price_option, seed_option, time_limit_option
from planner.cli.output import print_json, print_summary, progress
from planner.cli.places import check_file, check_folder
from planner.cli.quantities import seconds
from planner.deploy import kubernetes_bundle
from planner.deploy.target_document import TargetDocument
from planner.report import write_folder
from planner.report.fleet_tables import (
    fleet_json,
    fleet_rows,
    fleet_summary,
    offer_rows,
    offers_summary,
)
from planner.report.rows import rows_csv
from planner.schema import load, write_text_atomic
from planner.solve import Budget
from planner.study import Sources, load_documents
from planner.study.fleet import plan_fleet
from planner.study.fleet_plan import fleet_plan
from planner.study.pareto import Offer, cheapest, fastest, offers, pareto, with_prices

Command = TypeVar("Command", bound=Callable[..., Any])


def study_options(command: Command) -> Command:
    """Add the arguments and options that both commands take."""
    for option in reversed(
        (
            click.argument("topology"),
            click.argument("workload"),
            click.option(
                "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
                help="CSV file to write the rows to.",
            ),
            click.option("--force", is_flag=True, help="Replace the file if it exists."),
            time_limit_option(),
            seed_option("Seed of the search."),
            calibration_option,
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(
    "fleet",
    epilog=examples(
        "planner fleet dgx-h100-x8 services.yaml",
        "planner fleet dgx-a100-x8-h100-x8 jobs.yaml -o jobs.csv --json",
        "planner fleet dgx-h100-x8 services.yaml --manifests k8s --target my-cluster-target.yaml",
    ),
)
@study_options
@click.option(
    "--manifests",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write Kubernetes manifests of all placed jobs to.",
)
@click.option(
    "--target",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Document target/1: the cluster that the manifests are for.",
)
@common_options
@click.pass_context
def fleet_command(
    ctx: click.Context,
    topology: str,
    workload: str,
    output: Path | None,
    force: bool,
    time_limit: float,
    seed: int,
    calibration: str,
    manifests: Path | None,
    target: Path | None,
) -> None:
    """Share TOPOLOGY among the many jobs of WORKLOAD: nodes, GPUs and MIG slices, with a bound.

    Every share that a job may get is priced by the solver of single jobs; weights, anti-affinity and spread
    stand under 'sharing' of a job. Prints who gets what, the gap, and what first fit, best fit and greedy
    reach. A job without a place is named. A CSV has a row per part of each job; manifests hold the pods of
    each job to its nodes and slices.
    """
    if target is not None and manifests is None:
        raise click.UsageError("--target says what cluster manifests are for; add --manifests FOLDER", ctx)
    check_file(output, force=force)
    if manifests is not None:
        check_folder(manifests, force=force)
    aim = (load(target, TargetDocument) if target is not None else TargetDocument()).target()
    documents = load_documents(Sources(topology, workload, calibration))
    with progress("placing", verbosity(ctx)) as shown:
        budget = Budget(time_limit, seed, progress=shown)
        fleet = plan_fleet(documents, budget)
    if output is not None:
        write_text_atomic(output, rows_csv(fleet_rows(fleet)))
    if wants_json(ctx):
        print_json(fleet_json(documents.plan_name, fleet))
    else:
        print_summary(fleet_summary(documents.plan_name, fleet), verbosity(ctx))
    if manifests is None:
        return
    plan = fleet_plan(documents, fleet, budget)
    files = kubernetes_bundle(plan, documents.topology, documents.workload, aim)
    write_folder(manifests, files, force=force)
    if not wants_json(ctx):
        click.echo(f"Manifests of {len(plan.jobs)} jobs written to {manifests}/")


def _limit(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    return None if value is None else seconds(ctx, param, value)


@click.command(
    "pareto",
    epilog=examples(
        "planner pareto aws-p5 llama3-70b-serving --price p5=98.3",
        "planner pareto my-cluster.yaml my-job.yaml --within 3s --budget 400",
    ),
)
@study_options
@price_option
@click.option("--job", help="The job of WORKLOAD.  [default: its first]")
@click.option(
    "--within", callback=_limit, metavar="TIME", help="Name the cheapest offer that takes at most this time."
)
@click.option("--budget", type=click.FloatRange(min=0.0), help="Name the fastest offer within USD per hour.")
@common_options
@click.pass_context
def pareto_command(
    ctx: click.Context,
    topology: str,
    workload: str,
    output: Path | None,
    force: bool,
    time_limit: float,
    seed: int,
    calibration: str,
    prices: dict[str, float],
    job: str | None,
    within: float | None,
    budget: float | None,
) -> None:
    """Show price against time of WORKLOAD on 1, 2, 4, ... nodes of each machine of TOPOLOGY.

    Time is that of a training step, or the 99th percentile of a service's latency under its limits.
    """
    check_file(output, force=force)
    documents = with_prices(load_documents(Sources(topology, workload, calibration)), prices)
    with progress("pricing", verbosity(ctx)) as shown:
        found = offers(documents, Budget(time_limit, seed, progress=shown), job)
    front = pareto(found)
    chosen: dict[str, Offer] = {}
    if within is not None:
        chosen[f"Cheapest within {within:g} s"] = cheapest(found, within)
    if budget is not None:
        chosen[f"Fastest within {budget:g} USD/h"] = fastest(found, budget)
    rows = offer_rows(found, front)
    if output is not None:
        write_text_atomic(output, rows_csv(rows))
    if wants_json(ctx):
        picked = {asked: offer_rows([offer], front)[0] for asked, offer in chosen.items()}
        print_json({"name": documents.plan_name, "offers": rows, "chosen": picked})
        return
    print_summary(offers_summary(documents.plan_name, found, front, chosen), verbosity(ctx))
