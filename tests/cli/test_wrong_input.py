"""Wrong input ends with the documented exit code and a message that names place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from planner.cli import cli
from tests.cli.documents import MACHINE, SERVICE, TRAINING, only_json, write_inputs


def solve(folder: Path, *more: str, topology: str = MACHINE, workload: str = SERVICE) -> Result:
    """Solve two documents, in text or with ``--json``."""
    machine, job = write_inputs(folder, topology, workload)
    arguments = ["solve", str(machine), str(job), "-o", str(folder / "out"), "--no-simulate", *more]
    return CliRunner().invoke(cli, arguments)


def place(text: str, fragment: str) -> str:
    """Return ``LINE:COLUMN`` of a fragment."""
    before = text[: text.index(fragment)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


MISTAKES = {
    "unknown field": ("    cores: 16", "    corez: 16", "corez: 16", "did you mean 'cores'"),
    "misspelt device": ("h100-sxm-80", "h100-smx-80", "h100-smx-80", "did you mean 'h100-sxm-80'"),
    "dangling link": ("[numa0, pcie]", "[numa9, pcie]", "[numa9, pcie]", "did you mean 'numa0'"),
    "wrong unit": ("memory: 256 GiB", "memory: 256 GB/s", "256 GB/s", "GiB"),
    "duplicate key": ("    cores: 16\n", "    cores: 16\n    cores: 8\n", "cores: 8", "on line 8"),
    "no unit": ("memory: 256 GiB", "memory: 256", "256\n", "unit"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_document_is_reported_at_its_place_with_a_remedy(tmp_path: Path, mistake: str) -> None:
    """Each kind of mistake ends with exit code 1 and names file, line, column and what would mend it."""
    right, wrong, fragment, remedy = MISTAKES[mistake]
    assert right in MACHINE
    text = MACHINE.replace(right, wrong)
    result = solve(tmp_path, topology=text)
    assert result.exit_code == 1
    assert f"machine.yaml:{place(text, fragment)}: " in result.stderr
    assert remedy in result.stderr
    assert not (tmp_path / "out").exists()


def test_mistakes_of_all_documents_are_reported_at_once(tmp_path: Path) -> None:
    """One run names what is wrong with the topology and with the workload."""
    topology, workload = MACHINE.replace("cores:", "corez:"), SERVICE.replace("llama3-8b", "llama3-9b")
    result = solve(tmp_path, topology=topology, workload=workload)
    assert "machine.yaml:8:5: " in result.stderr
    assert f"job.yaml:{place(workload, 'llama3-9b')}: " in result.stderr
    assert "did you mean 'llama3-8b'" in result.stderr


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    """A misspelt name of a shipped document leads to the right one."""
    result = CliRunner().invoke(cli, ["solve", "dgx-h10", "llama3-70b-serving"])
    assert result.exit_code == 1
    assert "did you mean 'dgx-h100'" in result.stderr


def test_a_model_that_fits_nowhere_names_conflict_and_nearest_change(tmp_path: Path) -> None:
    """Exit code 3, the constraints in conflict, and how many GPUs would do."""
    result = solve(tmp_path, workload=TRAINING.replace("llama3-8b", "llama3-405b"))
    assert result.exit_code == 3
    assert "in conflict: memory of 85.5 GB per GPU, 2 GPUs" in result.stderr
    assert "nearest change" in result.stderr
    assert "GPUs of this kind would hold it" in result.stderr


def test_a_limit_that_nothing_meets_names_conflict_and_nearest_change(tmp_path: Path) -> None:
    """Exit code 3, the limit in conflict, and the value that would do."""
    result = solve(tmp_path, workload=SERVICE.replace("50 ms", "10 us"))
    assert result.exit_code == 3
    assert "tpot_p99 of 10.0 us" in result.stderr
    assert "tpot_p99 of at least" in result.stderr


def test_no_plan_in_time_ends_with_its_own_code(tmp_path: Path) -> None:
    """A search that ends before it has a plan says so; it does not claim that none exists."""
    arguments = [
        "solve",
        "dgx-h100-x64",
        "deepseek-v3-training",
        "--time-limit",
        "0.1",
        "-o",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 4
    assert "no plan within 0.1 s; give more time with --time-limit" in result.stderr


@pytest.mark.parametrize(
    ("workload", "code", "error"),
    [
        (SERVICE.replace("rate: 2 req/s", "rate: 2 GB"), 1, "DocumentError"),
        (SERVICE.replace("50 ms", "10 us"), 3, "InfeasibleError"),
    ],
)
def test_errors_are_one_json_object_when_asked_for(
    tmp_path: Path, workload: str, code: int, error: str
) -> None:
    """Under --json standard output holds one object with error, message and exit code."""
    result = solve(tmp_path, "--json", workload=workload)
    found = only_json(result.stdout)
    assert result.exit_code == found["exit_code"] == code
    assert found["error"] == error
    assert found["message"]
    if code == 1:
        assert found["problems"][0]["line"] == 8
    else:
        assert found["conflicts"]
        assert found["remedy"]


@pytest.mark.parametrize(
    "arguments",
    [["solv", "--json"], ["solve", "a", "--json"], ["solve", "--jason", "--json"], ["emit", "k8s", "--json"]],
)
def test_wrong_usage_is_one_json_object_too(arguments: list[str]) -> None:
    """A misspelt command, a missing argument and an unknown option end with exit code 2."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert only_json(result.stdout)["exit_code"] == 2
    assert "Usage: " in result.stderr


def test_a_misspelt_command_is_answered_with_the_nearest() -> None:
    """The hint names the command that was meant, in groups too."""
    assert "Did you mean 'solve'?" in CliRunner().invoke(cli, ["sovle"]).stderr
    assert "Did you mean 'launch'?" in CliRunner().invoke(cli, ["emit", "lanch"]).stderr
