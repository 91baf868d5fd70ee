"""What stands around the pods of a job: account, service, disruption budget, network policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.context import Context
from planner.placement.plan import JobPlan, ServingPlan

Json = dict[str, Any]


def service_account(context: Context, job: JobPlan, name: str, labels: Mapping[str, str]) -> Json:
    """Return an account without a token: no pod of a plan talks to the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": context.meta(name, labels),
        "automountServiceAccountToken": False,
    }


PRIORITIES = {"high": 100000, "normal": 10000}
"""Values of the priority classes that a bundle brings where the cluster has none of its own."""


def priority_classes(context: Context) -> list[Json]:
    """Return a class for each priority of the plan's jobs that the target names none of the cluster's for."""
    if not context.target.own_priorities:
        return []
    used = sorted({job.priority for job in context.plan.jobs if isinstance(job, ServingPlan)})
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {
                "name": context.target.priority_class(one),
                "labels": {"app.kubernetes.io/managed-by": "planner"},
            },
            "value": PRIORITIES[one],
            "preemptionPolicy": "PreemptLowerPriority" if one == "high" else "Never",
            "description": f"Jobs that a plan gives {one} priority",
        }
        for one in used
        if one not in context.target.priority_classes
    ]


def service(
    context: Context,
    name: str,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    port: str,
    number: int,
) -> Json:
    """Return a service that reaches the selected pods on their port called ``port``."""
    ports = [{"name": port, "port": number, "targetPort": port, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": context.meta(name, labels),
        "spec": {"type": "ClusterIP", "selector": dict(selector), "ports": ports},
    }


def disruption_budget(
    context: Context, name: str, labels: Mapping[str, str], selector: Mapping[str, str]
) -> Json:
    """Return a budget that lets one pod at a time be evicted, and broken ones always."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": dict(selector)},
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": context.meta(name, labels),
        "spec": spec,
    }


def network_policy(
    context: Context,
    name: str,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    ports: Sequence[str],
    peers: Mapping[str, str] | None,
) -> Json:
    """Return a policy that admits the namespace to some ports, and the pods of one job to all.

    Parameters
    ----------
    peers
        Labels of pods that talk to one another on any port, as NCCL does; ``None`` for none.
    """
    rules: list[Json] = []
    if ports:
        rules.append(
            {"from": [{"podSelector": {}}], "ports": [{"port": port, "protocol": "TCP"} for port in ports]}
        )
    if peers is not None:
        rules.append({"from": [{"podSelector": {"matchLabels": dict(peers)}}]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": context.meta(name, labels),
        "spec": {
            "podSelector": {"matchLabels": dict(selector)},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def deployment(
    context: Context,
    name: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    replicas: int,
    pod: Json,
    start: int,
) -> Json:
    """Return a Deployment whose new pods wait for the devices and cores of the old ones.

    Parameters
    ----------
    start
        Longest start of a pod, s.
    """
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    selector = {key: labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": context.meta(name, labels, annotations),
        "spec": {
            "replicas": replicas,
            "strategy": rolling if replicas > 1 else {"type": "Recreate"},
            "progressDeadlineSeconds": start + 600,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
