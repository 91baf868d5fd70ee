"""``planner whatif``."""

from __future__ import annotations

from pathlib import Path

import click

from planner.cli.group import common_options, examples, verbosity, wants_json
from planner.cli.options import parallel_options
from planner.cli.output import print_json, print_table, stdout_console
from planner.cli.scenarios import running, write_figures
from planner.report.rows import png_files, rows_csv, write_parquet
from planner.report.summary import Table
from planner.report.whatif import default_metric, figures, rows_of
from planner.schema import write_text_atomic
from planner.study.whatif import (
    Crossing,
    Outcome,
    Runner,
    StudyDocument,
    changes,
    crossings,
    load_whatif,
    make_scenarios,
)
from planner.study.whatif.analysis import in_order, refinements
from planner.study.whatif.scenarios import Bases, scenario_of

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
@parallel_options
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
    with running(folder, processes, cluster, verbosity(ctx)) as runner:
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
    write_text_atomic(folder / "results.csv", rows_csv(rows_of(outcomes)))
    written = ["results.csv"]
    if parquet:
        write_parquet(rows_of(outcomes), folder / "results.parquet")
        written.append("results.parquet")
    return written + write_figures(folder, png_files(figures(document, outcomes)))


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
    notes += [
        f"{cross.metric} of {cross.below} is less up to {cross.parameter} = {cross.low}, that of "
        f"{cross.above} from {cross.high} on; they cross near {cross.at:.3g}"
        for cross in _crossings(document, outcomes)[:SHOWN]
    ]
    if len(outcomes) > SHOWN:
        notes.append(f"{len(outcomes) - SHOWN} more scenarios are in results.csv.")
    return Table(document.name, (*titles, "status", *shown, "decision"), tuple(rows), tuple(notes))


def _crossings(document: StudyDocument, outcomes: list[Outcome]) -> list[Crossing]:
    known = any(outcome.metrics for outcome in outcomes)
    shown = document.metrics or ([default_metric(document, outcomes)] if known else [])
    return [cross for metric in shown for cross in crossings(document, outcomes, metric)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _as_json(document: StudyDocument, outcomes: list[Outcome], runner: Runner) -> dict[str, object]:
    return {
        "study": document.name,
        "counts": vars(runner.counts),
        "rows": rows_of(outcomes),
        "changes": [vars(change) for change in changes(document, outcomes)],
        "crossings": [vars(cross) for cross in _crossings(document, outcomes)],
    }
