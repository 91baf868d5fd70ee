"""What a network is made of and what it hands back: links, duplex groups, records of transfers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from planner.errors import SimulationError

NO_WAITS: Mapping[int, float] = MappingProxyType({})


@dataclass(frozen=True)
class LinkSpec:
    """One direction of a channel.

    Attributes
    ----------
    name
        Unique name.
    rate
        Payload rate, bytes/s.
    latency
        Time of an empty message, s.
    group
        Duplex group whose capacity the link shares with others, usually its own reverse direction.
    group_weight
        Bytes of the group's capacity that each byte on the link takes; see `duplex_weights`.
    """

    name: str
    rate: float
    latency: float = 0.0
    group: str | None = None
    group_weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 < self.rate < math.inf and 0.0 < self.group_weight < math.inf):
            raise SimulationError(f"link {self.name!r}: rate and group weight must be positive and finite")
        if not 0.0 <= self.latency < math.inf:
            raise SimulationError(f"link {self.name!r}: the latency must be finite and not negative")


class TracedFlow(NamedTuple):
    """One flow of a trace (a named tuple, as there can be very many).

    Attributes
    ----------
    start
        Earliest release, s.
    delay
        Compute or launch time between release and the first byte, besides the latency of the path, s.
    size
        Bytes.
    path
        Link indices in order.
    after
        Indices of the flows that must have finished.
    finish
        Recorded finish time to compare with, s; None when the trace has none.
    """

    start: float
    delay: float
    size: float
    path: tuple[int, ...]
    after: tuple[int, ...] = ()
    finish: float | None = None


@dataclass(frozen=True)
class FlowTrace:
    """Links, and the flows to send over them."""

    name: str
    links: tuple[LinkSpec, ...]
    flows: tuple[TracedFlow, ...]


def duplex_weights(forward: float, backward: float, together: float) -> tuple[float, float]:
    r"""Return group weights for a channel whose directions disturb each other.

    Parameters
    ----------
    forward, backward
        Rate of each direction alone, bytes/s.
    together
        Rate of each direction when both are busy, bytes/s; no more than either alone.

    Returns
    -------
    tuple of float
        Weights :math:`w` for a group of capacity :math:`C` = 2 ``together``. The faster direction alone just
        fills the group, :math:`w_1 r_1 = C`, and both at the rate ``together`` do, :math:`w_1 + w_2 = 2`;
        the slower direction alone stays limited by its own link.

    Raises
    ------
    SimulationError
        If no two weights reproduce all three rates.
    """
    slow, fast = sorted((forward, backward))
    if not 0.0 < together <= slow or (2.0 - 2.0 * together / fast) * slow > 2.0 * together * (1.0 + 1e-9):
        raise SimulationError(
            f"no duplex group carries {forward:g} and {backward:g} bytes/s alone but {together:g} bytes/s "
            "each way at once; check the three rates"
        )
    light = 2.0 * together / fast
    heavy = 2.0 - light
    return (light, heavy) if forward >= backward else (heavy, light)


class FlowRecord(NamedTuple):
    """What became of a transfer (a named tuple, as one is made for every transfer).

    Attributes
    ----------
    start, finish
        Times of the call and of the last byte, s.
    size
        Bytes.
    route
        Link indices in order.
    tag
        Given by the caller.
    bottleneck
        Row that held the transfer back most, by its place in `Network.names`; -1 when only its own cap, or
        nothing, did.
    waits
        Per row the time lost there, s: while the row was the bottleneck each second counts
        1 - rate / uncontended rate. Empty when the network does not record.
    """

    start: float
    finish: float
    size: float
    route: tuple[int, ...]
    tag: str
    bottleneck: int = -1
    waits: Mapping[int, float] = NO_WAITS
