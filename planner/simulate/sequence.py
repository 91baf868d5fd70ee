"""A request on a replica, and the limits of a replica."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.errors import SimulationError

if TYPE_CHECKING:
    import simpy


class Request:
    """A request on its way through a replica; times in s.

    Parameters
    ----------
    computed, prompt, output
        Prompt tokens to compute, prompt tokens in the cache, tokens to generate. Those that are not to be
        computed are found in the cache, whoever put them there.
    donor, shared
        An earlier request whose first ``shared`` tokens are the same, for a cache that keeps prefixes.

    Attributes
    ----------
    queued, started, first, done
        When it came to the replica, when its prompt was first worked on, when its first token was out, and an
        event: when its last token was out.
    lag
        How much later than the replica became free its results come out, in a pipeline.
    known, left
        Tokens that exist, prompt and answer, and tokens still to generate, when it was last admitted.
    progress, borrowed
        Tokens in the cache while the prompt is computed; blocks that another request holds for it.
    join, final
        Step that computed the last of ``known``, -1 before; step that computes the last token.
    preemptions
        How often it lost its blocks.
    """

    __slots__ = (
        "borrowed",
        "computed",
        "done",
        "donor",
        "final",
        "first",
        "join",
        "known",
        "lag",
        "left",
        "preemptions",
        "progress",
        "prompt",
        "queued",
        "shared",
        "started",
    )

    def __init__(
        self,
        env: simpy.Environment,
        computed: int,
        prompt: int,
        output: int,
        *,
        donor: Request | None = None,
        shared: int = 0,
    ) -> None:
        self.computed, self.prompt, self.donor, self.shared = computed, prompt, donor, shared
        self.queued = self.started = self.first = math.nan
        self.lag = 0.0
        self.known, self.left = prompt, output
        self.progress = self.borrowed = self.preemptions = 0
        self.join = self.final = -1
        self.done = env.event()

    @property
    def longest(self) -> int:
        """Tokens in the cache when the last token is computed."""
        return self.known + self.left - 1


@dataclass(frozen=True)
class Limits:
    """What a replica can hold, and how it schedules.

    Attributes
    ----------
    max_batch, max_tokens
        Sequences, and tokens of one iteration.
    cache_tokens
        Tokens that the key-value cache holds, in whole blocks.
    window
        Longest wait of an idle replica for more prompts, s; with none it takes what comes at the same time.
    block_size
        Tokens of a block of the cache.
    overlapped
        Whether an iteration is put together while the one before it runs (vLLM's asynchronous scheduling).
    keeps_prefixes
        Whether freed blocks are found again by later requests with the same beginning.
    """

    max_batch: int
    max_tokens: int
    cache_tokens: int
    window: float = 0.0
    block_size: int = 16
    overlapped: bool = False
    keeps_prefixes: bool = True

    def __post_init__(self) -> None:
        if min(self.max_batch, self.max_tokens, self.block_size) < 1 or self.cache_tokens < self.block_size:
            raise SimulationError("a replica needs room for a sequence, a token and a block of its cache")
        if self.max_tokens < self.max_batch:
            raise SimulationError(
                f"an iteration of {self.max_tokens} tokens cannot hold {self.max_batch} sequences; "
                "raise batching.max_tokens or lower batching.max_batch"
            )
