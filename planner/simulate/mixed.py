"""Simulate one optimizer step of a training plan on GPUs of several device models, replica by replica."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from planner.costs.pipeline import stage_times, sync_times, update_times
from planner.placement import TrainingOutcome, TrainingPlan
from planner.placement.groups import training_spans
from planner.placement.mixed import MixedTrainingProblem
from planner.placement.training import judge_spans
from planner.simulate.cabling import Cabling
from planner.simulate.carriers import SharedLinks, Uncontended
from planner.simulate.fluid import FloatArray
from planner.simulate.outcome import JobOutcome
from planner.simulate.pipeline import Gradients, StepModel
from planner.simulate.step_traffic import IntArray, StepTraffic
from planner.simulate.symmetry import Reduced, reduce_network
from planner.simulate.training import ScheduleName, replica_plan, run_replica, split_backward, step_outcome
from planner.topology import Router


def simulate_mixed(
    problem: MixedTrainingProblem,
    plan: TrainingPlan,
    router: Router | None = None,
    *,
    schedule: ScheduleName = "plan",
) -> JobOutcome:
    """Simulate every replica of a plan with its own micro-batches; the step is that of the slowest.

    Notes
    -----
    As :func:`planner.simulate.training.simulate_training`: every stage computes at the pace of its own device
    model, and its gradients are reduced at the pace of the slowest model that holds the stage in any replica.
    Replicas meet on the links of their nodes.
    """
    cells = Cells(problem, plan)
    cabling = Cabling(router or Router(problem.topology))
    replicas = [_Replica(cells, cabling, number) for number in range(plan.strategy.dp)]
    runs = []
    for each in replicas:
        model = split_backward(each.model) if schedule == "zero-bubble" else each.model
        count, links = each.plan.num_micro_batches, partial(SharedLinks, reduced=each.reduced)
        runs.append((each, model, run_replica(model, count, links), run_replica(model, count, Uncontended)))
    slowest, model, run, _ = max(runs, key=lambda found: found[2][0].seconds)
    shortest = max(alone[0].seconds for _, _, _, alone in runs)
    kind = problem.kinds[int(cells.kinds[0, slowest.number])]
    return step_outcome(kind, slowest.plan, slowest.traffic, slowest.reduced, model, run, shortest)


@dataclass(frozen=True)
class Cells:
    """The cells of a plan with what each would take if all were of one model."""

    problem: MixedTrainingProblem
    plan: TrainingPlan

    @cached_property
    def gpus(self) -> IntArray:
        """Number of the GPU of every rank."""
        return np.asarray([self.problem.position[name] for name in self.plan.ranks()], dtype=np.int64)

    @cached_property
    def kinds(self) -> IntArray:
        """Device model of every cell, shape (pp, dp)."""
        s = self.plan.strategy
        return np.asarray(self.problem.kind_of[self.gpus].reshape(s.pp, s.dp, -1)[:, :, 0])

    @cached_property
    def outcomes(self) -> dict[int, TrainingOutcome]:
        """What the judge finds for each model that has a cell."""
        strategy, layers = self.plan.strategy, list(self.plan.layers)
        spans = training_spans(strategy, self.gpus, self.problem.hierarchy)
        present = sorted({int(kind) for kind in self.kinds.ravel()})
        return {kind: judge_spans(self.problem.kinds[kind], strategy, layers, spans) for kind in present}

    @cached_property
    def slowest(self) -> IntArray:
        """Model that takes longest to reduce the gradients of each stage, shape (pp,)."""
        times = {kind: sync_times(o.costs, 0, o.dense, o.moe) for kind, o in self.outcomes.items()}
        return np.asarray([
            max((int(kind) for kind in row), key=lambda kind: float(times[kind][stage]))
            for stage, row in enumerate(self.kinds)
        ])  # fmt: skip

    def pick(self, kinds: IntArray, figures: dict[int, FloatArray]) -> FloatArray:
        """Return the figure of each stage for the model that it has."""
        return np.asarray([figures[int(kind)][stage] for stage, kind in enumerate(kinds)])


class _MixedTraffic(StepTraffic):
    """What the ranks of a replica send, between device models at the pace of the slower."""

    def __init__(self, cells: Cells, plan: TrainingPlan, cabling: Cabling, replica: int) -> None:
        self.kinds = cells.problem.kinds
        self.kind_of = cells.problem.kind_of
        first = int(cells.slowest[0])
        super().__init__(cells.problem.kinds[first], plan, cells.outcomes[first], cabling, replica)
        total, fixed = {}, {}
        for kind, outcome in cells.outcomes.items():
            total[kind] = sync_times(outcome.costs, 0, outcome.dense, outcome.moe)
            fixed[kind] = np.full(len(total[kind]), float(outcome.costs.sync_alpha[0]))
        whole = cells.pick(cells.slowest, total)
        self.alpha = np.minimum(whole, cells.pick(cells.slowest, fixed))
        self.beta = whole - self.alpha

    def _efficiency(self, left: int, right: int) -> float:
        ends = {int(self.kind_of[left]), int(self.kind_of[right])}
        return min(self.efficiency_of(self.kinds[kind], left, right) for kind in ends)


class _Replica:
    """One replica: its traffic, the links that it uses, and its step."""

    def __init__(self, cells: Cells, cabling: Cabling, number: int) -> None:
        self.cells, self.number = cells, number
        self.plan = replica_plan(cells.plan, cells.plan.micro_batches[number])
        self.traffic = _MixedTraffic(cells, self.plan, cabling, number)
        hops, gradients = self.traffic.hops(), self.traffic.gradients()
        self.reduced: Reduced = reduce_network([*hops.values(), *gradients], cabling.cables)
        between = dict(zip(hops, self.reduced.bundles, strict=False))
        kinds = cells.kinds[:, number]
        compute, backward, update, hidden = {}, {}, {}, {}
        for kind, outcome in cells.outcomes.items():
            costs, stages = outcome.costs, len(kinds)
            compute[kind] = stage_times(costs, 0, outcome.dense, outcome.moe) - costs.hop[0]
            backward[kind] = float(costs.backward_share[0]) * compute[kind]
            update[kind] = update_times(costs, 0, outcome.dense, outcome.moe)
            hidden[kind] = np.full(stages, costs.overlap * float(costs.hideable[0]))
        forward = {kind: compute[kind] - backward[kind] for kind in compute}
        share = cells.pick(kinds, hidden)
        alpha, beta = self.traffic.alpha, self.traffic.beta
        classes = self.reduced.bundles[len(hops) :]
        self.model = StepModel(
            1,
            cells.pick(kinds, forward),
            cells.pick(kinds, backward),
            cells.pick(kinds, update),
            between,
            cells.problem.kinds[0].calibration.number("pipeline_overlap"),
            [
                Gradients(classes[s], float(alpha[s]), float(share[s] * (alpha[s] + beta[s])))
                if alpha[s] + beta[s] > 0.0
                else None
                for s in range(len(kinds))
            ],
        )
