"""Simulated ensembles against closed forms, and against what the judge predicts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from planner.costs import load_calibration
from planner.errors import SimulationError
from planner.placement import EnsemblePlan, EnsembleProblem, ensemble_plan, make_problem
from planner.placement.ensemble_design import Design, Group, Pools, Tenant
from planner.simulate.ensemble import simulate_ensemble
from planner.topology import load_topology
from planner.workload import EnsembleJob, StageGraph

MEASURED = {
    "device": "h100-sxm-80",
    "measured": [{"batch": 1, "seconds": 0.01}, {"batch": 2, "seconds": 0.02}],
}
PINNED = {(0, 0): "pinned-copy", (1, 0): "pinned-copy"}


@cache
def alone(rate: float) -> tuple[EnsembleProblem, EnsemblePlan]:
    """Return a stage of 10 ms on one GPU, without batching and without bytes to move."""
    job = EnsembleJob.model_validate(
        {
            "kind": "ensemble",
            "name": "one",
            "classes": [{"name": "only", "rate": rate}],
            "stages": [{"name": "s", "gpu": {**MEASURED, "max_batch": 1}}],
        }
    )
    problem = make_problem(job, StageGraph(tuple(job.stages)), load_topology("dgx-h100"), load_calibration())
    assert isinstance(problem, EnsembleProblem)
    group = Group((Tenant(0, (0,), 1, 0.0),), None, (1, 0))
    return problem, ensemble_plan(problem, Design((), (group,), PINNED))  # type: ignore[arg-type]


def test_one_gpu_without_batching_waits_as_in_m_d_1() -> None:
    """At a load of 0.7 the mean latency is S + rho S / 2 (1 - rho), within the noise of 20,000 requests."""
    problem, plan = alone(70.0)
    outcome = simulate_ensemble(problem, plan, requests=20_000, seed=3)
    expected = 0.01 + 0.7 * 0.01 / (2 * 0.3)
    assert outcome.job.latency["only"].mean == pytest.approx(expected, rel=0.06)
    assert plan.prediction.classes[0].latency_mean == pytest.approx(expected, rel=0.01)
    assert outcome.job.utilisation["dgx-h100/gpu0"] == pytest.approx(0.7, rel=0.03)


def test_the_prediction_of_a_shared_pipeline_is_near_the_simulation() -> None:
    """Two classes, a pool and a GPU that two streams share: means within a quarter, busy within a tenth."""
    job = EnsembleJob.model_validate(
        {
            "kind": "ensemble",
            "name": "two",
            "classes": [{"name": "fast", "rate": 200.0}, {"name": "bulk", "rate": 20.0, "items": 4}],
            "stages": [
                {"name": "decode", "cpu": {"work": 2e-3}, "bytes_in": 1e5, "bytes_out": 6e5},
                {"name": "encode", "gpu": {"flops": 5e11, "kernels": 100}, "bytes_in": 6e5, "bytes_out": 1e4},
            ],
        }
    )
    problem = make_problem(job, StageGraph(tuple(job.stages)), load_topology("dgx-h100"), load_calibration())
    assert isinstance(problem, EnsembleProblem)
    tenants = (Tenant(1, (0,), 1, 0.0, high=True), Tenant(1, (1,), 4, 0.0))
    modes = {(index, request): "pinned-copy" for index in (1, 2) for request in (0, 1)}
    design = Design((Pools(0, 3, (0,)),), (Group(tenants, None, (1, 0)),), modes)  # type: ignore[arg-type]
    plan = ensemble_plan(problem, design)
    outcome = simulate_ensemble(problem, plan, requests=8000)
    for said in plan.prediction.classes:
        assert outcome.job.latency[said.name].mean == pytest.approx(said.latency_mean, rel=0.25)
    (gpu,) = plan.gpus()
    assert outcome.job.utilisation[gpu] == pytest.approx(plan.prediction.gpu_utilisation[gpu], rel=0.1)
    assert {link.target for link in outcome.links} >= {gpu}


def test_equal_seeds_give_equal_figures() -> None:
    """The same plan and seed give the same record; another seed another one."""
    problem, plan = alone(70.0)
    first, again, other = (simulate_ensemble(problem, plan, requests=500, seed=seed) for seed in (1, 1, 2))
    assert first.job == again.job
    assert first.job.latency != other.job.latency


def test_a_plan_that_cannot_keep_up_is_refused() -> None:
    """At twice the rate that the plan was made for, requests wait ever longer, and the error says where."""
    problem, plan = alone(70.0)
    faster = problem.job.model_copy(
        update={"classes": [problem.job.classes[0].model_copy(update={"rate": 140.0})]}
    )

    with pytest.raises(SimulationError, match="cannot keep up"):
        simulate_ensemble(replace(problem, job=faster), plan, requests=4000)
