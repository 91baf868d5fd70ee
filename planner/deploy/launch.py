"""Launch files for machines without Kubernetes: one script per job and node, rank tables, SLURM."""

from __future__ import annotations

from planner.deploy.context import Context, job_name
from planner.deploy.errors import DeployError
from planner.deploy.launch_serving import serving_files
from planner.deploy.launch_training import training_files
from planner.deploy.maps import (
    ENSEMBLE_MAP,
    SHARDING_MAP,
    STAGE_MAP,
    TORCHREC_PLAN,
    ensemble_map,
    sharding_map,
    stage_map,
    torchrec_plan,
)
from planner.deploy.ports import LaunchPorts
from planner.deploy.target import Target
from planner.deploy.triton import triton_files
from planner.placement.ensemble_plan import EnsemblePlan
from planner.placement.plan import Plan, ServingPlan, TrainingPlan
from planner.placement.recommender_plan import RecommenderPlan
from planner.topology.cluster import Topology
from planner.workload.resolve import Workload


def launch_files(
    plan: Plan, topology: Topology, workload: Workload, target: Target | None = None
) -> dict[str, str]:
    """Return bash scripts that carry out a plan on the hosts themselves.

    Parameters
    ----------
    plan, topology, workload
        The plan and what it was made from.
    target
        Only its programs, names of network ports and port are read; the defaults when absent.

    Returns
    -------
    dict
        Text by relative file name. Training: ``JOB/launch.sh`` (run on every node of ``JOB/nodes``),
        ``bind.sh``, the rank tables, ``hostfile`` and ``job.sbatch``. Serving: ``JOB/start.sh`` (run on every
        node of ``JOB/nodes``) and one script per replica and node.

    Raises
    ------
    DeployError
        If the plan does not fit the topology, or a node's name cannot be that of a host.
    """
    context = Context(plan, topology, workload, target if target is not None else Target())
    if len({job_name(job) for job in plan.jobs}) != len(plan.jobs):
        raise DeployError("two jobs of the plan have one name")
    files: dict[str, str] = {}
    ports = LaunchPorts.starting_at(context.target.port)
    for job in sorted(plan.jobs, key=lambda job: job.name):
        if isinstance(job, ServingPlan):
            found = serving_files(context, job, ports)
        elif isinstance(job, TrainingPlan):
            found = training_files(context, job, ports)
        elif isinstance(job, RecommenderPlan):
            found = {SHARDING_MAP: sharding_map(job), TORCHREC_PLAN: torchrec_plan(job)}
        elif isinstance(job, EnsemblePlan):
            found = {ENSEMBLE_MAP: ensemble_map(job), **triton_files(job)}
        else:
            found = {STAGE_MAP: stage_map(job)}
        files |= {f"{job_name(job)}/{name}": text for name, text in found.items()}
    return files
