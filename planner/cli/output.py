"""Print summaries with rich, JSON for machines, and progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from planner.report import Summary, Table
from planner.solve import Progress
from planner.solve.budget import silent


def print_summary(summary: Summary) -> None:
    """Print tables and sentences; colours and width follow the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(summary.title, style="bold"))
    console.print(Text(summary.sentence))
    for table in summary.tables:
        console.print()
        _print_table(console, table)
    console.print()
    for note in summary.notes:
        console.print(Text(note, style="dim"))


def _print_table(console: Any, table: Table) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(table.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        drawn.add_column(Text(column), overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)
    for note in table.notes:
        console.print(Text(note, style="dim"))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    click.echo(json.dumps(value))


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Yield a callback that shows progress on standard error, on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield silent
        return
    with console.status(title) as status:

        def show(phase: str, visited: int, bound: float, incumbent: float) -> None:
            best = f"{incumbent:.6g}" if incumbent < float("inf") else "none yet"
            status.update(f"{title}: {visited} placed, best {best}, bound {bound:.6g}")

        yield show
