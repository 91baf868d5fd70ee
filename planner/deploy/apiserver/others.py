"""Rules for configuration, storage, quotas, classes and nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from planner.deploy.apiserver.amounts import HUGE, exact
from planner.deploy.apiserver.neighbours import EFFECTS, node_selector
from planner.deploy.apiserver.syntax import (
    Problems,
    amount,
    at,
    dns_label,
    dns_subdomain,
    file_key,
    label_value,
    named,
    one_of,
    qualified_name,
    required,
    selector,
    unique,
)

Json = Mapping[str, Any]
LARGEST_DATA = 2**20
HIGHEST_PRIORITY = 10**9
_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")


def configuration(document: Json) -> Problems:
    """Yield what is wrong with a ConfigMap or Secret."""
    fields = ("data", "binaryData") if document.get("kind") == "ConfigMap" else ("data", "stringData")
    size = 0
    for field in fields:
        for key, value in (document.get(field) or {}).items():
            yield from at(f"{field}[{key}]", file_key(key))
            size += len(value.encode())
    if document.get("kind") == "ConfigMap":
        yield from unique("data", [*(document.get("data") or {}), *(document.get("binaryData") or {})])
    if document.get("kind") == "Secret":
        yield from _secret(document)
    if size > LARGEST_DATA:
        yield f"data: Too long: must have at most {LARGEST_DATA} bytes"


_KEYS: Mapping[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"), "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",), "kubernetes.io/dockercfg": (".dockercfg",),
}  # fmt: skip
"""Keys that a Secret of a type must have."""


def _secret(document: Json) -> Problems:
    held = {**(document.get("data") or {}), **(document.get("stringData") or {})}
    kind = document.get("type") or "Opaque"
    for key in _KEYS.get(kind, ()):
        if key not in held:
            yield f"data[{key}]: Required value for type {kind}"
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & set(held):
        yield "data: username or password is required for type kubernetes.io/basic-auth"


def priority_class(document: Json) -> Problems:
    """Yield what is wrong with a PriorityClass."""
    system = ((document.get("metadata") or {}).get("name") or "").startswith("system-")
    if system:
        yield "metadata.name: priority class names with 'system-' prefix are reserved for system use only"
    elif document.get("value", 0) > HIGHEST_PRIORITY:
        yield f"value: Forbidden: maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}"
    policy = document.get("preemptionPolicy")
    if policy is not None and policy not in ("Never", "PreemptLowerPriority"):
        yield f"preemptionPolicy: Unsupported value {policy!r}"


def quota(document: Json) -> Problems:
    """Yield what is wrong with a ResourceQuota."""
    for name, value in ((document.get("spec") or {}).get("hard") or {}).items():
        yield from at(f"spec.hard[{name}]", qualified_name(name) or _quota_name(name))
        yield from at(f"spec.hard[{name}]", _positive(value) or _counted(name, value))
    scopes = (document.get("spec") or {}).get("scopes") or []
    for scope in scopes:
        yield from one_of("spec.scopes", scope, *_SCOPES)
    if {"BestEffort", "NotBestEffort"} <= set(scopes) or {"Terminating", "NotTerminating"} <= set(scopes):
        yield "spec.scopes: conflicting scopes"


_SCOPES = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass",
           "CrossNamespacePodAffinity", "VolumeAttributesClass")  # fmt: skip
_COUNTS = ("pods", "services", "secrets", "configmaps", "persistentvolumeclaims", "resourcequotas",
           "replicationcontrollers", "services.nodeports", "services.loadbalancers")  # fmt: skip


_AMOUNTS = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "requests.", "limits.")
    for name in ("cpu", "memory", "ephemeral-storage")
) | {"requests.storage"}


def _quota_name(name: str) -> str:
    """Return what is wrong with the name of what is limited: a standard one, or one with a domain."""
    huge = name.removeprefix("requests.").startswith(HUGE)
    known = "/" in name or huge or name in _AMOUNTS or name in _COUNTS
    return "" if known else f"{name!r} must be a standard resource for quota"


def _counted(name: str, value: str | float) -> str:
    """Return what is wrong with a limit of what is counted in whole numbers."""
    found = amount(value)
    whole = name in _COUNTS or name.startswith("count/")
    return f"{value}: must be an integer" if whole and found is not None and found % 1 else ""


def limit_range(document: Json) -> Problems:
    """Yield what is wrong with a LimitRange."""
    for index, one in enumerate((document.get("spec") or {}).get("limits") or []):
        where = f"spec.limits[{index}]"
        kind = one.get("type") or ""
        yield from at(f"{where}.type", qualified_name(kind))
        if kind == "Pod":
            for field in ("default", "defaultRequest"):
                if one.get(field):
                    yield f"{where}.{field}: may not be specified when `type` is 'Pod'"
        for low, high in _ASCENDING:
            for name in set(one.get(low) or {}) & set(one.get(high) or {}):
                least, most = amount(one[low][name]), amount(one[high][name])
                if least is not None and most is not None and least > most:
                    yield f"{where}.{low}[{name}]: is above {high}"


_ASCENDING = (
    ("min", "max"),
    ("min", "default"),
    ("min", "defaultRequest"),
    ("defaultRequest", "default"),
    ("default", "max"),
    ("defaultRequest", "max"),
)
"""Fields of a limit of which the first may not exceed the second."""


def _positive(value: str | float) -> str:
    found = amount(value)
    return "" if found is not None and found >= 0 else f"{value!r} must be a quantity of at least 0"


def volume_claim(document: Json) -> Problems:
    """Yield what is wrong with a PersistentVolumeClaim."""
    yield from claim_spec(document.get("spec") or {}, "spec")


def claim_spec(spec: Json, path: str) -> Problems:
    """Yield what is wrong with what a claim of a volume asks for."""
    yield from _modes(spec, path)
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    yield from required(f"{path}.resources[storage]", asked)
    if asked is not None and (amount(asked) or 0) <= 0:
        yield f"{path}.resources[storage]: must be greater than zero"
    if spec.get("storageClassName"):
        yield from at(f"{path}.storageClassName", dns_subdomain(spec["storageClassName"]))
    yield from selector(f"{path}.selector", spec.get("selector"))
    for field in ("dataSource", "dataSourceRef"):
        source = spec.get(field)
        if source is not None:
            for key in ("kind", "name"):
                yield from required(f"{path}.{field}.{key}", source.get(key))


def _modes(spec: Json, path: str = "spec") -> Problems:
    modes = spec.get("accessModes") or []
    yield from required(f"{path}.accessModes", modes)
    for mode in modes:
        if mode not in _MODES:
            yield f"{path}.accessModes: Unsupported value {mode!r}"
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        yield f"{path}.accessModes: ReadWriteOncePod stands alone"
    yield from one_of(f"{path}.volumeMode", spec.get("volumeMode"), "Block", "Filesystem")


def volume(document: Json) -> Problems:
    """Yield what is wrong with a PersistentVolume."""
    spec: Json = document.get("spec") or {}
    yield from _modes(spec)
    yield from required("spec.capacity", spec.get("capacity"))
    policy = spec.get("persistentVolumeReclaimPolicy")
    yield from one_of("spec.persistentVolumeReclaimPolicy", policy, "Retain", "Delete", "Recycle")
    needed = (spec.get("nodeAffinity") or {}).get("required")
    if needed is not None:
        yield from node_selector(needed, "spec.nodeAffinity.required")
    elif "local" in spec:
        yield "spec.nodeAffinity: Required value: Local volume requires node affinity"


def storage_class(document: Json) -> Problems:
    """Yield what is wrong with a StorageClass."""
    yield from required("provisioner", document.get("provisioner"))
    yield from one_of("reclaimPolicy", document.get("reclaimPolicy"), "Retain", "Delete", "Recycle")
    mode = document.get("volumeBindingMode")
    yield from one_of("volumeBindingMode", mode, "Immediate", "WaitForFirstConsumer")


def runtime_class(document: Json) -> Problems:
    """Yield what is wrong with a RuntimeClass."""
    yield from named("handler", document.get("handler"), dns_label)


def node(document: Json) -> Problems:
    """Yield what is wrong with a Node."""
    taints = (document.get("spec") or {}).get("taints") or []
    yield from unique("spec.taints", [(one.get("key"), one.get("effect")) for one in taints])
    for index, one in enumerate(taints):
        where = f"spec.taints[{index}]"
        yield from at(f"{where}.key", qualified_name(one.get("key") or ""))
        yield from at(f"{where}.value", label_value(one.get("value") or ""))
        if one.get("effect") not in EFFECTS:
            yield f"{where}.effect: Unsupported value {one.get('effect')!r}"
    for field in ("capacity", "allocatable"):
        for name, value in ((document.get("status") or {}).get(field) or {}).items():
            yield from at(f"status.{field}[{name}]", qualified_name(name))
            found = amount(value)
            if found is not None and "/" in name and exact(name) and found.denominator != 1:
                yield f"status.{field}[{name}]: must be an integer"


def namespace(document: Json) -> Problems:
    """Yield what is wrong with a Namespace."""
    for item in (document.get("spec") or {}).get("finalizers") or []:
        yield from at("spec.finalizers", qualified_name(item))
        if "/" not in item and item != "kubernetes":
            yield f"spec.finalizers: {item!r} is neither a standard finalizer name nor is it fully qualified"


RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {
    "/ConfigMap": configuration,
    "/Secret": configuration,
    "/ResourceQuota": quota,
    "/LimitRange": limit_range,
    "/PersistentVolumeClaim": volume_claim,
    "/PersistentVolume": volume,
    "/Node": node,
    "/Namespace": namespace,
    "scheduling.k8s.io/PriorityClass": priority_class,
    "storage.k8s.io/StorageClass": storage_class,
    "node.k8s.io/RuntimeClass": runtime_class,
}
