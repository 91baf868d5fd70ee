"""Locality levels inside one machine."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.schema import expand
from planner.topology import Machine, Topology, cut_rate
from tests.topology.machines import GB, gpu, link, machine, numa, pair_rate, rates, switch, topology


def test_gpus_on_one_nvswitch_form_one_level_at_the_rate_of_a_port() -> None:
    """Eight ports of 400 GB/s give one level of 400 GB/s for eight GPUs, whatever PCIe adds."""
    box = topology(
        machine(
            [gpu("gpu[0-7]")],
            [link("gpu[0-7]", "nvs", "nvlink", 400), link("gpu[0-7]", "cpu0", "pcie", 50)],
            switches=[switch("nvs", "nvswitch", reduces=True)],
        )
    )
    assert rates(box) == [("nvlink", 400)]
    assert box.hierarchy.levels[0].capacities.tolist() == [8]
    assert box.hierarchy.levels[0].in_switch_reduction


def test_a_shared_uplink_is_divided_among_the_gpus_below_it() -> None:
    """Two GPUs behind one switch have 50 GB/s between them and 25 each to the other pair."""
    box = topology(
        machine(
            [gpu("gpu[0-3]")],
            [link("gpu[0-3]", "sw[0-1]", "pcie", 50), link("sw[0-1]", "cpu0", "pcie", 50)],
            switches=[switch("sw[0-1]")],
        )
    )
    assert rates(box) == [("pcie", 50), ("pcie", 25)]
    assert [level.capacities.tolist() for level in box.hierarchy.levels] == [[2, 2], [4]]


def test_sockets_share_their_link() -> None:
    """Four GPUs per socket get a quarter of 16 GB/s across."""
    box = topology(
        machine(
            [gpu("gpu[0-3]", "cpu0"), gpu("gpu[4-7]", "cpu1")],
            [
                link("cpu0", "gpu[0-3]", "pcie", 26, back=25),
                link("cpu1", "gpu[4-7]", "pcie", 26, back=25),
                link("cpu0", "cpu1", "socket", 16),
            ],
            sockets=2,
        )
    )
    assert rates(box) == [("pcie", 25), ("socket", 4)]


def test_both_directions_busy_share_the_duplex_capacity() -> None:
    """A port of 279 GB/s whose two directions carry 520 together counts as 260."""
    box = topology(
        machine(
            [gpu("gpu[0-1]")],
            [link("gpu[0-1]", "nvs", "nvlink", 279, duplex=520)],
            switches=[switch("nvs", "nvswitch")],
        )
    )
    assert rates(box) == [("nvlink", 260)]


def test_nvlink_islands_are_inner_levels() -> None:
    """Bridged pairs are an inner level, all four GPUs the outer one."""
    box = topology(
        machine(
            [gpu("gpu[0-3]")],
            [
                link("gpu0", "gpu1", "nvlink", 200),
                link("gpu2", "gpu3", "nvlink", 200),
                link("gpu[0-3]", "cpu0", "pcie", 30),
            ],
        )
    )
    assert rates(box) == [("nvlink", 200), ("pcie", 30)]


def test_a_single_gpu_is_a_level_by_itself() -> None:
    """One GPU has one level, in which nothing needs to be sent."""
    box = topology(machine([gpu("gpu0")], [link("gpu0", "cpu0", "pcie", 25)]))
    assert rates(box) == [("device", float("inf"))]


def test_gpus_that_cannot_reach_one_another_stay_apart() -> None:
    """No level joins GPUs without a route."""
    box = topology(machine([gpu("gpu[0-1]")], [link("gpu0", "cpu0", "pcie", 25)]))
    assert box.hierarchy.levels[-1].capacities.tolist() == [1, 1]


def test_a_machine_without_gpus_has_an_empty_hierarchy() -> None:
    """A host alone is a valid machine."""
    host = topology(machine([], [], sockets=2))
    assert host.hierarchy.num_gpus == 0
    assert host.hierarchy.signature().shape == (0, 1)


def test_a_subset_keeps_rates_and_renumbers_domains() -> None:
    """Three of eight GPUs keep the structure that they had."""
    box = topology(
        machine(
            [gpu("gpu[0-3]")],
            [link("gpu[0-3]", "sw[0-1]", "pcie", 50), link("sw[0-1]", "cpu0", "pcie", 50)],
            switches=[switch("sw[0-1]")],
        )
    )
    some = box.hierarchy.subset([0, 2, 3])
    assert some.gpus == ("test/gpu0", "test/gpu2", "test/gpu3") or some.gpus[0].endswith("gpu0")
    assert [level.domain_of.tolist() for level in some.levels] == [[0, 1, 1], [0, 0, 0]]
    assert [level.rate for level in some.levels] == [level.rate for level in box.hierarchy.levels]


def test_the_cut_is_the_largest_flow() -> None:
    """Two GPUs with ports of 10 and 30 send 40 together to a third with a port of 35, which takes 35."""
    box = topology(
        machine(
            [gpu("gpu[0-2]")],
            [link("gpu0", "sw", "pcie", 10), link("gpu1", "sw", "pcie", 30), link("gpu2", "sw", "pcie", 35)],
            switches=[switch("sw")],
        )
    )
    assert cut_rate(box.nodes[0].machine.graph, ["gpu0", "gpu1"], ["gpu2"]) == pytest.approx(35 * GB)


@dataclass(frozen=True)
class Regular:
    """A machine whose sockets are alike, with rates in GB/s."""

    sockets: int
    switches: int
    fan: int
    rates: tuple[int, int, int, int]
    nvswitch: bool

    def homes(self) -> list[str]:
        """Return the part that each GPU hangs on."""
        if not self.switches:
            return [f"cpu{s}" for s in range(self.sockets) for _ in range(2)]
        return [
            f"sw{s}{k}" for s in range(self.sockets) for k in range(self.switches) for _ in range(self.fan)
        ]

    def links(self) -> list[tuple[str, str, str, int]]:
        """Return all links as ends, kind and rate."""
        port, up, socket, nvlink = self.rates
        links = [("cpu0", "cpu1", "socket", socket)] if self.sockets == 2 else []
        links += [
            (f"sw{s}{k}", f"cpu{s}", "pcie", up) for s in range(self.sockets) for k in range(self.switches)
        ]
        links += [(f"gpu{i}", home, "pcie", port) for i, home in enumerate(self.homes())]
        links += [(f"gpu{i}", "nvs", "nvlink", nvlink) for i in range(len(self.homes())) if self.nvswitch]
        return links

    def build(self, links: list[tuple[str, str, str, int]]) -> Topology:
        """Return the topology with the given links."""
        return topology(self.template(links))

    def template(self, links: list[tuple[str, str, str, int]]) -> Machine:
        """Return the machine with the given links."""
        switches = [switch(f"sw{s}[0-{self.switches - 1}]") for s in range(self.sockets) if self.switches]
        switches += [switch("nvs", "nvswitch")] if self.nvswitch else []
        gpus = [gpu(f"gpu[0-{len(self.homes()) - 1}]")]
        channels = [link(left, right, kind, rate) for left, right, kind, rate in links]  # type: ignore[arg-type]
        return machine(gpus, channels, sockets=self.sockets, switches=switches)


regulars = st.builds(
    Regular,
    sockets=st.integers(1, 2),
    switches=st.integers(0, 2),
    fan=st.integers(1, 2),
    rates=st.tuples(*[st.sampled_from([10, 20, 40])] * 3, st.sampled_from([100, 200])),
    nvswitch=st.booleans(),
).filter(lambda shape: len(shape.homes()) > 1)


@settings(max_examples=60)
@given(shape=regulars, number=st.integers(0, 1000), bridge=st.booleans(), data=st.data())
def test_an_added_link_never_slows_a_pair(
    shape: Regular, number: int, bridge: bool, data: st.DataObject
) -> None:
    """On a regular machine, doubling any link or bridging two GPUs lowers the level rate of no pair.

    Machines whose like parts differ in rate are left out: there a faster link may regroup GPUs, and a level
    states one rate for all of its pairs.
    """
    links = shape.links()
    count = len(shape.homes())
    if bridge:
        left, right = data.draw(st.permutations(range(count)))[:2]
        extra = (f"gpu{left}", f"gpu{right}", "nvlink", shape.rates[3])
    else:
        extra = links[number % len(links)]
    before, after = shape.build(links), shape.build([*links, extra])
    for left in range(count):
        for right in range(left):
            assert pair_rate(after, left, right) >= pair_rate(before, left, right) * (1 - 1e-9)


@settings(max_examples=40)
@given(shape=regulars, seed=st.integers(0, 2**16))
def test_renaming_and_reordering_parts_changes_nothing(shape: Regular, seed: int) -> None:
    """Levels depend on how parts are joined, not on what they are called or in which order they stand."""
    spec = shape.template(shape.links())
    draw = random.Random(seed)
    kinds: list[list[str]] = [
        [n.name for n in spec.numa],
        [g.name for g in spec.gpus],
        [s.name for s in spec.switches],
    ]
    names = [name for kind in kinds for pattern in kind for name in expand(pattern)]
    renamed = dict(zip(names, draw.sample([f"part-{i}" for i in range(len(names))], len(names)), strict=True))
    order = [name for item in spec.gpus for name in expand(item.name)]
    shuffled = draw.sample(order, len(order))
    links = [
        item.model_copy(update={"between": tuple(renamed[end] for end in item.between)})
        for item in draw.sample(spec.links, len(spec.links))
    ]
    parts = {name: item for item in (*spec.switches,) for name in expand(item.name)}
    other = spec.model_copy(
        update={
            "numa": [numa(renamed[name]) for name in expand(spec.numa[0].name)],
            "gpus": [gpu(renamed[name], renamed["cpu0"]) for name in shuffled],
            "switches": [item.model_copy(update={"name": renamed[name]}) for name, item in parts.items()],
            "links": links,
        }
    )
    first, second = topology(spec).hierarchy, topology(other).hierarchy
    place = [shuffled.index(name) for name in order]
    assert [level.name for level in first.levels] == [level.name for level in second.levels]
    for one, two in zip(first.levels, second.levels, strict=True):
        assert one.rate == pytest.approx(two.rate)
        assert one.latency == pytest.approx(two.latency)
        moved = two.domain_of[place]
        same = one.domain_of[:, None] == one.domain_of[None, :]
        assert np.array_equal(same, moved[:, None] == moved[None, :])


@settings(max_examples=40)
@given(shape=regulars)
def test_levels_nest_and_slow_down_outwards(shape: Regular) -> None:
    """Every level joins whole domains of the one below and is slower than it."""
    levels = shape.build(shape.links()).hierarchy.levels
    for inner, outer in pairwise(levels):
        assert outer.rate < inner.rate
        pairs = {(int(a), int(b)) for a, b in zip(inner.domain_of, outer.domain_of, strict=True)}
        assert len(pairs) == len(inner.capacities)
