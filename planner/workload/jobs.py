"""Documents of kind ``workload/1``: jobs, their traffic, their limits, their CPU stages."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from planner.schema import Document, Name, PerSecond, Ratio, Record, Seconds
from planner.workload.ensembles import EnsembleJob
from planner.workload.limits import Budget
from planner.workload.models import Precision, Transformer
from planner.workload.operators import OperatorsJob
from planner.workload.stages import CpuStage
from planner.workload.tables import RecommenderJob

Recompute = Literal["none", "selective", "full", "block"]


def _preset_or_dims(value: object) -> object:
    return {"preset": value} if isinstance(value, str) else value


class ModelReference(Record):
    """A model by preset name, by the path of a Hugging Face ``config.json``, or by its dimensions."""

    preset: Name | None = None
    config: str | None = None
    dims: Transformer | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelReference:
        if sum(item is not None for item in (self.preset, self.config, self.dims)) != 1:
            raise ValueError(
                "give exactly one of 'preset', 'config' (path of a Hugging Face config.json) and 'dims'"
            )
        return self


Model = Annotated[
    ModelReference, BeforeValidator(_preset_or_dims, json_schema_input_type=str | ModelReference)
]


class Lengths(Record):
    """A distribution of token counts.

    Attributes
    ----------
    mean
        Mean, tokens.
    cv
        Coefficient of variation of the log-normal law that is drawn from; 0 for a constant.
    """

    mean: float = Field(gt=0)
    cv: float = Field(default=0.0, ge=0)


class Traffic(Record):
    """Requests that arrive.

    Attributes
    ----------
    process
        ``poisson``, ``gamma`` (with ``cv``), ``deterministic`` or ``trace`` (with ``trace``, a CSV file
        with the columns ``arrived_at``, ``num_prefill_tokens``, ``num_decode_tokens``).
    rate
        Offered rate, requests/s.
    prefix
        Share of prompt tokens found in the prefix cache, 0 to 1.
    """

    process: Literal["poisson", "gamma", "deterministic", "trace"] = "poisson"
    rate: PerSecond = Field(gt=0)
    cv: float = Field(default=1.0, gt=0)
    trace: str | None = None
    prompt: Lengths
    output: Lengths
    prefix: Ratio = Field(default=0.0, ge=0, lt=1)
    images: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _trace_named(self) -> Traffic:
        if (self.process == "trace") != (self.trace is not None):
            raise ValueError("process 'trace' and the field 'trace' (a CSV file) go together")
        return self


class Slo(Record):
    """Limits that the 99th percentile must meet, s: time to first token, per output token, end to end."""

    ttft_p99: Seconds | None = Field(default=None, gt=0)
    tpot_p99: Seconds | None = Field(default=None, gt=0)
    latency_p99: Seconds | None = Field(default=None, gt=0)


class Degrees(Record):
    """Values that the search may use for each degree; everything that fits when absent.

    Attributes
    ----------
    recompute_layers
        Of ``block`` recompute: how many layers of each chunk, the first ones, a stage may choose to
        recompute; any number when absent, one and the same for all stages where a single one is listed.
    overlap
        What communication may hide behind compute: ``all`` when absent, as nothing is faster with less.
    offload
        What may live in host memory; nothing when absent.
    adp
        Of a served model with experts: copies of attention in a pipeline stage, each over ``tp / adp`` GPUs
        and with requests of its own (attention data parallel); powers of two when absent.
    precision, expert_precision, kv_precision
        Data types of a served model that the search may choose, by component; the job's own when absent.
    pools
        Whether replicas of a service do all (``aggregated``), or some compute prompts and others generate
        (``disaggregated``); ``aggregated`` when absent. ``replicas`` and the degrees hold for each pool.
    """

    tp: list[int] | None = None
    pp: list[int] | None = None
    dp: list[int] | None = None
    cp: list[int] | None = None
    ep: list[int] | None = None
    virtual: list[int] | None = None
    micro_batch: list[int] | None = None
    replicas: list[int] | None = None
    adp: list[Annotated[int, Field(ge=1)]] | None = None
    pools: list[Literal["aggregated", "disaggregated"]] | None = Field(default=None, min_length=1)
    precision: list[Precision] | None = Field(default=None, min_length=1)
    expert_precision: list[Precision] | None = Field(default=None, min_length=1)
    kv_precision: list[Precision] | None = Field(default=None, min_length=1)
    recompute: list[Recompute] | None = None
    sharding: list[Literal["none", "optimizer", "gradients", "parameters"]] | None = None
    sequence_parallel: list[bool] | None = None
    recompute_layers: list[Annotated[int, Field(ge=0)]] | None = None
    overlap: list[Literal["all", "data", "gradients", "none"]] | None = None
    offload: list[Literal["none", "optimizer", "activations", "weights"]] | None = None


class Sharing(Record):
    """How a job shares a cluster with other jobs.

    Attributes
    ----------
    weight
        Priority: weight of the job in the objective of the fleet.
    anti_affinity
        Names of jobs that may not be on a node where this one is.
    spread
        ``node``: no two copies of a service on one node.
    """

    weight: float = Field(default=1.0, gt=0)
    anti_affinity: list[Name] = Field(default_factory=list)
    spread: Literal["none", "node"] = "none"


class TrainingJob(Record):
    """Training of one model: minimise the time of an optimizer step.

    Attributes
    ----------
    sequence
        Tokens per sequence.
    global_batch
        Sequences per optimizer step.
    precision
        Data type of the matrix multiplications.
    stack
        Training framework whose measured coefficients hold, such as ``megatron@lm``; those of every
        framework when absent.
    """

    kind: Literal["training"]
    name: Name
    model: Model
    sequence: int = Field(ge=1)
    global_batch: int = Field(ge=1)
    precision: Precision = "bf16"
    flash_attention: bool = True
    stack: str | None = None
    degrees: Degrees = Degrees()
    budget: Budget = Budget()
    sharing: Sharing = Sharing()


class ServingJob(Record):
    """Serving of one model under latency limits.

    Attributes
    ----------
    precision, expert_precision, kv_precision
        Data type of the weights, which products run in; that of routed experts, the same when absent; that of
        the key-value cache.
    objective
        ``p99_latency`` (end to end, s), ``gpus`` (fewest GPUs that hold the limits) or ``cost`` (least price
        of GPUs that hold them, USD/h, each its share of its machine's).
    max_batch
        Most sequences that a replica decodes at once; as many as memory and limits allow when absent.
    """

    kind: Literal["serving"]
    name: Name
    model: Model
    precision: Precision = "bf16"
    expert_precision: Precision | None = None
    kv_precision: Precision = "bf16"
    traffic: Traffic
    slo: Slo = Slo()
    before: list[CpuStage] = Field(default_factory=list)
    after: list[CpuStage] = Field(default_factory=list)
    objective: Literal["p99_latency", "gpus", "cost"] = "p99_latency"
    max_batch: int | None = Field(default=None, ge=1)
    cuda_graphs: bool = True
    degrees: Degrees = Degrees()
    budget: Budget = Budget()
    sharing: Sharing = Sharing()


ModelJob = TrainingJob | ServingJob
"""A job that runs a transformer."""
AnyJob = TrainingJob | ServingJob | RecommenderJob | OperatorsJob | EnsembleJob
Job = Annotated[AnyJob, Field(discriminator="kind")]


class WorkloadDocument(Document):
    """Document ``workload/1``: one or several jobs for one machine or cluster."""

    kind: ClassVar[str] = "workload"
    version: ClassVar[int] = 1
    name: Name
    description: str | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    jobs: list[Job] = Field(min_length=1)
