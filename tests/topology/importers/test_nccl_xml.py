"""Topology XML of NCCL and RCCL."""

from __future__ import annotations

import re

import pytest

from planner.topology.importers.closest import closest_nics
from planner.topology.importers.nccl_xml import read_nccl_xml
from planner.topology.importers.refusal import ImportRefusedError
from tests.topology.importers.samples import NCCL

TO_SWITCH = 'target="0000:05:00.0" count="4" tclass="0x068000"'
SWITCHED = re.sub(r'target="0000:(?:3d|1b):00.0" count="4" tclass="0x030200"', TO_SWITCH, NCCL)


def test_tree_links_and_ports_are_read() -> None:
    """GPUs, their links in both directions, NUMA nodes, bridges and port rates come as written."""
    view = read_nccl_xml(NCCL, "topo.xml")
    assert view.remarks == ()
    assert [(gpu.name, gpu.bus_id, gpu.numa) for gpu in view.gpus] == [
        ("GPU0", "0000:1b:00.0", 0), ("GPU1", "0000:3d:00.0", 0), ("GPU2", "0000:ac:00.0", 1),
    ]  # fmt: skip
    assert dict(view.gpu_links) == {("GPU0", "GPU1"): 4, ("GPU0", "GPU2"): 2} and view.link_kind == "nvlink"
    assert [node.cpus for node in view.numa] == [(*range(8), *range(16, 24)), (*range(8, 16), *range(24, 32))]
    assert view.bridges["0000:1b:00.0"] == ("0000:18:00.0",) and view.bridges["0000:3d:00.0"] == ()
    assert [(nic.name, nic.bus_id, nic.speeds) for nic in view.nics] == [
        ("mlx5_0", "0000:1c:00.0", (25e9,)), ("eth0", None, (25e9 / 8,)),
    ]  # fmt: skip
    assert (view.arch, view.vendor, view.gpus[0].product) == ("x86_64", "AuthenticAMD", "10de:20b2")
    near = closest_nics(view)
    assert near["GPU0"].nics == ("mlx5_0",) and near["GPU0"].shared_bridges == 1
    assert near["GPU2"].nics == ("eth0",) and near["GPU2"].same_numa


def test_links_to_switches_are_summed() -> None:
    """NVSwitch targets are counted by GPU, not as GPUs."""
    view = read_nccl_xml(SWITCHED, "topo.xml")
    assert dict(view.switch_links) == {"GPU0": 4, "GPU1": 4}
    assert any("different numbers of links to switches" in remark.text for remark in view.remarks)


def test_links_to_itself_are_ignored_with_a_remark() -> None:
    """A GPU whose link targets itself gains no neighbour."""
    swapped = {"1b": "ac", "ac": "1b"}
    text = re.sub(
        r'target="0000:(1b|ac):00.0" count="2"',
        lambda match: f'target="0000:{swapped[match[1]]}:00.0" count="2"', NCCL,
    )  # fmt: skip
    view = read_nccl_xml(text, "topo.xml")
    assert dict(view.gpu_links) == {("GPU0", "GPU1"): 4}
    assert sum("to itself" in remark.text for remark in view.remarks) == 2


def test_bare_functions_are_told_by_class() -> None:
    """Functions without a gpu or nic element are GPUs and adapters by class, and unknown without one."""
    text = """<system version="1"><cpu numaid="0">
    <pci busid="0000:01:00.0" class="0x030200" vendor="0x10de" device="0x20b0"/>
    <pci busid="0000:02:00.0" class="0x020000"/>
    <pci busid="0000:03:00.0"/>
    <pci busid="0000:04:00.0" class="0x030000" vendor="0x1002"/>
    </cpu></system>"""
    view = read_nccl_xml(text, "topo.xml")
    assert [gpu.bus_id for gpu in view.gpus] == ["0000:01:00.0"]
    assert [(nic.bus_id, nic.ports) for nic in view.nics] == [("0000:02:00.0", None)]
    assert view.unknown_functions == ("0000:03:00.0",)
    assert {0, 5} <= {remark.line for remark in view.remarks}


def test_graph_of_channels_is_no_topology() -> None:
    """NCCL's search result is recognised and refused with the reason."""
    with pytest.raises(ImportRefusedError, match="NCCL_TOPO_DUMP_FILE"):
        read_nccl_xml('<graphs version="1"><graph id="0"/></graphs>', "graph.xml")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('count="2"', 'count="3"'), "3 link"),
        (('busid="0000:ac:00.0"', 'busid="0000:1b:00.0"'), "there twice"),
        (('numaid="1"', 'numaid="0"'), "the NUMA node 0 is there twice"),
        (('dev="2" sm', 'dev="1" sm'), "device number 1 twice"),
        (('count="4"', 'count="999999999"'), "no number of links"),
        (('busid="0000:3d:00.0"', 'busid="zz"'), "no PCI address"),
        (('numaid="1"', 'numaid="1" host_hash="0x2"'), "2 hosts"),
        (("<system", "<sytem"), "not well-formed"),
    ],
)
def test_contradictions_are_refused(change: tuple[str, str], reason: str) -> None:
    """Doubled names, links that count differently at their ends, and several hosts are refused."""
    with pytest.raises(ImportRefusedError, match=reason):
        read_nccl_xml(NCCL.replace(*change, 1), "topo.xml")


@pytest.mark.parametrize(
    "change",
    [
        ('          <nvlink target="0000:ac:00.0" count="2" tclass="0x030200"/>\n', ""),
        ('target="0000:ac:00.0" count="2"', 'target="0000:ad:00.0" count="2"'),
        ('speed="200000"', 'speed="99999999999"'),
        ('link_width="16">\n        <gpu', 'link_width="99">\n        <gpu'),
        ('affinity="ff00ff00"', 'affinity="ffffffff"'),
        ('numaid="1"', 'numaid="-1"'),
        ('dev="1" speed', 'dev="4" speed'),
    ],
)
def test_repairs_are_remarked(change: tuple[str, str]) -> None:
    """What is repaired or left unknown is said."""
    view = read_nccl_xml(NCCL.replace(*change, 1), "topo.xml")
    assert view.remarks


BARE = """<system version="1"><cpu numaid="0" affinity="ff" arch="x86_64" vendor="GenuineIntel">
<pci busid="ffff:ff:01.0" class="0x060400">
<pci busid="0001:00:00.0" class="0x030200"/>
<pci busid="0002:00:00.0" class="0x030200"/>
<pci busid="0003:00:00.0" class="0x030200"/>
</pci>
<pci busid="ffff:ff:02.0" class="0x060400">
<pci busid="0004:00:00.0" class="0x030200"/>
<pci busid="0005:00:00.0" class="0x030200"/>
<pci busid="0006:00:00.0" class="0x030200"/>
</pci>
</cpu></system>
"""


@pytest.mark.parametrize(
    ("left", "right", "doubt"),
    [
        ("0003:00:00.0", "0007:ff:00.0", "has another bus than all others"),
        ("ffff:ff:02.0", "ffff:ff:00.0", "made-up addresses of the switches are out of order"),
    ],
)
def test_odd_addresses_are_remarked(left: str, right: str, doubt: str) -> None:
    """An address unlike those of its class, or a made-up one out of order, may be in the wrong place."""
    sound, odd = read_nccl_xml(BARE, "a.xml"), read_nccl_xml(BARE.replace(left, right), "a.xml")
    assert not any(doubt in remark.text for remark in sound.remarks)
    assert any(doubt in remark.text for remark in odd.remarks)


def test_buses_behind_a_bridge_belong_below_it() -> None:
    """A function on a bus that a bridge leads to, but beside the bridge, is in doubt."""
    text = """<system version="1"><cpu numaid="0" affinity="ff" arch="x86_64" vendor="AuthenticAMD">
<pci busid="0000:21:00.0" class="0x060400"><pci busid="0000:{}:00.0" class="0x038000"/></pci>
<pci busid="0000:{}:00.0" class="0x020700"/></cpu></system>
"""
    doubt = "behind the bridge 0000:21:00.0 are not below it"
    for buses, expected in ((("23", "41"), False), (("41", "23"), True)):
        view = read_nccl_xml(text.format(*buses), "a.xml")
        assert any(doubt in remark.text for remark in view.remarks) is expected


def test_domains_that_alternate_between_bridges_are_remarked() -> None:
    """Functions with PCI domains of their own come in runs, one below each bridge."""
    swapped = BARE.replace("0002:", "0009:").replace("0005:", "0002:").replace("0009:", "0005:")
    doubt = "alternate between bridges"
    assert not any(doubt in remark.text for remark in read_nccl_xml(BARE, "a.xml").remarks)
    assert any(doubt in remark.text for remark in read_nccl_xml(swapped, "a.xml").remarks)
