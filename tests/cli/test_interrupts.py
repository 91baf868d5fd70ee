"""An interrupt ends the search and keeps its best plan; a second one ends the program."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.cli import cli
from planner.placement import Plan
from planner.report import write_folder
from planner.schema import load
from tests.cli.documents import write_inputs

SLOW = """
import sys, time
from planner.cli import main
from planner.solve.training import TrainingSearch
real = TrainingSearch._place
def slow(self, *arguments):
    real(self, *arguments)
    time.sleep({pause})
def never(self, *arguments):
    print("searching", file=sys.stderr, flush=True)
    time.sleep({pause})
TrainingSearch.{method} = {replacement}
sys.argv[1:] = {arguments!r}
main()
"""
JOB = """
schema: workload/1
name: slow
jobs:
- kind: training
  name: train
  model: llama3-8b
  sequence: 8192
  global_batch: 64
"""


@contextmanager
def slow_solve(folder: Path, method: str, replacement: str, pause: float) -> Iterator[subprocess.Popen[str]]:
    """Run a solve that takes its time, in a process of its own."""
    (folder / "job.yaml").write_text(JOB)
    arguments = ["solve", "dgx-h100", "job.yaml", "-o", "out", "--no-simulate", "-v"]
    code = SLOW.format(method=method, replacement=replacement, pause=pause, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], pattern: str) -> None:
    """Read standard error up to a line that holds a pattern."""
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(pattern, line):
            return
    pytest.fail(f"the program ended without saying {pattern!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_solve_writes_its_best_plan(tmp_path: Path, number: signal.Signals) -> None:
    """The plan is legal, feasible rather than optimal, and the message says that it was cut short."""
    with slow_solve(tmp_path, "_place", "slow", 0.3) as process:
        wait_for(process, r"placed, best [0-9]")
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    assert "stopping; the best plan so far will be written" in stderr
    assert "out/plan.yaml is the best plan found so far" in stderr
    plan = load(tmp_path / "out" / "plan.yaml", Plan)
    assert plan.status == "feasible"
    assert 0 < plan.bound < plan.objective.value


def test_an_interrupt_before_any_plan_ends_with_its_own_code(tmp_path: Path) -> None:
    """Nothing is written, and nothing is claimed to be infeasible."""
    with slow_solve(tmp_path, "_place", "never", 0.5) as process:
        wait_for(process, "searching")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 4, stderr
    assert "interrupted before there was a plan" in stderr
    assert not (tmp_path / "out").exists()


def test_a_second_interrupt_ends_the_program_at_once(tmp_path: Path) -> None:
    """Who asks twice does not wait for the search."""
    with slow_solve(tmp_path, "_place", "never", 30) as process:
        wait_for(process, "searching")
        process.send_signal(signal.SIGINT)
        wait_for(process, "stopping")
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert time.monotonic() - start < 10
        assert process.returncode == 4
    assert "interrupted; nothing was written" in stderr
    assert not (tmp_path / "out").exists()


def test_an_interrupt_while_simulating_keeps_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is complete by then; only the simulation is missing."""
    machine, job = write_inputs(tmp_path)

    def interrupting(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("planner.simulate.simulate_plan", interrupting)
    result = CliRunner().invoke(cli, ["solve", str(machine), str(job), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.stderr
    assert "interrupted; the plan is written without a simulation" in result.stderr
    assert load(tmp_path / "out" / "plan.yaml", Plan).status == "optimal"
    assert not (tmp_path / "out" / "simulation.yaml").exists()


def test_an_interrupt_while_writing_is_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is nearly written is written."""
    machine, job = write_inputs(tmp_path)

    def interrupting(folder: Path, files: dict[str, str], *, force: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        write_folder(folder, files, force=force)

    monkeypatch.setattr("planner.cli.solving.write_folder", interrupting)
    arguments = ["solve", str(machine), str(job), "-o", str(tmp_path / "out"), "--no-simulate"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert load(tmp_path / "out" / "plan.yaml", Plan).status == "optimal"


def test_signals_are_handled_as_before_afterwards(tmp_path: Path) -> None:
    """A solve in a program of one's own leaves the handlers alone."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    machine, job = write_inputs(tmp_path)
    arguments = ["solve", str(machine), str(job), "-o", str(tmp_path / "out"), "--no-simulate"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
