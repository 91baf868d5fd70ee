"""An independent judge of continuous batching: a loop that touches every sequence and every block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.simulate.iterations import Line, Piece
from planner.simulate.sequence import Limits


@dataclass(frozen=True)
class Arrival:
    """A request: when it comes, s, its prompt tokens and its output tokens."""

    time: float
    prompt: int
    output: int


class PlainTimes:
    """Round numbers instead of a cost model: 1 s per 100 prompt tokens, decode steps of 0.25 s and more."""

    def __init__(self, per_sequence: float = 0.0, per_context: float = 0.0) -> None:
        self.per_sequence, self.per_context = per_sequence, per_context

    def decode(self, batch: int, context: float) -> Line:
        """Return a line that ends at the next multiple of 64 tokens."""
        return Line(0.25 + self.per_sequence * batch, self.per_context, 64.0 * (context // 64 + 1))

    def mixed(self, pieces: Sequence[Piece], batch: int, context: float) -> tuple[float, float]:
        """Return the time of a step with prompts, s, and no lag."""
        tokens = sum(piece.end - piece.start for piece in pieces)
        return tokens / 100.0 + self.per_context * context + 0.01 * batch, 0.0


@dataclass(eq=False)
class Running:
    """A request under way: its blocks by number, tokens in the cache, tokens scheduled and handed out."""

    arrival: Arrival
    blocks: list[int] = field(default_factory=list)
    cached: int = 0
    scheduled: int = 0
    tokens: int = 0
    preempted: int = 0
    entering: bool = True
    first: float = 0.0
    last: float = 0.0

    @property
    def known(self) -> int:
        """Tokens that exist, counting those that steps under way will give."""
        return self.arrival.prompt + self.scheduled

    @property
    def decodes(self) -> bool:
        """Whether it goes on from its last step with only the newest token not in the cache."""
        return self.scheduled > 0 and self.cached == self.known - 1 and not self.entering


@dataclass
class Judge:
    """The state of a replica, block by block."""

    limits: Limits
    times: PlainTimes
    free: list[int] = field(default_factory=list)
    holds: dict[int, tuple[Running, int]] = field(default_factory=dict)
    waiting: list[Running] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)

    def allocate(self, request: Running, tokens: int) -> bool:
        """Give a request blocks for a number of tokens in all, if there are enough."""
        size = self.limits.block_size
        missing = -(-tokens // size) - len(request.blocks)
        if missing > len(self.free):
            return False
        for _ in range(missing):
            block = self.free.pop(0)
            self.holds[block] = request, len(request.blocks)
            request.blocks.append(block)
        return True

    def release(self, request: Running) -> None:
        """Free the blocks of a request, the last one first in line; one in part full is of no use again."""
        for block in request.blocks[request.cached // self.limits.block_size :]:
            self.holds.pop(block)
        self.free += reversed(request.blocks)
        request.blocks = []

    def find_again(self, request: Running) -> None:
        """Give a preempted request the leading full blocks that still hold its tokens."""
        for place in range((request.known - 1) // self.limits.block_size):
            match = [block for block in self.free if self.holds.get(block) == (request, place)]
            if not match:
                return
            self.free.remove(match[0])
            request.blocks.append(match[0])
            request.cached += self.limits.block_size

    def schedule(self) -> list[tuple[Running, int]]:
        """Return which requests compute how many tokens in the next step."""
        budget, plan, lost = self.limits.max_tokens, [], False
        place = 0
        while place < len(self.running):
            request = self.running[place]
            if request.decodes and request.scheduled == request.arrival.output:
                place += 1
                continue
            count = min(request.known - request.cached, budget)
            while not self.allocate(request, request.cached + count):
                victim = [r for r in self.running if not (r.decodes and r.scheduled == r.arrival.output)][-1]
                self.running.remove(victim)
                self.release(victim)
                victim.cached, victim.preempted, victim.entering = 0, victim.preempted + 1, True
                self.waiting.insert(0, victim)
                lost = True
                if victim is request:
                    break
            else:
                plan.append((request, count))
                budget -= count
                place += 1
        while not lost and self.waiting and budget and len(self.running) < self.limits.max_batch:
            request = self.waiting[0]
            before = list(self.free)
            if request.preempted:
                self.find_again(request)
            if -(-request.known // self.limits.block_size) - len(request.blocks) > len(self.free):
                self.free, request.blocks, request.cached = before, [], 0
                break
            self.running.append(self.waiting.pop(0))
            count = min(request.known - request.cached, budget)
            self.allocate(request, request.cached + count)
            plan.append((request, count))
            budget -= count
        return plan

    def perform(self, plan: list[tuple[Running, int]]) -> tuple[float, list[Running]]:
        """Book a step; return its time, s, and the requests that get a token at its end."""
        batch = [request for request, _ in plan if request.decodes]
        context = sum(request.cached for request in batch) / len(batch) if batch else 0.0
        pieces = [Piece(r.cached, r.cached + count) for r, count in plan if r not in batch]
        given = []
        for request, count in plan:
            request.cached, request.entering = request.cached + count, False
            if request.cached == request.known:
                request.scheduled += 1
                given.append(request)
        if pieces:
            return self.times.mixed(pieces, len(batch), context)[0], given
        line = self.times.decode(len(batch), context)
        return line.base + line.slope * context, given


def step_through(arrivals: Sequence[Arrival], limits: Limits, times: PlainTimes) -> list[tuple[float, float]]:
    """Return when the first and the last token of each request are out, s."""
    everything = [Running(arrival) for arrival in arrivals]
    coming = sorted(everything, key=lambda sequence: sequence.arrival.time)
    judge = Judge(limits, times, list(range(limits.cache_tokens // limits.block_size)))
    under_way: list[tuple[float, list[Running]]] = []
    now = 0.0
    while coming or judge.waiting or judge.running:
        if not (under_way or judge.waiting or judge.running):
            now = max(now, coming[0].arrival.time)
        while coming and coming[0].arrival.time <= now:
            judge.waiting.append(coming.pop(0))
        while len(under_way) < (2 if limits.overlapped else 1):
            plan = judge.schedule()
            if not plan:
                break
            under_way.append(judge.perform(plan))
        seconds, given = under_way.pop(0)
        now += seconds
        for request in given:
            request.tokens += 1
            request.first = request.first or now
            if request.tokens == request.arrival.output:
                request.last = now
                judge.running.remove(request)
                judge.release(request)
    return [(sequence.first, sequence.last) for sequence in everything]
