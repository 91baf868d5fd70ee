"""Training strategies as arrays, and what of each the formulas of time and memory share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.costs.coefficients import Calibration
from planner.costs.collectives import Fabric
from planner.costs.kernels import Kernels
from planner.costs.offload import NO_HOST, HostShare
from planner.workload import Transformer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RECOMPUTE = ("none", "selective", "full", "block")
FULL, BLOCK = RECOMPUTE.index("full"), RECOMPUTE.index("block")
SHARDING = ("none", "optimizer", "gradients", "parameters")
OVERLAP = ("all", "data", "gradients", "none")
"""What may hide behind compute, as far as the stack's coefficients say: tensor, gradient and weight
communication; the last two; gradients alone; nothing."""
ACTIVATION_BYTES = 2.0
MASTER_BYTES = 12.0
"""Adam in mixed precision: fp32 weights, first and second moment (Rajbhandari et al., ZeRO, 2020)."""
FEW = 32
"""Rows up to which looking for equal ones costs more than it saves."""


def _absent() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Candidates:
    """Strategies as arrays of shape (n,); ``recompute``, ``sharding``, ``overlap`` index the tuples above.

    Under ``block`` recompute every stage repeats a number of layers of its own, which goes with its layers
    and not with the strategy.

    Attributes
    ----------
    offload
        Index into :data:`planner.costs.offload.OFFLOAD`.
    """

    tp: IntArray
    pp: IntArray
    dp: IntArray
    cp: IntArray
    ep: IntArray
    virtual: IntArray
    micro_batch: IntArray
    recompute: IntArray
    sharding: IntArray
    sequence_parallel: IntArray
    overlap: IntArray = field(default_factory=_absent)
    offload: IntArray = field(default_factory=_absent)

    def __post_init__(self) -> None:
        for name in ("overlap", "offload"):
            if len(getattr(self, name)) != len(self.tp):
                object.__setattr__(self, name, np.zeros(len(self.tp), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.tp)

    def take(self, rows: IntArray) -> Candidates:
        """Return the strategies of some rows."""
        return Candidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def ranks(self) -> IntArray:
        """Number of ranks."""
        return self.tp * self.pp * self.dp * self.cp

    @property
    def usual_recompute(self) -> IntArray:
        """Recompute of the layers that block recompute leaves alone, of all layers without it."""
        return np.where(self.block, 0, self.recompute)

    @property
    def block(self) -> NDArray[np.bool_]:
        """Whether block recompute repeats some layers of a stage."""
        return np.asarray(self.recompute == BLOCK)


@dataclass(frozen=True)
class Spans:
    """Members of each group that share each domain; arrays of shape (n, levels), see collectives.

    Attributes
    ----------
    tp, cp, data, expert, expert_data
        Tensor, context, data (dp x cp), expert, and expert-data groups.
    pipeline : ndarray, shape (n,)
        Level of the worst hop between neighbouring stages.
    """

    tp: FloatArray
    cp: FloatArray
    data: FloatArray
    expert: FloatArray
    expert_data: FloatArray
    pipeline: IntArray


@dataclass(frozen=True)
class JobShape:
    """What of a training job the formulas need.

    Attributes
    ----------
    global_batch
        Sequences per optimizer step; an array where it differs by row.
    element
        Bytes of one weight element in a matrix multiplication.
    dtype
        Data type of the products.
    stack
        Whose coefficients hold, see :func:`planner.costs.stacks.stack_coefficients`.
    dropout
        Whether masks of dropout are kept.
    cast_bytes
        Bytes moved to convert an element of a product's input to 8 or 4 bits.
    frozen
        Whether the weights have no gradients of their own (low-rank adapters).
    host
        What each GPU has of its host, for what is offloaded.
    memo
        Kernel times already worked out, by what they depend on; a search asks for the same ones often.
    """

    model: Transformer
    sequence: int
    global_batch: int | IntArray
    flash: bool
    element: float
    dtype: str = "bf16"
    stack: str | None = None
    dropout: bool = False
    cast_bytes: float = 4.0
    frozen: bool = False
    host: HostShare = NO_HOST
    memo: dict[tuple[object, ...], tuple[FloatArray, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )


def distinct(*columns: FloatArray | IntArray) -> tuple[IntArray, IntArray]:
    """Return the first row of every distinct combination of columns, and for each row which one it is.

    Rows are told apart by a hash whose result is compared with the columns; should two ever collide, every
    row counts as distinct.
    """
    count = len(columns[0])
    every = np.arange(count)
    if count < FEW:
        return every, every
    key = np.zeros(count, dtype=np.uint64)
    for column in columns:
        key = (key ^ np.ascontiguousarray(column).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    if all(np.array_equal(column[first][inverse], column) for column in columns):
        return first, inverse
    return every, every


class Setting:
    """Strategies under their spans on a machine, with the quantities that several formulas need.

    Attributes
    ----------
    tp, cp, ep, data : ndarray, shape (n,)
        Degrees as floats; ``data`` is dp x cp, the ranks that hold the same parameters.
    expert_data
        Ranks that hold the same experts.
    tokens
        Tokens of a micro-batch on one rank (its context part).
    parted
        Over how many ranks the residual stream is divided: ``tp`` with sequence parallelism, else 1.
    """

    def __init__(
        self,
        shape: JobShape,
        many: Candidates,
        spans: Spans,
        kernels: Kernels,
        fabric: Fabric,
        calibration: Calibration,
    ) -> None:
        self.shape, self.model, self.many, self.spans = shape, shape.model, many, spans
        self.kernels, self.fabric, self.number = kernels, fabric, calibration.number
        self.tp, self.cp, self.ep = (array.astype(float) for array in (many.tp, many.cp, many.ep))
        self.data = (many.dp * many.cp).astype(float)
        self.expert_data = np.maximum(1.0, self.data * self.tp / self.ep)
        self.tokens = many.micro_batch * shape.sequence / self.cp
        self.parted = np.where(many.sequence_parallel == 1, self.tp, 1.0)
        self.nothing = np.zeros(len(many))

    def per_group(
        self,
        group: FloatArray,
        members: FloatArray,
        more: tuple[FloatArray | IntArray, ...],
        evaluate: Callable[[IntArray], tuple[FloatArray | IntArray, ...]],
    ) -> tuple[NDArray[Any], ...]:
        """Return what ``evaluate(rows)`` gives for every row, asked once per group, spans and ``more``.

        Many strategies share few groups, so that collectives are priced some hundred times and not for each.
        """
        first, inverse = distinct(group, *members.T, *more)
        return tuple(values[inverse] for values in evaluate(first))

    def layer_parameters(self, *, moe: bool) -> FloatArray:
        """Return the parameters of a layer on one rank that the data group replicates (experts apart)."""
        mlp = self.model.shared_mlp_parameters if moe else self.model.dense_mlp_parameters
        return np.asarray((self.model.attention_parameters + mlp) / self.tp)

    def expert_parameters(self) -> FloatArray:
        """Return the parameters of the routed experts of a layer on one rank."""
        if self.model.experts is None:
            return self.nothing
        return np.asarray(self.model.experts.num_experts * self.model.expert_parameters / self.ep)

    def first_parameters(self) -> FloatArray:
        """Return the parameters on one rank that only the first stage has: embedding, vision tower."""
        return np.asarray((self.model.embedding_parameters + self.model.vision_parameters) / self.tp)

    def last_parameters(self) -> FloatArray:
        """Return the parameters on one rank that only the last stage has: the head, unless tied beside it."""
        own = np.where((self.many.pp == 1) & self.model.tied_embeddings, 0, self.model.head_parameters)
        return np.asarray(own / self.tp)

    def sharded_parameters(self, *, moe: bool) -> FloatArray:
        """Return the parameters of a layer on one rank that sharding divides, experts too (ep is 1 then)."""
        return self.layer_parameters(moe=moe) + (self.expert_parameters() if moe else self.nothing)
