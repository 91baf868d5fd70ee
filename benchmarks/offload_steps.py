"""Layers that fetch weights from the host and hand results back, simulated on the links of a machine."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import simpy

from planner.costs import Calibration
from planner.costs.footprint import kept_bytes
from planner.costs.stacks import stack_coefficients
from planner.costs.step_terms import step_terms
from planner.costs.strategy import ACTIVATION_BYTES, MASTER_BYTES, Setting
from planner.costs.training import BACKWARD_SHARE, layer_parts
from planner.placement import TrainingPlan, TrainingProblem
from planner.placement.groups import training_spans
from planner.placement.problem import gpu_numbers
from planner.placement.training import as_candidates
from planner.simulate.cabling import Cabling
from planner.simulate.links import LinkSpec
from planner.simulate.network import Network
from planner.topology import Router, Topology

Process = Generator[simpy.Event, Any, None]
BUFFERS = 2
"""Layers on a GPU that are fetched: one that runs, one that comes."""


@dataclass(frozen=True)
class Copies:
    """How copies are made.

    Attributes
    ----------
    pinned, overlapped, near
        From pinned memory; beside the kernels of other layers; from the domain next to the GPU.
    """

    pinned: bool = True
    overlapped: bool = True
    near: bool = True


VARIANTS = {
    "planned": Copies(),
    "pageable": Copies(pinned=False),
    "not overlapped": Copies(overlapped=False),
    "far": Copies(near=False),
    "naive": Copies(pinned=False, overlapped=False, near=False),
}


class Visit(NamedTuple):
    """A layer that runs: its time, s, and the bytes that it fetches before and hands back after."""

    seconds: float
    into: float
    out: float


class Work(Protocol):
    """What every rank does, and what it copies between its GPU and the host."""

    @property
    def topology(self) -> Topology:
        """Where it runs."""

    @property
    def calibration(self) -> Calibration:
        """What copies start and stage with."""

    @property
    def ranks(self) -> Sequence[str]:
        """GPUs that all do the same."""

    @property
    def visits(self) -> Sequence[Visit]:
        """Layers in the order in which they run."""

    @property
    def update(self) -> tuple[float, float, float]:
        """Gradients out, bytes that the cores stream, weights in: of an optimizer on the host."""

    @property
    def rest(self) -> float:
        """Time besides, s."""


class Step:
    """A training step of a plan without pipeline."""

    def __init__(self, problem: TrainingProblem, plan: TrainingPlan) -> None:
        self.problem, self.plan = problem, plan
        self.topology, self.calibration, self.ranks = problem.topology, problem.calibration, plan.ranks()
        numbers = gpu_numbers(problem, plan.ranks())
        self._setting = Setting(
            problem.shape, as_candidates(plan.strategy),
            training_spans(plan.strategy, numbers, problem.hierarchy), problem.kernels, problem.fabric,
            problem.calibration,
        )  # fmt: skip
        parts = self._parts
        self.waiting = float(parts.pop("offload")[0])
        compute = float(sum(parts.values())[0])
        self.forward, self.backward = (1.0 - BACKWARD_SHARE) * compute, BACKWARD_SHARE * compute
        self.layers, self.count = plan.layers[0], plan.num_micro_batches

    @cached_property
    def visits(self) -> list[Visit]:
        """Layers forward and backward, micro-batch after micro-batch."""
        weights, gradients, kept = self._moved
        passes = (Visit(self.forward, weights, kept), Visit(self.backward, weights + kept, gradients))
        return [one for _ in range(self.count) for one in passes for _ in range(self.layers)]

    @cached_property
    def _parts(self) -> dict[str, Any]:
        terms = step_terms(self._setting)
        stack = stack_coefficients(
            self.problem.calibration, self.problem.shape.stack, self.problem.device.architecture
        )
        return layer_parts(terms, terms.dense, stack, stack.host)

    @cached_property
    def _moved(self) -> tuple[float, float, float]:
        """Weights, gradients and activations of a layer that are copied for a micro-batch, bytes."""
        setting, way = self._setting, self.plan.strategy.offload
        parameters = float(setting.sharded_parameters(moe=False)[0])
        gradient = setting.number("gradient_bytes")
        kept = float(kept_bytes(setting, moe=False)[0])
        return (
            parameters * ACTIVATION_BYTES * (way == "weights"), parameters * gradient * (way == "weights"),
            kept * (way == "activations"),
        )  # fmt: skip

    @cached_property
    def update(self) -> tuple[float, float, float]:
        """Gradients out, bytes that the cores stream, weights in: of a rank's optimizer on the host."""
        strategy, setting = self.plan.strategy, self._setting
        if strategy.offload not in ("optimizer", "weights"):
            return 0.0, 0.0, 0.0
        shard = strategy.dp * strategy.cp if strategy.sharding != "none" else 1
        parameters = float(setting.layer_parameters(moe=False)[0]) * self.layers
        parameters += float(setting.first_parameters()[0] + setting.last_parameters()[0])
        gradient = setting.number("gradient_bytes")
        touched = gradient + 2.0 * MASTER_BYTES + ACTIVATION_BYTES
        return tuple(parameters / shard * each for each in (gradient, touched, ACTIVATION_BYTES))  # type: ignore[return-value]

    @property
    def rest(self) -> float:
        """What the prediction has besides layers and the optimizer on the host, s."""
        layers = self.count * self.layers * (self.forward + self.backward + self.waiting)
        share, (out, streamed, into) = self.problem.shape.host, self.update
        host = 0.0
        if out:
            host = out / share.to_host + streamed / share.memory_bandwidth + into / share.to_device
        return self.plan.prediction.step_time - layers - host


class Simulation:
    """One step of all ranks on the links of their machine."""

    def __init__(self, work: Work, copies: Copies) -> None:
        self.work, self.copies, self.env = work, copies, simpy.Environment()
        number = work.calibration.number
        self._ratio = 1.0 if copies.pinned else number("pageable_ratio")
        self._start = number("host_latency")
        topology = work.topology
        cabling = Cabling(Router(topology))
        self._ways: dict[tuple[str, bool], tuple[int, ...]] = {}
        homes: dict[str, str] = {}
        for gpu in work.ranks:
            homes[gpu] = self._home(topology, gpu if copies.near else topology.gpus[0])
            self._ways[gpu, True] = cabling.route(homes[gpu], gpu)
            self._ways[gpu, False] = cabling.route(gpu, homes[gpu])
        specs = list(cabling.specs())
        fastest = max(
            spec.rate for spec in specs
        )  # a copy engine outruns the cores' streams: GH200, 380 to 348
        self._memory: dict[str, int] = {}
        for home in dict.fromkeys(homes.values()):
            node, name = home.split("/", 1)
            rate = topology.node_of[node].machine.numa_named(name).memory_bandwidth.value
            self._memory[home] = len(specs)
            specs.append(LinkSpec(f"memory of {home}", max(rate, fastest)))
        self._homes = homes
        self.network = Network(self.env, specs, cabling.groups())

    @staticmethod
    def _home(topology: Topology, gpu: str) -> str:
        node, name = gpu.split("/", 1)
        machine = topology.node_of[node].machine
        return f"{node}/{next(one.numa for one in machine.gpus if one.name == name)}"

    def seconds(self) -> float:
        """Return the time of the step, s."""
        ends = [self.env.process(self._rank(gpu)) for gpu in self.work.ranks]
        self.env.run(self.env.all_of(ends))
        return float(self.env.now) + self.work.rest

    def _copy(self, gpu: str, size: float, *, into: bool) -> simpy.Event:
        """Copy between a GPU and its buffers; the staging of pageable memory holds the rate down."""
        if not size:
            return self.env.timeout(0.0)
        way = self._ways[gpu, into]
        rate = self._ratio * min(self.network.links[hop].rate for hop in way)
        return self.network.send((*way, self._memory[self._homes[gpu]]), size, cap=rate, delay=self._start)

    def _rank(self, gpu: str) -> Process:
        """Run all layers; with overlap the copies of others run beside them."""
        yield from self._overlapped(gpu) if self.copies.overlapped else self._in_turn(gpu)
        yield from self._update(gpu)

    def _in_turn(self, gpu: str) -> Process:
        for visit in self.work.visits:
            yield self._copy(gpu, visit.into, into=True)
            yield self.env.timeout(visit.seconds)
            yield self._copy(gpu, visit.out, into=False)

    def _overlapped(self, gpu: str) -> Process:
        arrived = {place: self.env.event() for place, visit in enumerate(self.work.visits) if visit.into}
        buffers = simpy.Container(self.env, BUFFERS, init=BUFFERS)
        self.env.process(self._fetch(gpu, arrived, buffers))
        leaving: simpy.Event = self.env.timeout(0.0)
        for place, visit in enumerate(self.work.visits):
            if place in arrived:
                yield arrived[place]
            yield self.env.timeout(visit.seconds)
            if place in arrived:
                buffers.put(1)
            if visit.out:
                yield leaving  # one buffer leaves while the next is filled
                leaving = self._copy(gpu, visit.out, into=False)
        yield leaving

    def _fetch(self, gpu: str, arrived: dict[int, simpy.Event], buffers: simpy.Container) -> Process:
        """Fetch what layers need, in their order, as soon as a buffer is free."""
        for place, event in arrived.items():
            yield buffers.get(1)
            yield self._copy(gpu, self.work.visits[place].into, into=True)
            event.succeed()

    def _update(self, gpu: str) -> Process:
        """Send gradients to the host, update there, and bring the weights back, one after the other."""
        out, streamed, into = self.work.update
        yield self._copy(gpu, out, into=False)
        if streamed:
            node, name = self._homes[gpu].split("/", 1)
            cores = self.work.topology.node_of[node].machine.numa_named(name).memory_bandwidth.value
            yield self.network.send((self._memory[self._homes[gpu]],), streamed, cap=cores)
        yield self._copy(gpu, into, into=True)
