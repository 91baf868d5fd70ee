"""Document ``plan/1``: every decision, what it is predicted to give, and why it won."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.operators_plan import OperatorsPlan
from planner.placement.recommender_plan import RecommenderPlan
from planner.placement.records import Binding, StageMemory
from planner.schema import Bytes, BytesPerSecond, Document, Name, Record, Seconds, digest, expand
from planner.workload import Precision

MemoryMode = Literal["pinned-copy", "pageable-copy", "managed", "coherent"]


class InputReference(Record):
    """An input of the plan: its name and the digest of its content."""

    name: str
    digest: str
    path: str | None = None


class Inputs(Record):
    """What the plan was made from."""

    topology: InputReference
    workload: InputReference
    calibration: InputReference


class Solver(Record):
    """How the plan was found."""

    planner: str
    engine: str
    seed: int
    time_limit: Seconds
    seconds: Seconds
    candidates: int
    visited: int


class Objective(Record):
    """What was minimised.

    Attributes
    ----------
    name
        ``step_time`` (s), ``p99_latency`` (s), ``gpus`` or ``cost`` (USD/h); of an operator graph
        ``sample_interval`` or ``sample_latency`` (s), of a recommender ``embedding_time`` (s).
    """

    name: str
    value: float
    unit: str


class Decision(Record):
    """One decision with the alternative that lost.

    Attributes
    ----------
    loss
        By how much the objective would be worse, as a ratio of the chosen one (0.12: 12 % worse);
        ``None`` where the alternative is not feasible.
    """

    decision: str
    chosen: str
    alternative: str
    loss: float | None
    reason: str


class Baseline(Record):
    """A simple rule's plan: its objective, and the ratio of it to the plan's (above 1: the plan wins).

    ``value`` is ``None`` where the rule finds no feasible plan.
    """

    name: str
    value: float | None
    ratio: float | None
    note: str = ""


class SimulatedLimit(Record):
    """A limit of a service with both figures, s: the prediction's and the simulation's.

    Attributes
    ----------
    simulated
        ``None`` where requests wait ever longer in the simulation.
    """

    job: Name
    name: str
    limit: Seconds
    predicted: Seconds
    simulated: Seconds | None

    @property
    def excess(self) -> float:
        """By what ratio the simulation exceeds the limit; not above 0 where the limit holds."""
        return float("inf") if self.simulated is None else self.simulated / self.limit - 1.0


class LinkLoad(Record):
    """Predicted use of one directed link, averaged over a step (training) or a second (serving)."""

    source: str
    target: str
    kind: str
    rate: BytesPerSecond
    load: BytesPerSecond
    utilisation: float


class Strategy(Record):
    """Parallel degrees and the switches that go with them.

    Attributes
    ----------
    sharding
        What data-parallel ranks divide among them: nothing, optimizer states (ZeRO-1), gradients too
        (ZeRO-2), parameters too (ZeRO-3, FSDP).
    recompute
        What the backward pass computes once more: nothing, what is cheap for its bytes, all layers, or of
        every stage a number of layers of its own (``block``), see :class:`TrainingPlan`.
    overlap
        What may hide behind compute: everything, data-parallel communication, gradients alone, nothing.
    offload
        What lives in host memory.
    adp
        Of a served model with experts: copies of attention in a stage, each over ``tp / adp`` of its GPUs and
        with requests of its own, while all ``tp`` GPUs share the experts.
    precision, expert_precision, kv_precision
        Data types of a served model, by component, where the job leaves a choice; its own where absent.
    """

    tp: int = Field(default=1, ge=1)
    pp: int = Field(default=1, ge=1)
    dp: int = Field(default=1, ge=1)
    cp: int = Field(default=1, ge=1)
    ep: int = Field(default=1, ge=1)
    virtual: int = Field(default=1, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    recompute: Literal["none", "selective", "full", "block"] = "none"
    sharding: Literal["none", "optimizer", "gradients", "parameters"] = "none"
    sequence_parallel: bool = False
    overlap: Literal["all", "data", "gradients", "none"] = "all"
    offload: Literal["none", "optimizer", "activations", "weights"] = "none"
    adp: int = Field(default=1, ge=1)
    precision: Precision | None = None
    expert_precision: Precision | None = None
    kv_precision: Precision | None = None

    @property
    def num_ranks(self) -> int:
        """Number of ranks, one GPU each."""
        return self.tp * self.pp * self.dp * self.cp


class TrainingPrediction(Record):
    """Predicted times of one optimizer step; ``breakdown`` adds up to ``step_time``."""

    step_time: Seconds
    tokens_per_second: float
    model_flops_utilisation: float
    bubble: float
    breakdown: dict[str, Seconds]


class TrainingPlan(Record):
    """Placement of a training job.

    Attributes
    ----------
    devices
        GPUs ``NODE/GPU`` in rank order, ranges folded; rank ``((p * dp + d) * cp + c) * tp + t`` is
        pipeline stage ``p``, replica ``d``, context part ``c``, tensor part ``t``.
    layers
        Transformer layers of each pipeline stage.
    recompute_layers
        Of ``block`` recompute: layers of each stage that are recomputed, the first ones of each of its
        chunks, as many of each. Empty otherwise.
    num_micro_batches
        Micro-batches of a replica in a step; of the replica that has the most, where they differ.
    micro_batches, device_models
        On GPUs of several models: micro-batches of each replica, and the device model of each stage, joined
        by ``+`` where its replicas have several. Empty on GPUs of one model.
    """

    kind: Literal["training"] = "training"
    name: Name
    model: str
    strategy: Strategy
    num_micro_batches: int
    layers: list[int]
    devices: list[str]
    bindings: list[Binding]
    memory: list[StageMemory]
    prediction: TrainingPrediction
    recompute_layers: list[int] = Field(default_factory=list)
    micro_batches: list[int] = Field(default_factory=list)
    device_models: list[str] = Field(default_factory=list)

    def ranks(self) -> list[str]:
        """Return the GPU of every rank."""
        return [name for item in self.devices for name in expand(item)]

    def gpus(self) -> list[str]:
        """Return the GPUs of all ranks."""
        return self.ranks()


class CpuPlacement(Record):
    """A pool of workers of a CPU stage: whole cores of one NUMA domain."""

    stage: str
    numa: str
    cores: int
    core_list: str
    prefetch: int = 2
    utilisation: float
    latency: Seconds


class Transfer(Record):
    """One host-to-device or device-to-host move per request, and the memory mode chosen for it."""

    name: str
    source: str
    target: str
    size: Bytes
    mode: MemoryMode
    seconds: Seconds
    runner_up: MemoryMode | None = None
    runner_up_seconds: Seconds | None = None


class Replica(Record):
    """One copy of a served model.

    Attributes
    ----------
    devices
        GPUs ``NODE/GPU`` in the order stage by stage, tensor part by tensor part.
    """

    name: str
    node: str
    devices: list[str]
    stages: list[CpuPlacement] = Field(default_factory=list)
    transfers: list[Transfer] = Field(default_factory=list)

    def gpus(self) -> list[str]:
        """Return the GPUs, ranges unfolded."""
        return [name for item in self.devices for name in expand(item)]


class Batching(Record):
    """How requests are batched: continuous batching with a cap, in chunks of prompt tokens.

    Attributes
    ----------
    window
        Longest wait for a fuller batch, s; 0 sends at once.
    graph_shapes
        Batch sizes to capture as CUDA graphs before traffic comes.
    """

    max_batch: int
    max_tokens: int
    window: Seconds = 0.0
    graph_shapes: list[int] = Field(default_factory=list)


class ServingPrediction(Record):
    """Predicted behaviour under the offered rate, per replica unless said otherwise, s.

    ``breakdown`` splits the 99th percentile of the end-to-end latency.
    """

    rate: float
    throughput_tokens_per_second: float
    batch: float
    ttft_mean: Seconds
    ttft_p99: Seconds
    tpot_mean: Seconds
    tpot_p99: Seconds
    latency_mean: Seconds
    latency_p99: Seconds
    utilisation: float
    breakdown: dict[str, Seconds]


class PrefillPart(Record):
    """Replicas that compute prompts and give first tokens; in ``cache_move`` a cache goes to the others."""

    strategy: Strategy
    layers: list[int]
    replicas: list[Replica]
    batching: Batching
    memory: list[StageMemory]
    cache_move: Seconds


class ServingPlan(Record):
    """Placement of a serving job: equal replicas, their CPU stages and transfers.

    Attributes
    ----------
    prefill
        A pool of its own for prompts (prefill/decode disaggregation); ``strategy`` and ``replicas`` are those
        of the pool that generates then. Without, each replica does both.
    """

    kind: Literal["serving"] = "serving"
    name: Name
    model: str
    strategy: Strategy
    layers: list[int]
    replicas: list[Replica]
    bindings: list[Binding]
    batching: Batching
    priority: Literal["high", "normal"] = "normal"
    mig: str | None = None
    memory: list[StageMemory]
    prediction: ServingPrediction
    prefill: PrefillPart | None = None

    def gpus(self) -> list[str]:
        """Return the GPUs of all replicas, those for prompts first."""
        return [gpu for pool in self.pools() for replica in pool.replicas for gpu in replica.gpus()]

    def pools(self) -> list[ServingPlan]:
        """Return the pools as plans of their own, that for prompts first; the plan itself without any."""
        if self.prefill is None:
            return [self]
        part, alone = self.prefill, {"prefill": None}
        own = {name: getattr(part, name) for name in type(part).model_fields if name != "cache_move"}
        return [self.model_copy(update=alone | own), self.model_copy(update=alone)]


ModelPlan = TrainingPlan | ServingPlan
"""The plan of a job that runs a transformer."""
AnyPlan = TrainingPlan | ServingPlan | OperatorsPlan | RecommenderPlan | EnsemblePlan
JobPlan = Annotated[AnyPlan, Field(discriminator="kind")]


class Plan(Document):
    """Document ``plan/1``.

    Attributes
    ----------
    bound
        Proven limit of the objective: no plan of the search space is below it.
    gap
        ``(value - bound) / value``.
    simulated
        Limits of services as the brief simulation of ``planner solve`` saw them; none without it.
    assumed_share
        Share of the objective that rests on numbers of provenance ``assumed``, 0 to 1.
    """

    kind: ClassVar[str] = "plan"
    version: ClassVar[int] = 1
    name: Name
    inputs: Inputs
    solver: Solver
    status: Literal["optimal", "feasible"]
    proof: str
    objective: Objective
    bound: float
    gap: float
    jobs: list[JobPlan] = Field(min_length=1)
    links: list[LinkLoad] = Field(default_factory=list)
    baselines: list[Baseline] = Field(default_factory=list)
    why: list[Decision] = Field(default_factory=list)
    simulated: list[SimulatedLimit] = Field(default_factory=list)
    assumed_share: float = Field(ge=0, le=1)

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 of everything but the time that the search took, so that equal decisions digest equally."""
        timeless = self.solver.model_copy(update={"seconds": 0.0})
        return digest(self.model_copy(update={"solver": timeless}))
