"""From a plan to the manifests of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.deploy.context import Context, job_name
from planner.deploy.errors import DeployError
from planner.deploy.requirements import requirements
from planner.deploy.serving import serving_objects
from planner.deploy.target import Target
from planner.deploy.training import training_objects
from planner.deploy.validate import validate
from planner.placement.plan import JobPlan, Plan, ServingPlan
from planner.schema import dump_yaml
from planner.topology.cluster import Topology
from planner.workload.resolve import Workload

Json = dict[str, Any]
KUSTOMIZATION = "kustomization.yaml"
REQUIREMENTS = "requirements.json"
_ORDER = (
    "ServiceAccount",
    "ConfigMap",
    "Deployment",
    "LeaderWorkerSet",
    "JobSet",
    "Service",
    "PodDisruptionBudget",
    "NetworkPolicy",
)


def kubernetes_bundle(
    plan: Plan, topology: Topology, workload: Workload, target: Target | None = None
) -> dict[str, str]:
    """Return the files that make a Kubernetes cluster run a plan.

    Parameters
    ----------
    plan, topology, workload
        The plan and what it was made from.
    target
        The cluster; the defaults of `Target` when absent.

    Returns
    -------
    dict
        Text by relative file name: one file per job and kind of object, ``kustomization.yaml``, and
        ``requirements.json`` with what the cluster must have. Equal input gives equal bytes.

    Raises
    ------
    DeployError
        If the plan does not fit the topology, or cannot be expressed; every file that is returned passed
        `planner.deploy.validate`.
    """
    context = Context(plan, topology, workload, target if target is not None else Target())
    by_job = {job_name(job): _objects(context, job) for job in sorted(plan.jobs, key=lambda job: job.name)}
    if len(by_job) != len(plan.jobs):
        raise DeployError("two jobs of the plan have one name")
    everything = [item for objects in by_job.values() for item in objects]
    validate(everything, topology)
    files: dict[str, str] = {}
    for name, objects in by_job.items():
        for kind in sorted({item["kind"] for item in objects}, key=_ORDER.index):
            files[f"{name}/{kind.lower()}.yaml"] = _documents(
                [item for item in objects if item["kind"] == kind]
            )
    files[KUSTOMIZATION] = dump_yaml(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(files)}
    )
    files[REQUIREMENTS] = requirements(context, everything)
    return files


def _objects(context: Context, job: JobPlan) -> list[Json]:
    return serving_objects(context, job) if isinstance(job, ServingPlan) else training_objects(context, job)


def _documents(objects: Sequence[Json]) -> str:
    return "---\n".join(dump_yaml(item) for item in objects)
