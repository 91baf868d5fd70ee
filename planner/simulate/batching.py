"""Continuous batching on one replica by vLLM's rules, without touching every sequence in every step.

A step gives every decoding sequence a token and spends what is left of its tokens on prompts, in pieces where
they are longer [1]_. Prompts are admitted in order of arrival while the batch has room and the whole prompt
finds blocks of the cache; blocks of the answer are taken as it grows. When none is left the sequence admitted
last loses all of its blocks and waits at the head of the queue, to compute its tokens again as far as the
cache has not kept them; in such a step nothing is admitted [2]_. With overlapped scheduling a step is put
together when the step before the last has ended, while the last one runs.

While no step could differ from the one before, decode steps run on until the first sequence ends, the blocks
are used up, or a prompt comes that can be admitted; their times add up in closed form.

References
----------
.. [1] A. Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI 2024.
.. [2] vLLM 0.19, ``vllm/v1/core/sched/scheduler.py`` (``schedule``) and ``kv_cache_manager.py``
   (``allocate_slots``), with ``scheduler_reserve_full_isl`` and asynchronous scheduling, its defaults.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Literal

from simpy.events import NORMAL

from planner.errors import SimulationError
from planner.simulate.alarm import Alarm
from planner.simulate.decode_set import DecodeSet
from planner.simulate.iterations import Piece, StepTimes
from planner.simulate.kv_cache import BlockPool
from planner.simulate.outcome import MOST_SPANS, Busy
from planner.simulate.sequence import Limits, Request
from planner.simulate.step import Step

if TYPE_CHECKING:
    import simpy


class Replica:
    """One copy of a served model.

    Attributes
    ----------
    busy
        Time in steps so far, s.
    tokens, preemptions
        Tokens generated, and blocks lost to others, so far.
    """

    def __init__(self, env: simpy.Environment, name: str, times: StepTimes, limits: Limits) -> None:
        self.env, self.name, self.times, self.limits = env, name, times, limits
        self.busy, self.tokens, self.preemptions = 0.0, 0, 0
        self.spans: list[Busy] = []
        self._pool = BlockPool(limits.cache_tokens // limits.block_size, limits.block_size)
        self._decoding = DecodeSet(limits.block_size)
        self._waiting: deque[Request] = deque()
        self._admitted: dict[Request, None] = {}
        self._partial: Request | None = None  # the prompt of which pieces are still to be computed
        self._last = 0  # number of the step put together last
        self._current: Step | None = None
        self._next: Step | None = None
        self._turn: simpy.Event | None = None
        self._idle = True

    def submit(self, request: Request) -> None:
        """Queue a request; its ``done`` event succeeds with the last token."""
        if self._pool.blocks(request.longest) > self._pool.num_blocks:
            raise SimulationError(
                f"{self.name}: a request of {request.longest} tokens does not fit into the cache of "
                f"{self.limits.cache_tokens}"
            )
        request.queued = self.env.now
        self._waiting.append(request)
        if self._idle:
            self._gather()
        elif self._current is not None and self._current.count > 1 and self._may_enter(request):
            self._cut(self._current)

    # -- steps -------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Start when the window that the first waiting request opened has passed, or the batch is full."""
        if len(self._waiting) >= self.limits.max_batch:
            self._begin()
        elif len(self._waiting) == 1:
            self._turn = Alarm(self.env, self._gathered, self.limits.window, NORMAL)

    def _gathered(self, turn: simpy.Event) -> None:
        if turn is self._turn:  # nothing else was put in its place since
            self._begin()

    def _begin(self) -> None:
        """Begin the next step, if there is anything to do."""
        step = self._next or self._put_together()
        self._next, self._current, self._idle = None, step, step is None
        if step is None:
            self._turn = None
            return
        step.begin = self.env.now
        if self.limits.overlapped:
            self._next = self._put_together()
        self._prolong(step)
        self._turn = Alarm(self.env, self._ended, step.elapsed(step.count), NORMAL)

    def _prolong(self, step: Step) -> None:
        """Let a decode step stand for all that follow and are like it."""
        following = self._next if self.limits.overlapped else step
        if following is None or not (step.lasting and following.lasting and step.batch == following.batch):
            return
        most = min(self._decoding.next_end() - self._last, step.longest - 1)
        if most > 0:
            step.count += self._decoding.affordable(self._last + 1, self._pool.free, most)

    def _cut(self, step: Step) -> None:
        """End with the decode step under way, for a prompt has come."""
        count = step.finished_by(self.env.now)
        if count < step.count:
            step.count = count
            left = max(step.begin + step.elapsed(count) - self.env.now, 0.0)
            self._turn = Alarm(self.env, self._ended, left, NORMAL)

    def _ended(self, turn: simpy.Event) -> None:
        """Hand out the tokens of the step, and begin the next."""
        step = self._current
        if turn is not self._turn or step is None:
            return  # something else was put in its place
        if step.count > 1:
            self._pool.take(self._decoding.opened_in(self._last + 1, step.count - 1))
            self._last += step.count - 1
            if self._next is not None:
                self._next.context += step.count - 1
                self._next.time(self.times)
            (self._next or step).ending += self._decoding.ending(self._last)
        self._worked(step)
        self.tokens += step.batch * step.count + len(step.complete)
        for request in step.complete:
            request.lag = step.lag
            if math.isnan(request.first):
                request.first = self.env.now + step.lag
        for request in step.ending:
            self._finish(request)
        self._begin()

    # -- scheduling --------------------------------------------------------------------------------------

    def _put_together(self) -> Step | None:
        """Return the next step; ``None`` when there is nothing to do."""
        number = self._last + 1
        preempted = False
        if self._decoding.opened(number) > self._pool.free:
            preempted = self._make_room(number)
        batch = self._decoding.batch
        step = Step(batch, self.limits.max_tokens - batch, self._decoding.context(number), preempted)
        self._pool.take(self._decoding.opened(number))
        if self._partial is not None and step.budget and not self._continue(step, self._partial, number):
            step.preempted = True
        if self._waiting and not step.preempted:
            self._admit(step, number)
        if not batch and not step.pieces:
            return None
        self._last = number
        step.ending += self._decoding.ending(number)
        step.time(self.times)
        return step

    def _make_room(self, number: int) -> bool:
        """Take blocks from the sequences admitted last until the others can grow; return whether any lost."""
        preempted = False
        while self._decoding.opened(number) > self._pool.free:
            victim = next(r for r in reversed(self._admitted) if r.join < 0 or r.final >= number)
            self._preempt(victim, number)
            preempted = True
        return preempted

    def _preempt(self, request: Request, number: int) -> None:
        """Send a sequence back to the head of the queue, before a step."""
        del self._admitted[request]
        self._release(request, number - 1)
        if request is self._partial:
            self._partial = None
        else:
            self._decoding.remove(request)
            request.known, request.left = request.known + number - request.join, request.final - number + 1
        request.join, request.progress = -1, 0
        request.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(request)

    def _release(self, request: Request, number: int) -> None:
        """Take back the blocks that a sequence holds after a step."""
        tokens = request.progress if request.join < 0 else request.known + number - request.join
        full = tokens // self.limits.block_size - request.borrowed
        self._pool.release(request, self._pool.blocks(tokens) - request.borrowed, full)

    def _continue(self, step: Step, request: Request, number: int) -> bool:
        """Compute the next piece of a prompt, or preempt it when there are no blocks for that."""
        end = min(request.known, request.progress + step.budget)
        blocks = self._pool.blocks(end) - self._pool.blocks(request.progress)
        if blocks > self._pool.free:
            self._preempt(request, number)
            return False
        self._pool.take(blocks)
        self._compute(step, request, end, number)
        return True

    def _admit(self, step: Step, number: int) -> None:
        """Admit waiting requests in order, until one does not fit."""
        while self._waiting and step.budget and len(self._admitted) < self.limits.max_batch:
            request = self._waiting[0]
            owner, found = self._prefix(request)
            held = isinstance(owner, Request) and owner in self._admitted
            if self._pool.blocks(request.known) - (found if held else 0) > self._pool.free:
                return
            self._waiting.popleft()
            self._admitted[request] = None
            if found and not held:
                self._pool.revive(owner, found)
            request.borrowed = found if held else 0
            request.progress = max(found * self.limits.block_size, request.prompt - request.computed)
            end = min(request.known, request.progress + step.budget)
            self._pool.take(self._pool.blocks(end) - found)
            if math.isnan(request.started):
                request.started = self.env.now
            self._compute(step, request, end, number)

    def _prefix(self, request: Request) -> tuple[object, int]:
        """Return who left the beginning of a request in the cache, and how many blocks of it are there."""
        most = (request.known - 1) // self.limits.block_size
        if not self.limits.keeps_prefixes:
            return None, 0
        if request.preemptions and (left := self._pool.left(request)):
            return request, min(left, most)
        donor = request.donor
        if donor is None:
            return None, 0
        most = min(most, request.shared // self.limits.block_size)
        if donor in self._admitted:
            filled = donor.progress if donor.join < 0 else donor.known
            return donor, min(filled // self.limits.block_size, most)
        return donor, min(self._pool.left(donor), most)

    def _compute(self, step: Step, request: Request, end: int, number: int) -> None:
        """Put a piece of a prompt into a step; with the last one the sequence begins to decode."""
        step.pieces.append(Piece(request.progress, end))
        step.budget -= end - request.progress
        request.progress = end
        self._partial = request if end < request.known else None
        if self._partial is not None:
            return
        step.complete.append(request)
        request.join, request.final = number, number + request.left - 1
        if request.left == 1:
            step.ending.append(request)
        else:
            self._decoding.add(request)

    def _may_enter(self, request: Request) -> bool:
        """Whether a request that has just come could be in the next step."""
        if len(self._waiting) > 1 or len(self._admitted) >= self.limits.max_batch:
            return False
        return self._pool.blocks(request.known) - self._prefix(request)[1] <= self._pool.free

    # -- ends --------------------------------------------------------------------------------------------

    def _finish(self, request: Request) -> None:
        del self._admitted[request]
        self._release(request, request.final)
        if request.lag == 0.0:
            request.done.succeed()
            return
        pause = self.env.timeout(request.lag)
        assert pause.callbacks is not None
        pause.callbacks.append(lambda event: request.done.trigger(event))

    def _worked(self, step: Step) -> None:
        self.busy += self.env.now - step.begin
        if len(self.spans) < MOST_SPANS:  # more are not shown
            category: Literal["prefill", "decode"] = "prefill" if step.pieces else "decode"
            self.spans.append(Busy(step.begin, self.name, self.env.now, step.title(), category))
