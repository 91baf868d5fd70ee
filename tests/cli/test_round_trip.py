"""A plan on disk serves every other command, from any folder, as long as its inputs are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from planner.cli import cli
from tests.cli.documents import only_json, write_inputs


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both inputs and, in ``out``, the plan made from them by relative paths."""
    folder = tmp_path_factory.mktemp("solved")
    write_inputs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        arguments = ["solve", "machine.yaml", "job.yaml", "-o", "out/plan-1", "--no-simulate"]
        result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    return folder


def planner(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("where", ["elsewhere", "moved"])
def test_every_command_works_from_another_folder(
    solved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Inputs given by relative paths are found from elsewhere, and after everything moved together."""
    plan = solved / "out" / "plan-1" / "plan.yaml"
    if where == "moved":
        shutil.copytree(solved, tmp_path / "new" / "home")
        plan = tmp_path / "new" / "home" / "out" / "plan-1" / "plan.yaml"
    monkeypatch.chdir(tmp_path)
    assert planner("check", plan).stdout == f"{plan}: ok\n"
    assert "What limits" in planner("explain", plan).stdout
    for kind in ("k8s", "launch"):
        result = planner("emit", kind, plan, "-o", kind, "--json")
        assert result.exit_code == 0, result.stderr
        names = only_json(result.stdout)["files"]
        assert names
        for name in names:
            written, at_once = tmp_path / kind / name, plan.parent / kind / name
            assert written.read_text() == at_once.read_text()
    assert planner("report", plan, "-o", "page.html").stdout == "page.html\n"
    assert (tmp_path / "page.html").read_text().lower().startswith("<!doctype html>")


def test_a_simulation_is_stored_and_found_by_the_report(solved: Path, tmp_path: Path) -> None:
    """`simulate -o` writes what `report` shows; its trace is a list of events."""
    shutil.copytree(solved, tmp_path / "copy")
    folder = tmp_path / "copy" / "out" / "plan-1"
    plan, trace = folder / "plan.yaml", tmp_path / "trace.json"
    result = planner(
        "simulate", plan, "--requests", "200", "-o", folder / "simulation.yaml", "--trace", trace, "--json"
    )
    assert result.exit_code == 0, result.stderr
    found = only_json(result.stdout)
    assert found["jobs"][0]["latency"]["latency"]["p99"] > 0
    assert json.loads(trace.read_text())
    assert planner("check", folder / "simulation.yaml").exit_code == 0
    assert planner("simulate", plan, "-o", folder / "simulation.yaml").exit_code == 1
    assert planner("report", plan, "--force").exit_code == 0
    named = planner("report", plan, "--simulation", folder / "simulation.yaml", "--force")
    assert named.exit_code == 0, named.stderr
    plan.write_text(plan.read_text().replace("name: chat-on-small", "name: another"))
    result = planner("report", plan, "--simulation", folder / "simulation.yaml", "--force")
    assert result.exit_code == 1
    assert "simulates another plan" in result.stderr


@pytest.mark.parametrize("command", ["check", "explain", "simulate", "report", "emit k8s", "emit launch"])
def test_a_plan_whose_topology_changed_is_refused(solved: Path, tmp_path: Path, command: str) -> None:
    """No command goes on with other inputs than those the plan was made from."""
    shutil.copytree(solved, tmp_path / "copy")
    machine = tmp_path / "copy" / "machine.yaml"
    machine.write_text(machine.read_text().replace("memory: 256 GiB", "memory: 255 GiB"))
    plan = tmp_path / "copy" / "out" / "plan-1" / "plan.yaml"
    output = [] if command in ("check", "explain") else ["-o", str(tmp_path / "result")]
    result = planner(*command.split(), plan, *output)
    assert result.exit_code == 1
    assert "the topology has changed since the plan was made" in result.stderr
    assert not (tmp_path / "result").exists()
    if command in ("check", "explain"):
        assert planner(command, plan, "--force").exit_code == 0


def test_a_plan_whose_input_moved_says_how_to_name_it(solved: Path, tmp_path: Path) -> None:
    """The message names the option, and the option helps."""
    shutil.copytree(solved, tmp_path / "copy")
    moved = (tmp_path / "copy" / "machine.yaml").rename(tmp_path / "elsewhere.yaml")
    plan = tmp_path / "copy" / "out" / "plan-1" / "plan.yaml"
    result = planner("explain", plan)
    assert result.exit_code == 1
    assert "--topology" in result.stderr
    assert planner("explain", plan, "--topology", moved).exit_code == 0


def test_a_plan_that_was_tampered_with_fails_its_check(solved: Path, tmp_path: Path) -> None:
    """The judge recomputes the objective and names what does not hold."""
    shutil.copytree(solved, tmp_path / "copy")
    plan = tmp_path / "copy" / "out" / "plan-1" / "plan.yaml"
    lines = plan.read_text().splitlines()
    start = lines.index("objective:")
    lines[start + 2] = "  value: 0.5"
    plan.write_text("\n".join(lines))
    result = planner("check", plan)
    assert result.exit_code == 1
    assert "objective" in result.stderr
