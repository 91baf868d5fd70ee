"""Laws of every simulation, on small random machines, plans and traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.placement import Problem, Strategy, TrainingPlan, TrainingProblem
from planner.schema import canonical_json
from planner.simulate import simulate_plan, simulate_training
from planner.topology import Topology
from planner.workload import Lengths
from tests.simulate.cases import (
    calibration,
    cluster,
    serving_plan,
    serving_problem,
    training_plan,
    training_problem,
    whole_plan,
)

ROUNDING = 1.0 + 1e-9


@dataclass(frozen=True)
class Case:
    """A machine, and a training plan for it; rates in GB/s."""

    nodes: int
    gpus: int
    rates: dict[str, float]
    nics: int
    batch: int
    overlap: float
    strategy: Strategy
    layers: list[int]
    order: list[int]

    def topology(self, faster: float = 1.0) -> Topology:
        """Return the machine with all links faster by a factor."""
        rates = {name: rate * faster for name, rate in self.rates.items()}
        return cluster(self.nodes, self.gpus, nics=self.nics, **rates)

    def planned(self, faster: float = 1.0) -> tuple[TrainingProblem, TrainingPlan]:
        """Return the problem and the plan on that machine."""
        coefficients = calibration(pipeline_overlap=self.overlap)
        problem = training_problem(self.topology(faster), batch=self.batch, coefficients=coefficients)
        names = [problem.hierarchy.gpus[index] for index in self.order]
        return problem, training_plan(problem, self.strategy, self.layers, names)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a machine of up to 8 GPUs and a plan on some of them, in any order."""
    nodes, gpus = draw(st.sampled_from([1, 2])), draw(st.sampled_from([2, 4]))
    batch = draw(st.sampled_from([8, 16]))
    degrees = [
        (tp, pp, dp)
        for tp in (1, 2, 4)
        for pp in (1, 2, 4, 8)
        for dp in (1, 2, 4)
        if tp * pp * dp <= nodes * gpus
    ]
    tp, pp, dp = draw(st.sampled_from(degrees))
    virtual = draw(st.sampled_from([1, 2])) if pp in (2, 4) and batch // dp % pp == 0 else 1
    sharding = draw(st.sampled_from(["none", "optimizer"])) if dp > 1 else "none"
    degree = {"tp": tp, "pp": pp, "dp": dp, "virtual": virtual, "sharding": sharding}
    layers = [8 // pp] * pp
    if virtual == 1 and 1 < pp < 8 and draw(st.booleans()):
        layers[0], layers[-1] = layers[0] - 1, layers[-1] + 1
    order = draw(st.permutations(range(nodes * gpus)))[: tp * pp * dp]
    rates = {name: draw(st.floats(0.5, 100.0)) for name in ("nvlink", "port", "pcie")}
    return Case(
        nodes, gpus, rates, draw(st.sampled_from([1, 2])), batch, draw(st.sampled_from([0.0, 0.5])),
        Strategy.model_validate(degree), layers, list(order),
    )  # fmt: skip


@given(cases())
def test_a_step_is_never_shorter_than_its_critical_path(case: Case) -> None:
    """Transfers that share links take at least as long as each alone, and nothing else differs."""
    job = simulate_training(*case.planned()).job
    assert job.step_time is not None and job.critical_path is not None
    assert job.step_time * ROUNDING >= job.critical_path


@given(cases())
def test_no_link_carries_more_than_its_rate_allows(case: Case) -> None:
    """Bytes carried are at most rate x time, at each moment at most the rate; the mean is below the peak."""
    outcome = simulate_training(*case.planned())
    for link in outcome.links:
        assert link.carried <= link.rate * outcome.horizon * ROUNDING
        assert link.mean <= link.peak * ROUNDING <= ROUNDING**2
        assert all(0.0 <= share <= ROUNDING for _, share in link.series)


@given(cases())
def test_doubling_every_link_never_slows_a_step(case: Case) -> None:
    """The same plan on a machine with links twice as fast takes no longer."""
    slow, fast = (simulate_training(*case.planned(faster)).job.step_time for faster in (1.0, 2.0))
    assert slow is not None and fast is not None
    assert fast <= slow * ROUNDING


TRAFFIC = st.fixed_dictionaries(
    {
        "rate": st.floats(1.0, 150.0),
        "prompt": st.builds(Lengths, mean=st.floats(1.0, 2000.0), cv=st.sampled_from([0.0, 0.7])),
        "output": st.builds(Lengths, mean=st.floats(1.0, 40.0), cv=st.sampled_from([0.0, 1.2])),
        "process": st.sampled_from(["poisson", "gamma", "deterministic"]),
    }
)


@settings(max_examples=10)
@given(cases(), TRAFFIC, st.integers(0, 2**32), st.sampled_from([1, 2]))
def test_the_same_seed_gives_the_same_bytes(case: Case, traffic: dict[str, Any], seed: int, tp: int) -> None:
    """Two simulations of one plan write identical documents, and no link goes beyond its rate."""
    training, trained = case.planned()
    serving = serving_problem(case.topology(), **traffic)
    plan = whole_plan({"train": trained, "serve": serving_plan(serving, tp=tp, max_tokens=1024)})
    problems: dict[str, Problem] = {"train": training, "serve": serving}
    first, second = (simulate_plan(problems, plan, seed=seed, requests=150) for _ in range(2))
    assert canonical_json(first) == canonical_json(second)
    assert first.seed == seed
    for link in first.links:
        assert link.mean <= 1.0
        assert (
            link.carried <= 2 * link.rate * first.horizon * ROUNDING
        )  # one horizon for each of the two jobs


@settings(max_examples=10)
@given(TRAFFIC, st.integers(0, 2**32))
def test_requests_leave_after_they_came_and_answer_in_order_of_events(
    traffic: dict[str, Any], seed: int
) -> None:
    """No part of a request's time is negative, and the first token comes no later than the last."""
    problem = serving_problem(cluster(1, 2), **traffic)
    plan = whole_plan({"serve": serving_plan(problem, replicas=2)})
    job = simulate_plan({"serve": problem}, plan, seed=seed, requests=150).jobs[0]
    assert min(job.split.values()) >= -1e-12
    assert job.latency["ttft"].p50 <= job.latency["latency"].p50
    assert job.latency["latency"].p50 <= job.latency["latency"].p95 <= job.latency["latency"].p99
    assert all(0.0 <= share <= 1.0 for share in job.utilisation.values())
