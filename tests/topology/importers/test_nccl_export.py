"""Topologies as NCCL loads them, and back."""

from __future__ import annotations

import re

import pytest

from planner.errors import TopologyError
from planner.schema import presets
from planner.topology import TopologyDocument, catalogue, load_topology, resolve
from planner.topology.importers.document import as_topology
from planner.topology.importers.nccl_export import MOST_ATTRIBUTES, from_nccl_xml, to_nccl_xml
from planner.topology.importers.nccl_xml import read_nccl_xml
from planner.topology.importers.nvidia_topo import read_nvidia_topo
from planner.topology.importers.views import HostView
from planner.topology.importers.xml import parse
from tests.topology.importers.samples import NCCL, TOPO


def body(text: str) -> str:
    """Return an export without the comment that carries the document."""
    return text.split("\n", 1)[1]


@pytest.mark.parametrize("name", presets.names("topologies"))
def test_presets_go_out_and_come_back_whole(name: str) -> None:
    """Every preset comes back equal, and its XML keeps to what NCCL's parser reads."""
    document = load_topology(name).document
    if len({group.machine for group in document.nodes}) > 1:
        pytest.skip("several machines")
    text = to_nccl_xml(document)
    assert from_nccl_xml(text, name) == document
    assert not text.startswith("<?") and "&" not in text and "'" not in body(text)
    for element in parse(text, name).walk():
        assert len(element.attributes) <= MOST_ATTRIBUTES
        assert all(len(value) <= 255 for value in element.attributes.values())


def facts(view: HostView) -> object:
    """Return what a view says, without the addresses and the order of its devices."""
    names = {gpu.bus_id: gpu.name for gpu in view.gpus} | {nic.bus_id: nic.name for nic in view.nics}
    chains = {names[address]: len(chain) for address, chain in view.bridges.items()}
    return (
        sorted((gpu.name, gpu.numa, gpu.product, gpu.pcie_generation, gpu.pcie_width) for gpu in view.gpus),
        sorted((nic.name, nic.numa, nic.speeds) for nic in view.nics),
        view.numa, dict(view.gpu_links), dict(view.switch_links), chains,
    )  # fmt: skip


def test_xml_alone_keeps_the_graph() -> None:
    """Without the comment, GPUs, links, NUMA nodes, PCIe tree and ports are those of the machine."""
    cores = NCCL.replace("ff00ff00", "0000ff00").replace("00ff00ff", "000000ff")
    for document in (
        as_topology(read_nccl_xml(cores, "t"), "box", catalogue()),
        load_topology("dgx-h100").document,
    ):
        first = read_nccl_xml(body(to_nccl_xml(document)), "t")
        again = as_topology(first, "box", catalogue())
        assert facts(read_nccl_xml(body(to_nccl_xml(again)), "t")) == facts(first)
        assert len(resolve(again).gpus) == len(first.gpus)


def test_links_to_switches_are_counted_from_measured_rates() -> None:
    """A DGX H100 has eighteen links to its switches, though 396 GB/s were measured over them."""
    view = read_nccl_xml(to_nccl_xml(load_topology("dgx-h100").document), "t")
    assert set(view.switch_links.values()) == {18} and len(view.switch_links) == 8
    assert {gpu.product for gpu in view.gpus} == {"10de:2330"}


def test_a_changed_export_is_read_as_it_stands() -> None:
    """The comment counts only while the XML below it is as exported, and a broken one not at all."""
    text = to_nccl_xml(as_topology(read_nvidia_topo(TOPO, "t"), "box", catalogue(), "a100-sxm-80"))
    assert from_nccl_xml(text.replace('count="4"', 'count="2"'), "t") is None
    assert from_nccl_xml(body(text), "t") is None
    assert from_nccl_xml(re.sub(r" [A-Za-z0-9+/=]+ -->", " AAAA -->", text, count=1), "t") is None


def test_what_nccl_cannot_read_is_refused() -> None:
    """Names with quotes or brackets, and parts that hang on nothing, do not reach NCCL."""
    document = load_topology("dgx-h100").document
    machine = document.machines[0]
    loose = machine.model_copy(update={"links": [link for link in machine.links if link.kind != "pcie"]})
    with pytest.raises(TopologyError, match="hangs on no NUMA domain"):
        to_nccl_xml(_with(document, loose))
    quoted = machine.model_copy(
        update={"nics": [machine.nics[0].model_copy(update={"name": 'n"0'})], "links": machine.links[:1]}
    )
    with pytest.raises(TopologyError):
        to_nccl_xml(_with(document, quoted))


def _with(document: TopologyDocument, machine: object) -> TopologyDocument:
    return document.model_copy(update={"machines": [machine]})
