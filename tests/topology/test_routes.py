"""Routes inside machines and between nodes."""

from __future__ import annotations

from itertools import pairwise, product

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.schema import LatencyFigure
from planner.topology import (
    Edge,
    Fabric,
    FabricLayout,
    NodeGroup,
    PathClass,
    Route,
    Topology,
    load_topology,
    machine_route,
    route,
)
from planner.topology.routes import widest_path
from tests.topology.machines import GB, gpu, link, machine, nic, switch, topology


def _route(resolved: Topology, source: str, target: str) -> Route:
    found = route(resolved.nodes[0].machine.graph, source, target)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def box() -> Topology:
    """Return two sockets, PCIe switches, one NVLink pair, a C2C GPU and a port."""
    return topology(
        machine(
            [gpu("gpu[0-3]"), gpu("gpu[4-5]", "cpu1")],
            [
                link("gpu[0-1]", "sw0", "pcie", 50),
                link("sw0", "top", "pcie", 40),
                link("gpu2", "sw1", "pcie", 50),
                link("sw1", "top", "pcie", 40),
                link("top", "cpu0", "pcie", 30),
                link("gpu3", "cpu0", "pcie", 25),
                link("cpu0", "cpu1", "socket", 20),
                link("cpu1", "gpu[4-5]", "nvlink-c2c", 380, back=297, duplex=360),
                link("gpu0", "gpu3", "nvlink", 100),
                link("nic0", "sw0", "pcie", 50),
            ],
            sockets=2,
            switches=[switch("sw[0-1]"), switch("top")],
            nics=[nic("nic0")],
        )
    )


@pytest.mark.parametrize(
    ("source", "target", "path_class", "rate"),
    [
        ("gpu0", "gpu0", PathClass.LOC, float("inf")),
        ("gpu0", "gpu3", PathClass.NVL, 100),
        ("gpu0", "gpu1", PathClass.PIX, 50),
        ("gpu0", "nic0", PathClass.PIX, 50),
        ("gpu1", "gpu2", PathClass.PXB, 40),
        ("gpu1", "gpu3", PathClass.PHB, 25),
        ("cpu0", "gpu2", PathClass.PHB, 30),
        ("gpu1", "gpu4", PathClass.SYS, 20),
        ("cpu0", "gpu4", PathClass.SYS, 20),
        ("cpu1", "gpu4", PathClass.C2C, 380),
        ("gpu4", "cpu1", PathClass.C2C, 297),
        ("gpu4", "gpu5", PathClass.C2C, 297),
    ],
)
def test_the_class_and_the_bottleneck_follow_the_links(
    box: Topology, source: str, target: str, path_class: PathClass, rate: float
) -> None:
    """Each pair gets the class that nvidia-smi would print and the rate of its narrowest link."""
    found = _route(box, source, target)
    assert found.path_class is path_class
    assert found.rate == pytest.approx(rate * GB)
    assert (found.vertices[0], found.vertices[-1]) == (source, target)


def test_only_a_wholly_coherent_route_is_coherent(box: Topology) -> None:
    """C2C alone is coherent; with a socket link or PCIe on the way the route is not."""
    assert _route(box, "cpu1", "gpu4").coherent
    assert not _route(box, "cpu0", "gpu4").coherent


def test_latency_is_the_sum_of_the_hops(box: Topology) -> None:
    """Four hops of 100 ns take 400 ns."""
    found = _route(box, "gpu1", "gpu2")
    assert len(found.hops) == 4
    assert found.latency == pytest.approx(400e-9)


def test_nvlink_through_one_other_gpu_beats_pcie_but_through_two_does_not() -> None:
    """On a line of four GPUs, the second neighbour is reached by NVB and the third over PCIe."""
    line = [link(f"gpu{i}", f"gpu{i + 1}", "nvlink", 40) for i in range(3)]
    box = topology(machine([gpu("gpu[0-3]")], [link("gpu[0-3]", "cpu0", "pcie", 25), *line]))
    second, third = _route(box, "gpu0", "gpu2"), _route(box, "gpu0", "gpu3")
    assert (second.path_class, second.vertices) == (PathClass.NVB, ("gpu0", "gpu1", "gpu2"))
    assert (third.path_class, third.rate) == (PathClass.PHB, 25 * GB)


def test_nvlink_is_taken_even_where_pcie_is_wider() -> None:
    """The class decides before the rate does."""
    both = [link("gpu[0-1]", "cpu0", "pcie", 60), link("gpu0", "gpu1", "nvlink", 20)]
    found = _route(topology(machine([gpu("gpu[0-1]")], both)), "gpu0", "gpu1")
    assert (found.path_class, found.rate) == (PathClass.NVL, 20 * GB)


def test_nvlink_to_the_host_does_not_make_an_nvlink_route_between_gpus() -> None:
    """GPUs that meet in a CPU over NVLink, as on POWER9, meet in the host."""
    box = topology(machine([gpu("gpu[0-1]")], [link("gpu[0-1]", "cpu0", "nvlink", 75)]))
    assert _route(box, "gpu0", "gpu1").path_class is PathClass.PHB
    assert _route(box, "cpu0", "gpu1").path_class is PathClass.NVL


def test_parts_without_a_link_have_no_route() -> None:
    """A GPU that nothing joins is reached by nothing."""
    box = topology(machine([gpu("gpu[0-1]")], [link("gpu0", "cpu0", "pcie", 25)]))
    assert route(box.nodes[0].machine.graph, "gpu0", "gpu1") is None


def test_parallel_channels_add_up() -> None:
    """Two links between the same ends carry the sum of their rates."""
    twice = [
        link("gpu[0-1]", "cpu0", "pcie", 25),
        link("gpu0", "gpu1", "nvlink", 20),
        link("gpu0", "gpu1", "nvlink", 30),
    ]
    assert _route(topology(machine([gpu("gpu[0-1]")], twice)), "gpu0", "gpu1").rate == 50 * GB


def test_the_network_is_taken_between_nodes_only() -> None:
    """GPUs of two nodes meet over their nearest ports; GPUs of one node never go through the network."""
    links = [
        link("gpu[0-1]", "sw[0-1]", "pcie", 50),
        link("nic[0-1]", "sw[0-1]", "pcie", 50),
        link("sw[0-1]", "cpu0", "pcie", 20),
    ]
    box = machine([gpu("gpu[0-1]")], links, switches=[switch("sw[0-1]")], nics=[nic("nic[0-1]", 25)])
    layout = FabricLayout(shape="rail-optimised", hop_latency=LatencyFigure.of(1e-6))
    pair = topology(box, nodes=[NodeGroup(name="n[0-1]", machine="box")], fabric=Fabric(layout=layout))
    across = route(pair.graph, "n0/gpu1", "n1/gpu1")
    inside = route(pair.graph, "n0/gpu0", "n0/gpu1")
    assert across is not None and inside is not None
    assert across.path_class is PathClass.NET
    assert across.vertices == (
        "n0/gpu1",
        "n0/sw1",
        "n0/nic1",
        "leaf-0-rail-1",
        "n1/nic1",
        "n1/sw1",
        "n1/gpu1",
    )
    assert inside.path_class is PathClass.PHB


@st.composite
def graphs(draw: st.DrawFn) -> nx.DiGraph[str]:
    """Return small directed graphs of switches with a few distinct rates."""
    size = draw(st.integers(2, 5))
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from((str(i) for i in range(size)), kind="switch")
    for left in range(size):
        for right in range(size):
            rate = draw(st.sampled_from([0, 0, 1, 2, 3]))
            if left != right and rate:
                edge = Edge(
                    str(left),
                    str(right),
                    "pcie",
                    float(rate),
                    float(draw(st.integers(0, 2))),
                    False,
                    "vendor",
                )
                graph.add_edge(str(left), str(right), edge=edge)
    return graph


@given(graphs())
def test_the_widest_path_is_the_best_of_all_paths(graph: nx.DiGraph[str]) -> None:
    """Among all simple paths none is wider, or as wide with fewer hops, or equal in both and faster."""

    def merit(path: tuple[str, ...]) -> tuple[float, int, float]:
        edges = [graph.edges[hop]["edge"] for hop in pairwise(path)]
        return -min(e.rate for e in edges), len(edges), sum(e.latency for e in edges)

    every = [tuple(path) for path in nx.all_simple_paths(graph, "0", "1")]
    found = widest_path(graph, "0", "1", lambda edge: True)
    assert (found is None) == (not every)
    if found is not None:
        assert merit(found) == min(map(merit, every))


def test_kept_routes_of_a_machine_are_those_that_are_sought_anew() -> None:
    """Asked twice for a pair of parts, a machine gives what the search gives, the same object each time."""
    machine = load_topology("dgx-h100").machine_types[0]
    parts = [*machine.graph.nodes]
    for source, target in product(parts[::3], parts[::2]):
        kept = machine_route(machine, source, target)
        assert kept == route(machine.graph, source, target)
        assert machine_route(machine, source, target) is kept
