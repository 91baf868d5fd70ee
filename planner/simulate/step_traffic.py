"""What a training step sends: activations between stages and gradients around data-parallel groups.

One replica stands for all: transfers are those that start or end on its nodes, so that ranks of other
replicas on the same nodes share the links as they would. Tensor, context and expert traffic is part of the
stage times; here it only counts as bytes carried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from planner.costs.collectives import ALGORITHMS
from planner.costs.pipeline import sync_times
from planner.costs.training import ACTIVATION_BYTES
from planner.errors import SimulationError
from planner.placement import TrainingOutcome, TrainingPlan, TrainingProblem, gpu_numbers, training_spans
from planner.placement.flows import StepVolumes
from planner.placement.groups import mesh_of
from planner.simulate.cabling import Cabling
from planner.simulate.schedule import Pass
from planner.simulate.symmetry import Transfer, alone_rate

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
INSIDE_STAGES = ("tp", "cp", "ep")
"""Causes of traffic whose time is part of the stage times."""


class StepTraffic:
    """The transfers of a step on the nodes of one replica.

    Attributes
    ----------
    nodes
        Nodes of the replica.
    near : ndarray of bool, shape (num_gpus,)
        Whether each GPU is on one of them.
    alpha, beta : ndarray, shape (stages,)
        Fixed and size-dependent part of the uncontended gradient synchronisation, s.
    """

    def __init__(
        self,
        problem: TrainingProblem,
        plan: TrainingPlan,
        outcome: TrainingOutcome,
        cabling: Cabling,
        replica: int = 0,
    ) -> None:
        self.problem, self.plan, self.outcome, self.cabling = problem, plan, outcome, cabling
        self.names = problem.hierarchy.gpus
        numbers = gpu_numbers(problem, plan.ranks())
        self.mesh = mesh_of(plan.strategy, numbers)
        self.spans = training_spans(plan.strategy, numbers, problem.hierarchy)
        self.nodes = {self.names[rank].split("/", 1)[0] for rank in self.mesh[:, replica, 0].ravel()}
        self.nodes |= {end.split("/", 1)[0] for hop in cabling.shares for end in hop}
        self.near = np.asarray([name.split("/", 1)[0] in self.nodes for name in self.names])
        total = sync_times(outcome.costs, 0, outcome.dense, outcome.moe)
        fixed = float(outcome.costs.sync_alpha[0])
        self.alpha: FloatArray = np.minimum(total, fixed)
        self.beta: FloatArray = total - self.alpha

    # -- activations and their gradients ---------------------------------------------------------------

    def hops(self) -> dict[tuple[Pass, int], list[Transfer]]:
        """Return what each stage sends after one forward or backward pass of a chunk, by kind and stage."""
        strategy, stages = self.plan.strategy, self.plan.strategy.pp
        if stages == 1:
            return {}
        last = stages if strategy.virtual > 1 else stages - 1
        found: dict[tuple[Pass, int], list[Transfer]] = {}
        for stage in range(last):
            after = (stage + 1) % stages
            found["forward", stage] = list(self._pairs(stage, after))
            found["backward", after] = list(self._pairs(after, stage))
        return found

    def _pairs(self, source: int, target: int) -> Iterator[Transfer]:
        strategy = self.plan.strategy
        tokens = strategy.micro_batch * self.problem.job.sequence / strategy.cp
        size = tokens * self.problem.model.hidden * ACTIVATION_BYTES / strategy.tp
        overhead = self.problem.calibration.number("collective_step_overhead")
        lefts, rights = self.mesh[source].ravel(), self.mesh[target].ravel()
        near = self.near[lefts] | self.near[rights]
        for left, right in zip(lefts[near], rights[near], strict=True):
            route = self.cabling.route(self.names[left], self.names[right])
            rate = self._efficiency(left, right) * alone_rate(route, self.cabling.cables)
            yield Transfer(route, size, rate, overhead + self.cabling.latency(route))

    def _efficiency(self, left: int, right: int) -> float:
        return self.efficiency_of(self.problem, left, right)

    def efficiency_of(self, problem: TrainingProblem, left: int, right: int) -> float:
        """Return the share of the payload rate that messages between two GPUs reach."""
        for level, reached in zip(problem.hierarchy.levels, problem.fabric.rate, strict=True):
            if level.domain_of[left] == level.domain_of[right]:
                return float(reached) / level.rate
        raise SimulationError(f"nothing joins {self.names[left]} and {self.names[right]}")

    # -- gradients ---------------------------------------------------------------------------------------

    def gradients(self) -> list[list[Transfer]]:
        """Return what each stage sends to synchronise the gradients of one of its chunks.

        Every rank sends, at each level that its group crosses, to its counterpart in the next domain; all
        transfers take the time that the cost model gives the collective when nothing else is on the links.
        """
        return [
            [*self._group_transfers(stage, expert=False), *self._group_transfers(stage, expert=True)]
            if self.beta[stage] > 0.0
            else []
            for stage in range(self.plan.strategy.pp)
        ]

    def _group_transfers(self, stage: int, *, expert: bool) -> Iterator[Transfer]:
        groups = self._groups(stage, expert=expert)
        members = (self.spans.expert_data if expert else self.spans.data)[0]
        chunks = self.plan.strategy.virtual
        seconds = float(self.beta[stage]) / chunks
        for level, size in enumerate(
            self._sent(self._parameters(stage, expert=expert), members, expert=expert)
        ):
            if size <= 0.0:
                continue
            for left, right in self._next_in_level(groups, level):
                if self.near[left] or self.near[right]:
                    route = self.cabling.route(self.names[left], self.names[right])
                    yield Transfer(route, size / chunks, size / chunks / seconds)

    def _groups(self, stage: int, *, expert: bool) -> IntArray:
        """Return the ranks that share parameters of a stage, shape (groups, members)."""
        strategy, plane = self.plan.strategy, self.mesh[stage]
        return np.asarray(plane.reshape(-1, strategy.ep if expert else strategy.tp).T)

    def _parameters(self, stage: int, *, expert: bool) -> float:
        """Return the parameters of one rank that its data (or expert-data) group shares."""
        model, strategy = self.problem.model, self.plan.strategy
        dense, moe = int(self.outcome.dense[stage]), int(self.outcome.moe[stage])
        if expert:
            return (
                moe * model.experts.num_experts * model.expert_parameters / strategy.ep
                if model.experts
                else 0.0
            )
        count = (dense + moe) * model.attention_parameters
        count += dense * model.dense_mlp_parameters + moe * model.shared_mlp_parameters
        count += model.embedding_parameters + model.vision_parameters if stage == 0 else 0
        count += model.head_parameters if stage == strategy.pp - 1 else 0
        return count / strategy.tp

    def _sent(self, parameters: float, members: FloatArray, *, expert: bool) -> list[float]:
        """Return the bytes that each rank sends at each level.

        A reduction in the switch takes the gradients once. All else counts as a hierarchical collective:
        :math:`(k_l / k_{l-1} - 1) / k_l` of the buffer per round at level :math:`l`.
        """
        gradient = parameters * self.problem.calibration.number("gradient_bytes")
        plain = self.plan.strategy.sharding == "none"
        if plain and not expert and int(self.outcome.costs.algorithms["data"][0]) == ALGORITHMS.index("nvls"):
            return [gradient, *([0.0] * (len(members) - 1))]
        moved = 2.0 * gradient if plain else gradient + parameters * ACTIVATION_BYTES
        inner = np.concatenate(([1.0], members[:-1]))
        return [float(moved * (k / i - 1.0) / k) for k, i in zip(members, inner, strict=True)]

    def _next_in_level(self, groups: IntArray, level: int) -> Iterator[tuple[int, int]]:
        """Yield each rank with its counterpart in the next domain of the level below, around each domain."""
        levels = self.problem.hierarchy.levels
        outer = levels[level].domain_of
        inner = levels[level - 1].domain_of if level else np.arange(len(self.names))
        for group in groups:
            domains: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
            for rank in group:
                domains[int(outer[rank])][int(inner[rank])].append(int(rank))
            for parts in domains.values():
                ring = list(parts.values())
                for part, following in zip(ring, [*ring[1:], ring[0]], strict=True):
                    if part is not following:
                        yield from ((rank, following[i % len(following)]) for i, rank in enumerate(part))

    # -- everything else ---------------------------------------------------------------------------------

    def background(self) -> dict[int, float]:
        """Return the bytes per step, by link, of traffic whose time is part of the stage times."""
        causes = (*INSIDE_STAGES, "data") if self.plan.strategy.sharding == "parameters" else INSIDE_STAGES
        carried: dict[int, float] = defaultdict(float)
        for flow in StepVolumes(self.problem, self.plan).flows(self.mesh):
            ends = {flow.source.split("/", 1)[0], flow.target.split("/", 1)[0]}
            if flow.cause in causes and ends & self.nodes:
                for link in self.cabling.route(flow.source, flow.target):
                    carried[link] += flow.size
        return dict(carried)
