"""Uneven layers over stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import StageCosts, stage_costs
from planner.costs.pipeline import in_flight, split_kinds, stage_memory, step_time
from planner.placement import (
    Strategy,
    TrainingPlan,
    TrainingProblem,
    as_candidates,
    check_job,
    judge_spans,
    judge_training,
    training_spans,
)
from planner.placement.recompute import fewest_repeated, repeat_choices
from planner.placement.training import fits
from planner.solve import solve_job
from planner.solve.baselines import even_layers
from planner.solve.budget import Budget
from planner.solve.layers import balanced, best_split
from planner.topology import Device
from planner.workload import Degrees, ModelReference, TrainingJob, Transformer
from tests.laws.brute_force import best_split as walk
from tests.laws.brute_force import compositions
from tests.laws.instances import Box, MachineCase, problem_of, training_jobs

CASE = MachineCase((Box((4,), 300.0, 40.0, 20.0),), 40e9)
QUANTA = 1e6
"""Bytes that a stage may lose to the quanta of memory."""
DEEP = Transformer(
    name="deep", layers=32, hidden=1024, ffn=4096, heads=8, kv_heads=4, head_dim=128, vocab=1024
)
PLAIN_JOB = TrainingJob(
    kind="training", name="job", model=ModelReference(dims=DEEP), sequence=2048, global_batch=16
)


@given(training_jobs(), st.sampled_from([(2, 1), (2, 2), (3, 1), (4, 1)]), st.sampled_from([3e9, 6e9, 40e9]))
def test_split_equals_every_split_walked(job: TrainingJob, shape: tuple[int, int], memory: float) -> None:
    """The split is the best of all that fit, and none is returned where none fits."""
    problem = problem_of(job, replace(CASE, memory=memory))
    assert isinstance(problem, TrainingProblem)
    strategy = Strategy(pp=shape[0], virtual=shape[1])
    if shape[0] * shape[1] > problem.model.layers:
        return
    spans = training_spans(strategy, np.arange(strategy.num_ranks), problem.hierarchy)
    costs = stage_costs(
        problem.shape, as_candidates(strategy), spans, problem.kernels, problem.fabric, problem.calibration
    )
    flight = in_flight(strategy.pp, strategy.virtual, int(costs.num_micro_batches[0]))
    walked = []
    for layers in compositions(problem.model.layers, strategy.pp, strategy.virtual):
        dense, moe = split_kinds(np.asarray(layers), problem.model.dense_layers)
        if (np.asarray(sum(stage_memory(costs, 0, dense, moe, flight).values())) <= problem.capacity).all():
            walked.append(step_time(costs, 0, strategy.virtual, dense, moe))
    split = best_split(problem, strategy, costs, 0, Budget(seconds=10.0))
    if not walked:
        assert split is None
        return
    assert split is not None
    assert split.seconds == pytest.approx(min(walked), rel=1e-6)
    assert sum(split.layers) == problem.model.layers


@given(
    training_jobs(),
    st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1), (4, 1)]),
    st.floats(0.0, 1.0),
    st.sampled_from([None, [0, 2], [1]]),
)
def test_each_stage_repeats_its_own_layers_as_walked(
    job: TrainingJob, shape: tuple[int, int], tight: float, listed: list[int] | None
) -> None:
    """Layers and repeated layers are the best of all that fit, and beat every number shared by all stages."""
    degrees = job.degrees.model_copy(update={"recompute_layers": listed})
    roomy = problem_of(job.model_copy(update={"degrees": degrees}), CASE)
    assert isinstance(roomy, TrainingProblem)
    strategy = Strategy(pp=shape[0], virtual=shape[1], recompute="block")
    if shape[0] * shape[1] > roomy.model.layers:
        return
    spans = training_spans(strategy, np.arange(strategy.num_ranks), roomy.hierarchy)
    costs = stage_costs(
        roomy.shape, as_candidates(strategy), spans, roomy.kernels, roomy.fabric, roomy.calibration
    )
    problem = replace(roomy, device=shrunken(roomy, costs, strategy, tight))
    walked = walk(problem, strategy, costs, 0)
    split = best_split(problem, strategy, costs, 0, Budget(seconds=10.0))
    if split is None:
        assert walked == float("inf")
        return
    assert split.seconds == pytest.approx(walked, rel=1e-6)
    assert split.seconds == pytest.approx(
        judge_spans(problem, strategy, split.layers, spans, split.again).step_time
    )
    each = repeat_choices(problem)[:, None] * strategy.virtual
    dense, moe = split_kinds(np.asarray(split.layers), problem.model.dense_layers)
    for again in np.minimum(each, split.layers):
        outcome = judge_spans(problem, strategy, split.layers, spans, again)
        if fits(problem, outcome):
            assert split.seconds <= outcome.step_time * (1 + 1e-9)
    if strategy.virtual == 1:
        assert list(split.again) == list(fewest_repeated(problem, strategy, costs, 0, dense, moe))


def shrunken(problem: TrainingProblem, costs: StageCosts, strategy: Strategy, tight: float) -> Device:
    """Return a device whose memory lies between what all layers repeated need and what none does."""
    layers = even_layers(problem.model.layers, strategy.pp)
    dense, moe = split_kinds(np.asarray(layers), problem.model.dense_layers)
    flight = in_flight(strategy.pp, strategy.virtual, int(costs.num_micro_batches[0]))
    most, least = (
        float(np.asarray(sum(stage_memory(costs, 0, dense, moe, flight, again).values())).max())
        for again in (0 * dense, dense + moe)
    )
    size = (least + (most - least) * tight + QUANTA) / (1 - problem.calibration.number("memory_margin"))
    return problem.device.model_copy(
        update={"memory": problem.device.memory.model_copy(update={"value": size})}
    )


def test_early_stages_repeat_more_than_late_ones() -> None:
    """With four to one micro-batches in flight, no stage repeats more layers than the one before it."""
    problem = problem_of(PLAIN_JOB, CASE)
    assert isinstance(problem, TrainingProblem)
    strategy = Strategy(pp=4, recompute="block")
    spans = training_spans(strategy, np.arange(4), problem.hierarchy)
    costs = stage_costs(
        problem.shape, as_candidates(strategy), spans, problem.kernels, problem.fabric, problem.calibration
    )
    tight = replace(problem, device=shrunken(problem, costs, strategy, 0.5))
    outcome = judge_spans(tight, strategy, [8, 8, 8, 8], spans)
    again = outcome.again.tolist()
    assert fits(tight, outcome)
    assert again == sorted(again, reverse=True)
    assert again[0] > again[-1] == 0
    alike = judge_spans(tight, strategy, [8, 8, 8, 8], spans, [max(again)] * 4)
    assert outcome.step_time < alike.step_time
    for stage in np.flatnonzero(outcome.again):
        fewer = outcome.again - np.eye(4, dtype=np.int64)[stage]
        assert not fits(tight, judge_spans(tight, strategy, [8, 8, 8, 8], spans, fewer))


def test_the_plan_says_what_one_number_for_all_stages_would_cost() -> None:
    """The loss of repeating everywhere as many layers as on the fullest stage is the judge's difference."""
    degrees = Degrees(
        tp=[1], pp=[4], dp=[1], cp=[1], virtual=[1], micro_batch=[2], sharding=["none"], recompute=["block"]
    )
    problem = problem_of(PLAIN_JOB.model_copy(update={"degrees": degrees}), replace(CASE, memory=6e9))
    assert isinstance(problem, TrainingProblem)
    solution = solve_job(problem, Budget(seconds=20.0))
    plan = solution.plan
    assert isinstance(plan, TrainingPlan)
    assert check_job(problem, plan) == []
    most = max(plan.recompute_layers)
    assert most > min(plan.recompute_layers)
    alike = [min(most, layers) for layers in plan.layers]
    other = judge_training(problem, plan.strategy, plan.layers, plan.ranks(), alike)
    found = next(item for item in solution.decisions if item.decision == "recomputed layers per stage")
    assert found.alternative == f"{most} on every stage"
    assert found.loss == pytest.approx(other.step_time / plan.prediction.step_time - 1.0)
    assert found.loss is not None and found.loss > 0.0


@given(training_jobs())
def test_balanced_uses_every_layer(job: TrainingJob) -> None:
    """The hint splits all layers and gives each stage its chunks."""
    problem = problem_of(job, CASE)
    assert isinstance(problem, TrainingProblem)
    strategy = Strategy(pp=2)
    spans = training_spans(strategy, np.arange(2), problem.hierarchy)
    costs = stage_costs(
        problem.shape, as_candidates(strategy), spans, problem.kernels, problem.fabric, problem.calibration
    )
    layers = balanced(problem, strategy, costs, 0)
    assert sum(layers) == problem.model.layers
    assert min(layers) >= 1
