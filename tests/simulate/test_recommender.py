"""Recommender plans under the topology model: the judge, the parts of the time, the simulation."""

import pytest

from planner.costs import load_calibration
from planner.placement import RecommenderProblem, groups_for, make_problem
from planner.placement.recommender import recommender_plan, recommender_problems
from planner.simulate.recommender import simulate_recommender
from planner.solve.budget import Budget
from planner.solve.recommender import fewest_gpus
from planner.solve.tables import Effort, solve_tables
from planner.topology import load_topology
from planner.workload import EmbeddingTable, RecommenderJob

TABLES = [
    EmbeddingTable(name="huge", rows=900_000_000, dim=128, pooling=8.0, skew=1.1),
    EmbeddingTable(name="large", rows=60_000_000, dim=128, pooling=20.0, skew=0.9),
    EmbeddingTable(name="small", rows=10_000, dim=64, pooling=2.0),
]
QUICK = Effort(gap=0.01, rounds=1, tries=200, proof=0.3, repair=0.1)


def problem_on(name: str, **fields: object) -> RecommenderProblem:
    job = RecommenderJob.model_validate(
        {
            "kind": "recommender", "name": "clicks", "tables": TABLES, "global_batch": 32768,
            "optimizer": "rowwise-adagrad", "dense": {"flops": 1e7, "parameters": 1e6}, "cache_shares": [0.1],
        }
        | fields
    )  # fmt: skip
    problem = make_problem(job, tuple(TABLES), load_topology(name), load_calibration())
    assert isinstance(problem, RecommenderProblem)
    return problem


@pytest.mark.parametrize("name", ["dgx1-v100", "dgx-a100", "riscv-nvlink-fusion"])
def test_a_plan_passes_the_judge_and_takes_about_as_long_as_it_says(name: str) -> None:
    """The judge finds nothing, the parts add up to the iteration, the simulation is within a tenth."""
    problem = problem_on(name)
    found = solve_tables(problem.table_problem, Budget(seconds=60.0), QUICK)
    plan = recommender_plan(problem, found.placements)
    assert list(recommender_problems(problem, plan)) == []
    assert plan.costs == "topology"
    prediction = plan.prediction
    assert sum(prediction.breakdown.values()) == pytest.approx(prediction.iteration_time)
    outcome = simulate_recommender(problem, plan)
    assert outcome.job.step_time == pytest.approx(prediction.iteration_time, rel=0.1)
    assert outcome.links


def test_a_plan_of_the_flat_model_is_simulated_on_the_machine() -> None:
    """Plans under the public planner's costs run on the same links as all others."""
    problem = problem_on("dgx-a100", costs="torchrec")
    found = solve_tables(problem.table_problem, Budget(seconds=60.0), QUICK)
    plan = recommender_plan(problem, found.placements)
    assert list(recommender_problems(problem, plan)) == []
    own = problem_on("dgx-a100")
    best = solve_tables(own.table_problem, Budget(seconds=60.0), QUICK)
    blind = simulate_recommender(problem, plan).job.step_time
    aware = simulate_recommender(own, recommender_plan(own, best.placements)).job.step_time
    assert blind is not None and aware is not None
    assert aware <= blind * 1.02


def test_gpus_of_two_models_hold_one_recommender() -> None:
    """On A100 and H100 nodes together every rank has its own memory and rates, and the plan is legal."""
    problem = problem_on("dgx-a100-x4-h100-x4", budget={"gpus": 64})
    assert {device.name for device in problem.devices} == {"a100-sxm-80", "h100-sxm-80"}
    assert len(set(problem.topology_costs.classes.tolist())) == 2
    found = solve_tables(problem.table_problem, Budget(seconds=60.0), QUICK)
    plan = recommender_plan(problem, found.placements)
    assert list(recommender_problems(problem, plan)) == []
    assert [memory.capacity for memory in plan.memory] == list(problem.capacities)
    assert groups_for(problem.job, problem.topology)[-1] == list(problem.topology.gpus)


def test_fewer_gpus_are_enough_for_a_longer_iteration() -> None:
    """The number found keeps the time, the next smaller one does not, and a looser limit needs no more."""
    problem = problem_on("dgx-h100", tiers=["gpu", "cached"])
    whole = solve_tables(problem.table_problem, Budget(seconds=60.0), QUICK).cost + problem.dense_seconds
    strict = fewest_gpus(problem, 1.01 * whole, [2, 4, 8], Budget(seconds=60.0), QUICK)
    loose = fewest_gpus(problem, 10.0 * whole, [2, 4, 8], Budget(seconds=60.0), QUICK)
    assert strict.ranks == 8
    assert loose.ranks is not None and loose.ranks < 8
    assert loose.plan is not None and loose.plan.cost <= 10.0 * whole
    assert fewest_gpus(problem, 1e-9, [2, 4, 8]).ranks is None
