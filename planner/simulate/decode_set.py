"""Sequences that all advance by one token in every step, without touching each of them."""

from __future__ import annotations

import heapq

from planner.simulate.sequence import Request


class DecodeSet:
    """The decoding sequences of a replica.

    In step ``j`` a member has ``known + j - join - 1`` tokens in the cache and adds one. Steps are numbered
    by the replica; a member takes part from the step after ``join`` to ``final``.

    Parameters
    ----------
    block_size
        Tokens of a block of the cache.

    Attributes
    ----------
    batch
        Number of members.
    """

    def __init__(self, block_size: int) -> None:
        self.batch = 0
        self._offset = 0
        self._size = block_size
        self._opening = [0] * block_size  # members that open a block in steps of the same remainder
        self._ends: list[tuple[int, int, Request]] = []
        self._order = 0

    def add(self, request: Request) -> None:
        """Let a sequence take part from the step after its ``join`` on."""
        self._count(request, 1)
        self._order += 1
        heapq.heappush(self._ends, (request.final, self._order, request))

    def remove(self, request: Request) -> None:
        """Take out a sequence before its end."""
        self._count(request, -1)
        self._ends = [entry for entry in self._ends if entry[2] is not request]
        heapq.heapify(self._ends)

    def ending(self, step: int) -> list[Request]:
        """Take out, and return, the sequences whose last step this is."""
        ended = []
        while self._ends and self._ends[0][0] <= step:
            ended.append(heapq.heappop(self._ends)[2])
            self._count(ended[-1], -1)
        return ended

    def next_end(self) -> int:
        """Return the first last step of a member."""
        return self._ends[0][0]

    def context(self, step: int) -> float:
        """Return the mean number of cached tokens in a step."""
        return self._offset / self.batch + step if self.batch else 0.0

    def opened(self, step: int) -> int:
        """Return how many blocks the members open in a step."""
        return self._opening[step % self._size]

    def opened_in(self, step: int, count: int) -> int:
        """Return how many blocks the members open in ``count`` steps from ``step`` on."""
        rounds, rest = divmod(count, self._size)
        first = step % self._size
        past = max(first + rest - self._size, 0)
        return rounds * self.batch + sum(self._opening[first : first + rest]) + sum(self._opening[:past])

    def affordable(self, step: int, blocks: int, most: int) -> int:
        """Return how many steps from ``step`` on a number of blocks lasts, at most ``most``."""
        rounds = min(blocks // self.batch, most // self._size)
        count, left = rounds * self._size, blocks - rounds * self.batch
        while count < most:
            left -= self._opening[(step + count) % self._size]
            if left < 0:
                break
            count += 1
        return count

    def _count(self, request: Request, sign: int) -> None:
        self.batch += sign
        self._offset += sign * (request.known - request.join - 1)
        self._opening[(request.join + 1 - request.known) % self._size] += sign
