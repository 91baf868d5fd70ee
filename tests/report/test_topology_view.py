"""Pictures and trees of machines show every part once, folded where nodes are alike."""

import xml.etree.ElementTree as ET

import pytest

from planner.report import topology_svg, topology_text
from planner.report.names import TIMES
from planner.schema import presets
from planner.topology import Topology, load_topology
from tests.report import machines


def shapes() -> dict[str, Topology]:
    return {
        "dgx": machines.topology(nodes=4),
        "superchip": machines.topology(machines.superchip(), 2, shape="single-switch"),
        "riscv": machines.topology(machines.riscv_host()),
        "rack": machines.nvlink_domain(4),
        "mixed": machines.topology(
            nodes=2, more={"arm-0": machines.superchip(), "rv-0": machines.riscv_host()}
        ),
    }


@pytest.mark.parametrize("shape", list(shapes()))
def test_picture_is_well_formed_and_complete(shape: str) -> None:
    """The SVG parses, and one node of each machine type shows all of its GPUs and ports by name."""
    where = shapes()[shape]
    root = ET.fromstring(topology_svg(where))
    parts = [element.get("data-part") for element in root.iter() if element.get("data-part")]
    expected = []
    for machine in where.machine_types:
        node = next(node.name for node in where.nodes if node.machine is machine)
        expected += [
            f"{node}/{part}" for part in [*(g.name for g in machine.gpus), *(n.name for n in machine.nics)]
        ]
    assert sorted(map(str, parts)) == sorted(expected)


@pytest.mark.parametrize("name", presets.names("topologies"))
def test_every_shipped_machine_can_be_drawn(name: str) -> None:
    """Each preset has a picture that parses and a tree that names its machine."""
    where = load_topology(name)
    assert ET.fromstring(topology_svg(where)).get("aria-label")
    assert where.nodes[0].machine.name in topology_text(where)


def test_load_colours_links() -> None:
    """A saturated link has the top colour, an idle one the lowest, an unknown one neither."""
    where = machines.topology()
    loads = {("node-0/plx0", "node-0/numa0"): 0.99, ("node-0/numa0", "node-0/plx0"): 0.0}
    wires = {
        str(element.findtext("{*}title")): str(element.get("class"))
        for element in ET.fromstring(topology_svg(where, loads)).iter()
        if "wire" in str(element.get("class"))
    }
    up = next(kind for text, kind in wires.items() if text.startswith("plx0 → numa0"))
    down = next(kind for text, kind in wires.items() if text.startswith("numa0 → plx0"))
    other = next(kind for text, kind in wires.items() if text.startswith("plx1 → numa0"))
    assert ("u5" in up, "u0" in down, "ux" in other) == (True, True, True)


def test_loads_of_all_switches_reach_the_bar() -> None:
    """The line from a GPU to the folded NVSwitches tells the load of the busiest of its links."""
    where = machines.topology()
    loads = {("node-0/gpu3", "node-0/nvswitch2"): 0.8, ("node-0/gpu3", "node-0/nvswitch1"): 0.1}
    texts = [
        element.text or ""
        for element in ET.fromstring(topology_svg(where, loads)).iter()
        if "title" in element.tag
    ]
    assert any(text.startswith("gpu3 → NVSwitch") and "80 % used" in text for text in texts)


def test_nodes_fold() -> None:
    """A thousand equal nodes are one drawing, a cell each, and one branch of the tree."""
    where = machines.topology(nodes=1000)
    picture = topology_svg(where)
    assert picture.count('class="cell') == 1000
    assert picture.count('class="chip gpu') == 8
    assert "999 more like this" in picture
    tree = topology_text(where)
    assert f"node-[0-999]: 1000 {TIMES} dgx-h100" in tree
    assert len(tree.splitlines()) < 30


def test_tree_states_rates_and_provenance() -> None:
    """Each line of a link gives its rate, latency and who says so."""
    tree = topology_text(machines.topology())
    assert f"8 {TIMES} gpu[0-7] ↔ plx[0-3]: PCIe, 55.0 GB/s (measured) each way, 500 ns (assumed)" in tree
    assert "numa0 ↔ numa1: socket link, 62.0 GB/s (assumed) each way, 500 ns (assumed), coherent" in tree


def test_hostile_names_stay_text() -> None:
    """Markup in a node's name is escaped in the picture, and nothing unprintable gets into the tree."""
    where = machines.topology(nodes=2, node_name=machines.HOSTILE_PART)
    labels = [str(element.text) for element in ET.fromstring(topology_svg(where)).iter()]
    assert any("<b onload" in label for label in labels)
    assert "\u202e" not in topology_text(where)


def test_a_lone_node_has_no_more_like_it() -> None:
    """Nothing is claimed about other nodes where there are none."""
    assert "more like this" not in topology_svg(machines.topology())
