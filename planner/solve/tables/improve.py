"""Local search on a packing: moves and exchanges of blocks that relieve the busiest rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.solve.tables.packing import Packing

FloatArray = NDArray[np.float64]

LEAST = 1e-9
"""Relative gain below which a step is not worth taking."""


def relieve(packing: Packing, steps: int) -> int:
    """Move or exchange blocks of the busiest rank while that lowers it; return the steps taken."""
    for step in range(steps):
        busiest = int(np.argmax(packing.load))
        if not (_exchange(packing, busiest, pairs=False) or _exchange(packing, busiest, pairs=True)):
            return step
    return steps


def _exchange(packing: Packing, rank: int, *, pairs: bool) -> bool:
    """Give one block (or two) of a rank to another rank for none or one of its blocks, if that helps."""
    items = packing.items
    mine = np.flatnonzero(items.rank == rank)
    if len(mine) < 1 + pairs:
        return False
    if pairs:
        left, right = np.triu_indices(len(mine), 1)
        given = np.stack([mine[left], mine[right]], axis=1)
    else:
        given = mine[:, None]
    others = np.flatnonzero(items.rank != rank)
    ranks = np.arange(len(packing.load))
    targets = np.concatenate((ranks[ranks != rank], items.rank[others]))
    back = np.concatenate((np.full(len(ranks) - 1, -1), others))
    none = back < 0
    cost = items.cost[given].sum(axis=1)[:, None] - np.where(none, 0.0, items.cost[back])
    size = items.hbm[given].sum(axis=1)[:, None] - np.where(none, 0, items.hbm[back])
    worst = np.maximum(packing.load[rank] - cost, packing.load[targets] + cost)
    fits = packing.hbm[targets] + size <= packing.room[targets]
    fits &= packing.hbm[rank] - size <= packing.room[rank]
    if items.host.any():
        hosted = items.host[given].sum(axis=1)[:, None] - np.where(none, 0, items.host[back])
        here, there = packing.domain[rank], packing.domain[targets]
        fits &= (packing.host[there] + hosted <= packing.host_room[there]) | (there == here)
        fits &= (packing.host[here] - hosted <= packing.host_room[here]) | (there == here)
    worst = np.where(fits, worst, np.inf)
    best = int(np.argmin(worst))
    row, column = divmod(best, worst.shape[1])
    if not worst[row, column] < packing.load[rank] * (1.0 - LEAST):
        return False
    target = int(targets[column])
    for item in given[row]:
        packing.move(int(item), target)
    if back[column] >= 0:
        packing.move(int(back[column]), rank)
    return True
