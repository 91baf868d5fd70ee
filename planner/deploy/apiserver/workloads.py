"""Rules for pods, and for what makes, evicts and scales them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from planner.deploy.apiserver.metadata import common
from planner.deploy.apiserver.others import claim_spec
from planner.deploy.apiserver.pods import pod_spec
from planner.deploy.apiserver.syntax import (
    Problems,
    at,
    at_least,
    count_or_percent,
    dns_label,
    dns_subdomain,
    named,
    one_of,
    percentage,
    selector,
)

Json = Mapping[str, Any]


def pod(document: Json) -> Problems:
    """Yield what is wrong with a pod."""
    yield from pod_spec(document.get("spec") or {}, "spec")


def template(spec: Json, path: str, restarts: tuple[str, ...]) -> Problems:
    """Yield what is wrong with the pod template of a workload."""
    inner: Json = spec.get("template") or {}
    yield from common(inner.get("metadata") or {}, f"{path}.template")
    yield from pod_spec(inner.get("spec") or {}, f"{path}.template.spec", restarts=restarts)


def _selected(spec: Json, path: str, kind: str) -> Problems:
    chosen: Json | None = spec.get("selector")
    if chosen is None:
        yield f"{path}.selector: Required value"
    elif not chosen.get("matchLabels") and not chosen.get("matchExpressions"):
        yield f"{path}.selector: empty selector is invalid for {kind}"
    yield from selector(f"{path}.selector", chosen)
    own: Json = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if chosen is not None and not matches(chosen, own):
        yield f"{path}.template.metadata.labels: `selector` does not match template `labels`"


def matches(chosen: Json, own: Json) -> bool:
    """Return whether a label selector selects what has some labels."""
    for one in chosen.get("matchExpressions") or []:
        has, value = one["key"] in own, own.get(one["key"])
        holds = {
            "In": has and value in (one.get("values") or []),
            "NotIn": not has or value not in (one.get("values") or []),
            "Exists": has,
            "DoesNotExist": not has,
        }.get(one.get("operator", ""), False)
        if not holds:
            return False
    return bool((chosen.get("matchLabels") or {}).items() <= own.items())


def _forever(spec: Json, path: str, kind: str) -> Problems:
    """Yield what is wrong with a workload whose pods run until they are deleted."""
    yield from _selected(spec, path, kind)
    yield from at_least(path, spec, 0, "replicas", "minReadySeconds", "revisionHistoryLimit")
    yield from template(spec, path, ("Always",))
    if ((spec.get("template") or {}).get("spec") or {}).get("activeDeadlineSeconds") is not None:
        yield f"{path}.template.spec.activeDeadlineSeconds: Forbidden in a {kind}"


def _rolling(value: Json, path: str, *, both: bool) -> Problems:
    """Yield what is wrong with the pods that a roll-out adds and takes away; with ``both``, one is not 0."""
    for field in ("maxSurge", "maxUnavailable", "partition"):
        if field in value:
            yield from at(f"{path}.{field}", count_or_percent(value[field]))
    most = percentage(value.get("maxUnavailable", 0))
    if most is not None and most > 100:
        yield f"{path}.maxUnavailable: must not be greater than 100%"
    none = [value.get(field) in (0, "0%") for field in ("maxSurge", "maxUnavailable")]
    if both and all(none):
        yield f"{path}.maxUnavailable: may not be 0 when maxSurge is 0"


def deployment(document: Json) -> Problems:
    """Yield what is wrong with a Deployment."""
    spec: Json = document.get("spec") or {}
    yield from _forever(spec, "spec", "deployment")
    yield from at_least("spec", spec, 0, "progressDeadlineSeconds")
    if spec.get("progressDeadlineSeconds", 600) <= spec.get("minReadySeconds", 0):
        yield "spec.progressDeadlineSeconds: must be greater than minReadySeconds"
    strategy: Json = spec.get("strategy") or {}
    yield from one_of("spec.strategy.type", strategy.get("type"), "Recreate", "RollingUpdate")
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate" and rolling is not None:
        yield "spec.strategy.rollingUpdate: Forbidden when strategy type is Recreate"
    yield from _rolling(rolling or {}, "spec.strategy.rollingUpdate", both=True)


def stateful_set(document: Json) -> Problems:
    """Yield what is wrong with a StatefulSet, whose templates of claims are volumes of its pods."""
    spec: Json = document.get("spec") or {}
    claims = spec.get("volumeClaimTemplates") or []
    yield from _forever(_with_claims(spec, claims), "spec", "statefulset")
    for index, one in enumerate(claims):
        where = f"spec.volumeClaimTemplates[{index}]"
        yield from claim_spec(one.get("spec") or {}, f"{where}.spec")
        yield from named(f"{where}.metadata.name", (one.get("metadata") or {}).get("name"), dns_subdomain)
    if spec.get("serviceName"):
        yield from at("spec.serviceName", dns_label(spec["serviceName"]))
    policy = spec.get("podManagementPolicy")
    if policy not in (None, "", "OrderedReady", "Parallel"):
        yield "spec.podManagementPolicy: must be 'OrderedReady' or 'Parallel'"
    update: Json = spec.get("updateStrategy") or {}
    yield from one_of("spec.updateStrategy.type", update.get("type"), "OnDelete", "RollingUpdate")
    yield from _rolling(update.get("rollingUpdate") or {}, "spec.updateStrategy.rollingUpdate", both=False)
    if update.get("type") == "OnDelete" and "rollingUpdate" in update:
        yield "spec.updateStrategy.rollingUpdate: only allowed for updateStrategy 'RollingUpdate'"
    yield from at_least("spec.ordinals", spec.get("ordinals") or {}, 0, "start")
    kept: Json = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field, word in kept.items():
        yield from one_of(f"spec.persistentVolumeClaimRetentionPolicy.{field}", word, "Retain", "Delete")


def _with_claims(spec: Json, claims: Sequence[Json]) -> Json:
    inner: Json = spec.get("template") or {}
    pod_spec: Json = inner.get("spec") or {}
    names = [(one.get("metadata") or {}).get("name") for one in claims]
    own = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names if name]
    kept = [one for one in pod_spec.get("volumes") or [] if one.get("name") not in names]
    return {**spec, "template": {**inner, "spec": {**pod_spec, "volumes": [*kept, *own]}}}


def daemon_set(document: Json) -> Problems:
    """Yield what is wrong with a DaemonSet."""
    spec: Json = document.get("spec") or {}
    yield from _forever(spec, "spec", "daemonset")
    update: Json = spec.get("updateStrategy") or {}
    yield from one_of("spec.updateStrategy.type", update.get("type"), "OnDelete", "RollingUpdate")
    if update.get("type") == "OnDelete":
        return
    rolling: Json = {"maxSurge": 0, "maxUnavailable": 1, **(update.get("rollingUpdate") or {})}
    yield from _rolling(rolling, "spec.updateStrategy.rollingUpdate", both=True)
    if all(rolling[field] not in (0, "0%") for field in ("maxSurge", "maxUnavailable")):
        yield "spec.updateStrategy.rollingUpdate.maxSurge: may not be set when maxUnavailable is non-zero"


def replica_set(document: Json) -> Problems:
    """Yield what is wrong with a ReplicaSet."""
    yield from _forever(document.get("spec") or {}, "spec", "replicaset")


def disruption_budget(document: Json) -> Problems:
    """Yield what is wrong with a PodDisruptionBudget."""
    spec: Json = document.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield "spec: minAvailable and maxUnavailable cannot be both set"
    for field in ("minAvailable", "maxUnavailable"):
        if field in spec:
            yield from at(f"spec.{field}", count_or_percent(spec[field]))
            if (percentage(spec[field]) or 0) > 100:
                yield f"spec.{field}: must not be greater than 100%"
    yield from selector("spec.selector", spec.get("selector"))
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in ("IfHealthyBudget", "AlwaysAllow"):
        yield f"spec.unhealthyPodEvictionPolicy: Unsupported value {policy!r}"


RULES: Mapping[str, Callable[[Json], Iterator[str]]] = {
    "/Pod": pod,
    "apps/Deployment": deployment,
    "apps/StatefulSet": stateful_set,
    "apps/DaemonSet": daemon_set,
    "apps/ReplicaSet": replica_set,
    "policy/PodDisruptionBudget": disruption_budget,
}
