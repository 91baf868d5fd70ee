"""``planner check`` and ``planner explain``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from planner.cli.group import common_options, examples, moved_inputs, verbosity, wants_json
from planner.cli.manifests import CheckCommand
from planner.cli.output import print_json, print_summary
from planner.costs import load_calibration
from planner.costs.coefficients import DEFAULT_CALIBRATION
from planner.deploy.target_document import TargetDocument
from planner.errors import DocumentError, PlanError, PlannerError
from planner.placement import Plan
from planner.report import Summary, explanation, shadow_table
from planner.report.inventory import inventory
from planner.schema import load_any, presets
from planner.study import check_study, load_study, shadows
from planner.study.schemas import KINDS
from planner.topology import load_topology
from planner.workload import load_workload

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "check",
    cls=CheckCommand,
    epilog=examples(
        "planner check my-cluster.yaml my-job.yaml",
        "planner check out/plan.yaml",
        "planner check k8s manifests/*.yaml --topology my-cluster.yaml",
    ),
)
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("--force", is_flag=True, help="Accept inputs that changed since a plan was made.")
@moved_inputs
@common_options
@click.pass_context
def check_command(
    ctx: click.Context,
    files: tuple[Path, ...],
    force: bool,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Validate documents of any kind; a plan is judged against its inputs."""
    moved = {"topology": topology, "workload": workload, "calibration": calibration}
    found = {str(path): _problems(path, moved, force=force) for path in files}
    bad = {name: problems for name, problems in found.items() if problems}
    if wants_json(ctx):
        print_json({"ok": not bad, "checked": list(found), "problems": bad})
    for name, problems in found.items():
        if not problems and not wants_json(ctx):
            click.echo(f"{name}: ok")
        for problem in problems:
            click.echo(problem, err=True)
    if bad:
        ctx.exit(PlanError.exit_code)


def _problems(path: Path, moved: dict[str, str | None], *, force: bool) -> list[str]:
    """Return everything wrong with a document, each problem with its place."""
    try:
        document = load_any(path, {kind.kind: kind for kind in KINDS})
        if isinstance(document, Plan):
            return [f"{path}: {text}" for text in check_study(load_study(path, **moved, force=force))]
        if document.kind == "topology":
            load_topology(path)
        elif document.kind == "workload":
            load_workload(path)
        elif isinstance(document, TargetDocument):
            document.target()
    except DocumentError as error:
        return str(error).splitlines()
    except PlannerError as error:
        return [f"{path}: {error}"]
    return []


@click.command(
    "explain",
    epilog=examples(
        "planner explain out/plan.yaml", "planner explain multimodal-serving --topology gh200-dual"
    ),
)
@click.argument("plan")
@click.option("--force", is_flag=True, help="Accept inputs that changed since the plan was made.")
@click.option(
    "--shadow", is_flag=True, help="Solve again with one more node or GPU, more memory, faster links."
)
@click.option(
    "--time-limit",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Time for all shadow questions, seconds.",
)
@moved_inputs
@common_options
@click.pass_context
def explain_command(
    ctx: click.Context,
    plan: str,
    force: bool,
    shadow: bool,
    time_limit: float,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Say which alternatives lost and by how much, which patterns apply, and what limits PLAN.

    In place of a plan a workload, a file or the name of a preset: the class and the pattern of each of its
    flows, and on the machine of --topology the thresholds between memory modes.
    """
    if _is_workload(plan):
        machine = load_topology(topology) if topology is not None else None
        summary = inventory(
            load_workload(plan), machine, load_calibration(calibration or DEFAULT_CALIBRATION)
        )
        _show(ctx, summary)
        return
    study = load_study(Path(plan), topology=topology, workload=workload, calibration=calibration, force=force)
    summary = explanation(study.plan, study.workload.document, study.topology)
    if shadow:
        from planner.solve import Budget

        table = shadow_table(shadows(study, Budget(time_limit)), study.plan.objective.unit)
        summary = replace(summary, tables=(*summary.tables, table))
    _show(ctx, summary)


def _is_workload(name: str) -> bool:
    """Whether a name is that of a workload, a file or a preset, rather than of a plan.

    Raises
    ------
    BadParameter
        If it is neither a file nor a preset.
    """
    path = Path(name)
    if path.is_file():
        return load_any(path, {kind.kind: kind for kind in KINDS}).kind == "workload"
    if name in presets.names("workloads"):
        return True
    raise click.BadParameter(f"{name!r} is neither a file nor a shipped workload", param_hint="PLAN")


def _show(ctx: click.Context, summary: Summary) -> None:
    """Print a summary as tables or as JSON."""
    if wants_json(ctx):
        tables = [{"title": t.title, "columns": t.columns, "rows": t.rows} for t in summary.tables]
        print_json(
            {"title": summary.title, "sentence": summary.sentence, "tables": tables, "notes": summary.notes}
        )
        return
    print_summary(summary, verbosity(ctx))
