"""A simulated step on GPUs of several models: each cell at its own pace, each replica with its own count."""

from __future__ import annotations

import pytest

from planner.placement import Strategy, TrainingPlan
from planner.placement.mixed import MixedPlacement, MixedTrainingProblem, judge_mixed, make_mixed_problem
from planner.placement.mixed_plan import mixed_plan, placement_of
from planner.simulate import simulate_training
from planner.simulate.mixed import simulate_mixed
from planner.simulate.outcome import JobOutcome
from planner.simulate.training import ScheduleName
from tests.simulate.cases import cluster, training_plan, training_problem
from tests.solve.mixed.instances import small_problem

SCHEDULES: tuple[ScheduleName, ...] = ("plan", "zero-bubble")
DEVICES = ("a/gpu0x0", "a/gpu0x1", "b/gpu0x0", "b/gpu0x1")


def two_models(
    strategy: Strategy, layers: tuple[int, ...], counts: tuple[int, ...], devices: tuple[str, ...] = DEVICES
) -> tuple[MixedTrainingProblem, TrainingPlan]:
    """Return a problem on one node of each of two models, of which `b` is faster, and a plan."""
    job = training_problem(cluster()).job.model_copy(update={"global_batch": sum(counts)})
    problem = small_problem(job, (2, 2), (1.0, 3.0), (80.0, 80.0))
    return problem, mixed_plan(problem, MixedPlacement(strategy, layers, counts, devices))


def seconds(outcome: JobOutcome) -> float:
    """Return the time of the step, s."""
    assert outcome.job.step_time is not None
    return outcome.job.step_time


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(tp=2, dp=2),
        Strategy(pp=4),
        Strategy(tp=2, pp=2, dp=2, micro_batch=2, sharding="optimizer"),
        Strategy(cp=2, pp=2, dp=2),
    ],
)
def test_of_one_model_it_is_the_ordinary_step(strategy: Strategy) -> None:
    """Where all GPUs are equal and replicas share the micro-batches evenly, both simulations agree."""
    problem = training_problem(cluster(nodes=2, gpus=4))
    plan = training_plan(problem, strategy)
    plain = simulate_training(problem, plan)
    each = [plan.num_micro_batches] * strategy.dp
    mixed = make_mixed_problem(problem.job, problem.model, problem.topology, problem.calibration)
    found = simulate_mixed(mixed, plan.model_copy(update={"micro_batches": each}))
    assert found.job.step_time == pytest.approx(plain.job.step_time, rel=1e-12)
    assert found.job.attribution == pytest.approx(plain.job.attribution)
    assert {(link.source, link.target): link.carried for link in found.links} == pytest.approx(
        {(link.source, link.target): link.carried for link in plain.links}
    )


def test_without_a_pipeline_the_slowest_replica_ends_the_step() -> None:
    """A replica takes its number of micro-batches at the pace of its model, then its gradients and update."""
    problem, plan = two_models(Strategy(tp=2, dp=2), (8,), (4, 12))
    outcome = judge_mixed(problem, placement_of(plan))
    found = simulate_mixed(problem, plan)
    busy = max(count * float(time) for count, time in zip((4, 12), outcome.times[0], strict=True))
    assert found.job.step_time == pytest.approx(busy + float(outcome.tails.max()), rel=0.02)
    assert found.job.step_time == pytest.approx(plan.prediction.step_time, rel=0.02)


def test_a_pipeline_over_two_models_is_close_to_its_prediction() -> None:
    """Stages of unequal models follow 1F1B; the critical path is never above the step."""
    problem, plan = two_models(Strategy(tp=2, pp=2), (2, 6), (16,))
    found = simulate_mixed(problem, plan)
    assert found.job.step_time == pytest.approx(plan.prediction.step_time, rel=0.1)
    assert found.job.critical_path is not None
    assert found.job.critical_path <= seconds(found) * (1 + 1e-9)
    assert sum(found.job.attribution.values()) == pytest.approx(1.0)


def test_more_micro_batches_make_the_replica_and_the_step_longer() -> None:
    """A replica with half as many micro-batches more takes about that much longer."""
    steps = [simulate_mixed(*two_models(Strategy(tp=2, dp=2), (8,), counts)) for counts in ((8, 8), (12, 4))]
    assert seconds(steps[1]) > seconds(steps[0]) * 1.2


def test_zero_bubble_shortens_an_unequal_pipeline_or_leaves_it() -> None:
    """Split backward passes never make the step of a pipeline longer."""
    problem, plan = two_models(Strategy(tp=2, pp=2), (3, 5), (16,))
    plain, split = (simulate_mixed(problem, plan, schedule=name) for name in SCHEDULES)
    assert seconds(split) <= seconds(plain) * (1 + 1e-9)
