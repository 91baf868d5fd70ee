"""Collectives sent as flows take their affine time on an idle machine, and longer on a busy one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from planner.errors import SimulationError
from planner.simulate import FlowTrace, LinkSpec, replay
from planner.simulate.cabling import Cabling
from planner.simulate.collectives import (
    ALL_REDUCE,
    Message,
    all_to_all,
    collective_trace,
    hierarchical,
    nvls,
    ring,
    switch_route,
    together,
    tree,
)
from planner.topology import Router
from tests.simulate.cases import cluster

RATE, LATENCY, SIZE = 450.0 * 2**30, 500e-9, float(2**30)


def star(ranks: int) -> list[LinkSpec]:
    """Return links from and to a switch, the former numbered first."""
    ports = [LinkSpec(f"from {rank}", RATE) for rank in range(ranks)]
    return ports + [LinkSpec(f"to {rank}", RATE) for rank in range(ranks)]


def trace_of(messages: Sequence[Message], ranks: int) -> FlowTrace:
    """Return a collective over a switch."""
    route = switch_route(lambda source, target: (source, ranks + target), ranks)
    return collective_trace("collective", messages, route, star(ranks), LATENCY)


def seconds(trace: FlowTrace) -> float:
    """Return when the last flow ends, s."""
    return float(replay(trace).finish.max())


AFFINE: dict[str, Callable[[int], float]] = {
    "ring": lambda p: 2 * (p - 1) * (LATENCY + SIZE / p / RATE),
    "tree": lambda p: 2 * (math.log2(p) * LATENCY + SIZE / RATE),
    "hierarchical": lambda p: 2 * (math.log2(p) * LATENCY + (1 - 1 / p) * SIZE / RATE),
    "nvls": lambda p: 2 * LATENCY + SIZE / RATE,
}


@pytest.mark.parametrize("ranks", [4, 8, 16])
@pytest.mark.parametrize("algorithm", list(ALL_REDUCE))
def test_an_idle_switch_gives_the_affine_time(algorithm: str, ranks: int) -> None:
    """Every all-reduce takes latency and bytes of its formula, far within 0.1 %."""
    found = seconds(trace_of(ALL_REDUCE[algorithm](SIZE, ranks), ranks))
    assert found == pytest.approx(AFFINE[algorithm](ranks), rel=1e-9)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_one_round_and_all_to_all_take_their_affine_time(ranks: int) -> None:
    """A reduce-scatter makes m - 1 steps; an all-to-all sends (m - 1) / m of the buffer after one latency."""
    half = seconds(trace_of(ring(SIZE, ranks, rounds=1), ranks))
    assert half == pytest.approx((ranks - 1) * (LATENCY + SIZE / ranks / RATE), rel=1e-9)
    spread = seconds(trace_of(all_to_all(SIZE, ranks), ranks))
    assert spread == pytest.approx(LATENCY + (ranks - 1) / ranks * SIZE / RATE, rel=1e-9)


@pytest.mark.parametrize(
    ("ranks", "published"), [(8, 3_889_384e-9), pytest.param(64, 4_375_240e-9, marks=pytest.mark.slow)]
)
def test_two_chunks_at_a_time_hide_the_latency_as_published(ranks: int, published: float) -> None:
    """1 GiB in 4 parts, 2 at a time, meets ASTRA-sim's congestion-aware ring, and not the bandwidth bound."""
    found = seconds(trace_of(ring(SIZE, ranks, splits=4, active=2), ranks))
    assert found == pytest.approx(published, rel=1e-4)
    assert found >= 2 * (ranks - 1) / ranks * SIZE / RATE


@pytest.mark.parametrize("ranks", [3, 5, 6, 12])
def test_trees_of_any_size_are_never_faster_than_the_bandwidth(ranks: int) -> None:
    """Each half of the tree pair reaches every rank once; no all-reduce beats 2 (m - 1) / m of the buffer."""
    messages = tree(SIZE, ranks)
    for half in (messages[: 2 * (ranks - 1)], messages[2 * (ranks - 1) :]):
        assert {message.target for message in half} == set(range(ranks))
    assert seconds(trace_of(messages, ranks)) >= 2 * (ranks - 1) / ranks * SIZE / RATE


def test_two_collectives_at_once_take_twice_as_long() -> None:
    """Two rings over the same ports share them in every step; a ring beside an idle one does not."""
    alone = trace_of(ring(SIZE, 4), 4)
    assert seconds(together([alone, alone])) == pytest.approx(2 * seconds(alone) - 6 * LATENCY, rel=1e-9)


@pytest.mark.parametrize("algorithm", ["ring", "hierarchical", "nvls"])
def test_real_routes_give_the_affine_time_inside_a_node(algorithm: str) -> None:
    """On the ports and latencies of a node's own links the formula holds within 0.1 %."""
    ranks = 4
    cabling = Cabling(Router(cluster(1, ranks)))
    names = [f"node-0/gpu{rank}" for rank in range(ranks)]
    route = switch_route(lambda source, target: cabling.route(names[source], names[target]), ranks)
    for source in range(ranks):
        route(source, (source + 1) % ranks)
    hop = cabling.latency(cabling.route(names[0], names[1]))
    rate = min(cabling.cables[link].rate for link in cabling.route(names[0], names[1]))
    messages = ALL_REDUCE[algorithm](SIZE, ranks)
    pairs = {(message.source, message.target) for message in messages}
    for pair in sorted(pairs):
        route(*pair)
    found = seconds(collective_trace(algorithm, messages, route, cabling.specs(), LATENCY + hop))
    affine = {
        "ring": 6 * (LATENCY + hop + SIZE / ranks / rate),
        "hierarchical": 4 * (LATENCY + hop) + 1.5 * SIZE / rate,
        "nvls": 2 * (LATENCY + hop) + SIZE / rate,
    }
    assert found == pytest.approx(affine[algorithm], rel=1e-3)


def _looked_up(paths: dict[tuple[int, int], tuple[int, ...]], source: int, target: int) -> tuple[int, ...]:
    return paths[source, target]


def test_between_nodes_the_network_is_the_bottleneck() -> None:
    """An all-to-all over two nodes takes longer than inside one, and names a link that is full."""
    times = {}
    for nodes, per_node in ((1, 4), (2, 2)):
        cabling = Cabling(Router(cluster(nodes, per_node)))
        names = [f"node-{node}/gpu{gpu}" for node in range(nodes) for gpu in range(per_node)]
        messages = all_to_all(SIZE, len(names))
        paths = {(m.source, m.target): cabling.route(names[m.source], names[m.target]) for m in messages}
        route = partial(_looked_up, paths)
        trace = collective_trace("all-to-all", messages, route, cabling.specs(), 0.0)
        outcome = replay(trace, record=True)
        assert outcome.utilisation is not None
        assert outcome.utilisation.peak.max() == pytest.approx(1.0)
        times[nodes] = float(outcome.finish.max())
    assert times[2] > 1.5 * times[1]


def test_impossible_groups_are_refused() -> None:
    """One rank needs no collective, and halving needs a power of two."""
    with pytest.raises(SimulationError, match="two ranks"):
        nvls(SIZE, 1)
    with pytest.raises(SimulationError, match="power of two"):
        hierarchical(SIZE, 6)
