"""From documents to topologies: presets, names, ranges, and mistakes with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import DocumentError, TopologyError
from planner.schema import LatencyFigure, dump_yaml, load
from planner.topology import TopologyDocument, load_topology, resolve
from planner.topology.models import Fabric, FabricLayout, NodeGroup
from tests.topology.machines import gpu, link, machine, topology

GOOD = """\
schema: topology/1
name: box
machines:
- name: box
  numa:
  - {name: "cpu[0-1]", arch: x86_64, cores: 8, core_speed: 1, memory: 64 GB, memory_bandwidth: 100 GB/s}
  gpus:
  - {name: "gpu[0-3]", device: a100-sxm-80, numa: cpu0}
  links:
  - {between: [cpu0, "gpu[0-3]"], kind: pcie, bandwidth: 25 GB/s, latency: 300 ns}
  - {between: [cpu0, cpu1], kind: socket, bandwidth: 16 GB/s, latency: 100 ns}
"""
CLUSTER = """\
schema: topology/1
name: pair
machines:
- {name: dgx, preset: dgx-h100}
nodes:
- {name: "node-[0-1]", machine: dgx}
fabric:
  switches: [{name: leaf, kind: leaf}]
  links:
  - {between: ["node-[0-1]/nic[0-7]", leaf], kind: infiniband, bandwidth: 50 GB/s, latency: 600 ns}
"""


def _problems(tmp_path: Path, text: str) -> list[tuple[str, str, str]]:
    """Return, of each problem, its place, what it says, and the rest of the line that it points at."""
    path = tmp_path / "topology.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_topology(path)
    lines = text.splitlines()
    return [(p.where, p.text, lines[p.line - 1][p.column - 1 :]) for p in caught.value.problems]


def test_ranges_expand(tmp_path: Path) -> None:
    """One line for four GPUs and one for their links make four GPUs and eight directed channels."""
    path = tmp_path / "box.yaml"
    path.write_text(GOOD)
    (node,) = load_topology(path).nodes
    assert [part.name for part in node.machine.gpus] == ["gpu0", "gpu1", "gpu2", "gpu3"]
    assert len(node.machine.edges) == 10


def test_a_document_of_one_machine_describes_one_node(tmp_path: Path) -> None:
    """Without nodes there is one, called like the machine."""
    path = tmp_path / "box.yaml"
    path.write_text(GOOD)
    assert load_topology(path).gpus == ("box/gpu0", "box/gpu1", "box/gpu2", "box/gpu3")


def test_machines_come_from_presets(tmp_path: Path) -> None:
    """A preset's parts, under the document's name, cabled by the document."""
    path = tmp_path / "pair.yaml"
    path.write_text(CLUSTER)
    pair = load_topology(path)
    assert pair.nodes[1].machine.name == "dgx"
    assert [level.name for level in pair.hierarchy.levels] == ["nvlink", "leaf"]


def test_the_digest_covers_presets_and_devices(tmp_path: Path) -> None:
    """The complete document loads by itself and has the digest of the topology."""
    path = tmp_path / "pair.yaml"
    path.write_text(CLUSTER)
    pair = load_topology(path)
    whole = tmp_path / "whole.yaml"
    whole.write_text(dump_yaml(pair.document))
    again = load_topology(whole)
    assert again.digest == pair.digest
    assert [device.name for device in load(whole, TopologyDocument).devices] == ["h100-sxm-80"]


MACHINE_MISTAKES = [
    (
        "device: a100-sxm-80",
        "device: a100-sxm-8",
        "gpus.0.device",
        "unknown device 'a100-sxm-8'; did you",
        "a100-sxm-8,",
    ),
    ("numa: cpu0}", "numa: cpu2}", "gpus.0.numa", "unknown NUMA domain 'cpu2'; did you mean 'cpu", "cpu2}"),
    (
        '[cpu0, "gpu[0-3]"]',
        '[cpu0, "gpu[0-4]"]',
        "links.0.between",
        "dangling link: unknown part 'gpu4'",
        "[cpu0",
    ),
    ('[cpu0, "gpu[0-3]"]', '[cpu0, "gpu[0-"]', "links.0.between.1", "unbalanced bracket", '"gpu[0-"]'),
    (
        '[cpu0, "gpu[0-3]"]',
        '["cpu[0-1]", "gpu[0-2]"]',
        "links.0.between",
        "'cpu[0-1]' names 2 parts",
        '["cpu',
    ),
    ("[cpu0, cpu1]", "[cpu0, cpu0]", "links.1.between", "'cpu0' is linked to itself", "[cpu0, cpu0]"),
    ('"gpu[0-3]", dev', '"cpu[1-3]", dev', "gpus.0.name", "the name 'cpu1' is used twice", '"cpu[1-3]"'),
    ('"gpu[0-3]", dev', '"gpu/[0-3]", dev', "gpus.0.name", "'gpu/[0-3]' holds '/'", '"gpu/[0-3]"'),
    ("25 GB/s", "0 GB/s", "links.0.bandwidth", "must be above zero", "0 GB/s"),
    (
        "cores: 8,",
        "cores: 8, core_list: 0-7,",
        "numa.0.core_list",
        "'cpu[0-1]' names several domains",
        "0-7,",
    ),
    (
        "cores: 8,",
        "cores: 8, core_list: 0-6,",
        "numa.0",
        "core_list names 7 cores but 'cores' says 8",
        "{name: ",
    ),
]


@pytest.mark.parametrize(("old", "new", "where", "text", "there"), MACHINE_MISTAKES)
def test_mistakes_in_a_machine_are_reported_where_they_are(
    tmp_path: Path, old: str, new: str, where: str, text: str, there: str
) -> None:
    """Line, column and dotted path lead to the word that is wrong."""
    assert old in GOOD
    found = _problems(tmp_path, GOOD.replace(old, new))
    assert any(
        p[0] == f"machines.0.{where}" and p[1].startswith(text) and p[2].startswith(there) for p in found
    ), found


BETWEEN = "fabric.links.0.between"
CLUSTER_MISTAKES = [
    (
        "preset: dgx-h100",
        "preset: dgx-h10",
        "machines.0.preset",
        "unknown preset 'dgx-h10'; did you mean",
        "dgx-h10}",
    ),
    (
        "preset: dgx-h100",
        "preset: dgx-h100-x8",
        "machines.0.preset",
        "the preset 'dgx-h100-x8' is a cluster",
        "dgx-h100-x8",
    ),
    (
        "machine: dgx}",
        "machine: dgy}",
        "nodes.0.machine",
        "unknown machine 'dgy'; did you mean 'dgx'?",
        "dgy}",
    ),
    ("nic[0-7]", "nic[0-8]", BETWEEN, "dangling link: node 'node-0': unknown part 'nic8'", '["node'),
    ("node-[0-1]/", "nodes-[0-1]/", BETWEEN, "dangling link: unknown node 'nodes-0'; did you", '["nodes'),
    (
        "leaf], kind",
        "leav], kind",
        BETWEEN,
        "dangling link: unknown switch 'leav'; did you mean 'leaf'?",
        '["node',
    ),
    (
        "kind: leaf}",
        "kind: leaf}, {name: leaf, kind: spine}",
        "fabric.switches.1.name",
        "the switch 'leaf' is",
        "leaf, kind: sp",
    ),
    (
        "nodes:\n",
        "nodes:\n- {name: node-1, machine: dgx}\n",
        "nodes.1.name",
        "the node 'node-1' is named twice",
        '"node-[0-1]"',
    ),
]


@pytest.mark.parametrize(("old", "new", "where", "text", "there"), CLUSTER_MISTAKES)
def test_mistakes_between_documents_and_nodes_are_reported(
    tmp_path: Path, old: str, new: str, where: str, text: str, there: str
) -> None:
    """Names that only other documents or the fabric define are checked as well, once each."""
    assert old in CLUSTER
    ((place, message, rest),) = _problems(tmp_path, CLUSTER.replace(old, new))
    assert place == where
    assert message.startswith(text)
    assert rest.startswith(there)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """Two dangling names make two problems in one error, in order of position."""
    text = GOOD.replace("a100-sxm-80", "a100").replace("[cpu0, cpu1]", "[cpu0, cpu7]")
    assert [where for where, *_ in _problems(tmp_path, text)] == [
        "machines.0.gpus.0.device",
        "machines.0.links.1.between",
    ]


def test_several_machines_need_nodes(tmp_path: Path) -> None:
    """Two templates without nodes do not say what exists."""
    second = GOOD.split("machines:\n")[1].replace("name: box", "name: other")
    ((where, text, _),) = _problems(tmp_path, GOOD + second)
    assert where == "machines"
    assert "say under 'nodes'" in text


def test_neither_file_nor_preset(tmp_path: Path) -> None:
    """A misspelt preset is answered with the nearest one."""
    with pytest.raises(TopologyError, match=r"did you mean 'dgx-h100'\?"):
        load_topology("dgx-h10")
    with pytest.raises(TopologyError, match="no such file"):
        load_topology(tmp_path / "absent.yaml")


def test_the_device_catalogue_is_not_a_topology() -> None:
    """No command takes the catalogue for a machine."""
    with pytest.raises(TopologyError, match="no such file"):
        load_topology("devices")


def test_documents_made_in_python_are_checked_too() -> None:
    """A dangling name in a document without a file is an error that names its place."""
    bad = machine([gpu("gpu0")], [link("gpu0", "cpu9", "pcie", 25)])
    with pytest.raises(TopologyError, match=r"machines\.0\.links\.0\.between: dangling link"):
        topology(bad)


def test_a_fabric_needs_ports() -> None:
    """GPUs without a network port cannot hang on a regular fabric."""
    box = machine([gpu("gpu0")], [link("gpu0", "cpu0", "pcie", 25)])
    layout = FabricLayout(shape="single-switch", hop_latency=LatencyFigure.of(1e-6))
    with pytest.raises(TopologyError, match="has no network port"):
        topology(box, nodes=[NodeGroup(name="n[0-1]", machine="box")], fabric=Fabric(layout=layout))


def test_own_devices_win_over_shipped_ones(tmp_path: Path) -> None:
    """A document may redefine a device."""
    own = """\
devices:
- name: a100-sxm-80
  architecture: mine
  peak: {bf16: 1 TFLOP/s}
  memory: 1 GB
  memory_bandwidth: 1 GB/s
"""
    path = tmp_path / "box.yaml"
    path.write_text(GOOD + own)
    assert load_topology(path).device("box/gpu0").architecture == "mine"
    assert resolve(load(path, TopologyDocument)).device("box/gpu0").architecture == "mine"
