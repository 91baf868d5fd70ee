"""Options that steer the search, as a user runs them; deterministic runs byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from planner.cli import cli
from planner.placement import Plan
from planner.schema import load
from tests.cli.documents import MACHINE, SERVICE, TRAINING

QUICK = ["--no-simulate", "--time-limit", "20"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a small machine and two jobs, made the current one."""
    for name, text in (("machine.yaml", MACHINE), ("chat.yaml", SERVICE), ("train.yaml", TRAINING)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, ["solve", "machine.yaml", *arguments, *QUICK])


def test_hint_fix_keep_and_export_work_together_on_files(folder: Path) -> None:
    """A fixed plan is a hint for the free solve and a plan to keep; the CP-SAT model lands in its file."""
    fixed = run("chat.yaml", "-o", "a", "--fix", "tp=1", "--fix", "replicas=1", "--export-model", "model.txt")
    assert fixed.exit_code == 0, fixed.output
    assert "variables" in (folder / "model.txt").read_text(encoding="utf-8")
    free = run("chat.yaml", "-o", "b", "--hint", "a/plan.yaml")
    assert free.exit_code == 0, free.output
    values = [load(folder / name / "plan.yaml", Plan).objective.value for name in ("a", "b")]
    assert values[1] <= values[0]
    assert "hint" in free.output
    kept = run("chat.yaml", "-o", "c", "--keep", "a/plan.yaml", "--max-moves", "0")
    assert kept.exit_code == 0, kept.output
    again = load(folder / "c" / "plan.yaml", Plan)
    assert again.why[0].decision == "moves from the plan kept"
    assert again.why[0].chosen == "0"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["chat.yaml", "--fix", "tpp=1"], 2, "did you mean 'tp'"),
        (["chat.yaml", "--fix", "tp=3"], 3, "--fix tp=3"),
        (["chat.yaml", "--fix", "gpus=machine/gpu7"], 2, "--fix gpus=machine/gpu7"),
        (["chat.yaml", "--max-moves", "1"], 2, "--keep PLAN"),
        (["chat.yaml", "--hint", "nowhere.yaml"], 2, "does not exist"),
        (["chat.yaml", "--keep", "chat.yaml", "--fix", "tp=1"], 2, "leave out"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_wishes_are_refused_with_a_reason(arguments: list[str], code: int, text: str) -> None:
    """Misspelt fields, values that do not fit and options at odds end with their exit codes."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert text in result.output


def test_explain_answers_shadow_questions(folder: Path) -> None:
    """The table follows the decisions; its rows are in the JSON as well."""
    assert run("train.yaml", "-o", "a").exit_code == 0
    arguments = ["explain", str(folder / "a" / "plan.yaml"), "--shadow", "--time-limit", "20"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "10% more GPU memory" in result.output
    assert "one more GPU" in result.output


def written(folder: Path, seed: int, workload: str, machine: str = "machine.yaml") -> dict[str, bytes]:
    """Return every file and the output of a deterministic solve in a process with a hash seed."""
    folder.mkdir()
    for name, text in (("machine.yaml", MACHINE), ("chat.yaml", SERVICE), ("train.yaml", TRAINING)):
        (folder / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "planner", "solve", machine, workload, "--deterministic"]
    done = subprocess.run(
        [*command, "-o", "out"],
        cwd=folder,
        env=os.environ | {"PYTHONHASHSEED": str(seed)},
        capture_output=True,
        check=True,
    )
    files = {path.name: path.read_bytes() for path in sorted((folder / "out").rglob("*")) if path.is_file()}
    return files | {"stdout": done.stdout, "stderr": done.stderr}


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["chat.yaml", "train.yaml"])
def test_deterministic_solves_are_equal_byte_for_byte(tmp_path: Path, workload: str) -> None:
    """Ten hash seeds, and the first of them again: every file and all output are the same."""
    first = written(tmp_path / "first", 0, workload)
    assert {"plan.yaml", "report.html", "summary.json", "simulation.yaml"} <= set(first)
    for number, seed in enumerate([0, 1, 2, 3, 7, 42, 99, 1234, 65535, 4294967295]):
        assert written(tmp_path / str(number), seed, workload) == first


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["two-tower-graph", "dlrm-criteo-like"])
def test_shipped_jobs_of_other_kinds_are_solved_alike_too(tmp_path: Path, workload: str) -> None:
    """Graphs and tables give the same files and output under other hash seeds."""
    first = written(tmp_path / "first", 0, workload, "dgx-a100")
    for seed in (0, 42):
        assert written(tmp_path / str(seed), seed, workload, "dgx-a100") == first
