"""Print summaries, JSON for machines, and progress on standard error."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from planner.report import Summary, Table

if TYPE_CHECKING:
    from rich.console import Console

    from planner.solve import Progress

PIPED_WIDTH = 110
"""Columns where standard output is no terminal."""
MOST_ROWS = 20


def stdout_console() -> Console:
    """Return a console on standard output; colours and width follow the terminal."""
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, soft_wrap=True, width=None if known else PIPED_WIDTH)


def print_summary(summary: Summary, verbosity: int = 0) -> None:
    """Print tables and sentences; long tables are cut unless more was asked for."""
    from rich.text import Text

    console = stdout_console()
    console.print(Text(summary.title, style="bold"))
    print_sentence(console, summary.sentence)
    for table in summary.tables:
        console.print()
        print_table(console, table if verbosity else _cut(table))
    if summary.notes:
        console.print()
    for note in summary.notes:
        print_sentence(console, note, style="dim")


def _cut(table: Table) -> Table:
    more = len(table.rows) - MOST_ROWS
    if more <= 0:
        return table
    notes = (f"{more} more rows; -v shows all.", *table.notes)
    return Table(table.title, table.columns, table.rows[:MOST_ROWS], notes)


def print_table(console: Console, table: Table) -> None:
    """Print a titled table with its notes."""
    from rich.text import Text

    from planner.cli.tables import table_lines

    if table.title:
        console.print(Text(table.title, style="bold underline"))
    for line in table_lines(table.columns, table.rows, console.width):
        console.print(line)
    for note in table.notes:
        print_sentence(console, note, style="dim")


def print_sentence(console: Console, text: str, style: str = "") -> None:
    """Print running text, wrapped between words."""
    from rich.text import Text

    for line in textwrap.wrap(text, console.width):
        console.print(Text(line, style=style))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    click.echo(json.dumps(value))


@contextmanager
def progress(title: str, verbosity: int) -> Iterator[Progress]:
    """Yield a callback that shows progress on standard error: on a terminal in place, else only if asked."""
    if not sys.stderr.isatty():
        yield _said if verbosity else _silent
        return
    from rich.console import Console

    with Console(stderr=True).status(title) as status:

        def show(phase: str, visited: int, bound: float, incumbent: float) -> None:
            status.update(f"{title}: {_state(visited, bound, incumbent)}")

        yield show


def _silent(phase: str, visited: int, bound: float, incumbent: float) -> None:
    """Say nothing."""


def _said(phase: str, visited: int, bound: float, incumbent: float) -> None:
    click.echo(f"planner: {_state(visited, bound, incumbent)}", err=True)


def _state(visited: int, bound: float, incumbent: float) -> str:
    best = f"{incumbent:.6g}" if incumbent < float("inf") else "none yet"
    return f"{visited} placed, best {best}, bound {bound:.6g}"
