"""Training on GPUs of several models, as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.cli import cli
from planner.placement import Plan, TrainingPlan
from planner.schema import load
from tests.cli.documents import MACHINE, TRAINING

BOX = MACHINE.split("machines:\n", 1)[1]
CLUSTER = f"""\
schema: topology/1
name: pair
machines:
{BOX}{BOX.replace("name: box", "name: crate").replace("h100-sxm-80", "a100-sxm-80")}nodes:
- {{name: fast, machine: box}}
- {{name: slow, machine: crate}}
fabric:
  layout:
    {{shape: rail-optimised, kind: infiniband, nodes_per_leaf: 8, oversubscription: 1, hop_latency: 600 ns}}
"""
NIC = "  nics:\n  - {name: nic0, numa: numa0, bandwidth: 25 GB/s, rail: 0}\n  switches:\n"
WIRE = "  links:\n  - {between: [nic0, pcie], kind: pcie, bandwidth: 50 GB/s, latency: 500 ns}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an empty folder the current one."""
    monkeypatch.chdir(tmp_path)


def test_solve_mixes_models_where_that_wins() -> None:
    """The plan uses both kinds of GPU; it is checked, explained and simulated."""
    text = CLUSTER.replace("  switches:\n", NIC).replace("  links:\n", WIRE)
    Path("pair.yaml").write_text(text, encoding="utf-8")
    Path("train.yaml").write_text(TRAINING.replace("{cp: [1]", "{tp: [2], pp: [1, 2], cp: [1]"), "utf-8")
    result = CliRunner().invoke(cli, ["solve", "pair.yaml", "train.yaml", "-o", "out", "--time-limit", "30"])
    assert result.exit_code == 0, result.output
    assert Path("out/simulation.yaml").exists()
    (job,) = load(Path("out/plan.yaml"), Plan).jobs
    assert isinstance(job, TrainingPlan)
    assert set(job.device_models) == {"a100-sxm-80", "h100-sxm-80"}
    for command in ("check", "explain", "simulate"):
        shown = CliRunner().invoke(cli, [command, "out/plan.yaml"])
        assert shown.exit_code == 0, shown.output
    scenario = "schema: scenario/1\nname: slow\nstragglers: [{gpus: [a100-0/gpu0], slowdown: 2}]\n"
    Path("slow.yaml").write_text(scenario, encoding="utf-8")
    refused = CliRunner().invoke(cli, ["simulate", "out/plan.yaml", "--scenario", "slow.yaml"])
    assert refused.exit_code == 1
    assert "on one model only" in refused.output
