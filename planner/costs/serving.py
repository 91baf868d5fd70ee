"""Latency, throughput and memory of a served model, for many strategies at once."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from planner.costs import collectives
from planner.costs.coefficients import Calibration
from planner.costs.collectives import Fabric
from planner.costs.engine import EngineDegrees, Precisions, StepModel, Tuning, engine_number
from planner.costs.engine_collectives import engine_all_reduce, engine_surface
from planner.costs.serving_records import (
    NORMAL_99,
    FloatArray,
    IntArray,
    ServingCandidates,
    ServingCosts,
    ServingRates,
    ServingSpans,
    context_tokens,
    lognormal_p99,
    prompt_tokens,
)
from planner.workload import BYTES_PER_ELEMENT, ServingJob, Transformer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

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
        degrees = (many.tp, many.pp, many.ep, many.adp)
        self.tp, self.pp, self.ep, self.adp = (array.astype(float) for array in degrees)
        self.attention = self.tp / self.adp
        self.element = BYTES_PER_ELEMENT[job.precision]
        self.expert_element = BYTES_PER_ELEMENT[job.expert_precision or job.precision]
        self.kv_element = BYTES_PER_ELEMENT[job.kv_precision]
        self._calibration = calibration
        self._decode: dict[float, FloatArray] = {}
        self._tuning = Tuning.of(calibration, ENGINE)
        key = [self.tp, self.pp, self.ep, self.adp, spans.tp, spans.attention, spans.pipeline]
        self._some, place = np.unique(np.column_stack(key), axis=0, return_index=True, return_inverse=True)[
            1:
        ]
        self._place = place.ravel()

    # Strategies that differ in their replicas alone have the same steps: those of the rows ``_some``, of
    # which ``_place`` has one for every row.

    def _step_model(self, rows: IntArray) -> StepModel:
        """Return the steps of some strategies, rows as often as wanted."""
        degrees = EngineDegrees(self.attention, self.pp, self.adp, self.tp / self.ep, self.ep).take(rows)
        stage, near = self.spans.tp[rows], self.spans.attention[rows]
        whole = degrees.stage

        def all_reduce(size: FloatArray, group: FloatArray) -> FloatArray:
            spans = np.where((group == whole)[:, None], stage, near)
            return self._all_reduce(np.broadcast_to(size, group.shape), group, spans)

        return StepModel(self.model, degrees, self._precisions, self.rates.kernels, all_reduce)

    @property
    def _precisions(self) -> Precisions:
        plain = {"fp16": "bf16"}
        own = (self.job.precision, self.job.expert_precision or self.job.precision, self.job.kv_precision)
        weights, experts, kept = (plain.get(one, one) for one in own)
        return Precisions(weights, experts, kept)

    # -- steps ---------------------------------------------------------------------------------------

    def prefill_time(
        self, tokens: FloatArray | float, past: float = 0.0, copies: ArrayLike = 1.0
    ) -> FloatArray:
        """Return the time to compute a prompt of ``tokens`` after ``past`` cached ones, s, shape (n,).

        Parameters
        ----------
        copies
            Copies of attention that each compute such a prompt in the step; times between those of one copy
            and of all lie on a line.
        """
        size = np.broadcast_to(np.asarray(tokens, dtype=float), self.tp.shape)
        alike = np.ndim(tokens) == 0
        rows, place = (self._some, self._place) if alike else (self._every, self._every)
        parts = (self._few if alike else self._all).parts(1.0, size[rows], past, 0.0, 1.0)
        step = parts.time(self._tuning)[place]
        if np.any(self.adp > 1.0):
            lone = self._lone(rows).parts(1.0, size[rows], past, 0.0, 1.0)
            lone = replace(lone, messages=parts.messages, transfer=parts.transfer / self.adp[rows])
            share = (self.adp - np.asarray(copies, dtype=float)) / np.maximum(self.adp - 1.0, 1.0)
            step = step + share * (lone.time(self._tuning)[place] - step)
        return np.asarray(step + self._hops(size) + self._vision())

    @property
    def _every(self) -> IntArray:
        return np.arange(len(self.tp))

    @cached_property
    def _few(self) -> StepModel:
        return self._step_model(self._some)

    @cached_property
    def _all(self) -> StepModel:
        return self._step_model(self._every)

    def _lone(self, rows: IntArray) -> StepModel:
        """Return steps in which one copy of attention has tokens; their messages are not known."""
        one = np.ones_like(self.tp)
        degrees = EngineDegrees(self.attention, self.pp, one, self.tp / self.ep, self.ep).take(rows)
        return StepModel(self.model, degrees, self._precisions, self.rates.kernels, lambda size, _: size)

    def decode_time(self, batch: FloatArray | float, context: float) -> FloatArray:
        """Return the time between two tokens of ``batch`` sequences with ``context`` cached tokens each, s.

        One batch of a replica for all strategies, one for each of them, or many for a single strategy; copies
        of attention share it evenly. With ``pp`` stages the batch is split in as many parts that follow one
        another, so that a token passes all stages while the other parts occupy them. Times are those of
        :data:`BATCHES` and :data:`CONTEXTS` and lie on lines between; none is below that of a smaller batch:
        an engine can pad, and measured kernels have seams.
        """
        size = np.maximum(np.asarray(batch, dtype=float) / (self.pp * self.adp), 1.0)
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
        row = self._place
        share = (size - grid[left]) / (grid[left + 1] - grid[left])
        return np.asarray(table[left, row] + share * (table[left + 1, row] - table[left, row]))

    def added_time(self, tokens: float, copies: ArrayLike = 1.0) -> FloatArray:
        """Return by how much prompts lengthen the decode step that they share, s: weights are read once."""
        return np.asarray(np.maximum(self.prefill_time(tokens, copies=copies) - self._least_step(), 0.0))

    def prompts_of_a_step(self, rate: FloatArray, tokens: float) -> FloatArray:
        r"""Return how many prompts share a step, each on a copy of attention of its own.

        As many as come during the step, :math:`n = \lambda P(n)`; at least one, and at most one per copy.
        """
        one = np.ones_like(self.tp)
        if np.all(self.adp <= 1.0):
            return one
        first, least = self.prefill_time(tokens), self._least_step()
        more = (self.prefill_time(tokens, copies=self.adp) - first) / np.maximum(self.adp - 1.0, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            met = rate * (np.maximum(first, least) - more) / (1.0 - rate * more)
        return np.clip(np.where(rate * more < 1.0, met, self.adp), 1.0, self.adp)

    def _least_step(self) -> FloatArray:
        """Return the time of a decode step of one sequence on each copy, s."""
        return np.asarray(
            self._decode_steps(np.ones(1), 1.0)[0, self._place] + self._hops(np.ones_like(self.tp))
        )

    def _decode_steps(self, batches: FloatArray, context: float) -> FloatArray:
        """Return the times of steps of so many sequences, s, shape (batches, number of different strategies).

        Without CUDA graphs the host launches every layer.
        """
        count = len(self._some)
        rows = np.tile(self._some, len(batches))
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
        """Return over how many GPUs of an attention copy the cache is divided, one head at least on each."""
        heads = 1.0 if self.model.latent is not None else float(self.model.kv_heads)
        return np.asarray(np.minimum(self.attention, heads))

    def _hops(self, tokens: FloatArray) -> FloatArray:
        size = tokens * self.model.hidden * 2.0
        cost = collectives.send(self.spans.pipeline, self.fabric).time(size)
        return np.where(self.pp > 1, (self.pp - 1) * cost, 0.0)

    def _vision(self) -> FloatArray:
        if self.model.vision is None or not self.job.traffic.images:
            return np.zeros_like(self.tp)
        flops = 2.0 * self.job.traffic.images * self.model.vision.patches * self.model.vision_parameters
        return np.asarray(flops / self.attention / self.rates.matmul)

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
        dense = (layers * stage + ends + model.vision_parameters) / self.attention
        return np.asarray(dense * self.element + experts * stage / self.tp * self.expert_element)

    def kv_per_token(self) -> FloatArray:
        """Return the bytes of cache that one token takes on a device."""
        layers = np.ceil(self.model.layers / self.pp)
        return np.asarray(layers * self.model.kv_width * self.kv_element / self._kv_share())

    def working(self, tokens: float) -> FloatArray:
        """Return the transient bytes of a step over ``tokens`` tokens."""
        width = 4 * self.model.hidden + 3 * self.model.ffn / self.attention
        return np.asarray(tokens * width * 2.0 + tokens * self.model.vocab / self.attention / 8.0)

    # -- steady state --------------------------------------------------------------------------------

    def max_batch(self) -> FloatArray:
        """Return the most sequences of a replica that fit beside the weights, 0 when none does."""
        return self.sequences(context_tokens(self.job, self.model) + self.job.traffic.output.mean / 2.0)

    def sequences(self, length: float) -> FloatArray:
        """Return how many sequences of ``length`` tokens fit beside a replica's weights, 0 when none does.

        Capped by the job and by what an engine takes; copies of attention hold equally many.
        """
        margin = 1.0 - self.number("memory_margin")
        room = self.rates.capacity * margin - self.number("context_bytes") - self.weights()
        room = room - self.working(self.number("prefill_chunk"))
        block = engine_number(self._calibration, "block", ENGINE)
        blocks = np.floor(np.maximum(room, 0.0) / (self.kv_per_token() * block))
        fits = np.floor(blocks / np.ceil(length / block))
        if self.job.max_batch is None:
            return np.asarray(np.minimum(fits, self.number("max_batch")) * self.adp)
        return np.asarray(np.minimum(fits, np.floor(self.job.max_batch / self.adp)) * self.adp)

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
        prompt = prompt_tokens(self.job, self.model)
        together = self.prompts_of_a_step(rate, prompt)
        prefill = self.prefill_time(prompt, copies=together)
        busy = rate * self.added_time(prompt, together) / together / self.pp
        free = np.maximum(1.0 - busy, 1e-9)
        batch = self.steady_batch(rate, free, context)
        burst = batch + NORMAL_99 * np.sqrt(batch * self.adp)
        finite = np.where(np.isfinite(batch), batch, 0.0)
        decode = self.decode_time(np.maximum(finite, 1.0), context)
        tpot = decode / free
        high = np.maximum(finite + NORMAL_99 * np.sqrt(finite * self.adp), 1.0)
        tpot_p99 = self.decode_time(high, context) / free
        limit = self.max_batch()
        wait, spread = self.prompt_wait(busy, prefill)
        ttft = wait + prefill + decode
        ttft_p99 = ttft + spread
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

    def prompt_wait(self, busy: FloatArray, prefill: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the mean wait of a prompt, and what its 99th percentile, own length included, adds, s.

        Parameters
        ----------
        busy
            Share of the time that prompts take.
        prefill
            Time of a prompt, s.
        """
        traffic, free = self.job.traffic, np.maximum(1.0 - busy, 1e-9)
        wait = busy * prefill * (1.0 + traffic.prompt.cv**2) * (0.5 + traffic.cv**2 / 2.0) / 2.0 / free
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = np.where(
                busy > 0.01, np.log(np.maximum(busy, 1e-12) / 0.01) * wait / np.maximum(busy, 1e-12), wait
            )
        long_prompt = prefill * lognormal_p99(1.0, traffic.prompt.cv)
        return wait, np.hypot(np.maximum(tail - wait, 0.0), long_prompt - prefill)

    def steady_batch(self, rate: FloatArray, free: FloatArray, context: float) -> FloatArray:
        """Return the smallest fixed point of ``b = rate * output * D(b) / free``, infinite without one."""
        output = self.job.traffic.output.mean
        ceiling = 4.0 * float(self.number("max_batch")) * self.adp

        def excess(batch: FloatArray) -> FloatArray:
            return np.asarray(
                rate * output * self.decode_time(np.maximum(batch, 1.0), context) / free - batch
            )

        low, high = np.zeros_like(free), ceiling
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
