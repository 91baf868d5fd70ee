"""The bound that fills stages one after the other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import stage_costs
from planner.placement import Strategy, TrainingProblem, as_candidates, broken_rules, training_spans
from planner.solve.bottleneck import may_beat
from planner.workload import TrainingJob
from tests.laws.brute_force import best_split
from tests.laws.instances import Box, MachineCase, problem_of, training_jobs


@given(
    training_jobs(),
    st.sampled_from([(2, 1), (2, 2), (3, 1), (4, 1)]),
    st.booleans(),
    st.sampled_from([3e9, 6e9, 40e9]),
)
def test_a_split_that_exists_is_never_excluded(
    job: TrainingJob, shape: tuple[int, int], again: bool, memory: float
) -> None:
    """The best of all splits is not excluded at its own time, and some time below it is."""
    problem = problem_of(job, MachineCase((Box((4,), 300.0, 40.0, 20.0),), memory))
    assert isinstance(problem, TrainingProblem)
    strategy = Strategy(pp=shape[0], virtual=shape[1], recompute="block" if again else "none")
    if broken_rules(problem, as_candidates(strategy))[1].any():
        return
    spans = training_spans(strategy, np.arange(strategy.num_ranks), problem.hierarchy)
    costs = stage_costs(
        problem.shape, as_candidates(strategy), spans, problem.kernels, problem.fabric, problem.calibration
    )
    best = best_split(problem, strategy, costs, 0)
    if np.isfinite(best):
        assert may_beat(problem, strategy, costs, 0, best)
        assert not may_beat(problem, strategy, costs, 0, 0.3 * best)
