"""``planner whatif``."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.cli.group import common_options, examples, verbosity, wants_json
from planner.cli.output import print_json, print_table, stdout_console
from planner.report.summary import Table
from planner.report.whatif import as_csv, default_metric, figures, rows_of, write_parquet
from planner.schema import write_bytes_atomic, write_text_atomic
from planner.study.whatif import Outcome, Runner, StudyDocument, changes, load_whatif, make_scenarios
from planner.study.whatif.analysis import in_order, refinements
from planner.study.whatif.running import dask, local
from planner.study.whatif.scenarios import Bases, scenario_of

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
SHOWN = 40
"""Most scenarios that the terminal shows; the files hold all."""


@click.command(
    "whatif",
    epilog=examples(
        "planner whatif nvlink-sweep.yaml -o out/nvlink-sweep",
        "planner whatif nvlink-sweep.yaml --processes 4 --parquet",
        "planner whatif nvlink-sweep.yaml --cluster tcp://scheduler:8786",
    ),
)
@click.argument("study", type=FILE)
@click.option("-o", "--output", type=FOLDER, help="Folder of results and cache.  [default: out/STUDY]")
@click.option(
    "--processes", type=click.IntRange(min=1), help="Local processes.  [default: as many as there are cores]"
)
@click.option("--cluster", help="Address of a Dask scheduler that runs the scenarios instead.")
@click.option("--parquet", is_flag=True, help="Write the table as Parquet too.")
@common_options
@click.pass_context
def whatif_command(
    ctx: click.Context,
    study: Path,
    output: Path | None,
    processes: int | None,
    cluster: str | None,
    parquet: bool,
) -> None:
    """Vary fields of the inputs as STUDY says, solve and simulate each scenario, compare.

    Leaves results.csv, figures and the plan of every scenario in a folder. What is in the folder already is
    not worked out again: a study that was killed goes on where it was.
    """
    document = load_whatif(study)
    folder = output or Path("out") / document.name
    scenarios = make_scenarios(document, study.parent)
    execute = dask(cluster) if cluster else local(processes or os.cpu_count() or 1)
    with _bar(verbosity(ctx)) as bar:
        runner = Runner(folder / "scenarios", execute, _showing(bar))
        outcomes = runner.run(scenarios)
        outcomes = _refined(document, study.parent, runner, outcomes)
    written = _write(document, outcomes, folder, parquet=parquet)
    if wants_json(ctx):
        print_json(_as_json(document, outcomes, runner))
        return
    print_table(stdout_console(), _table(document, outcomes))
    counts = runner.counts
    click.echo(
        f"{counts.scenarios} scenarios: {counts.solved} solved, {counts.simulated} simulated, "
        f"{counts.scenarios - counts.solved} plans at hand"
    )
    click.echo(f"Written to {folder}/: {', '.join(written)}, scenarios/")


def _refined(document: StudyDocument, folder: Path, runner: Runner, outcomes: list[Outcome]) -> list[Outcome]:
    """Halve the intervals at which the decision changes as often as the study asks for."""
    bases = Bases(folder)
    for _ in range(document.options.refine):
        middles = refinements(document, outcomes)
        if not middles:
            break
        added = runner.run([scenario_of(document, bases, values) for values in middles])
        outcomes = in_order(document, [*outcomes, *added])
    return outcomes


def _write(document: StudyDocument, outcomes: list[Outcome], folder: Path, *, parquet: bool) -> list[str]:
    write_text_atomic(folder / "results.csv", as_csv(outcomes))
    written = ["results.csv"]
    if parquet:
        write_parquet(outcomes, folder / "results.parquet")
        written.append("results.parquet")
    for name, figure in figures(document, outcomes).items():
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        write_bytes_atomic(folder / f"{name}.png", stream.getvalue())
        written.append(f"{name}.png")
    return written


def _table(document: StudyDocument, outcomes: list[Outcome]) -> Table:
    """Return what the terminal shows: parameters, decision, metrics, and where the plan changes."""
    known = any(outcome.metrics for outcome in outcomes)
    shown = document.metrics or ([default_metric(document, outcomes)] if known else [])
    titles = [parameter.title for parameter in document.vary]
    rows = [
        (
            *(outcome.labels[title] for title in titles),
            outcome.status,
            *(_number(outcome.metrics.get(name)) for name in shown),
            outcome.decided or outcome.message,
        )
        for outcome in outcomes[:SHOWN]
    ]
    notes = [
        f"The plan changes between {change.parameter} = {change.low} and {change.high}"
        + "".join(f", {name} = {value}" for name, value in change.others.items())
        + f": {change.before} -> {change.after}"
        for change in changes(document, outcomes)[:SHOWN]
    ]
    if len(outcomes) > SHOWN:
        notes.append(f"{len(outcomes) - SHOWN} more scenarios are in results.csv.")
    return Table(document.name, (*titles, "status", *shown, "decision"), tuple(rows), tuple(notes))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _as_json(document: StudyDocument, outcomes: list[Outcome], runner: Runner) -> dict[str, object]:
    return {
        "study": document.name,
        "counts": vars(runner.counts),
        "rows": rows_of(outcomes),
        "changes": [vars(change) for change in changes(document, outcomes)],
    }


def _bar(verbosity: int) -> Progress:
    """Return a progress bar on standard error, off where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (console.is_terminal or verbosity))


def _showing(bar: Progress) -> Callable[[str, int, int], None]:
    tasks: dict[str, TaskID] = {}

    def show(phase: str, done: int, total: int) -> None:
        if done == 0:
            tasks[phase] = bar.add_task(phase, total=total)
        bar.update(tasks[phase], completed=done)

    return show
