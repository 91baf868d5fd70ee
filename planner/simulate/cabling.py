"""The links of a machine as the rows of a network: numbered as routes need them, named again for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from planner.errors import SimulationError
from planner.simulate.links import LinkSpec, duplex_weights
from planner.topology import Router

Hop = tuple[str, str]


class Cable(NamedTuple):
    """One directed link.

    Attributes
    ----------
    rate
        Payload rate, bytes/s.
    group, group_rate
        Name and capacity, bytes/s, of what both directions share; ``None`` and 0 when they share nothing.
    weight
        Bytes of the shared capacity that each byte takes.
    """

    source: str
    target: str
    kind: str
    rate: float
    group: str | None = None
    group_rate: float = 0.0
    weight: float = 1.0


class Cabling:
    """Links in the order in which routes first cross them.

    Parameters
    ----------
    router
        Finds the way between two parts ``NODE/PART``.
    shares
        Links of which only a share of the rate is left.

    Attributes
    ----------
    cables
        All links crossed so far.
    """

    def __init__(self, router: Router, shares: Mapping[Hop, float] = MappingProxyType({})) -> None:
        self.router, self.shares = router, shares
        self.cables: list[Cable] = []
        self._index: dict[Hop, int] = {}

    def route(self, source: str, target: str) -> tuple[int, ...]:
        """Return the links from one part to another, by their place in `cables`."""
        return tuple(self._number(hop) for hop in self.router.hops(source, target))

    def latency(self, route: Sequence[int]) -> float:
        """Return the time of an empty message along a route, s."""
        return sum(self.router.edge(self._hop(index)).latency for index in route)

    def specs(self) -> list[LinkSpec]:
        """Return the links for a `Network`, without latency, which the caller pays per transfer."""
        return [
            LinkSpec(
                f"{cable.source} -> {cable.target}", cable.rate, group=cable.group, group_weight=cable.weight
            )
            for cable in self.cables
        ]

    def groups(self) -> dict[str, float]:
        """Return the capacity of every duplex group, bytes/s."""
        return {cable.group: cable.group_rate for cable in self.cables if cable.group is not None}

    def _hop(self, index: int) -> Hop:
        return self.cables[index].source, self.cables[index].target

    def _number(self, hop: Hop) -> int:
        if hop not in self._index:
            self._index[hop] = len(self.cables)
            self.cables.append(self._cable(hop))
        return self._index[hop]

    def _cable(self, hop: Hop) -> Cable:
        edge, (source, target), left = self.router.edge(hop), hop, self.shares.get(hop, 1.0)
        if edge.group is None or edge.group_rate is None:
            return Cable(source, target, edge.kind, edge.rate * left)
        back = self.router.edge((target, source))
        weight, _ = shared_weights(edge.rate, back.rate, edge.group_rate)
        group = " <-> ".join(sorted(hop))
        return Cable(source, target, edge.kind, edge.rate * left, group, edge.group_rate, weight)


def shared_weights(forward: float, backward: float, together: float) -> tuple[float, float]:
    """Return what a byte of each direction takes of a capacity that both share.

    Parameters
    ----------
    forward, backward
        Rate of each direction alone, bytes/s.
    together
        Capacity of both, bytes/s, shared equally when both are busy.

    Notes
    -----
    A byte takes a byte, except where one direction alone is faster than the stated sum; then the weights keep
    that rate as well. Rates that no weights reproduce fall back to the shared capacity as a limit.
    """
    if together >= max(forward, backward):
        return 1.0, 1.0
    try:
        return duplex_weights(forward, backward, together / 2.0)
    except SimulationError:
        return 1.0, 1.0
