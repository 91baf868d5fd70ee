"""Latency, throughput and memory of a served model, for many strategies at once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs import blocks, collectives
from planner.costs.coefficients import Calibration, DeviceRates
from planner.costs.collectives import Fabric
from planner.workload import BYTES_PER_ELEMENT, ServingJob, Transformer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NORMAL_99 = 2.3263478740408408
"""99th percentile of the standard normal law."""
ITERATIONS = 80


@dataclass(frozen=True)
class ServingCandidates:
    """Strategies as arrays of shape (n,): replicas, and the degrees inside one replica."""

    replicas: IntArray
    tp: IntArray
    pp: IntArray
    ep: IntArray

    def __len__(self) -> int:
        return len(self.tp)

    def take(self, rows: IntArray) -> ServingCandidates:
        """Return the strategies of some rows."""
        return ServingCandidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def ranks(self) -> IntArray:
        """GPUs in all."""
        return self.replicas * self.tp * self.pp


@dataclass(frozen=True)
class ServingSpans:
    """Members per domain of tensor and expert groups, shape (n, levels), and the worst stage hop."""

    tp: FloatArray
    expert: FloatArray
    pipeline: IntArray


@dataclass(frozen=True)
class ServingCosts:
    """Predicted behaviour; arrays of shape (n,), s unless said otherwise.

    Attributes
    ----------
    batch
        Mean number of sequences that decode together on a replica.
    max_batch
        Most sequences that memory (and the job's own cap) allow.
    feasible
        Whether a steady state within memory exists.
    weights, kv_per_token, working
        Bytes per device: weights, cache of one token, transient.
    """

    prefill: FloatArray
    decode: FloatArray
    batch: FloatArray
    max_batch: FloatArray
    utilisation: FloatArray
    ttft_mean: FloatArray
    ttft_p99: FloatArray
    tpot_mean: FloatArray
    tpot_p99: FloatArray
    latency_mean: FloatArray
    latency_p99: FloatArray
    feasible: NDArray[np.bool_]
    weights: FloatArray
    kv_per_token: FloatArray
    working: FloatArray


def prompt_tokens(job: ServingJob, model: Transformer) -> float:
    """Return the mean prompt tokens that have to be computed: text outside the prefix cache, and images."""
    text = job.traffic.prompt.mean * (1.0 - job.traffic.prefix)
    images = job.traffic.images * (model.vision.tokens if model.vision else 0)
    return text + images


def context_tokens(job: ServingJob, model: Transformer) -> float:
    """Return the mean tokens in the cache of a request halfway through its output."""
    images = job.traffic.images * (model.vision.tokens if model.vision else 0)
    return job.traffic.prompt.mean + images + job.traffic.output.mean / 2.0


def lognormal_p99(mean: float, cv: float) -> float:
    """Return the 99th percentile of a log-normal law of given mean and coefficient of variation."""
    variance = float(np.log1p(cv * cv))
    return mean * float(np.exp(NORMAL_99 * np.sqrt(variance) - variance / 2.0))


def serving_costs(
    job: ServingJob,
    model: Transformer,
    many: ServingCandidates,
    spans: ServingSpans,
    rates: DeviceRates,
    fabric: Fabric,
    calibration: Calibration,
) -> ServingCosts:
    """Return the predicted behaviour of every strategy under its spans and the job's traffic."""
    return ServingModel(job, model, many, spans, rates, fabric, calibration).costs()


class ServingModel:
    """Prefill and decode times of strategies; also what the simulator steps through."""

    def __init__(
        self,
        job: ServingJob,
        model: Transformer,
        many: ServingCandidates,
        spans: ServingSpans,
        rates: DeviceRates,
        fabric: Fabric,
        calibration: Calibration,
    ) -> None:
        self.job, self.model, self.many, self.spans = job, model, many, spans
        self.rates, self.fabric, self.number = rates, fabric, calibration.number
        self.tp, self.pp, self.ep = (array.astype(float) for array in (many.tp, many.pp, many.ep))
        self.element = BYTES_PER_ELEMENT[job.precision]
        self.kv_element = BYTES_PER_ELEMENT[job.kv_precision]

    # -- steps ---------------------------------------------------------------------------------------

    def prefill_time(self, tokens: FloatArray | float) -> FloatArray:
        """Return the time to compute a prompt of ``tokens``, through all stages, s, shape (n,)."""
        size = np.broadcast_to(np.asarray(tokens, dtype=float), self.tp.shape)
        layers = self._layers(size, size / 2.0, batch=np.ones_like(size))
        head = 2.0 * self.model.head_parameters / self.tp / self.rates.matmul
        return layers + head + self._hops(size) + self._vision()

    def decode_time(self, batch: FloatArray | float, context: float) -> FloatArray:
        """Return the time between two tokens of ``batch`` sequences with ``context`` cached tokens each, s.

        With ``pp`` stages the batch is split in as many parts that follow one another, so that a token
        passes all stages while the other parts occupy them.
        """
        size = np.maximum(np.broadcast_to(np.asarray(batch, dtype=float), self.tp.shape) / self.pp, 1e-9)
        keys = np.full_like(size, context)
        layers = self._layers(size, keys, batch=size)
        head_flops = 2.0 * size * self.model.head_parameters / self.tp
        head_bytes = self.model.head_parameters / self.tp * self.element
        head = np.maximum(head_flops / self.rates.matmul, head_bytes / self.rates.memory)
        return np.asarray(layers + head + self._hops(size))

    def _layers(self, tokens: FloatArray, context: FloatArray, batch: FloatArray) -> FloatArray:
        dense_count = self.model.dense_layers
        total = dense_count * self._layer(tokens, context, batch, moe=False)
        if self.model.experts is not None:
            total = total + (self.model.layers - dense_count) * self._layer(tokens, context, batch, moe=True)
        return total

    def _layer(self, tokens: FloatArray, context: FloatArray, batch: FloatArray, *, moe: bool) -> FloatArray:
        if moe:
            work = blocks.moe_layer(self.model, tokens, context, self.tp, self.ep, self.element)
        else:
            work = blocks.dense_layer(self.model, tokens, context, self.tp, self.element)
        gemm = np.maximum(work.gemm_flops / self.rates.matmul, work.weight_bytes / self.rates.memory)
        cache = batch * context * self.model.kv_width * self.kv_element / self._kv_share()
        attention = np.maximum(work.attention_flops / self.rates.attention, cache / self.rates.memory)
        moved = (work.stream_bytes + work.inner_bytes) / self.rates.memory
        other = moved + work.kernels * self.rates.overhead
        return gemm + attention + other + self._tensor(tokens, moe=moe) + self._expert(tokens, moe=moe)

    def _kv_share(self) -> FloatArray:
        """Over how many tensor ranks the cache is divided: never finer than one key/value head."""
        heads = 1.0 if self.model.latent is not None else float(self.model.kv_heads)
        return np.asarray(np.minimum(self.tp, heads))

    def _tensor(self, tokens: FloatArray, *, moe: bool) -> FloatArray:
        size = tokens * self.model.hidden * 2.0
        return 2.0 * collectives.all_reduce(size, self.tp, self.spans.tp, self.fabric).time(size)

    def _expert(self, tokens: FloatArray, *, moe: bool) -> FloatArray:
        if not moe or self.model.experts is None:
            return np.zeros_like(tokens)
        size = tokens / self.tp * self.model.experts.top_k * self.model.hidden * 2.0
        cost = collectives.all_to_all(size, self.ep, self.spans.expert, self.fabric)
        return np.where(self.ep > 1, 2.0 * cost.time(size), 0.0)

    def _hops(self, tokens: FloatArray) -> FloatArray:
        size = tokens * self.model.hidden * 2.0
        cost = collectives.send(self.spans.pipeline, self.fabric).time(size)
        return np.where(self.pp > 1, (self.pp - 1) * cost, 0.0)

    def _vision(self) -> FloatArray:
        if self.model.vision is None or not self.job.traffic.images:
            return np.zeros_like(self.tp)
        flops = 2.0 * self.job.traffic.images * self.model.vision.patches * self.model.vision_parameters
        return flops / self.tp / self.rates.matmul

    # -- memory --------------------------------------------------------------------------------------

    def weights(self) -> FloatArray:
        """Return the bytes of weights per device; the stage with the output head counts."""
        model = self.model
        moe_layers = model.layers - model.dense_layers
        layers = model.layers * model.attention_parameters + model.dense_layers * model.dense_mlp_parameters
        layers += moe_layers * model.shared_mlp_parameters
        routed = model.experts.num_experts * model.expert_parameters if model.experts is not None else 0
        experts = float(moe_layers * routed)
        stage = np.ceil(model.layers / self.pp) / model.layers
        one_end = max(model.embedding_parameters, model.head_parameters)
        both = model.embedding_parameters + (0 if model.tied_embeddings else model.head_parameters)
        ends = np.where(self.pp > 1, one_end, both)
        dense = (layers * stage + ends + model.vision_parameters) / self.tp
        return np.asarray((dense + experts * stage / self.ep) * self.element)

    def kv_per_token(self) -> FloatArray:
        """Return the bytes of cache that one token takes on a device."""
        layers = np.ceil(self.model.layers / self.pp)
        return layers * self.model.kv_width * self.kv_element / self._kv_share()

    def working(self, tokens: float) -> FloatArray:
        """Return the transient bytes of a step over ``tokens`` tokens."""
        width = 4 * self.model.hidden + 3 * self.model.ffn / self.tp
        return tokens * width * 2.0 + tokens * self.model.vocab / self.tp / 8.0

    # -- steady state --------------------------------------------------------------------------------

    def max_batch(self) -> FloatArray:
        """Return the most sequences that fit beside the weights, capped by the job, 0 when none does."""
        margin = 1.0 - self.number("memory_margin")
        room = self.rates.capacity * margin - self.number("context_bytes") - self.weights()
        room = room - self.working(self.number("prefill_chunk"))
        length = context_tokens(self.job, self.model) + self.job.traffic.output.mean / 2.0
        fits = np.floor(np.maximum(room, 0.0) / (self.kv_per_token() * length))
        cap = self.job.max_batch if self.job.max_batch is not None else self.number("max_batch")
        return np.minimum(fits, cap)

    def costs(self) -> ServingCosts:
        """Return the steady state under the offered rate.

        Prefills go first and take a share ``rho`` of the engine, decode steps the rest:
        ``tpot = D(b) / (1 - rho)`` with ``b = rate * output * tpot`` (Little). Prompts wait as in M/G/1
        (Pollaczek and Khinchine) with an exponential tail; deviations of independent parts add in squares.
        """
        traffic = self.job.traffic
        rate = traffic.rate / self.many.replicas
        context = context_tokens(self.job, self.model)
        prefill = self.prefill_time(prompt_tokens(self.job, self.model))
        busy = rate * prefill / self.pp
        free = np.maximum(1.0 - busy, 1e-9)
        batch = self._steady_batch(rate, free, context)
        burst = batch + NORMAL_99 * np.sqrt(batch)
        finite = np.where(np.isfinite(batch), batch, 0.0)
        decode = self.decode_time(np.maximum(finite, 1.0), context)
        tpot = decode / free
        tpot_p99 = self.decode_time(np.maximum(finite + NORMAL_99 * np.sqrt(finite), 1.0), context) / free
        limit = self.max_batch()
        wait = busy * prefill * (1.0 + traffic.prompt.cv**2) * (0.5 + traffic.cv**2 / 2.0) / 2.0 / free
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = np.where(
                busy > 0.01, np.log(np.maximum(busy, 1e-12) / 0.01) * wait / np.maximum(busy, 1e-12), wait
            )
        long_prompt = prefill * lognormal_p99(1.0, traffic.prompt.cv)
        ttft = wait + prefill + decode
        ttft_p99 = ttft + np.hypot(np.maximum(tail - wait, 0.0), long_prompt - prefill)
        output = traffic.output.mean
        latency = ttft + (output - 1.0) * tpot
        long_output = lognormal_p99(output, traffic.output.cv) - output
        latency_p99 = latency + np.hypot(
            ttft_p99 - ttft, long_output * tpot + (output - 1.0) * (tpot_p99 - tpot)
        )
        feasible = (busy < 1.0) & np.isfinite(batch) & (np.maximum(burst, 1.0) <= limit)
        return ServingCosts(
            prefill, decode, batch, limit, busy + (1.0 - busy) * -np.expm1(-batch), ttft, ttft_p99, tpot,
            tpot_p99, latency, latency_p99, feasible, self.weights(), self.kv_per_token(),
            self.working(self.number("prefill_chunk")),
        )  # fmt: skip

    def _steady_batch(self, rate: FloatArray, free: FloatArray, context: float) -> FloatArray:
        """Return the smallest fixed point of ``b = rate * output * D(b) / free``, infinite without one."""
        output = self.job.traffic.output.mean
        ceiling = 4.0 * float(self.number("max_batch"))
        low, high = np.zeros_like(free), np.full_like(free, ceiling)
        beyond = rate * output * self.decode_time(np.maximum(high, 1.0), context) / free > high
        for _ in range(ITERATIONS):
            middle = (low + high) / 2.0
            more = rate * output * self.decode_time(np.maximum(middle, 1.0), context) / free > middle
            low, high = np.where(more, middle, low), np.where(more, high, middle)
        return np.where(beyond, np.inf, high)
