"""A progress bar of measurements on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def measuring(title: str, verbosity: int) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a callback that shows how many items are done: a bar on a terminal, else lines if asked for."""
    if not sys.stderr.isatty():
        yield _said if verbosity else _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[item]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, item="")

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, item=name)

        yield show


def _silent(done: int, total: int, name: str) -> None:
    """Say nothing."""


def _said(done: int, total: int, name: str) -> None:
    click.echo(f"planner: {done} of {total} {name}".rstrip(), err=True)
