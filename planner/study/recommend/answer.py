"""What a search for a cluster found: a verdict on every cluster that was looked at, and what follows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from planner.errors import InfeasibleError
from planner.schema import loads
from planner.study.recommend.blocks import Block, By, Cluster
from planner.topology.models import TopologyDocument

Verdict = Literal["holds", "refused", "open"]


@dataclass(frozen=True)
class Limit:
    """A limit of a job and what the simulation saw of it.

    Attributes
    ----------
    limit, value
        What is allowed and the simulated figure, s; 99th percentiles for services.
    low, high
        Ends of the 95 % interval of the figure, s; infinite where the run was too short for one.
    """

    job: str
    name: str
    limit: float
    value: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        """The figure over its limit."""
        return self.value / self.limit

    @property
    def sure(self) -> bool:
        """Whether the whole interval is on one side of the limit."""
        return not self.low <= self.limit < self.high


@dataclass(frozen=True)
class Point:
    """A cluster under a load.

    Attributes
    ----------
    load
        Factor of the traffic that the workload states.
    verdict
        ``holds``: a plan was simulated and holds every limit. ``refused``: proven that no plan does, on paper
        or by the simulation of every strategy that could. ``open``: neither was shown.
    reason
        Why there is no plan that holds.
    """

    load: float
    cluster: Cluster
    verdict: Verdict
    decision: str
    limits: tuple[Limit, ...] = ()
    reason: str = ""

    @property
    def worst(self) -> Limit | None:
        """The limit that is nearest to being broken, or broken most."""
        return max(self.limits, key=lambda limit: limit.ratio, default=None)

    @property
    def sure(self) -> bool:
        """Whether the intervals of all figures are within their limits."""
        return self.verdict == "holds" and all(limit.sure for limit in self.limits)


@dataclass(frozen=True)
class Capacity:
    """How much load a cluster carries.

    Attributes
    ----------
    carries
        Highest load that was seen to hold; ``None`` where none did.
    fails
        Lowest load above it that was seen not to hold; ``None`` where all held.
    """

    cluster: Cluster
    carries: float | None
    fails: float | None


@dataclass(frozen=True)
class Recommendation:
    """The verdicts of a search, complete as far as its questions go.

    Attributes
    ----------
    by
        What is to be least.
    loads
        The loads asked about, in ascending order.
    points
        Every cluster that was looked at under every load that it was looked at.
    mixed
        Whether clusters of several kinds of blocks were looked at too.
    fabric
        Plain document of the cluster whose fabric joins nodes that bring none.
    """

    workload: str
    by: By
    blocks: tuple[Block, ...]
    loads: tuple[float, ...]
    points: tuple[Point, ...]
    mixed: bool = False
    fabric: Mapping[str, Any] = field(default_factory=dict)

    def at(self, load: float) -> list[Point]:
        """Return what was looked at under a load, smallest cluster first."""
        found = [point for point in self.points if point.load == load]
        return sorted(found, key=lambda point: (point.cluster.size(self.by), point.cluster.name))

    def choices(self, load: float) -> list[Point]:
        """Return the smallest cluster of each block, and of mixtures, that holds a load, smallest first."""
        found: dict[str, Point] = {}
        for point in self.at(load):
            if point.verdict == "holds":
                found.setdefault(kind_of(point.cluster), point)
        return list(found.values())

    def best(self, load: float) -> Point:
        """Return the smallest cluster that holds a load.

        Raises
        ------
        InfeasibleError
            If none of the clusters does.
        """
        choices = self.choices(load)
        if choices:
            return choices[0]
        looked = self.at(load)
        nearest = min(looked, key=lambda point: point.worst.ratio if point.worst else inf)
        raise InfeasibleError(
            f"none of the {len(looked)} clusters holds the limits at {load:g} times the load; "
            f"{nearest.cluster.name}: {nearest.reason or 'not decided in time'}",
            remedy="allow more nodes with --max-nodes, add blocks, or loosen the limits",
        )

    def topology(self, load: float) -> TopologyDocument:
        """Return the best cluster as a document."""
        document = self.best(load).cluster.document(self.fabric)
        return loads(json.dumps(document), TopologyDocument, "recommended cluster")

    def runner_up(self, load: float) -> Point | None:
        """Return the smallest cluster of another kind that holds a load too."""
        choices = self.choices(load)
        return choices[1] if len(choices) > 1 else None

    def loss(self, load: float) -> float | None:
        """Return by what share of the best the runner-up is larger, ``None`` without one."""
        other = self.runner_up(load)
        if other is None:
            return None
        best = self.best(load).cluster.size(self.by)[0]
        return other.cluster.size(self.by)[0] / best - 1.0

    def smaller(self, load: float) -> list[Point]:
        """Return what was looked at and is smaller than the best."""
        least = self.best(load).cluster.size(self.by)
        return [point for point in self.at(load) if point.cluster.size(self.by) < least]

    def proven(self, load: float) -> bool:
        """Whether every candidate smaller than the best was refused."""
        return all(point.verdict == "refused" for point in self.smaller(load))

    def capacities(self) -> list[Capacity]:
        """Return how much load each cluster of one block carries, of those that were looked at under all."""
        known: dict[str, list[Point]] = {}
        for point in self.points:
            if len(point.cluster.parts) == 1:
                known.setdefault(point.cluster.name, []).append(point)
        return [_capacity(points) for points in known.values() if {p.load for p in points} & set(self.loads)]


def _capacity(points: Sequence[Point]) -> Capacity:
    held = [point.load for point in points if point.verdict == "holds"]
    carries = max(held, default=None)
    over = [p.load for p in points if p.verdict != "holds" and p.load > (carries or 0.0)]
    return Capacity(points[0].cluster, carries, min(over, default=None))


def kind_of(cluster: Cluster) -> str:
    """Return the kind of a cluster: its block, or ``mixture``."""
    return cluster.parts[0][0].name if len(cluster.parts) == 1 else "mixture"
