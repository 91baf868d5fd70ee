"""Measured training runs as rows of a table: read, completed, predicted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.calibrate.training_models import architectures, model_of
from planner.costs.strategy import BLOCK, RECOMPUTE, SHARDING
from planner.errors import PlannerError, TopologyError, WorkloadError
from planner.topology import Device, find_device
from planner.workload import Transformer

FloatArray = NDArray[np.float64]
Row = Mapping[str, str]

REQUIRED = ("num_gpus", "seq_len", "gbs", "tp", "pp")
"""Columns that a run needs besides its GPU and its model."""
MOST_WHOLE = 10**9
MICRO_BATCHES = (1, 2, 4, 8)
CHUNKS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Precision:
    """Data type of the products, bytes of an element, bytes moved to convert one."""

    dtype: str
    element: float
    cast_bytes: float


BF16 = Precision("bf16", 2.0, 0.0)
PRECISIONS = (
    (r"nvfp4|fp4", Precision("fp4", 0.5, 7.0)),
    (r"mxfp8|fp8-mx|fine-grained", Precision("fp8", 1.0, 6.0)),
    (r"fp8", Precision("fp8", 1.0, 4.0)),
)
"""By pattern of the column. Blocks with scales are converted along each axis from 16 bits: more is moved."""


@dataclass(frozen=True)
class Choice:
    """Settings that a row may leave open."""

    micro_batch: int
    virtual: int
    recompute: int


@dataclass(frozen=True)
class Run:
    """A measured run.

    Attributes
    ----------
    index
        Place of its row.
    choices
        Settings to try: one where the row states all.
    measured
        Step time, s; not a number where the row has none.
    """

    index: int
    source: str
    model: Transformer
    device: Device
    system: str
    per_node: int
    stack: str | None
    precision: Precision
    sequence: int
    global_batch: int
    tp: int
    pp: int
    dp: int
    cp: int
    ep: int
    sharding: int
    sequence_parallel: bool
    flash: bool
    frozen: bool
    choices: tuple[Choice, ...]
    measured: float


@dataclass(frozen=True)
class Unusable:
    """A row without a prediction, and why; its measured step time, s, where it states one."""

    index: int
    reason: str
    measured: float = float("nan")


def read_runs(rows: Sequence[Row], folder: Path | None = None) -> list[Run | Unusable]:
    """Return the runs of rows; ``folder`` may hold ``architectures.csv`` with the shapes of named models."""
    known = architectures(folder)
    found: list[Run | Unusable] = []
    for index, row in enumerate(rows):
        try:
            found.append(_run(index, row, known))
        except PlannerError as error:
            stated = row.get("step_time_s") or row.get("tokens_per_s_per_gpu") or "nan"
            found.append(Unusable(index, str(error), _number(stated)))
    return found


def _run(index: int, row: Row, known: Mapping[str, Transformer]) -> Run:
    for name in REQUIRED:
        if not row.get(name):
            raise WorkloadError(f"the cell {name!r} is blank")
    model, device = model_of(row, known), find_device(_device_name(row))
    gpus, tp, pp, cp = (_whole(row, name, 1) for name in ("num_gpus", "tp", "pp", "cp"))
    dp = max(1, gpus // (tp * pp * cp))
    stack = stack_of(row)
    precision = next(
        (kind for pattern, kind in PRECISIONS if re.search(pattern, _low(row, "precision"))), BF16
    )
    run = Run(
        index=index, source=row.get("source_id") or row.get("source") or "rows", model=model, device=device,
        system=row.get("system", ""), per_node=_whole(row, "gpus_per_node", 8), stack=stack,
        precision=precision, sequence=_whole(row, "seq_len", 0), global_batch=_whole(row, "gbs", 0),
        tp=tp, pp=pp, dp=dp, cp=cp, ep=min(_whole(row, "ep", 1), dp * cp * tp),
        sharding=_sharding(row, stack, dp * cp), sequence_parallel=_sequence_parallel(row, stack, tp),
        flash=_flash(row, stack), frozen=_low(row, "task") == "lora", choices=(), measured=float("nan"),
    )  # fmt: skip
    run = replace(run, choices=tuple(_choices(row, run)))
    if not run.choices:
        raise WorkloadError("no setting of the blank cells divides the batch and the layers")
    return replace(run, measured=measured_time(row, run))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _low(row: Row, name: str) -> str:
    return (row.get(name) or "").strip().lower()


def _whole(row: Row, name: str, default: int, least: int = 1) -> int:
    text = (row.get(name) or "").strip()
    try:
        number = int(float(text)) if text else default
    except (ValueError, OverflowError):
        raise WorkloadError(f"the cell {name!r} is {text!r}, not a number") from None
    if text and not least <= number <= MOST_WHOLE:
        raise WorkloadError(f"the cell {name!r} is {text!r}; {least} to {MOST_WHOLE} is possible")
    return number


def _device_name(row: Row) -> str:
    name = row.get("gpu") or row.get("device") or ""
    if not name:
        raise TopologyError("the cell 'gpu' is blank")
    return name


def stack_of(row: Row) -> str | None:
    """Return the training stack of a row: its column ``stack``, else what its framework is known as."""
    if row.get("stack"):
        return row["stack"]
    name, notes = _low(row, "framework"), _low(row, "notes")
    for pattern, stack in STACKS:
        found = re.search(pattern, name)
        if found is not None:
            version = found[1] if found.groups() and found[1] else ""
            if stack == "torchtitan":
                version = "eager" if "eager" in notes else ""
            return f"{stack}@{version}" if version else stack
    return None


STACKS = (
    (r"megatron-bridge(?: nemo)? ?([0-9]{2}\.[0-9]{2})?", "megatron-bridge"),
    (r"megatron-?deepspeed", "megatron@deepspeed"),
    (r"nemo ?([0-9]{2}\.[0-9]{2})?", "nemo"),
    (r"megatron-?(?:core|lm.*core)", "megatron-core"),
    (r"megatron", "megatron@lm"),
    (r"llm-foundry|composer", "llm-foundry"),
    (r"torchtitan", "torchtitan"),
)
"""Stacks by pattern of the column ``framework``; a group is the release."""
UNFUSED = ("megatron",)
"""Stacks of before fused attention: scores are written to memory."""
FOLLOWED = ("megatron-bridge", "nemo", "megatron-core")
"""Stacks that turn on sequence parallelism and sharded optimizers where a row is silent."""


def _family(stack: str | None) -> str:
    return "" if stack is None else stack.split("@", 1)[0]


def _sharding(row: Row, stack: str | None, data: int) -> int:
    stated = _low(row, "optimizer_sharding")
    shard = _whole(row, "fsdp_shard", 0, least=0)
    if data == 1:
        return 0
    if "fsdp" in stated or shard > 1 or "zero-3" in stated:
        return SHARDING.index("parameters")
    if stated in ("", "unknown"):
        return SHARDING.index("optimizer") if _family(stack) in FOLLOWED else 0
    return 0 if stated == "none" else SHARDING.index("optimizer")


def _sequence_parallel(row: Row, stack: str | None, tp: int) -> bool:
    stated = _low(row, "seq_parallel")
    if tp == 1:
        return False
    if stated:
        return stated in ("1", "true", "yes")
    return _family(stack) not in UNFUSED


def _flash(row: Row, stack: str | None) -> bool:
    stated = _low(row, "flash_attention")
    return stated in ("1", "true", "yes") if stated else _family(stack) not in UNFUSED


def _choices(row: Row, run: Run) -> Iterator[Choice]:
    share = max(1, run.global_batch // run.dp)
    sizes = [_whole(row, "mbs", 1)] if row.get("mbs") else [s for s in MICRO_BATCHES if share % s == 0]
    chunks = [1]
    if run.pp > 1:
        stated = _whole(row, "vp", 0)
        chunks = [stated] if stated else [v for v in CHUNKS if v * run.pp <= run.model.layers]
    modes = _recompute(_low(row, "recompute"))
    for size, chunk, mode in product(sizes, chunks or [1], modes):
        yield Choice(size, max(1, chunk), mode)


def _recompute(stated: str) -> list[int]:
    if not stated:
        return [mode for mode in range(len(RECOMPUTE)) if mode != BLOCK]
    for name in ("full", "selective"):
        if name in stated:
            return [RECOMPUTE.index(name)]
    return [0]


def measured_time(row: Row, run: Run) -> float:
    """Return the measured step time, s: as stated, else from the throughput of tokens, samples or operations.

    Rows that state only operations per second count attention over the whole sequence, none done twice.
    """
    tokens = run.sequence * run.global_batch
    gpus = _whole(row, "num_gpus", 1)

    def number(name: str) -> float:
        return _number(row.get(name) or "nan")

    for value in (
        number("step_time_s"),
        number("iteration_time_ms") / 1e3,
        tokens / (number("tokens_per_s_per_gpu") * gpus),
        run.global_batch / number("samples_per_s"),
        6.0 * tokens * active_parameters(run) / (number("model_tflops_per_gpu") * 1e12 * gpus),
        8.0 * tokens * active_parameters(run) / (number("hw_tflops_per_gpu") * 1e12 * gpus),
    ):
        if np.isfinite(value):
            return value
    return float("nan")


def active_parameters(run: Run) -> float:
    """Return the parameters that a token meets, with attention over the whole sequence counted as such."""
    model = run.model
    per_layer = model.attention_parameters + model.attention_share * (
        2 * run.sequence * model.heads * model.head_dim
    )
    active = (
        model.layers * per_layer + model.dense_layers * model.dense_mlp_parameters + model.head_parameters
    )
    if model.experts is not None:
        routed = model.shared_mlp_parameters + model.experts.top_k * model.expert_parameters
        active += (model.layers - model.dense_layers) * routed
    return float(active)
