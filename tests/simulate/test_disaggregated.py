"""Prompts on replicas of their own: what moving the cache costs, and what it spares the others."""

from __future__ import annotations

import pytest

from planner.errors import SimulationError
from planner.placement import ServingPlan, ServingProblem, serving_model
from planner.simulate import Pools, simulate_serving
from planner.simulate.iterations import IterationTimes, Piece
from planner.simulate.outcome import JobOutcome
from planner.workload import Lengths
from tests.simulate.cases import cluster, serving_plan, serving_problem

PROMPT, OUTPUT = 400, 20
RATE = {"nvlink": 100e9, "network": 10e9}


def light(nodes: int, **more: object) -> tuple[ServingProblem, ServingPlan]:
    """Return requests that never meet, all alike, on two replicas: of one node, or of one each."""
    problem = serving_problem(
        cluster(nodes, 2 // nodes),
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
    split = simulate_serving(problem, plan, requests=60, pools=Pools(1))
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
    split = simulate_serving(problem, plan, requests=60, pools=Pools(1))
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
    split = simulate_serving(problem, plan, requests=600, pools=Pools(2))
    assert split.job.latency["tpot"].p99 < plain.job.latency["tpot"].p99
    assert split.job.utilisation["replica-0 gpu"] > 0.0 < split.job.utilisation["replica-3 gpu"]


def test_the_same_seed_gives_the_same_run() -> None:
    """Pools draw from streams of their own, by name and seed."""
    problem = serving_problem(cluster(1, 4), rate=20.0)
    plan = serving_plan(problem, replicas=4)
    first, again = (simulate_serving(problem, plan, requests=200, pools=Pools(1)) for _ in range(2))
    assert first.job.model_dump_json() == again.job.model_dump_json()


@pytest.mark.parametrize("prefill", [0, 2])
def test_an_empty_pool_is_refused(prefill: int) -> None:
    """Both pools need a replica."""
    problem, plan = light(1)
    with pytest.raises(SimulationError, match="at least one replica each"):
        simulate_serving(problem, plan, pools=Pools(prefill))
