"""The flows of a job before anything is placed: what moves or is read, how much, in which pattern."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from planner.costs.access import Access, HostPath
from planner.costs.coefficients import Calibration
from planner.topology import MachineType, route
from planner.workload import BYTES_PER_ELEMENT, CpuStage, ServingJob, TrainingJob, Transformer
from planner.workload.ensembles import EnsembleJob, EnsembleStage, StageGraph
from planner.workload.operators import OperatorGraph
from planner.workload.resolve import ResolvedJob, Tables
from planner.workload.tables import RecommenderJob

Kind = Literal["streaming tensor", "random sparse", "control"]
Place = Literal["host", "host link", "device memory", "between GPUs", "requests"]

TOKEN_BYTES = 4.0
CONTROL_SHARE = 0.1
"""Moving a control message takes at most this share of the time to start its copy: rates hardly matter."""
STATE_BYTES = 16.0
"""Bytes of weights, gradients and Adam states of a parameter in mixed precision (ZeRO, SC 2020, 3.1)."""


@dataclass(frozen=True)
class Flow:
    """Bytes that a job moves or reads again and again.

    Attributes
    ----------
    place
        Between host stages, over the link of host and GPU, in device memory, between GPUs; ``requests`` are
        what arrives.
    size
        Bytes each time.
    touched
        Bytes of them that are used each time; ``size`` for a stream.
    grain
        Contiguous bytes of one access; ``None``: the whole flow.
    per
        What it happens once per.
    total
        Bytes of everything that is kept at the place, where that decides; 0 elsewhere.
    """

    job: str
    name: str
    place: Place
    size: float
    per: str
    grain: float | None = None
    touched: float | None = None
    total: float = 0.0

    def access(self) -> Access:
        """Return the flow as a pattern of accesses to host memory."""
        share = 1.0 if self.touched is None else min(1.0, self.touched / self.size)
        return Access(self.size, share=share, grain=self.grain)


def latency_bound(path: HostPath, calibration: Calibration) -> float:
    """Return the bytes below which the time of a copy over a path is nearly all its start."""
    return CONTROL_SHARE * (calibration.number("host_latency") + path.inwards.latency) * path.inwards.rate


def classify(flow: Flow, bound: float | None) -> Kind:
    """Return the class of a flow from its numbers.

    Parameters
    ----------
    bound
        Bytes below which a copy is nearly all latency on the machine; ``None`` where no machine is known.
    """
    if flow.grain is not None and flow.grain < flow.size:
        return "random sparse"
    if flow.place == "requests" or (bound is not None and flow.size < bound):
        return "control"
    return "streaming tensor"


def host_path(machine: MachineType) -> HostPath | None:
    """Return the way between the first GPU of a machine and its own NUMA domain, ``None`` without any."""
    if not machine.gpus:
        return None
    gpu = machine.gpus[0]
    into, out = route(machine.graph, gpu.numa, gpu.name), route(machine.graph, gpu.name, gpu.numa)
    if into is None or out is None:
        return None
    return HostPath(into, out, machine.numa_named(gpu.numa).memory_bandwidth.value, gpu.addressing)


def flows(resolved: ResolvedJob, calibration: Calibration) -> Iterator[Flow]:
    """Yield the flows of a job."""
    job, model = resolved.job, resolved.model
    if isinstance(job, ServingJob) and isinstance(model, Transformer):
        yield from _serving(job, model, calibration)
    elif isinstance(job, TrainingJob) and isinstance(model, Transformer):
        yield from _training(job, model)
    elif isinstance(job, RecommenderJob) and isinstance(model, tuple):
        yield from _tables(job, model)
    elif isinstance(model, OperatorGraph):
        yield from _graph(job.name, model)
    elif isinstance(job, EnsembleJob) and isinstance(model, StageGraph):
        yield from _ensemble(job, model, calibration.number("coherent_line"))


def _serving(job: ServingJob, model: Transformer, calibration: Calibration) -> Iterator[Flow]:
    name, traffic = job.name, job.traffic
    line = calibration.number("coherent_line")

    def stage(one: CpuStage, what: str, place: Place, size: float) -> Flow:
        return Flow(name, what, place, size, "request", line if one.access == "random" else None)

    yield Flow(
        name, f"requests, {traffic.rate:g}/s", "requests", traffic.prompt.mean * TOKEN_BYTES, "request"
    )
    for left, right in pairwise(job.before):
        yield stage(left, f"{left.name} → {right.name}", "host", left.bytes_out)
    if job.before:
        yield stage(job.before[-1], f"{job.before[-1].name} → model", "host link", job.before[-1].bytes_out)
    else:
        yield Flow(name, "prompt → model", "host link", traffic.prompt.mean * TOKEN_BYTES, "request")
    if job.after:
        yield stage(job.after[0], f"model → {job.after[0].name}", "host link", job.after[0].bytes_in)
    else:
        yield Flow(name, "model → answer", "host link", traffic.output.mean * TOKEN_BYTES, "request")
    for left, right in pairwise(job.after):
        yield stage(left, f"{left.name} → {right.name}", "host", left.bytes_out)
    weights = model.num_parameters * BYTES_PER_ELEMENT[job.precision]
    yield Flow(name, "weights", "device memory", weights, "decode step", total=weights)
    images = traffic.images * (model.vision.tokens if model.vision else 0)
    length = traffic.prompt.mean + images + traffic.output.mean
    cache = length * model.layers * model.kv_width * BYTES_PER_ELEMENT[job.kv_precision]
    yield Flow(name, "key-value cache of a request", "device memory", cache, "decode step", total=cache)


def _training(job: TrainingJob, model: Transformer) -> Iterator[Flow]:
    element, parameters = BYTES_PER_ELEMENT[job.precision], float(model.num_parameters)
    states = parameters * STATE_BYTES
    yield Flow(
        job.name, "weights and optimizer states", "device memory", parameters * element, "step", total=states
    )
    yield Flow(job.name, "gradients", "between GPUs", parameters * 2.0, "step")
    tokens = job.sequence * model.hidden * 2.0
    yield Flow(job.name, "activations of a sequence at a layer", "between GPUs", tokens, "layer")


def _tables(job: RecommenderJob, tables: Tables) -> Iterator[Flow]:
    total = sum(table.size for table in tables)
    largest = max(tables, key=lambda table: table.size)
    row = largest.dim * largest.element
    touched = min(job.global_batch * largest.pooling * row, largest.size)
    title = f"rows of {largest.name}, the largest of {len(tables)} tables"
    yield Flow(job.name, title, "host link", largest.size, "iteration", row, touched, total)
    pooled = sum(job.global_batch * table.dim * table.element for table in tables)
    yield Flow(job.name, "pooled embeddings", "between GPUs", pooled, "iteration")


def _graph(name: str, graph: OperatorGraph) -> Iterator[Flow]:
    held = sum(operator.size for operator in graph.operators)
    if held:
        yield Flow(name, "operators and their weights", "device memory", held, "sample", total=held)
    outputs = [graph.operators[index].output or 0.0 for index in {source for source, _ in graph.edges}]
    if sum(outputs):
        what = f"outputs of {len(outputs)} operators"
        yield Flow(name, what, "between GPUs", sum(outputs) / len(outputs), "sample")


def _ensemble(job: EnsembleJob, graph: StageGraph, line: float) -> Iterator[Flow]:
    """Yield what arrives, what stages hand on for a request of the largest class, and the weights."""
    largest = max(job.classes, key=lambda each: each.items)
    for request in job.classes:
        size = sum(
            graph.stages[entry].bytes_in * graph.stages[entry].units(request) for entry in graph.entries
        )
        name = f"requests of {request.name}, {request.rate:g}/s"
        yield Flow(job.name, name, "requests", size or 1.0, "request")
    for left, right in graph.edges:
        source, target = graph.stages[left], graph.stages[right]
        size = source.bytes_out * source.units(largest)
        if size:
            grain = line if source.access == "random" else None
            place = _between(source, target)
            name = f"{source.name} → {target.name}, {largest.name}"
            yield Flow(job.name, name, place, size, "request", grain)
    for stage in graph.stages:
        if stage.gpu is not None and stage.gpu.weights:
            weights = stage.gpu.weights
            title = f"weights of {stage.name}"
            yield Flow(job.name, title, "device memory", weights, "batch", total=weights)


def _between(source: EnsembleStage, target: EnsembleStage) -> Place:
    """Return where data of two stages pass; the host link where either can be on one side of it."""
    if source.gpu is None and target.gpu is None:
        return "host"
    return "between GPUs" if source.cpu is None and target.cpu is None else "host link"
