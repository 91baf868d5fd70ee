"""How long an iteration of a served model takes, from tables of the cost model made once."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from planner.costs import ServingModel
from planner.costs.serving import CONTEXTS
from planner.placement import ServingProblem
from planner.simulate.fluid import FloatArray

LARGEST_TABLE = 16_384
"""Most prompt lengths that are tabulated one by one; longer tables have steps."""
LONG = 65_536.0
"""A prompt so long that attention and matrix multiplications are limited by arithmetic, tokens."""


class Line(NamedTuple):
    """Time of a decode step, s: ``base + slope * context``, for a mean of cached tokens up to ``until``."""

    base: float
    slope: float
    until: float = math.inf


class Piece(NamedTuple):
    """Part of a prompt that one iteration computes: tokens ``start`` to ``end``."""

    start: int
    end: int


class StepTimes(Protocol):
    """How long the steps of a replica take."""

    def decode(self, batch: int, context: float) -> Line:
        """Return the time of a decode step of ``batch`` sequences near a mean context."""

    def mixed(self, pieces: Sequence[Piece], batch: int, context: float) -> tuple[float, float]:
        """Return how long a step keeps the replica busy, and the time after it until its results, s."""


class IterationTimes:
    r"""Times of prefill, decode and mixed iterations of one replica.

    Parameters
    ----------
    problem, model
        A job, and the cost model of its placed strategy.
    max_batch, max_tokens
        Most sequences that decode together; most tokens of one iteration.

    Notes
    -----
    The cost model gives :math:`F(n)` for one fresh prompt of :math:`n` tokens. In compute, attention adds
    :math:`q n^2` to what is linear in tokens, with :math:`q` from the second difference at long prompts, so
    pieces :math:`s_i` to :math:`e_i` of several prompts, with :math:`b` sequences that decode along, take

    .. math:: F(N) + q (\sum (e_i^2 - s_i^2) - N^2) + D_b(c) - D_b(0), \quad N = b + \sum (e_i - s_i)

    where :math:`D_b(c) - D_b(0)` is the time to read the caches of the decoding sequences. With :math:`p`
    pipeline stages the first part keeps the replica busy for :math:`1 / p` of its time only.

    Copies of attention (``adp``) share sequences evenly; pieces go to the copy with fewest tokens. A step
    takes as long as the copy with most tokens would with equal ones on as many copies as make up the total.
    """

    def __init__(self, problem: ServingProblem, model: ServingModel, max_batch: int, max_tokens: int) -> None:
        self.stages, self.copies = int(model.many.pp[0]), int(model.many.adp[0])
        self._step = -(-(max_tokens + max_batch) // LARGEST_TABLE)
        tokens = np.arange(0, max_tokens + max_batch + 2 * self._step, self._step, dtype=float)
        rows = _repeated(problem, model, len(tokens))
        self._prefill = rows.prefill_time(tokens).tolist()
        self._all = self._prefill
        if self.copies > 1:
            self._all = rows.prefill_time(tokens, copies=self.copies).tolist()
        long = _repeated(problem, model, 3).prefill_time(LONG * np.asarray([2.0, 3.0, 4.0]))
        self._quadratic = max(float(long[2] - 2.0 * long[1] + long[0]) / (2.0 * LONG**2), 0.0)
        self._images = self._image_time(problem, model)
        self._lines = self._decode_lines(model, max_batch)

    def decode(self, batch: int, context: float) -> Line:
        """Return the time of a decode step of ``batch`` sequences near a mean context."""
        return self._lines[batch][bisect_right(CONTEXTS, context, 1, len(CONTEXTS) - 1) - 1]

    def mixed(self, pieces: Sequence[Piece], batch: int, context: float) -> tuple[float, float]:
        """Return how long an iteration keeps the replica busy, and the time after it until its results, s.

        Parameters
        ----------
        pieces
            Parts of prompts.
        batch, context
            Sequences that decode along, and their mean number of cached tokens.

        Notes
        -----
        Last tokens of prompts whose others are cached run as decode steps do, with their CUDA graph.
        """
        if pieces and all(piece.end - piece.start == 1 and piece.start for piece in pieces):
            return self._continued(pieces, batch, context), 0.0
        if self.copies > 1:
            return self._mixed_on_copies(pieces, batch, context)
        return self._mixed(pieces, batch, self.decode(batch, context).slope * context if batch else 0.0)

    def _continued(self, pieces: Sequence[Piece], batch: int, context: float) -> float:
        """Return the time of a step in which all sequences have one token to compute: a decode step, s."""
        total = batch + len(pieces)
        mean = (context * batch + sum(piece.end for piece in pieces)) / total
        line = self.decode(total, mean)
        return line.base + line.slope * mean

    def _mixed_on_copies(self, pieces: Sequence[Piece], batch: int, context: float) -> tuple[float, float]:
        """Return the times of an iteration whose copies of attention each have a share of it; see `mixed`."""
        loads = [0] * self.copies
        parts: list[list[Piece]] = [[] for _ in loads]
        for piece in sorted(pieces, key=lambda one: one.start - one.end):
            least = loads.index(min(loads))
            loads[least] += piece.end - piece.start
            parts[least].append(piece)
        cache = self.decode(batch, context).slope * context if batch else 0.0
        own = -(-batch // self.copies)
        busy, rest = self._mixed(parts[loads.index(max(loads))], own, cache)
        longest = max(loads) + own
        share = ((sum(loads) + batch) / longest - 1.0) / (self.copies - 1)
        more = self._at(self._all, longest) - self._at(self._prefill, longest)
        return busy + max(share, 0.0) * more / self.stages, rest

    def _mixed(self, pieces: Sequence[Piece], batch: int, cache: float) -> tuple[float, float]:
        """Return the times of an iteration of one copy, ``cache`` the time to read caches, s; see `mixed`."""
        tokens = batch + sum(piece.end - piece.start for piece in pieces)
        square = sum(piece.end * piece.end - piece.start * piece.start for piece in pieces) - tokens * tokens
        prompts = sum(piece.start == 0 for piece in pieces)
        compute = self._at(self._prefill, tokens) + self._quadratic * square + (prompts - 1) * self._images
        compute = max(compute, self._prefill[0] - self._images)
        return compute / self.stages + cache, compute * (1.0 - 1.0 / self.stages)

    def _at(self, table: list[float], tokens: int) -> float:
        index, rest = divmod(tokens, self._step)
        left = table[index]
        return left + (table[index + 1] - left) * rest / self._step if rest else left

    def _image_time(self, problem: ServingProblem, model: ServingModel) -> float:
        """Return the time of the vision tower for the images of one request, s."""
        blind = model.job.model_copy(update={"traffic": model.job.traffic.model_copy(update={"images": 0})})
        without = ServingModel(
            blind, model.model, model.many, model.spans, model.rates, model.fabric, problem.calibration
        )
        return float(model.prefill_time(1.0)[0] - without.prefill_time(1.0)[0])

    def _decode_lines(self, model: ServingModel, max_batch: int) -> list[list[Line]]:
        """Return lines by batch, 0 to ``max_batch``, and by interval of contexts."""
        batches: FloatArray = np.arange(1, max_batch + 1, dtype=float)
        times = np.stack([model.decode_time(batches, context) for context in CONTEXTS])
        slopes = np.diff(times, axis=0) / np.diff(CONTEXTS)[:, None]
        bases = times[:-1] - slopes * np.asarray(CONTEXTS[:-1])[:, None]
        ends = (*CONTEXTS[1:-1], math.inf)
        lines = [
            [Line(*line) for line in zip(base.tolist(), slope.tolist(), ends, strict=True)]
            for base, slope in zip(bases.T, slopes.T, strict=True)
        ]
        return [lines[0], *lines]


def _repeated(problem: ServingProblem, model: ServingModel, count: int) -> ServingModel:
    """Return the cost model of the same strategy ``count`` times, for as many sizes at once."""
    rows = np.zeros(count, dtype=np.int64)
    return ServingModel(
        model.job,
        model.model,
        model.many.take(rows),
        model.spans.take(rows),
        model.rates,
        model.fabric,
        problem.calibration,
    )
