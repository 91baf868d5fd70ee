"""Prefill and decode on replicas of their own: what moves between them.

A prompt is computed by one replica, which gives its first token; the keys and values of the prompt then cross
the links, each rank's part to the ranks that hold it in the replica that generates the rest [1]_. Parts that
must behave alike are carried as one.

References
----------
.. [1] Y. Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language
   Model Serving", OSDI 2024, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.placement.pools import Holder, cache_pairs
from planner.simulate.cabling import Cabling
from planner.simulate.host_path import HostPlan, Move
from planner.simulate.network import Network
from planner.simulate.symmetry import Reduced, Transfer, TransferClass, alone_rate, reduce_network

if TYPE_CHECKING:
    import simpy

Holders = Sequence[Sequence[Holder]]
"""Of each replica of a pool, of each of its copies of attention: who holds a cache."""
Way = tuple[int, int, int, int]
"""Replica and copy that a cache comes from, replica and copy that it goes to."""


@dataclass(frozen=True)
class PooledNetwork:
    """The network that the transfers of two pools and of their hosts share.

    Attributes
    ----------
    ways
        What carries a cache from each copy of attention to each other, sizes in bytes per token.
    hosts
        The hosts of all replicas, their moves on the links of this network.
    """

    reduced: Reduced
    ways: dict[Way, list[TransferClass]]
    hosts: list[HostPlan]


def pooled_network(
    cabling: Cabling, sources: Holders, targets: Holders, per_token: float, hosts: Sequence[HostPlan]
) -> PooledNetwork:
    """Return the network for every move of a cache between two pools, and for the moves of their hosts.

    Parameters
    ----------
    sources, targets
        Who holds caches in the two pools.
    per_token
        Bytes of a token on each GPU that receives.
    """
    ways = {
        (source, out, target, into): [
            _part(cabling, left, right, share * per_token)
            for left, right, share in cache_pairs(senders, receivers)
        ]
        for source, copies in enumerate(sources)
        for out, senders in enumerate(copies)
        for target, others in enumerate(targets)
        for into, receivers in enumerate(others)
    }
    own = [[Transfer(move.route, move.size, move.cap, move.latency)] for move in _moves(hosts)]
    reduced = reduce_network([*ways.values(), *own], cabling.cables)
    routes = iter([alike.route for (alike,) in reduced.bundles[len(ways) :]])
    return PooledNetwork(
        reduced,
        dict(zip(ways, reduced.bundles, strict=False)),
        [
            replace(host, inwards=_rerouted(host.inwards, routes), outwards=_rerouted(host.outwards, routes))
            for host in hosts
        ],
    )


def _part(cabling: Cabling, source: str, target: str, size: float) -> Transfer:
    route = cabling.route(source, target)
    return Transfer(route, size, alone_rate(route, cabling.cables), cabling.latency(route))


def _moves(hosts: Iterable[HostPlan]) -> Iterator[Move]:
    """Yield what crosses the links of hosts; replicas of pools have no CPU stages."""
    for host in hosts:
        yield from (*host.inwards, *host.outwards)


def _rerouted(moves: Iterable[Move], routes: Iterator[tuple[int, ...]]) -> list[Move]:
    return [replace(move, route=next(routes)) for move in moves]


class CacheMoves:
    """Keys and values on their way from one pool to the other; copies of attention take turns.

    Parameters
    ----------
    ways
        What carries a cache, sizes in bytes per token.
    """

    def __init__(self, ways: dict[Way, list[TransferClass]]) -> None:
        self._ways, self._turn = ways, 0
        self._copies = [1 + max(way[place] for way in ways) for place in (1, 3)]

    def send(self, network: Network, source: int, target: int, tokens: int) -> simpy.Event:
        """Move the cache of some tokens; the event is the arrival of the last byte on the last GPU."""
        out, into = (self._turn % copies for copies in self._copies)
        self._turn += 1
        sent = [
            network.send(alike.route, tokens * alike.size, cap=alike.cap, delay=alike.latency)
            for alike in self._ways[source, out, target, into]
        ]
        return sent[0] if len(sent) == 1 else network.env.all_of(sent)
