"""Rings through GPUs that direct links join: which sets of GPUs carry a collective best.

Where no switch joins the GPUs of a machine, pairs differ, and so do sets of GPUs: on the hybrid cube mesh
of a DGX-1 some pairs have two NVLinks, some one, some none. A collective over a whole set runs on rings, each
in both directions, that share no link [1]_. Its rate is what one GPU sends over all rings together.

References
----------
.. [1] NVIDIA/nccl 5067397c, src/graph/search.cc: rings are searched over the links one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from planner.topology.machine import MachineType
from planner.topology.routes import route

FloatArray = NDArray[np.float64]
LARGEST_MESH = 8
"""Most GPUs of a machine whose sets are told apart; there are more sets than can be walked beyond."""
EVEN = 1e-9


@dataclass(frozen=True, eq=False)
class Mesh:
    """GPUs joined by direct links that differ between pairs.

    Attributes
    ----------
    links : ndarray, shape (n, n)
        Rate of the direct links of each pair, bytes/s and direction, both directions busy; 0 without one.
    routes : ndarray, shape (n, n)
        Rate of the route between each pair, through hosts or other GPUs where there is no link.
    """

    links: FloatArray
    routes: FloatArray

    def __len__(self) -> int:
        return len(self.links)

    @cached_property
    def _known(self) -> dict[tuple[int, ...], float]:
        return {}

    def subset(self, indices: Sequence[int]) -> Mesh:
        """Return the mesh of some of the GPUs."""
        part = np.ix_(list(indices), list(indices))
        return Mesh(self.links[part], self.routes[part])

    def scaled(self, factor: float) -> Mesh:
        """Return the mesh with all rates multiplied."""
        return Mesh(self.links * factor, self.routes * factor)

    def rate(self, members: Sequence[int]) -> float:
        """Return what a GPU sends in a collective over a set of GPUs, bytes/s and direction.

        A pair has the rate of its route. More GPUs use the rings of direct links that carry most together,
        taken one after the other, each at the rate of its slowest link and in both directions. Where no ring
        of direct links goes through all, the best ring over routes counts, once.
        """
        key = tuple(sorted(members))
        if key not in self._known:
            self._known[key] = self._rate(key)
        return self._known[key]

    def _rate(self, members: tuple[int, ...]) -> float:
        part = np.ix_(members, members)
        if len(members) == 1:
            return float("inf")
        if len(members) == 2:
            return float(self.routes[part][0, 1])
        packed = _packed(self.links[part])
        return packed or max(slowest for _, slowest in rings(self.routes[part]))

    def best(self, size: int) -> tuple[tuple[int, ...], float]:
        """Return the set of so many GPUs with the highest rate, the first of equals, and that rate."""
        sets = combinations(range(len(self)), size)
        chosen = max(sets, key=lambda members: (self.rate(members), [-member for member in members]))
        return chosen, self.rate(chosen)


def rings(rates: FloatArray) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield every ring through all vertices once, with its lowest rate, those of rate 0 left out."""
    number = len(rates)

    def extend(path: tuple[int, ...], slowest: float) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(path) == number:
            last = min(slowest, float(rates[path[-1], 0]))
            if last > 0.0 and path[1] < path[-1]:
                yield path, last
            return
        for vertex in range(1, number):
            rate = float(rates[path[-1], vertex])
            if rate > 0.0 and vertex not in path:
                yield from extend((*path, vertex), min(slowest, rate))

    yield from extend((0,), float("inf"))


def _packed(links: FloatArray) -> float:
    """Return the most that rings without common links send from a GPU, both directions added up."""
    known: dict[bytes, float] = {}

    def most(left: FloatArray) -> float:
        key = left.round(-3).tobytes()
        if key in known:
            return known[key]
        best, limit = 0.0, _ceiling(left)
        for path, slowest in rings(left):
            if best >= limit * (1 - EVEN):
                break
            rest = left.copy()
            for here, there in zip(path, (*path[1:], path[0]), strict=True):
                rest[here, there] -= slowest
                rest[there, here] -= slowest
            rest[rest < slowest * EVEN] = 0.0
            best = max(best, 2.0 * slowest + most(rest))
        known[key] = best
        return best

    return most(links)


def _ceiling(links: FloatArray) -> float:
    """Return a limit of what rings send from a GPU: its links, in pairs where all have one rate."""
    used = links[links > 0.0]
    rate = float(used.max(initial=0.0))
    if rate and used.min() >= rate * (1 - EVEN):
        return 2.0 * rate * int((links > 0.0).sum(axis=1).min() // 2)
    return float(links.sum(axis=1).min())


def machine_mesh(machine: MachineType) -> Mesh | None:
    """Return the mesh of a machine, ``None`` where its GPUs have no direct links."""
    names = [gpu.name for gpu in machine.gpus]
    if not 2 < len(names) <= LARGEST_MESH:
        return None
    count = len(names)
    links, routes = np.zeros((count, count)), np.zeros((count, count))
    for left, right in combinations(range(count), 2):
        there = route(machine.graph, names[left], names[right])
        back = route(machine.graph, names[right], names[left])
        if there is None or back is None:
            return None
        routes[left, right] = routes[right, left] = min(there.rate, back.rate)
        direct = [
            machine.graph.get_edge_data(*ends)
            for ends in ((names[left], names[right]), (names[right], names[left]))
        ]
        if all(direct):
            links[left, right] = links[right, left] = min(data["edge"].busy_rate for data in direct)
    pairs = links[np.triu_indices(count, 1)]
    return Mesh(links, routes) if pairs.any() else None
