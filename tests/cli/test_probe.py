"""``planner topology probe``."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from planner.cli.main import cli
from planner.topology import load_topology
from tests.topology.importers.snapshots import riscv, write_folder


def test_the_probe_writes_a_topology(tmp_path: Path) -> None:
    """The file that the probe writes is one that every other command takes."""
    root, out = write_folder(tmp_path / "root", riscv()), tmp_path / "here.yaml"
    result = CliRunner().invoke(
        cli, ["topology", "probe", "--root", str(root), "-o", str(out), "--name", "here"]
    )
    assert result.exit_code == 0, result.output
    machine = load_topology(str(out)).nodes[0].machine
    assert [domain.arch for domain in machine.numa] == ["riscv64", "riscv64"]
    assert [domain.core_list for domain in machine.numa] == ["0-1,4-5", "2-3,6-7"]


def test_the_probe_prints_facts_for_machines(tmp_path: Path) -> None:
    """With --json the facts and the topology are one object on standard output."""
    root = write_folder(tmp_path, riscv())
    result = CliRunner().invoke(cli, ["--json", "topology", "probe", "--root", str(root)])
    found = json.loads(result.stdout)
    assert found["facts"]["processors"] == 8 and found["topology"]["machines"][0]["numa"]


def test_a_root_without_a_kernel_is_an_error(tmp_path: Path) -> None:
    """A wrong root ends with exit code 1 and a sentence."""
    result = CliRunner().invoke(cli, ["topology", "probe", "--root", str(tmp_path)])
    assert result.exit_code == 1 and "names no processor" in result.output


def test_the_agent_describes_its_node_once(tmp_path: Path) -> None:
    """`planner agent --once` writes what the probe writes; an extender without a plan is a wrong call."""
    root, out = write_folder(tmp_path / "root", riscv()), tmp_path / "here.yaml"
    words = ["--root", str(root), "--name", "here"]
    agent = CliRunner().invoke(cli, ["agent", "--once", *words])
    assert agent.exit_code == 0
    assert agent.stdout == CliRunner().invoke(cli, ["topology", "probe", *words]).stdout
    assert CliRunner().invoke(cli, ["agent", "--once", *words, "-o", str(out)]).exit_code == 0
    assert load_topology(out).name == "here"
    bare = CliRunner().invoke(cli, ["agent", "--extender", *words])
    assert bare.exit_code == 2 and "--plan" in bare.output
