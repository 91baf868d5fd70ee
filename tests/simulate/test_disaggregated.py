"""Prompts on replicas of their own: what moving the cache costs, and what it spares the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.placement import ServingPlan, ServingProblem, serving_model
from planner.simulate import simulate_serving
from planner.simulate.iterations import IterationTimes, Piece
from planner.simulate.outcome import JobOutcome
from planner.solve import Budget, solve_job
from planner.workload import Degrees, Lengths
from tests.simulate.cases import cluster, serving_plan, serving_problem, with_pools

PROMPT, OUTPUT = 400, 20
RATE = {"nvlink": 100e9, "network": 10e9}


def light(nodes: int, gpus: int = 2) -> tuple[ServingProblem, ServingPlan]:
    """Return requests that never meet, all alike, on two replicas: of one node, or of one each."""
    problem = serving_problem(
        cluster(nodes, gpus // nodes),
        rate=0.5,
        prompt=Lengths(mean=PROMPT, cv=0.0),
        output=Lengths(mean=OUTPUT, cv=0.0),
        stages=False,
        process="deterministic",
    )
    return problem, serving_plan(problem, replicas=2)


def mean(outcome: JobOutcome, metric: str) -> float:
    """Return a mean latency, s."""
    return outcome.job.latency[metric].mean


@pytest.mark.parametrize(("nodes", "kind"), [(1, "nvlink"), (2, "network")])
def test_in_light_load_a_request_takes_prompt_transfer_and_decode_steps(nodes: int, kind: str) -> None:
    """The first token is as without pools; then the cache crosses the slowest link, and 19 steps follow."""
    problem, plan = light(nodes)
    plain = simulate_serving(problem, plan, requests=60)
    split = simulate_serving(problem, with_pools(plan, 1), requests=60)
    times = IterationTimes(problem, serving_model(problem, plan.strategy, plan.gpus()), 64, 8192)
    model = problem.model
    moved = PROMPT * 2 * model.kv_heads * model.head_dim * model.layers * 2  # keys and values in two bytes
    steps = times.mixed([Piece(PROMPT, PROMPT + 1)], 0, 0.0)[0]
    for context in range(PROMPT + 1, PROMPT + OUTPUT - 1):
        line = times.decode(1, float(context))
        steps += line.base + line.slope * context
    assert mean(split, "ttft") == pytest.approx(mean(plain, "ttft"), rel=1e-9)
    assert split.job.split["decode"] == pytest.approx(steps, rel=1e-9)
    crossing = split.job.split["transfer"] - plain.job.split["transfer"]
    assert crossing == pytest.approx(moved / RATE[kind], rel=0.05)
    assert crossing > moved / RATE[kind]
    out = {"nvlink": "node-0/gpu0", "network": "node-0/nic0"}[kind]
    link = max((link for link in split.links if link.source == out), key=lambda link: link.carried)
    assert link.carried == pytest.approx(60 * moved, rel=1e-6)


def test_parts_still_add_up_to_the_latency() -> None:
    """The move counts as transfer, and nothing is counted twice or lost."""
    problem, plan = light(1)
    split = simulate_serving(problem, with_pools(plan, 1), requests=60)
    assert sum(split.job.split.values()) == pytest.approx(mean(split, "latency"), rel=1e-9)
    assert sum(split.job.attribution.values()) == pytest.approx(1.0, abs=1e-12)


def test_long_prompts_no_longer_stall_those_that_generate() -> None:
    """Under load the time per token is lower with pools: no decode step carries pieces of prompts."""
    problem = serving_problem(
        cluster(1, 4),
        rate=40.0,
        prompt=Lengths(mean=3000, cv=0.2),
        output=Lengths(mean=60, cv=0.2),
        stages=False,
    )
    plan = serving_plan(problem, replicas=4)
    plain = simulate_serving(problem, plan, requests=600)
    split = simulate_serving(problem, with_pools(plan, 2), requests=600)
    assert split.job.latency["tpot"].p99 < plain.job.latency["tpot"].p99
    assert split.job.utilisation["replica-0 gpu"] > 0.0 < split.job.utilisation["replica-3 gpu"]


def test_the_same_seed_gives_the_same_run() -> None:
    """Pools draw from streams of their own, by name and seed."""
    problem = serving_problem(cluster(1, 4), rate=20.0)
    plan = with_pools(serving_plan(problem, replicas=4), 1)
    first, again = (simulate_serving(problem, plan, requests=200) for _ in range(2))
    assert first.job.model_dump_json() == again.job.model_dump_json()


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1), (4, 2), (2, 4)])
def test_pools_of_other_degrees_move_every_byte_once(first: int, second: int) -> None:
    """Whatever the tensor degrees, the whole cache crosses once, in the time of the end with fewer GPUs."""
    problem, _ = light(1, gpus=8)
    wide, narrow = serving_plan(problem, tp=first), serving_plan(problem, tp=second)
    gpus = problem.hierarchy.gpus[4 : 4 + second]
    part = with_pools(wide, 1).prefill
    other = narrow.replicas[0].model_copy(update={"name": "replica-1", "devices": gpus})
    plan = narrow.model_copy(update={"prefill": part, "replicas": [other]})
    split = simulate_serving(problem, plan, requests=60)
    plain = simulate_serving(problem, wide, requests=60)
    model = problem.model
    moved = PROMPT * 2 * model.kv_heads * model.head_dim * model.layers * 2
    slowest = moved / min(first, second) / RATE["nvlink"]
    crossing = split.job.split["transfer"] - plain.job.split["transfer"]
    assert slowest < crossing < 1.05 * slowest


def test_a_simulation_agrees_with_the_judge_on_solved_pools() -> None:
    """Under load the means of first token and of the time per token are within a tenth of the prediction."""
    problem = serving_problem(
        cluster(1, 8),
        rate=30.0,
        prompt=Lengths(mean=2000, cv=0.5),
        output=Lengths(mean=100, cv=0.3),
        stages=False,
    )
    degrees = Degrees(pools=["disaggregated"], tp=[1, 2], pp=[1])
    problem = replace(problem, job=problem.job.model_copy(update={"degrees": degrees}))
    plan = solve_job(problem, Budget(seconds=20.0), explain=False).plan
    assert isinstance(plan, ServingPlan)
    assert plan.prefill is not None
    outcome = simulate_serving(problem, plan, requests=3000)
    assert mean(outcome, "ttft") == pytest.approx(plan.prediction.ttft_mean, rel=0.1)
    assert mean(outcome, "tpot") == pytest.approx(plan.prediction.tpot_mean, rel=0.1)
