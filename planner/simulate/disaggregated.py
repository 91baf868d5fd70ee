"""Prefill and decode on replicas of their own: what moves between them.

A prompt is computed by one replica, which gives its first token; the keys and values of the prompt then cross
the links, each rank's part to the same rank of the replica that generates the rest [1]_.

References
----------
.. [1] Y. Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language
   Model Serving", OSDI 2024, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.errors import SimulationError
from planner.simulate.cabling import Cabling
from planner.simulate.network import Network
from planner.simulate.symmetry import alone_rate

if TYPE_CHECKING:
    import simpy


@dataclass(frozen=True)
class Pools:
    """The replicas of a plan in two pools.

    Attributes
    ----------
    prefill
        How many, the first of the plan, compute prompts; the others generate.
    """

    prefill: int

    def check(self, num_replicas: int, job: str) -> None:
        """Refuse pools of which one is empty."""
        if not 0 < self.prefill < num_replicas:
            raise SimulationError(
                f"job {job!r}: {self.prefill} of {num_replicas} replicas for prompts leaves a pool empty; "
                f"pools need at least one replica each"
            )


class CacheMoves:
    """Keys and values on their way from one pool to the other.

    Parameters
    ----------
    sources, targets
        GPUs of every replica of the two pools, in order of rank.
    per_token
        Bytes of a token on each rank.
    """

    def __init__(
        self,
        cabling: Cabling,
        sources: Sequence[Sequence[str]],
        targets: Sequence[Sequence[str]],
        per_token: float,
    ) -> None:
        self.cabling, self.per_token = cabling, per_token
        self._routes = {
            (source, target): [
                cabling.route(*ends) for ends in zip(sources[source], targets[target], strict=True)
            ]
            for source in range(len(sources))
            for target in range(len(targets))
        }

    def send(self, network: Network, source: int, target: int, tokens: int) -> simpy.Event:
        """Move the cache of some tokens; the event is the arrival of the last byte on the last rank."""
        size = tokens * self.per_token
        return network.env.all_of(
            [
                network.send(
                    route, size, cap=alone_rate(route, self.cabling.cables), delay=self.cabling.latency(route)
                )
                for route in self._routes[source, target]
            ]
        )
