"""``planner emit``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from planner.cli.group import PlannerGroup, common_options, examples, moved_inputs, wants_json
from planner.cli.output import print_json
from planner.cli.places import check_folder
from planner.deploy import Target, kubernetes_bundle, launch_files
from planner.deploy.context import Context
from planner.deploy.difference import changes
from planner.deploy.k8s import bundle_objects
from planner.deploy.platform import COMPONENTS
from planner.deploy.target_document import TargetDocument
from planner.report import write_folder
from planner.schema import load
from planner.study import load_study

PLAN = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group("emit", cls=PlannerGroup)
@common_options
def emit_group() -> None:
    """Write the files that carry a plan out on a cluster."""


@emit_group.command(
    "k8s",
    epilog=examples(
        "planner emit k8s out/plan.yaml -o manifests --version 1.36",
        "planner emit k8s out/plan.yaml -o manifests --target my-cluster-target.yaml",
        "planner emit k8s --diff old/plan.yaml new/plan.yaml",
    ),
)
@click.argument("plan", type=PLAN)
@click.option("-o", "--output", type=FOLDER, help="Folder to write.")
@click.option("--target", type=PLAN, help="Document target/1; the options below change what it says.")
@click.option("--version", help="Kubernetes release of the cluster.  [default: 1.34]")
@click.option("--namespace", help="Namespace of the objects.  [default: planner]")
@click.option("--queue", help="Queue to submit to.")
@click.option("--devices", type=click.Choice(["device-plugin", "dra"]), help="How pods get GPUs.")
@click.option("--stack", type=click.Choice(["core", "kueue", "kai", "volcano", "numa"]), help="Scheduler.")
@click.option(
    "--with",
    "components",
    multiple=True,
    type=click.Choice(COMPONENTS),
    help="Components that the root includes.",
)
@click.option("--diff", type=PLAN, help="Plan in force: say which pods PLAN restarts, write nothing.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@moved_inputs
@common_options
@click.pass_context
def emit_k8s(
    ctx: click.Context,
    plan: Path,
    output: Path | None,
    target: Path | None,
    version: str | None,
    namespace: str | None,
    queue: str | None,
    devices: str | None,
    stack: str | None,
    components: tuple[str, ...],
    diff: Path | None,
    force: bool,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Write Kubernetes manifests that pin PLAN to its nodes."""
    stated = {
        "kubernetes": version,
        "namespace": namespace,
        "queue": queue,
        "devices": devices,
        "stack": stack,
    }
    given: dict[str, object] = {name: value for name, value in stated.items() if value is not None}
    if components:
        given["components"] = list(components)
    aim = _target(target, given)
    if diff is not None:
        _difference(ctx, diff, plan, aim)
        return
    if output is None:
        raise click.UsageError("say where to write: -o FOLDER", ctx)
    check_folder(output, force=force)
    study = load_study(plan, topology=topology, workload=workload, calibration=calibration)
    _write(ctx, output, kubernetes_bundle(study.plan, study.topology, study.workload, aim), force=force)


def _target(path: Path | None, given: dict[str, object]) -> Target:
    """Return the target of a document with what options say in place of it."""
    document = load(path, TargetDocument) if path is not None else TargetDocument()
    return document.model_copy(update=given).target()


def _difference(ctx: click.Context, old: Path, new: Path, aim: Target) -> None:
    """Print what happens to pods when one plan gives way to another."""
    before, after = (
        list(bundle_objects(Context(study.plan, study.topology, study.workload, aim)).all)
        for study in (load_study(path) for path in (old, new))
    )
    found = changes(before, after)
    if wants_json(ctx):
        print_json({"changes": [asdict(one) for one in found]})
        return
    for one in found:
        click.echo(f"{one.action} {one.pods} of {one.owner}: {one.reason}")
    if not found:
        click.echo("no pod restarts")


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
