"""Local search on a packing: moves and exchanges of blocks that relieve the busiest rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.solve.tables.packing import Packing

FloatArray = NDArray[np.float64]

LEAST = 1e-9
"""Relative gain below which a step is not worth taking."""
SHARPNESS = 32.0
"""Exponent of the mean of loads that a step has to lower: near the maximum, but aware of the other ranks."""
TRIED = 40
"""Changes that are tried in full for one step where ranks feel each other."""


def relieve(packing: Packing, steps: int) -> int:
    """Move or exchange blocks of the busiest rank while that lowers it; return the steps taken."""
    if not packing.spread.plain:
        return _relieve_shared(packing, steps)
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
    if not worst.size:
        return False
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


def smooth(load: FloatArray) -> float:
    """Return a power mean of the loads, s."""
    top = float(load.max())
    return float(top * np.mean((load / top) ** SHARPNESS) ** (1.0 / SHARPNESS)) if top > 0.0 else 0.0


def _relieve_shared(packing: Packing, steps: int) -> int:
    """Relieve the busiest rank where ranks differ or feel each other: try the most promising steps."""
    for step in range(steps):
        busiest = int(np.argmax(packing.load))
        if not any(_move_if_better(packing, *change) for change in _promising(packing, busiest)):
            return step
    return steps


def _promising(packing: Packing, rank: int) -> list[tuple[int, int, int]]:
    """Return changes (block, target, block that comes back or -1), by the estimate of what they leave."""
    items, spread = packing.items, packing.spread
    givers = spread.near(rank)
    mine = np.flatnonzero(np.isin(items.rank, givers))
    if not len(mine):
        return []
    home = np.stack([block.home for block in items.whole])
    others = np.flatnonzero(~np.isin(items.rank, givers))
    apart = np.setdiff1d(np.arange(len(packing.load)), (rank,))
    targets = np.concatenate((apart, items.rank[others]))
    back = np.concatenate((np.full(len(apart), -1), others))
    there = spread.classes[targets]
    gain = np.where(back < 0, 0.0, home[back, there])
    comes = np.where(back < 0, 0.0, home[back, spread.classes[rank]])
    after = packing.load[targets] + home[mine][:, there] - gain
    left = packing.load[rank] - home[mine, spread.classes[rank]][:, None] + comes
    worst = np.maximum(after, left)
    worst[items.rank[mine][:, None] == targets] = np.inf
    order = np.argsort(worst, axis=None, kind="stable")[:TRIED]
    places = [divmod(int(place), worst.shape[1]) for place in order if np.isfinite(worst.flat[place])]
    return [(int(mine[row]), int(targets[column]), int(back[column])) for row, column in places]


def _move_if_better(packing: Packing, item: int, target: int, back: int) -> bool:
    """Make a change unless it breaks a memory or lowers nothing."""
    before, old = smooth(packing.load), int(packing.items.rank[item])
    packing.move(item, target)
    if back >= 0:
        packing.move(back, old)
    fits = (packing.hbm <= packing.room).all() and (packing.host <= packing.host_room).all()
    if fits and smooth(packing.load) < before * (1.0 - LEAST):
        return True
    packing.move(item, old)
    if back >= 0:
        packing.move(back, target)
    return False
