"""Roll-outs that stop at the gate: a Rollout of Argo over every Deployment of servers that has several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.deploy.context import Context
from planner.deploy.monitoring import component_meta, gate_name
from planner.deploy.stages import SERVER

Json = dict[str, Any]
_LABEL = "app.kubernetes.io/"


def rollouts(context: Context, objects: Sequence[Json]) -> list[Json]:
    """Return the roll-outs of a bundle, which take the pods over from the Deployments that they refer to.

    One pod goes first, in place of an old one, as its devices are those of that pod; the others follow when
    the gate has passed. A single pod cannot be tried beside itself.
    """
    servers = [
        item
        for item in objects
        if item["kind"] == "Deployment"
        and item["spec"]["template"]["metadata"]["labels"][f"{_LABEL}component"] == SERVER
        and item["spec"]["replicas"] > 1
    ]
    return [_rollout(context, item) for item in servers]


def _rollout(context: Context, item: Json) -> Json:
    name, replicas = item["metadata"]["name"], item["spec"]["replicas"]
    gate = gate_name(item["metadata"]["labels"][f"{_LABEL}part-of"])
    steps: list[Json] = [
        {"setWeight": max(1, 100 // replicas)},
        {"analysis": {"templates": [{"templateName": gate}]}},
        {"setWeight": 100},
    ]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": component_meta(context, name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": item["spec"]["progressDeadlineSeconds"],
            "selector": item["spec"]["selector"],
            "workloadRef": {
                "apiVersion": item["apiVersion"], "kind": item["kind"], "name": name,
                "scaleDown": "progressively",
            },
            "strategy": {"canary": {"maxSurge": 0, "maxUnavailable": 1, "steps": steps}},
        },
    }  # fmt: skip
