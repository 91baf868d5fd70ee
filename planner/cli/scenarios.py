"""What commands share that run many scenarios: where these run, progress, figures as files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from planner.schema import write_bytes_atomic
from planner.study.whatif import Runner
from planner.study.whatif.running import dask, local

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def running(folder: Path, processes: int | None, cluster: str | None, verbosity: int) -> Iterator[Runner]:
    """Yield a runner that keeps its results in a folder and shows a bar on standard error."""
    execute = dask(cluster) if cluster else local(processes or os.cpu_count() or 1)
    with _bar(verbosity) as bar:
        yield Runner(folder / "scenarios", execute, _showing(bar))


def _bar(verbosity: int) -> Progress:
    """Return a progress bar on standard error, off where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (console.is_terminal or verbosity))


def _showing(bar: Progress) -> Callable[[str, int, int], None]:
    """Return what moves the bar; rounds of one phase add up."""
    tasks: dict[str, TaskID] = {}
    before: dict[str, int] = {}
    totals: dict[str, int] = {}

    def show(phase: str, done: int, total: int) -> None:
        if done == 0:
            before[phase] = totals.get(phase, 0)
            totals[phase] = before[phase] + total
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total)
        bar.update(tasks[phase], completed=before[phase] + done, total=totals[phase])

    return show


def write_figures(folder: Path, figures: Mapping[str, bytes]) -> list[str]:
    """Write figures, PNG, by name; return the names of the files."""
    for name, content in figures.items():
        write_bytes_atomic(folder / f"{name}.png", content)
    return [f"{name}.png" for name in figures]
