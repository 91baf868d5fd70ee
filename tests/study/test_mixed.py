"""A training job on unequal nodes: together when that is faster, else on the better model alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from planner.errors import PlannerError
from planner.placement import Plan, TrainingPlan
from planner.placement.mixed import MixedTrainingProblem
from planner.report import bundle_files, plan_summary
from planner.schema import dump_yaml, loads
from planner.solve import Budget
from planner.solve.fixes import parse_fix
from planner.study import Study, Wishes, check_study, replan, solve
from planner.study.inputs import Documents
from planner.study.loading import study_of
from planner.study.mixed import mixed_problem
from planner.topology import load_topology
from planner.workload import Degrees, TrainingJob
from tests.study.fleet_jobs import documents, service, training

HALVES = ("gpus=a100-0/gpu[0-7]", "gpus=h100-3/gpu[0-7]")


def two_nodes(job: TrainingJob | None = None) -> Documents:
    """Return a small training job on one DGX A100 and one DGX H100."""
    cluster = load_topology("dgx-a100-x4-h100-x4")
    small = replace(cluster, nodes=(cluster.nodes[0], cluster.nodes[-1]))
    return replace(documents([job or training("train")]), topology=small)


def larger() -> TrainingJob:
    """Return a job for which all GPUs pay: many micro-batches, replicas or a pipeline."""
    degrees = Degrees(
        tp=[2], pp=[1, 2], cp=[1], virtual=[1], micro_batch=[1], sharding=["optimizer"], recompute=["none"]
    )
    return training("train").model_copy(update={"degrees": degrees, "global_batch": 96})


@pytest.fixture(scope="module")
def mixed() -> Study:
    """Return a plan on GPUs of both models."""
    study = solve(two_nodes(larger()), Budget(seconds=60.0))
    assert isinstance(study.problems["train"], MixedTrainingProblem)
    return study


def plan_of(study: Study) -> TrainingPlan:
    """Return the plan of the only job."""
    (job,) = study.plan.jobs
    assert isinstance(job, TrainingPlan)
    return job


def test_together_beats_either_model_alone_under_a_bound(mixed: Study) -> None:
    """The plan is faster than the best on each node alone, uses both models, and the bound is below it."""
    alone = [
        solve(two_nodes(larger()), Budget(seconds=60.0), wishes=Wishes(fixes=(parse_fix(half),)))
        for half in HALVES
    ]
    assert mixed.plan.objective.value < min(study.plan.objective.value for study in alone)
    assert mixed.plan.bound <= mixed.plan.objective.value
    used = {name for stage in plan_of(mixed).device_models for name in stage.split("+")}
    assert used == {"a100-sxm-80", "h100-sxm-80"}
    assert sum(plan_of(mixed).micro_batches) == 96
    assert mixed.plan.why[0].loss is not None
    assert mixed.plan.why[0].loss > 0.0


def test_a_mixed_plan_is_stored_loaded_shown_and_written(mixed: Study) -> None:
    """It comes back from its document and passes the judge; summary, page and files for the cluster exist."""
    again = study_of(two_nodes(larger()), loads(dump_yaml(mixed.plan), Plan))
    assert check_study(again) == []
    assert "h100-sxm-80" in plan_summary(mixed.plan).sentence
    files = bundle_files(mixed, None, Path("out/plan.yaml"))
    assert {"plan.yaml", "report.html"} <= set(files)
    assert {line.split()[0] for line in files["launch/train/nodes"].splitlines()} == {"a100-0", "h100-3"}


def moved(plan: TrainingPlan) -> dict[str, object]:
    """Swap the first GPU with the last, which is of another model or replica."""
    ranks = plan.ranks()
    return {"devices": [ranks[-1], *ranks[1:-1], ranks[0]]}


FAULTS: dict[str, Callable[[TrainingPlan], dict[str, object]]] = {
    "a rank moved": moved,
    "a GPU twice": lambda plan: {"devices": [plan.ranks()[1], *plan.ranks()[1:]]},
    "a layer twice": lambda plan: {"layers": [plan.layers[0] + 1, *plan.layers[1:]]},
    "a micro-batch lost": lambda plan: {
        "micro_batches": [plan.micro_batches[0] - 1, *plan.micro_batches[1:]]
    },
    "another model": lambda plan: {"device_models": ["h100-sxm-80"] * len(plan.layers)},
    "a byte too many": lambda plan: {
        "memory": [
            stage.model_copy(update={"parts": {name: size + 1.0 for name, size in stage.parts.items()}})
            for stage in plan.memory
        ]
    },
    "a faster step": lambda plan: {
        "prediction": plan.prediction.model_copy(update={"step_time": 0.9 * plan.prediction.step_time})
    },
    "counts of one model": lambda plan: {"num_micro_batches": plan.num_micro_batches + 1},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_seeded_faults_are_found(mixed: Study, fault: str) -> None:
    """The judge names something wrong with each damaged plan."""
    job = plan_of(mixed)
    damaged = mixed.plan.model_copy(update={"jobs": [job.model_copy(update=FAULTS[fault](job))]})
    assert check_study(replace(mixed, plan=damaged))


def test_a_hint_is_never_ended_below_and_cannot_be_kept(mixed: Study) -> None:
    """Without time a hinted mixed plan is what comes out; `--keep` says that it cannot keep one."""
    inputs = two_nodes(larger())
    again = solve(inputs, Budget(seconds=0.05), wishes=Wishes(hint=mixed.plan))
    assert again.plan.objective.value <= mixed.plan.objective.value * (1 + 1e-9)
    with pytest.raises(PlannerError, match="several models"):
        replan(inputs, mixed.plan, None, Budget(seconds=5.0))


def test_only_dense_training_on_one_network_is_mixed() -> None:
    """A service, and a job whose degrees a mixed plan cannot have, stay on GPUs of one model."""
    inputs = two_nodes()
    (resolved,) = inputs.workload.jobs
    assert mixed_problem(inputs, resolved) is not None
    assert mixed_problem(inputs, documents([service("serve", 1.0)]).workload.jobs[0]) is None
    job = training("train").model_copy(update={"degrees": Degrees(virtual=[2])})
    assert mixed_problem(inputs, replace(resolved, job=job)) is None
