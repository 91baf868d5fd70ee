"""``planner emit`` and ``planner report``."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.group import PlannerGroup, common_options, wants_json
from planner.cli.output import print_json
from planner.deploy import Target, kubernetes_bundle, launch_files
from planner.errors import OutputExistsError
from planner.report import render_report, write_folder
from planner.schema import load, write_text_atomic
from planner.simulate.result import SimulationResult
from planner.study import load_study

PLAN = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group("emit", cls=PlannerGroup)
def emit_group() -> None:
    """Write the files that carry a plan out on a cluster."""


@emit_group.command("k8s")
@click.argument("plan", type=PLAN)
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder to write.")
@click.option("--version", default="1.34", show_default=True, help="Kubernetes release of the cluster.")
@click.option("--namespace", default="planner", show_default=True, help="Namespace of the objects.")
@click.option("--queue", help="Kueue queue to submit to.")
@click.option("--force", is_flag=True, help="Replace the folder if it exists.")
@common_options
@click.pass_context
def emit_k8s(
    ctx: click.Context, plan: Path, output: Path, version: str, namespace: str, queue: str | None, force: bool
) -> None:
    """Write Kubernetes manifests that pin PLAN to its nodes.

    \b
    planner emit k8s out/plan.yaml -o manifests --version 1.36
    """
    study = load_study(plan)
    target = Target(version=version, namespace=namespace, queue=queue)
    _write(ctx, output, kubernetes_bundle(study.plan, study.topology, study.workload, target), force=force)


@emit_group.command("launch")
@click.argument("plan", type=PLAN)
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace the folder if it exists.")
@common_options
@click.pass_context
def emit_launch(ctx: click.Context, plan: Path, output: Path, force: bool) -> None:
    """Write launch scripts with devices, cores and arguments of PLAN.

    \b
    planner emit launch out/plan.yaml -o scripts
    """
    study = load_study(plan)
    _write(ctx, output, launch_files(study.plan, study.topology, study.workload), force=force)


def _write(ctx: click.Context, output: Path, files: dict[str, str], *, force: bool) -> None:
    write_folder(output, files, force=force)
    if wants_json(ctx):
        print_json({"folder": str(output), "files": sorted(files)})
        return
    for name in sorted(files):
        click.echo(str(output / name))


@click.command("report")
@click.argument("plan", type=PLAN)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Page to write; default beside the plan.")
@click.option("--simulation", type=PLAN, help="Result of 'planner simulate'; default simulation.yaml beside the plan.")
@click.option("--force", is_flag=True, help="Replace the page if it exists.")
@common_options
@click.pass_context
def report_command(ctx: click.Context, plan: Path, output: Path | None, simulation: Path | None, force: bool) -> None:
    """Write the self-contained HTML page of PLAN.

    \b
    planner report out/plan.yaml -o page.html
    """
    study = load_study(plan)
    page = output or plan.parent / "report.html"
    if page.exists() and not force:
        raise OutputExistsError(page)
    beside = simulation or plan.parent / "simulation.yaml"
    result = load(beside, SimulationResult) if beside.is_file() else None
    write_text_atomic(page, render_report(study.plan, study.topology, result, study.workload.document))
    if wants_json(ctx):
        print_json({"page": str(page)})
        return
    click.echo(str(page))
