"""An independent judge of continuous batching: a loop that touches every sequence in every iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.simulate.batching import Limits
from planner.simulate.iterations import IterationTimes, Line, Piece


@dataclass(frozen=True)
class Arrival:
    """A request: when it comes, s, its prompt tokens and its output tokens."""

    time: float
    prompt: int
    output: int


class PlainTimes(IterationTimes):
    """Round numbers instead of a cost model: 1 s per 100 prompt tokens, decode steps of 0.25 s and more."""

    def __init__(self, per_sequence: float = 0.0, per_context: float = 0.0) -> None:
        self.per_sequence, self.per_context = per_sequence, per_context

    def decode(self, batch: int, context: float) -> Line:
        return Line(0.25 + self.per_sequence * batch, self.per_context)

    def mixed(self, pieces: Sequence[Piece], batch: int, context: float) -> tuple[float, float]:
        tokens = sum(piece.end - piece.start for piece in pieces)
        return tokens / 100.0 + self.per_context * context + 0.01 * batch, 0.0


@dataclass
class Running:
    """A request under way, with the prompt tokens computed and the tokens put out so far."""

    arrival: Arrival
    computed: int = 0
    tokens: int = 0
    first: float = 0.0
    last: float = 0.0

    @property
    def size(self) -> int:
        """Tokens that it may come to hold in the cache."""
        return self.arrival.prompt + self.arrival.output

    @property
    def context(self) -> int:
        """Tokens that it holds."""
        return self.arrival.prompt + self.tokens


def step_through(
    arrivals: Sequence[Arrival], limits: Limits, times: IterationTimes
) -> list[tuple[float, float]]:
    """Return when the first and the last token of each request are out, s."""
    everything = [Running(arrival) for arrival in arrivals]
    coming = sorted(everything, key=lambda sequence: sequence.arrival.time)
    admitted: list[Running] = []
    now = 0.0
    while coming or admitted:
        if not admitted:
            now = max(now, coming[0].arrival.time)
        _admit(coming, admitted, limits, now)
        now += _iterate(admitted, limits, times)
        for sequence in admitted:
            if sequence.tokens == 1 and sequence.first == 0.0:
                sequence.first = now
            if sequence.tokens == sequence.arrival.output:
                sequence.last = now
        admitted = [sequence for sequence in admitted if sequence.tokens < sequence.arrival.output]
    return [(sequence.first, sequence.last) for sequence in everything]


def _admit(coming: list[Running], admitted: list[Running], limits: Limits, now: float) -> None:
    while coming and coming[0].arrival.time <= now and len(admitted) < limits.max_batch:
        if sum(sequence.size for sequence in (*admitted, coming[0])) > limits.cache_tokens:
            return
        admitted.append(coming.pop(0))


def _iterate(admitted: list[Running], limits: Limits, times: IterationTimes) -> float:
    """Compute pieces of prompts and a token of every decoding sequence, and return how long that takes, s."""
    batch = [sequence for sequence in admitted if sequence.tokens]
    context = sum(sequence.context for sequence in batch) / len(batch) if batch else 0.0
    budget, pieces = max(limits.max_tokens - len(batch), 1), []
    for sequence in batch:
        sequence.tokens += 1
    for sequence in admitted:
        start, whole = sequence.computed, sequence.arrival.prompt
        if start == whole or not budget:
            continue
        sequence.computed = min(start + budget, whole)
        budget -= sequence.computed - start
        pieces.append(Piece(start, sequence.computed))
        if sequence.computed == whole:
            sequence.tokens = 1
    if pieces:
        return times.mixed(pieces, len(batch), context)[0]
    line = times.decode(len(batch), context)
    return line.base + line.slope * context
