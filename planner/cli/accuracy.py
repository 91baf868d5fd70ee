"""``planner accuracy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner import units
from planner.cli.group import common_options, examples, verbosity, wants_json
from planner.cli.output import print_json, print_summary

if TYPE_CHECKING:
    from planner.report import Summary
    from planner.study.accuracy import Accuracy, Prediction

COLUMNS = (
    "metric", "source", "rows", "coverage", "mean", "median", "p90", "max", "bias", "Spearman",
)  # fmt: skip


@click.command(
    "accuracy",
    epilog=examples(
        "planner accuracy my-runs.csv", "planner accuracy my-runs.csv --calibration our-h100 --json"
    ),
)
@click.argument("rows", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--calibration", default="default", show_default=True,
    help="Calibration to predict with, a file or the name of a preset.",
)  # fmt: skip
@common_options
@click.pass_context
def accuracy_command(ctx: click.Context, rows: Path, calibration: str) -> None:
    """Predict the measured runs of ROWS, a CSV table, and print the errors per source.

    A row without a prediction counts as 100 %. Where a row leaves settings open, the best over them counts.
    """
    from planner.study.accuracy import accuracy_of_file

    found = accuracy_of_file(rows, calibration)
    if wants_json(ctx):
        print_json(found.as_dict())
        return
    print_summary(_summary(found, verbosity(ctx)), 1)


def _summary(found: Accuracy, detail: int) -> Summary:
    from planner.report import Summary, Table

    lines = tuple(
        (
            metric, source, str(one.rows), _share(one.coverage), _share(one.mape), _share(one.median),
            _share(one.p90), _share(one.worst), _share(one.bias, sign=True),
            "-" if one.spearman != one.spearman else f"{one.spearman:.3f}",
        )
        for (metric, source), one in found.scores.items()
    )  # fmt: skip
    missing = [one for one in found.predictions if one.reason]
    notes = [f"line {one.line}: no prediction: {one.reason}" for one in missing[: None if detail else 5]]
    if len(missing) > len(notes):
        notes.append(f"{len(missing) - len(notes)} more rows without a prediction; -v names them")
    opened = [one.tried for one in found.predictions if one.tried > 1]
    if opened:
        mean = sum(opened) / len(opened)
        notes.append(
            f"{len(opened)} rows leave settings open: the best of {mean:.0f} on average (most: {max(opened)})"
        )
    tables = [Table("", COLUMNS, lines)]
    if detail:
        tables.append(Table("rows", ("line", "metric", "predicted", "measured", "error"), _rows(found)))
    title = f"{found.form}, calibration {found.calibration}"
    return Summary(title, f"{len(found.predictions)} predictions", tuple(tables), tuple(notes))


def _rows(found: Accuracy) -> tuple[tuple[str, ...], ...]:
    def error(one: Prediction) -> str:
        return (
            "-" if one.predicted != one.predicted else _share(one.predicted / one.measured - 1.0, sign=True)
        )

    return tuple(
        (str(one.line), one.metric, _time(one.predicted), _time(one.measured), error(one))
        for one in found.predictions
    )


def _time(value: float) -> str:
    return "-" if value != value else units.show(value, "s")


def _share(value: float, *, sign: bool = False) -> str:
    if value != value:
        return "-"
    return f"{100 * value:+.1f}%" if sign else f"{100 * value:.1f}%"
