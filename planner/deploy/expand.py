"""The pods that controllers make of objects, as the scheduler gets them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
CUSTOM = frozenset(["LeaderWorkerSet", "JobSet", "PodCliqueSet"])
"""Custom kinds whose pods the API server does not look at."""
CHANNEL_CLASS = "compute-domain-default-channel.nvidia.com"


@dataclass(frozen=True)
class PodSet:
    """Equal pods: the object that makes them, how many, and one of them."""

    owner: str
    count: int
    pod: Json


def pod_sets(objects: Iterable[Json]) -> Iterator[PodSet]:
    """Yield the pods of workloads, those of DaemonSets left out, which go to every node that takes them."""
    for item in objects:
        owner, spec = f"{item['kind']} {item['metadata']['name']}", item.get("spec") or {}
        namespace = item["metadata"].get("namespace") or "default"
        if item["kind"] == "Pod":
            yield PodSet(owner, 1, item)
        elif item["kind"] in ("Deployment", "StatefulSet", "ReplicaSet"):
            yield PodSet(owner, spec.get("replicas", 1), _pod(spec["template"], namespace, owner))
        elif item["kind"] == "Job":
            yield PodSet(owner, spec.get("parallelism", 1), _pod(spec["template"], namespace, owner))
        elif item["kind"] == "LeaderWorkerSet":
            group = spec["leaderWorkerTemplate"]
            groups, size = spec.get("replicas", 1), group.get("size", 1)
            leader = group.get("leaderTemplate") or group["workerTemplate"]
            yield PodSet(owner, groups, _pod(leader, namespace, owner))
            yield PodSet(owner, groups * (size - 1), _pod(group["workerTemplate"], namespace, owner))
        elif item["kind"] == "PodCliqueSet":
            for one in spec["template"]["cliques"]:
                inner = {"metadata": {"labels": one.get("labels") or {}}, "spec": one["spec"]["podSpec"]}
                count = spec.get("replicas", 1) * one["spec"].get("replicas", 1)
                yield PodSet(f"{owner} {one['name']}", count, _pod(inner, namespace, owner))
        elif item["kind"] == "JobSet":
            for one in spec["replicatedJobs"]:
                inner = one["template"]["spec"]
                count = one.get("replicas", 1) * inner.get("parallelism", 1)
                yield PodSet(f"{owner} {one['name']}", count, _pod(inner["template"], namespace, owner))


def _pod(template: Json, namespace: str, owner: str) -> Json:
    meta = {**(template.get("metadata") or {}), "namespace": namespace, "name": owner.partition(" ")[2]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def made_templates(objects: Iterable[Json]) -> Iterator[Json]:
    """Yield the templates of claims that the driver makes for NVLink domains across nodes."""
    for item in objects:
        if item["kind"] == "ComputeDomain":
            name = item["spec"]["channel"]["resourceClaimTemplate"]["name"]
            body = {"deviceClassName": CHANNEL_CLASS, "allocationMode": "ExactCount", "count": 1}
            yield {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaimTemplate",
                "metadata": {"name": name, "namespace": item["metadata"].get("namespace") or "default"},
                "spec": {"spec": {"devices": {"requests": [{"name": "channel", "exactly": body}]}}},
            }
