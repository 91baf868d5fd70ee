"""Which replica a request goes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from planner.errors import SimulationError
from planner.simulate.statistics import named_stream

Policy = Literal["least-outstanding", "round-robin", "by-size"]


class Routing(Protocol):
    """Chooses replicas."""

    def choose(self, index: int, tokens: int, under_way: Sequence[int]) -> int:
        """Return the place of the replica of a request.

        Parameters
        ----------
        index
            Number of the request in order of arrival.
        tokens
            Its prompt.
        under_way
            Requests that each replica has at present.
        """


@dataclass(frozen=True)
class RoundRobin:
    """One after the other, whatever they have to do."""

    def choose(self, index: int, tokens: int, under_way: Sequence[int]) -> int:
        """Return the replica; see `Routing.choose`."""
        return index % len(under_way)


@dataclass(frozen=True, eq=False)
class LeastOutstanding:
    """The one with the fewest requests under way; ties are drawn."""

    ties: Sequence[float]

    def choose(self, index: int, tokens: int, under_way: Sequence[int]) -> int:
        """Return the replica; see `Routing.choose`."""
        if len(under_way) == 1:
            return 0
        least = min(under_way)
        equal = [place for place, count in enumerate(under_way) if count == least]
        return equal[int(self.ties[index] * len(equal))]


@dataclass(frozen=True, eq=False)
class BySize:
    """Short prompts to the first replicas, long ones to the others, each to the one with the fewest there.

    Attributes
    ----------
    longest
        Most tokens of a short prompt.
    num_short
        Replicas for short prompts.
    """

    ties: Sequence[float]
    longest: float
    num_short: int

    def choose(self, index: int, tokens: int, under_way: Sequence[int]) -> int:
        """Return the replica; see `Routing.choose`."""
        first, last = (0, self.num_short) if tokens <= self.longest else (self.num_short, len(under_way))
        return first + LeastOutstanding(self.ties).choose(index, tokens, under_way[first:last])


def make_routing(policy: Policy, seed: int, prompts: Sequence[int], num_replicas: int) -> Routing:
    """Return a policy for some requests.

    Notes
    -----
    By size, the boundary halves the tokens: prompts up to it make half of all prompt tokens, and half of the
    replicas, rounded up, are theirs.

    Raises
    ------
    SimulationError
        If there is no such policy, or only one replica to divide by size.
    """
    ties = named_stream(seed, "routing").random(len(prompts)).tolist()
    if policy == "round-robin":
        return RoundRobin()
    if policy == "least-outstanding":
        return LeastOutstanding(ties)
    if policy != "by-size":
        raise SimulationError(f"there is no routing policy {policy!r}")
    if num_replicas < 2:
        raise SimulationError("routing by size needs at least two replicas")
    ordered = np.sort(np.asarray(prompts))
    boundary = ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2.0)]
    return BySize(ties, float(boundary), (num_replicas + 1) // 2)
