"""What other numbers of GPUs would give: no placed plan of so many GPUs is faster than its alternative."""

from __future__ import annotations

import pytest

from planner.errors import InfeasibleError
from planner.placement import Strategy
from planner.solve import Budget
from planner.study import Documents, solve
from planner.study.alternatives import Alternative, alternatives, front, time_of
from planner.workload import AnyJob, Degrees, ServingJob, TrainingJob
from tests.study.fleet_jobs import documents, service, training

OPEN = Degrees(pp=[1], tp=[1, 2])


def only(job: AnyJob, one: Alternative) -> Documents:
    """Return a job whose degrees are those of an alternative."""
    s = one.strategy
    held = {"tp": [s.tp], "pp": [s.pp]} | (
        {"replicas": [s.dp]} if isinstance(job, ServingJob) else {"dp": [s.dp]}
    )
    degrees = job.degrees.model_copy(update=held)  # type: ignore[union-attr]
    return documents([job.model_copy(update={"degrees": degrees})])


@pytest.mark.parametrize(
    "job",
    [service("chat", 40.0).model_copy(update={"degrees": OPEN}), training("train")],
    ids=["service", "training"],
)
def test_no_plan_of_as_many_gpus_is_faster(job: ServingJob | TrainingJob) -> None:
    """Each size solved by itself, at the degrees of its alternative, takes at least the time stated."""
    study = solve(documents([job]), Budget(20.0))
    found = alternatives(study)[job.name]
    assert [one.gpus for one in found] == sorted({one.gpus for one in found})
    (own,) = (one for one in found if one.gpus == len(set(study.plan.jobs[0].gpus())))
    best = time_of(study.plan.jobs[0])
    assert best is not None and own.seconds <= best * (1 + 1e-9)
    assert min(one.seconds for one in found) >= study.plan.bound * (1 - 1e-9)
    for one in found[:: max(1, len(found) // 2)]:
        try:
            placed = time_of(solve(only(job, one), Budget(10.0)).plan.jobs[0])
        except InfeasibleError:
            continue
        assert placed is not None and placed >= one.seconds * (1 - 1e-9)


def test_front_holds_what_nothing_beats() -> None:
    """An alternative stays exactly if every smaller or equal one is slower."""
    found = [
        Alternative(Strategy(tp=gpus), gpus, seconds)
        for gpus, seconds in ((1, 9.0), (2, 9.0), (3, 4.0), (4, 5.0), (8, 3.0))
    ]
    assert [one.gpus for one in front(found)] == [1, 3, 8]
