"""The part of a plan that places an ensemble: CPU pools, GPU instances, routes, transfers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.costs.access import MemoryMode
from planner.placement.records import Binding, StageMemory
from planner.schema import Bytes, Name, Record, Seconds

Carrier = Literal["none", "hand-over", "host-copy", "peer-copy", "staged-copy"]
"""How data go from stage to stage: they stay where they are; host memory to host memory; between host and
GPU; GPU to GPU directly; GPU to GPU through host memory."""
Purpose = Literal["shared", "latency", "bulk"]


class EnsemblePool(Record):
    """Workers of a CPU stage: whole cores of one NUMA domain.

    Attributes
    ----------
    share
        Part of the stage's requests that the pool takes.
    prefetch
        Requests that it works ahead of the next stage.
    utilisation
        Part of the time that a worker is busy.
    """

    stage: Name
    node: str
    numa: str
    cores: int = Field(ge=1)
    core_list: str
    workers: int = Field(ge=1)
    prefetch: int = Field(default=2, ge=1)
    share: float = Field(gt=0, le=1)
    utilisation: float


class GpuInstance(Record):
    """One copy of a GPU stage on one GPU or on one slice of it.

    Attributes
    ----------
    group
        Instances of one group have the same tenants and settings and take requests evenly.
    gpu
        ``NODE/GPU``.
    mig, start
        Profile of the slice and the memory slice that it starts at; ``None`` on a whole GPU.
    classes
        Classes that it serves.
    share
        Part of those classes' requests that this instance takes.
    max_batch
        Units at which a batch is sent at once.
    window
        Longest wait of the oldest request for a fuller batch, s.
    priority
        Of its CUDA stream; the solver gives ``high`` only where another tenant has ``normal``.
    graph_shapes
        Batch sizes to capture as CUDA graphs before traffic comes.
    batch
        Predicted mean units of a batch.
    seconds
        Predicted time of such a batch alone on the device, s.
    utilisation
        Part of the time that the instance's batches keep the device busy.
    memory
        Bytes of device memory: weights, activations of the largest batch.
    """

    name: Name
    stage: Name
    group: Name
    gpu: str
    mig: str | None = None
    start: int | None = None
    classes: list[Name] = Field(min_length=1)
    share: float = Field(gt=0, le=1)
    max_batch: int = Field(ge=1)
    preferred_sizes: list[int] = Field(default_factory=list)
    window: Seconds = 0.0
    priority: Literal["high", "normal"] = "normal"
    graph_shapes: list[int] = Field(default_factory=list)
    batch: float
    seconds: Seconds
    utilisation: float
    memory: Bytes


class EnsembleRoute(Record):
    """Where requests of a class go at a stage: to the CPU pools, or to one group of GPU instances.

    Attributes
    ----------
    to
        ``cpu``, or the name of the group.
    purpose
        ``shared``: all classes; ``latency``: instances tuned for latency; ``bulk``: for throughput.
    """

    stage: Name
    request: Name
    to: str
    purpose: Purpose = "shared"


class EnsembleTransfer(Record):
    """What a request of a class moves from one stage to the next.

    Attributes
    ----------
    source, target
        Stages; ``None`` for the network before an entry or behind an exit, whose data are in host memory.
    size
        Bytes per request.
    local
        Part of the requests whose data stay in one NUMA domain, and ``node`` those that stay in one node.
    seconds
        Predicted mean time, s.
    runner_up, runner_up_seconds
        Next best memory mode and its time on the same way.
    """

    source: Name | None
    target: Name | None
    request: Name
    size: Bytes
    carrier: Carrier
    mode: MemoryMode | None = None
    local: float = Field(ge=0, le=1)
    node: float = Field(default=1.0, ge=0, le=1)
    seconds: Seconds
    runner_up: MemoryMode | None = None
    runner_up_seconds: Seconds | None = None


class ClassPrediction(Record):
    """Predicted behaviour of one class, s.

    Attributes
    ----------
    breakdown
        Of the mean along the slowest path: ``cpu``, ``cpu queue``, ``transfer``, ``batch wait``, ``gpu
        queue``, ``gpu``; adds up to ``latency_mean``.
    path
        Stages of that path.
    """

    name: Name
    rate: float
    latency_mean: Seconds
    latency_p99: Seconds
    breakdown: dict[str, Seconds]
    path: list[str]


class EnsemblePrediction(Record):
    """Predicted behaviour of an ensemble.

    Attributes
    ----------
    latency_p99
        Weighted mean of the classes' 99th percentiles, s.
    breakdown
        Weighted mean of the classes' breakdowns, and what the 99th percentile adds, s.
    gpu_utilisation
        Busy part of every GPU in use, slices by their share of the multiprocessors.
    """

    classes: list[ClassPrediction]
    latency_p99: Seconds
    breakdown: dict[str, Seconds]
    gpu_utilisation: dict[str, float]


class EnsemblePlan(Record):
    """Placement of an ensemble.

    Attributes
    ----------
    model
        Name of the pipeline.
    memory
        Device memory by GPU instance that stands for its group, in the order of the groups.
    host_memory
        Bytes of workers and pinned buffers in every NUMA domain ``NODE/NUMA`` in use.
    """

    kind: Literal["ensemble"] = "ensemble"
    name: Name
    model: str
    pools: list[EnsemblePool]
    instances: list[GpuInstance]
    routes: list[EnsembleRoute]
    transfers: list[EnsembleTransfer]
    bindings: list[Binding] = Field(default_factory=list)
    memory: list[StageMemory]
    host_memory: dict[str, Bytes] = Field(default_factory=dict)
    prediction: EnsemblePrediction

    def gpus(self) -> list[str]:
        """Return the GPUs in use, whole or in slices, each once."""
        return list(dict.fromkeys(instance.gpu for instance in self.instances))
