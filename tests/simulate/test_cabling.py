"""Links keep their rates, alone and when both directions share a channel."""

from __future__ import annotations

import pytest

from planner.simulate.cabling import Cabling, shared_weights
from planner.simulate.symmetry import alone_rate
from planner.topology import Router, load_topology
from tests.simulate.cases import cluster


def test_a_route_crosses_the_links_of_the_machine_in_order() -> None:
    """Between nodes: host link, port, switch and back; the latency is the sum of the hops."""
    cabling = Cabling(Router(cluster(2, 2)))
    route = cabling.route("node-0/gpu0", "node-1/gpu1")
    ends = [(cabling.cables[link].source, cabling.cables[link].target) for link in route]
    assert ends == [
        ("node-0/gpu0", "node-0/cpu0"),
        ("node-0/cpu0", "node-0/nic0"),
        ("node-0/nic0", "switch"),
        ("switch", "node-1/nic0"),
        ("node-1/nic0", "node-1/cpu0"),
        ("node-1/cpu0", "node-1/gpu1"),
    ]
    assert cabling.latency(route) == pytest.approx(4 * 5e-7 + 2 * 1e-6)
    assert alone_rate(route, cabling.cables) == 10e9
    assert cabling.route("node-0/gpu0", "node-1/gpu1") == route


@pytest.mark.parametrize(
    ("forward", "backward", "together"), [(20.0, 20.0, 30.0), (380.0, 297.0, 360.0), (25.0, 25.0, 20.0)]
)
def test_both_directions_together_carry_what_is_stated(
    forward: float, backward: float, together: float
) -> None:
    """At equal rates both directions fill the shared capacity; the faster alone keeps its rate if it can."""
    first, second = shared_weights(forward, backward, together)
    assert first + second == pytest.approx(2.0)
    if (forward, backward) != (
        25.0,
        25.0,
    ):  # no weights let each direction alone exceed both together by so much
        assert max(forward * first, backward * second) <= together * (1.0 + 1e-12)


def test_a_coherent_link_reads_at_its_own_rate_alone() -> None:
    """On GH200 a host-to-device copy alone reaches the measured rate, though both directions share less."""
    cabling = Cabling(Router(load_topology("gh200-dual")))
    gpu = cabling.router.topology.gpus[0]
    node, name = gpu.split("/")
    home = next(part.numa for part in cabling.router.topology.node_of[node].machine.gpus if part.name == name)
    route = cabling.route(f"{node}/{home}", gpu)
    cable = cabling.cables[route[-1]]
    assert cable.group is not None and cable.group_rate < 2 * cable.rate
    assert alone_rate(route, cabling.cables) == pytest.approx(
        min(cabling.cables[link].rate for link in route)
    )
