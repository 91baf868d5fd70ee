"""Uneven layers over stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import stage_costs
from planner.costs.pipeline import in_flight, split_kinds, stage_memory, step_time
from planner.placement import Strategy, TrainingProblem, as_candidates, training_spans
from planner.solve.budget import Budget
from planner.solve.layers import balanced, best_split
from planner.workload import TrainingJob
from tests.laws.brute_force import compositions
from tests.laws.instances import Box, MachineCase, problem_of, training_jobs

CASE = MachineCase((Box((4,), 300.0, 40.0, 20.0),), 40e9)


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
