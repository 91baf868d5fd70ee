"""Time and memory of a training step, for many strategies at once.

Every quantity of a stage is affine in its numbers of dense and mixture-of-experts layers, so that a
solver can choose uneven layers with exactly the numbers that the judge uses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs import blocks, collectives
from planner.costs.coefficients import Calibration, DeviceRates
from planner.costs.collectives import Fabric
from planner.costs.footprint import kept_bytes, static_bytes, working_bytes
from planner.costs.strategy import (
    ACTIVATION_BYTES,
    MASTER_BYTES,
    RECOMPUTE,
    SHARDING,
    Candidates,
    JobShape,
    Setting,
    Spans,
)
from planner.costs.synchronise import synchronisation, update

__all__ = [
    "ACTIVATION_BYTES",
    "MASTER_BYTES",
    "RECOMPUTE",
    "SHARDING",
    "Candidates",
    "JobShape",
    "Spans",
    "StageCosts",
    "stage_costs",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class StageCosts:
    """Affine stage costs; arrays of shape (n,) in s, bytes, or parameters.

    Times are per micro-batch, forward and backward together. A stage with :math:`d` dense and :math:`e`
    expert layers takes ``dense * d + moe * e + hop`` plus ``first`` and ``last`` where it applies.
    """

    num_micro_batches: FloatArray
    dense: FloatArray
    moe: FloatArray
    first: FloatArray
    last: FloatArray
    hop: FloatArray
    sync_alpha: FloatArray
    sync_dense: FloatArray
    sync_moe: FloatArray
    sync_first: FloatArray
    sync_last: FloatArray
    update_dense: FloatArray
    update_moe: FloatArray
    update_first: FloatArray
    update_last: FloatArray
    static_base: FloatArray
    static_dense: FloatArray
    static_moe: FloatArray
    static_first: FloatArray
    static_last: FloatArray
    kept_dense: FloatArray
    kept_moe: FloatArray
    peak_working: FloatArray
    backward_share: FloatArray
    overlap: float
    breakdown: dict[str, FloatArray]
    algorithms: dict[str, IntArray]

    def take(self, rows: IntArray) -> StageCosts:
        """Return the costs of some rows."""
        values: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, dict):
                values[field.name] = {name: array[rows] for name, array in value.items()}
            else:
                values[field.name] = value[rows] if isinstance(value, np.ndarray) else value
        return StageCosts(**values)  # type: ignore[arg-type]


def stage_costs(
    shape: JobShape,
    many: Candidates,
    spans: Spans,
    rates: DeviceRates,
    fabric: Fabric,
    calibration: Calibration,
) -> StageCosts:
    """Return the affine stage costs of every strategy under its spans."""
    setting = Setting(shape, many, spans, rates, fabric, calibration)
    return _StageModel(setting).costs()


class _StageModel:
    """Times of layers and pipeline edges; what one evaluation shares is in the setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.shape, self.model, self.many, self.spans = (
            setting.shape,
            setting.model,
            setting.many,
            setting.spans,
        )
        self.rates, self.fabric, self.number = setting.rates, setting.fabric, setting.number
        self.tp, self.cp, self.ep, self.tokens = setting.tp, setting.cp, setting.ep, setting.tokens
        seen = 2.0 if self.shape.flash else 1.0  # only a fused kernel skips the masked half of the scores
        self.context = np.full(len(self.many), self.shape.sequence / seen)

    def costs(self) -> StageCosts:
        many, setting = self.many, self.setting
        parts_dense, parts_moe = self._layer_parts(moe=False), self._layer_parts(moe=True)
        first, last = self._edges()
        sync, step, static = synchronisation(setting), update(setting), static_bytes(setting)
        breakdown = {f"dense_{name}": value for name, value in parts_dense.items()}
        breakdown |= {f"moe_{name}": value for name, value in parts_moe.items()}
        return StageCosts(
            num_micro_batches=self.shape.global_batch / (many.dp * many.micro_batch).astype(float),
            dense=_total(parts_dense), moe=_total(parts_moe), first=first, last=last, hop=self._hop(),
            sync_alpha=sync.alpha, sync_dense=sync.dense, sync_moe=sync.moe,
            sync_first=sync.first, sync_last=sync.last,
            update_dense=step.dense, update_moe=step.moe, update_first=step.first, update_last=step.last,
            static_base=np.full(len(many), self.number("context_bytes")),
            static_dense=static[0], static_moe=static[1], static_first=static[2], static_last=static[3],
            kept_dense=kept_bytes(setting, moe=False), kept_moe=kept_bytes(setting, moe=True),
            peak_working=working_bytes(setting),
            backward_share=np.full(len(many), 2.0 / 3.0), overlap=self.number("data_parallel_overlap"),
            breakdown=breakdown, algorithms={"data": sync.algorithm},
        )  # fmt: skip

    # -- time of a layer -----------------------------------------------------------------------------

    def _work(self, *, moe: bool) -> blocks.LayerWork:
        if moe:
            return blocks.moe_layer(
                self.model, self.tokens, self.context, self.tp, self.ep, self.shape.element
            )
        return blocks.dense_layer(self.model, self.tokens, self.context, self.tp, self.shape.element)

    def _layer_parts(self, *, moe: bool) -> dict[str, FloatArray]:
        """Return the parts of a layer's time, forward and backward, s per micro-batch."""
        nothing = np.zeros(len(self.many))
        if moe and self.model.experts is None:
            return dict.fromkeys(
                ("gemm", "attention", "memory", "recompute", "tp", "cp", "ep", "fsdp"), nothing
            )
        work = self._work(moe=moe)
        gemm = np.maximum(work.gemm_flops / self.rates.matmul, work.weight_bytes / self.rates.memory)
        attention = work.attention_flops / self.rates.attention
        elementwise = (work.stream_bytes / self.setting.parted + work.inner_bytes) / self.rates.memory
        scores = nothing if self.shape.flash else self._score_traffic()
        memory = elementwise + scores + work.kernels * self.rates.overhead
        forward = gemm + attention + memory
        tp, cp, ep = self._tensor_comm(moe=moe), self._context_comm(attention), self._expert_comm(moe=moe)
        selective = elementwise / 2 if self.shape.flash else attention + scores
        again = np.choose(self.many.recompute, [nothing, selective, forward + tp / 2 + ep / 2])
        core = (1.0 + self._attention_backward()) * attention
        compute = 3 * gemm + core + 3 * memory
        return {
            "gemm": 3 * gemm, "attention": core, "memory": 3 * memory, "recompute": again,
            "tp": tp, "cp": cp, "ep": ep, "fsdp": self._fsdp(compute, moe=moe),
        }  # fmt: skip

    def _attention_backward(self) -> float:
        """Backward over forward work of the attention core: a fused kernel computes the scores once more.

        Five matrix products against two (T. Dao et al., "FlashAttention", 2022); four against two otherwise.
        """
        return 2.5 if self.shape.flash else 2.0

    def _score_traffic(self) -> FloatArray:
        """Time to write and read scores and probabilities in memory, forward, without a fused kernel, s."""
        scores = self.tokens * self.shape.sequence * self.model.heads / self.tp
        return np.asarray(scores * 4 * ACTIVATION_BYTES / self.rates.memory)

    def _tensor_comm(self, *, moe: bool) -> FloatArray:
        """All-reduces (or reduce-scatter with all-gather) of a layer, forward and backward."""
        size = self.tokens * self.model.hidden * ACTIVATION_BYTES
        cost = collectives.all_reduce(size, self.tp, self.spans.tp, self.fabric)
        halves = collectives.reduce_scatter(size, self.tp, self.spans.tp, self.fabric)
        once = np.where(self.many.sequence_parallel == 1, 2 * halves.time(size), cost.time(size))
        blocks_per_layer = 1.0 if moe and not self._shared() else 2.0
        exposed = 1.0 - self.number("tensor_parallel_overlap")
        return np.asarray(2 * blocks_per_layer * once * exposed)

    def _shared(self) -> bool:
        return self.model.experts is not None and self.model.experts.shared_ffn > 0

    def _context_comm(self, attention: FloatArray) -> FloatArray:
        """Ring attention: keys and values go round once forward, twice backward, behind attention."""
        kv = self.tokens * self.model.kv_width * ACTIVATION_BYTES / self.tp
        cost = collectives.reduce_scatter(kv * self.cp, self.cp, self.spans.cp, self.fabric)
        around = cost.time(kv * self.cp)
        hidden = self.number("context_parallel_overlap")
        exposed = np.maximum(around - hidden * attention, (1 - hidden) * around)
        return np.asarray(np.where(self.cp > 1, 3 * exposed, 0.0))

    def _expert_comm(self, *, moe: bool) -> FloatArray:
        if not moe or self.model.experts is None:
            return np.zeros(len(self.many))
        size = self.tokens / self.tp * self.model.experts.top_k * self.model.hidden * ACTIVATION_BYTES
        cost = collectives.all_to_all(size, self.ep, self.spans.expert, self.fabric)
        exposed = 1.0 - self.number("expert_parallel_overlap")
        return np.where(self.ep > 1, 4 * exposed * cost.time(size), 0.0)

    def _fsdp(self, compute: FloatArray, *, moe: bool) -> FloatArray:
        """Exposed traffic of sharding per micro-batch.

        Sharded gradients are scattered after every backward pass; sharded parameters are gathered before
        the forward and again before the backward pass as well (Rajbhandari et al., ZeRO, 2020, section 5).
        """
        parameters = self.setting.sharded_parameters(moe=moe)
        gather = parameters * ACTIVATION_BYTES
        scatter = parameters * self.number("gradient_bytes")
        group, members = self.setting.data, self.spans.data
        gathers = 2 * collectives.all_gather(gather, group, members, self.fabric).time(gather)
        scatters = collectives.reduce_scatter(scatter, group, members, self.fabric).time(scatter)
        total = np.select(
            [self.many.sharding == 3, self.many.sharding == 2], [gathers + scatters, scatters], 0.0
        )
        hidden = self.number("data_parallel_overlap")
        return np.asarray(np.maximum(total - hidden * compute, (1.0 - hidden) * total))

    # -- edges of the pipeline -----------------------------------------------------------------------

    def _hop(self) -> FloatArray:
        size = self.tokens * self.model.hidden * ACTIVATION_BYTES / self.setting.parted
        cost = collectives.send(self.spans.pipeline, self.fabric)
        exposed = 1.0 - self.number("pipeline_overlap")
        return np.where(self.many.pp > 1, 2 * self.many.virtual * cost.time(size) * exposed, 0.0)

    def _edges(self) -> tuple[FloatArray, FloatArray]:
        moved = 3 * self.tokens * self.model.hidden * ACTIVATION_BYTES / self.rates.memory
        logits = self.tokens * self.model.vocab / self.tp
        head = 6 * self.tokens * self.model.head_parameters / self.tp / self.rates.matmul
        loss = logits * (4 * ACTIVATION_BYTES + 4) / self.rates.memory
        vision = self._vision()
        return moved + vision, head + loss

    def _vision(self) -> FloatArray:
        if self.model.vision is None:
            return np.zeros(len(self.many))
        patches = self.many.micro_batch * self.model.vision.patches / self.cp
        return np.asarray(6 * patches * self.model.vision_parameters / self.tp / self.rates.matmul)


def _total(parts: dict[str, FloatArray]) -> FloatArray:
    return np.asarray(sum(parts.values()))
