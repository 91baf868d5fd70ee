"""Components of a bundle: what is watched, and the gate of a roll-out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from planner.deploy.context import Context, job_name
from planner.deploy.names import dns_label
from planner.deploy.series import Series, series_table
from planner.placement.plan import JobPlan, ServingPlan

Json = dict[str, Any]
PROMETHEUS = "http://prometheus.monitoring:9090"
MARGIN = 1.25
"""Latency that a roll-out may show over the predicted 99th percentile."""
_NAME = "app.kubernetes.io/name"


def components(context: Context) -> dict[str, list[Json]]:
    """Return the objects of the components that watch and gate, by name."""
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


def component_meta(context: Context, name: str, **labels: str) -> Json:
    """Return the metadata of an object of a component."""
    own = {"app.kubernetes.io/part-of": "planner", "app.kubernetes.io/managed-by": "planner", **labels}
    return {"name": name, "namespace": context.target.namespace, "labels": own}


def counters(context: Context) -> Json:
    """Return the counters file of dcgm-exporter (``--configmap-data NAMESPACE:planner-dcgm-counters``)."""
    lines = [f"{one.name}, {one.type}, {one.help}" for one in series_table().series if one.exporter == "dcgm"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": component_meta(context, "planner-dcgm-counters"),
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
        "metadata": component_meta(context, name),
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
        "metadata": component_meta(context, "planner-dashboard", grafana_dashboard="1"),
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
        "metadata": component_meta(context, name),
        "spec": {
            "selector": {"matchLabels": {_NAME: name}},
            "podMetricsEndpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
        },
    }


def gate_name(job: str) -> str:
    """Return the name of the gate of a job."""
    return dns_label(f"{job}-gate")


def gate(context: Context, job: ServingPlan) -> list[Json]:
    """Return the gates of a roll-out: an AnalysisTemplate of Argo Rollouts, a MetricTemplate of Flagger."""
    own, name = figures(context, job), gate_name(job_name(job))
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
            "metadata": component_meta(context, name),
            "spec": {"args": arguments, "metrics": metrics},
        },
        {
            "apiVersion": "flagger.app/v1beta1",
            "kind": "MetricTemplate",
            "metadata": component_meta(context, name),
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


def exported(objects: Sequence[Json]) -> set[str]:
    """Return the series that somebody exports once these objects are applied."""
    table = {one.name: one.exporter for one in series_table().series}
    found = {name for name, exporter in table.items() if exporter != "dcgm"}
    for item in objects:
        if item["kind"] == "ConfigMap" and "metrics" in item.get("data", {}):
            found |= {line.partition(",")[0] for line in item["data"]["metrics"].splitlines() if line}
    return found
