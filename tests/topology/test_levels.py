"""Locality levels of clusters: NVLink domains, regular fabrics, fabrics given link by link."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.schema import LatencyFigure, RatioFigure
from planner.topology import Fabric, FabricLayout, Level, Link, Machine, NodeGroup, Topology
from planner.topology.levels import nested
from tests.topology.machines import gpu, link, machine, nic, rates, switch, topology


def _node(gpus: int = 4, port: float = 50) -> Machine:
    """Return GPUs on an NVSwitch of 400 GB/s, each beside a network port."""
    last = gpus - 1
    return machine(
        [gpu(f"gpu[0-{last}]")],
        [
            link(f"gpu[0-{last}]", "nvs", "nvlink", 400),
            link(f"gpu[0-{last}]", f"sw[0-{last}]", "pcie", 55),
            link(f"nic[0-{last}]", f"sw[0-{last}]", "pcie", 55),
            link(f"sw[0-{last}]", "cpu0", "pcie", 55),
        ],
        switches=[switch("nvs", "nvswitch"), switch(f"sw[0-{last}]")],
        nics=[nic(f"nic[0-{last}]", port)],
    )


def _cluster(layout: FabricLayout, nodes: int) -> Topology:
    return topology(
        _node(), nodes=[NodeGroup(name=f"n[0-{nodes - 1}]", machine="box")], fabric=Fabric(layout=layout)
    )


def _layout(
    shape: Literal["single-switch", "rail-optimised", "fat-tree"], per_leaf: int, ratio: float = 1.0
) -> FabricLayout:
    return FabricLayout(
        shape=shape,
        nodes_per_leaf=per_leaf,
        oversubscription=RatioFigure.of(ratio),
        hop_latency=LatencyFigure.of(1e-6),
    )


def _wired(links: list[Link], nodes: int = 4) -> Topology:
    fabric = Fabric(switches=[switch("leaf[0-1]", "leaf"), switch("spine[0-1]", "spine")], links=links)
    return topology(_node(), nodes=[NodeGroup(name=f"n[0-{nodes - 1}]", machine="box")], fabric=fabric)


def test_a_non_blocking_fabric_is_one_level_at_the_rate_of_the_ports() -> None:
    """Four ports of 50 GB/s for four GPUs give 50 GB/s per GPU at any distance."""
    assert rates(_cluster(_layout("rail-optimised", 2), 8)) == [("nvlink", 400), ("fabric", 50)]


def test_crossing_pods_takes_two_more_hops() -> None:
    """Within one pod two hops of 1 us count, across pods four."""
    near = _cluster(_layout("rail-optimised", 8), 8).hierarchy.levels[-1].latency
    far = _cluster(_layout("rail-optimised", 2), 8).hierarchy.levels[-1].latency
    assert far - near == pytest.approx(2e-6)


def test_oversubscription_divides_what_leaves_a_leaf() -> None:
    """At 4 : 1 a GPU gets 50 GB/s within its leaf and 12.5 beyond."""
    cluster = _cluster(_layout("fat-tree", 2, 4.0), 8)
    assert rates(cluster) == [("nvlink", 400), ("leaf", 50), ("fabric", 12.5)]
    assert [level.capacities.tolist() for level in cluster.hierarchy.levels] == [[4] * 8, [8] * 4, [32]]


def test_oversubscription_does_not_matter_within_one_leaf() -> None:
    """Nodes that all hang on one leaf never use its uplinks."""
    assert rates(_cluster(_layout("fat-tree", 8, 4.0), 8)) == [("nvlink", 400), ("fabric", 50)]


def test_the_graph_of_a_layout_carries_the_oversubscribed_uplink() -> None:
    """A leaf with two nodes of 200 GB/s each has 100 GB/s upwards at 4 : 1."""
    graph = _cluster(_layout("fat-tree", 2, 4.0), 8).graph
    assert graph.edges["leaf-0", "spine"]["capacity"] == pytest.approx(100e9)


def test_cables_given_one_by_one_make_leaf_and_fabric_levels() -> None:
    """Two nodes per leaf with full ports and thin uplinks: 50 GB/s in a leaf, the uplink's share beyond."""
    cluster = _wired(
        [
            link("n[0-1]/nic[0-3]", "leaf0", "infiniband", 50),
            link("n[2-3]/nic[0-3]", "leaf1", "infiniband", 50),
            link("leaf[0-1]", "spine0", "infiniband", 80),
        ]
    )
    assert rates(cluster) == [("nvlink", 400), ("leaf", 50), ("fabric", 10)]
    assert cluster.hierarchy.levels[1].capacities.tolist() == [8, 8]


def test_two_roots_keep_their_nodes_apart() -> None:
    """Nodes under different roots have no level in common."""
    cluster = _wired(
        [
            link("n[0-1]/nic[0-3]", "leaf0", "infiniband", 50),
            link("n[2-3]/nic[0-3]", "leaf1", "infiniband", 50),
            link("leaf0", "spine0", "infiniband", 400),
            link("leaf1", "spine1", "infiniband", 400),
        ]
    )
    assert cluster.hierarchy.levels[-1].capacities.tolist() == [8, 8]


def test_nodes_without_a_cable_are_alone() -> None:
    """Two uncabled nodes are neither joined with each other nor with the rest, and slow nobody down."""
    cluster = _wired([link("n[0-1]/nic[0-3]", "leaf0", "infiniband", 50)])
    assert rates(cluster) == [("nvlink", 400), ("leaf", 50)]
    assert cluster.hierarchy.levels[-1].capacities.tolist() == [8, 4, 4]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("planes", [1, 4])
def test_gpus_on_switches_outside_their_nodes_form_one_nvlink_domain(planes: int, swapped: bool) -> None:
    """Ports to several planes add up, whichever end of the cable is named first."""
    tray = machine([gpu("gpu[0-1]")], [link("gpu[0-1]", "cpu0", "nvlink-c2c", 180)])
    ends = [("t[0-3]/gpu[0-1]", f"nvs{plane}") for plane in range(planes)]
    links = [
        link(right, left, "nvlink", 900 / planes) if swapped else link(left, right, "nvlink", 900 / planes)
        for left, right in ends
    ]
    fabric = Fabric(switches=[switch("nvs[0-3]", "nvswitch", reduces=True)], links=links)
    rack = topology(tray, nodes=[NodeGroup(name="t[0-3]", machine="box")], fabric=fabric)
    assert rates(rack) == [("nvlink", 900)]
    assert rack.hierarchy.levels[0].capacities.tolist() == [8]
    assert rack.hierarchy.levels[0].in_switch_reduction


def test_hosts_without_gpus_do_not_count_in_the_network() -> None:
    """A storage node with one slow port leaves the rate of the GPUs as it is."""
    store = machine([], [link("nic0", "cpu0", "pcie", 10)], name="store", nics=[nic("nic0", 10)])
    groups = [NodeGroup(name="n[0-1]", machine="box"), NodeGroup(name="s0", machine="store")]
    cluster = topology(_node(), store, nodes=groups, fabric=Fabric(layout=_layout("single-switch", 32)))
    assert rates(cluster) == [("nvlink", 400), ("fabric", 50)]


def test_unlike_nodes_share_the_slower_rate() -> None:
    """A node with ports of 25 GB/s halves the network level of a cluster."""
    slow = _node(port=25).model_copy(update={"name": "slow"})
    groups = [NodeGroup(name="a[0-1]", machine="box"), NodeGroup(name="b[0-1]", machine="slow")]
    cluster = topology(_node(), slow, nodes=groups, fabric=Fabric(layout=_layout("single-switch", 32)))
    assert rates(cluster) == [("nvlink", 400), ("fabric", 25)]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(0, 5), min_size=6, max_size=6)), max_size=4)
)
def test_nesting_joins_whatever_any_faster_level_joins(given_levels: list[tuple[int, list[int]]]) -> None:
    """After nesting, two GPUs are together at a rate exactly if a chain of levels of that rate joins them."""
    levels = [
        Level(
            "x", np.unique(groups, return_inverse=True)[1].astype(np.int64), float(rate), 0.0, False, "vendor"
        )
        for rate, groups in given_levels
    ]
    kept = nested(levels)
    for rate in {float(rate) for rate, _ in given_levels}:
        reach = np.eye(6, dtype=bool)
        for level in levels:
            if level.rate >= rate:
                reach |= level.domain_of[:, None] == level.domain_of[None, :]
        for _ in range(6):
            reach = (reach.astype(int) @ reach.astype(int)) > 0
        slowest = [level for level in kept if level.rate >= rate]
        domains = slowest[-1].domain_of if slowest else np.arange(6)
        assert np.array_equal(reach, domains[:, None] == domains[None, :])
