"""Documents made from dumps: links, rates with their reasons, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.errors import TopologyError
from planner.schema import dump_yaml
from planner.study import Sources, solve_files
from planner.topology import PathClass, Topology, catalogue, resolve, route
from planner.topology.importers.document import as_topology, described, folded, has_c2c, legal_addressing
from planner.topology.importers.figures import sources_of
from planner.topology.importers.nccl_xml import read_nccl_xml
from planner.topology.importers.nvidia_topo import read_nvidia_topo
from planner.topology.importers.nvidia_xml import read_nvidia_xml
from planner.topology.importers.rates import device_of, facts_of, link_rates
from planner.topology.importers.views import GpuView, HostView, NumaView
from tests.cli.documents import SERVICE
from tests.topology.importers.samples import CELLS, NCCL, TAILS, TOPO, query, table

SXM = "a100-sxm-80"


def imported(view: HostView, device: str | None = None) -> Topology:
    """Return the resolved topology of a view."""
    return resolve(as_topology(view, "box", catalogue(), device))


def way(topology: Topology, left: str, right: str) -> PathClass:
    """Return the class of the route between two parts."""
    found = route(topology.nodes[0].machine.graph, left, right)
    assert found is not None
    return found.path_class


def test_classes_of_a_table_become_routes_of_these_classes() -> None:
    """NV, PIX, PXB and SYS pairs of a table are so in the document; PHB and NODE both meet at the host."""
    topology = imported(read_nvidia_topo(TOPO, "t"), SXM)
    assert way(topology, "gpu0", "gpu3") is PathClass.NVL
    assert way(topology, "gpu0", "NIC0") is PathClass.PIX
    assert way(topology, "gpu1", "NIC0") is PathClass.PXB
    assert way(topology, "gpu2", "NIC1") is PathClass.PHB
    assert way(topology, "gpu2", "NIC0") is PathClass.SYS


def test_rates_are_counts_times_vendor_rates() -> None:
    """Four NVLink 3 links carry four times 25 GB/s, by the vendor; unknown PCIe generations are assumed."""
    machine = as_topology(read_nvidia_topo(TOPO, "t"), "box", catalogue(), SXM).machines[0]
    mesh = next(mesh for mesh in machine.meshes if mesh.kind == "nvlink")
    assert (mesh.bandwidth.value, mesh.bandwidth.provenance) == (100e9, "vendor")
    pcie = next(link for link in machine.links if link.kind == "pcie")
    assert (pcie.bandwidth.value, pcie.bandwidth.provenance) == (31e9, "assumed")


def test_stated_generations_are_no_assumption() -> None:
    """A PCI Express link whose generation and width the dump states has the vendor's rate."""
    machine = as_topology(read_nccl_xml(NCCL, "t"), "box", catalogue()).machines[0]
    links = [link for link in machine.links if link.kind == "pcie" and "gpu" in link.between[0]]
    assert {(link.bandwidth.value, link.bandwidth.provenance) for link in links} == {(31e9, "vendor")}
    socket = next(mesh for mesh in machine.meshes if mesh.kind == "socket")
    assert (socket.bandwidth.value, socket.bandwidth.provenance) == (16e9, "nccl-constant")


def test_no_link_is_free_and_every_source_is_explained() -> None:
    """Every rate is above zero, and every figure's source is in the table of sources."""
    for view, device in ((read_nvidia_topo(TOPO, "t"), SXM), (read_nccl_xml(NCCL, "t"), None)):
        document = as_topology(view, "box", catalogue(), device)
        assert set(sources_of(document.machines[0])) == set(document.sources)
        assert all(edge.rate > 0 and edge.latency > 0 for edge in resolve(document).nodes[0].machine.edges)


def test_unknown_architecture_gets_a_stated_assumption_between_its_domains() -> None:
    """A host of an architecture that nobody knows imports, its sockets at an assumed rate."""
    nodes = (NumaView(0, tuple(range(4))), NumaView(1, tuple(range(4, 8))))
    view = HostView("test", numa=nodes, arch="loongarch64")
    machine = as_topology(view, "box", catalogue()).machines[0]
    assert [domain.arch for domain in machine.numa] == ["loongarch64"] * 2
    assert machine.meshes[0].bandwidth.provenance == "assumed" and machine.meshes[0].bandwidth.value > 0


def test_full_mesh_of_more_links_than_a_gpu_has_is_a_switch() -> None:
    """NV12 between every two of four A100 is twelve links to NVSwitch, and the note says so."""
    cells = [[cell.replace("NV4", "NV12") for cell in row] for row in CELLS]
    document, notes = described(read_nvidia_topo(table(cells), "t"), "box", catalogue(), SXM)
    machine = document.machines[0]
    assert [switch.kind for switch in machine.switches].count("nvswitch") == 1
    link = next(link for link in machine.links if link.kind == "nvlink")
    assert link.between == ("gpu[0-3]", "nvswitch") and link.bandwidth.value == 300e9
    assert any("more than a GPU has" in note for note in notes)


def test_second_threads_are_not_cores() -> None:
    """Numbers that repeat at half the total are second threads; those of an interleaved host are cores."""
    domain = as_topology(read_nvidia_topo(TOPO, "t"), "box", catalogue(), SXM).machines[0].numa[0]
    assert (domain.cores, domain.core_list) == (8, "0-7")
    lists = ((*range(8), *range(16, 24)), (*range(8, 16), *range(24, 32)))
    far = tuple(tuple(cpu + 32 for cpu in cpus) for cpus in lists)
    nodes = tuple(NumaView(number, cpus) for number, cpus in enumerate((*lists, *far)))
    machine = as_topology(HostView("test", numa=nodes, arch="riscv64"), "box", catalogue()).machines[0]
    assert [domain.core_list for domain in machine.numa][:2] == ["0-7,16-23", "8-15,24-31"]
    assert sum(domain.cores for domain in machine.numa) == 64


@pytest.mark.parametrize(
    ("gpu", "c2c", "mode"),
    [
        (GpuView("GPU0", addressing="ats", c2c=True), True, "ats"),
        (GpuView("GPU0", c2c=True), True, "ats"),
        (GpuView("GPU0", addressing="hmm", c2c=False), False, "hmm"),
        (GpuView("GPU0", addressing="none", c2c=False), False, "none"),
        (GpuView("GPU0"), False, "none"),
        (GpuView("GPU0", memory_numa=4), True, "ats"),
    ],
)
def test_memory_modes_are_those_that_the_driver_allows(gpu: GpuView, c2c: bool, mode: str) -> None:
    """Coherent access needs ATS or an enabled chip-to-chip link; silence allows copies alone."""
    assert has_c2c(gpu, None) is c2c
    assert legal_addressing(gpu, c2c=c2c) == mode


def test_coherent_hosts_have_coherent_links() -> None:
    """A GPU whose memory is a NUMA node is linked to its host coherently."""
    tails = ["0-7\t0\t\t4", "0-7\t0\t\t4", "8-15\t1\t\t12", "8-15\t1\t\t12", "", ""]
    topology = imported(read_nvidia_topo(table(tails=tails), "t"), "gh200-96")
    found = topology.host_route(topology.nodes[0].name, "numa0", "gpu0")
    assert found is not None and found.coherent and found.path_class is PathClass.C2C


@pytest.mark.parametrize(
    ("view", "device", "reason"),
    [
        (read_nvidia_topo(TOPO, "t"), None, "does not name the product"),
        (read_nvidia_topo(TOPO, "t"), "a100-sxm-88", "nearest is 'a100-sxm-80'"),
        (read_nvidia_xml(query(), "t"), None, "does not tell how the GPUs are linked"),
        (read_nvidia_xml(query(product="NVIDIA H250 XYZ"), "t"), None, "no device of the catalogue"),
        (read_nvidia_xml(query(memory=40960), "t"), None, "reports 40.0 GiB"),
        (read_nvidia_topo(table(tails=[*TAILS[:3], "", "", ""]), "t"), SXM, "which of the NUMA nodes"),
        (HostView("test", unknown_functions=("0000:01:00.0",)), None, "unknown role"),
    ],
)
def test_what_the_dump_does_not_tell_is_asked_for(view: HostView, device: str | None, reason: str) -> None:
    """A topology that would rest on guesses about links, devices or places is refused with the way out."""
    with pytest.raises(TopologyError, match=reason):
        as_topology(view, "box", catalogue(), device)


def test_products_are_matched_by_normalised_name_and_pci_identity() -> None:
    """Vendor words, case and punctuation do not matter; every device of the catalogue is known."""
    devices = catalogue()
    for product in ("NVIDIA H100 80GB HBM3", "h100 80gb-hbm3", "10de:2330", "H100-SXM-80"):
        assert device_of(product, devices) == "h100-sxm-80"
    assert all(facts_of(name) is not None for name, device in devices.items() if device.vendor != "host")
    assert {facts.device for facts in link_rates().gpus} <= set(devices)


def test_folded_ranges_pair_up_to_the_same_links() -> None:
    """Runs of ends fold into ranges, and no run mixes two shapes."""
    pairs = [("gpu0", "pcie0"), ("gpu1", "pcie1"), ("gpu2", "pcie1"), ("gpu3", "pcie1")]
    assert folded(pairs) == [("gpu[0-1]", "pcie[0-1]"), ("gpu[2-3]", "pcie1")]


RISCV = HostView(
    "test",
    numa=(NumaView(0, (*range(8), *range(16, 24))), NumaView(1, (*range(8, 16), *range(24, 32)))),
    arch="riscv64", cores=32, processors=32,
)  # fmt: skip
BY_HAND = """  gpus:
  - {name: gpu0, device: l4, numa: numa0}
  links:
  - {between: [gpu0, numa0], kind: pcie, bandwidth: 31 GB/s, latency: 300 ns}
"""


@pytest.mark.parametrize("kind", ["dgx", "pcie", "riscv"])
def test_planner_solves_on_imported_machines(kind: str, tmp_path: Path) -> None:
    """A plan is found on an imported NVLink box, a PCIe box and a RISC-V host with a GPU added by hand."""
    if kind == "dgx":
        text = dump_yaml(as_topology(read_nvidia_topo(TOPO, "t"), "dgx", catalogue(), SXM))
    elif kind == "pcie":
        cells = [[cell.replace("NV4", "PHB") for cell in row[:2]] for row in CELLS[:2]]
        view = read_nvidia_topo(table(cells, TAILS[:2], devices=("GPU0", "GPU1"), legend=""), "t")
        text = dump_yaml(as_topology(view, "box", catalogue(), "rtx-4090"))
    else:
        text = dump_yaml(as_topology(RISCV, "riscv", catalogue())).replace("  meshes:", BY_HAND + "  meshes:")
    machine, service = tmp_path / "machine.yaml", tmp_path / "service.yaml"
    machine.write_text(text, encoding="utf-8")
    service.write_text(SERVICE.replace("rate: 2", "rate: 0.2").replace("50 ms", "400 ms"), encoding="utf-8")
    assert solve_files(Sources(str(machine), str(service))).plan.jobs


def test_names_of_adapters_cannot_clash() -> None:
    """Adapters that are called like other parts of the machine get a name of their own."""
    view = read_nvidia_topo(TOPO, "t")
    nics = (replace(view.nics[0], name="gpu0"), replace(view.nics[1], name="a/b[0]"))
    classes = {pair: cell for pair, cell in view.path_classes.items() if "NIC" not in "".join(pair)}
    topology = imported(replace(view, nics=nics, path_classes=classes), SXM)
    assert [nic.name for nic in topology.nodes[0].machine.nics] == ["nic-gpu0", "a-b-0-"]
