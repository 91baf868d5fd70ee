"""``planner solve``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from planner.cli.group import common_options, examples, verbosity, wants_json
from planner.cli.interrupts import Interrupts, interrupts
from planner.cli.options import calibration_option, seed_option, time_limit_option
from planner.cli.output import print_json, print_summary, progress
from planner.cli.places import check_folder
from planner.cli.searching import Search, search_options
from planner.report import bundle_files, plan_summary, summary_json, write_folder
from planner.report.bundle import PLAN
from planner.schema import presets
from planner.simulate.result import SimulationResult
from planner.solve import Budget
from planner.study import Sources, Study, load_documents
from planner.study.refine import refine

QUICK_REQUESTS = 2000


class SolveCommand(click.Command):
    """The command with the shipped workloads in its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Add the presets to the examples."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Shipped topologies"):
            formatter.write_text(", ".join(presets.names("topologies")))
        with formatter.section("Shipped workloads"):
            formatter.write_text(", ".join(presets.names("workloads")))


@click.command(
    "solve",
    epilog=examples(
        "planner solve hgx-h200 llama3-70b-serving -o out",
        "planner solve my-cluster.yaml my-job.yaml --time-limit 120 --json",
    ),
    cls=SolveCommand,
)
@click.argument("topology")
@click.argument("workload")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write.  [default: out/WORKLOAD-on-TOPOLOGY]",
)
@click.option("--force", is_flag=True, help="Replace what an earlier run left in the folder.")
@time_limit_option()
@seed_option()
@calibration_option
@click.option("--simulate/--no-simulate", default=True, show_default=True, help="Simulate the plan briefly.")
@search_options
@common_options
@click.pass_context
def solve_command(
    ctx: click.Context,
    /,
    topology: str,
    workload: str,
    output: Path | None,
    force: bool,
    time_limit: float,
    seed: int,
    calibration: str,
    simulate: bool,
    **chosen: Any,
) -> None:
    """Place WORKLOAD on TOPOLOGY: each is a file or the name of a preset.

    Services with limits are solved again, without the strategies whose simulation breaks a limit, until the
    simulated limits hold. Prints the plan with its proof and leaves plan.yaml, k8s/, launch/, report.html and
    summary.json in a folder. Ctrl-C ends the search and keeps the best plan found.
    """
    with interrupts() as signals:
        documents = load_documents(Sources(topology, workload, calibration))
        folder = output or Path("out") / documents.plan_name
        check_folder(folder, force=force)
        with progress("solving", verbosity(ctx)) as shown:
            asked = Search(**chosen)
            budget = asked.budget(Budget(time_limit, seed, signals.stopped, shown))
            sources = Sources(topology, workload, calibration, folder)
            study = asked.solve(documents, budget, sources)
            cut = signals.asked
            result = None
            if simulate and not cut:
                again = partial(asked.solve, documents, budget, sources)
                brief = partial(_simulated, seed=seed, signals=signals)
                refined = refine(study, brief, budget, again if asked.may_refine(documents) else None)
                study, result = refined.study, refined.result
        files = bundle_files(study, result, folder / PLAN)
        write_folder(folder, files, force=force)
        asked.export(budget)
    if cut:
        click.echo(f"planner: interrupted; {folder / PLAN} is the best plan found so far", err=True)
    if wants_json(ctx):
        print_json(summary_json(study.plan, result, folder / PLAN))
        return
    print_summary(plan_summary(study.plan, result), verbosity(ctx))
    names = dict.fromkeys(name.split("/")[0] + ("/" if "/" in name else "") for name in files)
    click.echo(f"Written to {folder}/: {', '.join(names)}")


def _simulated(study: Study, seed: int, signals: Interrupts) -> SimulationResult | None:
    """Simulate briefly; an interrupt meanwhile keeps the plan without a simulation."""
    from planner.simulate import simulate_plan

    signals.waiting = False
    try:
        return simulate_plan(study.problems, study.plan, seed=seed, requests=QUICK_REQUESTS)
    except KeyboardInterrupt:
        click.echo("planner: interrupted; the plan is written without a simulation", err=True)
        return None
    finally:
        signals.waiting = True
