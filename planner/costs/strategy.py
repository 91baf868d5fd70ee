"""Training strategies as arrays, and what of each the formulas of time and memory share."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from planner.costs.coefficients import Calibration
from planner.costs.collectives import Fabric
from planner.costs.kernels import Kernels
from planner.workload import Transformer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RECOMPUTE = ("none", "selective", "full")
SHARDING = ("none", "optimizer", "gradients", "parameters")
ACTIVATION_BYTES = 2.0
MASTER_BYTES = 12.0
"""Adam in mixed precision: fp32 weights, first and second moment (Rajbhandari et al., ZeRO, 2020)."""


@dataclass(frozen=True)
class Candidates:
    """Strategies as arrays of shape (n,); ``recompute`` and ``sharding`` index the tuples above."""

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

    def __len__(self) -> int:
        return len(self.tp)

    def take(self, rows: IntArray) -> Candidates:
        """Return the strategies of some rows."""
        return Candidates(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def ranks(self) -> IntArray:
        """Number of ranks."""
        return self.tp * self.pp * self.dp * self.cp


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
    memo: dict[tuple[object, ...], tuple[FloatArray, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )


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
