"""A solved fleet as manifests: every job on its nodes, slices asked for by profile."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from planner.deploy import Target, kubernetes_bundle
from planner.deploy.platform import Platform
from planner.errors import PlanError
from planner.placement import Plan, ServingPlan
from planner.schema import dump_yaml, loads
from planner.solve import Budget
from planner.study.fleet import Fleet, plan_fleet
from planner.study.fleet_plan import fleet_plan
from planner.study.inputs import Documents
from planner.workload import AnyJob, CpuStage
from tests.deploy.manifests import containers, documents, of_kind, validate_core
from tests.study.fleet_jobs import documents as inputs_of
from tests.study.fleet_jobs import service, training

CORE = ("v1", "apps/v1", "policy/v1", "networking.k8s.io/v1", "scheduling.k8s.io/v1", "resource.k8s.io/v1")


@functools.cache
def solved() -> tuple[Documents, Fleet, Plan]:
    """Return ten services and a training job on one node, as fleet and as plan."""
    jobs: list[AnyJob] = [training("train"), *(service(f"serve-{n}", 2.0) for n in range(10))]
    inputs, budget = inputs_of(jobs), Budget(seconds=60.0)
    fleet = plan_fleet(inputs, budget)
    return inputs, fleet, fleet_plan(inputs, fleet, budget)


def test_a_plan_has_every_job_on_what_the_fleet_gave_it() -> None:
    """GPUs, slices and predicted latencies of the plan are those of the placement; it can be stored."""
    _, fleet, plan = solved()
    assert [job.name for job in plan.jobs] == [job.name for job in fleet.problem.jobs]
    for job in plan.jobs:
        placed = fleet.solution.placement[job.name]
        own = Counter(f"{part.node}/{gpu}" for part in placed.parts for gpu in part.gpus)
        assert Counter(job.gpus()) == own
        if isinstance(job, ServingPlan):
            choice = fleet.problem.by_name[job.name].choice(placed.shape)
            assert choice is not None
            assert job.mig == placed.shape.profile
            assert job.prediction.latency_p99 == pytest.approx(choice.value, rel=0.01)
    assert loads(dump_yaml(plan), Plan) == plan


@pytest.mark.parametrize("devices", ["device-plugin", "dra"])
def test_the_manifests_of_a_fleet_ask_for_its_slices(devices: str) -> None:
    """Resources or claims of every profile are as many as the fleet cut, and the schemas accept all."""
    inputs, fleet, plan = solved()
    aim = Target(platform=Platform(devices=devices, driver="0.5", mig_strategy="mixed"))  # type: ignore[arg-type]
    objects = documents(kubernetes_bundle(plan, inputs.topology, inputs.workload, aim))
    for item in objects:
        if item["apiVersion"] in CORE:
            validate_core(item, "1.34")
    shapes = [assignment.shape for assignment in fleet.solution.placement.values()]
    cut = Counter[str]()
    for shape in shapes:
        if shape.profile is not None:
            cut[shape.profile] += shape.parts
    assert cut
    if devices == "dra":
        classes = [
            item["spec"]["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"]
            for item in of_kind(objects, "ResourceClaimTemplate")
        ]
        assert Counter(classes)["mig.nvidia.com"] == sum(shape.profile is not None for shape in shapes)
        return
    asked = Counter[str]()
    for deployment in of_kind(objects, "Deployment"):
        for one in containers([deployment]):
            for name, amount in one["resources"]["limits"].items():
                if name.startswith("nvidia.com/mig-"):
                    profile = name.removeprefix("nvidia.com/mig-")
                    asked[profile] += int(amount) * deployment["spec"]["replicas"]
    assert asked == cut


def test_cpu_stages_of_a_fleet_are_refused_with_the_way_out() -> None:
    """The cores of stages are counted but not numbered, so that no manifest may claim to pin them."""
    stage = CpuStage(name="decode", work=0.001, bytes_in=1e4, bytes_out=1e4)
    job = service("serve", 1.0).model_copy(update={"before": [stage]})
    inputs, budget = inputs_of([job]), Budget(seconds=60.0)
    with pytest.raises(PlanError, match="run 'planner solve' for the job"):
        fleet_plan(inputs, plan_fleet(inputs, budget), budget)
