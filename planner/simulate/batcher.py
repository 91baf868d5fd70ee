"""Dynamic batching by Triton's rules, as a state machine that knows nothing of processes or servers.

Whoever drives it says what happens: a request arrives, an instance of the model is free, a wake-up is due.
It answers with the batch to execute, the requests whose time has run out, and when to ask again. A decision
looks at the queue from its front, urgent levels first:

- a batch grows request by request; the largest preferred size that it passes through is remembered, or, when
  it would jump over the largest preferred size, the size before that jump [1]_;
- while the oldest request of the batch is younger than the delay, a remembered size is sent at once;
- once it is as old as the delay, or without a remembered size when the delay is zero, or when nothing more
  fits, all that fits is sent;
- otherwise the batch waits for the delay of its oldest request, or for more requests.

A timeout rejects a request, or puts it behind all others of its level [1]_.

References
----------
.. [1] NVIDIA Triton Inference Server, core: ``src/dynamic_batch_scheduler.cc`` (``GetDynamicBatch``),
   ``src/scheduler_utils.cc`` (``PriorityQueue``); server: ``docs/user_guide/batcher.md``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from planner.errors import SimulationError


@dataclass(frozen=True)
class QueuePolicy:
    """How long and how many requests of one level may wait.

    Attributes
    ----------
    max_queue_size
        Requests that wait at most; one more is refused on arrival. 0: no limit.
    default_timeout
        Longest wait, s; 0: no limit.
    timeout_action
        What a timeout does: refuse the request, or put it behind all others of its level.
    allow_timeout_override
        Whether a request may ask for a shorter timeout than the default.
    """

    max_queue_size: int = 0
    default_timeout: float = 0.0
    timeout_action: Literal["reject", "delay"] = "reject"
    allow_timeout_override: bool = False

    def timeout(self, asked: float) -> float:
        """Return the timeout of a request, s; infinite without one."""
        limit = self.default_timeout
        if self.allow_timeout_override and 0.0 < asked < limit:
            limit = asked
        return limit if limit > 0.0 else math.inf


@dataclass(frozen=True)
class BatcherPolicy:
    """Settings of a dynamic batcher.

    Attributes
    ----------
    max_batch
        Largest batch, counted in the requests' own sizes.
    preferred
        Sizes that are sent without waiting for more; none stands for ``max_batch`` alone.
    max_delay
        Longest time that the oldest request of a batch waits for others, s.
    priority_levels
        Number of levels, 1 the most urgent; 0: one queue, priorities are ignored.
    default_priority
        Level of requests without one; with levels it has to be one of them.
    queue, queues
        Policy of every level, and of some levels in its place.
    preserve_ordering
        Whether answers leave in the order in which the requests were taken from the queue.
    """

    max_batch: int
    preferred: tuple[int, ...] = ()
    max_delay: float = 0.0
    priority_levels: int = 0
    default_priority: int = 0
    queue: QueuePolicy = QueuePolicy()
    queues: Mapping[int, QueuePolicy] = field(default_factory=lambda: MappingProxyType({}))
    preserve_ordering: bool = False

    def __post_init__(self) -> None:
        if self.max_batch < 1 or any(not 1 <= size <= self.max_batch for size in self.preferred):
            raise SimulationError("preferred batch sizes must be between 1 and max_batch, at least 1")
        if self.max_delay < 0.0:
            raise SimulationError("max_delay must not be negative")
        if self.priority_levels and not 1 <= self.default_priority <= self.priority_levels:
            raise SimulationError(f"default_priority must be a level, 1 to {self.priority_levels}")

    @property
    def sizes(self) -> frozenset[int]:
        """The preferred sizes that apply."""
        return frozenset(self.preferred or (self.max_batch,))

    def level(self, priority: int) -> int:
        """Return the level of a request; 0 without levels."""
        if self.priority_levels == 0:
            return 0
        return priority if 1 <= priority <= self.priority_levels else self.default_priority


class Decision(NamedTuple):
    """What to do now: execute a batch (empty: none), and ask again at ``wake``, s (infinite: no need)."""

    batch: tuple[object, ...]
    rejected: tuple[object, ...]
    wake: float


class _Entry(NamedTuple):
    token: object
    size: int
    arrived: float
    deadline: float


class _Level:
    """Requests of one level: those in time, then those that a timeout has put behind."""

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.in_time: deque[_Entry] = deque()
        self.delayed: deque[_Entry] = deque()

    def __len__(self) -> int:
        return len(self.in_time) + len(self.delayed)

    def expire(self, now: float) -> list[_Entry]:
        """Take out, or put behind, what is too late; return what was taken out."""
        late = [entry for entry in self.in_time if entry.deadline <= now]
        if not late:
            return []
        self.in_time = deque(entry for entry in self.in_time if entry.deadline > now)
        if self.policy.timeout_action == "delay":
            self.delayed.extend(late)
            return []
        return late


class Batcher:
    """The queue of a model and the rules by which batches leave it.

    Parameters
    ----------
    policy
        Settings.

    Attributes
    ----------
    waiting
        Requests in the queue.
    """

    def __init__(self, policy: BatcherPolicy) -> None:
        self.policy = policy
        self._sizes, self._largest = policy.sizes, max(policy.sizes)
        names = range(1, policy.priority_levels + 1) if policy.priority_levels else (0,)
        self._levels = {name: _Level(policy.queues.get(name, policy.queue)) for name in names}
        self._timed = any(level.policy.default_timeout > 0.0 for level in self._levels.values())

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return sum(len(level) for level in self._levels.values())

    def enqueue(
        self, now: float, token: object, *, size: int = 1, priority: int = 0, timeout: float = 0.0
    ) -> bool:
        """Queue a request.

        Parameters
        ----------
        now
            Time, s.
        token
            What the batch will name it by.
        size, priority, timeout
            Batch size of its own; level; longest wait that it asks for, s (0: none).

        Returns
        -------
        bool
            Whether there was room in the queue of its level.
        """
        if not 1 <= size <= self.policy.max_batch:
            raise SimulationError(f"a request of batch size {size} exceeds max_batch {self.policy.max_batch}")
        level = self._levels[self.policy.level(priority)]
        if 0 < level.policy.max_queue_size <= len(level):
            return False
        level.in_time.append(_Entry(token, size, now, now + level.policy.timeout(timeout)))
        return True

    def expire(self, now: float) -> Decision:
        """Reject what is too late while no instance is free."""
        rejected = tuple(self._expired(now))
        return Decision((), rejected, self._next_deadline())

    def decide(self, now: float) -> Decision:
        """Return what a free instance does: a batch, or when to ask again."""
        rejected = tuple(self._expired(now))
        count, send = self._pending(now)
        if send:
            return Decision(tuple(self._take(count)), rejected, self._next_deadline())
        return Decision((), rejected, min(self._next_deadline(), self._due(count)))

    def _pending(self, now: float) -> tuple[int, bool]:
        """Return how many requests from the front make the batch, and whether it leaves now."""
        count = size = marked = 0
        full = False
        oldest = math.inf
        for entry in self._in_order():
            if count and size + entry.size > self._largest and not marked:
                marked = count
            if size + entry.size > self.policy.max_batch:
                full = True
                break
            count, size = count + 1, size + entry.size
            oldest = min(oldest, entry.arrived)
            if size in self._sizes:
                marked = count
        delay = self.policy.max_delay
        exceeded = delay > 0.0 and now >= oldest + delay
        if marked and not exceeded:
            return marked, True
        return count, count > 0 and (full or size >= self._largest or exceeded or delay == 0.0)

    def _due(self, count: int) -> float:
        """Return when the oldest of the first requests has waited for the delay, s."""
        entries = self._in_order()
        oldest = min([next(entries).arrived for _ in range(count)], default=math.inf)
        return oldest + self.policy.max_delay

    def _in_order(self) -> Iterator[_Entry]:
        for level in self._levels.values():
            yield from level.in_time
            yield from level.delayed

    def _take(self, count: int) -> Iterator[object]:
        for level in self._levels.values():
            for entries in (level.in_time, level.delayed):
                while count and entries:
                    yield entries.popleft().token
                    count -= 1

    def _expired(self, now: float) -> Iterator[object]:
        for level in self._levels.values() if self._timed else ():
            yield from [entry.token for entry in level.expire(now)]

    def _next_deadline(self) -> float:
        """Return when the next timeout happens, s."""
        levels = self._levels.values() if self._timed else ()
        return min([entry.deadline for level in levels for entry in level.in_time], default=math.inf)
