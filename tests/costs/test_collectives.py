from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import collectives, fabric, load_calibration
from planner.costs.collectives import ALGORITHMS, Affine, Fabric
from planner.costs.domains import domain, surface_of
from planner.costs.protocols import PROTOCOLS
from planner.topology import Hierarchy, Level, find_device

CALIBRATION = load_calibration()


def make(rates: list[float], latencies: list[float], reduces: bool = False, launch: float = 0.0) -> Fabric:
    flags = np.asarray([reduces] + [False] * (len(rates) - 1))
    return Fabric(np.asarray(rates), np.asarray(latencies), flags, 1.25, launch)


def row(*values: float) -> Any:
    return np.asarray([values], dtype=float)


def groups(*values: float) -> Any:
    return np.asarray(values, dtype=float)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_ring_all_reduce_on_one_level_has_its_closed_form(count: int) -> None:
    """2 (m - 1) / m S / B + 2 (m - 1) alpha, plus one launch."""
    alpha, beta = collectives.ring(groups(count), row(count), make([100e9], [2e-6], launch=5e-6), 2.0)
    assert beta[0] == pytest.approx(2 * (count - 1) / count / 100e9)
    assert alpha[0] == pytest.approx(2 * (count - 1) * 2e-6 + 5e-6)


def test_ring_over_two_levels_leaves_each_domain_once() -> None:
    """Of 16 ranks in nodes of 8, 14 of 16 steps stay inside; 8 ports in parallel carry what leaves a node."""
    alpha, beta = collectives.ring(groups(16), row(8, 16), make([400e9, 25e9], [1e-6, 5e-6]), 1.0)
    assert beta[0] == pytest.approx(15 / 16 / min(400e9, 8 * 25e9))
    assert alpha[0] == pytest.approx(14 * 1e-6 + 1 * 5e-6)


def test_hierarchical_moves_the_whole_inside_and_an_eighth_across() -> None:
    """Nodes of 8: 7/8 of the message inside, and of the eighth that is left half across two nodes."""
    alpha, beta = collectives.hierarchical(groups(16), row(8, 16), make([400e9, 50e9], [1e-6, 5e-6]), 2.0)
    assert beta[0] == pytest.approx(2 * (7 / 8 / 400e9 + 1 / 8 / 2 / 50e9))
    assert alpha[0] == pytest.approx(2 * (3 * 1e-6 + 1 * 5e-6))


def test_tree_sends_the_whole_message_in_logarithmic_steps() -> None:
    """Twice the message over the bottleneck, two log2 steps per level."""
    alpha, beta = collectives.tree(groups(32), row(8, 32), make([400e9, 50e9], [1e-6, 5e-6]), 2.0)
    assert beta[0] == pytest.approx(2 / 400e9)
    assert alpha[0] == pytest.approx(2 * (3 * 1e-6 + 2 * 5e-6))


def test_in_switch_reduction_sends_the_message_once_and_only_inside_its_switch() -> None:
    """NVLS takes S / B_nvls where one reducing switch joins the group, and is out of reach elsewhere."""
    inside = make([400e9, 50e9], [1e-6, 5e-6], reduces=True)
    cost = collectives.all_reduce(groups(1e9), groups(8), row(8, 8), inside)
    assert ALGORITHMS[cost.algorithm[0]] == "nvls"
    assert cost.time(1e9)[0] == pytest.approx(1e9 / (400e9 * 1.25) + 2e-6)
    across = collectives.nvls(groups(16), row(8, 16), inside)
    assert np.isinf(across[1][0])


def test_all_to_all_keeps_its_own_share_and_pays_the_bottleneck() -> None:
    """(m - 1) / m of the data leaves the GPU, (m - k) / m the node; the slower of the two counts."""
    cost = collectives.all_to_all(groups(1e9), groups(16), row(8, 16), make([400e9, 50e9], [1e-6, 5e-6]))
    assert cost.beta[0] == pytest.approx(max(15 / 16 / 400e9, 8 / 16 / 50e9))
    assert cost.alpha[0] == pytest.approx(5e-6)


def test_send_is_latency_and_wire_time_and_infinite_where_nothing_joins() -> None:
    """A hop at a level costs its latency and its rate; a hop past the last level never arrives."""
    cost = collectives.send(np.asarray([0, 1, 2]), make([400e9, 50e9], [1e-6, 5e-6], launch=3e-6))
    assert cost.time(1e9)[:2] == pytest.approx([1e9 / 400e9 + 4e-6, 1e9 / 50e9 + 8e-6])
    assert np.isinf(cost.time(1e9)[2])


def test_groups_of_one_are_free_and_unjoined_groups_never_end() -> None:
    """Alone there is nothing to send; two ranks that no domain joins cannot meet."""
    small = make([100e9], [1e-6], launch=5e-6)
    for function in (collectives.all_reduce, collectives.reduce_scatter, collectives.all_to_all):
        cost = function(groups(1e6, 1e6), groups(1, 2), np.asarray([[1.0], [1.0]]), small)
        assert cost.time(1e6)[0] == 0.0
        assert np.isinf(cost.time(1e6)[1])


@st.composite
def fabrics(draw: st.DrawFn, levels: int) -> Fabric:
    """Rates that fall outwards and latencies that rise."""
    rates = sorted((draw(st.floats(1e9, 1e12)) for _ in range(levels)), reverse=True)
    latencies = sorted(draw(st.floats(1e-7, 1e-4)) for _ in range(levels))
    return make(rates, latencies, draw(st.booleans()), draw(st.floats(0, 1e-5)))


@st.composite
def spans(draw: st.DrawFn, levels: int) -> tuple[float, list[float], list[float]]:
    """A group, and two ways to spread it, the second with at least as many members in every domain."""
    count = draw(st.integers(2, 256))
    low = sorted(draw(st.integers(1, count)) for _ in range(levels - 1))
    high = [draw(st.integers(value, count)) for value in low]
    higher = [float(value) for value in np.maximum.accumulate(high)]
    return float(count), [*map(float, low), float(count)], [*higher, float(count)]


def price(name: str, size: float, count: float, members: list[float], net: Fabric) -> Affine:
    args = (groups(count), np.asarray([members]), net)
    if name.startswith("bulk"):
        bulk = collectives.all_reduce if name == "bulk all-reduce" else collectives.reduce_scatter
        return bulk(None, *args)
    return getattr(collectives, name)(groups(size), *args)  # type: ignore[no-any-return]


COLLECTIVES = ["all_reduce", "reduce_scatter", "all_to_all", "bulk all-reduce", "bulk reduce-scatter"]


@pytest.mark.parametrize("name", COLLECTIVES)
@given(st.data(), st.floats(1, 1e10))
def test_more_members_in_a_domain_never_slow_a_collective(
    name: str, data: st.DataObject, size: float
) -> None:
    """The law that the optimality proof rests on, for every collective and any nested machine."""
    levels = data.draw(st.integers(1, 4))
    net, (count, spread, packed) = data.draw(fabrics(levels)), data.draw(spans(levels))
    loose, tight = price(name, size, count, spread, net), price(name, size, count, packed, net)
    assert tight.time(size)[0] <= loose.time(size)[0] * (1 + 1e-9)
    if name.startswith("bulk"):
        assert tight.alpha[0] <= loose.alpha[0] * (1 + 1e-9)
        assert tight.beta[0] <= loose.beta[0] * (1 + 1e-9)


MEASURED = {
    name: domain(
        Level("nvlink", np.zeros(8, dtype=np.int64), rate, 1e-6, reduces, "measured"), device, CALIBRATION
    )
    for name, rate, reduces in (("h100_sxm", 396e9, True), ("b200", 900e9, True), ("a100_sxm", 130e9, False))
    for device in [find_device(name)]
}


@pytest.mark.parametrize("name", COLLECTIVES)
@given(st.data(), st.floats(1, 1e10))
def test_measured_domains_keep_the_law(name: str, data: st.DataObject, size: float) -> None:
    """Groups inside a measured domain and groups that cross domains obey it together."""
    levels = data.draw(st.integers(2, 4))
    inside = MEASURED[data.draw(st.sampled_from(sorted(MEASURED)))]
    net = replace(data.draw(fabrics(levels)), inside=inside, ramp=data.draw(st.floats(0, 1)))
    count, spread, packed = data.draw(spans(levels))
    loose, tight = price(name, size, count, spread, net), price(name, size, count, packed, net)
    assert tight.time(size)[0] <= loose.time(size)[0] * (1 + 1e-9)
    if name.startswith("bulk"):
        assert tight.alpha[0] <= loose.alpha[0] * (1 + 1e-9)
        assert tight.beta[0] <= loose.beta[0] * (1 + 1e-9)


def test_the_protocol_changes_from_flags_to_bulk_to_in_switch_reduction() -> None:
    """Small messages go with flags, large ones of four ranks in bulk, of eight through the switch."""
    inside = MEASURED["h100_sxm"]
    assert inside is not None
    names = [
        PROTOCOLS[int(inside.seconds("all_reduce", groups(size), groups(count))[1][0])]
        for size, count in ((1e3, 8), (1e9, 4), (1e9, 8))
    ]
    assert names == ["ll", "simple", "nvls"]


def test_own_sister_and_specification_are_told_apart() -> None:
    """A measured device has its own table, H200 takes that of H100, V100 what NVLink has in common."""
    origins = [
        (surface_of(find_device(name), "nvlink", CALIBRATION) or (None, None))[1]
        for name in ("h100_sxm", "h200_sxm", "v100_sxm")
    ]
    assert origins == ["own", "sister", "specification"]
    box = surface_of(find_device("h100_pcie"), "pcie", CALIBRATION)
    assert box is not None and box[1] == "specification"


def test_sends_across_domains_never_beat_sends_inside() -> None:
    """The line of a hop rises outwards in latency and in time per byte."""
    net = replace(make([400e9, 900e9], [1e-6, 1e-6]), inside=MEASURED["a100_sxm"])
    near, far = (collectives.send(np.asarray([level]), net) for level in (0, 1))
    assert near.alpha[0] <= far.alpha[0]
    assert near.beta[0] <= far.beta[0]


@pytest.mark.parametrize("name", ["ring", "tree", "hierarchical"])
@given(st.data())
def test_every_algorithm_by_itself_is_monotone(name: str, data: st.DataObject) -> None:
    """Latency and time per byte of each algorithm fall when domains hold more members."""
    levels = data.draw(st.integers(1, 4))
    net, (count, spread, packed) = data.draw(fabrics(levels)), data.draw(spans(levels))
    loose = getattr(collectives, name)(groups(count), np.asarray([spread]), net, 2.0)
    tight = getattr(collectives, name)(groups(count), np.asarray([packed]), net, 2.0)
    assert tight[0][0] <= loose[0][0] * (1 + 1e-9)
    assert tight[1][0] <= loose[1][0] * (1 + 1e-9)


@pytest.mark.parametrize("name", COLLECTIVES)
@given(st.data(), st.floats(1, 1e10), st.floats(1, 10), st.floats(0.1, 1))
def test_faster_links_never_slow_a_collective(
    name: str, data: st.DataObject, size: float, faster: float, nearer: float
) -> None:
    """Higher rates and lower latencies on all levels never cost time."""
    levels = data.draw(st.integers(1, 4))
    net, (count, members, _) = data.draw(fabrics(levels)), data.draw(spans(levels))
    better = Fabric(net.rate * faster, net.latency * nearer, net.reduces, net.nvls_efficiency, net.launch)
    before, after = (price(name, size, count, members, one).time(size)[0] for one in (net, better))
    assert after <= before * (1 + 1e-9)


@pytest.mark.parametrize("name", COLLECTIVES[:3])
@given(st.data())
def test_many_groups_at_once_equal_one_by_one(name: str, data: st.DataObject) -> None:
    """Vectorised evaluation changes no number."""
    net = data.draw(fabrics(3))
    cases = data.draw(st.lists(st.tuples(spans(3), st.floats(1, 1e9)), min_size=1, max_size=6))
    counts = groups(*(case[0][0] for case in cases))
    members = np.asarray([case[0][1] for case in cases])
    sizes = groups(*(case[1] for case in cases))
    together = getattr(collectives, name)(sizes, counts, members, net).time(sizes)
    alone = [price(name, size, count, spread, net).time(size)[0] for (count, spread, _), size in cases]
    assert together == pytest.approx(alone, rel=1e-12)


def test_a_fabric_never_prices_an_outer_level_as_faster_or_nearer() -> None:
    """Efficiencies of 0.8 inside and 0.94 outside do not turn the order of near-equal levels round."""
    inner = Level("pcie", np.asarray([0, 0, 1, 1]), 26e9, 3e-6, False, "measured")
    outer = Level("fabric", np.zeros(4, dtype=np.int64), 25e9, 1e-6, False, "measured")
    net = fabric(Hierarchy(("a", "b", "c", "d"), (inner, outer)), load_calibration())
    assert net.rate[1] <= net.rate[0]
    assert net.latency[1] >= net.latency[0]
