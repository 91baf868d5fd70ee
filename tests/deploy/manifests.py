"""Reading bundles back, and judging them by the schemas of Kubernetes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import yaml
from kubernetes_validate import utils

from planner.deploy import Target, kubernetes_bundle
from tests.deploy.plans import Case, all_cases

Json = dict[str, Any]
CUSTOM = ("LeaderWorkerSet", "JobSet")

# The package reads its schemas anew for every document.
_read = functools.cache(utils.schema_contents)


def validate_core(document: Json, version: str) -> None:
    """Raise unless the document is valid in a release of Kubernetes, unknown fields refused."""
    original = utils.schema_contents
    utils.schema_contents = _read
    try:
        assert kubernetes_validate.validate(document, version, strict=True) == version
    finally:
        utils.schema_contents = original


def documents(files: Mapping[str, str]) -> list[Json]:
    """Return every object of the base of a bundle, in the order of the files."""
    return [
        document
        for name, text in files.items()
        if name.startswith("base/") and not name.endswith("kustomization.yaml")
        for document in yaml.load_all(text, yaml.CSafeLoader)
    ]


def bundle(case: Case, target: Target | None = None) -> list[Json]:
    """Return the objects that a case becomes."""
    return documents(kubernetes_bundle(case.plan, case.topology, case.workload, target))


@functools.cache
def known(name: str) -> list[Json]:
    """Return the objects that a case of `all_cases` becomes under the defaults; not to be changed."""
    return bundle(all_cases()[name])


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    """Return the objects of one kind."""
    return [item for item in objects if item["kind"] == kind]


def only(objects: list[Json], kind: str) -> Json:
    """Return the one object of a kind."""
    (found,) = of_kind(objects, kind)
    return found


def templates(item: Json) -> list[Json]:
    """Return the pod templates of an object."""
    spec = item.get("spec", {})
    if item["kind"] == "LeaderWorkerSet":
        group = spec["leaderWorkerTemplate"]
        return [group["leaderTemplate"], group["workerTemplate"]]
    if item["kind"] == "JobSet":
        return [job["template"]["spec"]["template"] for job in spec["replicatedJobs"]]
    return [spec["template"]] if "template" in spec else []


def as_pod(template: Json) -> Json:
    """Return a pod template as a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", **template["metadata"]},
        "spec": template["spec"],
    }


def pods(objects: list[Json]) -> list[Json]:
    """Return the specifications of all pods of a bundle."""
    return [template["spec"] for item in objects for template in templates(item)]


def containers(objects: list[Json]) -> list[Json]:
    """Return all containers of a bundle."""
    return [container for pod in pods(objects) for container in pod["containers"]]


def environment(container: Json) -> dict[str, str]:
    """Return the literal variables of a container, as its process gets them."""
    return {
        item["name"]: item["value"].replace("$$", "$") for item in container.get("env", []) if "value" in item
    }


def hostnames(pod: Json) -> list[str]:
    """Return the host names that a pod is held to."""
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    return [
        value
        for term in terms
        for expression in term["matchExpressions"]
        if expression["key"] == "kubernetes.io/hostname"
        for value in expression["values"]
    ]


def expressions(pod: Json) -> dict[str, list[str]]:
    """Return the only node selector term of a pod by key."""
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    return {expression["key"]: expression["values"] for expression in term["matchExpressions"]}


def strict(schema: Any) -> Any:
    """Return the schema of a custom kind with unknown fields refused, as the README of the data describes."""
    if not isinstance(schema, dict):
        return schema
    kept: Json = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: strict(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties"):
            kept[key] = strict(value)
        elif not key.startswith("x-") and key not in ("default", "format", "nullable"):
            kept[key] = value
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    if schema.get("x-kubernetes-int-or-string"):
        kept.pop("type", None)
        kept.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    closed = "properties" in schema and "additionalProperties" not in schema
    if schema.get("type") == "object" and closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = False
    return kept
