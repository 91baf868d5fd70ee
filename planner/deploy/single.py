"""Serving replicas that fit on a node: Deployments."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from planner.deploy.affinity import evenly, gpu_tolerations, node_affinity
from planner.deploy.context import Context, job_name, numbered
from planner.deploy.pods import pod_spec
from planner.deploy.servers import Placed, grace_period, host_memory, pod_containers, start_budget
from planner.deploy.services import deployment
from planner.deploy.slicing import slice_labels
from planner.deploy.stages import SERVER, equal_counts
from planner.placement.plan import ServingPlan

Json = dict[str, Any]


def deployments(context: Context, job: ServingPlan, placed: Sequence[Placed], name: str) -> list[Json]:
    """Return one Deployment, by a name or numbered, for all nodes that hold equally many pods of one kind."""
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
            numbered(name, index, len(groups)),
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
    slices = slice_labels(job.mig, context.target.platform) if job.mig else []
    pod = pod_spec(
        context.target,
        name,
        pod_containers(context, job, item),
        grace=grace_period(job),
        affinity=node_affinity(nodes, [share.arch], context.target, slices),
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
