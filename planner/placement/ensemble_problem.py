"""The placement problem of an ensemble: domains and GPUs, and what a way between them costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from planner.costs import MemoryMode, TransferOption, transfer_options
from planner.errors import TopologyError
from planner.placement.job_problem import JobProblem, free_cores
from planner.placement.slices import plain_profiles, slice_device
from planner.topology import Device, MachineType, NumaDomain, Router, route
from planner.workload import EnsembleClass, EnsembleJob, EnsembleStage, StageGraph

TICK = 1e-6
"""Quantum of times, s: every part of a latency is rounded up to it."""
SHARES = 48
"""Parts that the requests of a stage are dealt out in: numbers of pools and instances divide it."""
Levels = tuple[int, int, int]
"""Ticks within a NUMA domain, within a node, and between nodes."""


def ticks(seconds: float) -> int:
    """Return a time in whole ticks, rounded up."""
    return math.ceil(seconds / TICK - 1e-6)


@dataclass(frozen=True)
class Domain:
    """A NUMA domain with the GPUs of the problem next to it.

    Attributes
    ----------
    kind
        Domains of one kind run CPU stages equally fast.
    cores
        Cores that stages may use.
    """

    index: int
    node: str
    numa: NumaDomain
    gpus: tuple[str, ...]
    kind: int
    cores: int

    @property
    def name(self) -> str:
        """``NODE/NUMA``."""
        return f"{self.node}/{self.numa.name}"


@dataclass(frozen=True)
class Way:
    """What goes from stage to stage; ``None`` stands for the host memory that requests come from or go to."""

    source: int | None
    target: int | None


@dataclass(frozen=True)
class EnsembleProblem(JobProblem):
    """An ensemble on GPUs of one device model and the hosts that they are in."""

    job: EnsembleJob
    model: StageGraph

    @property
    def stages(self) -> tuple[EnsembleStage, ...]:
        """Stages of the pipeline."""
        return self.model.stages

    @property
    def classes(self) -> tuple[EnsembleClass, ...]:
        """Classes of requests."""
        return tuple(self.job.classes)

    @cached_property
    def machines(self) -> dict[str, MachineType]:
        """Machine type of every node that has GPUs of the problem."""
        nodes = dict.fromkeys(gpu.split("/", 1)[0] for gpu in self.hierarchy.gpus)
        return {node: self.topology.node_of[node].machine for node in nodes}

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """NUMA domains of those nodes."""
        kinds: dict[tuple[float, int, float], int] = {}
        found: list[Domain] = []
        for node, machine in self.machines.items():
            for numa in machine.numa:
                speed = (numa.core_speed.value, numa.vector_bits, numa.memory_bandwidth.value)
                kind = kinds.setdefault(speed, len(kinds))
                near = {gpu.name for gpu in machine.gpus if gpu.numa == numa.name}
                gpus = [
                    gpu
                    for gpu in self.hierarchy.gpus
                    if gpu.split("/")[0] == node and gpu.split("/")[1] in near
                ]
                cores = free_cores(self, machine, numa.name)
                found.append(Domain(len(found), node, numa, tuple(gpus), kind, cores))
        return tuple(found)

    @cached_property
    def node_members(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the domains of every node."""
        return tuple(
            tuple(domain.index for domain in self.domains if domain.node == node) for node in self.machines
        )

    @cached_property
    def profiles(self) -> dict[str | None, Device]:
        """The whole device under ``None``, and its slices by profile where the job allows them."""
        found: dict[str | None, Device] = {None: self.device}
        if self.job.allow.mig:
            for name, profile in plain_profiles(self.device).items():
                if profile.compute < 1.0:
                    found[name] = slice_device(self.device, profile)
        return found

    def compute_share(self, profile: str | None) -> float:
        """Return the share of the multiprocessors that a slice has."""
        return next((each.compute for each in self.device.mig if each.name == profile), 1.0)

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """Ways into the entries, between stages, and out of the exits."""
        graph = self.model
        return (
            *(Way(None, stage) for stage in graph.entries),
            *(Way(left, right) for left, right in graph.edges),
            *(Way(stage, None) for stage in graph.exits),
        )

    def size(self, way: Way, request: EnsembleClass) -> float:
        """Return the bytes that a request moves on a way."""
        if way.source is None:
            assert way.target is not None
            stage = self.stages[way.target]
            return stage.bytes_in * stage.units(request)
        stage = self.stages[way.source]
        return stage.bytes_out * stage.units(request)

    @cached_property
    def prices(self) -> WayPrices:
        """Times of moves on this machine."""
        return WayPrices(self)

    def pinned_bytes(self, way: Way, stage: int) -> float:
        """Return what an instance of a stage pins for a way: two buffers of its largest batch."""
        own = self.stages[stage]
        work = own.gpu
        assert work is not None
        each = own.bytes_in if way.target == stage else own.bytes_out
        return 2.0 * work.max_batch * each


class WayPrices:
    """Times of moves by distance; the slowest pair of domains stands for all that are as far apart."""

    def __init__(self, problem: EnsembleProblem) -> None:
        self._problem, self._router = problem, Router(problem.topology)
        self._kept: dict[tuple[str, float], object] = {}

    def hand_over(self, size: float) -> Levels:
        """Return the ticks from host memory to host memory; nothing moves within a domain."""
        return (0, self._host(size, 1), self._host(size, 2))

    def host_copy(self, size: float, direction: Literal["in", "out"]) -> Mapping[MemoryMode, Levels]:
        """Return the ticks between a domain and a GPU by memory mode, the modes legal on every such way."""
        key = (direction, size)
        if key not in self._kept:
            near, far = self._copies(size, direction, near=True), self._copies(size, direction, near=False)
            across = self._host(size, 2)
            found: dict[MemoryMode, Levels] = {}
            for mode, first in near.items():
                second = max(first, far.get(mode, 0)) if far else first
                if not far or mode in far:
                    found[mode] = (first, second, max(second, first + across))
            self._kept[key] = found
        kept: Mapping[MemoryMode, Levels] = self._kept[key]  # type: ignore[assignment]
        return kept

    def staged_copy(self, size: float) -> Levels:
        """Return the ticks from GPU to GPU through host memory, pinned on both sides."""
        into, out = self.host_copy(size, "in")["pinned-copy"], self.host_copy(size, "out")["pinned-copy"]
        both = into[0] + out[0]
        return (both, both + self._host(size, 1), both + self._host(size, 2))

    def peer_copy(self, size: float) -> Levels | None:
        """Return the ticks from one whole GPU to another; ``None`` without a direct way that is no slower."""
        key = ("peer", size)
        if key not in self._kept:
            times = [*self._peers(size)]
            lacking = not times or any(time is None for time in times)
            slowest = 0 if lacking else max(time for time in times if time is not None)
            staged = self.staged_copy(size)
            direct = (slowest, slowest, max(slowest, staged[2]))
            worse = any(one > other for one, other in zip(direct, staged, strict=True))
            self._kept[key] = None if lacking or worse else direct
        kept: Levels | None = self._kept[key]  # type: ignore[assignment]
        return kept

    def _peers(self, size: float) -> Iterator[int | None]:
        start = self._problem.calibration.number("host_latency")
        for machine in {each.name: each for each in self._problem.machines.values()}.values():
            hosts = {domain.name for domain in machine.numa}
            for left in machine.gpus:
                for right in machine.gpus:
                    if left.name == right.name:
                        continue
                    way = route(machine.graph, left.name, right.name)
                    direct = way is not None and not hosts & set(way.vertices)
                    yield ticks(start + way.latency + size / way.rate) if way and direct else None

    def _host(self, size: float, level: int) -> int:
        """Return the ticks between domains of one node (1) or of different nodes (2); 0 without any."""
        key = (f"host {level}", size)
        if key not in self._kept:
            self._kept[key] = max((ticks(time) for time in self._hosts(size, level)), default=0)
        kept: int = self._kept[key]  # type: ignore[assignment]
        return kept

    def _hosts(self, size: float, level: int) -> Iterator[float]:
        if level == 1:
            for machine in {each.name: each for each in self._problem.machines.values()}.values():
                for left in machine.numa:
                    for right in machine.numa:
                        way = route(machine.graph, left.name, right.name)
                        if left.name != right.name and way is not None:
                            yield way.latency + size / way.rate
            return
        first = {node: machine.numa[0].name for node, machine in self._problem.machines.items()}
        nodes = list(first)
        for node in nodes[1:]:
            edges = [
                self._router.edge(hop)
                for hop in self._router.hops(f"{nodes[0]}/{first[nodes[0]]}", f"{node}/{first[node]}")
            ]
            yield sum(edge.latency for edge in edges) + size / min(edge.rate for edge in edges)

    def _copies(self, size: float, direction: Literal["in", "out"], *, near: bool) -> dict[MemoryMode, int]:
        """Return the slowest ticks by mode over pairs of a domain and a GPU, next to each other or not."""
        found: list[dict[MemoryMode, int]] = []
        for machine in {each.name: each for each in self._problem.machines.values()}.values():
            for numa in machine.numa:
                for gpu in machine.gpus:
                    if (gpu.numa == numa.name) == near:
                        options = self._options(machine, numa.name, gpu.name, size, direction)
                        found.append({option.mode: ticks(option.seconds) for option in options})
        modes = set.intersection(*(set(each) for each in found)) if found else set()
        return {mode: max(each[mode] for each in found) for mode in sorted(modes)}

    def _options(
        self, machine: MachineType, numa: str, gpu: str, size: float, direction: Literal["in", "out"]
    ) -> list[TransferOption]:
        ends = (numa, gpu) if direction == "in" else (gpu, numa)
        way = route(machine.graph, *ends)
        if way is None:
            raise TopologyError(f"nothing joins {numa} and {gpu} of machine {machine.name!r}")
        addressing = next(part.addressing for part in machine.gpus if part.name == gpu)
        return transfer_options(size, way, addressing, self._problem.calibration)
