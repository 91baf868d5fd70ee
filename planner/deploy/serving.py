"""Serving jobs: all objects, and the Deployments of replicas that fit on a node."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from planner.deploy.affinity import evenly, gpu_tolerations, node_affinity
from planner.deploy.arguments import check_degrees
from planner.deploy.context import Context, job_name, numbered
from planner.deploy.groups import leader_worker_sets
from planner.deploy.names import dns_label
from planner.deploy.pods import pod_spec
from planner.deploy.servers import (
    Placed,
    grace_period,
    host_memory,
    place,
    pod_containers,
    start_budget,
)
from planner.deploy.services import deployment, disruption_budget, network_policy, service, service_account
from planner.deploy.stages import SERVER, equal_counts, stage_objects
from planner.placement.plan import ServingPlan

Json = dict[str, Any]


def serving_objects(context: Context, job: ServingPlan) -> list[Json]:
    """Return all objects of a serving job."""
    check_degrees(job)
    placed = [place(context, job, replica) for replica in job.replicas]
    name = job_name(job)
    base, selector = context.labels(name, name, SERVER, name), {"app.kubernetes.io/name": name}
    objects: list[Json] = []
    if any(item.shares for item in placed):
        servers = {**selector, "app.kubernetes.io/component": SERVER}
        spans = any(len(item.shares) > 1 for item in placed)
        objects.append(service_account(context, job, name, base))
        single = [item for item in placed if len(item.shares) == 1]
        objects += _deployments(context, job, single)
        several = dns_label(f"{name}-group") if single else name
        objects += leader_worker_sets(
            context, job, several, [item for item in placed if len(item.shares) > 1]
        )
        objects.append(service(context, name, base, servers, "http", 80))
        objects.append(disruption_budget(context, name, base, selector))
        objects.append(network_policy(context, name, base, selector, ["http"], selector if spans else None))
    return objects + stage_objects(context, job, [pool for item in placed for pool in item.remote])


def _deployments(context: Context, job: ServingPlan, placed: Sequence[Placed]) -> list[Json]:
    """Return one Deployment for all nodes that hold equally many pods of one kind."""
    counts: dict[str, dict[str, int]] = {}
    example: dict[str, Placed] = {}
    member: dict[str, list[Placed]] = {}
    for item in placed:
        shape = [container.manifest(context.target.user) for container in pod_containers(context, job, item)]
        own_gpus = item.replica.gpus() if context.target.platform.exact else []
        key = json.dumps([shape, item.shares[0].machine.name, own_gpus], sort_keys=True)
        example.setdefault(key, item)
        member.setdefault(key, []).append(item)
        by_node = counts.setdefault(key, {})
        by_node[item.shares[0].node.name] = by_node.get(item.shares[0].node.name, 0) + 1
    groups = equal_counts(counts)
    return [
        _deployment(
            context,
            job,
            example[key],
            per_node,
            names,
            [item for item in member[key] if item.shares[0].node.name in names],
            numbered(job_name(job), index, len(groups)),
        )
        for index, (key, per_node, names) in enumerate(groups)
    ]


def _deployment(
    context: Context,
    job: ServingPlan,
    item: Placed,
    per_node: int,
    names: Sequence[str],
    members: Sequence[Placed],
    own: str,
) -> Json:
    share, name = item.shares[0], job_name(job)
    labels = context.labels(name, own, SERVER, name)
    context.note(labels, [one.shares[0] for one in members])
    nodes = [context.topology.node_of[node] for node in names]
    vendor = context.vendor(job, item.shares)
    pod = pod_spec(
        context.target,
        name,
        pod_containers(context, job, item),
        grace=grace_period(job),
        affinity=node_affinity(nodes, [share.arch], context.target),
        tolerations=gpu_tolerations(vendor),
        spread=evenly({"app.kubernetes.io/instance": own}, len(nodes)) if len(nodes) > 1 else [],
        priority=context.target.priority_class(job.priority),
    )
    annotations = context.annotations(
        job,
        placement="\n".join(sorted(one.show() for one in members)),
        host_memory=str(host_memory(context, job, item, share)),
    )
    return deployment(
        context, own, labels, annotations, per_node * len(names), pod, math.ceil(start_budget(context, job))
    )
