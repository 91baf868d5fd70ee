"""Laws of a shared network, on drawn ones: exact times, no overload, every byte, max-min fairness."""

import math
import os
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.simulate.fairness import FairShares, Flow
from tests.simulate.filling import Case, Transfer, finish_times
from tests.simulate.networks import SOLVERS, cases, finishes, run

MOST_CASES = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 50


@pytest.mark.parametrize("compiled", SOLVERS)
@given(case=cases())
def test_finish_times_are_those_of_exact_progressive_filling(compiled: bool, case: Case) -> None:
    """Every transfer finishes when textbook progressive filling in rational arithmetic says, within 1e-12."""
    _, records = run(case, compiled=compiled)
    assert finishes(records) == pytest.approx(
        [float(time) for time in finish_times(case)], rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("compiled", SOLVERS)
@pytest.mark.timeout(3600)
@settings(max_examples=MOST_CASES)
@given(case=cases())
def test_no_row_is_overloaded_and_every_byte_is_carried(compiled: bool, case: Case) -> None:
    """No link or group ever carries more than its capacity; each carries exactly the bytes sent over it."""
    network, _ = run(case, compiled=compiled)
    utilisation = network.utilisation()
    sent = dict.fromkeys(network.names, 0.0)
    for transfer in case.transfers:
        for index in transfer.route:
            link = case.links[index]
            sent[link.name] += transfer.size
            if link.group is not None:
                sent[link.group] += transfer.size * link.group_weight
    assert np.all(utilisation.peak <= 1.0 + 1e-12)
    assert utilisation.carried == pytest.approx(list(sent.values()), rel=1e-12, abs=1e-12)


def rates_between_events(case: Case) -> list[tuple[FairShares, list[Flow]]]:
    """Return the shares of one class of transfers after each of them has come, and while they leave again."""
    specs, groups = case.links, case.groups
    rows = {name: len(specs) + place for place, name in enumerate(groups)}
    shares = FairShares([*(link.rate for link in specs), *groups.values()])
    present: list[Flow] = []
    for order, transfer in enumerate(case.transfers):
        weights: dict[int, float] = {}
        for index in transfer.route:
            weights[index] = weights.get(index, 0.0) + 1.0
            group = specs[index].group
            if group is not None:
                weights[rows[group]] = weights.get(rows[group], 0.0) + specs[index].group_weight
        if weights:
            uses = [(shares.rows[row], weight) for row, weight in weights.items()]
            cap = math.inf if transfer.cap is None else transfer.cap
            present.append(Flow(str(order), order, uses, 1.0, cap, cap))
    states = []
    for step in range(2 * len(present)):
        comes = step < len(present)
        flow = present[step % len(present)]
        changed, _ = shares.solve([flow] if comes else [], [] if comes else [flow])
        for flow in changed:
            flow.rate, flow.limit = flow.new_rate, flow.new_limit
        states.append((shares, present[max(step + 1 - len(present), 0) : step + 1]))
        check_max_min(*states[-1])
    return states


def check_max_min(shares: FairShares, flows: Sequence[Flow]) -> None:
    """Every row holds no more than its capacity, and every flow is at its cap or fastest on a full row."""
    load = [0.0] * len(shares.rows)
    fastest = [0.0] * len(shares.rows)
    for flow in flows:
        for row, weight in flow.uses:
            load[row.index] += weight * flow.rate
            fastest[row.index] = max(fastest[row.index], flow.rate)
    for row in shares.rows:
        assert load[row.index] <= row.capacity * (1.0 + 1e-9)
        assert row.load == pytest.approx(load[row.index], rel=1e-9, abs=1e-9)
    for flow in flows:
        full = [
            row.index
            for row, _ in flow.uses
            if load[row.index] >= row.capacity * (1.0 - 1e-9)
            and flow.rate >= fastest[row.index] * (1.0 - 1e-9)
        ]
        assert flow.rate == pytest.approx(flow.cap) or full


@pytest.mark.timeout(3600)
@settings(max_examples=MOST_CASES)
@given(case=cases())
def test_each_flow_has_a_full_link_on_which_none_is_faster(case: Case) -> None:
    """After every arrival and departure the shares are max-min fair: capacities hold, and nobody can gain."""
    states = rates_between_events(case)
    assert len(states) == 2 * sum(bool(transfer.route) for transfer in case.transfers)


@given(case=cases(), data=st.data())
def test_renaming_links_and_reordering_transfers_changes_nothing(case: Case, data: st.DataObject) -> None:
    """The same transfers over renumbered links, sent in another order, finish at the same times."""
    place = data.draw(st.permutations(range(len(case.links))))
    order = data.draw(st.permutations(range(len(case.transfers))))
    renumbered = [case.links[0]] * len(case.links)
    for old, new in enumerate(place):
        renumbered[new] = case.links[old]
    moved = [
        Transfer(t.start, t.size, tuple(place[link] for link in t.route), t.cap, t.priority)
        for t in (case.transfers[index] for index in order)
    ]
    _, before = run(case)
    _, after = run(Case(tuple(renumbered), case.groups, tuple(moved)))
    expected = [before[index].finish for index in order]
    assert finishes(after) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(case=cases())
def test_time_lost_explains_the_whole_delay(case: Case) -> None:
    """Finish minus start is the latency, the bytes at the uncontended rate, and the time lost on all rows."""
    network, records = run(case)
    capacity = dict(zip(network.names, network.utilisation().capacity, strict=True))
    for transfer, record in zip(case.transfers, records, strict=True):
        takes: dict[str, float] = {}
        for index in transfer.route:
            link = case.links[index]
            takes[link.name] = takes.get(link.name, 0.0) + 1.0
            if link.group is not None:
                takes[link.group] = takes.get(link.group, 0.0) + link.group_weight
        rates = [capacity[name] / weight for name, weight in takes.items()]
        rate = min([*rates, math.inf if transfer.cap is None else transfer.cap])
        latency = sum(case.links[index].latency for index in transfer.route)
        explained = latency + transfer.size / rate + sum(record.waits.values())
        assert record.finish - record.start == pytest.approx(explained, rel=1e-12, abs=1e-12)
