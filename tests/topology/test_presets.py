"""The shipped machines, clusters and devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from planner.schema import Figure, load, presets
from planner.topology import DeviceCatalogue, PathClass, Topology, TopologyDocument, load_topology, route
from planner.topology.importers.detect import read
from planner.topology.importers.views import HostView

NAMES = presets.names("topologies")
CLUSTERS = [name for name in NAMES if "-x" in name and name != "pcie-4090x8"]
MACHINES = [name for name in NAMES if name not in CLUSTERS]
HOSTS = {"riscv-sg2042": "riscv64", "x86-epyc-2s": "x86_64", "arm-grace-superchip": "aarch64"}
"""Machines without GPUs and the architecture of their processors."""
LEVELS = {
    "dgx1-v100": ("nvlink", 8, 48.4, False),
    "dgx2": ("nvlink", 16, 150, False),
    "azure-nd-a100-v4": ("nvlink", 8, 260, False),
    "aws-p4d": ("nvlink", 8, 260, False),
    "azure-nd-h100-v5": ("nvlink", 8, 396.4, True),
    "aws-p5": ("nvlink", 8, 396.4, True),
    "oci-h100": ("nvlink", 8, 396.4, True),
    "dgx-b300": ("nvlink", 8, 900, True),
    "gh200-single": ("device", 1, float("inf"), False),
    "gh200-quad": ("nvlink", 4, 150, False),
    "gb300-nvl72": ("nvlink", 72, 900, True),
    "mi300x-8": ("nvlink", 8, 64, False),
}
"""Machines with one level of locality: its name, GPUs, GB/s and whether a switch reduces."""
PORTS = {
    "dgx1-v100": (4, 12.5),
    "dgx2": (8, 12.5),
    "azure-nd-a100-v4": (8, 25),
    "aws-p4d": (4, 12.5),
    "azure-nd-h100-v5": (8, 50),
    "aws-p5": (32, 12.5),
    "oci-h100": (16, 22.5),
    "dgx-b300": (8, 100),
    "mi300x-8": (8, 50),
}
"""Number of network ports of a machine and the GB/s of each."""
DUMPS = {
    "dgx1-v100": ("nvidia-smi-topo/dgx1-v100-4nic-msccl.txt", 25),
    "aws-p4d": ("nvidia-smi-topo/a100-p4d-8gpu.txt", 25),
    "gh200-quad": ("nvidia-smi-topo/gh200-quad-4gpu.txt", 25),
    "dgx2": ("hwloc-xml/nvidiaDGX2.xml", 25),
    "oci-h100": ("nccl-xml/oci-h100-topology.xml", 25),
    "mi300x-8": ("nccl-xml/rccl-topo_8p_940.xml", 64),
}
"""Recorded dump of a machine and the GB/s that the vendor states for one of its links."""
LINK_EFFICIENCY = 0.85
"""Least share of the vendor's rate of all links that a measured port to a switch carries."""
EIGHT_WAY = {"dgx-a100": 260, "dgx-h100": 396.4, "hgx-h200": 396.4, "dgx-b200": 900}


def _figures(value: Any, place: str = "") -> Iterator[tuple[str, Figure]]:
    if isinstance(value, Figure):
        yield place, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _figures(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _figures(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _figures(item, f"{place}.{index}")


def _document(name: str) -> TopologyDocument:
    return load(presets.folder("topologies") / f"{name}.yaml", TopologyDocument)


def _catalogue() -> DeviceCatalogue:
    return load(presets.folder("topologies") / "devices.yaml", DeviceCatalogue)


def test_the_promised_presets_are_there() -> None:
    """Machines of three host architectures and clusters up to 2,048 nodes are shipped."""
    assert {*EIGHT_WAY, "gb200-nvl72", "gh200-dual", "pcie-4090x8", "dgx-h100-x2048"} < set(NAMES)
    assert {"riscv-sg2044-pcie5", "riscv-nvlink-fusion"} < set(NAMES)
    assert "devices" not in NAMES


def test_at_least_21_machines_are_shipped() -> None:
    """Every machine is described by parts of its own, not by another preset."""
    own = [name for name in MACHINES if _document(name).machines[0].preset is None]
    assert own == MACHINES
    assert len(own) >= 21
    assert {*LEVELS, *HOSTS} < set(own)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_of_a_preset_names_a_source_of_its_table(name: str) -> None:
    """No number stands without a reason, and no source without a number."""
    document = _document(name)
    keys = {figure.source for _, figure in _figures(document)}
    assert keys == set(document.sources)


def test_every_figure_of_the_catalogue_names_a_source_of_its_table() -> None:
    """No number of a device stands without a reason."""
    catalogue = _catalogue()
    assert {figure.source for _, figure in _figures(catalogue)} <= set(catalogue.sources)


def test_recalled_and_conflicting_figures_count_as_assumed_and_are_explained() -> None:
    """What rests on memory or on sources that disagree is not passed off as the vendor's word."""
    for device in _catalogue().devices:
        doubtful = [f for _, f in _figures(device) if f.source in ("recalled", "conflict", "clock")]
        assert all(figure.provenance == "assumed" for figure in doubtful)
        assert device.note or not doubtful


def test_devices_are_plausible() -> None:
    """Nothing multiplies faster than its peak, and MIG slices fit on their GPU."""
    catalogue = _catalogue()
    assert len({device.name for device in catalogue.devices}) == len(catalogue.devices) >= 31
    for device in catalogue.devices:
        assert all(figure.value < device.peak[dtype].value for dtype, figure in device.matmul.items())
        assert "bf16" in device.peak or device.architecture in ("volta", "turing", "vega", "cpu")
        for profile in device.mig:
            assert profile.instances * profile.compute <= 1.0
            assert profile.instances * profile.memory <= 1.0
            assert profile.instances <= len(profile.starts)
    assert {device.name for device in catalogue.devices if device.mig} == {
        "a100-sxm-40",
        "a100-sxm-80",
        "h100-sxm-80",
        "h200-sxm",
        "b200-sxm",
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_resolves_with_all_sources(name: str) -> None:
    """The complete document, devices and presets written out, still explains every figure."""
    resolved = load_topology(name)
    assert resolved.name == name
    assert {figure.source for _, figure in _figures(resolved.document)} <= set(resolved.sources)
    assert resolved.digest.startswith("sha256:")


@pytest.mark.parametrize("name", MACHINES)
def test_every_part_of_a_machine_can_be_reached(name: str) -> None:
    """Each domain reaches each GPU and each GPU each port; no domain is faster than the local one."""
    graph = load_topology(name).nodes[0].machine.graph
    machine = load_topology(name).nodes[0].machine
    for gpu in machine.gpus:
        ways = {numa.name: route(graph, numa.name, gpu.name) for numa in machine.numa}
        local = ways[gpu.numa]
        assert local is not None
        assert local.path_class in (PathClass.C2C, PathClass.PHB)
        for way in ways.values():
            assert way is not None
            assert way.rate <= local.rate
            assert 100e-9 < way.latency < 2e-6
        assert all(route(graph, gpu.name, nic.name) is not None for nic in machine.nics)


@pytest.mark.parametrize(("name", "rate"), EIGHT_WAY.items())
def test_nvswitch_boxes_have_one_level_of_eight_gpus(name: str, rate: float) -> None:
    """Eight GPUs on NVSwitch are one domain at the rate of a port."""
    (level,) = load_topology(name).hierarchy.levels
    assert (level.name, level.capacities.tolist()) == ("nvlink", [8])
    assert level.rate == pytest.approx(rate * 1e9)
    assert level.in_switch_reduction == (name != "dgx-a100")


@pytest.mark.parametrize("name", ["dgx-a100", "dgx-h100", "hgx-h200", "dgx-b200"])
def test_each_gpu_shares_a_pcie_switch_with_a_port_of_its_own(name: str) -> None:
    """GPU i and port i meet below the host."""
    graph = load_topology(name).nodes[0].machine.graph
    ways = [route(graph, f"gpu{i}", f"nic{i}") for i in range(8)]
    assert all(way is not None and way.path_class is PathClass.PIX for way in ways)


def test_dgx_a100_is_in_nps4() -> None:
    """Eight domains of sixteen cores hold 128 cores and 2 TiB."""
    machine = load_topology("dgx-a100").nodes[0].machine
    assert [numa.cores for numa in machine.numa] == [16] * 8
    assert sum(numa.memory.value for numa in machine.numa) == 2 * 2**40
    assert [gpu.numa for gpu in machine.gpus] == [f"numa{n}" for n in (3, 3, 1, 1, 7, 7, 5, 5)]


def test_gb200_nvl72_is_one_nvlink_domain_of_72() -> None:
    """All GPUs of the rack are one domain; each Grace reaches its own two coherently."""
    rack = load_topology("gb200-nvl72")
    (level,) = rack.hierarchy.levels
    assert (len(rack.nodes), level.name, level.capacities.tolist()) == (18, "nvlink", [72])
    assert level.rate == pytest.approx(900e9)
    way = rack.host_route("tray-0", "numa0", "gpu1")
    assert way is not None
    assert way.coherent
    assert rack.device("tray-17/gpu3").name == "gb200"


def test_gh200_dual_reaches_remote_memory_more_slowly() -> None:
    """380 GB/s in and 297 out locally, 132 across, and no NVLink between the GPUs."""
    box = load_topology("gh200-dual")
    graph = box.nodes[0].machine.graph
    local, remote = route(graph, "numa0", "gpu0"), route(graph, "numa1", "gpu0")
    back, peer = route(graph, "gpu0", "numa0"), route(graph, "gpu0", "gpu1")
    assert local is not None and remote is not None and back is not None and peer is not None
    assert [way.rate for way in (local, back, remote)] == pytest.approx([380e9, 297e9, 132e9])
    assert local.coherent and remote.coherent
    assert graph.edges["numa0", "gpu0"]["edge"].busy_rate == pytest.approx(180e9)
    assert peer.path_class is PathClass.SYS


def test_pcie_4090x8_has_two_levels() -> None:
    """Four GPUs per socket, then all eight through the slow socket link."""
    levels = load_topology("pcie-4090x8").hierarchy.levels
    assert [(level.name, level.capacities.tolist()) for level in levels] == [
        ("pcie", [4, 4]),
        ("socket", [8]),
    ]
    assert levels[1].rate == pytest.approx(4e9)


def test_riscv_hosts_are_labelled() -> None:
    """What is assumed about hosts that do not exist says so, figure by figure."""
    fusion = _document("riscv-nvlink-fusion")
    assert str(fusion.description).startswith("HYPOTHETICAL")
    assert {figure.provenance for _, figure in _figures(fusion)} == {"assumed"}
    (host,) = load_topology("riscv-sg2044-pcie5").nodes[0].machine.numa
    assert (host.arch, host.cores, host.core_speed.value) == ("riscv64", 64, 0.46)
    assert host.core_speed.provenance == "measured"
    assert host.memory_bandwidth.provenance == "assumed"


@pytest.mark.parametrize(("name", "level"), LEVELS.items())
def test_machines_of_one_domain_have_one_sane_level(name: str, level: tuple[str, int, float, bool]) -> None:
    """All GPUs are in one domain, at the rate of a port, or of the best link of a mesh."""
    (found,) = load_topology(name).hierarchy.levels
    label, gpus, rate, reduces = level
    assert (found.name, found.capacities.max(), found.in_switch_reduction) == (label, gpus, reduces)
    assert found.rate == pytest.approx(rate * 1e9)
    assert found.latency < 1.1e-6


@pytest.mark.parametrize(("name", "ports"), PORTS.items())
def test_ports_share_a_pcie_switch_with_a_gpu(name: str, ports: tuple[int, float]) -> None:
    """Each GPU meets its ports below the host, each port a GPU, and the way between fills the port."""
    machine = load_topology(name).nodes[0].machine
    assert (len(machine.nics), {nic.bandwidth.value for nic in machine.nics}) == (ports[0], {ports[1] * 1e9})
    near = {
        (gpu.name, nic.name): way.rate
        for gpu in machine.gpus
        for nic in machine.nics
        if (way := route(machine.graph, gpu.name, nic.name)) and way.path_class is PathClass.PIX
    }
    assert {gpu for gpu, _ in near} == {gpu.name for gpu in machine.gpus}
    assert {nic for _, nic in near} == {nic.name for nic in machine.nics}
    assert len(near) == max(len(machine.gpus), len(machine.nics)) * (2 if name == "azure-nd-a100-v4" else 1)
    assert all(rate >= 0.98 * ports[1] * 1e9 for rate in near.values())


@pytest.mark.parametrize(("name", "arch"), HOSTS.items())
def test_hosts_without_gpus_are_machines(name: str, arch: str) -> None:
    """Their domains reach one another, no faster than memory, and no core is in two of them."""
    host = load_topology(name)
    (node,) = host.nodes
    domains = node.machine.numa
    assert (host.gpus, {domain.arch for domain in domains}) == ((), {arch})
    cores = [core for domain in domains for core in domain.core_numbers]
    assert sorted(cores) == list(range(sum(domain.cores for domain in domains)))
    for left in domains:
        for right in domains:
            way = route(node.machine.graph, left.name, right.name)
            assert way is not None
            assert left is right or way.rate <= left.memory_bandwidth.value


def test_gh200_modules_reach_their_own_memory_coherently() -> None:
    """One module alone and four together have the C2C link of the measured ones; on four it is assumed."""
    for name, provenance in (("gh200-single", "measured"), ("gh200-quad", "assumed")):
        way = route(load_topology(name).nodes[0].machine.graph, "numa0", "gpu0")
        assert way is not None and way.coherent and way.path_class is PathClass.C2C
        assert way.rate == pytest.approx(380e9)
        (link,) = [link for link in _document(name).machines[0].links if link.kind == "nvlink-c2c"]
        assert link.bandwidth.provenance == provenance


@pytest.mark.reference
@pytest.mark.parametrize(("name", "dump"), DUMPS.items())
def test_gpu_links_are_those_of_a_recorded_machine(
    name: str, dump: tuple[str, float], shared_data: Path
) -> None:
    """Pairs that have links in the dump have as many in the preset, and no other pair has one."""
    view = read(shared_data / "topology-dumps" / dump[0])
    assert isinstance(view, HostView)
    machine = load_topology(name).nodes[0].machine
    assert [gpu.name.lower() for gpu in view.gpus] == [gpu.name for gpu in machine.gpus]
    linked = {e for e in machine.edges if e.kind in ("nvlink", "xgmi")}
    ends = {switch.name for switch in machine.switches if switch.kind == "nvswitch"}
    if not ends:
        found = {(e.source, e.target): round(e.rate / dump[1] / 1e9) for e in linked if e.source < e.target}
        assert found == {(a.lower(), b.lower()): count for (a, b), count in view.gpu_links.items()}
        return
    size = len(machine.gpus)
    assert len(view.gpu_links) == size * (size - 1) / 2 or len(view.switch_links) == size
    (count,) = {*view.gpu_links.values(), *view.switch_links.values()}
    assert {(e.source, e.target) for e in linked if e.target in ends} == {
        (gpu.name, switch) for gpu in machine.gpus for switch in ends
    }
    whole = count * dump[1] * 1e9
    assert all(LINK_EFFICIENCY * whole <= e.rate <= whole for e in linked)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "dump"),
    [
        ("riscv-sg2042", "sysfs-dumps/rv64-milkvpioneer.tar.gz"),
        ("gh200-quad", "nvidia-smi-topo/gh200-quad-4gpu.txt"),
        ("azure-nd-a100-v4", "nccl-xml/azure-ndv4-topo.xml"),
    ],
)
def test_cores_are_those_of_a_recorded_machine(name: str, dump: str, shared_data: Path) -> None:
    """Each NUMA domain of the host has the core numbers that the machine reports."""
    view = read(shared_data / "topology-dumps" / dump)
    assert isinstance(view, HostView)
    recorded = {frozenset(node.cpus) for node in view.numa if node.cpus}
    domains = load_topology(name).nodes[0].machine.numa
    assert {frozenset(domain.core_numbers) for domain in domains} == recorded


@pytest.mark.parametrize(
    ("name", "nodes", "rate"),
    [
        ("dgx-h100-x8", 8, 50),
        ("dgx-h100-x64", 64, 50),
        ("dgx-h100-x2048", 2048, 50),
        ("dgx-a100-x64", 64, 25),
    ],
)
def test_clusters_have_a_fabric_level_at_the_rate_of_a_port(name: str, nodes: int, rate: float) -> None:
    """NVLink within a node, one port per GPU beyond it."""
    cluster = load_topology(name)
    inner, outer = cluster.hierarchy.levels
    assert (len(cluster.nodes), len(cluster.gpus)) == (nodes, 8 * nodes)
    assert (inner.name, outer.name) == ("nvlink", "fabric")
    assert outer.rate == pytest.approx(rate * 1e9)
    assert outer.capacities.tolist() == [8 * nodes]


def test_the_oversubscribed_cluster_has_slow_uplinks() -> None:
    """At 4 : 1 a quarter of a port is left beyond four nodes."""
    levels = load_topology("dgx-h100-x16-oversubscribed").hierarchy.levels
    assert [level.name for level in levels] == ["nvlink", "leaf", "fabric"]
    assert levels[1].rate / levels[2].rate == pytest.approx(4.0)


def test_clusters_are_made_of_shipped_machines() -> None:
    """A cluster's nodes are the machine preset, part for part."""
    cluster: Topology = load_topology("dgx-h100-x8")
    assert cluster.nodes[0].machine.edges == load_topology("dgx-h100").nodes[0].machine.edges
