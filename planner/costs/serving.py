"""Latency, throughput and memory of a served model, for many strategies at once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from planner.costs import collectives
from planner.costs.coefficients import Calibration, DeviceRates, device_rates
from planner.costs.collectives import Fabric
from planner.costs.engine import EngineDegrees, Precisions, StepModel, Tuning, engine_number
from planner.costs.engine_collectives import engine_all_reduce, engine_surface
from planner.costs.kernels import Kernels, kernels
from planner.topology import Device
from planner.workload import BYTES_PER_ELEMENT, ServingJob, Transformer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NORMAL_99 = 2.3263478740408408
"""99th percentile of the standard normal law."""
BATCHES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0,
           512.0, 768.0, 1024.0, 2048.0)  # fmt: skip
"""Sequences at which decode steps are priced; a line goes through the times between."""
CONTEXTS = (0.0, 512.0, 2048.0, 8192.0, 32_768.0, 131_072.0, 1_048_576.0)
"""Cached tokens at which decode steps are priced, here and in the simulator; lines go between."""
ITERATIONS = 80
PRECISION = 1e-10
"""Relative distance from the fixed point at which the search for the batch ends."""
ENGINE = "vllm"
"""Engine whose coefficients plans use, and whose arguments they are emitted as."""


@dataclass(frozen=True)
class ServingRates(DeviceRates):
    """Rates of a device and its kernels.

    Attributes
    ----------
    graphs
        Whether decode steps run as CUDA graphs.
    """

    kernels: Kernels
    graphs: bool


def serving_rates(
    device: Device, precision: str, calibration: Calibration, *, graphs: bool = True
) -> ServingRates:
    """Return what a device reaches when it serves at a data type."""
    rates = device_rates(device, precision, calibration, graphs=graphs)
    own = {field.name: getattr(rates, field.name) for field in fields(DeviceRates)}
    return ServingRates(**own, kernels=kernels(device, calibration), graphs=graphs)


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
    rates: ServingRates,
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
        rates: ServingRates,
        fabric: Fabric,
        calibration: Calibration,
    ) -> None:
        self.job, self.model, self.many, self.spans = job, model, many, spans
        self.rates, self.fabric, self.number = rates, fabric, calibration.number
        self.tp, self.pp, self.ep = (array.astype(float) for array in (many.tp, many.pp, many.ep))
        self.element = BYTES_PER_ELEMENT[job.precision]
        self.kv_element = BYTES_PER_ELEMENT[job.kv_precision]
        self._calibration = calibration
        self._decode: dict[float, FloatArray] = {}
        self._tuning = Tuning.of(calibration, ENGINE)
        self._steps = self._step_model(np.arange(len(self.tp)))

    def _step_model(self, rows: IntArray) -> StepModel:
        """Return the steps of some strategies, rows as often as wanted."""
        plain = {"fp16": "bf16"}
        weights, kept = (plain.get(one, one) for one in (self.job.precision, self.job.kv_precision))
        degrees = EngineDegrees(self.tp, self.pp, np.ones_like(self.tp), self.tp / self.ep, self.ep).take(
            rows
        )
        spans = self.spans.tp[rows]

        def all_reduce(size: FloatArray, group: FloatArray) -> FloatArray:
            return self._all_reduce(np.broadcast_to(size, group.shape), group, spans)

        precisions = Precisions(weights, weights, kept)
        return StepModel(self.model, degrees, precisions, self.rates.kernels, all_reduce)

    # -- steps ---------------------------------------------------------------------------------------

    def prefill_time(self, tokens: FloatArray | float, past: float = 0.0) -> FloatArray:
        """Return the time to compute a prompt of ``tokens`` after ``past`` cached ones, s, shape (n,)."""
        size = np.broadcast_to(np.asarray(tokens, dtype=float), self.tp.shape)
        step = self._steps.parts(1.0, size, past, 0.0, 1.0).time(self._tuning)
        return np.asarray(step + self._hops(size) + self._vision())

    def decode_time(self, batch: FloatArray | float, context: float) -> FloatArray:
        """Return the time between two tokens of ``batch`` sequences with ``context`` cached tokens each, s.

        One batch for all strategies, one for each of them, or many for a single strategy.
        With ``pp`` stages the batch is split in as many parts that follow one another, so that a token
        passes all stages while the other parts occupy them. Times are those of :data:`BATCHES` and
        :data:`CONTEXTS` and lie on lines between; none is below that of a smaller batch: an engine can pad,
        and measured kernels have seams.
        """
        size = np.maximum(np.asarray(batch, dtype=float) / self.pp, 1.0)
        last = int(np.clip(np.searchsorted(CONTEXTS, context, side="right"), 1, len(CONTEXTS) - 1))
        first, second = CONTEXTS[last - 1], CONTEXTS[last]
        share = (context - first) / (second - first)
        step = (1.0 - share) * self._at_batch(size, first) + share * self._at_batch(size, second)
        return np.asarray(step + self._hops(size))

    def _at_batch(self, size: FloatArray, context: float) -> FloatArray:
        if context not in self._decode:
            steps = self._decode_steps(np.asarray(BATCHES), context)
            self._decode[context] = np.maximum.accumulate(steps, axis=0)
        table, grid = self._decode[context], np.asarray(BATCHES)
        left = np.clip(np.searchsorted(grid, size, side="right") - 1, 0, len(grid) - 2)
        row = np.arange(table.shape[1])
        share = (size - grid[left]) / (grid[left + 1] - grid[left])
        return np.asarray(table[left, row] + share * (table[left + 1, row] - table[left, row]))

    def added_time(self, tokens: float) -> FloatArray:
        """Return by how much a prompt lengthens the decode step that it shares, s: weights are read once."""
        step = self._decode_steps(np.ones(1), 1.0)[0] + self._hops(np.ones_like(self.tp))
        return np.asarray(np.maximum(self.prefill_time(tokens) - step, 0.0))

    def _decode_steps(self, batches: FloatArray, context: float) -> FloatArray:
        """Return the times of steps of so many sequences, s, shape (batches, n).

        Without CUDA graphs the host launches every layer.
        """
        count = len(self.tp)
        rows = np.tile(np.arange(count), len(batches))
        size = np.repeat(batches, count)
        parts = self._step_model(rows).parts(0.0, 0.0, 0.0, size, context)
        if not self.rates.graphs:
            parts = replace(parts, prompts=np.ones_like(size))
        return parts.time(self._tuning).reshape(len(batches), count)

    def _all_reduce(self, sizes: FloatArray, group: FloatArray, spans: FloatArray) -> FloatArray:
        """Return the time of an all-reduce: the engine's own kernels where faster and all is near."""
        across = collectives.all_reduce(sizes, group, spans, self.fabric).time(sizes)
        domain = self.fabric.inside
        if not self._calibration.engines or domain is None:
            return across
        near, device = np.minimum(group, self.number("engine_domain")), self.rates.kernels.device
        if engine_surface(device, self._calibration, ENGINE).link != domain.surface.link:
            return across
        own = engine_all_reduce(sizes, near, device, self._calibration, engine=ENGINE, rate=domain.rate)
        inside = (spans[:, 0] >= group) & (near >= group)
        return np.where(inside, np.minimum(own, across), across)

    def _kv_share(self) -> FloatArray:
        """Over how many tensor ranks the cache is divided: never finer than one key/value head."""
        heads = 1.0 if self.model.latent is not None else float(self.model.kv_heads)
        return np.asarray(np.minimum(self.tp, heads))

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
        return np.asarray((dense + experts * stage / self.tp) * self.element)

    def kv_per_token(self) -> FloatArray:
        """Return the bytes of cache that one token takes on a device."""
        layers = np.ceil(self.model.layers / self.pp)
        return np.asarray(layers * self.model.kv_width * self.kv_element / self._kv_share())

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
        block = engine_number(self._calibration, "block", ENGINE)
        blocks = np.floor(np.maximum(room, 0.0) / (self.kv_per_token() * block))
        fits = np.floor(blocks / np.ceil(length / block))
        cap = self.job.max_batch if self.job.max_batch is not None else self.number("max_batch")
        return np.asarray(np.minimum(fits, cap))

    def costs(self) -> ServingCosts:
        """Return the steady state under the offered rate.

        Prompts share steps with decoding sequences; what they add (:meth:`added_time`) takes a share ``rho``
        of the engine, decode steps the rest:
        ``tpot = D(b) / (1 - rho)`` with ``b = rate * output * tpot`` (Little). Prompts wait as in M/G/1
        (Pollaczek and Khinchine) with an exponential tail; deviations of independent parts add in squares.
        """
        traffic = self.job.traffic
        rate = traffic.rate / self.many.replicas
        context = context_tokens(self.job, self.model)
        prefill = self.prefill_time(prompt_tokens(self.job, self.model))
        busy = rate * self.added_time(prompt_tokens(self.job, self.model)) / self.pp
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

        def excess(batch: FloatArray) -> FloatArray:
            return np.asarray(
                rate * output * self.decode_time(np.maximum(batch, 1.0), context) / free - batch
            )

        low, high = np.zeros_like(free), np.full_like(free, ceiling)
        above, below = excess(low), excess(high)
        beyond, kept = below > 0.0, np.zeros_like(free)
        for _ in range(ITERATIONS):  # false position; an end that stays twice is halved (Illinois)
            with np.errstate(divide="ignore", invalid="ignore"):
                middle = np.where(beyond, high, (low * below - high * above) / (below - above))
            value = excess(middle)
            more = value > 0.0
            below = np.where(more & (kept > 0), below / 2.0, below)
            above = np.where(~more & (kept < 0), above / 2.0, above)
            low, above = np.where(more, middle, low), np.where(more, value, above)
            high, below = np.where(more, high, middle), np.where(more, below, value)
            kept = np.where(more, 1.0, -1.0)
            if np.all(beyond | (np.abs(value) <= PRECISION * np.maximum(middle, 1e-12))):
                break
        return np.where(beyond, np.inf, middle)
