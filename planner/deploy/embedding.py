"""Embedding servers: one pod a node with the shards of its GPUs, cold tables in huge pages beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from planner.deploy.affinity import apart, gpu_resource, gpu_tolerations, node_affinity
from planner.deploy.context import Context, job_name, numbered, show_share
from planner.deploy.names import literal
from planner.deploy.pods import (
    PLAN_FOLDER,
    Container,
    Volume,
    gpu_environment,
    pod_spec,
    quantity,
    resources,
    scratch_bytes,
    scratch_volumes,
    shared_memory,
    socket_probes,
)
from planner.deploy.services import disruption_budget, network_policy, service, service_account
from planner.deploy.shares import Share
from planner.deploy.target import GIB
from planner.placement.recommender_plan import RecommenderPlan

Json = dict[str, Any]
EMBEDDING_IMAGE = "registry.example.org/embedding-server:1.0.0"
PORT = 9100
COMPONENT = "embedding"


def embedding_objects(context: Context, job: RecommenderPlan, sharding: Json) -> list[Json]:
    """Return the objects of an embedding server around its sharding map.

    Parameters
    ----------
    sharding
        ConfigMap with the map of shards.
    """
    name = job_name(job)
    base, selector = context.labels(name, name, COMPONENT, name), {"app.kubernetes.io/name": name}
    by_count: dict[int, list[Share]] = {}
    for share in context.reader(job).shares(job.ranks()):
        by_count.setdefault(share.num_gpus, []).append(share)
    groups = [by_count[count] for count in sorted(by_count, reverse=True)]
    reach = service(context, name, base, selector, "grpc", PORT)
    reach["spec"] |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return [
        service_account(context, job, name, base),
        sharding,
        *(
            _stateful_set(context, job, group, numbered(name, index, len(groups)), sharding)
            for index, group in enumerate(groups)
        ),
        reach,
        disruption_budget(context, name, base, selector),
        network_policy(context, name, base, selector, ["grpc"], selector),
    ]


def _stateful_set(
    context: Context, job: RecommenderPlan, shares: Sequence[Share], own: str, sharding: Json
) -> Json:
    name = job_name(job)
    labels = context.labels(name, own, COMPONENT, name)
    context.note(labels, shares)
    nodes = [share.node for share in shares]
    affinity = node_affinity(nodes, [share.arch for share in shares], context.target)
    affinity |= apart({"app.kubernetes.io/name": name})
    pod = pod_spec(
        context.target,
        name,
        [_container(context, job, shares, sharding)],
        affinity=affinity,
        tolerations=gpu_tolerations(context.vendor(job, shares)),
    )
    placement = "; ".join(show_share(share) for share in shares)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": context.meta(own, labels, context.annotations(job, placement=placement)),
        "spec": {
            "serviceName": name,
            "replicas": len(shares),
            "podManagementPolicy": "Parallel",
            "selector": {
                "matchLabels": {
                    key: labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")
                }
            },
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def cold_bytes(job: RecommenderPlan, shares: Sequence[Share]) -> float:
    """Return the most bytes of tables that lie in the memory of one of some nodes."""
    held = {share.node.name: 0.0 for share in shares}
    for entry in job.host_memory:
        node = entry.numa.partition("/")[0]
        if node in held:
            held[node] += entry.used
    return max(held.values(), default=0.0)


def _container(context: Context, job: RecommenderPlan, shares: Sequence[Share], sharding: Json) -> Container:
    map_file = next(iter({**sharding.get("data", {}), **sharding.get("binaryData", {})}))  # .gz where large
    target, program, first = context.target, context.target.program(job.name), shares[0]
    vendor, page, cold = context.vendor(job, shares), target.sizing.huge_page, cold_bytes(job, shares)
    sizing = target.sizing
    volumes = [
        shared_memory(first.num_gpus * sizing.shm_per_rank),
        *scratch_volumes(sizing, cache=False),
        Volume("plan", PLAN_FOLDER, {"configMap": {"name": sharding["metadata"]["name"]}}, read_only=True),
    ]
    memory = first.num_gpus * (sizing.rank_memory + sizing.shm_per_rank)
    devices = {gpu_resource(vendor, None, target): first.num_gpus}
    amounts = resources(
        min(context.capacity.cores(share) for share in shares),
        math.ceil((memory + (0.0 if page else cold)) / GIB) * GIB,
        scratch_bytes(sizing, cache=False),
        devices,
    )
    if page and cold:
        volumes.append(Volume("huge", "/hugepages", {"emptyDir": {"medium": f"HugePages-{page}"}}))
        size = quantity(math.ceil(cold / GIB) * GIB)
        for word in ("requests", "limits"):
            amounts[word][f"hugepages-{page}"] = size
    return Container(
        name="embedding",
        image=program.image or EMBEDDING_IMAGE,
        resources=amounts,
        command=[literal(word) for word in program.command or ("embedding-server",)],
        arguments=[
            literal(word)
            for word in (f"--shard-map={PLAN_FOLDER}/{map_file}", f"--port={PORT}", *program.arguments)
        ],
        env={**gpu_environment(first.container_order, vendor, mig=False), "HOME": "/tmp", **program.env},
        ports={"grpc": PORT},
        volumes=volumes,
        probes=socket_probes("grpc"),
    )
