"""Prefill and decode on replicas of their own: what moves between them.

A prompt is computed by one replica, which gives its first token; the keys and values of the prompt then cross
the links, each rank's part to the ranks that hold it in the replica that generates the rest [1]_.

References
----------
.. [1] Y. Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language
   Model Serving", OSDI 2024, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.placement.pools import cache_pairs
from planner.simulate.cabling import Cabling
from planner.simulate.network import Network
from planner.simulate.symmetry import alone_rate

if TYPE_CHECKING:
    import simpy

Holders = Sequence[Sequence[Sequence[str]]]
"""Of each replica of a pool, of each of its copies of attention: the GPUs of a cache, in rank order."""


class CacheMoves:
    """Keys and values on their way from one pool to the other; copies of attention take turns.

    Parameters
    ----------
    sources, targets
        Who holds caches in the two pools.
    per_token
        Bytes of a token on each GPU that receives.
    """

    def __init__(self, cabling: Cabling, sources: Holders, targets: Holders, per_token: float) -> None:
        self.cabling, self.per_token = cabling, per_token
        self._turn = [0, 0]
        self._copies = len(sources[0]), len(targets[0])
        self._routes = {
            (source, out, target, into): [
                (cabling.route(left, right), share) for left, right, share in cache_pairs(senders, receivers)
            ]
            for source, copies in enumerate(sources)
            for out, senders in enumerate(copies)
            for target, others in enumerate(targets)
            for into, receivers in enumerate(others)
        }

    def send(self, network: Network, source: int, target: int, tokens: int) -> simpy.Event:
        """Move the cache of some tokens; the event is the arrival of the last byte on the last GPU."""
        out, into = (turn % copies for turn, copies in zip(self._turn, self._copies, strict=True))
        self._turn = [turn + 1 for turn in self._turn]
        size = tokens * self.per_token
        return network.env.all_of(
            [
                network.send(
                    route,
                    size * share,
                    cap=alone_rate(route, self.cabling.cables),
                    delay=self.cabling.latency(route),
                )
                for route, share in self._routes[source, out, target, into]
            ]
        )
