"""Continuous batching on one replica, iteration by iteration, without touching every sequence each time.

Prompts are admitted in order of arrival while the batch has room and the cache can hold the whole request,
so nothing is ever evicted. An iteration computes pieces of admitted prompts, up to a number of tokens, and
one token of every decoding sequence along with them [1]_. While no prompt waits, decode steps run on until
the first sequence ends or a prompt comes that can be admitted; their times add up in closed form.

References
----------
.. [1] A. Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI 2024:
   chunked prefill, as in vLLM with ``max_num_batched_tokens`` and ``max_num_seqs``.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from planner.simulate.iterations import IterationTimes, Line, Piece
from planner.simulate.outcome import MOST_SPANS, Busy

if TYPE_CHECKING:
    import simpy


class Request:
    """A request on its way through a replica; times in s.

    Attributes
    ----------
    computed, prompt, output
        Prompt tokens to compute, prompt tokens in the cache, tokens to generate.
    queued, started, first, done
        When it came to the replica, when its prompt was first worked on, when its first token was out, and an
        event: when its last token was out.
    lag
        How much later than the replica became free its results come out, in a pipeline.
    """

    __slots__ = ("computed", "done", "first", "lag", "output", "progress", "prompt", "queued", "started")

    def __init__(self, env: simpy.Environment, computed: int, prompt: int, output: int) -> None:
        self.computed, self.prompt, self.output = computed, prompt, output
        self.queued = self.started = self.first = math.nan
        self.lag, self.progress = 0.0, 0
        self.done = env.event()


@dataclass(frozen=True)
class Limits:
    """What a replica can hold.

    Attributes
    ----------
    max_batch, max_tokens
        Sequences, and tokens of one iteration.
    cache_tokens
        Tokens that the key-value cache holds.
    window
        Longest wait of an idle replica for more prompts, s; with none it takes what comes at the same time.
    """

    max_batch: int
    max_tokens: int
    cache_tokens: int
    window: float = 0.0


@dataclass
class _Decoding:
    """Decode steps under way: begin, number, time of the first, and what each takes more than the last, s."""

    begin: float
    steps: int
    first: float
    growth: float

    def elapsed(self, steps: int) -> float:
        """Return the time that a number of steps takes, s."""
        return steps * self.first + self.growth * steps * (steps - 1) / 2.0

    def finished_by(self, time: float) -> int:
        """Return the least number of steps, at least 1, that last until ``time`` or beyond."""
        target = time - self.begin
        low, high = 1, self.steps
        while low < high:
            middle = (low + high) // 2
            if self.elapsed(middle) >= target:
                high = middle
            else:
                low = middle + 1
        return low


class Replica:
    """One copy of a served model.

    Attributes
    ----------
    busy
        Time in iterations so far, s.
    tokens
        Tokens generated so far.
    """

    def __init__(self, env: simpy.Environment, name: str, times: IterationTimes, limits: Limits) -> None:
        self.env, self.name, self.times, self.limits = env, name, times, limits
        self.busy, self.tokens = 0.0, 0
        self.spans: list[Busy] = []
        self._waiting: deque[Request] = deque()
        self._prefilling: deque[Request] = deque()
        self._ends: list[tuple[int, int, Request]] = []
        self._step = self._order = self._admitted = self._cached = self._context = 0
        self._turn: simpy.Event | None = None
        self._decoding: _Decoding | None = None
        self._idle = True

    def submit(self, request: Request) -> None:
        """Queue a request; its ``done`` event succeeds with the last token."""
        request.queued = self.env.now
        self._waiting.append(request)
        if self._idle:
            self._gather()
        elif self._decoding is not None and len(self._waiting) == 1 and self._fits(request):
            self._cut_decoding(self._decoding)

    # -- iterations --------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Start when the window that the first waiting request opened has passed, or the batch is full."""
        if len(self._waiting) >= self.limits.max_batch:
            self._next()
        elif len(self._waiting) == 1:
            self._at(self.limits.window, self._next)

    def _next(self) -> None:
        """Begin the next iteration, if there is anything to do."""
        self._admit()
        self._idle = False
        batch = len(self._ends)
        mean = self._context / batch if batch else 0.0
        if self._prefilling:
            pieces = self._take_pieces(batch)
            seconds, lag = self.times.mixed([piece for _, piece in pieces], batch, mean)
            self._at(seconds, partial(self._end_mixed, pieces, lag, self.env.now))
        elif batch:
            line: Line = self.times.decode(batch, mean)
            steps = self._ends[0][0] - self._step
            self._decoding = _Decoding(self.env.now, steps, line.base + line.slope * mean, line.slope)
            self._at(self._decoding.elapsed(steps), self._end_decoding)
        else:
            self._idle, self._turn = True, None

    def _at(self, delay: float, call: Callable[[], None]) -> None:
        """Call something after a delay, unless something else is put in its place before."""
        turn = self.env.timeout(delay)
        self._turn = turn

        def due(event: simpy.Event) -> None:
            if event is self._turn:
                call()

        assert turn.callbacks is not None
        turn.callbacks.append(due)

    # -- prompts -----------------------------------------------------------------------------------------

    def _fits(self, request: Request) -> bool:
        """Whether the batch and the cache have room for the whole of a request."""
        size = request.prompt + request.output
        return self._admitted < self.limits.max_batch and self._cached + size <= self.limits.cache_tokens

    def _admit(self) -> None:
        """Admit waiting requests in order, until one does not fit."""
        while self._waiting and self._fits(self._waiting[0]):
            request = self._waiting.popleft()
            self._admitted += 1
            self._cached += request.prompt + request.output
            self._prefilling.append(request)

    def _take_pieces(self, batch: int) -> list[tuple[Request, Piece]]:
        """Take tokens of admitted prompts in order, as many as one iteration computes beside the batch."""
        budget, taken = max(self.limits.max_tokens - batch, 1), []
        for request in self._prefilling:
            if request.progress == 0:
                request.started = self.env.now
            end = min(request.progress + budget, request.computed)
            budget -= end - request.progress
            taken.append((request, Piece(request.progress, end)))
            request.progress = end
            if budget == 0:
                break
        return taken

    def _end_mixed(self, pieces: list[tuple[Request, Piece]], lag: float, begin: float) -> None:
        """Give every decoding sequence its token, and those prompts that are complete their first."""
        tokens = sum(piece.end - piece.start for _, piece in pieces)
        self._worked("prefill", f"{tokens} tokens + batch {len(self._ends)}", begin)
        self._advance(1)
        for request, piece in pieces:
            if piece.end < request.computed:
                continue
            self._prefilling.popleft()
            request.first, request.lag = self.env.now + lag, lag
            self.tokens += 1
            if request.output == 1:
                self._finish(request)
                continue
            self._order += 1
            heapq.heappush(self._ends, (self._step + request.output - 1, self._order, request))
            self._context += request.prompt + 1
        self._next()

    # -- decoding ----------------------------------------------------------------------------------------

    def _end_decoding(self) -> None:
        decoding, self._decoding = self._decoding, None
        assert decoding is not None
        self._worked("decode", f"{decoding.steps} x batch {len(self._ends)}", decoding.begin)
        self._advance(decoding.steps)
        self._next()

    def _cut_decoding(self, decoding: _Decoding) -> None:
        """End with the decode step under way, for a prompt has come."""
        steps = decoding.finished_by(self.env.now)
        if steps < decoding.steps:
            decoding.steps = steps
            self._at(max(decoding.begin + decoding.elapsed(steps) - self.env.now, 0.0), self._end_decoding)

    def _advance(self, steps: int) -> None:
        """Let every decoding sequence grow by some tokens; those that have all of theirs leave."""
        batch = len(self._ends)
        self._step += steps
        self._context += steps * batch
        self.tokens += steps * batch
        while self._ends and self._ends[0][0] <= self._step:
            request = heapq.heappop(self._ends)[2]
            self._context -= request.prompt + request.output
            self._finish(request)

    def _finish(self, request: Request) -> None:
        self._admitted -= 1
        self._cached -= request.prompt + request.output
        if request.lag == 0.0:
            request.done.succeed()
            return
        pause = self.env.timeout(request.lag)
        assert pause.callbacks is not None
        pause.callbacks.append(lambda event: request.done.trigger(event))

    def _worked(self, category: Literal["prefill", "decode"], name: str, begin: float) -> None:
        self.busy += self.env.now - begin
        if len(self.spans) < MOST_SPANS:
            self.spans.append(Busy(begin, self.name, self.env.now, name, category))
