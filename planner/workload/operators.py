"""Operator graphs: what each operator costs on each kind of device, and the job that places them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from planner.schema import Bytes, Fault, FaultError, Flops, Name, Record, Seconds
from planner.workload.limits import Budget
from planner.workload.models import Precision


@dataclass(frozen=True, slots=True)
class Operator:
    """One vertex of an operator graph.

    Attributes
    ----------
    key
        Identity in the document it came from.
    accelerator_time, cpu_time
        Run time on an accelerator and on a CPU device, s.
    size
        Bytes that it occupies on the accelerator that it is placed on.
    transfer_time
        Time to move its output between an accelerator and host memory, s.
    colour
        Operators of one colour must be on one device; ``None`` when it is free.
    on_accelerator
        Whether an accelerator can run it.
    backward
        Whether it belongs to the backward pass.
    output
        Bytes that each consumer reads; what ``transfer_time`` moves at the host link's rate when ``None``.
    weights
        Bytes of gradients that replicas of a stage sum after every sample.
    flops, traffic
        Operations and bytes of device memory read and written: the time on an accelerator follows from them
        where ``accelerator_time`` is 0.
    on_cpu
        Whether a CPU can run it.
    """

    key: str
    accelerator_time: float
    cpu_time: float
    size: float = 0.0
    transfer_time: float = 0.0
    colour: str | None = None
    on_accelerator: bool = True
    backward: bool = False
    output: float | None = None
    weights: float = 0.0
    flops: float = 0.0
    traffic: float = 0.0
    on_cpu: bool = True

    @property
    def longest(self) -> float:
        """Longest time on a device that can run it, s."""
        return max(self.on_accelerator * self.accelerator_time, self.on_cpu * self.cpu_time)


@dataclass(frozen=True)
class OperatorGraph:
    """A directed acyclic graph of operators.

    Attributes
    ----------
    edges
        Pairs of indices of `operators`: producer, consumer.
    """

    operators: tuple[Operator, ...]
    edges: tuple[tuple[int, int], ...]

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """Consumers of each operator."""
        found: list[list[int]] = [[] for _ in self.operators]
        for source, target in self.edges:
            found[source].append(target)
        return tuple(tuple(dict.fromkeys(targets)) for targets in found)

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Producers that each operator reads."""
        found: list[list[int]] = [[] for _ in self.operators]
        for source, target in self.edges:
            found[target].append(source)
        return tuple(tuple(dict.fromkeys(sources)) for sources in found)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A topological order; shorter than `operators` when the graph has a cycle."""
        waiting = [len(sources) for sources in self.predecessors]
        ready = [index for index, count in enumerate(waiting) if count == 0]
        for index in ready:
            for target in self.successors[index]:
                waiting[target] -= 1
                if waiting[target] == 0:
                    ready.append(target)
        return tuple(ready)


@dataclass(frozen=True)
class OperatorFile:
    """What the JSON form states: a graph and the machine that it is meant for.

    Attributes
    ----------
    memory
        Bytes of one accelerator.
    """

    graph: OperatorGraph
    num_accelerators: int
    num_cpus: int
    memory: float


class OperatorSpec(Record):
    """An operator in a document; the fields are those of `Operator`.

    Attributes
    ----------
    cpu_time
        Without it no CPU runs the operator.
    inputs
        Names of the operators whose output it reads.
    """

    name: Name
    accelerator_time: Seconds = Field(default=0.0, ge=0)
    cpu_time: Seconds | None = Field(default=None, ge=0)
    size: Bytes = Field(default=0.0, ge=0)
    transfer_time: Seconds = Field(default=0.0, ge=0)
    colour: Name | None = None
    on_accelerator: bool = True
    backward: bool = False
    output: Bytes | None = Field(default=None, ge=0)
    weights: Bytes = Field(default=0.0, ge=0)
    flops: Flops = Field(default=0.0, ge=0)
    traffic: Bytes = Field(default=0.0, ge=0)
    inputs: list[Name] = Field(default_factory=list)


class OperatorsJob(Record):
    """Placement of an operator graph on accelerators and CPUs.

    Attributes
    ----------
    graph
        Path of a graph in the JSON form, relative to the document; the machine that the file states gives
        way to the topology.
    time_unit
        What one unit of the times in that file is.
    operators
        The graph itself, where there is no file.
    objective
        ``throughput`` (least load of the busiest device) or ``latency`` (finish time of one sample).
    contiguous
        Whether every device must hold consecutive parts of the graph (throughput only).
    precision
        Data type of operators whose time follows from their operations.
    cpu
        Whether operators may run on the host.
    replicate
        Whether a stage may be on several accelerators that take samples in turn (contiguous throughput only).
    transfers
        ``host``: an output passes through host memory and takes ``transfer_time`` on either side. ``links``:
        it takes the route of the topology to each device that reads it, and no link may be busier than the
        busiest device (throughput only).
    """

    kind: Literal["operators"]
    name: Name
    graph: str | None = None
    time_unit: Seconds = Field(default=1e-3, gt=0)
    operators: list[OperatorSpec] = Field(default_factory=list)
    objective: Literal["throughput", "latency"] = "throughput"
    contiguous: bool = False
    precision: Precision = "bf16"
    cpu: bool = True
    replicate: bool = False
    transfers: Literal["host", "links"] = "host"
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _throughput_only(self) -> OperatorsJob:
        if self.contiguous and self.objective == "latency":
            raise ValueError("'contiguous' goes with the objective 'throughput'")
        if self.replicate and not (self.contiguous and self.transfers == "host"):
            raise ValueError("'replicate' needs 'contiguous: true' and 'transfers: host'")
        if self.transfers == "links" and self.objective == "latency":
            raise ValueError("'transfers: links' goes with the objective 'throughput'")
        return self

    @model_validator(mode="after")
    def _one_graph(self) -> OperatorsJob:
        if (self.graph is None) == (not self.operators):
            raise ValueError("give exactly one of 'graph' (path of a JSON graph) and 'operators'")
        faults = list(_spec_faults(self.operators))
        if faults:
            raise FaultError(faults)
        return self


def _spec_faults(specs: list[OperatorSpec]) -> Iterator[Fault]:
    names = {spec.name for spec in specs}
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        if spec.name in seen:
            yield Fault(("operators", index, "name"), f"the operator {spec.name!r} is named twice")
        seen.add(spec.name)
        for place, source in enumerate(spec.inputs):
            if source not in names:
                yield Fault(("operators", index, "inputs", place), f"there is no operator {source!r}")
    if len(names) == len(specs) and all(source in names for spec in specs for source in spec.inputs):
        graph = graph_of(specs)
        if len(graph.order) < len(specs):
            culprit = min(set(range(len(specs))) - set(graph.order))
            yield Fault(("operators", culprit, "inputs"), "the operators form a cycle")


def graph_of(specs: list[OperatorSpec]) -> OperatorGraph:
    """Return the graph of operators written in a document."""
    index = {spec.name: place for place, spec in enumerate(specs)}
    operators = tuple(
        Operator(
            s.name,
            s.accelerator_time,
            s.cpu_time or 0.0,
            s.size,
            s.transfer_time,
            s.colour,
            s.on_accelerator,
            s.backward,
            s.output,
            s.weights,
            s.flops,
            s.traffic,
            s.cpu_time is not None,
        )
        for s in specs
    )
    edges = tuple((index[source], index[spec.name]) for spec in specs for source in spec.inputs)
    return OperatorGraph(operators, edges)
