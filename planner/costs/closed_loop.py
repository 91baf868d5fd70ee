r"""Latency of an engine that serves a fixed number of clients, each with one request at a time.

Work is conserved. While one request passes, an engine with :math:`c` clients computes :math:`c` prompts
and :math:`o` decode steps, so that the cycle of a client lasts :math:`T = c\,p + o\,D(b)`, :math:`p` the
time that a prompt takes from decoding and :math:`D` that of a decode step. What a client waits for its
first token is not spent decoding: :math:`\mathrm{TPOT} = (T - \mathrm{TTFT}) / (o - 1)`, and
:math:`b = c\,(1 - \mathrm{TTFT}/T)` sequences decode together (J. Little, "A Proof for the Queuing Formula
L = lambda W", Operations Research, 1961).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.costs.coefficients import Calibration
from planner.costs.engine import EngineDegrees, Precisions, StepModel, StepParts, Tuning, engine_number
from planner.costs.kept import kept
from planner.workload import BYTES_PER_ELEMENT, Transformer

FloatArray = NDArray[np.float64]
ROUNDS = 3
CLOSE = 0.02
"""Relative change of all batches of one width at which the search for them ends."""
LOCKSTEP = 0.5
"""Share of the prompts before it that a prompt waits for when all come at once."""


@dataclass(frozen=True)
class Load:
    """What clients ask for: arrays of shape (n,).

    Attributes
    ----------
    prompt, output
        Tokens of a request.
    clients
        Requests in the engine or waiting for it at any time.
    """

    prompt: FloatArray
    output: FloatArray
    clients: FloatArray


@dataclass(frozen=True)
class Policy:
    """How an engine lets prompts in: the coefficients ``engine_*`` of a calibration.

    Attributes
    ----------
    first_token
        Time from the request to the engine and back to the client, s.
    prompt
        Time until the first token of a prompt met by an idle queue, over the time of its step, a ratio.
    queue
        Share of the other clients' prompts that one waits for, a ratio.
    interference
        Time that a prompt takes from decoding, over what its tokens add to a step, a ratio.
    scatter
        How far prompts of attention copies miss one another, 0 (all copies compute prompts in the same
        step) to 1 (each prompt holds up all copies).
    mixed
        Above 0: prompts and decoding sequences share a step; else prompts have steps of their own.
    accepted, draft
        Tokens that a speculative step yields, and the time of drafting over that of the step, ratios.
    """

    first_token: float
    prompt: float
    queue: float
    interference: float
    scatter: float
    mixed: float
    accepted: float
    draft: float

    @classmethod
    def of(cls, calibration: Calibration, engine: str) -> Policy:
        """Return the coefficients of an engine under a calibration."""
        return cls(**{field.name: engine_number(calibration, field.name, engine) for field in fields(cls)})


@dataclass(frozen=True)
class Latency:
    """What clients see: arrays of shape (n,), s; ``batch`` counts the sequences that decode together."""

    ttft: FloatArray
    tpot: FloatArray
    batch: FloatArray

    def output_rate(self, load: Load) -> FloatArray:
        """Return the output tokens of all clients, 1/s."""
        return np.asarray(load.clients * load.output / (self.ttft + self.tpot * (load.output - 1.0)))


@dataclass(frozen=True)
class LoopParts:
    """Steps of a loop at an assumed batch, arrays of shape (2, ..., n): decoding alone, and with a prompt."""

    steps: StepParts

    def time(self, tuning: Tuning) -> tuple[FloatArray, FloatArray]:
        """Return the times of decoding alone and with a prompt under an engine's coefficients, s."""
        decode, both = self.steps.time(tuning)
        return decode, both


class ClosedLoop:
    """A load on one replica; parts are computed apart from coefficients, which a fit changes often.

    Attributes
    ----------
    chunk
        Most prompt tokens of a step.
    width : ndarray, shape () or (widths, 1)
        Tokens per sequence of a decode step; above 1 with speculative decoding. With several widths batches
        and results have the shape (widths, n).
    capacity : ndarray, shape (n,)
        Sequences that memory holds.
    """

    def __init__(
        self, steps: StepModel, load: Load, capacity: FloatArray, *, chunk: float, width: ArrayLike = 1.0
    ) -> None:
        self.steps, self.load, self.width = steps, load, np.asarray(width, dtype=float)
        self._with_prompt = np.asarray([0.0, 1.0]).reshape(2, *(1,) * max(self.width.ndim, 1))
        self.capacity = np.maximum(capacity, 1.0)
        self.chunk = chunk
        self._chunk = np.minimum(load.prompt, chunk)
        self._chunks = load.prompt / self._chunk
        self._past = (load.prompt - self._chunk) / 2.0

    @property
    def active(self) -> FloatArray:
        """Requests in the engine, those that wait for memory left out."""
        return np.minimum(self.load.clients, self.capacity)

    def parts(self, batch: FloatArray) -> LoopParts:
        """Return the steps with ``batch`` sequences that decode on a replica."""
        steps, width = self.steps, self.width
        mine = np.maximum(batch / steps.degrees.adp, 1.0)
        keys = self.load.prompt + self.load.output / 2.0
        cache = steps.cache_attention(mine, keys, width)
        return LoopParts(
            steps.assembled(self._with_prompt, self._chunk, mine, self._prompt_attention, cache, width)
        )

    @cached_property
    def prompt(self) -> StepParts:
        """The step of a prompt alone."""
        return self.steps.parts(1.0, self._chunk, self._past, 0.0, 1.0)

    @cached_property
    def _prompt_attention(self) -> FloatArray:
        return self._with_prompt * self.steps.prompt_attention(np.ones(()), self._chunk, self._past)

    def token(self, step: FloatArray, policy: Policy) -> FloatArray:
        """Return the time of a token of each sequence, s, where a decode step takes ``step``."""
        if np.all(self.width <= 1.0):
            return step
        return np.where(self.width > 1.0, step * (1.0 + policy.draft) / policy.accepted, step)

    def latency(self, parts: LoopParts, tuning: Tuning, policy: Policy, *, lockstep: bool = False) -> Latency:
        """Return what clients see if steps are as stated, s.

        ``lockstep``: all clients ask at the same moments (equal lengths, started together), so that one waits
        for half of the others' prompts, whatever the engine.
        """
        load, copies = self.load, self.steps.degrees.adp
        active = self.active / copies
        decode, both = parts.time(tuning)
        own = both if policy.mixed > 0 else self.prompt.time(tuning)
        added = both - decode if policy.mixed > 0 else own
        prompt = policy.interference * added * self._chunks * copies ** min(policy.scatter, 1.0)
        token = self.token(decode, policy)
        cycle = active * prompt + load.output * token
        share = max(LOCKSTEP, policy.queue) if lockstep else policy.queue
        queued = share * np.maximum(active - 1.0, 0.0) * prompt
        ttft = policy.first_token + decode / 2.0 + policy.prompt * own * self._chunks + queued
        ttft = np.minimum(ttft, np.maximum(cycle - (load.output - 1.0) * token, ttft * 0.0 + decode))
        tpot = (cycle - ttft) / np.maximum(load.output - 1.0, 1.0)
        batch = self.active * np.minimum(np.maximum(1.0 - ttft / cycle, 0.02), 1.0)
        waiting = np.maximum(self.load.clients / self.capacity - 1.0, 0.0) * cycle
        return Latency(ttft + waiting, np.maximum(tpot, token), batch)

    def solve(self, tuning: Tuning, policy: Policy, *, lockstep: bool = False) -> Latency:
        """Return what clients see in the steady state, s; ``lockstep`` as in :meth:`latency`."""
        batch = self.active
        for _ in range(ROUNDS):
            found = self.latency(self.parts(batch), tuning, policy, lockstep=lockstep)
            steady = np.all(np.abs(found.batch - batch) <= CLOSE * batch, axis=-1, keepdims=True)
            if np.all(steady):
                break
            batch = np.where(steady, batch, found.batch)
        return found


@kept
def profile(calibration: Calibration, engine: str) -> tuple[Tuning, Policy]:
    """Return the coefficients of an engine under a calibration."""
    return Tuning.of(calibration, engine), Policy.of(calibration, engine)


def capacity(
    model: Transformer,
    degrees: EngineDegrees,
    precisions: Precisions,
    memory: float,
    tokens: FloatArray,
    *,
    share: float,
    reserved: float,
    block: float,
) -> FloatArray:
    """Return how many sequences of ``tokens`` tokens a replica's memory holds, shape (n,).

    Parameters
    ----------
    memory
        Bytes of a device, of which the engine uses ``share`` (0 to 1), ``reserved`` bytes not for weights
        or cache.
    block
        Tokens of a cache block; a sequence fills whole blocks.
    """
    layers = model.layers * model.attention_parameters + model.dense_layers * model.dense_mlp_parameters
    routed = model.layers - model.dense_layers
    shared = layers + routed * model.shared_mlp_parameters
    weights = shared * _stored(precisions.weights) / degrees.tp
    weights = weights + 2.0 * model.vocab * model.hidden * BYTES_PER_ELEMENT["bf16"] / degrees.tp
    if model.experts is not None:
        experts = routed * model.experts.num_experts * model.expert_parameters
        weights = weights + experts * _stored(precisions.experts) / degrees.stage
    heads = 1.0 if model.latent is not None else float(model.kv_heads)
    row = model.layers * model.kv_width * BYTES_PER_ELEMENT[precisions.kv] / np.minimum(degrees.tp, heads)
    room = np.maximum(memory * share - reserved - weights / degrees.pp, 0.0)
    blocks = np.floor(room / (row / degrees.pp * block))
    return np.asarray(np.floor(blocks / np.ceil(tokens / block)) * degrees.adp)


def _stored(dtype: str) -> float:
    """Return the bytes of a stored weight, block scales included (one byte for 16 four-bit values)."""
    return 0.5625 if dtype in ("fp4", "int4") else BYTES_PER_ELEMENT[dtype]
