"""``planner topology import``, ``merge`` and ``export`` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from planner.cli import cli
from planner.topology import load_topology
from tests.topology.importers.samples import TOPO, query
from tests.topology.importers.samples_fabric import dgx_table, rail_fabric


def call(*words: object) -> Result:
    """Return what a command printed and its exit code."""
    return CliRunner().invoke(cli, ["topology", *map(str, words)])


def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return a table and a query of one machine."""
    table, modes = tmp_path / "topo.txt", tmp_path / "query.xml"
    table.write_text(TOPO, encoding="utf-8")
    modes.write_text(query(), encoding="utf-8")
    return table, modes


def test_import_merges_and_writes_a_topology(tmp_path: Path) -> None:
    """Two files of one machine become one document that loads, named as asked; notes go to standard error."""
    out = tmp_path / "node.yaml"
    result = call("import", *files(tmp_path), "-o", out, "--name", "node-a")
    assert result.exit_code == 0 and result.stdout.strip() == str(out)
    assert "planner: note:" in result.stderr
    topology = load_topology(out)
    assert topology.name == "node-a" and len(topology.gpus) == 4
    assert {gpu.addressing for gpu in topology.nodes[0].machine.gpus} == {"hmm"}


def test_import_without_a_place_prints_the_document(tmp_path: Path) -> None:
    """Standard output is the document, or with --json one object with warnings and notes."""
    table, _ = files(tmp_path)
    result = call("import", table, "--device", "a100-sxm-80")
    assert result.exit_code == 0 and result.stdout.startswith("schema: topology/1")
    told = json.loads(call("import", table, "--device", "a100-sxm-80", "--json").stdout)
    assert told["topology"]["name"] == "topo" and told["formats"] == ["nvidia-smi-topo"] and told["notes"]


def test_warnings_name_file_and_line(tmp_path: Path) -> None:
    """What was repaired is said on standard error with the place."""
    table = tmp_path / "topo.txt"
    table.write_text(TOPO.replace("N/A\n", "N/A <-- here\n", 1), encoding="utf-8")
    assert (
        f"warning: {table}:2: ignored behind GPU0" in call("import", table, "--device", "a100-sxm-80").stderr
    )


def test_what_cannot_be_imported_ends_with_a_reason(tmp_path: Path) -> None:
    """Unknown products, other formats and contradictions end with exit code 1 and one message."""
    table, modes = files(tmp_path)
    assert call("import", table).exit_code == 1
    other = tmp_path / "other.xml"
    other.write_text(query(buses=("1B", "3D", "AC", "EE")), encoding="utf-8")
    result = call("merge", modes, other, "-o", tmp_path / "out.yaml")
    assert result.exit_code == 1 and str(other) in result.stderr and not (tmp_path / "out.yaml").exists()
    fabric = tmp_path / "topology.conf"
    fabric.write_text("SwitchName=s0 Nodes=n[0-3]\n", encoding="utf-8")
    assert "not a machine" in call("import", fabric).stderr


def test_nodes_and_their_fabric_become_a_cluster(tmp_path: Path) -> None:
    """Import and merge take a fabric among the files, and the document that they write loads."""
    table, fabric, out = tmp_path / "topo.txt", tmp_path / "ib.out", tmp_path / "pair.yaml"
    table.write_text(dgx_table(), encoding="utf-8")
    fabric.write_text(rail_fabric(["node-0", "node-1"]), encoding="utf-8")
    words = (table, fabric, "--device", "h100-sxm-80", "--name", "pair")
    result = call("merge", *words, "-o", out)
    assert result.exit_code == 0 and "2 of 2 nodes have no dump" in result.stderr
    assert [node.name for node in load_topology(out).nodes] == ["node-0", "node-1"]
    told = json.loads(call("import", *words, "--json").stdout)
    assert told["formats"] == ["nvidia-smi-topo", "ibnetdiscover"]
    assert told["topology"]["nodes"] == [{"name": "node-[0-1]", "machine": "pair"}]


@pytest.mark.slow
def test_a_merged_cluster_can_be_solved(tmp_path: Path) -> None:
    """`planner solve` takes two imported hosts and their listing with no further editing."""
    table, fabric, out = tmp_path / "topo.txt", tmp_path / "ib.out", tmp_path / "pair.yaml"
    table.write_text(dgx_table(), encoding="utf-8")
    fabric.write_text(rail_fabric(["node-0", "node-1"]), encoding="utf-8")
    assert call("merge", table, fabric, "--device", "h100-sxm-80", "-o", out).exit_code == 0
    result = CliRunner().invoke(
        cli, ["solve", str(out), "llama3-70b-serving", "-o", str(tmp_path / "plan"), "--no-simulate"]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "plan" / "plan.yaml").exists()


def test_export_and_import_lose_nothing(tmp_path: Path) -> None:
    """A preset written for NCCL comes back as it was."""
    out, back = tmp_path / "topo.xml", tmp_path / "back.yaml"
    assert call("export", "dgx-h100", "--format", "nccl", "-o", out).exit_code == 0
    assert call("import", out, "-o", back).exit_code == 0
    assert load_topology(back).digest == load_topology("dgx-h100").digest
    assert call("export", "dgx-h100").stdout == out.read_text(encoding="utf-8")
