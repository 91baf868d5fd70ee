"""Ensembles: pipelines of CPU and GPU stages that serve several classes of requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.schema import Bytes, Fault, FaultError, Flops, Name, PerSecond, Ratio, Record, Seconds
from planner.workload.limits import Budget
from planner.workload.models import Precision
from planner.workload.stages import Access, CpuStage

MOST_PATHS = 64
"""Paths through a pipeline that the latency of a request is the longest of."""
Side = Literal["cpu", "gpu"]


class EnsembleSlo(Record):
    """Limit of the 99th percentile of the latency from arrival to the end of the last stage, s."""

    latency_p99: Seconds | None = Field(default=None, gt=0)


class EnsembleClass(Record):
    """Requests of one kind and one size; requests of another size are a class of their own.

    Attributes
    ----------
    rate
        Offered rate, requests/s.
    process
        ``poisson``, ``gamma`` (gaps with the coefficient of variation ``cv``) or ``deterministic``.
    items
        Items of every request, such as images.
    weight
        Weight of the class's 99th percentile in the objective ``latency``.
    priority
        Stream priority on every GPU; decided where absent.
    """

    name: Name
    rate: PerSecond = Field(gt=0)
    process: Literal["poisson", "gamma", "deterministic"] = "poisson"
    cv: float = Field(default=1.0, gt=0)
    items: int = Field(default=1, ge=1)
    slo: EnsembleSlo = EnsembleSlo()
    weight: float = Field(default=1.0, gt=0)
    priority: Literal["high", "normal"] | None = None

    @property
    def arrival_scv(self) -> float:
        """Squared coefficient of variation of the gaps between requests."""
        return {"poisson": 1.0, "gamma": self.cv**2, "deterministic": 0.0}[self.process]


class CpuWork(Record):
    """What a unit of a stage costs on host cores; the fields are those of `CpuStage`.

    Attributes
    ----------
    work
        Core time per unit on the reference core, s.
    traffic_bytes
        Bytes of host memory traffic per unit; ``bytes_in + bytes_out`` of the stage when absent.
    memory
        Resident bytes per worker.
    """

    work: Seconds = Field(gt=0)
    vector_share: Ratio = Field(default=0.0, ge=0, le=1)
    traffic_bytes: Bytes | None = None
    memory: Bytes = 0.0
    parallel: int = Field(default=1, ge=1)


class BatchTime(Record):
    """A measured time of one batch, s."""

    batch: int = Field(ge=1)
    seconds: Seconds = Field(gt=0)


class GpuWork(Record):
    """What a batch of a stage costs on a GPU.

    Attributes
    ----------
    flops
        Floating-point operations per unit.
    bytes
        Device memory traffic of activations per unit.
    weights
        Bytes of weights: resident in every instance, and read once per batch.
    activations
        Device memory that a unit of a batch occupies.
    kernels
        Kernels launched per batch.
    max_batch
        Most units of a batch.
    device, measured
        Times of whole batches as measured on a device model, by batch size; they take the place of the
        roofline on that model, with straight lines between them.
    """

    flops: Flops = Field(default=0.0, ge=0)
    bytes: Bytes = Field(default=0.0, ge=0)
    weights: Bytes = Field(default=0.0, ge=0)
    activations: Bytes = Field(default=0.0, ge=0)
    kernels: int = Field(default=1, ge=1)
    precision: Precision = "bf16"
    max_batch: int = Field(default=64, ge=1)
    device: Name | None = None
    measured: list[BatchTime] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_a_cost(self) -> GpuWork:
        if (self.device is None) != (not self.measured):
            raise ValueError("'device' and 'measured' (times of batches on it) go together")
        if not self.measured and self.flops == 0 and self.bytes == 0 and self.weights == 0:
            raise ValueError("give 'flops', 'bytes' or 'weights', or 'measured' times")
        batches = [time.batch for time in self.measured]
        if sorted(set(batches)) != batches:
            raise ValueError("the batch sizes of 'measured' must rise")
        return self


class EnsembleStage(Record):
    """A stage of a pipeline, on host cores, on GPUs, or on either side as the solver decides.

    Attributes
    ----------
    after
        Stages that it waits for; the stage before it in the list when absent, none for an entry.
    per
        What a unit of work is: every ``item`` of a request, or the whole ``request``.
    bytes_in, bytes_out
        Bytes read and handed on per unit.
    access
        Pattern in which the next stage reads what this one hands on.
    """

    name: Name
    after: list[Name] | None = None
    per: Literal["item", "request"] = "item"
    cpu: CpuWork | None = None
    gpu: GpuWork | None = None
    bytes_in: Bytes = Field(default=0.0, ge=0)
    bytes_out: Bytes = Field(default=0.0, ge=0)
    access: Access = "streaming"

    @model_validator(mode="after")
    def _somewhere(self) -> EnsembleStage:
        if self.cpu is None and self.gpu is None:
            raise ValueError("give 'cpu', 'gpu', or both where the stage can run on either")
        return self

    @property
    def sides(self) -> tuple[Side, ...]:
        """Where the stage can run."""
        both: tuple[tuple[Side, object], ...] = (("cpu", self.cpu), ("gpu", self.gpu))
        return tuple(side for side, work in both if work is not None)

    def units(self, request: EnsembleClass) -> int:
        """Return the units of work of a request."""
        return request.items if self.per == "item" else 1

    def cpu_stage(self, units: int) -> CpuStage:
        """Return the stage on host cores for requests of some units, one after the other on one worker."""
        assert self.cpu is not None
        cpu = self.cpu
        moved = self.bytes_in + self.bytes_out if cpu.traffic_bytes is None else cpu.traffic_bytes
        return CpuStage(
            name=self.name, work=units * cpu.work, vector_share=cpu.vector_share,
            bytes_in=units * self.bytes_in, bytes_out=units * self.bytes_out, traffic_bytes=units * moved,
            memory=cpu.memory, parallel=cpu.parallel, access=self.access,
        )  # fmt: skip


class Freedom(Record):
    """What the solver may decide.

    Attributes
    ----------
    mig
        Whether GPUs may be cut into the slices that their model has.
    split_classes
        Whether classes may have instances of a stage to themselves (size-based routing).
    priority
        Whether streams may have high priority.
    tenants
        Most instances, of whatever stages, that share one GPU or one slice.
    batches
        Batch sizes to choose from, up to ``max_batch`` of the stage.
    pinned
        Part of the memory of a NUMA domain that buffers of copies may pin.
    """

    mig: bool = True
    split_classes: bool = True
    priority: bool = True
    tenants: int = Field(default=2, ge=1, le=4)
    batches: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=lambda: [1, 2, 4, 8, 16, 32, 64, 128], min_length=1
    )
    pinned: Ratio = Field(default=0.25, ge=0, le=1)


class EnsembleJob(Record):
    """Serving of a pipeline of stages to several classes of requests.

    Attributes
    ----------
    objective
        ``latency`` (weighted mean of the classes' 99th percentiles, s) or ``gpus`` (fewest GPUs that hold
        the limits).
    cuda_graphs
        Whether batches are launched as CUDA graphs of the sizes in the plan.
    """

    kind: Literal["ensemble"]
    name: Name
    classes: list[EnsembleClass] = Field(min_length=1)
    stages: list[EnsembleStage] = Field(min_length=1)
    objective: Literal["latency", "gpus"] = "latency"
    cuda_graphs: bool = True
    allow: Freedom = Freedom()
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _sound(self) -> EnsembleJob:
        faults = [*_repeated("classes", [each.name for each in self.classes])]
        faults += _repeated("stages", [each.name for each in self.stages])
        faults += _dangling(self.stages) if not faults else []
        if faults:
            raise FaultError(faults)
        return self


def _repeated(place: str, names: list[str]) -> Iterator[Fault]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Fault((place, index, "name"), f"{name!r} is named twice")


def _dangling(stages: list[EnsembleStage]) -> list[Fault]:
    """Return predecessors that are no earlier stages, as the list has to be in order, and too many paths."""
    found = []
    for index, stage in enumerate(stages):
        earlier = [each.name for each in stages[:index]]
        for place, name in enumerate(stage.after or []):
            if name not in earlier:
                text = f"there is no stage {name!r} before {stage.name!r} in the list"
                found.append(Fault(("stages", index, "after", place), text))
    paths = 0 if found else StageGraph(tuple(stages)).num_paths
    if paths > MOST_PATHS:
        found.append(Fault(("stages",), f"{paths} paths lead through the stages, at most {MOST_PATHS} may"))
    return found


@dataclass(frozen=True)
class StageGraph:
    """The stages of an ensemble and what follows what."""

    stages: tuple[EnsembleStage, ...]

    @cached_property
    def before(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the stages that each stage waits for."""
        place = {stage.name: index for index, stage in enumerate(self.stages)}
        found: list[tuple[int, ...]] = []
        for index, stage in enumerate(self.stages):
            if stage.after is None:
                found.append((index - 1,) if index else ())
            else:
                found.append(tuple(dict.fromkeys(place[name] for name in stage.after)))
        return tuple(found)

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of stages, producer and consumer."""
        return tuple((left, right) for right, sources in enumerate(self.before) for left in sources)

    @cached_property
    def entries(self) -> tuple[int, ...]:
        """Stages that requests arrive at."""
        return tuple(index for index, sources in enumerate(self.before) if not sources)

    @cached_property
    def exits(self) -> tuple[int, ...]:
        """Stages after which requests leave."""
        inner = {left for left, _ in self.edges}
        return tuple(index for index in range(len(self.stages)) if index not in inner)

    @cached_property
    def num_paths(self) -> int:
        """Number of ways from an entry to an exit."""
        ways: list[int] = []
        for sources in self.before:
            ways.append(sum(ways[source] for source in sources) if sources else 1)
        return sum(ways[last] for last in self.exits)

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """All ways from an entry to an exit."""

        def ways(last: int) -> Iterator[tuple[int, ...]]:
            if not self.before[last]:
                yield (last,)
            for source in self.before[last]:
                for head in ways(source):
                    yield (*head, last)

        return tuple(path for last in self.exits for path in ways(last))
