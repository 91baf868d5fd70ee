"""Bytes that a training plan puts on the links of the machine in one step, as flows between GPUs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from planner.costs.strategy import ACTIVATION_BYTES
from planner.placement.groups import mesh_of
from planner.placement.plan import LinkLoad, ServingPlan, Strategy, TrainingPlan
from planner.placement.pools import cache_holders, cache_pairs
from planner.placement.problem import ServingProblem, TrainingProblem, gpu_numbers
from planner.placement.serving import serving_model
from planner.topology import Router
from planner.workload import Transformer

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Flow:
    """Bytes between two GPUs for a cause: ``tp``, ``cp``, ``ep``, ``pp``, ``data``, ``kv``, ``host``."""

    source: str
    target: str
    size: float
    cause: str


def ring_flows(group: list[str], size: float, cause: str, rounds: float) -> Iterator[Flow]:
    """Yield what each member sends to the next in a ring collective: ``rounds (m - 1) / m`` of ``size``.

    A group over several nodes runs a ring for each member on a node, so that all ports share what leaves it;
    ring attention (``cp``) passes its parts around one ring.
    """
    count = len(group)
    if count < 2 or size <= 0.0:
        return
    volume = rounds * (count - 1) / count * size
    nodes: dict[str, list[str]] = defaultdict(list)
    for name in group:
        nodes[name.split("/", 1)[0]].append(name)
    parts = [group] if cause == "cp" else list(nodes.values())
    for part, following in zip(parts, [*parts[1:], parts[0]], strict=True):
        for index, name in enumerate(part):
            if len(part) > 1:
                yield Flow(name, part[(index + 1) % len(part)], volume, cause)
            if len(parts) > 1:
                yield Flow(name, following[index % len(following)], volume / len(part), cause)


def all_to_all_flows(group: list[str], size: float) -> Iterator[Flow]:
    """Yield what each member sends to each other one when it spreads ``size`` bytes evenly."""
    for source in group:
        for target in group:
            if source != target:
                yield Flow(source, target, size / len(group), "ep")


def training_flows(problem: TrainingProblem, plan: TrainingPlan, nodes: set[str]) -> list[Flow]:
    """Return the flows of one step that start on given nodes, summed over layers and micro-batches."""
    volumes = StepVolumes(problem, plan)
    mesh = mesh_of(plan.strategy, gpu_numbers(problem, plan.ranks()))
    return [flow for flow in volumes.flows(mesh) if flow.source.split("/", 1)[0] in nodes]


class StepVolumes:
    """Message volumes of one step per group, bytes."""

    def __init__(self, problem: TrainingProblem, plan: TrainingPlan) -> None:
        self.problem, self.plan, self.strategy = problem, plan, plan.strategy
        self.names = problem.hierarchy.gpus
        model, s = problem.model, plan.strategy
        tokens = s.micro_batch * problem.job.sequence / s.cp
        self.activation = tokens * model.hidden * ACTIVATION_BYTES
        self.kv = tokens * model.kv_width * ACTIVATION_BYTES / s.tp
        self.count = plan.num_micro_batches

    def flows(self, mesh: IntArray) -> Iterator[Flow]:
        """Yield all flows of a step on a mesh of shape (pp, dp, cp, tp)."""
        model, s = self.problem.model, self.strategy
        first = 0
        for stage, layers in enumerate(self.plan.layers):
            dense = min(max(model.dense_layers - first, 0), layers)
            first += layers
            yield from self._stage(mesh[stage], dense, layers - dense, stage)
        if s.pp > 1:
            yield from self._hops(mesh)

    def _stage(self, plane: IntArray, dense: int, moe: int, stage: int) -> Iterator[Flow]:
        s, model = self.strategy, self.problem.model
        blocks = 2.0 * dense + (2.0 if model.experts is not None and model.experts.shared_ffn else 1.0) * moe
        tensor = 2.0 * blocks * self.activation * self.count * (1.0 + 0.5 * self._repeated(stage))
        for group in plane.reshape(-1, s.tp):
            yield from ring_flows(self._named(group), tensor, "tp", 2.0)
        around = 3.0 * (dense + moe) * self.kv * s.cp * self.count
        for group in plane.swapaxes(1, 2).reshape(-1, s.cp):
            yield from ring_flows(self._named(group), around, "cp", 1.0)
        gradient, gathered = self._gradient_bytes(dense, moe, stage)
        for group in plane.transpose(2, 0, 1).reshape(-1, s.dp * s.cp):
            yield from ring_flows(self._named(group), gradient, "data", 1.0)
            yield from ring_flows(self._named(group), gathered, "data", 1.0)
        if s.ep > 1 and moe and model.experts is not None:
            sent = 4.0 * self.activation / s.tp * model.experts.top_k * self.count * moe
            for group in plane.reshape(-1, s.ep):
                yield from all_to_all_flows(self._named(group), sent)

    def _repeated(self, stage: int) -> float:
        """Return the share of a stage's layers whose forward pass runs a second time."""
        if self.strategy.recompute == "block":
            return self.plan.recompute_layers[stage] / self.plan.layers[stage]
        return float(self.strategy.recompute == "full")

    def _gradient_bytes(self, dense: int, moe: int, stage: int) -> tuple[float, float]:
        """Return the bytes reduced and gathered per rank outside the experts."""
        model, s = self.problem.model, self.strategy
        parameters = (dense + moe) * model.attention_parameters + dense * model.dense_mlp_parameters
        parameters += moe * model.shared_mlp_parameters
        parameters += model.embedding_parameters if stage == 0 else 0
        parameters += model.head_parameters if stage == s.pp - 1 else 0
        gradient = parameters / s.tp * self.problem.calibration.number("gradient_bytes")
        if s.sharding == "none":
            return gradient, gradient
        weights = parameters / s.tp * ACTIVATION_BYTES
        times = {
            "optimizer": (1, 1),
            "gradients": (self.count, 1),
            "parameters": (self.count, 2 * self.count),
        }
        reduced, gathered = times[s.sharding]
        return gradient * reduced, weights * gathered

    def _hops(self, mesh: IntArray) -> Iterator[Flow]:
        s = self.strategy
        size = self.activation / s.tp * self.count * s.virtual
        wrap = [(mesh[-1], mesh[0])] if s.virtual > 1 else []
        for left, right in [*pairwise(mesh), *wrap]:
            for source, target in zip(left.ravel(), right.ravel(), strict=True):
                yield Flow(self.names[source], self.names[target], size, "pp")
                yield Flow(self.names[target], self.names[source], size, "pp")

    def _named(self, group: IntArray) -> list[str]:
        return [self.names[index] for index in group]


def representative_nodes(strategy: Strategy, ranks: list[str], most: int = 2) -> set[str]:
    """Return the nodes of the first and the last rank and of the next ones, as many as ``most``."""
    order = dict.fromkeys(name.split("/", 1)[0] for name in (ranks[0], ranks[-1], *ranks))
    return set(list(order)[:most])


def link_loads(flows: list[Flow], router: Router, seconds: float, most: int = 10) -> list[LinkLoad]:
    """Return the busiest links under some flows spread over ``seconds``, busiest first."""
    carried: dict[tuple[str, str], float] = defaultdict(float)
    for flow in flows:
        for hop in router.hops(flow.source, flow.target):
            carried[hop] += flow.size
    loads = []
    for hop, size in carried.items():
        edge = router.edge(hop)
        load = size / seconds
        loads.append(
            LinkLoad(
                source=hop[0],
                target=hop[1],
                kind=edge.kind,
                rate=edge.rate,
                load=load,
                utilisation=load / edge.rate,
            )
        )
    return sorted(loads, key=lambda item: (-item.utilisation, item.source, item.target))[:most]


def _stage_flows(stage: list[str], model: Transformer, s: Strategy, size: float) -> Iterator[Flow]:
    """Yield the all-reduces of a stage: of attention in each of its copies, of experts in all of it."""
    inner = 2 * model.layers if s.adp == 1 else model.layers + model.dense_layers
    width = s.tp // s.adp
    for start in range(0, s.tp, width):
        yield from ring_flows(stage[start : start + width], inner / s.pp * size / s.adp, "tp", 2.0)
    yield from ring_flows(stage, (2 * model.layers - inner) / s.pp * size, "ep", 2.0)


def serving_flows(problem: ServingProblem, plan: ServingPlan) -> list[Flow]:
    """Return the flows of one second of serving: tensor and pipeline traffic, inputs, outputs, caches."""
    traffic = problem.job.traffic
    prompt, output = traffic.prompt.mean * (1 - traffic.prefix), traffic.output.mean
    if plan.prefill is None:
        return list(_pool_flows(problem, plan, prompt + output))
    first, second = plan.pools()
    flows = [*_pool_flows(problem, first, prompt), *_pool_flows(problem, second, output)]
    return [*flows, *_cache_flows(problem, first, second)]


def _pool_flows(problem: ServingProblem, plan: ServingPlan, tokens: float) -> Iterator[Flow]:
    """Yield the flows of equal replicas that compute so many tokens of each request."""
    model, s = problem.model, plan.strategy
    rate = problem.job.traffic.rate / s.dp
    size = rate * tokens * model.hidden * ACTIVATION_BYTES
    for replica in plan.replicas:
        gpus = replica.gpus()
        stages = [gpus[start : start + s.tp] for start in range(0, len(gpus), s.tp)]
        for stage in stages:
            yield from _stage_flows(stage, model, s, size)
        for left, right in pairwise(stages):
            yield from (Flow(a, b, size, "pp") for a, b in zip(left, right, strict=True))
        for transfer in replica.transfers:
            ends = (f"{replica.node}/{transfer.source}", f"{replica.node}/{transfer.target}")
            yield Flow(*ends, transfer.size * rate, "host")


def _cache_flows(problem: ServingProblem, first: ServingPlan, second: ServingPlan) -> Iterator[Flow]:
    """Yield the moves of caches from every copy of attention of one pool to every one of the other."""
    model = serving_model(problem, second.strategy, second.gpus())
    traffic = problem.job.traffic
    sources = [copy for replica in cache_holders(first) for copy in replica]
    targets = [copy for replica in cache_holders(second) for copy in replica]
    images = traffic.images * (problem.model.vision.tokens if problem.model.vision else 0)
    size = traffic.rate * (traffic.prompt.mean + images) * float(model.kv_per_token()[0])
    for senders, receivers in product(sources, targets):
        for source, target, share in cache_pairs(senders, receivers):
            yield Flow(source, target, size * share / (len(sources) * len(targets)), "kv")
