"""Fabrics from SLURM, Topograph, ibnetdiscover and Kubernetes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.topology.importers.hostlist import host_names
from planner.topology.importers.ibnet import rate_of, read_ibnetdiscover
from planner.topology.importers.k8s_nodes import read_nodes
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.slurm import read_topology_conf, read_topology_yaml
from planner.topology.importers.topograph import read_model
from tests.topology.importers.samples_host import (
    OLD_TOPOGRAPH,
    SLURM,
    SLURM_BLOCKS,
    SLURM_YAML,
    TOPOGRAPH,
    ibnet,
    k8s_nodes,
)

_RANGES = st.builds("[{}-{}{}]".format, *map(st.sampled_from, ("1234", "56789", ("", ",10", ",17"))))
_PIECES = st.builds(str.__add__, st.text("anz", min_size=1, max_size=3), st.just("") | _RANGES)


@given(st.lists(_PIECES, min_size=1, max_size=4))
def test_host_lists_are_the_sum_of_their_pieces(pieces: list[str]) -> None:
    """A list stands for what its pieces stand for, one after the other."""
    assert host_names(",".join(pieces)) == [name for piece in pieces for name in host_names(piece)]


@pytest.mark.parametrize(
    "text", ["", "a,,b", "n[1-2", "n1-2]", "n[3-1]", "a b", "n[0-9999999]", "n" + "9" * 30, "?"]
)
def test_malformed_host_lists_raise(text: str) -> None:
    """Brackets, blanks and numbers that make no sense are refused."""
    with pytest.raises(ValueError, match=r"name|bracket|range"):
        host_names(text)


def test_a_slurm_tree_keeps_every_edge() -> None:
    """Switches, nodes, continued lines, remarks and parents of a tree are read."""
    view = read_topology_conf(SLURM, "topology.conf")
    assert view.switches == ("spine", "leaf1", "leaf2") and view.remarks == ()
    assert len(view.nodes) == 9 and view.parents["n005"] == "leaf2" and view.parents["leaf1"] == "spine"
    assert ("spine", "leaf2", None) in view.links and ("leaf1", "login1", None) in view.links


def test_slurm_blocks_and_sizes() -> None:
    """Blocks hold their nodes; sizes are kept."""
    view = read_topology_conf(SLURM_BLOCKS, "topology.conf")
    assert view.blocks == {"b1": ("n01", "n02", "n03", "n04"), "b2": ("n05", "n06", "n07", "n08")}
    assert view.block_sizes == (4, 8) and view.switches == ()


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("SwitchName=a Switches=b,c\nSwitchName=b Nodes=n1\n", "'c' is named here but described nowhere"),
        ("SwitchName=a Nodes=n1\nSwitchName=b Nodes=n2\n", "2 trees side by side"),
        ("SwitchName=a Nodes=n1\nSwitchName=b Nodes=n1\n", "as well as on"),
        ("SwitchName=a Switches=b\nSwitchName=b\n", "nothing known hangs below"),
        ("BlockName=a Nodes=n1\n", "sizes of blocks are not stated"),
        ("SwitchName=a Nodes=n1", "may be cut"),
    ],
)
def test_doubtful_slurm_files_are_remarked(text: str, doubt: str) -> None:
    """What is missing, doubled or apart is said."""
    assert any(doubt in remark.text for remark in read_topology_conf(text, "topology.conf").remarks)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("SwitchName=a Switches=a\n", 1),
        ("SwitchName=a Switches=b\nSwitchName=b Switches=a\n", 1),
        ("SwitchName=a Nodes=n1\nSwitchName=a Nodes=n2\n", 2),
        ("SwitchName=a Nodes=n1,n1\n", 1),
        ("SwitchName=a Switches=b\nSwitchName=b Nodes=a\n", 2),
        ("SwitchName=a Nodez=n1\n", 1),
        ("#x\nnonsense\n", 2),
        ("SwitchName=a Nodes=n[1-\n", 1),
        ("BlockName=a Nodes=n1\nBlockName=b Nodes=n1\nBlockSizes=1\n", 2),
        ("SwitchName=a \\\n", 1),
        ("# nothing\n", 0),
    ],
)
def test_contradictory_slurm_files_are_refused_with_their_line(text: str, line: int) -> None:
    """Cycles, doubled descriptions, unknown words and cut lines name the line."""
    with pytest.raises(ImportRefusedError) as caught:
        read_topology_conf(text, "topology.conf")
    assert caught.value.line == line


def test_slurm_of_ten_thousand_nodes_is_quick() -> None:
    """A file of 10,000 nodes is read within a second of CPU time."""
    lines = ["SwitchName=root Switches=leaf[0-499]"]
    lines += [f"SwitchName=leaf{n} Nodes=n[{20 * n}-{20 * n + 19}]" for n in range(500)]
    start = time.process_time()
    view = read_topology_conf("\n".join(lines) + "\n", "topology.conf")
    assert time.process_time() - start < 1.0
    assert len(view.nodes) == 10_000 and view.remarks == ()


def test_slurm_yaml_joins_the_default_tree_and_the_blocks() -> None:
    """Tree and blocks of one file are one fabric; the names of all topologies are kept."""
    view = read_topology_yaml(SLURM_YAML, "topology.yaml")
    assert view.topologies == ("fabric", "domains", "all")
    assert view.parents["n3"] == "leaf2" and view.blocks["b2"] == ("n3", "n4") and view.block_sizes == (2, 4)


def test_of_two_trees_the_default_counts() -> None:
    """A second tree is left out with a remark, whichever comes first."""
    other = "- topology: other\n  tree:\n    switches:\n      - {switch: x, nodes: y}\n"
    view = read_topology_yaml(other + SLURM_YAML, "topology.yaml")
    assert "x" not in view.switches and any("'other' is left out" in remark.text for remark in view.remarks)


def test_a_topograph_model_has_domains_and_leaves() -> None:
    """Leaves that are only named count as switches; annotations name the NVLink domains."""
    view = read_model(TOPOGRAPH, "model.yaml")
    assert view.switches == ("core", "leaf-1", "leaf-2") and view.described == ("core",)
    assert view.blocks == {"nvl-1": ("n1", "n2", "n3"), "nvl-2": ("n4", "n5", "n6")}
    assert view.parents["n4"] == "leaf-2" and view.top == ("switches", "blocks")


def test_an_old_topograph_model_reads_the_same_way() -> None:
    """The form with capacity blocks gives the same kind of fabric."""
    view = read_model(OLD_TOPOGRAPH, "model.yaml")
    assert view.blocks == {"nvl1": ("n11", "n12"), "nvl2": ("n21", "n22")}
    assert view.parents == {
        "n11": "leaf1", "n12": "leaf1", "n21": "leaf2", "n22": "leaf2", "leaf1": "core", "leaf2": "core",
    }  # fmt: skip


def test_racks_of_one_domain_make_one_domain() -> None:
    """Sub-domains stay groups; the domain holds the nodes of all of them."""
    text = TOPOGRAPH.replace("nvl-2", "nvl-1")
    view = read_model(text, "model.yaml")
    assert len(view.groups) == 2 and view.blocks == {"nvl-1": ("n1", "n2", "n3", "n4", "n5", "n6")}


@pytest.mark.parametrize(
    "text",
    [
        TOPOGRAPH.replace("n[4-6]", "n[3-6]"),
        "switches: 3\nblocks: []\n",
        "other: {}\n",
        "- a\n",
        "switches:\n  a: {switches: [b]}\n  b: {switches: [a]}\nblocks: []\n",
        "blocks:\n- {nodes: [a], annotations: {x/domain: d1}, labels: {y/domain: d2}}\n",
    ],
)
def test_contradictory_models_are_refused(text: str) -> None:
    """A node in two blocks, cycles, two domains and other files are refused."""
    with pytest.raises(ImportRefusedError):
        read_model(text, "model.yaml")


def test_every_cable_counts_once() -> None:
    """Both ends list a cable; aggregation nodes are no hosts; rates follow width and speed."""
    view = read_ibnetdiscover(ibnet(), "ib.out")
    assert len(view.switches) == 2 and view.nodes == ("n1", "n2") and view.remarks == ()
    assert len(view.links) == 6 and len(view.adapters) == 3 and len(view.aggregation) == 1
    assert {rate for *_, rate in view.links} == {50e9} and view.port_rates == {"4xNDR": 8}


@pytest.mark.parametrize(
    ("port", "rate"), [("4xEDR", 12.5e9), ("4xHDR", 25e9), ("2xHDR", 12.5e9), ("4xXDR", 100e9), (None, None)]
)
def test_port_rates(port: str | None, rate: float | None) -> None:
    """The data rate is that of one lane times the width."""
    assert rate_of(port) == rate


def test_a_lone_adapter_is_no_fabric() -> None:
    """An adapter without any cable is kept with a remark; nothing is invented."""
    text = 'caguid=0x1\nCa\t1 "H-1"\t\t# "node-1 HCA-1"\n'
    view = read_ibnetdiscover(text, "ib.out")
    assert view.links == () and view.switches == () and "could not be explored" in view.remarks[0].text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[33]\t", "[34]\t"),  # a port twice
        ('"S-2c5eab0300000002"[34]', '"S-2c5eab0300000002"[33]'),  # ends that disagree
        ("4xNDR\n\n", "4xHDR\n\n"),  # rates that disagree
        ("Switch\t65", "Switch\t6"),  # more ports than the switch has
        ('Ca\t1 "H-', 'Ca\t1 "S-'),
        ("vendid=0x2c9", "hello"),
    ],
)
def test_contradictory_listings_are_refused(old: str, new: str) -> None:
    """The two ends of a cable must agree, and ports must exist."""
    with pytest.raises(ImportRefusedError):
        read_ibnetdiscover(ibnet().replace(old, new, 1), "ib.out")


def test_a_listing_of_switches_only_takes_the_other_ends_from_their_ports() -> None:
    """Adapters without an entry of their own are taken from the port lines, with a remark."""
    whole = read_ibnetdiscover(ibnet(), "ib.out")
    text = ibnet()[: ibnet().index("vendid=0x2c9\ndevid=0x1021")]
    view = read_ibnetdiscover(text, "ib.out")
    assert set(view.links) == set(whole.links) and view.nodes == whole.nodes and view.remarks


def test_a_large_listing_is_quick() -> None:
    """A listing of about 300 KB is read within half a second of CPU time."""
    switches = [f"{n:016x}" for n in range(1, 41)]
    text, port = "", 1
    for place, switch in enumerate(switches):
        text += f'switchguid=0x{switch}({switch})\nSwitch\t65 "S-{switch}"\t\t# "leaf{place}" lid 1\n'
        for port in range(1, 65):
            guid = f"{place * 100 + port:x}e0"
            text += f'[{port}]\t"H-{guid}"[1]({guid}) \t\t# "node-{place}-{port} mlx5_0" lid 3 4xNDR\n'
        text += "\n"
    for place, switch in enumerate(switches):
        for port in range(1, 65):
            guid = f"{place * 100 + port:x}e0"
            text += f'Ca\t1 "H-{guid}"\t\t# "node-{place}-{port} mlx5_0"\n'
            text += f'[1]({guid})\t"S-{switch}"[{port}]\t\t# lid 3 lmc 0 "leaf{place}" lid 1 4xNDR\n\n'
    assert len(text) > 300_000
    start = time.process_time()
    view = read_ibnetdiscover(text, "ib.out")
    assert time.process_time() - start < 0.5 * len(text) / 300_000
    assert len(view.links) == 40 * 64 and view.remarks == ()


def test_kubernetes_nodes_tell_gpus_partitions_and_tiers() -> None:
    """Labels give product, count, memory and NVLink partition, and the switches above a node."""
    view = read_nodes(k8s_nodes(), "nodes.json")
    facts = view.facts["gpu-1"]
    assert (facts.product, facts.gpus, facts.gpu_memory) == ("NVIDIA-GB200", 4, 189471 * 2.0**20)
    assert facts.arch == "arm64" and facts.processors == 144 and facts.memory == 1_000_000 * 1024.0
    assert view.parents == {"gpu-1": "leaf-1", "leaf-1": "spine-1", "gpu-2": "leaf-2", "leaf-2": "spine-1"}
    assert list(view.blocks.values()) == [("gpu-1", "gpu-2")] and view.remarks == ()


def test_kubernetes_nodes_in_yaml_read_alike() -> None:
    """The same list as YAML gives the same view."""
    assert read_nodes(k8s_nodes(), "n") == read_nodes(" \n# a remark\n" + k8s_nodes(), "n")


def test_labels_of_older_releases_and_clouds_are_known() -> None:
    """The labels before Topograph 1.0 and those of AWS name the same tiers."""
    schemes = (
        ("network.topology.nvidia.com/leaf", "network.topology.nvidia.com/spine"),
        ("topology.k8s.aws/network-node-layer-3", "topology.k8s.aws/network-node-layer-2"),
    )
    for old, new in schemes:
        text = (
            k8s_nodes()
            .replace("fabric.topograph.run/tier-0", old)
            .replace("fabric.topograph.run/tier-1", new)
        )
        assert read_nodes(text, "n").parents == read_nodes(k8s_nodes(), "n").parents


def test_shared_gpus_are_counted_as_they_are() -> None:
    """Replicas do not multiply the GPUs, and the suffix of shared products is dropped."""
    text = (
        k8s_nodes()
        .replace('"nvidia.com/gpu": "4"', '"nvidia.com/gpu": "8"')
        .replace(
            '"nvidia.com/gpu.count": "4"',
            '"nvidia.com/gpu.count": "4", "nvidia.com/gpu.replicas": "2"',
        )
    )
    view = read_nodes(text.replace("NVIDIA-GB200", "NVIDIA-GB200-SHARED"), "n")
    assert (
        view.facts["gpu-1"].gpus == 4 and view.facts["gpu-1"].product == "NVIDIA-GB200" and view.remarks == ()
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [("gpu-2", "gpu-1"), ('"List"', '"Pods"'), ("leaf-2", "a b"), ('"name"', '"nom"'), ("leaf-1", "gpu-2")],
)
def test_impossible_node_lists_are_refused(old: str, new: str) -> None:
    """Doubled and nameless nodes, other lists, and labels that no API server takes are refused."""
    with pytest.raises(ImportRefusedError):
        read_nodes(k8s_nodes().replace(old, new), "nodes.json")


def test_cpu_nodes_without_labels_are_nodes_of_unknown_place() -> None:
    """A node without labels is listed; that its switches are unknown is said."""
    data = json.loads(k8s_nodes())
    data["items"].append({"kind": "Node", "metadata": {"name": "cpu-1"}})
    view = read_nodes(json.dumps(data), "nodes.json")
    assert "cpu-1" in view.nodes and "cpu-1" not in view.parents
    assert any("cpu-1 first" in remark.text for remark in view.remarks)


def test_the_one_block_of_another_size_is_remarked() -> None:
    """Where all Topograph blocks but one have as many nodes, the odd one is named."""
    text = "blocks:\n" + "".join(f"- name: b{n}\n  nodes:\n  - n{n}[1-4]\n" for n in range(3))
    even, odd = read_model(text, "a.yaml"), read_model(text.replace("n2[1-4]", "block"), "a.yaml")
    assert not any("another number" in remark.text for remark in even.remarks)
    assert any("'b2' has 1 nodes" in remark.text for remark in odd.remarks)


def test_a_block_that_lost_the_name_of_its_leaf_is_remarked() -> None:
    """Where blocks are named after switches, one of another name is in doubt."""
    text = "SwitchName=a Nodes=n1\nSwitchName=b Nodes=n2\nBlockName=a Nodes=n1\nBlockName={} Nodes=n2\n"
    doubt = "'c' is named after no switch"
    for name, expected in (("b", False), ("c", True)):
        view = read_topology_conf(text.format(name) + "BlockSizes=1\n", "topology.conf")
        assert any(doubt in remark.text for remark in view.remarks) is expected


def test_quotation_marks_inside_a_description_are_remarked() -> None:
    """A description that seems to end early is in doubt."""
    text = ibnet()
    place = next(line for line in text.splitlines() if line.startswith("Ca"))
    broken = place[:-2] + '"' + place[-2:]
    view = read_ibnetdiscover(text.replace(place, broken), "ib.out")
    assert any("quotation marks" in remark.text for remark in view.remarks)
