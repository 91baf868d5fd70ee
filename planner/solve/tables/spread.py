"""What a block adds to the time of which ranks: its own ranks, and those that share a resource with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.costs.embeddings import ALL_RANKS, ONE_HOST, EmbeddingCosts, PricedOptions

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class OptionLoads:
    """Least loads of options; all arrays have the shape (options,); see `Candidates`."""

    work: FloatArray
    uniform: FloatArray
    largest: FloatArray


class Spread:
    """Ranks by class, and the shared resources that they use.

    Attributes
    ----------
    plain
        Whether all ranks are alike and share nothing, so that a block adds its cost to its own ranks.
    groups : ndarray, shape (kinds, ranks)
        Resource of each kind that a rank uses.
    """

    def __init__(self, costs: EmbeddingCosts) -> None:
        self.classes, self.groups = costs.classes, costs.groups
        self.local = costs.local_size
        self.num_ranks = costs.world_size
        self.plain = not len(self.groups) and not self.classes.any()

    def vector(self, home: FloatArray, shared: FloatArray, ranks: Sequence[int] | IntArray) -> FloatArray:
        """Return what one part on each of some ranks adds to all ranks, shape (ranks,), s.

        Parameters
        ----------
        home, shared : ndarray, shapes (classes,) and (classes, kinds)
            Times of the part on a rank of each class, s.
        """
        where = np.asarray(ranks, dtype=np.int64)
        kinds = self.classes[where]
        load = np.zeros(self.num_ranks)
        load[where] = home[kinds] - shared[kinds].sum(axis=1)
        for kind, group in enumerate(self.groups):
            load += np.bincount(group[where], shared[kinds, kind], group.max() + 1)[group]
        return load

    def near(self, rank: int) -> IntArray:
        """Return the ranks that feel what lies on a rank."""
        together = self.classes < 0
        together[rank] = True
        for group in self.groups:
            together |= group == group[rank]
        return np.flatnonzero(together)

    def loads(self, priced: PricedOptions) -> OptionLoads:
        """Return bounds of what options add to the ranks together and to the busiest one.

        The sum over ranks is weighted by their speed, mean 1: a plan's busiest rank is at least that sum over
        the number of ranks.
        """
        everywhere = priced.scope == ALL_RANKS
        if self.plain:
            cost = priced.sum_groups(priced.group_cost)
            span = np.choose(priced.scope, [float(self.num_ranks), float(self.local), 1.0])
            largest = np.where(everywhere, 0.0, priced.max_groups(priced.group_cost))
            return OptionLoads(cost * span, np.where(everywhere, cost, 0.0), largest)
        weights = self._weights(priced)
        work = np.zeros(len(priced.group_option))
        peak, uniform = np.zeros_like(work), np.zeros_like(work)
        scope = priced.scope[priced.group_option]
        starts = self._starts()
        for number, (home, shared) in enumerate(zip(priced.group_home, priced.group_shared, strict=True)):
            if scope[number] == ALL_RANKS:
                load = self.vector(home, shared, np.arange(self.num_ranks))
                work[number], uniform[number] = weights @ load, load.min()
                continue
            length = self.local if scope[number] == ONE_HOST else 1
            found = [
                self.vector(home, shared, np.arange(start, start + length))
                for start in (starts[ONE_HOST] if length > 1 else starts[2])
            ]
            work[number] = min(float(weights @ load) for load in found)
            peak[number] = min(float(load.max()) for load in found)
        return OptionLoads(priced.sum_groups(work), priced.sum_groups(uniform), priced.max_groups(peak))

    def _weights(self, priced: PricedOptions) -> FloatArray:
        """Return weights of the ranks, mean 1, larger for ranks of faster classes."""
        mean = priced.group_home.mean(axis=0)
        speed = 1.0 / np.maximum(mean[self.classes], 1e-30)
        return np.asarray(speed * (len(speed) / speed.sum()))

    def _starts(self) -> dict[int, IntArray]:
        """Return first ranks of places, one of each sort: alike in class and in whom they share with."""
        kinds = np.stack([self.classes, *self._company(), *self._mates()], axis=1)
        _, ranks = np.unique(kinds, axis=0, return_index=True)
        hosts = np.arange(0, self.num_ranks, self.local)
        tied = kinds.reshape(len(hosts), -1)
        _, first = np.unique(tied, axis=0, return_index=True)
        return {ONE_HOST: hosts[first], 2: ranks}

    def _mates(self) -> list[IntArray]:
        """Return for each kind how many ranks of its own host use a rank's resource."""
        host = np.arange(self.num_ranks) // self.local
        together = [group * (host.max() + 1) + host for group in self.groups]
        return [np.bincount(both)[both] for both in together]

    def _company(self) -> list[IntArray]:
        """Return for each kind a number of the classes that the users of a rank's resource have."""
        found = []
        for group in self.groups:
            users = [
                tuple(sorted(self.classes[group == number].tolist())) for number in range(group.max() + 1)
            ]
            numbers = {key: place for place, key in enumerate(dict.fromkeys(users))}
            found.append(np.array([numbers[users[number]] for number in group], dtype=np.int64))
        return found
