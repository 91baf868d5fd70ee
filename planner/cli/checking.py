"""``planner check`` and ``planner explain``."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.group import common_options, wants_json
from planner.cli.output import print_json, print_summary
from planner.errors import DocumentError, PlanError, PlannerError
from planner.placement import Plan
from planner.report import explanation
from planner.schema import load_any
from planner.study import check_study, load_study
from planner.study.schemas import KINDS
from planner.topology import load_topology
from planner.workload import load_workload

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("check")
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--topology", help="The topology of a plan, if it moved.")
@click.option("--workload", help="The workload of a plan, if it moved.")
@common_options
@click.pass_context
def check_command(ctx: click.Context, files: tuple[Path, ...], topology: str | None, workload: str | None) -> None:
    """Validate documents of any kind; a plan is judged against its inputs.

    \b
    planner check my-cluster.yaml my-job.yaml
    planner check out/plan.yaml
    """
    found: dict[str, list[str]] = {}
    for path in files:
        found[str(path)] = _problems(path, topology, workload)
    bad = {name: problems for name, problems in found.items() if problems}
    if wants_json(ctx):
        print_json({"checked": list(found), "problems": bad})
    for name in found:
        if name not in bad and not wants_json(ctx):
            click.echo(f"{name}: ok")
    for problems in bad.values():
        for problem in problems:
            click.echo(problem, err=True)
    if bad:
        ctx.exit(PlanError.exit_code)


def _problems(path: Path, topology: str | None, workload: str | None) -> list[str]:
    try:
        document = load_any(path, {kind.kind: kind for kind in KINDS})
        if isinstance(document, Plan):
            return check_study(load_study(path, topology=topology, workload=workload))
        if document.kind == "topology":
            load_topology(path)
        elif document.kind == "workload":
            load_workload(path)
    except DocumentError as error:
        return str(error).splitlines()
    except PlannerError as error:
        return [f"{path}: {error}"]
    return []


@click.command("explain")
@click.argument("plan", type=FILE)
@click.option("--topology", help="The topology, if it moved.")
@click.option("--workload", help="The workload, if it moved.")
@click.option("--force", is_flag=True, help="Accept inputs that changed since the plan was made.")
@common_options
@click.pass_context
def explain_command(ctx: click.Context, plan: Path, topology: str | None, workload: str | None, force: bool) -> None:
    """Say which alternatives lost and by how much, which patterns apply, and what limits PLAN.

    \b
    planner explain out/plan.yaml
    """
    study = load_study(plan, topology=topology, workload=workload, force=force)
    summary = explanation(study.plan, study.workload.document, study.topology)
    if wants_json(ctx):
        tables = [{"title": t.title, "columns": t.columns, "rows": t.rows} for t in summary.tables]
        print_json({"title": summary.title, "sentence": summary.sentence, "tables": tables, "notes": summary.notes})
        return
    print_summary(summary)
