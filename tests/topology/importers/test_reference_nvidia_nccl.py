"""Recorded dumps of real machines against the facts that were established for each."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from planner.topology.importers.closest import closest_nics
from planner.topology.importers.detect import read
from planner.topology.importers.lists import listed, numbers
from planner.topology.importers.nvidia_nvlink import NvlinkView
from planner.topology.importers.pci import bus_id, generation_of_speed, width
from planner.topology.importers.refusal import ImportRefusedError
from planner.topology.importers.views import HostView

pytestmark = pytest.mark.reference
CPU_SECONDS = 0.1
"""What reading one dump of a host may take."""


def dumps(shared_data: Path, kind: str) -> list[tuple[str, dict[str, Any], HostView]]:
    """Return name, facts and view of every dump of a kind that describes a machine."""
    folder = shared_data / "topology-dumps"
    if not folder.is_dir():
        pytest.skip("the recorded dumps (../shared/data/topology-dumps) are absent")
    found = []
    for entry in json.loads((folder / "truth.json").read_text(encoding="utf-8")):
        if entry["kind"] != kind or entry["truth"].get("kind") == "nccl-graph":
            continue
        start = time.process_time()
        view = read(folder / kind / entry["file"])
        assert time.process_time() - start < 3 * CPU_SECONDS, entry["file"]
        assert isinstance(view, HostView)
        found.append((entry["file"], entry["truth"], view))
    return found


def test_tables(shared_data: Path) -> None:
    """Links, classes, nearest adapters and affinity of every recorded table are exact."""
    for file, truth, view in dumps(shared_data, "nvidia-smi-topo"):
        if isinstance(view, NvlinkView):
            assert len(view.gpus) == truth["gpus"], file
            assert set(view.active_links.values()) == {truth["links_per_gpu"]}, file
            assert view.link_rate == truth["gb_per_s_per_link"] * 1e9, file
        elif truth.get("kind") == "p2p-status":
            assert len(view.gpus) == truth["gpus"], file
            assert set(view.path_classes.values()) == {truth["all_pairs"]}, file
            assert not view.gpu_links, file
        else:
            _check_table(file, truth, view)


def _check_table(file: str, truth: dict[str, Any], view: HostView) -> None:
    names = [gpu.name for gpu in view.gpus]
    assert (len(view.gpus), len(view.nics)) == (truth["gpus"], truth["nics"]), file
    assert {f"{a}-{b}": count for (a, b), count in view.gpu_links.items()} == truth["nvlink_pairs"], file
    classes: dict[str, int] = {}
    for pair, found in view.path_classes.items():
        if set(pair) <= set(names):
            classes[found] = classes.get(found, 0) + 1
    assert classes == truth["gpu_pair_classes"], file
    near = {name: {"class": n.path_class, "nics": list(n.nics)} for name, n in closest_nics(view).items()}
    assert near == truth["closest_nic"], file
    nodes = {node.number: node for node in view.numa}
    for gpu in view.gpus:
        tail = [value for value in truth["row_tail"][gpu.name] if numbers(value) or value == "N/A"]
        if not tail or len(tail) < len(truth["row_tail"][gpu.name]):
            assert gpu.numa is None, file
            continue
        assert gpu.numa is not None and nodes[gpu.numa].cpus == numbers(tail[0]), file
        if len(tail) > 1 and tail[1] != "N/A":
            assert (gpu.numa, *_further(view, tail)) == numbers(tail[1]), file
        if len(tail) > 2:
            assert listed([gpu.memory_numa] if gpu.memory_numa is not None else []) in (tail[2], ""), file


def _further(view: HostView, tail: list[str]) -> tuple[int, ...]:
    """Return the nodes beside the first of an affinity column that are device memory in the view."""
    device = {node.number for node in view.numa if node.device_memory}
    return tuple(number for number in (numbers(tail[1]) or ())[1:] if number in device)


def test_queries(shared_data: Path) -> None:
    """Every GPU of every recorded query is exact, field by field."""
    for file, truth, view in dumps(shared_data, "nvidia-smi-q-x"):
        assert view.driver == truth["driver"] and len(view.gpus) == truth["gpus"], file
        for gpu, fact in zip(view.gpus, truth["gpu_list"], strict=True):
            assert gpu.bus_id == bus_id(fact["id"]) and gpu.product == fact["name"], file
            assert gpu.memory == float(fact["fb_total"].split()[0]) * 2**20, file
            assert (str(gpu.pcie_generation), f"{gpu.pcie_width}x") == (
                fact["pcie_max_gen"], fact["pcie_width"],
            ), file  # fmt: skip
            assert (gpu.addressing or "n/a") == fact["addressing"].lower(), file
            assert gpu.c2c == {"Enabled": True, "Disabled": False}.get(fact["c2c"]), file
            assert (gpu.mig or "n/a") == fact["mig"].lower(), file
            clique = None if fact["clique"] == "N/A" else f"{fact['cluster']}.{fact['clique']}"
            assert gpu.clique == clique, file


def test_topologies(shared_data: Path) -> None:
    """GPUs, links, switches, NUMA nodes, ports and nearest adapters of every recorded topology are exact."""
    for file, truth, view in dumps(shared_data, "nccl-xml"):
        address = {gpu.name: gpu.bus_id or "" for gpu in view.gpus}
        adapters = {nic.name: nic.bus_id or nic.name for nic in view.nics}
        assert [str(node.number) for node in view.numa] == truth["numa_ids"], file
        assert ([str(view.arch)], [str(view.vendor)]) == (truth["arch"], truth["vendor"]), file
        assert len(view.gpus) == truth["gpus"] and len(view.nics) == truth["nic_pci_devices"], file
        assert sum(nic.ports or 0 for nic in view.nics) == truth["net_ports"], file
        for gpu, fact in zip(view.gpus, truth["gpu_list"], strict=True):
            assert (gpu.bus_id, str(gpu.numa)) == (fact["busid"], fact["numaid"]), file
            assert fact["dev"] in (None, gpu.name.removeprefix("GPU")), file
            link = generation_of_speed(fact["link"][0]), width(fact["link"][1])
            assert (gpu.pcie_generation, gpu.pcie_width) == link, file
        pairs = {
            " <-> ".join(sorted((address[a], address[b]))): count for (a, b), count in view.gpu_links.items()
        }
        assert pairs == truth["link_pairs"], file
        assert ([view.link_kind] if view.link_kind else []) == truth["link_kind"], file
        assert {address[gpu]: count for gpu, count in view.switch_links.items()} == truth[
            "links_to_switch"
        ], file
        assert {gpu.bus_id for gpu in view.gpus if gpu.c2c} == set(truth["c2c"]), file
        ignored = sum("to itself are ignored" in remark.text for remark in view.remarks)
        assert ignored == len(truth["self_target_links_to_ignore"]), file
        near = {
            address[gpu]: {
                "shared_bridges": n.shared_bridges, "same_numa": n.same_numa,
                "nics": sorted(adapters[nic] for nic in n.nics),
            }
            for gpu, n in closest_nics(view).items()
        }  # fmt: skip
        wanted = {gpu: {**fact, "nics": sorted(fact["nics"])} for gpu, fact in truth["closest_nic"].items()}
        assert near == wanted, file


def test_a_graph_of_channels_is_refused(shared_data: Path) -> None:
    """The one file that describes no machine ends in a typed refusal."""
    graph = shared_data / "topology-dumps" / "nccl-xml" / "azure-ncv4-graph.xml"
    if not graph.is_file():
        pytest.skip("the recorded dumps (../shared/data/topology-dumps) are absent")
    with pytest.raises(ImportRefusedError):
        read(graph)
