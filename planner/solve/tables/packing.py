"""A packing of blocks on ranks and hosts that can be changed step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.solve.tables.candidates import ALL_RANKS, ONE_HOST, Block, Candidates

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass
class Items:
    """Blocks that lie whole on one rank; all arrays have the shape (items,)."""

    table: IntArray
    block: IntArray
    cost: FloatArray
    hbm: IntArray
    host: IntArray
    rank: IntArray
    whole: tuple[Block, ...] = ()

    def without(self, table: int) -> Items:
        """Return the items of all other tables."""
        keep = self.table != table
        return Items(
            self.table[keep],
            self.block[keep],
            self.cost[keep],
            self.hbm[keep],
            self.host[keep],
            self.rank[keep],
            tuple(block for block, kept in zip(self.whole, keep, strict=True) if kept),
        )

    def plus(self, table: int, blocks: Sequence[Block], ranks: Sequence[int]) -> Items:
        """Return the items with the blocks of one more table."""
        count = len(blocks)
        return Items(
            np.append(self.table, [table] * count),
            np.append(self.block, np.arange(count)),
            np.append(self.cost, [block.cost for block in blocks]),
            np.append(self.hbm, [int(block.hbm[0]) for block in blocks]),
            np.append(self.host, [int(block.host[0]) for block in blocks]),
            np.append(self.rank, ranks),
            (*self.whole, *blocks),
        )


def _no_items() -> Items:
    none = np.zeros(0, dtype=np.int64)
    return Items(none, none, np.zeros(0), none, none, none)


class Packing:
    """Chosen options and the places of their blocks, with the load of every rank.

    Attributes
    ----------
    load : ndarray, shape (ranks,)
        Time of each rank, s.
    hbm : ndarray, shape (ranks,)
        Bytes of GPU memory used; parts of unevenly cut tables are counted by their sum in ``loose``.
    host : ndarray, shape (domains,)
        Bytes of host memory used.
    choice
        Option of each table, -1 while it is not placed.
    hosts
        For tables cut over hosts, the host of each block.
    """

    def __init__(self, found: Candidates) -> None:
        problem = found.problem
        self.found = found
        self.spread = found.spread
        self.local = problem.costs.local_size
        self.room = np.array(problem.gpu_memory, dtype=np.int64)
        self.host_room = np.array(problem.host_memory, dtype=np.int64)
        self.domain = np.array(problem.domain, dtype=np.int64)
        self.load = np.zeros(len(self.room))
        self.hbm = np.zeros(len(self.room), dtype=np.int64)
        self.host = np.zeros(len(self.host_room), dtype=np.int64)
        self.loose = 0
        self.choice = np.full(len(problem.tables), -1, dtype=np.int64)
        self.hosts: dict[int, list[int]] = {}
        self.items = _no_items()

    def copy(self) -> Packing:
        """Return an independent copy."""
        twin = Packing.__new__(Packing)
        twin.__dict__.update(self.__dict__)
        for name in ("load", "hbm", "host", "choice"):
            setattr(twin, name, getattr(self, name).copy())
        twin.hosts = dict(self.hosts)
        items = self.items
        twin.items = Items(
            items.table, items.block, items.cost, items.hbm, items.host, items.rank.copy(), items.whole
        )
        return twin

    @property
    def cost(self) -> float:
        """Load of the busiest rank, s."""
        return float(self.load.max())

    def places(self, table: int) -> list[int]:
        """Return the rank or host of each block of a table; nothing for one that lies on every rank."""
        if table in self.hosts:
            return self.hosts[table]
        mine = np.flatnonzero(self.items.table == table)
        return [int(rank) for rank in self.items.rank[mine[np.argsort(self.items.block[mine])]]]

    def insert(self, table: int, option: int) -> bool:
        """Place a table greedily, every block where the load is least; return whether it fits."""
        scope = int(self.found.priced.scope[option])
        blocks = self.found.blocks(option)
        if scope == ALL_RANKS:
            placed = self._everywhere(option, blocks[0], 1)
        elif scope == ONE_HOST:
            placed = self._on_hosts(table, blocks)
        else:
            placed = self._on_ranks(table, blocks)
        if placed:
            self.choice[table] = option
        return placed

    def put(self, table: int, option: int, places: Sequence[int]) -> None:
        """Place the blocks of a table where they are told to go, whether they fit or not."""
        scope, blocks = int(self.found.priced.scope[option]), self.found.blocks(option)
        if scope == ALL_RANKS:
            self._everywhere(option, blocks[0], 1, forced=True)
        elif scope == ONE_HOST:
            for block, host in zip(blocks, places, strict=True):
                self.shift(host, block, 1)
            self.hosts[table] = list(places)
        else:
            for block, rank in zip(blocks, places, strict=True):
                self._count(rank, block, 1)
            self.items = self.items.plus(table, blocks, places)
        self.choice[table] = option

    def remove(self, table: int) -> None:
        """Take a table away."""
        option = int(self.choice[table])
        scope = int(self.found.priced.scope[option])
        if scope == ALL_RANKS:
            self._everywhere(option, self.found.blocks(option)[0], -1)
        elif scope == ONE_HOST:
            for block, host in zip(self.found.blocks(option), self.hosts.pop(table), strict=True):
                self.shift(host, block, -1)
        else:
            mine = self.items.table == table
            items = self.items
            for place in np.flatnonzero(mine):
                self._count(int(items.rank[place]), items.whole[place], -1)
            self.items = items.without(table)
        self.choice[table] = -1

    def move(self, item: int, rank: int) -> None:
        """Move a block to another rank."""
        items, old = self.items, int(self.items.rank[item])
        for place, sign in ((old, -1), (rank, 1)):
            self._count(place, items.whole[item], sign)
        items.rank[item] = rank

    def shift(self, host: int, block: Block, sign: int) -> None:
        """Add (1) or take away (-1) a block that is cut over the ranks of a host."""
        ranks = slice(host * self.local, (host + 1) * self.local)
        self._add(range(host * self.local, (host + 1) * self.local), block, sign)
        self.hbm[ranks] += sign * block.hbm
        np.add.at(self.host, self.domain[ranks], sign * block.host)

    def _everywhere(self, option: int, block: Block, sign: int, *, forced: bool = False) -> bool:
        if self.found.option(option).uneven:
            total = int(block.hbm.sum())
            self.loose += sign * total
            if sign > 0 and not forced and self.loose > int((self.room - self.hbm).sum()):
                self.loose -= total
                return False
            self._add(range(len(self.load)), block, sign)
            return True
        host = np.zeros_like(self.host)
        np.add.at(host, self.domain, block.host)
        if (
            sign > 0
            and not forced
            and ((self.hbm + block.hbm > self.room).any() or (self.host + host > self.host_room).any())
        ):
            return False
        self._add(range(len(self.load)), block, sign)
        self.hbm += sign * block.hbm
        self.host += sign * host
        return True

    def _on_hosts(self, table: int, blocks: Sequence[Block]) -> bool:
        placed: list[int] = []
        for block in blocks:
            free = (self.hbm.reshape(-1, self.local) + block.hbm <= self.room.reshape(-1, self.local)).all(
                axis=1
            )
            if block.host.any():
                free &= self._host_memory_free(block)
            loads = np.where(free, self.load.reshape(-1, self.local).max(axis=1), np.inf)
            host = int(np.argmin(loads))
            if not np.isfinite(loads[host]):
                for done, where in zip(blocks, placed, strict=False):
                    self.shift(where, done, -1)
                return False
            self.shift(host, block, 1)
            placed.append(host)
        self.hosts[table] = placed
        return True

    def _host_memory_free(self, block: Block) -> NDArray[np.bool_]:
        num_hosts = len(self.room) // self.local
        free = np.ones(num_hosts, dtype=bool)
        for host in range(num_hosts):
            more = np.zeros_like(self.host)
            np.add.at(more, self.domain[host * self.local : (host + 1) * self.local], block.host)
            free[host] = bool((self.host + more <= self.host_room).all())
        return free

    def _on_ranks(self, table: int, blocks: Sequence[Block]) -> bool:
        placed: list[int] = []
        for block in blocks:
            size, hosted = int(block.hbm[0]), int(block.host[0])
            free = self.hbm + size <= self.room
            if hosted:
                free &= (self.host + hosted <= self.host_room)[self.domain]
            loads = np.where(free, self._after(block), np.inf)
            rank = int(np.argmin(loads))
            if not free[rank]:
                for done, where in zip(blocks, placed, strict=False):
                    self._count(where, done, -1)
                return False
            self._count(rank, block, 1)
            placed.append(rank)
        self.items = self.items.plus(table, blocks, placed)
        return True

    def _count(self, rank: int, block: Block, sign: int) -> None:
        if self.spread.plain:
            self.load[rank] += sign * block.cost
        else:
            self._add((rank,), block, sign)
        self.hbm[rank] += sign * int(block.hbm[0])
        self.host[self.domain[rank]] += sign * int(block.host[0])

    def _add(self, ranks: Sequence[int], block: Block, sign: int) -> None:
        """Add the time of one part of a block on each of some ranks to all ranks that feel it."""
        if self.spread.plain:
            self.load[ranks[0] : ranks[-1] + 1] += sign * block.cost
        else:
            self.load += sign * self.spread.vector(block.home, block.shared, ranks)

    def _after(self, block: Block) -> FloatArray:
        """Return what tells best on which rank a block should lie: the load of the rank afterwards, s."""
        return self.load if self.spread.plain else self.load + block.home[self.spread.classes]


def pack(found: Candidates, choice: Sequence[int], price: FloatArray) -> Packing | None:
    """Place chosen options: those on every rank first, then those on hosts, then longest first.

    Where a block does not fit, the tables are tried again with the largest first, and a table that still
    does not fit takes the cheapest other option that does.

    Parameters
    ----------
    price : ndarray, shape (options,)
        By how much each option raises the bound, s.
    """
    order = sorted(range(len(choice)), key=lambda table: _longest_first(found, choice[table]))
    packing = Packing(found)
    if all(packing.insert(table, int(choice[table])) for table in order):
        return packing
    packing = Packing(found)
    order.sort(key=lambda table: -float(found.hbm[choice[table]]))
    for table in order:
        others = found.of_table[table]
        ranked = others[np.argsort(price[others], kind="stable")]
        if not any(packing.insert(table, int(option)) for option in (choice[table], *ranked)):
            return None
    return packing


def _longest_first(found: Candidates, option: int) -> tuple[int, float]:
    return int(found.priced.scope[option]), -float(found.largest[option])
