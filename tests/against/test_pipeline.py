"""Pipelines, collectives and a served queue against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import simpy

from planner.costs import fabric
from planner.costs.collectives import all_reduce
from planner.placement import serving_model
from planner.simulate import FlowTrace, TracedFlow, mean_interval, replay, simulate_serving
from planner.simulate.cabling import Cabling
from planner.simulate.carriers import Uncontended
from planner.simulate.iterations import IterationTimes, Piece
from planner.simulate.pipeline import StepModel, run_step
from planner.topology import Router
from planner.workload import Lengths
from tests.simulate.cases import calibration, cluster, serving_plan, serving_problem


def step_seconds(stages: int, virtual: int, num_micro_batches: int, forward: float, backward: float) -> float:
    """Return the time of a step of equal stages that send nothing, s."""
    parts = np.full(stages, 1.0 / virtual)
    model = StepModel(virtual, forward * parts, backward * parts, np.zeros(stages))
    env = simpy.Environment()
    return run_step(env, model, Uncontended(env), num_micro_batches).seconds


@pytest.mark.parametrize(("stages", "count"), [(1, 5), (2, 2), (4, 3), (4, 32), (8, 64)])
def test_one_forward_one_backward_meets_its_closed_form(stages: int, count: int) -> None:
    """A uniform 1F1B pipeline takes exactly (m + p - 1) t (Narayanan et al., SC 2021, section 2.2)."""
    assert step_seconds(stages, 1, count, 1.0, 2.0) == (count + stages - 1) * 3.0


@pytest.mark.parametrize(("stages", "virtual", "count"), [(2, 2, 4), (4, 2, 8), (4, 4, 16), (8, 2, 8)])
def test_interleaving_divides_the_bubble_by_the_number_of_chunks(
    stages: int, virtual: int, count: int
) -> None:
    """A uniform interleaved pipeline takes m t + (p - 1) t / v (ibid.)."""
    expected = count * 3.0 + (stages - 1) * 3.0 / virtual
    assert step_seconds(stages, virtual, count, 1.0, 2.0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [1e6, 1e9])
def test_a_ring_all_reduce_over_real_routes_meets_its_closed_form(size: float) -> None:
    """Dependent sends around 8 GPUs take 2 (p - 1) (latency + S / (p B)), and what the cost model says."""
    topology = cluster(1, 8)
    cabling, gpus = Cabling(Router(topology)), topology.gpus
    routes = [cabling.route(left, right) for left, right in zip(gpus, [*gpus[1:], gpus[0]], strict=True)]
    ranks, latency = len(gpus), cabling.latency(routes[0])
    flows = [
        TracedFlow(
            0.0,
            latency,
            size / ranks,
            routes[rank],
            ((turn - 1) * ranks + (rank - 1) % ranks,) if turn else (),
        )
        for turn in range(2 * (ranks - 1))
        for rank in range(ranks)
    ]
    finish = float(replay(FlowTrace("ring", tuple(cabling.specs()), tuple(flows))).finish.max())
    assert finish == pytest.approx(2 * (ranks - 1) * (1e-6 + size / ranks / 100e9), rel=1e-3)
    exact = calibration(nvlink_efficiency=1.0, nvls_efficiency=1.0, collective_step_overhead=0.0)
    group, members = np.asarray([8.0]), np.asarray([[8.0]])
    predicted = all_reduce(np.asarray([size]), group, members, fabric(topology.hierarchy, exact))
    assert finish >= 0.999 * float(predicted.time(size)[0])
    if size > 1e8:  # at small sizes a tree has less latency
        assert finish == pytest.approx(float(predicted.time(size)[0]), rel=1e-3)


def test_requests_one_at_a_time_are_the_queue_of_pollaczek_and_khinchine() -> None:
    """Poisson prompts of one length, one token each, one at a time wait load x service / (2 (1 - load))."""
    prompt, load = 2000, 0.6
    probe = serving_problem(cluster(1, 1), prompt=Lengths(mean=prompt), output=Lengths(mean=1), stages=False)
    plan = serving_plan(probe, max_batch=1)
    times = IterationTimes(probe, serving_model(probe, plan.strategy, plan.gpus()), 1, 8192)
    service = times.mixed([Piece(0, prompt)], 0, 0.0)[0]
    problem = serving_problem(
        cluster(1, 1), rate=load / service, prompt=Lengths(mean=prompt), output=Lengths(mean=1), stages=False
    )
    runs = [simulate_serving(problem, plan, seed=seed, requests=2000).job for seed in range(6)]
    interval = mean_interval([run.split["queue"] for run in runs])
    expected = load * service / (2.0 * (1.0 - load))
    assert interval.low <= expected <= interval.high
    assert interval.half_width < 0.15 * expected
    assert all(run.split["prefill"] == pytest.approx(service) for run in runs)
