"""From a plan to the manifests of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.deploy.claims import hold_together, with_claims
from planner.deploy.cliques import clique_sets
from planner.deploy.context import Context, job_name
from planner.deploy.embedding import embedding_objects
from planner.deploy.errors import DeployError
from planner.deploy.kubelet import kubelet_problems
from planner.deploy.layout import base_files, chart_files, component_files, overlay_files
from planner.deploy.map_objects import map_objects
from planner.deploy.monitoring import components
from planner.deploy.node_agent import agent
from planner.deploy.requirements import requirements
from planner.deploy.rollouts import rollouts
from planner.deploy.roundtrip import hold_stages, verify
from planner.deploy.services import priority_classes
from planner.deploy.serving import serving_objects
from planner.deploy.slicing import slicing_problems
from planner.deploy.stacks import numa_scheduler, with_stack
from planner.deploy.target import Target
from planner.deploy.training import training_objects
from planner.placement.plan import JobPlan, Plan, ServingPlan, TrainingPlan
from planner.placement.recommender_plan import RecommenderPlan
from planner.schema import dump_yaml
from planner.topology.cluster import Topology
from planner.workload.resolve import Workload

Json = dict[str, Any]
REQUIREMENTS = "requirements.json"


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
        Text by relative file name: ``base/`` with one file per job and kind of object, ``components/`` and
        ``overlays/`` of kustomize, the root ``kustomization.yaml``, ``chart/``, and ``requirements.json``
        with what the cluster must have. Equal input gives equal bytes.

    Raises
    ------
    DeployError
        If the plan does not fit the topology, or cannot be expressed; what is returned passed the
        rules of the API server, and the model of the scheduler puts every pod where the plan has it.
    """
    context = Context(plan, topology, workload, target if target is not None else Target())
    objects = bundle_objects(context)
    parts = {**components(context), "agent": agent(context)}
    parts["canary"] += rollouts(context, objects.all)
    added = {name: items for name, items in parts.items() if items}
    chosen = [name for name in context.target.platform.components if name in added]
    everything = objects.all
    hold_stages(context, everything)
    verify(context, everything, [item for items in added.values() for item in items])
    files = base_files(objects.by_job, objects.shared) | component_files(added)
    files |= overlay_files(list(added), chosen) | chart_files(context, files, chosen)
    if context.target.platform.stack == "numa":
        files["scheduler/configuration.yaml"] = dump_yaml(numa_scheduler(context))
    chosen_items = [item for name in chosen for item in added[name]]
    files[REQUIREMENTS] = requirements(context, everything, chosen_items)
    return files


@dataclass(frozen=True)
class Objects:
    """What a plan becomes: objects by job, and those that all jobs share."""

    by_job: Mapping[str, Sequence[Json]]
    shared: Sequence[Json]

    @property
    def all(self) -> list[Json]:
        """All objects, shared ones first."""
        return [*self.shared, *(item for items in self.by_job.values() for item in items)]


def bundle_objects(context: Context) -> Objects:
    """Return the objects that make a cluster of the target carry out a plan, before they are verified.

    Raises
    ------
    DeployError
        If the plan cannot be expressed for the target.
    """
    jobs = sorted(context.plan.jobs, key=lambda job: job.name)
    lacking = [*slicing_problems(context.plan, context.target.platform), *kubelet_problems(context)]
    if lacking:
        raise DeployError(*lacking)
    by_job = {job_name(job): _objects(context, job) for job in jobs}
    if len(by_job) != len(jobs):
        raise DeployError("two jobs of the plan have one name")
    if context.target.platform.devices == "dra":
        by_job = {name: with_claims(context, items) for name, items in by_job.items()}
    whole = [item for items in by_job.values() for item in items]
    hold_together(context, whole)
    shared = [*priority_classes(context), *with_stack(context, whole)]
    return Objects(by_job, shared)


def _objects(context: Context, job: JobPlan) -> list[Json]:
    if isinstance(job, ServingPlan):
        found = serving_objects(context, job)
        return clique_sets(context, found) if context.target.platform.stack == "kai" else found
    if isinstance(job, TrainingPlan):
        return training_objects(context, job)
    if isinstance(job, RecommenderPlan):
        return embedding_objects(context, job, *map_objects(context, job))
    return map_objects(context, job)
