"""Latency of prefill and decode on separate pools of workers (disaggregated serving).

`Pools` is for clients in a closed loop, as benchmarks have them; `pooled` for the offered rate of a job.

References
----------
.. [1] Y. Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language
   Model Serving", OSDI 2024, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs.closed_loop import ClosedLoop, Latency, Policy
from planner.costs.collectives import Fabric, send
from planner.costs.engine import Tuning
from planner.costs.serving import ServingModel
from planner.costs.serving_records import (
    NORMAL_99,
    IntArray,
    ServingCosts,
    context_tokens,
    lognormal_p01,
    lognormal_p99,
    prompt_tokens,
)
from planner.workload import BYTES_PER_ELEMENT, ServingJob

FloatArray = NDArray[np.float64]
BUSIEST = 0.98


@dataclass(frozen=True)
class Pools:
    """A prefill pool and a decode pool that serve the same clients.

    Attributes
    ----------
    prefill, decode
        One worker of each pool under the load of all clients.
    prefill_workers, decode_workers : ndarray, shape (n,)
        Numbers of workers.
    link
        Rate at which a cache moves from pool to pool, bytes/s.
    """

    prefill: ClosedLoop
    decode: ClosedLoop
    prefill_workers: FloatArray
    decode_workers: FloatArray
    link: float

    def latency(self, tuning: Tuning, policy: Policy) -> Latency:
        """Return what clients see, s, shape (n,).

        Decoding meets no prompts. A prompt waits for the prefill pool as in M/D/1 at the rate of the closed
        loop (Pollaczek and Khinchine); past its capacity the pool sets the rate and clients queue before it.
        Then the cache moves at ``link``.
        """
        load, copies = self.decode.load, self.prefill.steps.degrees.adp
        prompt = self.prefill.prompt.time(tuning)
        prompt = prompt * load.prompt / np.minimum(load.prompt, self.prefill.chunk)
        model, element = self.decode.steps.model, BYTES_PER_ELEMENT[self.decode.steps.precisions.kv]
        move = load.prompt * model.layers * model.kv_width * element / self.link
        fixed = policy.first_token + move + policy.prompt * prompt
        batch = load.clients / self.decode_workers
        for _ in range(4):
            step = self.decode.parts(np.maximum(batch, 1.0)).time(tuning)[0]
            token = self.decode.token(step, policy)
            service = prompt / copies / self.prefill_workers
            cycle = np.maximum(fixed + load.output * token, load.clients * service)
            busy = np.minimum(load.clients * service / cycle, BUSIEST)
            queued = np.minimum(busy / (2.0 * (1.0 - busy)), load.clients / 2.0) * service
            ttft = np.maximum(fixed + queued, cycle - load.output * token)
            batch = load.clients * load.output * token / (ttft + load.output * token) / self.decode_workers
        return Latency(ttft, np.asarray(token), batch * self.decode_workers)


@dataclass(frozen=True)
class PrefillPool:
    """Replicas that compute prompts and give the first tokens: arrays of shape (n,), s unless said otherwise.

    Attributes
    ----------
    busy
        Share of the time that prompts take, 0 to 1 where the pool keeps up.
    wait, spread
        Mean wait of a prompt; what the 99th percentile of the first token adds.
    ranks, copies
        GPUs that hold a part of each cache; groups of such GPUs in the pool.
    weights, working, prompt_cache
        Bytes per device: weights, transient, cache of a mean prompt.
    sequences
        Prompts whose cache a replica holds at once.
    """

    prefill: FloatArray
    busy: FloatArray
    wait: FloatArray
    spread: FloatArray
    ranks: FloatArray
    copies: FloatArray
    weights: FloatArray
    working: FloatArray
    prompt_cache: FloatArray
    sequences: FloatArray

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether prompts fit, and do not wait ever longer."""
        return np.asarray((self.busy < 1.0) & (self.sequences >= 1.0))

    @property
    def ttft(self) -> FloatArray:
        """Mean time to the first token."""
        return self.wait + self.prefill

    def take(self, rows: IntArray) -> PrefillPool:
        """Return some rows."""
        return PrefillPool(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class DecodePool:
    """Replicas that generate all tokens but the first: arrays of shape (n,), s unless said otherwise.

    Attributes
    ----------
    step, step_p99
        Mean time of a step and its 99th percentile.
    batch, max_batch
        Mean number of sequences on a replica, and the most that memory allows.
    ranks, copies
        GPUs that hold a part of each cache; groups of such GPUs in the pool.
    arriving
        Bytes of a mean prompt's cache that each of these GPUs receives.
    weights, working, kv_per_token
        Bytes per device: weights, transient, cache of one token.
    """

    step: FloatArray
    step_p99: FloatArray
    batch: FloatArray
    max_batch: FloatArray
    feasible: NDArray[np.bool_]
    ranks: FloatArray
    copies: FloatArray
    arriving: FloatArray
    weights: FloatArray
    working: FloatArray
    kv_per_token: FloatArray

    def take(self, rows: IntArray) -> DecodePool:
        """Return some rows."""
        return DecodePool(*(getattr(self, field.name)[rows] for field in fields(self)))


def cached_prompt(model: ServingModel) -> float:
    """Return the mean tokens of a prompt in the cache, those of its prefix and images included."""
    return context_tokens(model.job, model.model) - model.job.traffic.output.mean / 2.0


def prefill_pool(model: ServingModel) -> PrefillPool:
    """Return how strategies fare that compute all prompts of a job and nothing else."""
    rate = model.job.traffic.rate / model.many.replicas
    tokens = prompt_tokens(model.job, model.model)
    together = model.prompts_of_a_step(rate, tokens)
    prefill = model.prefill_time(tokens, copies=together)
    busy = rate * prefill / together / model.pp
    wait, spread = model.prompt_wait(busy, prefill)
    prompt = cached_prompt(model)
    return PrefillPool(
        prefill, busy, wait, spread, model.attention * model.pp, model.adp * model.many.replicas,
        model.weights(), model.working(model.number("prefill_chunk")), model.kv_per_token() * prompt,
        model.sequences(prompt),
    )  # fmt: skip


def decode_pool(model: ServingModel) -> DecodePool:
    """Return how strategies fare that generate the answers to all requests of a job and compute no prompts.

    ``b = rate * output * D(b)`` sequences decode together (Little), Poisson on each copy of attention.
    """
    rate, context = model.job.traffic.rate / model.many.replicas, context_tokens(model.job, model.model)
    batch = model.steady_batch(rate, np.ones_like(model.tp), context)
    finite = np.where(np.isfinite(batch), batch, 0.0)
    high = finite + NORMAL_99 * np.sqrt(finite * model.adp)
    most, step = model.max_batch(), model.decode_time(np.maximum(finite, 1.0), context)
    return DecodePool(
        step, model.decode_time(np.maximum(high, 1.0), context), batch, most,
        np.isfinite(batch) & (np.maximum(high, 1.0) <= most), model.attention * model.pp,
        model.adp * model.many.replicas, model.kv_per_token() * cached_prompt(model), model.weights(),
        model.working(model.number("prefill_chunk")), model.kv_per_token(),
    )  # fmt: skip


def cache_move(
    job: ServingJob, prefill: PrefillPool, decode: DecodePool, level: IntArray, fabric: Fabric
) -> tuple[FloatArray, FloatArray]:
    """Return the time to move the cache of a mean prompt from pool to pool, s, and how busy it keeps a port.

    Every GPU that decodes gets its part, in equal shares from those that have it; all move at once. Moves of
    several requests wait for one another at the busier end as in M/D/1.

    Parameters
    ----------
    level : ndarray, shape (n,)
        Level that the worst pair of GPUs crosses.
    """
    sent = decode.arriving * decode.ranks / prefill.ranks
    move = send(level, fabric).time(np.maximum(sent, decode.arriving))
    rate = job.traffic.rate
    out = rate / prefill.copies * send(level, fabric).time(sent)
    into = rate / decode.copies * send(level, fabric).time(decode.arriving)
    busy = np.maximum(out, into)
    free = np.maximum(1.0 - busy, 1e-9)
    return np.asarray(move + busy / (2.0 * free) * move), busy


def pooled(
    job: ServingJob, prefill: PrefillPool, decode: DecodePool, level: IntArray, fabric: Fabric
) -> ServingCosts:
    """Return what requests see of pairs of pools, row by row; memory is that of the decode pool.

    A prompt waits, is computed and gives the first token; then its cache moves, it joins the next step of the
    decode pool, and the other tokens follow one step each. The move counts among the tokens after the first,
    most where the answer is short.
    """
    traffic = job.traffic
    move, port = cache_move(job, prefill, decode, level, fabric)
    output = traffic.output.mean
    joined = move + decode.step / 2.0
    ttft = prefill.ttft
    latency = ttft + joined + (output - 1.0) * decode.step
    short = max(lognormal_p01(output, traffic.output.cv), 2.0)
    tpot = decode.step + joined / max(output - 1.0, 1.0)
    spread = joined / (short - 1.0) - joined / max(output - 1.0, 1.0)
    tpot_p99 = tpot + np.hypot(decode.step_p99 - decode.step, np.maximum(spread, 0.0))
    long_move = move * (lognormal_p99(1.0, traffic.prompt.cv) - 1.0)
    long_output = lognormal_p99(output, traffic.output.cv) - output
    latency_p99 = latency + np.hypot(
        prefill.spread + long_move,
        long_output * decode.step + (output - 1.0) * (decode.step_p99 - decode.step),
    )
    feasible = prefill.feasible & decode.feasible & (port < 1.0)
    return ServingCosts(
        prefill.prefill, decode.step, decode.batch, decode.max_batch, np.maximum(prefill.busy, 0.0), ttft,
        ttft + prefill.spread, tpot, tpot_p99, latency, latency_p99, feasible, decode.weights,
        decode.kv_per_token, decode.working,
    )  # fmt: skip
