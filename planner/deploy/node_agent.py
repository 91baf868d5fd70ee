"""The agent on every GPU node as objects: what runs, what it may reach, what its labels become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner import __version__
from planner.deploy.context import Context
from planner.deploy.monitoring import component_meta
from planner.deploy.pods import pod_spec
from planner.schema import dump_yaml

Json = dict[str, Any]
AGENT_IMAGE = "registry.example.org/planner/agent"
AGENT_PORT = 9410
FOLDER, FILE = "/etc/planner", "topology.yaml"
"""Where the agent finds the cluster that the plan was made for, its own node among the others."""
_NAME = "app.kubernetes.io/name"


def agent(context: Context) -> list[Json]:
    """Return the agent on every GPU node: account, DaemonSet, network policy, and the rule for its labels."""
    name, labels = "planner-agent", {_NAME: "planner-agent", "app.kubernetes.io/part-of": "planner"}
    selector = {"matchLabels": {_NAME: name}}
    port = {"name": "metrics", "containerPort": AGENT_PORT, "protocol": "TCP"}
    probe = {"httpGet": {"path": "/healthz", "port": "metrics"}}
    amounts = {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "64Mi"}
    folder = "/etc/kubernetes/node-feature-discovery/features.d"
    pod = pod_spec(
        context.target, name, [], affinity={}, tolerations=[{"operator": "Exists", "effect": "NoSchedule"}]
    )
    pod.pop("fsGroup", None)
    pod["nodeSelector"] = {"nvidia.com/gpu.present": "true"}
    pod["containers"] = [
        {
            "name": "agent",
            "image": f"{AGENT_IMAGE}:{__version__}",
            "imagePullPolicy": "Always",
            "args": [
                "agent",
                f"--port={AGENT_PORT}",
                "--name=$(NODE_NAME)",
                "--labels=/features.d/planner",
                f"--domain={context.target.domain}",
                f"--expected={FOLDER}/{FILE}",
            ],
            "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "ports": [port],
            "resources": {"requests": amounts, "limits": dict(amounts)},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "metrics"}, "periodSeconds": 15},
            "livenessProbe": {**probe, "periodSeconds": 30},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": context.target.user,
                "runAsGroup": context.target.user,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [
                {"name": "features", "mountPath": "/features.d"},
                {"name": "expected", "mountPath": FOLDER, "readOnly": True},
            ],
        }
    ]
    expected = f"{name}-expected"
    pod["volumes"] = [
        {"name": "features", "hostPath": {"path": folder, "type": "Directory"}},
        {"name": "expected", "configMap": {"name": expected}},
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": component_meta(context, expected, **labels),
            "data": {FILE: _expected(context)},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": component_meta(context, name, **labels),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": component_meta(context, name, **labels),
            "spec": {
                "selector": selector,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        _scrapes(context, name, selector),
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": component_meta(context, name),
            "spec": {"selector": selector, "podMetricsEndpoints": [{"port": "metrics", "interval": "30s"}]},
        },
        _feature_rule(context),
    ]


def _scrapes(context: Context, name: str, selector: Mapping[str, Any]) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": component_meta(context, name),
        "spec": {
            "podSelector": dict(selector),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": "metrics", "protocol": "TCP"}]}],
        },
    }


def _feature_rule(context: Context) -> Json:
    """Return the rule that turns what the agents wrote into labels of the planner's own domain."""
    feature = [
        {
            "feature": "local.label",
            "matchExpressions": {context.target.key("links-verified"): {"op": "IsTrue"}},
        }
    ]
    return {
        "apiVersion": "nfd.k8s-sigs.io/v1alpha1",
        "kind": "NodeFeatureRule",
        "metadata": {"name": "planner-links", "labels": {"app.kubernetes.io/managed-by": "planner"}},
        "spec": {
            "rules": [
                {
                    "name": "links verified by the planner's agent",
                    "labels": {context.target.key("ready"): "true"},
                    "matchFeatures": feature,
                }
            ]
        },
    }


def _expected(context: Context) -> str:
    """Return the topology with its nodes and machines by name, so that their order changes no byte."""
    document = context.topology.document
    ordered = {
        "nodes": sorted(document.nodes, key=lambda one: one.name),
        "machines": sorted(document.machines, key=lambda one: one.name),
        "devices": sorted(document.devices, key=lambda one: one.name),
    }
    return dump_yaml(document.model_copy(update=ordered))
