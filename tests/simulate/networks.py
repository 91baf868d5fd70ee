"""Small networks for tests: drawn, sent over, and read out."""

import importlib.util
import math
from collections.abc import Sequence

import pytest
import simpy
from hypothesis import strategies as st

from planner.simulate import FlowRecord, LinkSpec, Network
from tests.simulate.filling import Case, Transfer

HAS_NUMBA = importlib.util.find_spec("numba") is not None


SOLVERS = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")),
]


def run(case: Case, *, compiled: bool = False) -> tuple[Network, list[FlowRecord]]:
    """Send the transfers of a case and return the network and the records in their order."""
    env = simpy.Environment()
    network = Network(env, case.links, case.groups, compiled=compiled)
    records: dict[int, FlowRecord] = {}

    def sender(index: int, transfer: Transfer) -> simpy.events.ProcessGenerator:
        yield env.timeout(transfer.start)
        cap = math.inf if transfer.cap is None else transfer.cap
        records[index] = yield network.send(
            transfer.route, transfer.size, cap=cap, priority=transfer.priority, tag=str(index)
        )

    for index, transfer in enumerate(case.transfers):
        env.process(sender(index, transfer))
    env.run()
    return network, [records[index] for index in range(len(case.transfers))]


def links(*rates: float, latency: float = 0.0) -> tuple[LinkSpec, ...]:
    return tuple(LinkSpec(f"link-{index}", rate, latency) for index, rate in enumerate(rates))


def finishes(records: Sequence[FlowRecord]) -> list[float]:
    return [record.finish for record in records]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw small networks with duplex groups, caps, priorities, repeated links, empty routes and no bytes."""
    groups = draw(st.dictionaries(st.sampled_from(["duplex", "bus"]), st.integers(1, 12).map(float)))
    link = st.builds(
        LinkSpec,
        name=st.just(""),
        rate=st.integers(1, 10).map(float),
        latency=st.sampled_from([0.0, 0.0, 0.25, 1.0]),
        group=st.sampled_from([None, *groups]),
        group_weight=st.sampled_from([1.0, 1.0, 0.5, 1.25]),
    )
    drawn = draw(st.lists(link, min_size=1, max_size=5))
    specs = tuple(
        LinkSpec(f"link-{place}", spec.rate, spec.latency, spec.group, spec.group_weight)
        for place, spec in enumerate(drawn)
    )
    transfer = st.builds(
        Transfer,
        start=st.integers(0, 12).map(lambda halves: halves / 2.0),
        size=st.integers(0, 30).map(float),
        route=st.lists(st.integers(0, len(specs) - 1), max_size=4).map(tuple),
        cap=st.sampled_from([None, None, None, 0.5, 2.0]),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
    )
    return Case(specs, groups, tuple(draw(st.lists(transfer, max_size=8))))
