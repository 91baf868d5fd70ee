"""Serving in two pools as one PodCliqueSet of Grove, which has KAI place both together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.deploy.context import Context, template_key
from planner.deploy.domains import domains, smallest_level
from planner.deploy.names import dns_label
from planner.deploy.validate import pod_templates

Json = dict[str, Any]
LEVELS = ("spine", "leaf", "accelerator")
DOMAINS: Mapping[str, str] = {"spine": "block", "leaf": "leaf", "accelerator": "rack"}
"""Names of the levels of a topology as Grove's constraints speak of them."""


def clique_sets(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return the objects of a job with a PodCliqueSet in place of the Deployments of its two pools.

    A LeaderWorkerSet among them numbers its pods by variables of its own, so that then all stay as they are.
    """
    role = context.target.key("role")
    pools = [
        item
        for item in objects
        if any(role in template["metadata"]["labels"] for template in pod_templates(item))
    ]
    if not pools or any(item["kind"] != "Deployment" for item in pools):
        return list(objects)
    named = sorted({_labels(item)["app.kubernetes.io/name"] for item in pools})
    made = [
        _set(context, name, [one for one in pools if _labels(one)["app.kubernetes.io/name"] == name])
        for name in named
    ]
    return [*(item for item in objects if item not in pools), *made, _binding(context)]


def _labels(item: Json) -> Mapping[str, str]:
    found: Mapping[str, str] = (
        ((item.get("spec") or {}).get("template") or {}).get("metadata", {}).get("labels", {})
    )
    return found


def _set(context: Context, name: str, pools: Sequence[Json]) -> Json:
    first, role = pools[0]["metadata"], context.target.key("role")
    template: Json = {
        "cliqueStartupType": "CliqueStartupTypeAnyOrder",
        "cliques": [_clique(item, role) for item in pools],
        "terminationDelay": "4h0m0s",
    }
    nodes = [share.node for item in pools for share in context.shares.get(template_key(_labels(item)), [])]
    key = smallest_level(domains(context.topology), nodes, context.target.platform, context.target.domain)
    if key is not None:
        domain = next(one["domain"] for one in _levels(context) if one["key"] == key)
        template["topologyConstraint"] = {"topologyName": _fabric(context), "pack": {"required": domain}}
    labels = {**first["labels"], "app.kubernetes.io/instance": name}
    return {
        "apiVersion": "grove.io/v1alpha1",
        "kind": "PodCliqueSet",
        "metadata": context.meta(name, labels, first["annotations"]),
        "spec": {"replicas": 1, "template": template},
    }


def _clique(item: Json, role: str) -> Json:
    """Return the clique of a Deployment: the same pods, all of which have to be there at once."""
    spec, labels = item["spec"], dict(_labels(item))
    own = labels["app.kubernetes.io/instance"].removeprefix(f"{labels['app.kubernetes.io/name']}-")
    return {
        "name": own,
        "labels": labels,
        "spec": {
            "roleName": own if own.startswith(labels[role]) else labels[role],
            "replicas": spec["replicas"],
            "minAvailable": spec["replicas"],
            "podSpec": spec["template"]["spec"],
        },
    }


def _fabric(context: Context) -> str:
    return dns_label(f"{context.target.queue or 'planner'}-fabric")


def _levels(context: Context) -> list[Json]:
    keys = context.target.platform.label_keys(context.target.domain)
    found = {getattr(keys, level): DOMAINS[level] for level in LEVELS if getattr(keys, level)}
    return [
        *({"domain": domain, "key": key} for key, domain in found.items()),
        {"domain": "host", "key": "kubernetes.io/hostname"},
    ]


def _binding(context: Context) -> Json:
    """Return which labels Grove's levels stand for."""
    return {
        "apiVersion": "grove.io/v1alpha1",
        "kind": "ClusterTopologyBinding",
        "metadata": {"name": _fabric(context), "labels": {"app.kubernetes.io/managed-by": "planner"}},
        "spec": {"levels": _levels(context)},
    }
