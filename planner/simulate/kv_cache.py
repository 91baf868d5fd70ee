"""Blocks of a key-value cache: counted, handed out, and found again by who filled them.

Free blocks keep what they hold until they are handed out, those freed longest ago first; of one owner the
last blocks go first [1]_. What is left of an owner's blocks is then always the beginning of its tokens, so
that a number per owner says which prefix can be found again, without a record for each block.

References
----------
.. [1] vLLM, design document "Automatic Prefix Caching": free queue in least-recently-used order, blocks of a
   finished request appended in reverse order.
"""

from __future__ import annotations

from collections import deque


class _Extent:
    """Free blocks that one owner left, the first of its tokens first, and how many of those are full."""

    __slots__ = ("blocks", "full", "owner")

    def __init__(self, owner: object, blocks: int, full: int) -> None:
        self.owner, self.blocks, self.full = owner, blocks, full


class BlockPool:
    """The blocks of one cache.

    Parameters
    ----------
    num_blocks
        Blocks that requests can hold.
    block_size
        Tokens of a block.

    Attributes
    ----------
    free
        Blocks that nobody holds.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = self.free = num_blocks
        self.block_size = block_size
        self._untouched = num_blocks
        self._extents: deque[_Extent] = deque()
        self._last: dict[object, _Extent] = {}

    def blocks(self, tokens: int) -> int:
        """Return the blocks that a number of tokens takes."""
        return -(-tokens // self.block_size)

    def take(self, count: int) -> None:
        """Hand out blocks; there must be enough of them."""
        if count == 0:
            return
        assert count <= self.free, "blocks are handed out only after a look at how many are free"
        self.free -= count
        fresh = min(count, self._untouched)
        self._untouched -= fresh
        count -= fresh
        while count:
            extent = self._extents[0]
            evicted = min(count, extent.blocks)
            extent.blocks -= evicted
            count -= evicted
            if extent.blocks == 0:
                self._extents.popleft()
                if self._last.get(extent.owner) is extent:
                    del self._last[extent.owner]

    def release(self, owner: object, count: int, full: int) -> None:
        """Take blocks back; ``owner`` filled the first of them, and the last one in part."""
        if count == 0:
            return
        self.free += count
        extent = _Extent(owner, count, full)
        self._extents.append(extent)
        self._last[owner] = extent

    def left(self, owner: object) -> int:
        """Return how many of an owner's first blocks, all of them free, still hold its tokens."""
        extent = self._last.get(owner)
        return min(extent.blocks, extent.full) if extent else 0

    def revive(self, owner: object, count: int) -> None:
        """Hand out the first blocks that an owner left, with what they hold."""
        extent = self._last.pop(owner)
        extent.blocks -= count
        self.free -= count
        if extent.blocks == 0:
            self._extents.remove(extent)
