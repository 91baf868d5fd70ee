"""Components of a bundle: what is watched, the gate of a roll-out, and the agent on every node."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from planner import __version__
from planner.deploy.context import Context, job_name
from planner.deploy.names import dns_label
from planner.deploy.pods import pod_spec
from planner.deploy.series import Series, series_table
from planner.placement.plan import JobPlan, ServingPlan

Json = dict[str, Any]
AGENT_IMAGE = "registry.example.org/planner/agent"
AGENT_PORT = 9410
PROMETHEUS = "http://prometheus.monitoring:9090"
MARGIN = 1.25
"""Latency that a roll-out may show over the predicted 99th percentile."""
_NAME = "app.kubernetes.io/name"


def components(context: Context) -> dict[str, list[Json]]:
    """Return the objects of every component by its name."""
    jobs = sorted(context.plan.jobs, key=lambda job: job.name)
    serving = [job for job in jobs if isinstance(job, ServingPlan)]
    return {
        "monitoring": [
            counters(context),
            dashboard(context),
            *(rules(context, job) for job in jobs),
            *(pod_monitor(context, job) for job in serving),
        ],
        "canary": [one for job in serving for one in gate(context, job)],
        "agent": agent(context),
    }


def figures(context: Context, job: JobPlan) -> dict[str, str]:
    """Return the figures of a job that rules speak of: predicted latency, rates of its links, bytes/s."""
    found = {"namespace": context.target.namespace, "job": job_name(job)}
    if isinstance(job, ServingPlan):
        found["p99"] = _number(MARGIN * job.prediction.latency_p99)
    rates: dict[str, float] = {}
    for share in context.reader(job).shares(list(job.gpus()) if not hasattr(job, "ranks") else job.ranks()):
        for place in share.places:
            totals: dict[str, float] = {}
            for _, _, data in share.machine.graph.out_edges(place.gpu, data=True):
                edge = data["edge"]
                totals[edge.kind] = totals.get(edge.kind, 0.0) + edge.rate
            for kind, rate in totals.items():
                rates[kind] = min(rates.get(kind, math.inf), rate)
    for kind, name in (("nvlink", "nvlink"), ("pcie", "pcie"), ("nvlink-c2c", "c2c")):
        if kind in rates:
            found[name] = _number(rates[kind])
    return found


def _number(value: float) -> str:
    return f"{value:.6g}".replace("e+", "e")


def _meta(context: Context, name: str, **labels: str) -> Json:
    own = {"app.kubernetes.io/part-of": "planner", "app.kubernetes.io/managed-by": "planner", **labels}
    return {"name": name, "namespace": context.target.namespace, "labels": own}


def counters(context: Context) -> Json:
    """Return the counters file of dcgm-exporter (``--configmap-data NAMESPACE:planner-dcgm-counters``)."""
    lines = [f"{one.name}, {one.type}, {one.help}" for one in series_table().series if one.exporter == "dcgm"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(context, "planner-dcgm-counters"),
        "data": {
            "metrics": "\n".join(line.replace(", 1 healthy, 2 not", "; 1 healthy; 2 not") for line in lines)
            + "\n"
        },
    }


def rules(context: Context, job: JobPlan) -> Json:
    """Return the rules of a job with the figures of its plan."""
    own = figures(context, job)
    filled = [rule for one in series_table().rules if (rule := one.filled(own)) is not None]
    name = dns_label(f"plan-{job_name(job)}")
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _meta(context, name),
        "spec": {"groups": [{"name": name, "interval": "15s", "rules": filled}]},
    }


def dashboard(context: Context) -> Json:
    """Return a dashboard of Grafana, one panel for each series, as its side-car reads it."""
    panels = [_panel(index, one) for index, one in enumerate(series_table().series)]
    page = {
        "title": f"Plan {context.plan.name}",
        "uid": f"planner-{context.digest.rpartition(':')[2][:16]}",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "panels": panels,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(context, "planner-dashboard", grafana_dashboard="1"),
        "data": {"planner.json": json.dumps(page, indent=1, sort_keys=True, ensure_ascii=True) + "\n"},
    }


def _panel(index: int, one: Series) -> Json:
    expression = one.name
    if one.type == "histogram":
        expression = f"histogram_quantile(0.99, sum by (le) (rate({one.name}[5m])))"
    elif one.type == "counter":
        expression = f"rate({one.name}[5m])"
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": one.help,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (index % 2), "y": 8 * (index // 2)},
        "fieldConfig": {"defaults": {"unit": one.unit}, "overrides": []},
        "targets": [{"expr": expression, "refId": "A"}],
    }


def pod_monitor(context: Context, job: ServingPlan) -> Json:
    """Return the monitor that has the servers of a job scraped."""
    name = job_name(job)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": _meta(context, name),
        "spec": {
            "selector": {"matchLabels": {_NAME: name}},
            "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
        },
    }


def gate(context: Context, job: ServingPlan) -> list[Json]:
    """Return the gates of a roll-out: an AnalysisTemplate of Argo Rollouts, a MetricTemplate of Flagger."""
    own, name = figures(context, job), dns_label(f"{job_name(job)}-gate")
    query = "plan:request_latency_seconds:p99"
    metrics = [_gated("p99", query, "len(result) > 0 && result[0] <= {{args.p99-budget-seconds}}")]
    arguments = [{"name": "p99-budget-seconds", "value": own["p99"]}]
    if "nvlink" in own:
        arguments.append({"name": "nvlink-ceiling-bytes", "value": own["nvlink"]})
        metrics.append(
            _gated(
                "nvlink-bandwidth",
                "max(plan:nvlink_tx_bytes_per_second:max)",
                "len(result) > 0 && result[0] <= {{args.nvlink-ceiling-bytes}}",
            )
        )
    return [
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AnalysisTemplate",
            "metadata": _meta(context, name),
            "spec": {"args": arguments, "metrics": metrics},
        },
        {
            "apiVersion": "flagger.app/v1beta1",
            "kind": "MetricTemplate",
            "metadata": _meta(context, name),
            "spec": {"provider": {"type": "prometheus", "address": PROMETHEUS}, "query": query},
        },
    ]


def _gated(name: str, query: str, condition: str) -> Json:
    return {
        "name": name,
        "interval": "1m",
        "count": 10,
        "failureLimit": 1,
        "successCondition": condition,
        "provider": {"prometheus": {"address": PROMETHEUS, "query": query}},
    }


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
            "args": ["agent", f"--port={AGENT_PORT}", "--name=$(NODE_NAME)", "--labels=/features.d/planner"],
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
            "volumeMounts": [{"name": "features", "mountPath": "/features.d"}],
        }
    ]
    pod["volumes"] = [{"name": "features", "hostPath": {"path": folder, "type": "Directory"}}]
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _meta(context, name, **labels),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": _meta(context, name, **labels),
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
            "metadata": _meta(context, name),
            "spec": {"selector": selector, "podMetricsEndpoints": [{"port": "metrics", "interval": "30s"}]},
        },
        _feature_rule(context),
    ]


def _scrapes(context: Context, name: str, selector: Mapping[str, Any]) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(context, name),
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


def exported(objects: Sequence[Json]) -> set[str]:
    """Return the series that somebody exports once these objects are applied."""
    table = {one.name: one.exporter for one in series_table().series}
    found = {name for name, exporter in table.items() if exporter != "dcgm"}
    for item in objects:
        if item["kind"] == "ConfigMap" and "metrics" in item.get("data", {}):
            found |= {line.partition(",")[0] for line in item["data"]["metrics"].splitlines() if line}
    return found
