"""``planner report``: the page of a plan, or of two plans side by side."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.group import common_options, examples, moved_inputs, verbosity, wants_json
from planner.cli.output import print_json, print_summary
from planner.cli.places import check_file
from planner.errors import PlanError
from planner.placement import Plan
from planner.report import render_report
from planner.report.comparison import Side, compare
from planner.report.comparison_page import comparison_summary, render_comparison
from planner.schema import load, write_text_atomic
from planner.simulate.result import SimulationResult
from planner.study import load_study
from planner.study.alternatives import alternatives

PLAN = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "report",
    epilog=examples(
        "planner report out/plan.yaml -o page.html",
        "planner report before/plan.yaml after/plan.yaml",
        "planner --json report before/plan.yaml after/plan.yaml -o changes.html",
    ),
)
@click.argument("plan", type=PLAN)
@click.argument("other", type=PLAN, required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Page to write.  [default: report.html beside PLAN, comparison.html beside OTHER]",
)
@click.option(
    "--simulation",
    type=PLAN,
    help="Result of 'planner simulate -o'.  [default: simulation.yaml beside the plan]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace the page if it exists; accept inputs that changed since the plan was made.",
)
@moved_inputs
@common_options
@click.pass_context
def report_command(
    ctx: click.Context,
    plan: Path,
    other: Path | None,
    output: Path | None,
    simulation: Path | None,
    force: bool,
    topology: str | None,
    workload: str | None,
    calibration: str | None,
) -> None:
    """Write the self-contained HTML page of PLAN, or compare it with OTHER.

    A comparison prints what differs and writes both plans side by side: decisions, figures, memory, loads of
    links. It takes both plans as they are, so their inputs need not be there.
    """
    if other is not None:
        if simulation or topology or workload or calibration:
            raise click.UsageError(
                "a comparison reads both plans and the simulation.yaml beside each; leave out --simulation, "
                "--topology, --workload and --calibration",
                ctx,
            )
        _compare(ctx, plan, other, output or other.parent / "comparison.html", force=force)
        return
    page = output or plan.parent / "report.html"
    check_file(page, force=force)
    study = load_study(plan, topology=topology, workload=workload, calibration=calibration, force=force)
    result = _simulation(study.plan, simulation, plan.parent / "simulation.yaml")
    others = alternatives(study)
    write_text_atomic(
        page, render_report(study.plan, study.topology, result, study.workload.document, others)
    )
    if wants_json(ctx):
        print_json({"page": str(page)})
        return
    click.echo(str(page))


def _compare(ctx: click.Context, before: Path, after: Path, page: Path, *, force: bool) -> None:
    check_file(page, force=force)
    comparison = compare(_side(before), _side(after))
    write_text_atomic(page, render_comparison(comparison))
    if wants_json(ctx):
        print_json({"page": str(page), **comparison.json()})
        return
    print_summary(comparison_summary(comparison), verbosity(ctx))
    click.echo(f"Written to {page}")


def _side(path: Path) -> Side:
    plan = load(path, Plan)
    return Side(path, plan, _simulation(plan, None, path.parent / "simulation.yaml"))


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
    if result.plan_digest == plan.content_digest:
        return result
    if given is not None:
        raise PlanError(f"{path} simulates another plan; run 'planner simulate' on this one")
    return None
