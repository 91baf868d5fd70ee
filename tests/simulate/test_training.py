"""A simulated step follows the cost model, and shows what sharing the links adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import load_calibration
from planner.placement import Strategy, TrainingProblem, judge_training, make_problem
from planner.simulate import LinkSpec, simulate_training, steady
from planner.simulate.cabling import Cable, Cabling
from planner.simulate.carriers import SharedLinks, Uncontended
from planner.simulate.outcome import JobOutcome
from planner.simulate.pipeline import StepModel, run_step
from planner.simulate.step_traffic import StepTraffic
from planner.simulate.symmetry import Bundle, Reduced, Transfer, TransferClass, alone_rate, reduce_network
from planner.simulate.training import ScheduleName, step_model
from planner.topology import Router, load_topology
from planner.workload import load_workload
from tests.simulate.cases import calibration, cluster, training_plan, training_problem

if TYPE_CHECKING:
    from simpy.events import ProcessGenerator

TOLERANCE = 1e-9


def simulated(problem: TrainingProblem, strategy: Strategy, layers: list[int] | None = None) -> JobOutcome:
    """Return the outcome of a strategy on the first GPUs."""
    return simulate_training(problem, training_plan(problem, strategy, layers))


def unreduced(bundles: Sequence[Bundle], cables: Sequence[Cable]) -> Reduced:
    """Return a network in which every transfer and every link stands for itself alone."""
    specs = [_spec(index, cable) for index, cable in enumerate(cables)]
    groups = {cable.group: cable.group_rate for cable in cables if cable.group is not None}
    classes = [
        [
            TransferClass(
                flow.route, flow.size, flow.cap, flow.latency, alone_rate(flow.route, cables, flow.cap)
            )
            for flow in bundle
        ]
        for bundle in bundles
    ]
    return Reduced(specs, groups, [[index] for index in range(len(cables))], classes)


def _spec(index: int, cable: Cable) -> LinkSpec:
    return LinkSpec(str(index), cable.rate, group=cable.group, group_weight=cable.weight)


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(),
        Strategy(dp=8),
        Strategy(dp=8, sharding="optimizer"),
        Strategy(tp=4, dp=2),
        Strategy(dp=8, sharding="parameters"),
    ],
)
def test_without_a_pipeline_the_step_is_that_of_the_cost_model(strategy: Strategy) -> None:
    """Gradient transfers at the cost model's rates, hidden as it hides them, give its step time exactly."""
    problem = training_problem(cluster(2, 4))
    plan = training_plan(problem, strategy)
    outcome = simulate_training(problem, plan)
    assert outcome.job.step_time == pytest.approx(plan.prediction.step_time, rel=TOLERANCE)
    assert outcome.job.critical_path == pytest.approx(plan.prediction.step_time, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("topology", "strategy", "layers"),
    [
        ("dgx-h100-x8", Strategy(tp=8, pp=8, sequence_parallel=True), [10] * 8),
        ("dgx-h100-x8", Strategy(tp=4, pp=4, dp=4, virtual=5, sequence_parallel=True), [20] * 4),
        (
            "dgx-h100-x8",
            Strategy(tp=8, pp=4, dp=2, sharding="optimizer", sequence_parallel=True),
            [19, 21, 21, 19],
        ),
    ],
)
def test_preset_plans_are_within_a_few_percent_of_the_closed_form(
    topology: str, strategy: Strategy, layers: list[int]
) -> None:
    """Real pipelines with little contention come within 2 % of the analytic step time, from below."""
    found = load_workload("llama3-70b-training").jobs[0]
    problem = make_problem(found.job, found.model, load_topology(topology), load_calibration())
    assert isinstance(problem, TrainingProblem)
    plan = training_plan(problem, strategy, layers)
    outcome = simulate_training(problem, plan)
    assert outcome.job.step_time == pytest.approx(plan.prediction.step_time, rel=0.02)
    assert outcome.job.bubble == pytest.approx(plan.prediction.bubble, abs=0.01)
    assert len(outcome.job.timeline) <= 4000
    assert len(outcome.links) <= 200
    assert all(len(link.series) <= 201 for link in outcome.links)


def test_two_stages_and_one_micro_batch_add_up_by_hand() -> None:
    """Forward, transfer, forward, backward, transfer, backward, update: one after the other."""
    exact = calibration(nvlink_efficiency=1.0, collective_step_overhead=3e-6)
    problem = training_problem(cluster(1, 2), batch=1, coefficients=exact)
    plan = training_plan(problem, Strategy(pp=2))
    judged = judge_training(problem, plan.strategy, plan.layers, plan.ranks())
    traffic = StepTraffic(problem, plan, judged, Cabling(Router(problem.topology)))
    model = step_model(problem, plan, judged, traffic, {}, [[], []])
    hop = 3e-6 + 2 * 5e-7 + 1024 * problem.model.hidden * 2 / 100e9
    update = max(model.update[0], model.update[1] - hop - model.backward[0])
    expected = float(model.forward.sum() + model.backward.sum()) + 2 * hop + float(update)
    outcome = simulate_training(problem, plan)
    assert outcome.job.step_time == pytest.approx(expected, rel=TOLERANCE)
    assert outcome.job.critical_path == outcome.job.step_time
    sent = {(link.source, link.target): link.carried for link in outcome.links}
    assert sent["node-0/gpu0", "node-0/fast"] == pytest.approx(1024 * problem.model.hidden * 2)


@pytest.mark.parametrize("schedule", ["plan", "zero-bubble"])
def test_a_stage_computes_longer_by_the_layers_that_it_repeats(schedule: ScheduleName) -> None:
    """Under block recompute each stage is busy for its own number of repeated layers, and no other is."""
    problem, strategy = training_problem(cluster(1, 2), batch=8), Strategy(pp=2, recompute="block")
    busy, seconds = [], []
    for again in ([0, 0], [2, 0], [2, 1]):
        plan = training_plan(problem, strategy, again=again)
        job = simulate_training(problem, plan, schedule=schedule).job
        assert job.step_time is not None
        seconds.append(job.step_time)
        busy.append([job.utilisation[f"stage {stage}"] * job.step_time for stage in range(2)])
    costs = judge_training(problem, strategy, plan.layers, plan.ranks(), again).costs
    longer = 8 * float(costs.again_dense[0])
    assert np.diff(np.asarray(busy), axis=0) == pytest.approx(np.asarray([[2 * longer, 0.0], [0.0, longer]]))
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[1]


def test_ranks_that_share_a_port_wait_for_each_other_and_the_port_is_named() -> None:
    """Four tensor ranks behind one port take longer than the critical path, because of that port."""
    problem = training_problem(cluster(2, 4, nics=1))
    outcome = simulated(problem, Strategy(tp=4, pp=2))
    assert outcome.job.step_time is not None and outcome.job.critical_path is not None
    assert outcome.job.step_time > 1.01 * outcome.job.critical_path
    waited = max(outcome.links, key=lambda link: link.waiting)
    assert "nic0" in waited.source + waited.target
    assert waited.peak == pytest.approx(1.0)
    assert waited.saturated > 0.01
    port = next(link for link in outcome.links if (link.source, link.target) == ("node-0/nic0", "switch"))
    size = 1024 * problem.model.hidden * 2
    assert port.carried == pytest.approx(32 * size)


def test_a_port_for_each_rank_removes_the_wait() -> None:
    """With as many ports as tensor ranks no transfer waits."""
    outcome = simulated(training_problem(cluster(2, 4, nics=4)), Strategy(tp=4, pp=2))
    assert outcome.job.step_time == pytest.approx(outcome.job.critical_path, rel=TOLERANCE)
    assert max(link.waiting for link in outcome.links) == 0.0


def test_transfers_that_overlap_cost_less() -> None:
    """The larger the share of a hop that may overlap with computing, the shorter the step."""
    times = []
    for overlap in (0.0, 0.5, 1.0):
        problem = training_problem(cluster(2, 4), coefficients=calibration(pipeline_overlap=overlap))
        times.append(simulated(problem, Strategy(pp=8)).job.step_time)
    assert times[0] is not None and times[1] is not None and times[2] is not None
    assert times[2] < times[1] < times[0]


def test_gradients_hide_behind_the_last_backward_pass() -> None:
    """With overlap allowed, synchronisation starts before the last backward pass ends; without, after it."""
    spans = {}
    for overlap in (0.0, 0.8):
        problem = training_problem(
            cluster(2, 2), coefficients=calibration(**{"training.default.data_overlap": overlap})
        )
        timeline = simulated(problem, Strategy(dp=4)).job.timeline
        reduce = next(span for span in timeline if span.name == "reduce gradients")
        backward = max(span.end for span in timeline if span.category == "backward")
        spans[overlap] = reduce.start - backward
    assert spans[0.0] == pytest.approx(0.0, abs=1e-12)
    assert spans[0.8] < 0.0


@st.composite
def shared_networks(draw: st.DrawFn) -> tuple[list[list[Transfer]], list[Cable]]:
    """Draw bundles over few links of few distinct rates, some with a duplex group, so that many are alike."""
    cables = []
    for index in range(draw(st.integers(2, 4))):
        rate = draw(st.sampled_from([4.0, 8.0]))
        group, together = (f"pair {index}", 6.0) if draw(st.booleans()) else (None, 0.0)
        for ends in (("a", "b"), ("b", "a")):
            source, target = (f"{end}{index}" for end in ends)
            cables.append(Cable(source, target, "nvlink", rate, group, together))
    route = st.lists(st.integers(0, len(cables) - 1), min_size=1, max_size=3, unique=True).map(tuple)
    size, cap = st.sampled_from([8.0, 16.0]), st.sampled_from([2.0, 5.0, 100.0])
    bundle = st.tuples(size, cap, st.lists(route, min_size=1, max_size=4)).map(
        lambda drawn: [Transfer(way, drawn[0], drawn[1]) for way in drawn[2]]
    )
    return draw(st.lists(bundle, min_size=1, max_size=3)), cables


def send_bundle(
    shared: SharedLinks, classes: list[TransferClass], number: int, ends: list[float]
) -> ProcessGenerator:
    """Send a bundle a little later than the one before it and note when all of it has arrived."""
    yield shared.env.timeout(0.25 * number)
    yield shared.carry(classes)
    ends[number] = shared.env.now


@given(shared_networks())
def test_one_transfer_of_each_kind_behaves_like_all_of_them(
    case: tuple[list[list[Transfer]], list[Cable]],
) -> None:
    """The reduced network finishes every bundle when the whole network does, and loads links alike."""
    bundles, cables = case
    finishes, loads = [], []
    for reduced in (unreduced(bundles, cables), reduce_network(bundles, cables)):
        env = simpy.Environment()
        shared = SharedLinks(env, reduced)
        ends = [0.0] * len(bundles)

        for number, classes in enumerate(reduced.bundles):
            env.process(send_bundle(shared, classes, number, ends))
        env.run()
        finishes.append(ends)
        carried = shared.network.utilisation().carried
        loads.append({link: carried[row] for row, links in enumerate(reduced.members) for link in links})
    assert finishes[1] == pytest.approx(finishes[0], rel=1e-9)
    for link, moved in loads[1].items():
        assert moved == pytest.approx(loads[0][link], rel=1e-9)


@pytest.mark.parametrize(
    "strategy",
    [Strategy(tp=4, pp=2), Strategy(tp=2, pp=2, dp=2), Strategy(pp=2, dp=4), Strategy(pp=4, dp=2, virtual=2)],
)
def test_a_reduced_step_takes_as_long_as_the_whole_one(strategy: Strategy) -> None:
    """Simulating every rank's transfers gives the same step time as one transfer of each kind."""
    problem = training_problem(cluster(2, 4, nics=2), batch=16)
    plan = training_plan(problem, strategy)
    judged = judge_training(problem, plan.strategy, plan.layers, plan.ranks())
    cabling = Cabling(Router(problem.topology))
    traffic = StepTraffic(problem, plan, judged, cabling)
    hops, gradients = traffic.hops(), traffic.gradients()
    whole = unreduced([*hops.values(), *gradients], cabling.cables)
    between, within = dict(zip(hops, whole.bundles, strict=False)), whole.bundles[len(hops) :]
    env = simpy.Environment()
    model = step_model(problem, plan, judged, traffic, between, within)
    run = run_step(env, model, SharedLinks(env, whole), plan.num_micro_batches)
    assert simulate_training(problem, plan).job.step_time == pytest.approx(run.seconds, rel=1e-9)


@pytest.mark.parametrize(
    ("strategy", "layers"),
    [
        (Strategy(pp=4), [1, 3, 2, 2]),
        (Strategy(pp=4, dp=2), None),
        (Strategy(pp=4, virtual=2), None),
        (Strategy(tp=4, pp=2), None),
    ],
)
def test_repeating_the_cycle_of_a_long_step_is_simulating_all_of_it(
    strategy: Strategy, layers: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times, loads and waits of the extended run equal those of the full one to rounding."""
    problem = training_problem(cluster(2, 4), batch=512)
    monkeypatch.setattr(steady, "ENOUGH_WORK", 10**9)
    full = simulated(problem, strategy, layers)
    monkeypatch.setattr(steady, "ENOUGH_WORK", 400)
    short = simulated(problem, strategy, layers)
    assert len(short.job.timeline) < len(full.job.timeline)
    assert short.job.step_time == pytest.approx(full.job.step_time, rel=1e-11)
    assert short.job.critical_path == pytest.approx(full.job.critical_path, rel=1e-11)
    assert short.job.bubble == pytest.approx(full.job.bubble, abs=1e-11)
    assert short.job.utilisation == pytest.approx(full.job.utilisation, rel=1e-11)
    assert short.job.timeline[-1].name == full.job.timeline[-1].name
    whole = {(link.source, link.target): link for link in full.links}
    assert len(whole) == len(short.links)
    for mine in short.links:
        theirs = whole[mine.source, mine.target]
        assert mine.carried == pytest.approx(theirs.carried, rel=1e-9)
        assert mine.saturated == pytest.approx(theirs.saturated, abs=1e-9)
        assert mine.waiting == pytest.approx(theirs.waiting, abs=1e-9)


def test_no_cycle_is_claimed_where_stages_still_drift() -> None:
    """While a faster first stage is still running ahead, nothing is extrapolated."""
    fast_first = StepModel(1, np.array([1.0, 1.001]), np.array([1.0, 1.001]), np.zeros(2))
    env = simpy.Environment()
    run = run_step(env, fast_first, Uncontended(env), 4)
    assert steady.find_cycle(fast_first, run, 100) is None


def test_a_large_plan_is_simulated_by_one_replica() -> None:
    """256 micro-batches on 16 stages of 8 tensor ranks show the links of the first replica's nodes."""
    found = load_workload("llama3-70b-training").jobs[0]
    problem = make_problem(found.job, found.model, load_topology("dgx-h100-x64"), load_calibration())
    assert isinstance(problem, TrainingProblem)
    plan = training_plan(problem, Strategy(tp=8, pp=16, dp=2, sequence_parallel=True), [5] * 16)
    outcome = simulate_training(problem, plan)
    nodes = {name.split("/")[0] for name in plan.ranks()[:8]}
    assert outcome.job.step_time is not None
    assert {link.source.split("/")[0] for link in outcome.links} & nodes
    assert outcome.job.step_time == pytest.approx(plan.prediction.step_time, rel=0.03)


@pytest.mark.parametrize(
    "strategy", [Strategy(), Strategy(dp=8), Strategy(tp=4, pp=2), Strategy(pp=4, dp=2, virtual=2)]
)
def test_the_step_is_attributed_without_rest(strategy: Strategy) -> None:
    """Shares of computing, sending, waiting, gradients and the optimizer are positive and make 100 %."""
    outcome = simulated(training_problem(cluster(2, 4, nics=1), batch=64), strategy)
    shares = outcome.job.attribution
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-9)
    assert min(shares.values()) >= -1e-12
    assert outcome.job.bubble == pytest.approx(shares["bubble"])
    assert (shares["sending"] > 0.0) == (strategy.pp > 1)
    if strategy.pp == 1:  # with stages, their updates differ
        assert (shares["gradients"] > 1e-12) == (strategy.dp > 1)
