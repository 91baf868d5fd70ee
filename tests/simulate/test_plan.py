"""A whole plan is simulated job by job into one document."""

from __future__ import annotations

import pytest

from planner.errors import SimulationError
from planner.placement import Problem, Strategy
from planner.schema import canonical_json, digest
from planner.simulate import LinkUse, simulate_plan
from planner.simulate.plan import merged
from tests.simulate.cases import (
    cluster,
    serving_plan,
    serving_problem,
    training_plan,
    training_problem,
    whole_plan,
)


def use(target: str, mean: float, waiting: float) -> LinkUse:
    """Return a record of a link of 10 bytes/s."""
    return LinkUse(
        source="a", target=target, kind="pcie", rate=10.0, carried=5.0 * 10.0 * mean, mean=mean, peak=mean,
        saturated=0.0, waiting=waiting, series=[(0.0, mean)],
    )  # fmt: skip


def test_every_job_of_a_plan_has_its_outcome() -> None:
    """Training and serving stand side by side, links are merged, the document knows its plan and seed."""
    training, serving = training_problem(cluster(1, 4)), serving_problem(cluster(1, 4))
    problems: dict[str, Problem] = {"train": training, "serve": serving}
    plan = whole_plan(
        {"train": training_plan(training, Strategy(pp=2)), "serve": serving_plan(serving, tp=2)}
    )
    result = simulate_plan(problems, plan, seed=7, requests=200)
    assert [job.kind for job in result.jobs] == ["training", "serving"]
    assert (result.plan, result.plan_digest, result.seed) == ("by-hand", digest(plan), 7)
    assert len({(link.source, link.target) for link in result.links}) == len(result.links)
    assert [link.mean for link in result.links] == sorted((link.mean for link in result.links), reverse=True)
    assert canonical_json(result)


def test_loads_of_a_link_under_two_jobs_add_up() -> None:
    """Means, peaks and waits are summed over jobs; the busier job's series is kept."""
    found = {
        link.target: link
        for link in merged([[use("b", 0.2, 1.0)], [use("b", 0.5, 2.0), use("c", 0.1, 0.0)]], 8.0)
    }
    assert set(found) == {"b", "c"}
    assert (found["b"].mean, found["b"].waiting, found["b"].series) == (0.7, 3.0, [(0.0, 0.5)])
    assert found["b"].carried == pytest.approx(0.7 * 10.0 * 8.0)


def test_a_plan_needs_a_problem_of_its_kind_for_every_job() -> None:
    """A missing problem and one of another kind are errors that name the job."""
    serving = serving_problem(cluster(1, 2))
    plan = whole_plan({"serve": serving_plan(serving)})
    with pytest.raises(SimulationError, match="no problem for the job 'serve'"):
        simulate_plan({}, plan)
    with pytest.raises(SimulationError, match="job 'serve' is a serving plan"):
        simulate_plan({"serve": training_problem(cluster(1, 2))}, plan)
