"""Running a study: only what is not in the cache, on local processes or on a Dask cluster, resumable."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from planner.errors import PlannerError, StudyError
from planner.schema import dump_yaml, write_text_atomic
from planner.study.whatif.outcomes import (
    Figures,
    Outcome,
    SolvedScenario,
    measure_scenario,
    outcome_key,
    outcome_of,
    solve_key,
    solve_scenario,
)
from planner.study.whatif.scenarios import Scenario

Task = tuple[Callable[..., str], tuple[Any, ...]]
Execute = Callable[[Sequence[Task]], Iterator[tuple[int, str]]]
"""Runs tasks, each by its number, and yields their results as they come."""
SHARED_TRIES = 2
"""How often a task whose process died is run beside others, any of which may have been the cause."""
TRIES = 4
"""How often it is run in all: twice alone at the end, as a task may have bad luck of its own."""


@dataclass
class Counts:
    """How much of a study was worked out and how much was at hand."""

    scenarios: int = 0
    solved: int = 0
    simulated: int = 0
    reused: int = 0


@dataclass
class Runner:
    """A study on its way; results are kept in a folder, by the digest of what they depend on.

    Attributes
    ----------
    execute
        Where tasks run, see :func:`local` and :func:`dask`.
    progress
        Called with the phase, and how many of how many tasks are done.
    """

    folder: Path
    execute: Execute
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None
    counts: Counts = field(default_factory=Counts)

    def run(self, scenarios: Sequence[Scenario]) -> list[Outcome]:
        """Return the outcome of every scenario, in order.

        A scenario that fails has an outcome that says so; it never ends the study.
        """
        self.counts.scenarios += len(scenarios)
        keys = [self._keys(scenario) for scenario in scenarios]
        solved = self._phase("solve", scenarios, [key and key[0] for key in keys], _solving)
        figures = self._phase(
            "simulate",
            scenarios,
            [key and key[1] for key in keys],
            lambda one, index: _measuring(one, solved[index]),
        )
        return [
            _failed(scenario, str(solved[index]))
            if keys[index] is None
            else outcome_of(scenario, solved[index], figures[index])
            for index, scenario in enumerate(scenarios)
        ]

    def _keys(self, scenario: Scenario) -> tuple[str, str] | None:
        """Return where plan and figures of a scenario are kept; ``None`` where its inputs are not sound."""
        try:
            documents = scenario.documents()
        except PlannerError:
            return None
        solved = solve_key(scenario, documents)
        return solved, outcome_key(scenario, solved)

    def _phase(
        self,
        name: str,
        scenarios: Sequence[Scenario],
        keys: Sequence[str | None],
        task: Callable[[Scenario, int], Task],
    ) -> list[str]:
        """Return the text of every scenario for one phase, from the cache where it is."""
        found: dict[str, str] = {}
        missing: dict[str, int] = {}
        for index, key in enumerate(keys):
            if key is None or key in found or key in missing:
                continue
            path = self._path(name, key)
            if path.is_file():
                found[key] = path.read_text(encoding="utf-8")
            else:
                missing[key] = index
        work = list(missing.items())
        self._count(name, new=len(work), old=len(found))
        self.progress(name, 0, len(work))
        tasks = [task(scenarios[index], index) for _, index in work]
        for done, (number, text) in enumerate(self.execute(tasks), start=1):
            key = work[number][0]
            found[key] = text
            if _lasting(text):
                self._path(name, key).parent.mkdir(parents=True, exist_ok=True)
                write_text_atomic(self._path(name, key), text)
            self.progress(name, done, len(work))
        return [found[key] if key is not None else _unsound(scenarios[i]) for i, key in enumerate(keys)]

    def _path(self, phase: str, key: str) -> Path:
        return self.folder / phase / f"{key}.{'yaml' if phase == 'solve' else 'json'}"

    def _count(self, phase: str, *, new: int, old: int) -> None:
        if phase == "solve":
            self.counts.solved += new
            self.counts.reused += old
        else:
            self.counts.simulated += new


def _lasting(text: str) -> bool:
    """Whether a result is worth keeping: not one of a failure, which another run may not have."""
    return "status: failed" not in text and '"lost":true' not in text


def _solving(scenario: Scenario, index: int) -> Task:
    return solve_scenario, (scenario,)


def _measuring(scenario: Scenario, solved: str) -> Task:
    return measure_scenario, (scenario, solved)


def _unsound(scenario: Scenario) -> str:
    """Return what is wrong with the inputs of a scenario."""
    try:
        scenario.documents()
    except PlannerError as error:
        return str(error)
    raise AssertionError("the inputs of the scenario are sound")


def _failed(scenario: Scenario, message: str) -> Outcome:
    return Outcome(labels=scenario.labels, status="failed", message=message)


def run_study(scenarios: Sequence[Scenario], folder: Path, execute: Execute) -> tuple[list[Outcome], Counts]:
    """Run scenarios with their cache in a folder."""
    runner = Runner(folder, execute)
    return runner.run(scenarios), runner.counts


def _lost(task: Task, reason: str) -> str:
    """Return the result of a task that could not be run to its end."""
    if task[0] is solve_scenario:
        return dump_yaml(SolvedScenario(status="failed", message=reason))
    return Figures(decisions={}, metrics={}, message=reason, lost=True).model_dump_json()


def serial(tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
    """Run tasks one after the other in this process."""
    for number, (function, arguments) in enumerate(tasks):
        yield number, function(*arguments)


def local(processes: int) -> Execute:
    """Return what runs tasks on processes of this machine; a process that dies costs nobody else's work."""

    def execute(tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
        tries = dict.fromkeys(range(len(tasks)), 0)
        while tries:
            batch = [number for number, count in tries.items() if count < SHARED_TRIES] or [next(iter(tries))]
            for number, text in _pooled({number: tasks[number] for number in batch}, processes, tries):
                del tries[number]
                yield number, text
            for number in [number for number, count in tries.items() if count >= TRIES]:
                del tries[number]
                yield number, _lost(tasks[number], "its process died")

    return execute


def _pooled(tasks: dict[int, Task], processes: int, tries: dict[int, int]) -> Iterator[tuple[int, str]]:
    """Run tasks on a pool; yield those that end, and note a try for those whose pool broke."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["planner.study.whatif.outcomes"])
    pool = ProcessPoolExecutor(max_workers=min(processes, max(1, len(tasks))), mp_context=context)
    waiting: dict[Future[str], int] = {}
    try:
        with suppress(BrokenProcessPool):  # raised here too where a process dies early; the rest waits
            for number, (function, arguments) in tasks.items():
                waiting[pool.submit(function, *arguments)] = number
        for future in as_completed(waiting):
            number, error = waiting[future], future.exception()
            if isinstance(error, BrokenProcessPool):
                tries[number] += 1
            else:
                yield number, future.result() if error is None else _lost(tasks[number], repr(error))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def dask(address: str) -> Execute:
    """Return what runs tasks on a Dask cluster.

    Raises
    ------
    StudyError
        If Dask is not installed or there is no scheduler at the address.
    """
    try:
        from distributed import Client
        from distributed import as_completed as completed
    except ImportError:
        raise StudyError("a Dask cluster needs the extra 'dask': pip install 'planner[dask]'") from None
    try:
        _knock(address)
    except OSError as error:
        raise StudyError(f"there is no Dask scheduler at {address}: {error}") from None

    def execute(tasks: Sequence[Task]) -> Iterator[tuple[int, str]]:
        with Client(address, timeout=10) as client:
            futures = {
                client.submit(function, *arguments, pure=False, retries=TRIES): number
                for number, (function, arguments) in enumerate(tasks)
            }
            for future in completed(futures):
                number, done = futures[future], future.status == "finished"
                yield number, future.result() if done else _lost(tasks[number], repr(future.exception()))

    return execute


def _knock(address: str) -> None:
    """Raise an error of the operating system where nobody listens; the client would try on and log."""
    where = urlsplit(address)
    if where.scheme == "tcp" and where.port is not None:
        socket.create_connection((where.hostname or "", where.port), timeout=10).close()
