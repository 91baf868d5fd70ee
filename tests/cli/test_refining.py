"""``planner solve`` holds a service's limits in simulation, or says that it does not."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from planner.cli.main import cli
from planner.placement import Plan
from planner.schema import load
from tests.cli.documents import MACHINE, SERVICE


def solve(folder: Path, limit: str, *words: str) -> Result:
    """Solve a small service under a limit of the time between tokens."""
    (folder / "machine.yaml").write_text(MACHINE, encoding="utf-8")
    (folder / "chat.yaml").write_text(SERVICE.replace("tpot_p99: 50 ms", limit), encoding="utf-8")
    files = [str(folder / "machine.yaml"), str(folder / "chat.yaml"), "-o", str(folder / "out")]
    return CliRunner().invoke(cli, ["solve", *files, *words])


def test_both_figures_of_a_limit_are_written(tmp_path: Path) -> None:
    """Plan and summary carry the prediction and the simulation of every limit."""
    result = solve(tmp_path, "tpot_p99: 50 ms", "--json")
    assert result.exit_code == 0, result.stderr
    (limit,) = json.loads(result.stdout)["limits"]
    assert limit["predicted_s"] < limit["limit_s"]
    assert limit["simulated_s"] < limit["limit_s"]
    plan = load(tmp_path / "out" / "plan.yaml", Plan)
    assert [each.simulated for each in plan.simulated] == [limit["simulated_s"]]
    assert plan.status == "optimal"


def test_limits_that_only_the_prediction_holds_need_another_plan(tmp_path: Path) -> None:
    """Between both figures of a plan another one is found; held to that plan, the exit code is 3."""
    held = [word for fix in ("tp=1", "pp=1", "replicas=2") for word in ("--fix", fix)]
    free = solve(tmp_path, "tpot_p99: 1 s", "--json", *held)
    (seen,) = json.loads(free.stdout)["limits"]
    assert seen["simulated_s"] > seen["predicted_s"], "choose a case where the prediction is the lower one"
    between = f"tpot_p99: {(seen['simulated_s'] + seen['predicted_s']) / 2 * 1e6:.1f} us"
    refused = solve(tmp_path, between, "--force", *held)
    assert refused.exit_code == 3
    assert "breaks one in simulation" in refused.stderr
    assert solve(tmp_path, between, "--force", "--no-simulate", *held).exit_code == 0
    other = solve(tmp_path, between, "--force", "--json")
    (found,) = json.loads(other.stdout)["limits"]
    assert found["simulated_s"] <= found["limit_s"]
