"""The network shares its links max-min fairly, exactly, and accounts for every byte and second."""

import numpy as np
import pytest
import simpy

from planner.errors import SimulationError
from planner.simulate import LinkSpec, Network, duplex_weights
from tests.simulate.filling import Case, Transfer
from tests.simulate.networks import HAS_NUMBA, SOLVERS, finishes, links, run


def test_three_transfers_on_two_links_as_solved_by_hand() -> None:
    """Rates change exactly when transfers come and go: 5/5, then 5/5/15, then 10/10, then 20."""
    case = Case(
        links(10.0, 20.0),
        {},
        (
            Transfer(0.0, 100.0, (0, 1)),
            Transfer(0.0, 90.0, (0,)),
            Transfer(10.0, 195.0, (1,)),
        ),
    )
    # 0 to 18 s: 5 and 5 on the first link; from 10 s the third takes 15; at 18 s the second is done.
    # Then 10 and 10: the first ends at 19 s with the third at 65 left, which 20 finish at 22.25 s.
    assert finishes(run(case)[1]) == pytest.approx([19.0, 18.0, 22.25], rel=1e-14)


def test_a_long_route_gets_the_share_of_its_worst_link() -> None:
    """On a parking lot the long transfer gets a third of the crowded link, the local ones what is left."""
    case = Case(
        links(12.0, 12.0, 12.0),
        {},
        (
            Transfer(0.0, 8.0, (0, 1, 2)),
            Transfer(0.0, 16.0, (0,)),
            Transfer(0.0, 8.0, (1,)),
            Transfer(0.0, 8.0, (1,)),
            Transfer(0.0, 16.0, (2,)),
        ),
    )
    assert finishes(run(case)[1]) == pytest.approx([2.0] * 5, rel=1e-14)


def test_latency_is_paid_once_before_any_byte_flows() -> None:
    """A transfer occupies no bandwidth during its latency and then drains over the whole route at once."""
    case = Case(links(10.0, 10.0, latency=1.0), {}, (Transfer(0.0, 100.0, (0, 1)), Transfer(0.0, 10.0, (0,))))
    assert finishes(run(case)[1]) == pytest.approx([12.0, 2.0], rel=1e-14)


def test_a_cap_leaves_the_rest_to_others() -> None:
    """A capped transfer takes no more than its cap, and the other takes the remainder."""
    case = Case(links(10.0), {}, (Transfer(0.0, 10.0, (0,), cap=2.0), Transfer(0.0, 40.0, (0,))))
    assert finishes(run(case)[1]) == pytest.approx([5.0, 5.0], rel=1e-14)


def test_a_higher_class_is_served_first() -> None:
    """A lower class moves only what a higher class leaves, and stands still while nothing is left."""
    case = Case(
        links(10.0),
        {},
        (
            Transfer(0.0, 40.0, (0,), priority=1),
            Transfer(1.0, 20.0, (0,), priority=0),
            Transfer(4.0, 12.0, (0,), cap=6.0, priority=0),
        ),
    )
    network, records = run(case)
    # 0-1 s: 10; 1-3 s: 0; 3-4 s: 10; 4-6 s: 4 beside the capped 6; from 6 s: 10 for the last 12 bytes.
    assert finishes(records) == pytest.approx([7.2, 3.0, 6.0], rel=1e-14)
    assert network.utilisation().mean == pytest.approx([1.0], rel=1e-14)


def test_each_class_gets_what_all_classes_before_it_leave() -> None:
    """With three classes of capped transfers on one link, each takes its cap while there is room."""
    transfers = tuple(Transfer(0.0, 30.0, (0,), cap=4.0, priority=priority) for priority in (7, 0, -3))
    # The first two classes take 4 each of 10, the last 2 until 7.5 s and then 4 for the 15 bytes left.
    assert finishes(run(Case(links(10.0), {}, transfers))[1]) == pytest.approx([11.25, 7.5, 7.5], rel=1e-14)


def test_utilisation_adds_up_the_classes() -> None:
    """Also while transfers are under way, the steps on every link are those of all classes together."""
    env = simpy.Environment()
    network = Network(env, links(10.0, 10.0), compiled=False)
    network.send((0,), 12.0, cap=4.0)
    network.send((0, 1), 90.0, cap=3.0, priority=1)
    env.run(until=1.0)
    network.send((1,), 40.0, cap=2.0)
    env.run(until=5.0)
    utilisation = network.utilisation()
    steps = [
        (times.tolist(), loads.tolist()) for times, loads in (utilisation.steps(0), utilisation.steps(1))
    ]
    assert steps == [([0.0, 3.0], [7.0, 3.0]), ([0.0, 1.0], [3.0, 5.0])]
    assert utilisation.carried == pytest.approx([12.0 + 15.0, 15.0 + 8.0])


def test_both_directions_share_a_duplex_group() -> None:
    """With weights from the three measured rates, each direction alone and both together run as measured."""
    alone, together = (380e9, 297e9), 180e9
    weights = duplex_weights(*alone, together)
    specs = tuple(
        LinkSpec(name, rate, group="c2c", group_weight=weight)
        for name, rate, weight in zip(("up", "down"), alone, weights, strict=True)
    )
    groups = {"c2c": 2.0 * together}
    for index in range(2):
        only = run(Case(specs, groups, (Transfer(0.0, alone[index], (index,)),)))[1]
        assert finishes(only) == pytest.approx([1.0], rel=1e-12)
    both = run(Case(specs, groups, (Transfer(0.0, together, (0,)), Transfer(0.0, together, (1,)))))[1]
    assert finishes(both) == pytest.approx([1.0, 1.0], rel=1e-12)
    assert both[0].bottleneck == 2


def test_impossible_duplex_rates_are_refused() -> None:
    """Rates that no shared capacity explains are an error that names them."""
    with pytest.raises(SimulationError, match="no duplex group carries"):
        duplex_weights(100.0, 10.0, 50.0)
    with pytest.raises(SimulationError, match="no duplex group carries"):
        duplex_weights(100.0, 99.0, 10.0)


def test_transfers_without_bytes_or_links_take_their_latency_or_cap() -> None:
    """No bytes cost only latency; an empty route costs nothing, or the time at the transfer's own cap."""
    case = Case(
        links(10.0, latency=0.5),
        {},
        (Transfer(0.0, 0.0, (0,)), Transfer(0.0, 8.0, ()), Transfer(0.0, 8.0, (), cap=4.0)),
    )
    _, records = run(case)
    assert finishes(records) == [0.5, 0.0, 2.0]
    assert [record.bottleneck for record in records] == [-1, -1, -1]


def test_a_thousand_transfers_keep_one_wake_up_pending() -> None:
    """Simultaneous arrivals are one event and leave a single pending wake-up in the calendar."""
    env = simpy.Environment()
    network = Network(env, links(10.0), compiled=False)
    for index in range(1000):
        network.send((0,), 1.0 + index)
    env.step()
    assert env.peek() == pytest.approx(100.0)
    assert len(env._queue) == 1


def test_time_lost_is_attributed_to_the_link_that_caused_it() -> None:
    """A transfer at half its uncontended rate for 10 s loses 5 s to the limiting link, and none elsewhere."""
    case = Case(links(10.0, 20.0), {}, (Transfer(0.0, 100.0, (0, 1)), Transfer(0.0, 50.0, (0,))))
    network, records = run(case)
    assert records[0].waits == pytest.approx({0: 5.0})
    assert records[1].waits == pytest.approx({0: 5.0})
    assert [record.bottleneck for record in records] == [0, 0]
    assert network.utilisation().waiting == pytest.approx([10.0, 0.0])


@pytest.mark.parametrize("compiled", SOLVERS)
def test_utilisation_is_exact_between_events(compiled: bool) -> None:
    """Steps, mean, peak, saturation and bins follow from the rates between arrivals and departures."""
    case = Case(links(10.0, 20.0), {}, (Transfer(1.0, 20.0, (0, 1)), Transfer(4.0, 20.0, (1,))))
    utilisation = run(case, compiled=compiled)[0].utilisation()
    times, loads = utilisation.steps(1)
    assert times.tolist() == [1.0, 3.0, 4.0, 5.0]
    assert loads.tolist() == [10.0, 0.0, 20.0, 0.0]
    assert utilisation.mean.tolist() == pytest.approx([20.0 / 50.0, 40.0 / 100.0])
    assert utilisation.peak.tolist() == [1.0, 1.0]
    assert utilisation.saturated.tolist() == pytest.approx([2.0 / 5.0, 1.0 / 5.0])
    bins = utilisation.binned(np.array([0.0, 2.0, 4.0, 5.0]))
    assert bins == pytest.approx(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 1.0]]))


def test_a_silent_network_gives_the_same_times_and_no_utilisation() -> None:
    """Without recording, times are the same, records hold no waits, and utilisation says how to get it."""
    env = simpy.Environment()
    network = Network(env, links(10.0), record=False, compiled=False)
    done = [network.send((0,), 10.0), network.send((0,), 20.0)]
    env.run()
    records = [event.value for event in done]
    assert [record.finish for record in records if record] == pytest.approx([2.0, 3.0])
    assert [dict(record.waits) for record in records if record] == [{}, {}]
    with pytest.raises(SimulationError, match="record=True"):
        network.utilisation()


@pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")
def test_the_compiled_solver_agrees_on_a_busy_network() -> None:
    """With hundreds of transfers under way on routes of many lengths, both solvers agree within 1e-11."""
    random = np.random.default_rng(11)
    specs = links(*random.uniform(5.0, 20.0, size=24), latency=0.01)
    starts = np.sort(random.uniform(0.0, 40.0, size=500))
    transfers = tuple(
        Transfer(
            float(start),
            float(random.integers(1, 60)),
            tuple(int(link) for link in random.choice(24, size=random.integers(1, 9), replace=False)),
            priority=int(random.integers(0, 2)),
        )
        for start in starts
    )
    case = Case(specs, {}, transfers)
    plain, compiled = run(case), run(case, compiled=True)
    assert finishes(compiled[1]) == pytest.approx(finishes(plain[1]), rel=1e-11)
    assert compiled[0].utilisation().mean == pytest.approx(plain[0].utilisation().mean, rel=1e-9)
    assert compiled[0].utilisation().waiting == pytest.approx(plain[0].utilisation().waiting, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinkSpec("a", 0.0), "link 'a': rate"),
        (lambda: LinkSpec("a", 1.0, -1.0), "link 'a': the latency"),
        (lambda: Network(simpy.Environment(), [LinkSpec("a", 1.0)] * 2), "repeated: a"),
        (
            lambda: Network(simpy.Environment(), [LinkSpec("a", 1.0, group="bus1")], {"bus": 1.0}),
            "did you mean 'bus'",
        ),
        (
            lambda: Network(simpy.Environment(), [LinkSpec("a", 1.0, group="b")], {"b": 0.0}),
            "group 'b': the capacity",
        ),
        (lambda: Network(simpy.Environment(), links(1.0)).send((1,), 1.0), "there is no link 1"),
        (lambda: Network(simpy.Environment(), links(1.0)).send((-1,), 1.0), "there is no link -1"),
        (lambda: Network(simpy.Environment(), links(1.0)).send((0,), -1.0, tag="x"), "transfer 'x'"),
    ],
)
def test_mistakes_are_named(make: object, message: str) -> None:
    """A wrong link, group or transfer is refused with its name."""
    assert callable(make)
    with pytest.raises(SimulationError, match=message):
        make()


def test_a_transfer_that_meets_no_other_takes_one_event() -> None:
    """Latency and bytes of a lone transfer pass in one event; one that is met half-way ends as it should."""
    env = simpy.Environment()
    network = Network(env, links(10.0, latency=1.0), compiled=False)
    alone = network.send((0,), 20.0)
    env.step()
    assert env.now == 3.0
    assert alone.processed
    first, second = network.send((0,), 20.0), network.send((0,), 20.0, delay=1.0)
    env.run()
    # Alone from 4 to 5 s with 10 bytes, then 5 and 5 for 2 s; the second has 10 left for 10 bytes/s.
    records = [done.value for done in (first, second) if done.value is not None]
    assert [record.finish for record in records] == pytest.approx([7.0, 8.0], rel=1e-14)
    assert network.utilisation().carried == pytest.approx([60.0])
    assert records[0].waits == pytest.approx({0: 1.0})


def test_a_lone_transfer_under_way_counts_as_load() -> None:
    """The load of a transfer that has met no other is known before it ends."""
    env = simpy.Environment()
    network = Network(env, links(10.0, latency=1.0), compiled=False)
    done = network.send((0,), 40.0)
    env.run(until=3.0)
    assert network.utilisation().carried == pytest.approx([20.0])
    env.run(done)
    assert env.now == pytest.approx(5.0)
    assert network.utilisation().carried == pytest.approx([40.0])
