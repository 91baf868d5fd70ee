"""The folder of a bundle: base, components and overlays of kustomize, and a Helm chart around the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from planner import __version__
from planner.deploy.context import Context
from planner.deploy.names import dns_label
from planner.schema import dump_yaml

Json = dict[str, Any]
KUSTOMIZATION = "kustomization.yaml"
_CORE = "kustomize.config.k8s.io/v1"
ORDER = (
    "PriorityClass",
    "ServiceAccount",
    "ConfigMap",
    "Topology",
    "ClusterTopologyBinding",
    "ResourceFlavor",
    "ClusterQueue",
    "LocalQueue",
    "Queue",
    "HyperNode",
    "ComputeDomain",
    "ResourceClaimTemplate",
    "Workload",
    "PodGroup",
    "Deployment",
    "StatefulSet",
    "LeaderWorkerSet",
    "PodCliqueSet",
    "JobSet",
    "DaemonSet",
    "Service",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "NodeFeatureRule",
    "PodMonitor",
    "PrometheusRule",
    "AnalysisTemplate",
    "Rollout",
    "MetricTemplate",
)
"""Kinds in the order of their files: what others refer to comes first."""


def documents(objects: Sequence[Json]) -> str:
    """Return objects as one YAML stream."""
    return "---\n".join(dump_yaml(item) for item in objects)


def base_files(by_job: Mapping[str, Sequence[Json]], shared: Sequence[Json]) -> dict[str, str]:
    """Return the base: a file for each job and kind, and one for each kind that all jobs share."""
    files: dict[str, str] = {}
    for folder, objects in [("", shared), *((f"{name}/", objects) for name, objects in by_job.items())]:
        for kind in sorted({item["kind"] for item in objects}, key=ORDER.index):
            name = f"base/{folder}{kind.lower()}.yaml"
            files[name] = documents([item for item in objects if item["kind"] == kind])
    resources = [name.removeprefix("base/") for name in files]
    files[f"base/{KUSTOMIZATION}"] = _kustomization("Kustomization", resources=resources)
    return files


def component_files(components: Mapping[str, Sequence[Json]]) -> dict[str, str]:
    """Return what may be added to the base, each in its folder."""
    files: dict[str, str] = {}
    for name, objects in components.items():
        kinds = sorted({item["kind"] for item in objects}, key=ORDER.index)
        own = {
            f"{kind.lower()}.yaml": documents([item for item in objects if item["kind"] == kind])
            for kind in kinds
        }
        own[KUSTOMIZATION] = _kustomization("Component", resources=list(own))
        files |= {f"components/{name}/{file}": text for file, text in own.items()}
    return files


def overlay_files(components: Sequence[str], chosen: Sequence[str]) -> dict[str, str]:
    """Return overlays with nothing and with everything added, and the root with what the target asks for."""
    return {
        f"overlays/plain/{KUSTOMIZATION}": _kustomization("Kustomization", resources=["../../base"]),
        f"overlays/observed/{KUSTOMIZATION}": _kustomization(
            "Kustomization",
            resources=["../../base"],
            components=[f"../../components/{name}" for name in components],
        ),
        KUSTOMIZATION: _kustomization(
            "Kustomization", resources=["base"], components=[f"components/{name}" for name in chosen]
        ),
    }


def chart_files(context: Context, files: Mapping[str, str], chosen: Sequence[str]) -> dict[str, str]:
    """Return a chart that installs the same objects: their files as they are, components by values."""
    name = dns_label(f"plan-{context.plan.name}")
    chart = {
        "apiVersion": "v2",
        "name": name,
        "description": f"Plan {context.plan.name} for Kubernetes {context.target.version}",
        "type": "application",
        "version": "0.1.0",
        "appVersion": __version__,
        "kubeVersion": f">={context.target.version}.0-0",
        "icon": "https://planner.example.org/icon.png",
    }
    known = sorted({path.split("/")[1] for path in files if path.startswith("components/")})
    values = {"components": {one: one in chosen for one in known}}
    found = {
        "chart/Chart.yaml": dump_yaml(chart),
        "chart/values.yaml": dump_yaml(values),
        "chart/templates/objects.yaml": _TEMPLATE,
        "chart/values.schema.json": json.dumps(_values_schema(known), indent=1, sort_keys=True) + "\n",
    }
    for path, text in files.items():
        if path.startswith(("base/", "components/")) and not path.endswith(KUSTOMIZATION):
            found[f"chart/objects/{path}"] = text
    return found


def _values_schema(known: Sequence[str]) -> Json:
    flags = {
        "type": "object",
        "additionalProperties": False,
        "properties": {one: {"type": "boolean"} for one in known},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"components": flags},
    }


_TEMPLATE = """\
{{- range $path, $_ := .Files.Glob "objects/base/**" }}
---
{{ $.Files.Get $path }}
{{- end }}
{{- range $name, $wanted := .Values.components }}
{{- if $wanted }}
{{- range $path, $_ := $.Files.Glob (printf "objects/components/%s/**" $name) }}
---
{{ $.Files.Get $path }}
{{- end }}
{{- end }}
{{- end }}
"""


def _kustomization(kind: str, **lists: Sequence[str]) -> str:
    version = f"{_CORE}alpha1" if kind == "Component" else f"{_CORE}beta1"
    return dump_yaml(
        {"apiVersion": version, "kind": kind, **{name: list(items) for name, items in lists.items() if items}}
    )
