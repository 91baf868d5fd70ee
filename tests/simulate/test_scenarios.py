"""What goes wrong in a training job costs what closed forms say."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import DocumentError, SimulationError, TopologyError
from planner.placement import Strategy
from planner.schema import loads
from planner.simulate import Scenario, simulate_plan, simulate_training
from planner.simulate.carriers import Uncontended
from planner.simulate.outcome import JobOutcome
from planner.simulate.pipeline import StepModel, run_step
from planner.simulate.recovery import run_job, through_failures
from planner.simulate.scenario import Checkpoints, GpuFailure, LinkFault, Straggler
from planner.simulate.statistics import named_stream
from planner.topology import Router
from tests.simulate.cases import (
    calibration,
    cluster,
    serving_plan,
    serving_problem,
    training_plan,
    training_problem,
    whole_plan,
)


def stepped(strategy: Strategy, scenario: Scenario | None = None, **more: object) -> JobOutcome:
    """Return a step on two nodes of four GPUs, each with a network port of its own."""
    problem = training_problem(cluster(2, 4, nics=4), coefficients=calibration(**NO_OVERLAP))
    return simulate_training(problem, training_plan(problem, strategy), scenario=scenario, **more)  # type: ignore[arg-type]


NO_OVERLAP = {"training.default.data_overlap": 0.0, "pipeline_overlap": 0.0, "network_efficiency": 1.0}


def seconds(outcome: JobOutcome) -> float:
    """Return the time of the step, s."""
    assert outcome.job.step_time is not None
    return outcome.job.step_time


def computing(outcome: JobOutcome) -> float:
    """Return how long stage 0 computes forward and backward, s."""
    passes = [span for span in outcome.job.timeline if span.category in ("forward", "backward")]
    return sum(span.end - span.start for span in passes if span.track == "stage 0")


@given(st.integers(1, 6), st.integers(0, 12), st.floats(1.0, 3.0), st.floats(1.0, 3.0), st.floats(0.1, 1.0))
def test_zero_bubble_takes_the_published_time(
    stages: int, more: int, forward: float, backward: float, weight: float
) -> None:
    """ZB-H1 idles (p - 1)(F + B - W) per stage, where 1F1B idles (p - 1)(F + B + W); Qi et al., table 2."""
    count = stages + more
    ones = np.ones(stages)
    times = []
    for split in (True, False):
        env = simpy.Environment()
        model = StepModel(1, forward * ones, (backward + (0.0 if split else weight)) * ones, 0.0 * ones)
        if split:
            model = StepModel(1, model.forward, model.backward, model.update, weight=weight * ones)
        times.append(run_step(env, model, Uncontended(env), count).seconds)
    work = count * (forward + backward + weight)
    assert times[0] == pytest.approx(work + (stages - 1) * (forward + backward - weight), rel=1e-9)
    assert times[1] == pytest.approx(work + (stages - 1) * (forward + backward + weight), rel=1e-9)


def test_a_plan_under_zero_bubble_saves_twice_the_weight_passes_of_the_other_stages() -> None:
    """With two stages the step shrinks by about 2 W, and does and sends the same as before."""
    plain, split = (
        stepped(Strategy(pp=2, tp=4), schedule=schedule, scenario=None)
        for schedule in ("plan", "zero-bubble")
    )
    weights = [span for span in split.job.timeline if span.name.startswith("W")]
    assert len(weights) == 2 * 32
    assert computing(split) == pytest.approx(computing(plain))
    longest = max(span.end - span.start for span in weights)
    saved = seconds(plain) - seconds(split)
    assert 1.5 * longest < saved < 2.5 * longest
    for mine, theirs in zip(split.links, plain.links, strict=True):
        assert mine.carried == pytest.approx(theirs.carried, rel=1e-9)


def test_zero_bubble_refuses_interleaved_plans() -> None:
    """Chunks and split passes do not go together, and the message says what to do."""
    with pytest.raises(SimulationError, match="virtual: 1"):
        stepped(Strategy(pp=4, virtual=2), schedule="zero-bubble")


@pytest.mark.parametrize("gpu", ["node-0/gpu0", "node-1/gpu3"])
def test_a_straggler_slows_the_step_by_its_own_passes(gpu: str) -> None:
    """Data-parallel replicas wait for the slowest: the step grows by (s - 1) times its computing."""
    sound = stepped(Strategy(dp=8))
    slow = stepped(Strategy(dp=8), Scenario(name="slow", stragglers=[Straggler(gpus=[gpu], slowdown=1.5)]))
    assert seconds(slow) - seconds(sound) == pytest.approx(0.5 * computing(sound), rel=1e-9)


def test_stragglers_in_several_replicas_do_not_add_up() -> None:
    """Slow stages of different replicas are not those of one pipeline: the slowest replica sets the time."""

    def slow(*gpus: str) -> float:
        stragglers = [Straggler(gpus=list(gpus), slowdown=2.0)] if gpus else []
        return seconds(stepped(Strategy(pp=2, dp=4), Scenario(name="slow", stragglers=stragglers)))

    first, second = slow("node-0/gpu0"), slow("node-1/gpu1")
    assert slow("node-0/gpu0", "node-1/gpu1") == pytest.approx(max(first, second), rel=1e-9)
    assert slow("node-0/gpu0", "node-1/gpu0") > max(first, second)
    assert slow() < min(first, second)


def test_jitter_adds_the_mean_of_the_slowest_rank() -> None:
    """Ranks that wait for each other in every pass take 1 + j H(n) times as long, H the harmonic number."""
    sound = stepped(Strategy(tp=4, dp=1))
    share = 0.2
    found = [
        computing(stepped(Strategy(tp=4, dp=1), Scenario(name="jitter", jitter=share), seed=seed))
        for seed in range(25)
    ]
    expected = computing(sound) * (1.0 + share * sum(1.0 / n for n in range(1, 5)))
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    assert abs(float(np.mean(found)) - expected) < 4.0 * error
    assert error < 0.01 * expected


def test_the_same_seed_gives_the_same_jitter() -> None:
    """A scenario with a seed is repeatable, and another seed is another run."""
    scenario = Scenario(name="jitter", jitter=0.3)
    times = [seconds(stepped(Strategy(pp=2, dp=2), scenario, seed=seed)) for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]


def test_a_slow_link_stretches_what_crosses_it() -> None:
    """Over one port at a quarter of its rate, the only forward hop takes three times its transfer longer."""
    strategy = Strategy(pp=2)
    problem = training_problem(cluster(2, 1), batch=1, coefficients=calibration(**NO_OVERLAP))
    plan = training_plan(problem, strategy)
    sound = simulate_training(problem, plan)
    port = max(sound.links, key=lambda link: link.mean if link.source == "node-0/nic0" else -1.0)
    fault = LinkFault(source=port.source, target=port.target, share=0.25)
    slow = simulate_training(problem, plan, scenario=Scenario(name="slow port", links=[fault]))
    sends = [
        sum(span.end - span.start for span in outcome.job.timeline if span.name == "send F0")
        for outcome in (sound, slow)
    ]
    size = 1024 * problem.model.hidden * 2
    assert seconds(slow) - seconds(sound) == pytest.approx(sends[1] - sends[0], rel=1e-9)
    assert sends[1] - sends[0] == pytest.approx(3.0 * size / port.rate)
    assert next(link for link in slow.links if link.source == port.source).rate == port.rate / 4.0


def test_a_failed_link_without_another_way_stops_the_job() -> None:
    """Where nothing joins two ranks any more, the error names them."""
    fault = LinkFault(source="node-0/nic0", target="switch")
    problem = training_problem(cluster(2, 1))
    with pytest.raises(TopologyError, match="node-0/gpu0"):
        simulate_training(
            problem, training_plan(problem, Strategy(dp=2)), scenario=Scenario(name="cut", links=[fault])
        )


def test_a_failed_link_inside_a_node_is_gone_around() -> None:
    """Without its switch link a GPU is reached over the host, on that node alone."""
    topology = cluster(2, 4)
    detour = Router(topology, without={("node-0/gpu0", "node-0/fast")})
    assert "node-0/cpu0" in detour.vertices("node-0/gpu0", "node-0/gpu1")
    assert "node-0/fast" in detour.vertices("node-0/gpu1", "node-0/gpu0")
    assert detour.vertices("node-1/gpu0", "node-1/gpu1") == Router(topology).vertices(
        "node-1/gpu0", "node-1/gpu1"
    )


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        (Scenario(name="s", links=[LinkFault(source="node-0/gpu0", target="nowhere")]), "no link"),
        (Scenario(name="s", links=[LinkFault(source="node-0/gpu0", target="node-0/fast")]), "inside a stage"),
        (Scenario(name="s", stragglers=[Straggler(gpus=["node-9/gpu0"], slowdown=2.0)]), "node-9/gpu0"),
        (Scenario(name="s", failures=[GpuFailure(gpu="node-0/gpu0", at=1.0)]), "number of steps"),
    ],
)
def test_scenarios_that_mean_nothing_are_refused(scenario: Scenario, text: str) -> None:
    """Unknown links and GPUs, faults that the step does not resolve and missing steps are errors."""
    with pytest.raises(SimulationError, match=text):
        stepped(Strategy(tp=4, dp=2), scenario)


def test_a_scenario_needs_a_training_job() -> None:
    """A plan of services alone has nothing to disturb."""
    problem = serving_problem(cluster())
    plan = whole_plan({"serve": serving_plan(problem)})
    with pytest.raises(SimulationError, match="no training job"):
        simulate_plan({"serve": problem}, plan, scenario=Scenario(name="s"))


def test_a_failure_restarts_from_the_last_checkpoint_by_hand() -> None:
    """30 s of work, saves of 1 s every 10 s, a failure at 15 s and one during the restart of 5 s."""
    saves = Checkpoints(interval=10.0, write=1.0, restart=5.0)
    found = through_failures(30.0, iter([15.0, 18.0]), saves)
    # 0-11 work and save; 11-15 lost; 15-23 restarting, twice; 23-34 work and save; 34-44 the rest.
    assert found.seconds == pytest.approx(44.0)
    assert (found.failures, found.lost, found.checkpointing, found.restarting) == (2, 4.0, 2.0, 8.0)


def test_without_checkpoints_the_first_failure_ends_the_job() -> None:
    """It stops at that time, and failures of GPUs of others do not count."""
    failures = [GpuFailure(gpu="node-9/gpu0", at=1.0), GpuFailure(gpu="node-0/gpu1", at=7.0)]
    scenario = Scenario(name="s", failures=failures, steps=10)
    found = run_job(scenario, ["node-0/gpu1"], 1.0, seed=0)
    assert found is not None and (found.seconds, found.stopped, found.lost) == (None, 7.0, 7.0)
    assert run_job(Scenario(name="s", steps=10), ["node-0/gpu1"], 1.5, seed=0) == through_failures(
        15.0, iter(()), None
    )


def test_random_failures_take_the_expected_time() -> None:
    """The mean is M e^(R/M) (e^((t + C)/M) - 1) for each interval: J. T. Daly, FGCS 22, 2006, equation 20."""
    mean, saves, parts = 50.0, Checkpoints(interval=10.0, write=1.0, restart=4.0), 20
    expected = mean * math.exp(4.0 / mean)
    expected *= (parts - 1) * math.expm1(11.0 / mean) + math.expm1(10.0 / mean)
    found = []
    for seed in range(400):
        failures = iter(np.cumsum(named_stream(seed, "test").exponential(mean, 1000)).tolist())
        run = through_failures(10.0 * parts, failures, saves)
        assert run.seconds is not None
        assert run.seconds == pytest.approx(200.0 + run.lost + run.checkpointing + run.restarting)
        found.append(run.seconds)
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    assert abs(float(np.mean(found)) - expected) < 3.5 * error
    assert error < 0.02 * expected


def test_stated_and_random_failures_come_in_order() -> None:
    """Both kinds hit one job, and the same seed hits it alike."""
    scenario = Scenario(
        name="s",
        failures=[GpuFailure(gpu="g", at=30.0)],
        mean_time_between_failures=40.0,
        steps=100,
        checkpoints=Checkpoints(interval=5.0, write=0.5, restart=2.0),
    )
    first, again = (run_job(scenario, ["g"], 1.0, seed=3) for _ in range(2))
    alone = run_job(scenario.model_copy(update={"failures": []}), ["g"], 1.0, seed=3)
    assert first == again and first is not None and alone is not None
    assert first.failures >= 1 and first.seconds != alone.seconds


def test_failures_that_come_faster_than_checkpoints_are_refused() -> None:
    """A job that never reaches a checkpoint is an error, not an endless loop."""
    every = (float(index) for index in islice(iter(range(1, 10**7)), 200_000))
    with pytest.raises(SimulationError, match="more often"):
        through_failures(10.0, every, Checkpoints(interval=5.0, write=0.0, restart=0.0), "s")


def test_the_document_reads_quantities_with_units() -> None:
    """Times have units, links default to failed, and what is unknown is refused."""
    text = """
schema: scenario/1
name: bad night
links: [{source: node-0/nic0, target: switch, share: 0.5}, {source: a/b, target: a/c}]
steps: 1000
failures: [{gpu: node-0/gpu0, at: 90 min}]
checkpoints: {interval: 10 min, write: 20 s, restart: 2 min}
"""
    scenario = loads(text, Scenario)
    assert [fault.share for fault in scenario.links] == [0.5, 0.0]
    assert scenario.failures[0].at == 5400.0
    assert scenario.checkpoints == Checkpoints(interval=600.0, write=20.0, restart=120.0)
    with pytest.raises(DocumentError, match="stepps"):
        loads(text.replace("steps:", "stepps:"), Scenario)
