"""Links that can never be what holds a flow back; a replay that keeps no record of loads leaves them out.

A link is spare where another one carries all flows that it carries and has no more capacity: its load is
never above that of the other, and so never alone at its capacity. Most hops between a GPU and its network
port are of that kind. Finish times stay what they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from planner.simulate.fluid import FloatArray, IntArray

Mask = npt.NDArray[np.bool_]


class Hops(NamedTuple):
    """The links of many paths, one path after the other, and how many each path has."""

    links: IntArray
    lengths: IntArray

    @property
    def owner(self) -> IntArray:
        """The path that each hop belongs to."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def table(self) -> IntArray:
        """Return a row per path, filled up with -1."""
        width = int(self.lengths.max(initial=0))
        table: IntArray = np.full((len(self.lengths), width), -1)
        table[np.arange(width) < self.lengths[:, None]] = self.links
        return table

    def sums(self, values: FloatArray) -> FloatArray:
        """Return the sum of a value per hop over each path."""
        summed: FloatArray = np.bincount(self.owner, weights=values, minlength=len(self.lengths)).astype(
            float
        )
        return summed

    def chosen(self, mask: Mask) -> Hops:
        """Return the paths with some of their hops only."""
        return Hops(self.links[mask], np.bincount(self.owner[mask], minlength=len(self.lengths)))


def hops_of(paths: Sequence[tuple[int, ...]]) -> Hops:
    """Return the hops of some paths."""
    lengths = np.array([len(path) for path in paths], dtype=np.int64)
    links = np.fromiter(itertools.chain.from_iterable(paths), dtype=np.int64, count=int(lengths.sum()))
    return Hops(links, lengths)


def spare_links(hops: Hops, rates: FloatArray) -> Mask:
    """Return which links some other one makes superfluous; none where a path crosses a link twice.

    Parameters
    ----------
    rates
        Capacity of each link, bytes/s. Of two equal links the one with the lower number stays.
    """
    spare = np.zeros(len(rates), dtype=np.bool_)
    table = hops.table()
    ordered = np.sort(table, axis=1)
    if not len(hops.links) or np.any((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)):
        return spare
    count = np.bincount(hops.links, minlength=len(rates))
    first = np.full(len(rates), -1)
    first[hops.links[::-1]] = hops.owner[::-1]
    beside = table[hops.owner]
    every = np.arange(len(rates))
    for others in table[first].T:  # whoever is on all paths of a link is on its first one
        on_path = (beside == others[hops.links][:, None]).any(axis=1)
        covers = np.bincount(hops.links, weights=on_path, minlength=len(rates)) == count
        tighter = (rates[others] < rates) | ((rates[others] == rates) & (others < every))
        spare |= (count > 0) & (others >= 0) & covers & tighter
    return spare
