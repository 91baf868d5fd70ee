"""Training jobs: a JobSet with one pod a node, ranks numbered as the plan numbers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.deploy.affinity import apart, gpu_tolerations, machine_labels, node_affinity, uses_hostnames
from planner.deploy.arguments import recompute_note
from planner.deploy.context import Context, job_name, show_share
from planner.deploy.errors import DeployError
from planner.deploy.pods import pod_spec
from planner.deploy.ranks import NodeGroup, RankTables, check_hosts, node_groups, rank_tables
from planner.deploy.services import network_policy, service_account
from planner.deploy.shares import Share
from planner.deploy.trainer import group_memory, map_name, trainer
from planner.placement.plan import TrainingPlan

Json = dict[str, Any]
REPLICATED_JOB = "node"
LARGEST_MAP = 2**20 - 2**14
"""Bytes that fit into a ConfigMap beside its metadata (the API server's limit is 1 MiB)."""


def training_objects(context: Context, job: TrainingPlan) -> list[Json]:
    """Return all objects of a training job."""
    groups = node_groups(context.reader(job).shares(job.ranks()))
    shares = [share for group in groups for share in group.shares]
    name = job_name(job)
    base, selector = context.labels(name, name, "trainer", name), {"app.kubernetes.io/name": name}
    named = uses_hostnames([share.node for share in shares], context.target)
    tables = rank_tables(shares, context.target.nic_names, by_index=not named)
    check_hosts(tables.hosts)
    return [
        service_account(context, job, name, base),
        _config_map(context, job, tables),
        _job_set(context, job, groups, named=named),
        network_policy(context, name, base, selector, [], selector),
    ]


def _config_map(context: Context, job: TrainingPlan, tables: RankTables) -> Json:
    name, size = job_name(job), sum(len(text) for text in tables.files.values())
    if size > LARGEST_MAP:
        raise DeployError(f"job {job.name!r}: the rank tables take {size} bytes, more than a ConfigMap holds")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": context.meta(map_name(job), context.labels(name, name, "trainer", name)),
        "data": tables.files,
    }


def _job_set(context: Context, job: TrainingPlan, groups: Sequence[NodeGroup], *, named: bool) -> Json:
    """Return the JobSet: one ReplicatedJob, or one for each number of ranks that nodes have."""
    name = job_name(job)
    names = [
        REPLICATED_JOB if len(groups) == 1 else f"{REPLICATED_JOB}-{index}" for index in range(len(groups))
    ]
    master = f"{name}-{names[0]}-0-0.{name}"
    shares = [share for group in groups for share in group.shares]
    labels = context.labels(name, name, "trainer", name)
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": context.meta(name, labels, _annotations(context, job, shares, named=named)),
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": name, "publishNotReadyAddresses": True},
            "failurePolicy": {"maxRestarts": 3, "restartStrategy": "Recreate"},
            "successPolicy": {"operator": "All"},
            "ttlSecondsAfterFinished": 7 * 86400,
            "replicatedJobs": [
                {
                    "name": own,
                    "replicas": 1,
                    "template": {"spec": _job(context, job, group, master, len(shares), named=named)},
                }
                for own, group in zip(names, groups, strict=True)
            ],
        },
    }


def _job(
    context: Context, job: TrainingPlan, group: NodeGroup, master: str, nodes: int, *, named: bool
) -> Json:
    """Return the indexed Job of a group of nodes."""
    target, name, shares = context.target, job_name(job), group.shares
    affinity = node_affinity([share.node for share in shares], [share.arch for share in shares], target)
    if nodes > len(shares) or not all(share.takes_whole_node for share in shares):
        affinity |= apart({"app.kubernetes.io/name": name})
    pod = pod_spec(
        target,
        name,
        [trainer(context, job, group, master, nodes, named=named)],
        affinity=affinity,
        restart="Never",
        grace=120,
        tolerations=gpu_tolerations(context.vendor(job, shares)),
    )
    meta: Json = {"labels": context.labels(name, name, "trainer", name)}
    context.note(meta["labels"], shares)
    if target.queue and target.topology_label:
        meta["annotations"] = {"kueue.x-k8s.io/podset-preferred-topology": target.topology_label}
    return {
        "parallelism": len(shares),
        "completions": len(shares),
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": {"metadata": meta, "spec": pod},
    }


def _annotations(
    context: Context, job: TrainingPlan, shares: Sequence[Share], *, named: bool
) -> dict[str, str]:
    if named:
        how = (
            "pods are held to the planned nodes; bind.sh gives each process the rank that the plan puts there"
        )
    else:
        picked = "; ".join(
            f"{machine}: {', '.join(f'{key}={value}' for key, value in sorted(labels.items()))}"
            for machine, labels in sorted(
                machine_labels([one.node for one in shares], context.target).items()
            )
        )
        how = (
            f"{len(shares)} nodes are too many to list, so pods are held to the machine types by labels "
            f"({picked}); which of these nodes runs which node rank is up to the scheduler"
        )
    first, last = show_share(shares[0]), show_share(shares[-1])
    text = first if len(shares) == 1 else f"{len(shares)} nodes, from {first} to {last}"
    memory = str(group_memory(context, job, shares[:1]))
    note = recompute_note(job)
    more = {"recompute": note} if note else {}
    return context.annotations(job, placement=text, node_choice=how, host_memory=memory, **more)
