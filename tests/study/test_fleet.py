"""A fleet from documents: shares are priced by the solver of single jobs, and the limits of services hold."""

from __future__ import annotations

import pytest

from planner.errors import InfeasibleError, NoPlanError
from planner.placement import ServingPlan, TrainingPlan
from planner.placement.fleet import Shape, check_fleet
from planner.solve import Budget, solve_job
from planner.study.fleet import Worth, fleet_problem, plan_fleet
from planner.workload import AnyJob, CpuStage, Slo
from tests.study.fleet_jobs import documents, service, training


def test_a_fleet_of_both_kinds_is_placed_and_checked() -> None:
    """Services and training share a node, the judge agrees, and equal jobs are priced once."""
    jobs: list[AnyJob] = [training("train"), *(service(f"serve-{n}", 2.0) for n in range(3))]
    fleet = plan_fleet(documents(jobs), Budget(seconds=60.0))
    solution = fleet.solution
    assert set(solution.placement) == {job.name for job in jobs}
    assert check_fleet(fleet.problem, solution.placement, solution.cost) == []
    assert isinstance(fleet.plans["train"], TrainingPlan)
    assert solution.gap <= 0.001
    assert all(solution.cost <= cost * (1 + 1e-9) for cost in solution.baselines.values())


def test_the_price_of_a_share_is_what_solving_the_job_on_it_gives() -> None:
    """A training job's value on four GPUs is the step time of its plan there."""
    inputs = documents([training("train")])
    worth = Worth(inputs, Budget(seconds=60.0))
    resolved, shape = inputs.workload.jobs[0], Shape("dgx-h100", 4)
    (choice,) = [choice for choice in worth.choices(resolved) if choice.shape == shape]
    alone = solve_job(worth.problem(resolved, shape), Budget(seconds=60.0), explain=False)
    assert choice.value == pytest.approx(alone.value)


def test_numbers_of_gpus_that_are_no_powers_of_two_are_offered_too() -> None:
    """Twelve sequences divide over three and over six GPUs, which lie between their neighbours."""
    job = training("train").model_copy(update={"global_batch": 12})
    worth = Worth(documents([job]), Budget(seconds=60.0))
    choices = worth.choices(worth.documents.workload.jobs[0])
    values = {choice.shape.gpus: choice.value for choice in choices if choice.shape.parts == 1}
    assert {1, 2, 3, 4, 6} <= set(values)
    assert 5 not in values
    assert values[2] > values[3] > values[4] > values[6]


def test_more_of_a_gpu_is_never_slower_and_limits_hold() -> None:
    """Latency falls from the smallest slice to the GPU, and no choice breaks the limit."""
    inputs = documents([service("serve", 1.0, slo=Slo(latency_p99=3.0))])
    problem, _ = fleet_problem(inputs, Budget(seconds=60.0))
    (job,) = problem.jobs
    order = ["2g.20gb", "3g.40gb", "7g.80gb"]
    values = [choice.value for name in order for choice in job.choices if choice.shape.profile == name
              and choice.shape.parts == 1]  # fmt: skip
    assert len(values) > 1
    assert values == sorted(values, reverse=True)
    assert all(choice.value <= 3.0 for choice in job.choices)


def test_a_service_with_cpu_stages_gets_whole_gpus_and_its_cores() -> None:
    """A service with a stage on the host is priced by its plan and asks for the cores of that plan."""
    stage = CpuStage(name="tokenise", work=0.01, bytes_in=1e4, bytes_out=1e4)
    job = service("serve", 1.0).model_copy(update={"before": [stage]})
    fleet = plan_fleet(documents([job]), Budget(seconds=60.0))
    plan = fleet.plans["serve"]
    assert isinstance(plan, ServingPlan)
    assert all(choice.shape.profile is None for choice in fleet.problem.jobs[0].choices)
    stages = [placed.cores for replica in plan.replicas for placed in replica.stages]
    shape = fleet.solution.placement["serve"].shape
    chosen = fleet.problem.jobs[0].choice(shape)
    assert chosen is not None
    assert chosen.cores == 2 * shape.gpus + sum(stages)


def test_a_service_that_no_share_can_hold_is_named() -> None:
    """A limit below the time of a single token is infeasible, with the job's name."""
    inputs = documents([service("hopeless", 1.0, slo=Slo(tpot_p99=1e-6))])
    with pytest.raises(InfeasibleError, match="hopeless"):
        plan_fleet(inputs, Budget(seconds=60.0))


def test_no_time_to_price_is_said() -> None:
    """Without time there is no plan rather than a plan with a wrong bound."""
    with pytest.raises(NoPlanError, match="priced"):
        plan_fleet(documents([training("train")]), Budget(seconds=0.0))
