"""Views of one machine as one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from planner.errors import TopologyError
from planner.topology import catalogue, resolve
from planner.topology.importers.document import as_topology
from planner.topology.importers.merge import ContradictionError, merge
from planner.topology.importers.nccl_xml import read_nccl_xml
from planner.topology.importers.nvidia_topo import read_nvidia_topo
from planner.topology.importers.nvidia_xml import read_nvidia_xml
from planner.topology.importers.views import GpuView, HostView, NumaView
from tests.topology.importers.samples import NCCL, TAILS, TOPO, query, table

CELLS = (("X", "NV4", "NV2"), ("NV4", "X", "PHB"), ("NV2", "PHB", "X"))
SAME = table(CELLS, (TAILS[0], TAILS[1], TAILS[2]), devices=("GPU0", "GPU1", "GPU2"), legend="")
TABLE = read_nvidia_topo(SAME, "topo")
QUERY = read_nvidia_xml(query(buses=("1B", "3D", "AC")), "query")
TREE = read_nccl_xml(NCCL, "tree")


def test_three_views_join_by_address_in_any_order() -> None:
    """Links come from the table, modes from the query, bridges from the tree, whatever comes first."""
    for views in permutations([TABLE, QUERY, TREE]):
        merged = merge(views)
        assert [(gpu.name, gpu.bus_id, gpu.numa, gpu.addressing) for gpu in merged.gpus] == [
            ("GPU0", "0000:1b:00.0", 0, "hmm"),
            ("GPU1", "0000:3d:00.0", 0, "hmm"),
            ("GPU2", "0000:ac:00.0", 1, "hmm"),
        ]
        assert dict(merged.gpu_links) == {("GPU0", "GPU1"): 4, ("GPU0", "GPU2"): 2}
        assert merged.bridges["0000:1b:00.0"] and merged.path_classes["GPU1", "GPU2"] == "PHB"
        assert merged.gpus[0].product == "NVIDIA A100-SXM4-80GB" and merged.arch == "x86_64"
        assert resolve(as_topology(merged, "box", catalogue())).gpus


def test_merging_one_view_with_itself_changes_nothing() -> None:
    """What a view says is what it says twice."""
    for view in (TABLE, QUERY, TREE):
        merged = merge([view, view])
        assert (merged.gpus, merged.nics, merged.numa) == (view.gpus, view.nics, view.numa)
        assert dict(merged.gpu_links) == dict(view.gpu_links)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (
            replace(TREE, gpu_links={("GPU0", "GPU1"): 3, ("GPU0", "GPU2"): 2}),
            "links between GPU0 and GPU1 is 4",
        ),
        (replace(TREE, gpus=(replace(TREE.gpus[0], numa=1), *TREE.gpus[1:])), "NUMA node is 0 in topo, 1 in"),
        (replace(TREE, numa=(NumaView(0, (0, 1)),)), "list of processors"),
        (replace(TREE, numa=(NumaView(0, None, 8e9),), gpus=()), "memory is"),
    ],
)
def test_contradictions_name_both_sources(other: HostView, reason: str) -> None:
    """Different links, places, processors and sizes are reported, with both values and both sources."""
    base = replace(TABLE, numa=(replace(TABLE.numa[0], memory=16e9), TABLE.numa[1]))
    with pytest.raises(ContradictionError) as caught:
        merge([base, other], ["topo", "other"])
    assert reason in str(caught.value)
    assert all("topo" in text and "other" in text for text in caught.value.contradictions)


def test_other_machines_are_not_merged() -> None:
    """Lists of GPUs that each hold one the other lacks, or of other lengths, are of different machines."""
    strange = read_nvidia_xml(query(buses=("1B", "3D", "FF")), "query")
    with pytest.raises(ContradictionError, match="alone"):
        merge([QUERY, strange])
    with pytest.raises(TopologyError, match="cannot be matched"):
        merge([QUERY, read_nvidia_topo(TOPO, "topo")])
    with pytest.raises(TopologyError, match="nothing to merge"):
        merge([])


def test_a_gpu_that_one_view_lacks_is_remarked() -> None:
    """A container may see fewer GPUs than its host."""
    fewer = replace(QUERY, gpus=QUERY.gpus[:2])
    merged = merge([QUERY, fewer], ["host", "container"])
    assert len(merged.gpus) == 3
    assert any("not in container" in remark.text for remark in merged.remarks)


def test_legend_joins_adapters_and_unknown_ones_are_left_out() -> None:
    """NIC0 of a table is mlx5_0 of the tree where the legend says so, and is left out where none does."""
    cells = [[*row, "PHB"] for row in CELLS] + [["PHB", "PHB", "PHB", "X"]]
    tails = (TAILS[0], TAILS[1], TAILS[2], "")
    devices = ("GPU0", "GPU1", "GPU2", "NIC0")
    known = read_nvidia_topo(table(cells, tails, devices=devices), "t")
    merged = merge([TREE, known])
    assert [nic.name for nic in merged.nics] == ["mlx5_0", "eth0"]
    assert merged.path_classes["GPU0", "mlx5_0"] == "PHB"
    unknown = read_nvidia_topo(table(cells, tails, devices=devices, legend=""), "t")
    merged = merge([TREE, unknown])
    assert [nic.name for nic in merged.nics] == ["mlx5_0", "eth0"]
    assert any("no legend" in remark.text for remark in merged.remarks)


def test_numbers_given_to_lists_of_processors_yield_to_read_ones() -> None:
    """Nodes 0 and 8 of the system are not called 0 and 1 because a table has no NUMA column."""
    tails = [tail.split("\t")[0] for tail in TAILS[:3]]
    guessed = read_nvidia_topo(table(CELLS, tails, "CPU Affinity", ("GPU0", "GPU1", "GPU2"), ""), "topo")
    system = HostView("sysfs", numa=(replace(guessed.numa[0], number=0), replace(guessed.numa[1], number=8)))
    merged = merge([guessed, system])
    assert [gpu.numa for gpu in merged.gpus] == [0, 0, 8]
    assert [node.number for node in merged.numa] == [0, 8]


def test_switches_of_one_view_explain_the_full_mesh_of_another() -> None:
    """NV18 between all GPUs and eighteen links to switches are one thing, and a different count is not."""
    gpus = tuple(GpuView(f"GPU{index}") for index in range(3))
    mesh = {("GPU0", "GPU1"): 18, ("GPU0", "GPU2"): 18, ("GPU1", "GPU2"): 18}
    shown = HostView("topo", gpus, gpu_links=mesh, link_kind="nvlink")
    tree = HostView(
        "nccl", gpus, switch_links=dict.fromkeys(("GPU0", "GPU1", "GPU2"), 18), link_kind="nvlink"
    )
    merged = merge([shown, tree])
    assert not merged.gpu_links and set(merged.switch_links.values()) == {18}
    fewer = replace(tree, switch_links={**tree.switch_links, "GPU2": 17})
    with pytest.raises(ContradictionError, match="GPU2 is 18 in topo, 17 in nccl"):
        merge([shown, fewer])
