"""Metadata of every object: name, namespace, labels, annotations, owners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner.deploy.apiserver.syntax import (
    Problems,
    at,
    dns_label,
    dns_label_1035,
    dns_subdomain,
    labels,
    path_segment,
    qualified_name,
)

Json = Mapping[str, Any]
LARGEST_ANNOTATIONS = 256 * 1024
_NAMES: Mapping[str, Callable[[str], str]] = {
    ":Service": dns_label_1035,
    ":Namespace": dns_label,
    **{
        f"rbac.authorization.k8s.io:{kind}": path_segment
        for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    },
}
CLUSTER_SCOPED = frozenset(
    ["Namespace", "Node", "PersistentVolume", "ClusterRole", "ClusterRoleBinding", "PriorityClass",
     "StorageClass", "RuntimeClass", "DeviceClass", "ResourceSlice", "ValidatingAdmissionPolicy",
     "ValidatingAdmissionPolicyBinding", "CustomResourceDefinition"]
)  # fmt: skip


def metadata(document: Json, namespaced: bool | None = None) -> Problems:
    """Yield what is wrong with the metadata of a document."""
    meta: Json = document.get("metadata") or {}
    group = str(document.get("apiVersion", "")).rpartition("/")[0]
    rule = _NAMES.get(f"{group}:{document.get('kind')}", dns_subdomain)
    name, stem = meta.get("name") or "", meta.get("generateName") or ""
    if not name and not stem:
        yield "metadata.name: Required value: name or generateName is required"
    elif name:
        yield from at("metadata.name", rule(name))
    namespace = meta.get("namespace")
    if namespaced is None:
        namespaced = document.get("kind") not in CLUSTER_SCOPED
    if namespace:
        yield from at(
            "metadata.namespace", dns_label(namespace) if namespaced else "not allowed on this type"
        )
    yield from common(meta, "metadata")


def common(meta: Json, path: str) -> Problems:
    """Yield what is wrong with labels, annotations, finalizers and owners of an object or pod template."""
    yield from labels(f"{path}.labels", meta.get("labels"))
    annotations: Json = meta.get("annotations") or {}
    for key in annotations:
        yield from at(f"{path}.annotations", qualified_name(key.lower()))
    if (
        sum(len(key.encode()) + len(str(value).encode()) for key, value in annotations.items())
        > LARGEST_ANNOTATIONS
    ):
        yield f"{path}.annotations: must have at most {LARGEST_ANNOTATIONS} bytes"
    for item in meta.get("finalizers") or []:
        yield from at(f"{path}.finalizers", qualified_name(item))
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield f"{path}.ownerReferences[{index}].{field}: must not be empty"
