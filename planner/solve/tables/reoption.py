"""Local search over options: give a table another option, then even out the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from planner.solve.tables.candidates import Candidates
from planner.solve.tables.improve import LEAST, relieve, smooth
from planner.solve.tables.packing import Packing
from planner.solve.tables.relax import Relaxed

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 20
"""Most alternations of changing options and evening out."""


def promising(found: Candidates, relaxed: Relaxed, incumbent: float) -> list[NDArray[np.int64]]:
    """Return, for each table, the options that a better plan than the incumbent can have, cheapest first.

    A plan with an option costs at least the bound of the relaxation plus the option's reduced cost, and at
    least its largest block; what this excludes is proven to be useless.
    """
    cheap = (relaxed.value + relaxed.price < incumbent) & (found.largest + found.uniform < incumbent)
    kept = []
    for options in found.of_table:
        mine = options[cheap[options]]
        kept.append(mine[np.argsort(relaxed.price[mine], kind="stable")])
    return kept


def descend(packing: Packing, options: Sequence[NDArray[np.int64]], order: Sequence[int], tries: int) -> bool:
    """Change the option of one table after another while that lowers the smooth maximum.

    Parameters
    ----------
    options
        What each table may take.
    order
        The tables, in the order in which they are looked at.
    tries
        Most insertions to try.
    """
    improved = False
    for table in order:
        if tries <= 0:
            break
        before = smooth(packing.load)
        best, chosen = before * (1.0 - LEAST), -1
        old, places = int(packing.choice[table]), packing.places(table)
        packing.remove(table)
        for option in options[table]:
            tries -= 1
            if packing.insert(table, int(option)):
                score = smooth(packing.load)
                if score < best:
                    best, chosen = score, int(option)
                packing.remove(table)
        if chosen < 0:
            packing.put(table, old, places)
        else:
            packing.insert(table, chosen)
            improved = True
    return improved


def settle(
    packing: Packing, options: Sequence[NDArray[np.int64]], rng: np.random.Generator, tries: int
) -> None:
    """Alternate changes of options and exchanges of blocks until neither helps."""
    num = len(options)
    relieve(packing, 10 * num)
    for _ in range(ROUNDS):
        before = smooth(packing.load)
        descend(packing, options, rng.permutation(num).tolist(), tries)
        relieve(packing, 10 * num)
        if smooth(packing.load) >= before * (1.0 - LEAST):
            return


def kick(
    packing: Packing, options: Sequence[NDArray[np.int64]], rng: np.random.Generator, count: int
) -> None:
    """Give some tables a random option among their promising ones."""
    free = np.flatnonzero([len(mine) > 0 for mine in options])
    for table in rng.choice(free, size=min(count, len(free)), replace=False):
        old, places = int(packing.choice[table]), packing.places(int(table))
        mine = options[table]
        weights = 1.0 / np.arange(1.0, len(mine) + 1.0)
        option = int(rng.choice(mine, p=weights / weights.sum()))
        packing.remove(int(table))
        if not packing.insert(int(table), option):
            packing.put(int(table), old, places)
