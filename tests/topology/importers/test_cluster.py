"""Dumps of nodes and the file of a fabric become one cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import TopologyError
from planner.schema import dump_yaml, write_text_atomic
from planner.topology import load_topology, resolve
from planner.topology.importers.assemble import assemble, node_of
from planner.topology.importers.cabling import cabling, uplink_rates
from planner.topology.importers.ibnet import read_ibnetdiscover
from planner.topology.importers.nccl_export import to_nccl_xml
from planner.topology.importers.slurm import read_topology_conf
from tests.topology.importers.samples_fabric import dgx_table, rail_fabric
from tests.topology.importers.samples_host import k8s_nodes

DEVICE = "h100-sxm-80"


def write(folder: Path, **files: str) -> list[Path]:
    """Write files, two underscores standing for a dot, and return where they are."""
    folder.mkdir(exist_ok=True)
    places = [folder / name.replace("__", ".").replace("_", "-") for name in files]
    for place, text in zip(places, files.values(), strict=True):
        place.write_text(text, encoding="utf-8")
    return places


def test_two_nodes_and_a_listing_make_a_rail_optimised_cluster(tmp_path: Path) -> None:
    """One template with a count; port i of every node on leaf i at the rate of its cable; then spines."""
    files = write(tmp_path, topo__txt=dgx_table(), ib__out=rail_fabric(["node-0", "node-1"]))
    found = assemble(files, "pair", DEVICE)
    document = found.document
    assert [(group.name, group.machine) for group in document.nodes] == [("node-[0-1]", "pair")]
    topology = resolve(document)
    assert len(topology.machine_types) == 1 and len(topology.gpus) == 16 and found.doubts == ()
    ends = {(link.left, link.right): link.rate for link in topology.explicit_links}
    assert all(ends[f"node-{n}/mlx5_{i}", f"leaf-{i}"] == 50e9 for n in (0, 1) for i in range(8))
    assert all(ends[f"leaf-{i}", f"spine-{j}"] == 100e9 for i in range(8) for j in (0, 1))
    assert len(ends) == 16 + 16
    assert topology.fabric is not None
    assert {(s.name, s.kind) for s in topology.fabric.switches} >= {("leaf-0", "leaf"), ("spine-1", "spine")}
    assert {nic.bandwidth.value for nic in topology.nodes[0].machine.nics} == {50e9}
    inner, outer = topology.hierarchy.levels
    assert (inner.capacities.tolist(), outer.capacities.tolist()) == ([8, 8], [16])
    assert outer.rate == pytest.approx(50e9)


def test_a_cluster_document_loads(tmp_path: Path) -> None:
    """The document written out is one that every command takes, without a figure that lacks its source."""
    files = write(tmp_path, topo__txt=dgx_table(), ib__out=rail_fabric(["node-0", "node-1"]))
    write_text_atomic(tmp_path / "cluster.yaml", dump_yaml(assemble(files, "pair", DEVICE).document))
    assert len(load_topology(tmp_path / "cluster.yaml").nodes) == 2


def test_five_hundred_nodes_fold_into_one_range(tmp_path: Path) -> None:
    """Nodes below leaves of a SLURM tree become one range; uplinks of unknown rate carry all below."""
    lines = ["SwitchName=spine Switches=leaf[0-31]"]
    lines += [f"SwitchName=leaf{n} Nodes=node-[{16 * n}-{16 * n + 15}]" for n in range(32)]
    files = write(tmp_path, topo__txt=dgx_table(), topology__conf="\n".join(lines) + "\n")
    found = assemble(files, "many", DEVICE)
    assert [group.name for group in found.document.nodes] == ["node-[0-511]"]
    assert found.document.fabric is not None and len(found.document.fabric.links) == 32 + 1
    (trunk,) = [link for link in found.document.fabric.links if link.between[0] == "spine"]
    assert trunk.between == ("spine", "leaf[0-31]") and trunk.bandwidth.provenance == "assumed"
    assert trunk.bandwidth.value == pytest.approx(16 * 8 * 1.25e9)
    assert any("512 of 512 nodes have no dump" in note for note in found.notes)


def test_uplinks_share_what_hangs_below() -> None:
    """With two switches above a leaf each uplink carries half; a level further up carries their sum."""
    lines = ("top Switches=s1,s2", "s1 Switches=a", "s2 Switches=a", "a Nodes=n1")
    text = "".join(f"SwitchName={line}\n" for line in lines)
    found = cabling(read_topology_conf(text, "topology.conf"))
    rates = uplink_rates(found, {"a": 100.0})
    assert rates == {("s1", "a"): 50, ("s2", "a"): 50, ("top", "s1"): 50, ("top", "s2"): 50}
    assert found.levels() == {"a": "leaf", "s1": "spine", "s2": "spine", "top": "core"}


def test_files_are_matched_with_nodes_by_their_names() -> None:
    """The longest name counts, before a dot or a dash, or as a folder."""
    nodes = dict.fromkeys(["node-1", "node-10", "node-1-gpu"])
    assert node_of(Path("node-1.xml"), nodes) == "node-1"
    assert node_of(Path("node-10.topo.txt"), nodes) == "node-10"
    assert node_of(Path("node-1-gpu.xml"), nodes) == "node-1-gpu"
    assert node_of(Path("node-10/topo.txt"), nodes) == "node-10"
    assert node_of(Path("node-100.xml"), nodes) is None


def test_a_node_that_differs_gets_a_machine_of_its_own_and_both_sources_are_named(tmp_path: Path) -> None:
    """The majority is the template; the other is reported with both values and files, and kept as it is."""
    names = ["node-0", "node-1", "node-2"]
    odd = dgx_table(cpus=("0-55", "56-103"))
    files = write(
        tmp_path,
        node_0__txt=dgx_table(),
        node_1__txt=odd,
        node_2__txt=dgx_table(),
        ib__out=rail_fabric(names),
    )
    found = assemble(files, "mixed", DEVICE)
    assert [(group.name, group.machine) for group in found.document.nodes] == [
        ("node-0", "mixed"), ("node-1", "mixed-kind1"), ("node-2", "mixed"),
    ]  # fmt: skip
    (doubt,) = [doubt for doubt in found.doubts if doubt.startswith("node-1 differs")]
    assert f"numa1: cores is 56 in {files[0]}, 48 in {files[1]}" in doubt
    assert [sum(d.cores for d in node.machine.numa) for node in resolve(found.document).nodes] == [
        112,
        104,
        112,
    ]


def test_a_sample_that_differs_and_names_no_node_is_refused(tmp_path: Path) -> None:
    """Where nothing tells which node a differing dump is of, nothing is made up."""
    odd = dgx_table(cpus=("0-55", "56-103"))
    files = write(tmp_path, a__txt=dgx_table(), b__txt=odd, ib__out=rail_fabric(["node-0", "node-1"]))
    with pytest.raises(TopologyError, match=r"differs from .* name the file after a node"):
        assemble(files, "mixed", DEVICE)


def test_two_fabrics_or_none_with_nodes_are_refused(tmp_path: Path) -> None:
    """A cluster has one fabric, with nodes in it."""
    files = write(
        tmp_path, topo__txt=dgx_table(), a__conf="SwitchName=s Nodes=n1\n", b__conf="SwitchName=s Nodes=n1\n"
    )
    with pytest.raises(TopologyError, match="both describe a fabric"):
        assemble(files, None, DEVICE)
    empty = write(tmp_path, topo__txt=dgx_table(), c__conf="SwitchName=s\n")
    with pytest.raises(TopologyError, match="names no node"):
        assemble(empty, None, DEVICE)


def test_adapters_of_other_names_are_taken_in_order_and_said(tmp_path: Path) -> None:
    """HCA-1 to HCA-8 are the ports in order; a node with fewer has ports without a cable, and it is said."""
    fabric = rail_fabric(["node-0", "node-1"], word="HCA-{}")
    found = assemble(write(tmp_path, topo__txt=dgx_table(), ib__out=fabric), "pair", DEVICE)
    assert any("taken for mlx5_0" in doubt and "(2 nodes)" in doubt for doubt in found.doubts)
    assert any(link.left == "node-1/mlx5_7" for link in resolve(found.document).explicit_links)
    few = assemble(
        write(tmp_path, topo__txt=dgx_table(), ib__out=rail_fabric(["n0", "n1"], 4, word="HCA-{}")),
        None,
        DEVICE,
    )
    assert any("knows 4 adapters" in doubt for doubt in few.doubts)


def test_ports_that_only_the_fabric_knows_are_added(tmp_path: Path) -> None:
    """A host without adapters in its dump gets those of its cables, next to its first domain, with a note."""
    files = write(tmp_path, topo__txt=dgx_table(rails=0), ib__out=rail_fabric(["node-0", "node-1"]))
    found = assemble(files, "pair", DEVICE)
    machine = resolve(found.document).nodes[0].machine
    assert [nic.name for nic in machine.nics] == [f"mlx5_{i}" for i in range(8)]
    assert {nic.bandwidth.value for nic in machine.nics} == {50e9} and {nic.numa for nic in machine.nics} == {
        "numa0"
    }
    assert any("taken to be next to numa0" in note for note in found.notes)


def test_kubernetes_nodes_that_are_unlike_the_template_are_left_out(tmp_path: Path) -> None:
    """Labels of another product or another number of GPUs keep a node out, with both sources."""
    files = write(tmp_path, topo__txt=dgx_table(), nodes__json=k8s_nodes())
    try:
        found = assemble(files, "cluster", DEVICE)
    except TopologyError as error:
        said = str(error)
    else:
        said = "\n".join(found.doubts)
    assert "is left out: " in said and str(files[0]) in said and str(files[1]) in said


def test_a_written_topology_can_stand_for_a_node(tmp_path: Path) -> None:
    """What the agent wrote on a node, or an exported preset, is as good as a dump."""
    fabric = rail_fabric(["node-0", "node-1"], word="nic{}")
    own = load_topology("dgx-h100").document
    yaml = assemble(write(tmp_path, node_0__yaml=dump_yaml(own), ib__out=fabric), "pair")
    xml = assemble(write(tmp_path, node_0__xml=to_nccl_xml(own), ib__out=fabric), "pair")
    for found in (yaml, xml):
        topology = resolve(found.document)
        assert topology.nodes[1].machine.edges == load_topology("dgx-h100").nodes[0].machine.edges
        assert found.doubts == ()


def test_a_switch_is_named_as_it_calls_itself_unless_two_do() -> None:
    """Names come from the description; switches of one name keep their identity."""
    view = read_ibnetdiscover(rail_fabric(["n0", "n1"], 2, 1).replace("leaf-1", "leaf-0"), "ib.out")
    kinds = cabling(view).levels()
    assert "spine-0" in kinds and "leaf-0" not in kinds and len(kinds) == 3
