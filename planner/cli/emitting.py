"""``planner emit`` and ``planner report``."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.group import PlannerGroup, common_options, examples, moved_inputs, wants_json
from planner.cli.output import print_json
from planner.cli.places import check_file, check_folder
from planner.deploy import Target, kubernetes_bundle, launch_files
from planner.errors import PlanError
from planner.placement import Plan
from planner.report import render_report, write_folder
from planner.schema import digest, load, write_text_atomic
from planner.simulate.result import SimulationResult
from planner.study import load_study

PLAN = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group("emit", cls=PlannerGroup)
@common_options
def emit_group() -> None:
    """Write the files that carry a plan out on a cluster."""


@emit_group.command("k8s", epilog=examples("planner emit k8s out/plan.yaml -o manifests --version 1.36"))
@click.argument("plan", type=PLAN)
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder to write.")
@click.option("--version", default="1.34", show_default=True, help="Kubernetes release of the cluster.")
@click.option("--namespace", default="planner", show_default=True, help="Namespace of the objects.")
@click.option("--queue", help="Kueue queue to submit to.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@moved_inputs
@common_options
@click.pass_context
def emit_k8s(
    ctx: click.Context,
    plan: Path,
    output: Path,
    version: str,
    namespace: str,
    queue: str | None,
    force: bool,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Write Kubernetes manifests that pin PLAN to its nodes."""
    check_folder(output, force=force)
    study = load_study(plan, topology=topology, workload=workload, calibration=calibration)
    target = Target(version=version, namespace=namespace, queue=queue)
    _write(ctx, output, kubernetes_bundle(study.plan, study.topology, study.workload, target), force=force)


@emit_group.command("launch", epilog=examples("planner emit launch out/plan.yaml -o scripts"))
@click.argument("plan", type=PLAN)
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@moved_inputs
@common_options
@click.pass_context
def emit_launch(
    ctx: click.Context,
    plan: Path,
    output: Path,
    force: bool,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Write launch scripts with devices, cores and arguments of PLAN."""
    check_folder(output, force=force)
    study = load_study(plan, topology=topology, workload=workload, calibration=calibration)
    _write(ctx, output, launch_files(study.plan, study.topology, study.workload), force=force)


def _write(ctx: click.Context, output: Path, files: dict[str, str], *, force: bool) -> None:
    write_folder(output, files, force=force)
    if wants_json(ctx):
        print_json({"folder": str(output), "files": sorted(files)})
        return
    for name in sorted(files):
        click.echo(str(output / name))


@click.command("report", epilog=examples("planner report out/plan.yaml -o page.html"))
@click.argument("plan", type=PLAN)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Page to write.  [default: report.html beside the plan]",
)
@click.option(
    "--simulation",
    type=PLAN,
    help="Result of 'planner simulate -o'.  [default: simulation.yaml beside the plan]",
)
@click.option("--force", is_flag=True, help="Replace the page if it exists.")
@moved_inputs
@common_options
@click.pass_context
def report_command(
    ctx: click.Context,
    plan: Path,
    output: Path | None,
    simulation: Path | None,
    force: bool,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Write the self-contained HTML page of PLAN."""
    page = output or plan.parent / "report.html"
    check_file(page, force=force)
    study = load_study(plan, topology=topology, workload=workload, calibration=calibration)
    result = _simulation(study.plan, simulation, plan.parent / "simulation.yaml")
    write_text_atomic(page, render_report(study.plan, study.topology, result, study.workload.document))
    if wants_json(ctx):
        print_json({"page": str(page)})
        return
    click.echo(str(page))


def _simulation(plan: Plan, given: Path | None, beside: Path) -> SimulationResult | None:
    """Return the simulation of a plan; one that lies beside it counts only if it is of this very plan.

    Raises
    ------
    PlanError
        If the given one is of another plan.
    """
    path = given or beside
    if not path.is_file():
        return None
    result = load(path, SimulationResult)
    if result.plan_digest == digest(plan):
        return result
    if given is not None:
        raise PlanError(f"{path} simulates another plan; run 'planner simulate' on this one")
    return None
