"""Serving replicas that span nodes: LeaderWorkerSets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from planner.deploy.affinity import apart, gpu_tolerations, node_affinity
from planner.deploy.context import Context, job_name, numbered
from planner.deploy.errors import DeployError, UnexpressedError
from planner.deploy.names import natural_key
from planner.deploy.pods import Container, pod_spec
from planner.deploy.servers import (
    Placed,
    grace_period,
    host_memory,
    pod_containers,
    server_container,
)
from planner.deploy.shares import Share
from planner.deploy.stages import SERVER, WORKER
from planner.placement.plan import ServingPlan

Json = dict[str, Any]


def leader_worker_sets(context: Context, job: ServingPlan, name: str, placed: Sequence[Placed]) -> list[Json]:
    """Return one LeaderWorkerSet for each replica that spans nodes, held to the nodes of the plan."""
    ordered = sorted(placed, key=lambda item: natural_key(item.replica.name))
    return [
        _leader_worker_set(context, job, item, numbered(name, index, len(ordered)))
        for index, item in enumerate(ordered)
    ]


def _leader_worker_set(context: Context, job: ServingPlan, item: Placed, own: str) -> Json:
    """Return the LeaderWorkerSet of one replica: the leader on its first node, a worker on each other one."""
    name, leader, workers = job_name(job), item.shares[0], item.shares[1:]
    if job.strategy.adp > 1:
        raise UnexpressedError(
            f"job {job.name!r}: replica {item.replica.name!r} repeats attention on several nodes, each of "
            "which starts with a rank of its own; a LeaderWorkerSet gives all workers the same arguments"
        )
    if len({share.num_gpus for share in item.shares}) > 1:
        raise DeployError(
            f"job {job.name!r}: replica {item.replica.name!r} takes unequal numbers of GPUs of its nodes, "
            f"which a LeaderWorkerSet cannot express: {item.show()}"
        )
    orders = {share.container_order for share in workers}
    order = orders.pop() if len(orders) == 1 else tuple(range(leader.num_gpus))
    ports = list(dict.fromkeys(port for share in workers for port in share.nics(context.target.nic_names)))
    container = min(
        (server_container(context, job, item, share, order, ports) for share in workers),
        key=lambda one: (int(one.resources["limits"]["cpu"]), json.dumps(one.resources, sort_keys=True)),
    )
    annotations = context.annotations(
        job, placement=item.show(), host_memory=str(host_memory(context, job, item, leader))
    )
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": context.meta(own, context.labels(name, own, SERVER, name), annotations),
        "spec": {
            "replicas": 1,
            "startupPolicy": "LeaderCreated",
            "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "leaderWorkerTemplate": {
                "size": len(item.shares),
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": _group_template(
                    context, job, own, SERVER, pod_containers(context, job, item), [leader]
                ),
                "workerTemplate": _group_template(context, job, own, WORKER, [container], workers),
            },
        },
    }


def _group_template(
    context: Context,
    job: ServingPlan,
    own: str,
    component: str,
    containers: Sequence[Container],
    shares: Sequence[Share],
) -> Json:
    name = job_name(job)
    labels = context.labels(name, own, component, name)
    context.note(labels, shares)
    affinity = node_affinity(
        [share.node for share in shares], [share.arch for share in shares], context.target
    )
    group = {key: labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")}
    affinity |= apart(group)
    pod = pod_spec(
        context.target,
        name,
        containers,
        affinity=affinity,
        grace=grace_period(job),
        tolerations=gpu_tolerations(context.vendor(job, shares)),
        priority=context.target.priority_class(job.priority),
    )
    return {"metadata": {"labels": labels}, "spec": pod}
