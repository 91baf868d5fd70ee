"""Small settings for tests of the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from planner.costs import Candidates, JobShape, Spans, StageCosts, load_calibration, stage_costs
from planner.costs.collectives import Fabric
from planner.costs.kernels import kernels
from planner.topology import find_device
from planner.workload import BYTES_PER_ELEMENT, Transformer
from planner.workload.resolve import model_presets

CALIBRATION = load_calibration()
KERNELS = kernels(find_device("h100-sxm-80"), CALIBRATION)
FABRIC = Fabric(np.asarray([200e9, 25e9]), np.asarray([2e-6, 8e-6]), np.asarray([False, False]), 1.0, 5e-6)
DEGREES: dict[str, int] = {
    "tp": 1, "pp": 1, "dp": 1, "cp": 1, "ep": 1, "virtual": 1, "micro_batch": 1,
    "recompute": 0, "sharding": 0, "sequence_parallel": 0,
}  # fmt: skip


def preset(name: str) -> Transformer:
    """Return a shipped model."""
    return model_presets()[name]


def candidates(*rows: dict[str, int]) -> Candidates:
    """Return strategies, all degrees 1 but those given."""
    full = [DEGREES | row for row in rows]
    return Candidates(*(np.asarray([row[name] for row in full], dtype=np.int64) for name in DEGREES))


def packed(many: Candidates, inner: int = 8) -> Spans:
    """Return spans of ranks laid out in order on nodes of ``inner`` GPUs."""

    def share(size: Any, stride: Any) -> Any:
        near = np.clip(inner // np.maximum(stride, 1), 1, size)
        return np.stack([near, size], axis=1).astype(float)

    data = many.dp * many.cp
    plane = data * many.tp
    hop = np.where(many.ranks // many.pp * 2 <= inner, 0, 1)
    return Spans(
        share(many.tp, 1 + 0 * many.tp), share(many.cp, many.tp), share(data, many.tp),
        share(many.ep, 1 + 0 * many.ep), share(plane // many.ep, many.ep), hop,
    )  # fmt: skip


def stage(
    model: Transformer,
    *rows: dict[str, int],
    sequence: int = 2048,
    batch: int = 64,
    flash: bool = True,
    spans: Spans | None = None,
    dtype: str = "bf16",
    stack: str | None = None,
) -> StageCosts:
    """Return the stage costs of strategies."""
    many = candidates(*rows)
    shape = JobShape(model, sequence, batch, flash, BYTES_PER_ELEMENT[dtype], dtype, stack)
    return stage_costs(shape, many, spans or packed(many), KERNELS, FABRIC, CALIBRATION)
